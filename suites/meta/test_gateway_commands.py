"""The commands `serve`, `init` and `doctor`, on the fake workspace with a real Postgres."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from lockproof.driver.databricks import DatabricksDriver, DatabricksScope
from lockproof.suites.meta.gateway_bed import SECRET, Wire, lock_body
from lockproof.suites.meta.served_gateway import DEADLINE, command, serving
from tofu_databricks import __version__
from tofu_databricks.cli import main

Call = Callable[..., tuple[int, str, str]]
UNREACHABLE = {
    "TOFU_DATABRICKS_HOST": "http://127.0.0.1:9",
    "TOFU_DATABRICKS_TOKEN": "t0ken-of-this-test",
    "TOFU_DATABRICKS_CATALOG": "main",
    "TOFU_DATABRICKS_SCHEMA": "states",
    "TOFU_DATABRICKS_VOLUME": "tofu",
    "TOFU_DATABRICKS_KEY": "terraform.tfstate",
    "TOFU_DATABRICKS_LOCK_BACKEND": "lakebase",
    "TOFU_DATABRICKS_LAKEBASE_PROJECT": "locks",
}


@pytest.fixture(scope="module")
def driver() -> Iterator[DatabricksDriver]:
    with DatabricksDriver.provision({}) as provided:
        yield DatabricksDriver(provided)


@pytest.fixture
def scope(driver: DatabricksDriver, request: pytest.FixtureRequest) -> Iterator[DatabricksScope]:
    with driver.open_scope(f"lp-{request.node.name[:40]}") as opened:
        yield opened


def run(settings: Mapping[str, str], *arguments: str, **extra: str) -> tuple[int, str, str]:
    """Exit code, output and error output."""
    process = command({**settings, **extra}, *arguments)
    try:
        output, errors = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    return process.returncode, output, errors


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `tofu-databricks ARGUMENTS` in this process: exit code, output and error output."""

    def called(settings: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if "DATABRICKS" in name]:
                patch.delenv(name)
            for name, value in settings.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["tofu-databricks", *arguments])
            try:
                main()
            except SystemExit as end:
                code = end.code
            else:
                code = 0
        shown = capsys.readouterr()
        assert isinstance(code, int)
        return code, shown.out, shown.err

    return called


@pytest.mark.parametrize(
    ("options", "extra", "message"),
    [
        ([], {}, "no secret"),
        (["--bind", "0.0.0.0"], {}, "no secret"),
        (["--bind", "0.0.0.0", "--loopback-only"], {}, "exclude each other"),
        (
            ["--loopback-only"],
            {"TOFU_DATABRICKS_GATEWAY_SECRET": "s"},
            "TOFU_DATABRICKS_GATEWAY_SECRET exclude",
        ),
        (["--loopback-only", "--secret-file", __file__], {}, "--secret-file exclude"),
        (["--bind", "192.0.2.7"], {"TOFU_DATABRICKS_GATEWAY_SECRET": "s"}, "cannot listen on 192.0.2.7"),
        (["--tls-cert", "c.pem"], {"TOFU_DATABRICKS_GATEWAY_SECRET": "s"}, "come together"),
        (["--tls-cert", "/no/c", "--tls-key", "/no/k"], {"TOFU_DATABRICKS_GATEWAY_SECRET": "s"}, "/no/c"),
        (["--secret-file", "/nonexistent"], {}, "/nonexistent"),
        (["--secret-file", os.devnull], {}, "is empty"),
        (["--port", "70000"], {}, "--port"),
    ],
)
def test_serve_refuses_what_is_not_safe_or_not_possible(
    options: list[str], extra: dict[str, str], message: str
) -> None:
    """No secret, a foreign address without one, half a TLS pair: one line, exit 4, nothing served."""
    code, output, errors = run(UNREACHABLE, "serve", *options, **extra)
    assert (code, output) == (4, "")
    assert message in errors
    assert errors.count("\n") == 1


def test_serve_serves_the_backend(scope: DatabricksScope) -> None:
    """Lock, write, read and unlock reach the volume and the lock table; a stranger reaches nothing."""
    settings = scope.command_line("default").environment
    with serving(settings, TOFU_DATABRICKS_GATEWAY_SECRET=SECRET) as (process, url):
        wire = Wire(url)
        assert wire.send("GET").status_code == 204
        assert wire.lock("a").status_code == 200
        assert wire.lock("b").json()["ID"] == "a"
        assert wire.send("POST", b'{"version":4}', lock_id="a").status_code == 200
        assert wire.send("GET").content == b'{"version":4}'
        assert wire.unlock("a").status_code == 200
        wire.auth = ("tofu", "wrong")
        assert wire.send("GET").status_code == 403
        wire.session.close()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert SECRET not in errors
    assert "POST /state/default 200" in errors
    client = scope.client("direct")
    snapshot = client.get("default")
    client.close()
    assert snapshot is not None
    assert snapshot.data == b'{"version":4}'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_in_order(number: signal.Signals) -> None:
    """Interrupted or terminated, serve ends with 0 and says nothing of it."""
    with serving(UNREACHABLE, "--loopback-only") as (process, _):
        process.send_signal(number)
        output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (0, "")
    assert "Traceback" not in errors


def test_the_secret_can_come_from_a_file(tmp_path: Path) -> None:
    """--secret-file keeps it out of the environment; --username changes the name."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    options = ("--secret-file", str(tmp_path / "secret"), "--username", "ci", "--max-state-mb", "1")
    with serving(UNREACHABLE, *options) as (_, url):
        wire = Wire(url)
        assert wire.send("PUT").status_code == 403
        wire.auth = ("ci", SECRET)
        assert wire.send("PUT").status_code == 405
        assert wire.send("POST", b"x" * ((1 << 20) + 1)).status_code == 413
        wire.session.close()


def test_forced_unlock_can_be_switched_off(scope: DatabricksScope) -> None:
    """--no-forced-unlock refuses an UNLOCK that names no ID."""
    settings = scope.command_line("default").environment
    with serving(settings, "--loopback-only", "--no-forced-unlock") as (_, url):
        wire = Wire(url, auth=None)
        assert wire.send("LOCK", lock_body("a")).status_code == 200
        assert wire.send("UNLOCK").status_code == 403
        assert wire.send("LOCK", lock_body("b")).status_code == 423
        wire.session.close()


def test_a_missing_volume_is_never_an_empty_state(scope: DatabricksScope) -> None:
    """With a mistyped volume a read is an error that names it, not 404 and not 204."""
    settings = {**scope.command_line("default").environment, "TOFU_DATABRICKS_VOLUME": "mistyped"}
    with serving(settings, "--loopback-only") as (_, url):
        wire = Wire(url, auth=None)
        reply = wire.send("GET")
        wire.session.close()
    assert reply.status_code == 424
    assert "mistyped" in reply.text


def test_init_prepares_and_can_be_repeated(scope: DatabricksScope, call: Call) -> None:
    """`init` finds the volume and makes the lock table, twice as well as once."""
    settings = scope.command_line("default").environment
    for _ in range(2):
        code, output, errors = call(settings, "init")
        assert (code, errors) == (0, "")
        assert f"/{scope.volume}: found" in output
        assert "lock table (lakebase): ready" in output
    _, output, _ = call(settings, "doctor", "--set", "create_lock_table=false")
    assert "(lakebase): free" in output


def test_init_prints_the_ddl_where_it_may_not_create(scope: DatabricksScope, call: Call) -> None:
    """With create_lock_table off and no table, `init` says what to run and exits with 1."""
    settings = scope.command_line("default").environment
    code, _, errors = call(settings, "init", "--set", "create_lock_table=false")
    assert code == 1
    assert "CREATE TABLE" in errors
    assert scope.lock_schema in errors


def test_init_names_a_missing_volume(scope: DatabricksScope, call: Call) -> None:
    """A volume that is not there is one line and exit 1."""
    code, _, errors = call(scope.command_line("default").environment, "init", "--volume", "mistyped")
    assert code == 1
    assert "mistyped" in errors
    assert errors.count("\n") == 1


def test_doctor_says_what_works_and_what_does_not(scope: DatabricksScope, call: Call) -> None:
    """`doctor` has a line for volume, state, lock and client; the exit code is 1 when one is not good."""
    settings = scope.command_line("default").environment
    assert call(settings, "init")[0] == 0
    _, output, _ = call(settings, "doctor")
    lines = output.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["ok", "ok", "ok"]
    assert "none yet" in lines[1]
    assert "free" in lines[2]
    code, output, _ = call(settings, "doctor", "--volume", "mistyped")
    assert code == 1
    assert output.splitlines()[0].startswith("FAIL")
    assert "mistyped" in output.splitlines()[0]


def test_doctor_reaches_no_workspace_and_says_so(call: Call) -> None:
    """Where nobody listens every check fails by name, without a traceback and without the token."""
    code, output, errors = call({**UNREACHABLE, "TOFU_DATABRICKS_RETRY_DEADLINE": "1s"}, "doctor")
    assert code == 1
    assert output.count("FAIL") >= 3
    assert "Traceback" not in errors
    assert UNREACHABLE["TOFU_DATABRICKS_TOKEN"] not in output + errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["doctor", "--catalog", "a.b"], "catalog"),
        (["doctor", "--set", "client_secret=x"], "other users can read a command line"),
        (["doctor", "--set", "nonsense"], "NAME=VALUE"),
        (["doctor", "--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (["doctor", "--frob"], "No such option"),
        (["frob"], "No such command"),
        (["exec"], "Missing argument"),
    ],
)
def test_a_mistake_is_one_line_and_4(call: Call, arguments: list[str], message: str) -> None:
    """A wrong command, option or setting is one line on standard error and exit code 4."""
    code, output, errors = call(UNREACHABLE, *arguments)
    assert (code, output) == (4, "")
    assert errors.startswith("tofu-databricks: ")
    assert errors.count("\n") == 1
    assert message in errors


def test_exec_hands_on_the_exit_code_and_names_what_cannot_run(call: Call, tmp_path: Path) -> None:
    """The exit code is the command's, 128 + n after a signal; 127 and 126 where it cannot be started."""
    assert call(UNREACHABLE, "exec", "--", "sh", "-c", "exit 3")[0] == 3
    assert call(UNREACHABLE, "exec", "--", "sh", "-c", "kill -9 $$")[0] == 137
    assert call(UNREACHABLE, "exec", "--", "no-such-command")[0] == 127
    (tmp_path / "plain").write_text("")
    assert call(UNREACHABLE, "exec", "--", str(tmp_path / "plain"))[0] == 126


def test_without_arguments_the_help_is_shown(call: Call) -> None:
    """No command at all shows the help, with the exit code of a mistake; --version has none of it."""
    code, _, errors = call({})
    assert code == 4
    assert "Commands:" in errors
    assert call({}, "--version") == (0, f"tofu-databricks, version {__version__}\n", "")
