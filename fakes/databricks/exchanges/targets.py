"""Where exchanges happen: a fake of its own, or a workspace that somebody names.

A `Target` says what the given placeholders stand for and who can call. What it is asked to work with lies
below one new folder of one volume (`${root}`), plus at most one table; `clean` removes both.
"""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, urlsplit

import requests

from lockproof.fakes.databricks.exchanges.recording import Who
from lockproof.fakes.databricks.lakebase import BRANCH, ENDPOINT, Lakebase
from lockproof.fakes.databricks.routes import lakebase, lakebase_instances
from lockproof.fakes.databricks.server import FakeServer
from lockproof.fakes.databricks.sql.steering import SqlControl
from lockproof.fakes.databricks.workspace import FakeWorkspace

NOISE = "lockproof.fakes.databricks"
PREFIX = "lockproof-exchanges-"
SECONDS = 75.0
"""Of one request; a statement may answer after 50 s."""
CATALOG, SCHEMA, VOLUME, PROJECT = "acceptance", "exchanges", "states", "exchanges"
STRICT = {
    CATALOG: ["USE_CATALOG"],
    f"{CATALOG}.{SCHEMA}": ["USE_SCHEMA", "CREATE_TABLE"],
    f"{CATALOG}.{SCHEMA}.{VOLUME}": ["READ_VOLUME", "WRITE_VOLUME"],
}
"""What the caller of the fake's exchanges was granted: no administrator, and nothing more than is needed."""


class TargetError(Exception):
    """The target cannot be used: one line that says why and what to do."""


@dataclass
class Target:
    """`given` has the values of given placeholders, `who` the authentication headers of those who can call
    (`nobody` needs none), `secrets` what may be shown in no form. `control` steers a fake."""

    kind: Literal["fake", "workspace"]
    cloud: str
    given: dict[str, str]
    who: dict[Who, Mapping[str, str]]
    secrets: set[str] = field(default_factory=set)
    control: SqlControl | None = None
    behind: list[str] = field(default_factory=list)
    """What `clean` could not remove."""

    def headers(self, who: Who) -> Mapping[str, str] | None:
        """The authentication of a caller, None of one that there is not."""
        return {} if who == "nobody" else self.who.get(who)

    def clean(self, session: requests.Session) -> None:
        """Removes the folder, with what is in it, and the table; `behind` tells what is left."""
        try:
            self.behind += _remove(session, self.given["host"], self.given["root"], self.who["caller"])
        except (requests.RequestException, ValueError, KeyError):
            self.behind.append(self.given["root"])
        if "table" in self.given and "warehouse" in self.given:
            body = {
                "warehouse_id": self.given["warehouse"],
                "statement": f"DROP TABLE IF EXISTS {self.given['table']}",
                "wait_timeout": "50s",
            }
            url = f"{self.given['host']}/api/2.0/sql/statements"
            try:
                answer = session.post(url, json=body, headers=self.who["caller"], timeout=SECONDS).json()
                gone = answer["status"]["state"] == "SUCCEEDED"
            except (requests.RequestException, ValueError, KeyError):
                gone = False
            self.behind += [] if gone else [f"table {self.given['table']}"]


@contextmanager
def own_fake() -> Iterator[Target]:
    """A fake on sockets of its own, whose caller is a service principal with the grants of `STRICT`."""
    with FakeServer() as own:
        yield fake_target(own.workspace)


def fake_target(workspace: FakeWorkspace) -> Target:
    """The target of a fake: catalog, principals, Lakebase (without its Postgres) and a warehouse are made."""
    full_name = workspace.create_volume(f"{CATALOG}.{SCHEMA}.{VOLUME}").full_name
    workspace.fidelity.files_api_3 = True
    caller = workspace.create_principal(str(uuid.uuid4()), service=True, grants=STRICT)
    stranger = workspace.create_principal("stranger@example.com")
    client = workspace.directory.create_client(caller)
    logging.getLogger(NOISE).setLevel(logging.CRITICAL)  # an unknown operation is asked for on purpose
    model = Lakebase(workspace.clock)
    model.host = "ep-exchanges.database.us-west-2.cloud.databricks.com"
    model.create_project(PROJECT, workspace.admin)
    workspace.attach(model)
    workspace.router.install([lakebase.routes, lakebase_instances.routes])
    tokens = [workspace.directory.issue(principal).value for principal in (caller, stranger)]
    given = {
        **_places(workspace.url, full_name),
        "storage": workspace.storage_url,
        "storage-host": urlsplit(workspace.storage_url).netloc,
        "caller": caller.name,
        "workspace-id": workspace.id,
        "warehouse": next(iter(workspace.sql.warehouses.by_id)),
        "endpoint": f"projects/{PROJECT}/branches/{BRANCH}/endpoints/{ENDPOINT}",
        "schema": f"{CATALOG}.{SCHEMA}",
    }
    given.update(_table(f"{CATALOG}.{SCHEMA}", given["prefix"]))
    basic = _basic(client.client_id, client.secret)
    return Target(
        "fake",
        workspace.fidelity.cloud,
        given,
        {"caller": bearer(tokens[0]), "stranger": bearer(tokens[1]), "client": basic},
        {*tokens, client.secret, basic["Authorization"].split()[1]},
        SqlControl(workspace),
    )


@dataclass(frozen=True)
class Named:
    """What a person names of a workspace; empty: exchanges that need it are not sent.

    `host` and `profile` go to unified authentication. `volume` is `catalog.schema.volume`. `warehouse`: an
    id. `endpoint`: `projects/…/branches/…/endpoints/…`. `files_host`: the address of Files API 3.0. `tables`:
    the `catalog.schema` in which one table may be made and dropped. `stranger`: the profile of a principal
    without grants.
    """

    host: str = ""
    profile: str = ""
    volume: str = ""
    warehouse: str = ""
    endpoint: str = ""
    files_host: str = ""
    tables: str = ""
    stranger: str = ""


@contextmanager
def workspace_target(named: Named) -> Iterator[Target]:
    """The target of a workspace. Raises `TargetError`. What it made is for `Target.clean` to remove."""
    if named.volume.count(".") != 2 or not all(named.volume.split(".")):
        raise TargetError(
            "--volume CATALOG.SCHEMA.VOLUME is needed: in it a folder is made and removed again"
        )
    if named.tables and named.tables.count(".") != 1:
        raise TargetError("--tables is CATALOG.SCHEMA")
    caller = _authenticated(named.host, named.profile)
    given = {**_places(caller.host, named.volume), "schema": named.volume.rpartition(".")[0]}
    target = Target("workspace", caller.cloud, given, {"caller": caller.headers}, caller.secrets())
    if caller.client_secret:
        target.who["client"] = _basic(caller.client_id, caller.client_secret)
        target.secrets.add(target.who["client"]["Authorization"].split()[1])
    if named.stranger:
        stranger = _authenticated(named.host, named.stranger)
        target.who["stranger"] = stranger.headers
        target.secrets |= stranger.secrets()
    optional = {"warehouse": named.warehouse, "endpoint": named.endpoint}
    if named.files_host:
        optional["storage"] = named.files_host.rstrip("/")
        optional["storage-host"] = urlsplit(named.files_host).netloc
    if named.tables and named.warehouse:
        optional.update(_table(named.tables, given["prefix"]))
    given.update({key: value for key, value in optional.items() if value})
    with requests.Session() as session:
        given.update(_looked_at(session, target))
    yield target


@dataclass(frozen=True)
class _Login:
    host: str
    cloud: str
    headers: Mapping[str, str]
    client_id: str
    client_secret: str

    def secrets(self) -> set[str]:
        """What must not be shown: the values of the headers, with and without their scheme."""
        values = {value for value in self.headers.values() if len(value) > 20}
        return {self.client_secret, *values, *(value.rpartition(" ")[2] for value in values)} - {""}


def _authenticated(host: str, profile: str) -> _Login:
    """Unified authentication of databricks-sdk. Raises `TargetError` without its dump of the settings."""
    from databricks.sdk.core import Config

    if host:  # the SDK would try for long
        try:
            requests.get(f"{host.rstrip('/')}/.well-known/databricks-config", timeout=SECONDS)
        except (requests.RequestException, ValueError) as error:
            raise TargetError(f"the workspace does not answer: {type(error).__name__}") from None
    try:
        config = Config(host=host or None, profile=profile or None, retry_timeout_seconds=20)
        headers = config.authenticate()
    except (ValueError, OSError) as error:
        reason = str(error).partition(". Config:")[0].partition("\n")[0]
        raise TargetError(f"cannot authenticate at the workspace: {reason}") from None
    if not config.host:
        raise TargetError("no workspace: name it with --host or --profile")
    cloud = "azure" if config.is_azure else "gcp" if config.is_gcp else "aws"
    machine = config.auth_type == "oauth-m2m"
    login = (str(config.client_id), str(config.client_secret)) if machine else ("", "")
    return _Login(config.host.rstrip("/"), cloud, headers, *login)


def _looked_at(session: requests.Session, target: Target) -> dict[str, str]:
    """Who calls, in which workspace; makes sure that the folder is new. Raises `TargetError`."""
    host, headers = target.given["host"], target.who["caller"]
    folder = f"{host}/api/2.0/fs/directories{quote(target.given['root'])}"
    try:
        me = session.get(f"{host}/api/2.0/preview/scim/v2/Me", headers=headers, timeout=SECONDS)
        there = session.head(folder, headers=headers, timeout=SECONDS)
    except requests.RequestException as error:
        raise TargetError(f"the workspace does not answer: {type(error).__name__}") from None
    if me.status_code != 200:
        raise TargetError(f"the workspace answers {me.status_code} to who we are: check the credentials")
    if there.status_code != 404:
        raise TargetError(f"{target.given['root']}: {there.status_code} where a new folder would be 404")
    found = {
        "caller": str(me.json().get("userName", "")),
        "workspace-id": me.headers.get("X-Databricks-Org-Id", ""),
    }
    return {key: value for key, value in found.items() if value}


def _places(host: str, volume: str) -> dict[str, str]:
    catalog, schema, name = volume.split(".")
    prefix = PREFIX + uuid.uuid4().hex[:12]
    root = f"/Volumes/{catalog}/{schema}/{name}/{prefix}"
    split = urlsplit(host)
    return {
        "host": host,
        "address": split.netloc,
        "hostname": split.hostname or split.netloc,
        "root": root,
        "prefix": prefix,
        "volume": volume,
        "catalog-name": catalog,
        "schema-name": schema,
        "volume-name": name,
    }


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def _table(schema: str, prefix: str) -> dict[str, str]:
    name = prefix.replace("-", "_")
    return {"table": f"{schema}.{name}", "table-name": name}


def _remove(session: requests.Session, host: str, folder: str, headers: Mapping[str, str]) -> list[str]:
    """Deletes a folder with all in it; returns the paths that could not be deleted."""
    directory = f"{host}/api/2.0/fs/directories{quote(folder)}"
    left, page = list[str](), ""
    while True:
        query = {"page_token": page} if page else {}
        answer = session.get(directory, params=query, headers=headers, timeout=SECONDS)
        if answer.status_code == 404:
            return left
        if answer.status_code != 200:
            return [*left, folder]
        body = answer.json()
        for entry in body.get("contents", ()):
            if entry["is_directory"]:
                left += _remove(session, host, entry["path"], headers)
            else:
                url = f"{host}/api/2.0/fs/files{quote(entry['path'])}"
                gone = session.delete(url, headers=headers, timeout=SECONDS).status_code in (204, 404)
                left += [] if gone else [entry["path"]]
        page = body.get("next_page_token", "")
        if not page:
            break
    gone = session.delete(directory, headers=headers, timeout=SECONDS).status_code in (204, 404)
    return left if gone else [*left, folder]
