"""`lockproof fake record` and `verify` with a workspace: sockets, TLS, unified authentication, strict grants.

There is no workspace at hand: the fake stands in for one, reached in no other way than a workspace is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lockproof.cli import cli
from lockproof.fakes.databricks.exchanges.recording import load
from lockproof.fakes.databricks.lakebase import Lakebase
from lockproof.suites.meta.exchange_bed import Bed, secured

Command = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with secured(tmp_path_factory.mktemp("workspace")) as bed:
        yield bed


@pytest.fixture
def fake(bed: Bed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`lockproof fake …` with the settings file and whom to trust; gives exit code, lines and errors."""
    for name, value in bed.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)

    def run(*words: str) -> tuple[int, list[str], str]:
        code = cli.main(["fake", *words], prog_name="lockproof", standalone_mode=False)
        out, errors = capsys.readouterr()
        return code or 0, out.splitlines(), errors

    return run


def secrets_of(bed: Bed) -> list[str]:
    """Every token, secret, address and name of the run that a recording must not show."""
    workspace = bed.workspace
    tokens = list(workspace.directory.tokens)
    clients = [client.secret for client in workspace.directory.clients.values()]
    people = list(workspace.directory.principals)
    ports = [re.sub("https://127.0.0.1", "", url) for url in (workspace.url, workspace.storage_url)]
    lakebase = [token for service in workspace.services.values() for token in service.credentials]
    warehouses = list(workspace.sql.warehouses.by_id)
    return [
        *tokens,
        *clients,
        *people,
        *ports,
        *lakebase,
        *warehouses,
        workspace.id,
        "127.0.0.1",
        "signature",
    ]


def test_workspace_answers_as_recorded_and_is_left_as_it_was(bed: Bed, fake: Command) -> None:
    """All exchanges but the two with scripted faults are replayed: no difference, nothing stays behind."""
    code, lines, errors = fake("verify", *bed.options)
    assert lines[-1] == "workspace: 162 exchanges replayed, 2 not; 0 differences from a recording of a fake"
    assert [line.partition(": ")[2] for line in lines[:-1]] == [
        "not replayed: only a fake can be told to fail"
    ] * 2
    assert (code, errors, bed.left()) == (0, "", [])
    assert bed.workspace.admin.name not in {entry.principal for entry in bed.workspace.log.entries}


def test_recording_of_a_workspace_shows_no_secret_and_fits_the_fake(
    bed: Bed, fake: Command, tmp_path: Path
) -> None:
    """What somebody sends holds no token, host, address, name or id; replayed on a fake it finds nothing."""
    file = tmp_path / "theirs.json"
    code, lines, errors = fake("record", *bed.options, "--out", str(file))
    assert (code, lines) == (0, [f"{file}: 162 exchanges with a workspace, 2 left out"])
    assert len(errors.splitlines()) == 2
    assert bed.left() == []
    text = file.read_text(encoding="utf-8")
    searched = secrets_of(bed)
    assert len(searched) > 10
    assert [secret for secret in searched if secret in text] == []
    assert not re.search(r"[\w.]+@[\w.]+|https?://(?!docs|github)|dapi(?!0{32})\w{8}|\b[1-9]\d{12,}\b", text)
    assert load(file).target == "workspace"
    code, lines, _ = fake("verify", "--recording", str(file))
    assert (code, lines) == (
        0,
        ["fake: 162 exchanges replayed, 0 not; 0 differences from a recording of a workspace"],
    )


def test_missing_grant_is_a_difference_at_the_exchanges_that_need_it(bed: Bed, fake: Command) -> None:
    """Without WRITE_VOLUME writes differ, statements do not, and no secret is shown."""
    caller = bed.target.given["caller"]
    bed.workspace.revoke(caller, bed.volume, "WRITE_VOLUME")
    try:
        code, lines, _ = fake("verify", *bed.options, "--json")
    finally:
        bed.workspace.grant(caller, bed.volume, "WRITE_VOLUME")
    told = json.loads("\n".join(lines))
    differing = {item["name"]: item for item in told["differences"]}
    assert code == 1
    assert differing["a new file"] == {
        "n": 11,
        "request": "PUT /api/2.0/fs/files${root}/put/a.json",
        "name": "a new file",
        "basis": "documented",
        "source": "docs.databricks.com/api/files/v2/upload-file",
        "what": "status",
        "recorded": "204",
        "answered": "403 PERMISSION_DENIED",
    }
    assert "a conditional update that applies" not in differing
    assert [secret for secret in secrets_of(bed) if secret in "\n".join(lines)] == []


def test_what_is_not_named_is_not_asked(bed: Bed, fake: Command) -> None:
    """With the volume alone no statement runs and no login token is made; what is not replayed is said."""
    since, ran = bed.workspace.log.count, bed.workspace.sql.statements.count
    minted = set(bed.workspace.service(Lakebase).credentials)
    code, lines, _ = fake("verify", "--profile", "caller", "--volume", bed.volume)
    assert code == 0
    assert bed.workspace.sql.statements.count == ran
    asked = {entry.path for entry in bed.workspace.log.select(since=since)}
    assert [path for path in asked if "/api/3.0/" in path] == []
    assert bed.workspace.service(Lakebase).credentials.keys() == minted
    reasons = {line.rpartition("not replayed: ")[2] for line in lines[:-1]}
    assert {
        "nothing stands for ${warehouse}",
        "nothing stands for ${storage}",
        "nothing stands for ${endpoint}",
        "there is no stranger at this target",
    } <= reasons


def test_what_cannot_be_removed_is_named(bed: Bed, fake: Command) -> None:
    """A folder that stays behind is told with its path, and the exit code is not 0."""
    prefix = f"/api/2.0/fs/directories/Volumes/{bed.volume.replace('.', '/')}/lockproof-exchanges-"
    armed = bed.workspace.add_fault(method="DELETE", path=f"{prefix}????????????", status=403, times=None)
    code, _, errors = fake("verify", "--profile", "caller", "--volume", bed.volume)
    bed.workspace.release_all()
    (left,) = bed.left()
    assert (code, armed.hits) == (1, 1)
    assert errors.startswith("lockproof: left behind, remove it by hand: /Volumes/")
    assert errors.rstrip().endswith(left)
    bed.workspace.metastore.volume(bed.volume).tree.root.children.clear()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "caller"], "--volume CATALOG.SCHEMA.VOLUME is needed"),
        (["--profile", "nobody", "--volume", "a.b.c"], "cannot authenticate at the workspace: "),
        (["--profile", "caller", "--volume", "a.b.c", "--tables", "x"], "--tables is CATALOG.SCHEMA"),
    ],
)
def test_unusable_workspace_is_one_line(bed: Bed, fake: Command, words: list[str], message: str) -> None:
    """What is missing or wrong is said in a line, without a secret."""
    with pytest.raises(Exception, match=re.escape(message)) as refused:
        fake("verify", *words)
    text = str(refused.value)
    assert "\n" not in text
    assert [secret for secret in secrets_of(bed) if secret in text and secret != "127.0.0.1"] == []


def test_untrusted_certificate_is_one_line(bed: Bed, fake: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the authority nothing is sent."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    since = bed.workspace.log.count
    with pytest.raises(Exception, match="the workspace does not answer: SSLError"):
        fake("verify", "--host", bed.workspace.url, "--profile", "stranger", "--volume", bed.volume)
    assert bed.workspace.log.select(since=since) == []
