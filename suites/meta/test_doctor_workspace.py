"""`lockproof doctor` of a workspace, over TLS, by a principal who holds nothing but what was granted."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from lockproof.cli import cli
from lockproof.fakes.databricks.lakebase import BRANCH
from lockproof.fakes.databricks.lakebase_service import PROJECT
from lockproof.suites.meta.real_bed import CATALOG, FULL_NAME, ROBOT, SCHEMA, RealBed

pytest_plugins = "lockproof.suites.meta.real_fixtures"

NOBODY = {"DATABRICKS_CLIENT_ID": "", "DATABRICKS_CLIENT_SECRET": ""}
READING = ("GET", "HEAD")
ASKING = ("OAuth token", "Execute a statement", "Mint a login token for an endpoint")
"""POSTs that change nothing in the workspace; the one statement is looked at in the test."""

Doctor = Callable[..., tuple[int, dict[str, list[str]], str]]


@pytest.fixture
def doctor(real: RealBed, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Calls the command; answers its exit code, its lines by what they are about (mark, finding, repair), and
    all of its text."""

    def call(backend: str = "delta", **changes: str) -> tuple[int, dict[str, list[str]], str]:
        for name, value in real.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(real.folder)
        aimed = [f"--backend=databricks:{backend}", "--backend-real", *real.given(**changes)]
        done = CliRunner().invoke(cli, ["doctor", *aimed], standalone_mode=False)
        assert done.exception is None, done.output
        lines: dict[str, list[str]] = {}
        name = ""
        for line in done.output.splitlines()[1:]:
            if line.strip().startswith("repair: "):
                lines[name].append(line.strip().removeprefix("repair: "))
            else:
                name = line[8:20].strip()
                lines[name] = [line[:8].strip(), line[20:]]
        return int(done.return_value), lines, done.output

    return call


@pytest.mark.parametrize("backend", ["delta", "lakebase"])
def test_sound_workspace_lacks_nothing(real: RealBed, doctor: Doctor, backend: str) -> None:
    """Where everything is granted each line is ok, nothing was changed, and no operation was invented."""
    before = real.control.mark()
    code, lines, text = doctor(backend)
    assert code == 0, text
    assert {mark for mark, *_ in lines.values()} == {"ok"}, text
    assert ROBOT in lines["auth"][1]
    asked = real.control.requests(since=before)
    assert asked
    assert {e.operation for e in asked if e.method not in READING} <= set(ASKING)
    assert real.files() == {}
    assert real.tables() == []
    assert real.workspace.unknown_routes() == []


def test_no_credentials_are_named_with_the_way_to_get_some(real: RealBed, doctor: Doctor) -> None:
    """Without credentials nothing else is claimed."""
    real.variables.update(NOBODY)
    code, lines, text = doctor()
    assert code == 1
    assert lines["auth"][0] == "MISSING"
    assert "no credentials" in lines["auth"][1]
    assert lines["auth"][2].startswith("databricks auth login --host")
    assert {mark for name, (mark, *_) in lines.items() if name != "auth"} == {"?"}, text


def test_expired_token_is_told_from_a_missing_grant(real: RealBed, doctor: Doctor) -> None:
    """A token that is over is a matter of logging in, and is not shown."""
    token = real.workspace.directory.issue(real.client.principal, lifetime=60).value
    real.workspace.clock.advance(61)
    real.variables.update(NOBODY, DATABRICKS_TOKEN=token)
    code, lines, text = doctor()
    assert code == 1
    assert lines["auth"][0] == "MISSING"
    assert "expired" in lines["auth"][1]
    assert "DATABRICKS_TOKEN" in lines["auth"][2]
    assert token not in text


@pytest.mark.parametrize("privilege", ["WRITE_VOLUME", "READ_VOLUME"])
def test_missing_grant_is_answered_by_its_statement(real: RealBed, doctor: Doctor, privilege: str) -> None:
    """What is not granted on the volume is named by the GRANT that helps, and then helps."""
    real.workspace.revoke(ROBOT, FULL_NAME, privilege)
    code, lines, text = doctor()
    assert code == 1
    shown = privilege.replace("_", " ")
    assert lines["volume"] == [
        "MISSING",
        f"{shown} on volume {FULL_NAME} is not granted to {ROBOT}",
        f"GRANT {shown} ON VOLUME `{'`.`'.join(FULL_NAME.split('.'))}` TO `{ROBOT}`;",
    ], text
    real.workspace.grant(ROBOT, FULL_NAME, privilege)
    assert doctor()[0] == 0


def test_missing_volume_is_told_from_a_missing_grant(real: RealBed, doctor: Doctor) -> None:
    """A name that is not there is repaired by making it."""
    code, lines, text = doctor(volume="stats")
    assert code == 1
    assert lines["volume"][0] == "MISSING"
    assert lines["volume"][2] == f"CREATE VOLUME `{CATALOG}`.`{SCHEMA}`.`stats`;", text


def test_lock_table_that_may_not_be_made_is_found(real: RealBed, doctor: Doctor) -> None:
    """A run needs CREATE TABLE for a table of its own."""
    real.workspace.revoke(ROBOT, f"{CATALOG}.{SCHEMA}", "CREATE_TABLE")
    code, lines, text = doctor()
    assert code == 1
    assert lines["lock table"][2] == f"GRANT CREATE TABLE ON SCHEMA `{CATALOG}`.`{SCHEMA}` TO `{ROBOT}`;", (
        text
    )


def test_stopped_warehouse_is_not_started(real: RealBed, doctor: Doctor) -> None:
    """A warehouse that stands still costs nothing: the doctor says how to start it, and does not."""
    real.warehouse.stop()
    code, lines, text = doctor()
    assert code == 1
    assert lines["warehouse"][0] == "MISSING", text
    assert "STOPPED" in lines["warehouse"][1]
    assert lines["warehouse"][2] == f"databricks warehouses start {real.warehouse.id}"
    assert real.warehouse.state == "STOPPED"


def test_forbidden_warehouse_is_answered_by_its_permission(real: RealBed, doctor: Doctor) -> None:
    """Who may not use the warehouse is told the permission, as that of a service principal."""
    real.warehouse.access = {}
    code, lines, text = doctor()
    assert code == 1
    assert lines["warehouse"][0] == "MISSING", text
    assert f'"service_principal_name": "{ROBOT}", "permission_level": "CAN_USE"' in lines["warehouse"][2]


def test_warehouse_that_may_only_be_seen_is_found_out(real: RealBed, doctor: Doctor) -> None:
    """That a warehouse can be looked up does not prove that it takes statements: one is sent."""
    before = len(real.control.call("statements"))
    assert doctor()[0] == 0
    sent = [item["text"] for item in real.control.call("statements")[before:]]
    assert sent == ["SELECT 1"]


def test_unreachable_lakebase_is_named_by_host_and_port(real: RealBed, doctor: Doctor) -> None:
    """A closed port is a matter of the network; the role is not judged then."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    code, lines, text = doctor("lakebase", lakebase_port=port)
    assert code == 1
    assert lines["lakebase"][0] == "MISSING", text
    assert "refused" in lines["lakebase"][1]
    assert f"127.0.0.1, port {port}" in lines["lakebase"][2]
    assert lines["role"][0] == "?"


def test_missing_role_is_answered_by_the_statement_that_makes_it(real: RealBed, doctor: Doctor) -> None:
    """Who has no role in Lakebase is told Lakebase's own statement."""
    roles = real.lakebase.branch(PROJECT, BRANCH).roles
    kept = next(name for name, role in roles.items() if role.postgres_role == ROBOT)
    role = roles.pop(kept)
    try:
        code, lines, text = doctor("lakebase")
    finally:
        roles[kept] = role
    assert code == 1
    assert lines["lakebase"][0] == "MISSING", text
    assert lines["lakebase"][2].startswith(f"SELECT databricks_create_role('{ROBOT}', 'SERVICE_PRINCIPAL');")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend=databricks"], "--backend-real"),
        (["--backend=memory", "--backend-real"], "--backend-real"),
        (["--backend=databricks:delta", "--backend-real"], "catalog"),
        (
            ["--backend=databricks:delta", "--backend-real", "--backend-opt=token=dapi1234"],
            "DATABRICKS_TOKEN",
        ),
        (["--backend-real"], "--backend=databricks"),
    ],
)
def test_doctor_names_what_is_wrong_with_its_options(arguments: list[str], said: str) -> None:
    """One line says what is missing or not allowed, and no secret."""
    from click import UsageError

    done = CliRunner().invoke(cli, ["doctor", *arguments], standalone_mode=False)
    assert isinstance(done.exception, UsageError)
    text = done.exception.format_message()
    assert said in text
    assert "\n" not in text
    assert "dapi1234" not in text
