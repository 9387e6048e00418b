"""The reference driver: scopes that keep apart and leave nothing, errors by their kinds, shared services."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from lockproof.driver import DriverError, Locked, LockInfo, LockMismatch, NotLocked
from lockproof.driver.databricks import (
    DatabricksDriver,
    address_of,
    driver_error,
    url_of,
    volume_name,
)
from lockproof.driver.databricks_bed import SkippingClock
from lockproof.driver.databricks_services import Services
from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.sql.steering import SqlControl
from tofu_databricks import errors
from tofu_databricks.lockinfo import LockInfo as TofuLockInfo

RACERS = 60


@pytest.fixture(scope="module")
def driver() -> Iterator[DatabricksDriver]:
    """A provisioned driver."""
    with DatabricksDriver.provision({}) as options:
        yield DatabricksDriver({"variant": "lakebase", **options})


def schemas(driver: DatabricksDriver) -> set[str]:
    """The lock schemas that are there."""
    with driver.housekeeping() as connection:
        rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'locks_%'").fetchall()
    return {name for (name,) in rows}


def volumes(driver: DatabricksDriver) -> set[str]:
    """The scopes' volumes that are there."""
    query = {"catalog_name": "lockproof", "schema_name": "conformance"}
    headers = {"Authorization": f"Bearer {driver.options['token']}"}
    url = f"{driver.options['host']}/api/2.1/unity-catalog/volumes"
    answer = requests.get(url, params=query, headers=headers, timeout=30)
    return {volume["name"] for volume in answer.json().get("volumes", [])}


def test_scope_leaves_nothing(driver: DatabricksDriver) -> None:
    """Volume, states, lock table and a project of its own are gone when the scope is."""
    with driver.open_scope("leaves-nothing") as scope:
        client = scope.client("alice")
        client.put("default", b"x")
        client.lock("default", LockInfo.new("alice"))
        project = scope.test_bed().locks.own_compute()["lakebase_project"]
        assert "leaves-nothing" in volumes(driver)
        assert scope.lock_schema in schemas(driver)
    assert "leaves-nothing" not in volumes(driver)
    assert scope.lock_schema not in schemas(driver)
    with pytest.raises(requests.HTTPError, match="404"):
        driver.rest("GET", f"/api/2.0/postgres/projects/{project}")


def test_scopes_share_neither_states_nor_locks(driver: DatabricksDriver) -> None:
    """The same workspace of two scopes is two states and two locks."""
    with driver.open_scope("one") as one, driver.open_scope("two") as two:
        here, there = one.client("here"), two.client("there")
        here.put("default", b"1")
        here.lock("default", LockInfo.new("here"))
        assert there.get("default") is None
        assert there.lock("default", LockInfo.new("there"))


def test_attached_scope_is_the_same_and_removes_nothing(driver: DatabricksDriver) -> None:
    """Another process joins by the scope's name and the options; leaving it changes nothing."""
    other = DatabricksDriver(driver.options)
    with driver.open_scope("shared") as scope:
        scope.client("alice").put("default", b"x")
        lock_id = scope.client("alice").lock("default", LockInfo.new("alice"))
        with other.open_scope("shared", attach=True) as joined:
            found = joined.client("bob").get("default")
            assert found is not None
            assert found.data == b"x"
            with pytest.raises(Locked):
                joined.client("bob").lock("default", LockInfo.new("bob"))
        scope.client("carol").unlock("default", lock_id)
        assert scope.client("carol").get("default") is not None


def test_sixty_clients_lock_at_once(driver: DatabricksDriver) -> None:
    """Sixty processes with a connection each hold a lock each at the same time."""
    with driver.open_scope("sixty") as scope, ExitStack() as stack:
        clients = [scope.client(f"c{number}") for number in range(RACERS)]
        for client in clients:
            stack.callback(client.close)
        barrier = threading.Barrier(RACERS)
        failures: list[Exception] = []

        def lock(number: int) -> None:
            try:
                barrier.wait(60)
                clients[number].lock(f"ws{number}", LockInfo.new(f"c{number}"))
            except Exception as error:  # noqa: BLE001 - shown below
                failures.append(error)

        threads = [threading.Thread(target=lock, args=(number,)) for number in range(RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert failures == []
        assert len(scope.test_bed().locks.held()) == RACERS


HOLDER = TofuLockInfo("1", "op", "info", "who", "v", "2026-01-01T00:00:00Z", "p")


@pytest.mark.parametrize(
    ("error", "kind", "definite"),
    [
        (errors.Unauthenticated("x"), "unauthorized", True),
        (errors.PermissionDenied("x"), "unauthorized", True),
        (errors.VolumeNotFound("x"), "not_found", True),
        (errors.NotFound("x", status=404), "not_found", True),
        (errors.LockTableMissing("x"), "not_found", True),
        (errors.InvalidRequest("x", status=400), "internal", True),
        (errors.Throttled("x"), "throttled", True),
        (errors.Unavailable("x"), "unavailable", True),
        (errors.Unavailable("x", definite=False), "unavailable", False),
        (errors.MalformedReply("x"), "malformed", True),
        (errors.StaleWrite("x"), "stale", True),
        (errors.WorkspaceError("x"), "unsupported", True),
        (errors.ConfigError("x"), "internal", True),
    ],
)
def test_error_keeps_its_meaning(error: errors.BackendError, kind: str, definite: bool) -> None:
    """Each error of the backend is the kind that the suite judges by, and no more certain than it was."""
    found = driver_error(error)
    assert (found.kind, found.definite, found.message) == (kind, definite, "x")


def test_refusals_keep_their_holder() -> None:
    """Lock errors are the driver interface's own classes, with all seven fields of the holder."""
    held = driver_error(errors.StateLocked(holder=HOLDER))
    assert isinstance(held, Locked)
    assert held.holder == LockInfo("1", "op", "info", "who", "v", "2026-01-01T00:00:00Z", "p")
    assert isinstance(driver_error(errors.LockMismatch(holder=HOLDER)), LockMismatch)
    assert isinstance(driver_error(errors.LockNotHeld("x")), NotLocked)
    for cls, kind in ((errors.StateLocked, "locked"), (errors.LockMismatch, "lock_mismatch")):
        unsure = cls(holder=HOLDER)
        unsure.definite = False
        found = driver_error(unsure)
        assert (found.kind, found.definite, found.holder) == (kind, False, held.holder)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"hots": "x"}, "has no option hots"), ({"host": "x"}, "was not provisioned: storage, token")],
)
def test_wrong_options_are_named(options: dict[str, str], expected: str) -> None:
    """An option that is not there, or a driver that nobody provisioned, is one line."""
    with pytest.raises(ValueError, match=expected):
        DatabricksDriver(options)


def test_backends_of_one_run_share_services(driver: DatabricksDriver) -> None:
    """Saboteurs and the real one use one workspace and one Postgres, which live until the last is done."""
    with DatabricksDriver.provision({}) as again:
        assert again["host"] == driver.options["host"]
    assert FakeControl(driver.options["host"]).mark() >= 0


def test_services_stop_with_their_last_user() -> None:
    """The first user leaves and they stay; the last one leaves and nothing answers any more."""
    services = Services()
    with services.shared(None) as first:
        with services.shared(None) as second:
            assert second == first
        assert FakeControl(first["host"]).mark() >= 0
    with pytest.raises(requests.ConnectionError):
        FakeControl(first["host"]).mark()
    assert services.running == {}


def test_housekeeping_recovers_a_lost_connection(driver: DatabricksDriver) -> None:
    """A connection that broke is replaced by the next use."""
    with driver.housekeeping() as connection:
        first = connection
        connection.close()
    with driver.housekeeping() as connection:
        assert connection is not first
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_statements_are_counted(driver: DatabricksDriver) -> None:
    """The bed counts what is really sent: a refused lock is an attempt and a look at the holder."""
    with driver.open_scope("counted") as scope:
        bed = scope.test_bed()
        bed.client("maker").lock("default", LockInfo.new("maker"))
        client = bed.client("alice")
        counted = bed.locks.counted(client)
        with pytest.raises(Locked):
            client.lock("default", LockInfo.new("alice"))
        assert [text.split()[0] for text in counted.texts] == ["INSERT", "SELECT"]
        assert counted.opened == 1


def test_scope_names_become_volume_names() -> None:
    """A name that Unity Catalog does not take is replaced by one that it does, always the same."""
    assert volume_name("lp-abc_1") == "lp-abc_1"
    assert volume_name("A b/c") == volume_name("A b/c") != volume_name("a b/c")
    assert url_of(address_of("https://h:8443")) == "https://h:8443"
    assert (address_of("http://h").port, address_of("https://h").port) == (80, 443)


def test_skipping_clock_moves_without_waiting() -> None:
    """Its time is what was slept."""
    clock = SkippingClock()
    before = clock.now()
    clock.sleep(3600.0)
    assert (clock.now() - before, clock.slept) == (3600.0, [3600.0])
    assert clock.monotonic() == clock.now()


def test_put_with_a_lost_lock_is_a_definite_refusal(driver: DatabricksDriver) -> None:
    """Through the whole driver: nothing was written, and the error says so."""
    with driver.open_scope("fenced") as scope:
        with pytest.raises(DriverError) as refused:
            scope.client("alice").put("default", b"x", lock_id="never")
        assert isinstance(refused.value, NotLocked)
        assert scope.client("alice").get("default") is None
        assert scope.test_bed().locks.held() == []


def test_delta_scope_leaves_nothing(driver: DatabricksDriver) -> None:
    """The schema of the lock table and a warehouse of its own are gone when the scope is."""
    control = SqlControl(driver.options["host"])
    before = {item["id"] for item in control.warehouses()}
    with DatabricksDriver({**driver.options, "variant": "delta"}).open_scope("delta-leaves") as scope:
        lock_id = scope.client("alice").lock("default", LockInfo.new("alice"))
        assert [held for _, held in scope.locks.held()] == [lock_id]
        own = scope.locks.own_compute()["warehouse_id"]
        assert own in {item["id"] for item in control.warehouses()}
    assert {item["id"] for item in control.warehouses()} == before
    assert (scope.lock_schema,) not in driver.statement("SHOW SCHEMAS IN lockproof").cells


def test_statements_on_delta_are_counted(driver: DatabricksDriver) -> None:
    """The fake's log tells what was sent about the scope's table, and a lost reply is counted once."""
    delta = DatabricksDriver({**driver.options, "variant": "delta"})
    with delta.open_scope("delta-counted") as scope:
        client = scope.client("alice")
        client.unlock("default", client.lock("default", LockInfo.new("alice")))
        counted = scope.locks.counted(client)
        lost = scope.locks.lose_change()
        client.lock("default", LockInfo.new("alice"))
        assert [text.split()[0] for text in counted.texts] == ["UPDATE", "UPDATE", "SELECT"]
        assert lost() == 1
