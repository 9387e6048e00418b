"""What stands before the Postgres of the suite's own: PgBouncer as configured, and the emulation of it."""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockproof.provision import pooler
from lockproof.provision.cluster import until
from lockproof.provision.pooler import SESSIONS, configuration, provide_pooler
from lockproof.provision.pooler_emulated import EmulatedPooler
from lockproof.provision.postgres import PostgresServer, ProvisionError

PID = "SELECT pg_backend_pid()"
STANDS_IN = """#!/usr/bin/env -S python3 -I
# Listens as its configuration says, holds a client for ever, and like PgBouncer 1.23 ends on SIGTERM only
# when that has left.
import configparser, signal, socket, sys
for deaf in {deaf}:
    signal.signal(deaf, signal.SIG_IGN)
read = configparser.ConfigParser(interpolation=None)
read.read_string(open(sys.argv[2]).read())
assert open(read["pgbouncer"]["auth_file"]).read().startswith('"')
with socket.create_server(("127.0.0.1", int(read["pgbouncer"]["listen_port"]))) as listening:
    while True:
        listening.accept()
"""
HOLDER = """
import sys
from lockproof.provision.pooler import provide_pooler
from lockproof.provision.postgres import PostgresServer
with provide_pooler(PostgresServer("127.0.0.1", 1, "boss", "s3cr3t", "postgres", "embedded")) as pooled:
    print(pooled.port, flush=True)
    sys.stdin.read()
"""
BOSS = PostgresServer("127.0.0.1", 1, "boss", "s3cr3t", "postgres", "embedded")


@pytest.fixture
def pooled(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    with EmulatedPooler(postgres_server, SESSIONS) as emulated:
        yield replace(postgres_server, port=emulated.port)


def session_of(connection: psycopg.Connection[Any]) -> int:
    """The server's session that runs a statement just now."""
    ((pid,),) = connection.execute(PID, prepare=False).fetchall()
    return int(pid)


def test_two_transactions_in_a_row_are_in_different_sessions(pooled: PostgresServer) -> None:
    """One client's statements go round the sessions; those of one transaction stay in one."""
    with pooled.connect() as connection:
        found = [session_of(connection) for _ in range(2 * SESSIONS)]
        assert found[:SESSIONS] == found[SESSIONS:]
        assert len(set(found)) == SESSIONS
        with connection.transaction():
            assert session_of(connection) == session_of(connection)


def test_advisory_lock_is_left_behind_in_a_session_of_others(pooled: PostgresServer) -> None:
    """Taken in one session and released in another: the release fails, and a second client gets the lock."""
    take, free = "SELECT pg_try_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"
    with pooled.connect() as alice, pooled.connect() as bob:
        assert alice.execute(take).fetchone() == (True,)
        assert alice.execute(free).fetchone() == (False,)
        assert bob.execute(take).fetchone() == (True,)


def test_errors_and_parameters_pass(pooled: PostgresServer) -> None:
    """A statement that fails is answered as the server answers, and the connection goes on."""
    with pooled.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / %s", [0])
        assert connection.execute("SELECT %s::int + 1", [41]).fetchone() == (42,)


def test_startup_options_are_refused_as_pgbouncer_does(pooled: PostgresServer) -> None:
    """Session settings of a login are an unsupported startup parameter."""
    with pytest.raises(ProvisionError, match="unsupported startup parameter: options"):
        replace(pooled, options={"options": "-c statement_timeout=1s"}).connect()


def test_the_server_decides_who_may_log_in(pooled: PostgresServer) -> None:
    """A wrong password is refused in the server's words, and nobody gets in by an earlier login of others."""
    pooled.connect().close()
    with pytest.raises(ProvisionError, match="password authentication failed"):
        replace(pooled, password="wrong").connect()


def test_session_that_the_server_ended_is_replaced(
    pooled: PostgresServer, postgres_server: PostgresServer
) -> None:
    """A resting session that was terminated costs no client anything."""
    with pooled.connect() as connection:
        before = [session_of(connection) for _ in range(SESSIONS)]
        with postgres_server.connect() as admin:
            for pid in before:
                admin.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        after = [session_of(connection) for _ in range(SESSIONS)]
    assert not set(before) & set(after)


def test_client_that_leaves_in_a_transaction_keeps_nothing(pooled: PostgresServer) -> None:
    """Its session is not given to others: what it had begun is rolled back."""
    leaver = psycopg.connect(**pooled.keywords())
    leaver.execute("SELECT pg_advisory_xact_lock(8)")
    leaver.close()
    with pooled.connect() as other:
        other.execute("SET lock_timeout = '30s'")
        assert other.execute("SELECT pg_advisory_xact_lock(8)").fetchall() == [("",)]


def test_configuration_pools_transactions_over_all_sessions() -> None:
    """What PgBouncer is given: transactions, in turn, scram, on this machine alone, and no password in it."""
    server = PostgresServer("127.0.0.1", 5555, "boss", "s3cr3t", "postgres", "embedded")
    text = configuration(server, 6432, Path("/x/users.txt"))
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(text)
    assert parsed["databases"]["*"] == "host=127.0.0.1 port=5555"
    found = dict(parsed["pgbouncer"])
    wanted = {
        "listen_addr": "127.0.0.1",
        "listen_port": "6432",
        "unix_socket_dir": "",
        "auth_user": "boss",
        "pool_mode": "transaction",
        "server_round_robin": "1",
        "auth_type": "scram-sha-256",
        "default_pool_size": str(SESSIONS),
        "min_pool_size": str(SESSIONS),
        "auth_file": "/x/users.txt",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert "s3cr3t" not in text


def test_emulation_stands_in_where_pgbouncer_is_not_installed(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the program a pooler is there all the same, and says what it is."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with provide_pooler(postgres_server) as server, server.connect() as connection:
        assert server.source == "emulated pooler"
        assert session_of(connection) != session_of(connection)


def test_pgbouncer_that_does_not_start_is_one_error(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed PgBouncer is used and not replaced; when it ends at once, that is said."""
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    with pytest.raises(ProvisionError, match="exit code 1"), provide_pooler(postgres_server):
        pytest.fail("there was a pooler")


@pytest.fixture
def bindir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory at the head of PATH that everybody can pass through."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("PATH", folder, prepend=os.pathsep)
        yield Path(folder)


def install(bindir: Path, *deaf: int) -> None:
    """A stand-in for PgBouncer that ignores these signals."""
    program = bindir / pooler.PROGRAM
    program.write_text(STANDS_IN.replace("{deaf}", repr(deaf)), encoding="utf-8")
    program.chmod(0o755)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def left_behind() -> set[Path]:
    """Directories of ours in the place for temporary ones."""
    return set(Path(tempfile.gettempdir()).glob("lockproof-pooler-*"))


def test_pgbouncer_and_its_password_do_not_outlive_a_killed_run(bindir: Path) -> None:
    """After SIGKILL of the run nothing listens any more, and no directory of it is left."""
    install(bindir)
    before = left_behind()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert listens(port)
        process.kill()
        process.wait()
        until(lambda: not listens(port), "the pooler is left", 30)
    assert left_behind() == before


@pytest.mark.parametrize(
    "deaf", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGQUIT]], ids=["waits for clients", "hangs"]
)
def test_pgbouncer_that_waits_for_its_clients_is_ended(
    bindir: Path, monkeypatch: pytest.MonkeyPatch, deaf: list[int]
) -> None:
    """A client that stays does not keep the run from ending, nor does a pooler that hears no signal."""
    monkeypatch.setattr(pooler, "STOP_SECONDS", 0.2, raising=False)
    install(bindir, *map(int, deaf))
    with provide_pooler(BOSS) as server:
        assert server.source == "pgbouncer"
        client = socket.create_connection(("127.0.0.1", server.port))
    client.close()
    assert not listens(server.port)


def test_pgbouncer_that_cannot_be_executed_is_one_error(
    bindir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that the user who should run it may not execute is named, with the reason, on one line."""
    program = bindir / pooler.PROGRAM
    program.write_text("not a program", encoding="utf-8")
    program.chmod(0o600)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    with pytest.raises(ProvisionError, match=rf"^cannot run {program}.*: Permission denied$"):  # noqa: SIM117
        with provide_pooler(BOSS):
            pytest.fail("there was a pooler")


@pytest.mark.skipif(shutil.which(pooler.PROGRAM) is None, reason="pgbouncer is not installed")
def test_installed_pgbouncer_does_what_the_emulation_does(postgres_server: PostgresServer) -> None:
    """The real one, as we configure it: two transactions in a row are in different sessions."""
    with provide_pooler(postgres_server) as server, server.connect() as connection:
        assert server.source == "pgbouncer"
        until(lambda: session_of(connection) != session_of(connection), "one session serves all")
