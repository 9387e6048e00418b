"""The login proxy: tokens are looked at once, then bytes pass; what faults do to a session."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.lakebase_faults import SessionFault
from lockproof.fakes.databricks.lakebase_service import serve_lakebase
from lockproof.fakes.databricks.lakebase_tls import certificate
from lockproof.provision.postgres import PostgresServer
from lockproof.suites.meta.lakebase_bed import LakebaseBed, eventually, lakebase_bed


@pytest.fixture
def bed(postgres_server: PostgresServer) -> Iterator[LakebaseBed]:
    with lakebase_bed(postgres_server) as made:
        yield made


def value(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def test_token_lets_its_principal_into_the_real_server(bed: LakebaseBed) -> None:
    """A connection with a token is a session of a real Postgres under the principal's own name."""
    with bed.connect() as connection:
        assert value(connection, "SELECT session_user") == bed.user
        assert value(connection, "SHOW server_version").startswith(
            str(connection.info.parameter_status("server_version"))
        )
        connection.execute("CREATE SCHEMA s")
        connection.execute("CREATE TABLE s.t (x text)")
        connection.execute("INSERT INTO s.t VALUES (%s)", ["x" * 3_000_000])
        assert len(value(connection, "SELECT x FROM s.t")) == 3_000_000


def test_several_tokens_let_in_at_once_until_each_expires(bed: LakebaseBed) -> None:
    """Two tokens work side by side; when one has expired, the other still works."""
    short, long = bed.token(300), bed.token(3600)
    for token in (short, long, short):
        bed.connect(token).close()
    bed.workspace.clock.advance(301)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        bed.connect(short)
    bed.connect(long).close()


def test_token_is_looked_at_when_the_connection_opens_and_never_again(bed: LakebaseBed) -> None:
    """An open session survives the expiry of its token."""
    with bed.connect(bed.token(300)) as connection:
        bed.workspace.clock.advance(10_000)
        assert value(connection, "SELECT 1") == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": "other@example.com"}, "password authentication failed"),
        ({"password": "wrong"}, "password authentication failed"),
        ({"dbname": "missing"}, 'database "missing" does not exist'),
        ({"sslmode": "disable"}, "connection is insecure"),
        ({"options": "-c no_such_setting=1"}, "no_such_setting"),
    ],
)
def test_wrong_login_is_refused_in_postgres_words(
    bed: LakebaseBed, changes: dict[str, str], words: str
) -> None:
    """Another user, a wrong token, a missing database, no TLS or a bad setting is refused and says so."""
    with pytest.raises(psycopg.OperationalError, match=words):
        bed.connect(**changes)
    assert bed.proxy.sessions == {}


def test_certificate_can_be_verified(bed: LakebaseBed, tmp_path: Path) -> None:
    """A client that trusts the proxy's certificate verifies it in full; one that does not is stopped."""
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(certificate()[0])
    with bed.connect(sslmode="verify-full", sslrootcert=str(trusted)) as connection:
        assert value(connection, "SELECT 1") == 1
    trusted.write_bytes(b"")
    with pytest.raises(psycopg.OperationalError):
        bed.connect(sslmode="verify-full", sslrootcert=str(trusted))


def test_proxy_without_tls_takes_clients_without(postgres_server: PostgresServer) -> None:
    """With TLS switched off, clients that insist on it are refused and others let in."""
    with lakebase_bed(postgres_server, tls=False) as bed:
        with bed.connect(sslmode="prefer") as connection:
            assert connection.pgconn.ssl_in_use is False
        with pytest.raises(psycopg.OperationalError, match="SSL"):
            bed.connect(sslmode="require")


def test_startup_parameters_reach_the_server(bed: LakebaseBed) -> None:
    """Settings that a client asks for at login hold in its session, spaces and all."""
    options = r"-c statement_timeout=1234 -c search_path=a,\ b"
    with bed.connect(application_name="my app", options=options) as connection:
        assert value(connection, "SHOW statement_timeout") == "1234ms"
        assert value(connection, "SHOW search_path") == "a, b"
        assert value(connection, "SHOW application_name") == "my app"


def test_newer_protocol_is_negotiated_down(postgres_server: PostgresServer) -> None:
    """A client that asks for protocol 3.2 is told of 3.0 and goes on."""
    with lakebase_bed(postgres_server, tls=False) as bed:
        address = (bed.model.host, bed.model.port)
        with socket.create_connection(address, timeout=20) as raw:
            body = struct.pack("!I", (3 << 16) + 2) + b"user\0u\0\0"
            raw.sendall(struct.pack("!I", len(body) + 4) + body)
            assert raw.recv(13) == b"v" + struct.pack("!III", 12, 3 << 16, 0)
            assert raw.recv(9) == b"R" + struct.pack("!II", 8, 3)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack("!II", 8, 2 << 16),
        struct.pack("!II", 1 << 30, 3 << 16),
        b"\0\0",
    ],
)
def test_what_is_no_postgres_client_is_sent_away(bed: LakebaseBed, sent: bytes) -> None:
    """Garbage ends its own connection, and the next client is served."""
    with socket.create_connection((bed.model.host, bed.model.port), timeout=20) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        raw.settimeout(20)
        try:
            while raw.recv(4096):
                continue
        except ConnectionResetError:
            assert sent
    with bed.connect() as connection:
        assert value(connection, "SELECT 1") == 1


def test_running_statement_can_be_cancelled(bed: LakebaseBed, postgres_server: PostgresServer) -> None:
    """A cancel request from the client reaches the statement that it is meant for."""
    with bed.connect() as connection, ThreadPoolExecutor(1) as pool:
        running = pool.submit(connection.execute, "SELECT pg_sleep(600)")
        (session,) = bed.proxy.sessions.values()
        pid = session.upstream.info.backend_pid
        eventually(lambda: active(postgres_server, pid), "the statement never ran")
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            running.result()
        assert value(connection, "SELECT 1") == 1


def active(server: PostgresServer, pid: int) -> bool:
    with server.connect() as admin:
        row = admin.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
    return row == ("active",)


def test_sixty_clients_are_served_at_once(bed: LakebaseBed) -> None:
    """Sixty connections that are all open at the same time each get their own answers."""
    token = bed.token()

    def open_one(number: int) -> tuple[psycopg.Connection[Any], int]:
        connection = bed.connect(token)
        return connection, number

    with ThreadPoolExecutor(60) as pool:
        opened = list(pool.map(open_one, range(60)))
        assert len(bed.proxy.sessions) == 60
        answers = pool.map(lambda one: value(one[0], f"SELECT {one[1]}") == one[1], opened * 5)
        assert all(answers)
        for connection, _ in opened:
            connection.close()
    eventually(lambda: not bed.proxy.sessions, "sessions are still counted")


def test_branches_have_databases_of_their_own(bed: LakebaseBed) -> None:
    """What one branch's database holds, another's does not."""
    project = bed.model.project("lockproof")
    branch = bed.model.create_branch(project, "dev", bed.workspace.admin)
    endpoint = bed.model.create_endpoint(branch, "primary")
    other = bed.model.mint(bed.workspace.admin, endpoint.name).token
    with bed.connect() as one, bed.connect(other) as two:
        one.execute("CREATE SCHEMA only_here")
        assert value(one, "SELECT to_regnamespace('only_here') IS NOT NULL") is True
        assert value(two, "SELECT to_regnamespace('only_here') IS NOT NULL") is False


def test_read_only_endpoint_refuses_writes(bed: LakebaseBed) -> None:
    """A read-only endpoint reads the branch's data and refuses to change it."""
    branch = bed.model.branch("lockproof", "production")
    replica = bed.model.create_endpoint(branch, "ro", read_only=True)
    token = bed.model.mint(bed.workspace.admin, replica.name).token
    with bed.connect(token) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("CREATE SCHEMA s")


def test_role_that_is_not_owner_may_not_create_schemas(bed: LakebaseBed) -> None:
    """Privileges are the real server's: another identity may connect, and create nothing."""
    bed.workspace.create_principal("dev@example.com")
    branch = bed.model.branch("lockproof", "production")
    bed.model.create_role(branch, "dev@example.com")
    principal = bed.workspace.directory.principals["dev@example.com"]
    token = bed.model.mint(principal, bed.endpoint.name).token
    with (
        bed.connect(token, user="dev@example.com") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE SCHEMA s")


def test_suspension_ends_sessions_and_the_next_login_wakes(bed: LakebaseBed) -> None:
    """Scale to zero ends open sessions; while the compute wakes a login is refused, then let in."""
    with bed.connect() as connection:
        bed.model.suspend(bed.endpoint)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="starting up"):
        bed.connect()
    bed.connect().close()


def test_endpoint_falls_asleep_by_the_clock(bed: LakebaseBed) -> None:
    """Without traffic for the endpoint's timeout, sessions end by themselves."""
    bed.endpoint.suspend_after = 60
    with bed.connect() as connection:
        bed.workspace.clock.advance(61)
        eventually(lambda: bed.endpoint.suspended and not bed.proxy.sessions, "still awake")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.fixture
def counter(bed: LakebaseBed) -> psycopg.Connection[Any]:
    """A connection to a database with the table `s.counter`, whose one row starts at 0."""
    connection = bed.connect()
    connection.execute("CREATE SCHEMA s")
    connection.execute("CREATE TABLE s.counter AS SELECT 0 AS n")
    return connection


def count(bed: LakebaseBed) -> int:
    with bed.connect() as connection:
        return int(value(connection, "SELECT n FROM s.counter"))


@pytest.mark.parametrize(("what", "effect"), [("drop_reply", 1), ("drop_request", 0)])
def test_dropped_statement_has_its_effect_or_none(
    bed: LakebaseBed, counter: psycopg.Connection[Any], what: str, effect: int
) -> None:
    """Without its reply a statement took effect, dropped on the way it did not; the client cannot tell."""
    armed = bed.proxy.faults.add(what=what, match=r"^update s\.counter", first=2)
    counter.execute("UPDATE s.counter SET n = n")
    with pytest.raises(psycopg.OperationalError):
        counter.execute("UPDATE s.counter SET n = n + 1")
    eventually(lambda: armed.done == 1, "the fault was not carried out")
    assert (armed.seen, armed.hits) == (2, 1)
    assert count(bed) == effect


def test_late_statement_takes_effect_after_its_client_has_gone(
    bed: LakebaseBed, counter: psycopg.Connection[Any]
) -> None:
    """Bytes that the network kept reach the server when they are released."""
    armed = bed.proxy.faults.add(what="late_request", match="update")
    with pytest.raises(psycopg.OperationalError):
        counter.execute("UPDATE s.counter SET n = n + 1")
    eventually(lambda: armed.held == 1, "the statement is not held")
    assert count(bed) == 0
    armed.released.set()
    eventually(lambda: armed.done == 1, "the statement was not sent")
    assert count(bed) == 1


def test_held_statement_goes_on_when_released(bed: LakebaseBed, counter: psycopg.Connection[Any]) -> None:
    """A held statement waits, and then is answered as if nothing had been."""
    armed = bed.proxy.faults.add(what="hold", match="update")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(counter.execute, "UPDATE s.counter SET n = n + 1")
        eventually(lambda: armed.held == 1, "the statement is not held")
        assert count(bed) == 0
        assert not running.done()
        armed.released.set()
        assert running.result().rowcount == 1


def test_control_api_steers_sessions(bed: LakebaseBed) -> None:
    """Faults, suspension, expiry and ended sessions are reached through the fake's control API."""
    control = FakeControl(bed.workspace)
    where = control.call("lakebase_address")
    assert (where["host"], where["port"], where["sessions"]) == (bed.model.host, bed.model.port, 0)
    fault = control.call("lakebase_fault", what="refuse", times=2)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError, match="starting up"):
            bed.connect()
    assert control.call("lakebase_fault_counts", fault_id=fault)["hits"] == 2
    assert control.call("lakebase_clear_faults") == 1
    with bed.connect() as connection:
        assert control.call("lakebase_end_sessions") == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    control.call("lakebase_suspend")
    assert bed.endpoint.suspended
    bed.model.wake_refusals = 0
    token = bed.token()
    assert control.call("lakebase_expire_tokens") >= 1
    with pytest.raises(psycopg.OperationalError, match="password"):
        bed.connect(token)
    held = control.call("lakebase_fault", what="hold")
    control.call("lakebase_release", fault_id=held)
    with bed.connect() as connection:
        assert value(connection, "SELECT 1") == 1


def test_tokens_expire_for_one_endpoint_alone(bed: LakebaseBed) -> None:
    """Ending the tokens of one project's endpoint ends no login to another's."""
    bed.model.create_project("other", bed.workspace.admin)
    token = bed.token()
    assert bed.model.expire_credentials(bed.model.endpoint("other", "production", "primary")) == 0
    with bed.connect(token) as connection:
        assert value(connection, "SELECT 1") == 1
    assert bed.model.expire_credentials(bed.endpoint) == 1


@pytest.mark.parametrize(
    "fault", [{"what": "explode"}, {"what": "hold", "match": "("}, {"what": "hold", "times": 0}]
)
def test_impossible_fault_is_refused(fault: dict[str, Any]) -> None:
    """A fault that means nothing is refused when it is armed."""
    with pytest.raises(ValueError, match=r"what is one of|regular expression|count from 1"):
        SessionFault(**fault)


def test_proxy_takes_its_databases_and_roles_with_it(postgres_server: PostgresServer) -> None:
    """After the proxy nothing of it is left on the server."""

    def names() -> set[str]:
        with postgres_server.connect() as admin:
            rows = admin.execute("SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles")
            return {str(row[0]) for row in rows}

    before = names()
    with lakebase_bed(postgres_server) as bed:
        bed.connect().close()
        assert len(names() - before) == 2
    assert names() == before


def test_two_fakes_may_share_a_server(postgres_server: PostgresServer) -> None:
    """Two proxies on one server let the same principal in, and one leaving does not lock out the other."""
    with lakebase_bed(postgres_server) as one:
        one.connect().close()
        with serve_lakebase(FakeWorkspace(), postgres_server.keywords()) as other:
            token = other.lakebase.mint(one.workspace.admin, one.endpoint.name).token
            one.connect(token, port=other.lakebase.port).close()
        one.connect().close()
