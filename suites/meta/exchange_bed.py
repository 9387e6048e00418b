"""A fake on TLS that is reached as a workspace is: by unified authentication, from a settings file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lockproof.chaos.proxy.certificates import Authority
from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.exchanges.targets import CATALOG, SCHEMA, VOLUME, Target, fake_target
from lockproof.fakes.databricks.server import FakeServer

PROFILES = """[caller]
host = {host}
client_id = {client_id}
client_secret = {client_secret}

[stranger]
host = {host}
token = {token}
"""


@dataclass
class Bed:
    """A fake behind https, and what a person would name of it. `ca_file` is whom to trust."""

    workspace: FakeWorkspace
    target: Target
    folder: Path
    ca_file: Path

    @property
    def volume(self) -> str:
        return f"{CATALOG}.{SCHEMA}.{VOLUME}"

    @property
    def options(self) -> list[str]:
        """Everything that a workspace needs to answer all exchanges but those of scripted faults."""
        named = {
            "--profile": "caller",
            "--stranger": "stranger",
            "--volume": self.volume,
            "--warehouse": self.target.given["warehouse"],
            "--tables": f"{CATALOG}.{SCHEMA}",
            "--endpoint": self.target.given["endpoint"],
            "--files-host": self.workspace.storage_url,
        }
        return [word for pair in named.items() for word in pair]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABRICKS_CONFIG_FILE": str(self.folder / "databrickscfg"),
            "REQUESTS_CA_BUNDLE": str(self.ca_file),
        }

    def left(self) -> list[str]:
        """What there is in the volume and the schema."""
        tree = self.workspace.metastore.volume(self.volume).tree
        return [*tree.root.children, *self.workspace.metastore.objects["table"]]


@contextmanager
def secured(folder: Path) -> Iterator[Bed]:
    """The fake on two TLS ports. Its caller is a service principal with strict grants, no administrator.

    Statements that are slow wait until they are cancelled: the engine has no slow ones.
    """
    authority = Authority(folder)
    certificate = folder / "server.pem"
    certificate.write_bytes(authority.issue())
    with FakeServer(certificate=certificate) as server:
        workspace = server.workspace
        target = fake_target(workspace)
        workspace.sql.statements.checkpoints.hold("queued", contains="CROSS JOIN range", times=None)
        (client,) = workspace.directory.clients.values()
        token = target.who["stranger"]["Authorization"].split()[1]
        text = PROFILES.format(
            host=workspace.url, client_id=client.client_id, client_secret=client.secret, token=token
        )
        (folder / "databrickscfg").write_text(text, encoding="utf-8")
        yield Bed(workspace, target, folder, authority.ca_file)
