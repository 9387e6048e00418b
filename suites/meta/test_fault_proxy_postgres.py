"""Each fault, as psycopg and a real Postgres see it; what passes otherwise passes in every way of asking."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import generators
from psycopg.conninfo import conninfo_to_dict

from lockproof.chaos.proxy import (
    Delay,
    DropReply,
    DropRequest,
    FaultProxy,
    Link,
    Reset,
    SlowBody,
    Truncate,
    Which,
)
from lockproof.driver import Address
from lockproof.suites.meta.proxied_server import WAIT_SECONDS

ROWS = itertools.count(1)
TABLE = "fault_proxy_rows"
INSERT = Which(text=f"*insert into {TABLE.upper()}*")


@dataclass
class Bed:
    """A link before the server, a connection through it, and one past it that sees what took effect."""

    link: Link
    keywords: dict[str, Any]
    client: psycopg.Connection[Any]
    direct: psycopg.Connection[Any]
    number: int

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(**self.keywords, autocommit=True, connect_timeout=20)

    def insert(self, prepare: bool | None = None) -> int:
        return self.client.execute(
            f"INSERT INTO {TABLE} VALUES (%s)", [self.number], prepare=prepare
        ).rowcount

    @property
    def inserted(self) -> int:
        """How often the row is there."""
        return int(self.value(f"SELECT count(*) FROM {TABLE} WHERE x = {self.number}"))

    def value(self, statement: str) -> Any:
        row = self.direct.execute(statement).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture(scope="module")
def direct(postgres_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {TABLE} (x int)")
        yield connection
        connection.execute(f"DROP TABLE {TABLE}")


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running


@pytest.fixture
def bed(proxy: FaultProxy, postgres_database: str, direct: psycopg.Connection[Any]) -> Iterator[Bed]:
    keywords: dict[str, Any] = conninfo_to_dict(postgres_database)
    upstream = Address(str(keywords["host"]), int(keywords["port"]), protocol="postgres")
    link = proxy.stand_before(upstream)
    keywords |= {"host": "127.0.0.1", "port": link.address.port}
    with psycopg.connect(**keywords, autocommit=True) as client:
        yield Bed(link, keywords, client, direct, next(ROWS))
        link.heal()


@pytest.fixture(params=[False, True], ids=["simple", "prepared"])
def prepared(request: pytest.FixtureRequest, bed: Bed) -> bool:
    """Whether the statement was prepared before, so that it is sent by its name alone."""
    if request.param:
        bed.client.execute(f"INSERT INTO {TABLE} VALUES (%s)", [0], prepare=True)
    return bool(request.param)


def test_dropped_statement_never_runs(bed: Bed, prepared: bool) -> None:
    """DropRequest: the session ends and the server has not run the statement."""
    armed = bed.link.arm(DropRequest(), INSERT)
    with pytest.raises(psycopg.OperationalError):
        bed.insert(prepared)
    assert (armed.hits, bed.inserted) == (1, 0)


def test_dropped_result_leaves_the_effect(bed: Bed, prepared: bool) -> None:
    """DropReply: the session ends and the statement is committed."""
    armed = bed.link.arm(DropReply(), INSERT)
    with pytest.raises(psycopg.OperationalError):
        bed.insert(prepared)
    armed.await_hits()
    assert bed.inserted == 1


def test_dropped_commit_is_committed(bed: Bed) -> None:
    """DropReply of a COMMIT: the client cannot know, and the transaction took effect."""
    armed = bed.link.arm(DropReply(), Which(text="commit"))
    with bed.connect() as client:
        client.autocommit = False
        client.execute(f"INSERT INTO {TABLE} VALUES ({bed.number})")
        with pytest.raises(psycopg.OperationalError):
            client.commit()
    assert (armed.hits, bed.inserted) == (1, 1)


@pytest.mark.parametrize("side", ["request", "reply"])
def test_held_statement_goes_on_when_released(bed: Bed, prepared: bool, side: Any) -> None:
    """Delay: a held statement has not run, one whose result is held has."""
    armed = bed.link.arm(Delay(None, side), INSERT)
    thread = threading.Thread(target=bed.insert, args=(prepared,), daemon=True)
    thread.start()
    armed.await_held()
    assert bed.inserted == (1 if side == "reply" else 0)
    assert thread.is_alive()
    armed.release()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    assert (armed.hits, bed.inserted) == (1, 1)


def test_held_statement_arrives_late_although_its_client_has_left(bed: Bed) -> None:
    """Delay: released after its session was given up, the statement still runs."""
    armed = bed.link.arm(Delay(None), INSERT)
    connection = bed.connect()
    connection.pgconn.send_query(f"INSERT INTO {TABLE} VALUES ({bed.number})".encode())
    armed.await_held()
    connection.close()
    assert bed.inserted == 0
    armed.release()
    eventually_inserted(bed)


def eventually_inserted(bed: Bed) -> None:
    """Waits until the row is there."""
    waiting = threading.Event()
    for _ in range(int(WAIT_SECONDS / 0.01)):
        if bed.inserted:
            return
        waiting.wait(0.01)
    assert bed.inserted == 1


@pytest.mark.parametrize("side", ["request", "reply"])
def test_slow_messages_arrive_in_the_end(bed: Bed, side: Any) -> None:
    """SlowBody: a trickle of bytes, released, is a statement with its result."""
    armed = bed.link.arm(SlowBody(1.0, side), INSERT)
    thread = threading.Thread(target=bed.insert, daemon=True)
    thread.start()
    armed.await_held()
    assert bed.inserted == (1 if side == "reply" else 0)
    armed.release()
    thread.join(WAIT_SECONDS)
    assert bed.inserted == 1


@pytest.mark.parametrize("after_bytes", [0, 20, 100_000])
def test_reset_statement_never_runs(bed: Bed, prepared: bool, after_bytes: int) -> None:
    """Reset of a request: however much of it passes, the server never has all of it."""
    armed = bed.link.arm(Reset(after_bytes, side="request"), INSERT)
    with pytest.raises(psycopg.OperationalError):
        bed.insert(prepared)
    assert (armed.hits, bed.inserted) == (1, 0)


@pytest.mark.parametrize("after_bytes", [0, 20, 100_000])
def test_reset_result_leaves_the_effect(bed: Bed, prepared: bool, after_bytes: int) -> None:
    """Reset of a reply: the statement is committed, and the client never gets all of the result."""
    armed = bed.link.arm(Reset(after_bytes), INSERT)
    with pytest.raises(psycopg.OperationalError):
        bed.insert(prepared)
    assert (armed.hits, bed.inserted) == (1, 1)


def test_truncated_result_is_no_result(bed: Bed) -> None:
    """Truncate: rows that were cut off are an error for the client, not fewer rows."""
    armed = bed.link.arm(Truncate(0.7), Which(text="*generate_series*"))
    with pytest.raises(psycopg.OperationalError):
        bed.client.execute("SELECT generate_series(1, 1000)").fetchall()
    assert armed.hits == 1


@pytest.mark.parametrize("direction", ["both", "requests", "replies"])
def test_partition_keeps_messages_back_and_heals(bed: Bed, direction: Any) -> None:
    """A partition: the session stays, and what was kept back passes after healing."""
    partition = bed.link.partition(direction)
    thread = threading.Thread(target=bed.insert, daemon=True)
    thread.start()
    partition.await_held()
    assert bed.inserted == (1 if direction == "replies" else 0)
    bed.link.heal()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    assert (bed.inserted, bed.link.connections) == (1, 1)


def test_login_hangs_in_a_partition(bed: Bed) -> None:
    """A partition: nobody can connect until it is healed."""
    partition = bed.link.partition()
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(**bed.keywords, connect_timeout=2)
    assert partition.hits >= 1
    bed.link.heal()
    with bed.connect() as client:
        assert client.execute("SELECT 1").fetchone() == (1,)


def test_idle_sessions_are_closed_and_busy_ones_stay(bed: Bed) -> None:
    """close_idle: the session that runs a statement stays."""
    armed = bed.link.arm(Delay(None, "reply"), INSERT)
    thread = threading.Thread(target=bed.insert, daemon=True)
    thread.start()
    armed.await_held()
    idle = bed.connect()
    assert bed.link.close_idle() == 1
    with pytest.raises(psycopg.OperationalError):
        idle.execute("SELECT 1")
    armed.release()
    thread.join(WAIT_SECONDS)
    assert bed.client.execute("SELECT 1").fetchone() == (1,)


def test_redirect_ends_sessions_and_refuses_where_nobody_is(bed: Bed) -> None:
    """redirect: sessions end; a server that is down refuses, and then leads on when it is back."""
    upstream = bed.link.upstream
    bed.link.redirect(Address("127.0.0.1", 1, protocol="postgres"))
    with pytest.raises(psycopg.OperationalError):
        bed.client.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        bed.connect()
    bed.link.redirect(upstream)
    with bed.connect() as client:
        assert client.execute("SELECT 1").fetchone() == (1,)


def test_every_way_of_asking_passes_and_counts(bed: Bed) -> None:
    """Queries, pipelines, copies both ways, errors, large results and large parameters pass unchanged."""
    client, begin = bed.client, bed.link.exchanges
    big = "x" * 3_000_000
    assert client.execute("SELECT length(%s)", [big]).fetchone() == (3_000_000,)
    assert client.execute("SELECT %s::text", [big]).fetchone() == (big,)
    assert len(client.execute("SELECT generate_series(1, 100000)").fetchall()) == 100_000
    with pytest.raises(psycopg.errors.DivisionByZero):
        client.execute("SELECT 1/0")
    with client.pipeline():
        cursors = [client.execute("SELECT %s::int", [i]) for i in range(50)]
    assert [cursor.fetchone() for cursor in cursors] == [(i,) for i in range(50)]
    for statement in (f"COPY {TABLE} FROM STDIN", f"COPY {TABLE} FROM STDIN WHERE x = {bed.number}"):
        with client.cursor().copy(statement) as copy:
            copy.write_row([bed.number])
    with client.cursor().copy(f"COPY (SELECT x FROM {TABLE} WHERE x = %s) TO STDOUT", [bed.number]) as copy:
        assert [row[0] for row in copy.rows()] == [str(bed.number)] * 2
    assert bed.link.exchanges - begin == 8


def test_exchanges_stay_in_step_after_an_extended_copy(bed: Bed) -> None:
    """A copy into the server has two Syncs and one ReadyForQuery; what follows it is still struck rightly."""
    pgconn = bed.client.pgconn
    pgconn.send_query_params(f"COPY {TABLE} FROM STDIN".encode(), None)
    (began,) = bed.client.wait(generators.execute(pgconn))
    assert began.status == psycopg.pq.ExecStatus.COPY_IN
    bed.client.wait(generators.copy_to(pgconn, f"{bed.number}\n".encode()))
    ended = bed.client.wait(generators.copy_end(pgconn, None))
    assert ended.status == psycopg.pq.ExecStatus.COMMAND_OK
    armed = bed.link.arm(DropReply(), INSERT)
    assert bed.client.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        bed.insert()
    assert (armed.hits, bed.inserted) == (1, 2)


def test_running_statement_can_be_cancelled(bed: Bed) -> None:
    """A CancelRequest passes: it names the server's own session."""
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            bed.client.execute("SELECT pg_sleep(60) -- cancel me")
        except psycopg.Error as error:
            outcome.append(error)

    armed = bed.link.arm(Delay(0), Which(text="*cancel me*"))
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    armed.await_hits()
    while thread.is_alive():  # a cancel that comes before the statement runs is lost, as it always is
        bed.client.cancel_safe(timeout=WAIT_SECONDS)
        thread.join(0.05)
    assert isinstance(outcome[0], psycopg.errors.QueryCanceled)


def test_statement_that_is_not_meant_passes(bed: Bed) -> None:
    """Which: SQL is matched whatever its case, and a series counts what matches."""
    armed = bed.link.arm(DropRequest(), Which(text=f"*INTO {TABLE.upper()} values*", first=2))
    assert bed.client.execute("SELECT 1").fetchone() == (1,)
    assert bed.insert() == 1
    with pytest.raises(psycopg.OperationalError):
        bed.insert()
    assert (armed.hits, bed.inserted) == (1, 1)


def test_client_that_wants_tls_is_told_that_there_is_none(bed: Bed) -> None:
    """A link to a server without TLS has none: a client that insists is refused."""
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        psycopg.connect(**{**bed.keywords, "sslmode": "require"})
    with psycopg.connect(**{**bed.keywords, "sslmode": "prefer"}) as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
