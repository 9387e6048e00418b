"""The faults of warehouses and clocks: each strikes what it says, and is gone when it is healed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.clock import NEMESES as CLOCKS
from lockproof.chaos.clock import Ahead, ClockNemesis
from lockproof.chaos.warehouse import (
    NEMESES,
    HeldNemesis,
    LostReply,
    Stale,
    Throttled,
    Upkeep,
    WarehouseNemesis,
)
from lockproof.driver import LockInfo
from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.databricks_bed import SteeredClock
from lockproof.fakes.databricks.server import FakeServer
from lockproof.history.faults import faults
from lockproof.spec.outcome import Unknown
from lockproof.suites.faults.lock_tables import noted, until
from lockproof.suites.locks.asking import take
from lockproof.suites.meta.chaos_bed import arena_of, in_memory
from lockproof.suites.meta.fake_bed import FILES, Bed, reach
from lockproof.suites.meta.lakebase_bed import eventually
from lockproof.suites.meta.sql_bed import WAREHOUSES, Sql

STRIKES = [nemesis for nemesis in NEMESES if issubclass(nemesis, WarehouseNemesis)]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Clients that keep their locks in a Delta table of a fake workspace."""
    root = Path(tmp_path_factory.mktemp("locks")).as_uri()
    with FakeServer() as fake:
        options = {"host": fake.url, "storage": fake.storage_url, "token": fake.token, "lock_root": root}
        driver = DatabricksDriver({**options, "lakebase_port": "1", "variant": "delta"})
        with arena_of(driver, driver.capabilities()) as found:
            client = found.scope.client("early")
            client.unlock("default", take(client))
            yield found


@pytest.mark.parametrize("kind", STRIKES, ids=lambda kind: kind.name)
def test_fault_of_a_warehouse_strikes_and_is_healed(arena: Arena, kind: type[WarehouseNemesis]) -> None:
    """It hits a claim, the history says how often, and afterwards a lock is taken and freed as ever."""
    given = {LostReply: {"times": 1}, Throttled: {"times": 1}, Stale: {"times": 1, "versions": 1}}
    nemesis = kind(**given.get(kind, {}))
    assert nemesis.missing(arena) == ""
    assert nemesis.struck() == 0
    arena.inject(nemesis)
    client, claim = arena.scope.client("ann"), LockInfo.new("ann")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.lock, "default", claim)
        if isinstance(nemesis, HeldNemesis):
            nemesis.await_held(1)
        elif isinstance(nemesis, Upkeep):
            until(lambda: nemesis.struck() > 0, "a round of upkeep")
        else:
            running.result()
        hits = nemesis.struck()
        assert hits >= 1
        arena.heal()
        assert running.result() == claim.ID
    client.unlock("default", claim.ID)
    assert nemesis.struck() >= hits
    shown = [fault for fault in faults(arena.history.history().events) if fault.name == nemesis.name]
    assert [fault.stop.out for fault in shown if fault.stop] == [{"hits": nemesis.struck()}]
    client.unlock("default", take(client))


def test_fault_that_waits_in_vain_is_unknown(arena: Arena) -> None:
    """Where no statement comes to stand still, nothing was shown."""
    nemesis = HeldNemesis.__subclasses__()[0](times=1)
    arena.inject(nemesis)
    with pytest.raises(Unknown, match=r"warehouse\.cold: no 1 held statements within 0\.05 s"):
        nemesis.await_held(1, timeout=0.05)
    arena.heal()
    with pytest.raises(Unknown, match=r"warehouse\.cold hit nothing"):
        noted(arena.scope, "warehouse.cold", nemesis.struck())


@pytest.mark.parametrize("kind", [kind for kind in CLOCKS if issubclass(kind, ClockNemesis)], ids=str)
def test_fault_of_a_clock_is_one_clients_alone(arena: Arena, kind: type[ClockNemesis]) -> None:
    """The clock of the named client is wrong until it is healed; how often it was asked is counted."""
    driver = arena.backend.driver
    assert isinstance(driver, DatabricksDriver)
    mine, others = driver.clock("arena", "ann"), driver.clock("arena", "bob")
    client = arena.scope.client("ann")
    nemesis = kind(on="ann")
    arena.inject(nemesis)
    wrong = mine.now(), mine.now()
    assert nemesis.struck() == 2
    if kind.name == "clock.stopped":
        assert wrong[0] == wrong[1]
    else:
        assert abs(wrong[0] - others.now() - kind.seconds) < 60
    client.get("default")
    arena.heal()
    assert nemesis.struck() > 2
    assert abs(mine.now() - others.now()) < 60


def test_fault_of_a_clock_draws_one_of_the_clients(arena: Arena) -> None:
    """Where none is named, a living client's clock is set."""
    client = arena.scope.client("zoe")
    for other in arena.scope.clients:
        if other is not client:
            other.close()
    nemesis = Ahead()
    arena.inject(nemesis)
    assert nemesis.clock is arena.backend.driver.clock("arena", "zoe")  # type: ignore[attr-defined]
    arena.heal()


def test_backend_without_warehouse_or_clock_is_spared() -> None:
    """Each fault says in one line why it cannot be injected into a backend of another kind."""
    with in_memory() as arena:
        for kind in (*NEMESES, *CLOCKS):
            assert kind.name in kind().missing(arena)
        with pytest.raises(Unknown, match="are in no SQL warehouse"):
            LostReply().inject(arena, arena.rng)
        with pytest.raises(Unknown, match="there is no client"):
            Ahead().inject(arena, arena.rng)
        arena.scope.client("ann")
        with pytest.raises(Unknown, match="go by the machine's clock"):
            Ahead().inject(arena, arena.rng)


def test_steered_clock_is_wrong_about_the_time_of_day_alone() -> None:
    """Deadlines go by a clock that nobody sets."""
    clock = SteeredClock()
    clock.offset = -3600.0
    begun = clock.monotonic()
    clock.stop()
    stood = clock.now()
    assert clock.now() == stood
    assert clock.monotonic() >= begun
    clock.put_right()
    assert abs(clock.now() - stood - 3600) < 60
    assert clock.asked == 5


# --- What the fake has for them


@pytest.fixture
def bed() -> Iterator[Bed]:
    """A fake workspace in process."""
    with reach("in-process") as found:
        yield found


def test_impatient_warehouse_answers_before_the_end(bed: Bed) -> None:
    """With no patience a statement is answered at once, whatever wait_timeout allows."""
    sql = Sql(bed)
    sql.control.set_warehouse(sql.warehouse, patience=0)
    hold = sql.control.hold_statements("started", contains="SELECT 7")
    answer = sql.send("SELECT 7", wait_timeout="50s")
    assert answer.state in {"PENDING", "RUNNING"}
    sql.control.release_statements(hold)
    eventually(lambda: sql.poll(answer.body["statement_id"]).state == "SUCCEEDED", "the end")


def test_deleted_warehouse_cancels_its_statements(bed: Bed) -> None:
    """What has not committed when its warehouse goes is CANCELED and changes nothing."""
    sql = Sql(bed)
    sql.run("CREATE TABLE t (a STRING)")
    sql.warehouse = sql.control.create_warehouse("second", running=True, patience=0)
    hold = sql.control.hold_statements("snapshot", contains="INSERT")
    answer = sql.send("INSERT INTO t VALUES ('x')")
    sql.control.await_statements(hold)
    assert bed.http("DELETE", f"{WAREHOUSES}/{sql.warehouse}").status_code == 200
    sql.control.release_statements(hold)
    assert sql.poll(answer.body["statement_id"]).state == "CANCELED"
    assert sql.send("SELECT 1").status == 403
    sql.warehouse = str(sql.control.warehouses()[0]["id"])
    assert sql.run("SELECT * FROM t") == []


def test_lag_is_counted_and_can_be_ended(bed: Bed) -> None:
    """Statements that are still to read an old snapshot are told, and can be let off."""
    control = Sql(bed).control
    control.lag_snapshots(1, contains="UPDATE", times=3)
    control.lag_snapshots(1, contains="SELECT", times=2)
    assert control.lagging("UPDATE") == 3
    control.stop_lagging("UPDATE")
    assert (control.lagging("UPDATE"), control.lagging("SELECT")) == (0, 2)


def test_answers_are_dated_by_the_fakes_clock(bed: Bed) -> None:
    """Every answer says its time, that of the fake, unless a fault says another."""
    bed.control.freeze_clock()
    now = bed.control.advance_clock(86_400)
    dated = bed.http("GET", f"{FILES}/absent").headers["Date"]
    assert parsedate_to_datetime(dated).timestamp() == int(now)
    bed.control.add_fault(path=f"{FILES}/*", status=429, headers={"Date": "Tue, 01 Jan 2030 00:00:00 GMT"})
    assert bed.http("GET", f"{FILES}/absent").headers["Date"] == "Tue, 01 Jan 2030 00:00:00 GMT"


def test_fault_chooses_the_requests_of_one_oauth_client(bed: Bed) -> None:
    """A fault of one client's request for a token leaves the others' alone."""
    bed.control.create_principal("robot")
    clients = [bed.control.create_oauth_client("robot") for _ in range(2)]
    bed.control.add_fault(path="/oidc/v1/token", client=clients[0][0], status=503, times=None)
    form = {"grant_type": "client_credentials"}
    answers = [
        bed.http("POST", "/oidc/v1/token", token="", data=form, auth=pair).status_code for pair in clients
    ]
    assert answers == [503, 200]
