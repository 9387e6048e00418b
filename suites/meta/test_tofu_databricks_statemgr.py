"""The state manager against OpenTofu's `statemgr.Full` (rules R1-R10, M1-M2, K1-K8 of its contract)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tofu_databricks.errors import (
    BackendError,
    InvalidImport,
    LockMismatch,
    LockNotHeld,
    MalformedReply,
    StaleWrite,
    StateLocked,
    Unavailable,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.statefile import StateFile, empty_state, has_managed_resources, is_empty
from tofu_databricks.statemgr import StateManager, check_valid_import


class Stored:
    """A state client in memory; `puts` holds what was written, with the lock id given."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data
        self.holder: LockInfo | None = None
        self.gets = 0
        self.puts: list[tuple[bytes, str | None]] = []
        self.locks = 0
        self.on_lock: Callable[[], None] = lambda: None
        self.failure: BackendError | None = None

    def get(self) -> bytes | None:
        self.gets += 1
        return self.data

    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None and self.holder is None:
            raise LockNotHeld("lost")
        if self.failure:
            raise self.failure
        self.puts.append((data, lock_id))
        self.data = data

    def lock(self, info: LockInfo) -> str:
        self.locks += 1
        self.on_lock()
        if self.holder is not None:
            raise StateLocked(holder=self.holder)
        self.holder = info
        return info.ID

    def unlock(self, lock_id: str) -> None:
        if self.holder is None or self.holder.ID != lock_id:
            raise LockMismatch(holder=self.holder)
        self.holder = None


class HandClock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def manager(stored: Stored, timeout: float = 0.0) -> StateManager:
    return StateManager(stored, HandClock(), timeout)  # type: ignore[arg-type]


def outputs(**values: str) -> dict[str, Any]:
    state = empty_state()
    state["outputs"] = {name: {"value": value, "type": "string"} for name, value in values.items()}
    return state


def stored_file(serial: int = 5, lineage: str = "L1", **values: str) -> bytes:
    return StateFile(outputs(**values), lineage, serial, "1.9.0").to_bytes()


def test_first_persist_makes_lineage_and_serial_one() -> None:
    """R3: with nothing stored, the first persist looks once more, then writes serial 1 with a new lineage."""
    stored = Stored()
    mgr = manager(stored)
    mgr.refresh_state()
    mgr.write_state(outputs(a="1"))
    mgr.persist_state()
    written = StateFile.parse(stored.puts[0][0])
    assert (stored.gets, written.serial, len(written.lineage)) == (2, 1, 36)
    assert written.state["outputs"]["a"]["value"] == "1"


def test_persist_without_change_writes_nothing() -> None:
    """R2: state, lineage and serial unchanged mean no write."""
    stored = Stored(stored_file(a="1"))
    mgr = manager(stored)
    mgr.refresh_state()
    mgr.write_state(mgr.state() or {})
    mgr.persist_state()
    assert stored.puts == []


def test_persist_of_a_change_raises_the_serial_by_one() -> None:
    """R2: a change is written once with the next serial, the same lineage and terraform_version."""
    stored = Stored(stored_file(a="1"))
    mgr = manager(stored)
    mgr.refresh_state()
    mgr.write_state(outputs(a="2"))
    mgr.persist_state()
    mgr.persist_state()
    written = [StateFile.parse(data) for data, _ in stored.puts]
    assert [(f.serial, f.lineage, f.terraform_version) for f in written] == [(6, "L1", "1.9.0")]


def test_serial_zero_is_written_again() -> None:
    """R2: a stored serial of 0 never counts as unchanged."""
    stored = Stored(stored_file(serial=0, a="1"))
    mgr = manager(stored)
    mgr.refresh_state()
    mgr.persist_state()
    assert [StateFile.parse(data).serial for data, _ in stored.puts] == [1]


def test_write_touches_no_storage_and_copies() -> None:
    """R1: what was handed in or given out can be changed without an effect."""
    stored = Stored()
    mgr = manager(stored)
    given = outputs(a="1")
    mgr.write_state(given)
    given["outputs"]["a"]["value"] = "changed"
    taken = mgr.state() or {}
    taken["outputs"]["a"]["value"] = "changed too"
    assert (mgr.state() or {})["outputs"]["a"]["value"] == "1"
    assert (stored.gets, stored.puts) == (0, [])


def test_state_that_was_never_read_is_not_overwritten() -> None:
    """R4's hazard cured: persist without refresh over an existing state is refused and changes nothing."""
    before = stored_file(a="old")
    stored = Stored(before)
    mgr = manager(stored)
    mgr.write_state(outputs(a="new"))
    with pytest.raises(StaleWrite, match="refresh before writing"):
        mgr.persist_state()
    assert (stored.data, stored.puts) == (before, [])
    assert (mgr.state() or {})["outputs"]["a"]["value"] == "new"


def test_refresh_of_nothing_resets_lineage_but_not_the_memory() -> None:
    """R6: when the stored state vanished, lineage and serial start anew while the memory stays."""
    stored = Stored(stored_file(a="1"))
    mgr = manager(stored)
    mgr.refresh_state()
    stored.data = None
    mgr.refresh_state()
    assert (mgr.lineage, mgr.serial) == ("", 0)
    assert (mgr.state() or {})["outputs"]["a"]["value"] == "1"


def test_empty_file_is_no_state() -> None:
    """R7: zero bytes are no state, and no error."""
    mgr = manager(Stored(b""))
    mgr.refresh_state()
    assert (mgr.state(), mgr.lineage) == (None, "")


def test_failed_write_keeps_the_serial_increased() -> None:
    """R8: after a failed write the serial stays up, and the next attempt goes one further."""
    stored = Stored(stored_file(a="1"))
    mgr = manager(stored)
    mgr.refresh_state()
    mgr.write_state(outputs(a="2"))
    stored.failure = Unavailable("no", definite=False)
    with pytest.raises(Unavailable):
        mgr.persist_state()
    stored.failure = None
    assert mgr.serial == 6
    mgr.persist_state()
    assert StateFile.parse(stored.puts[0][0]).serial == 7


def test_persist_with_nothing_in_memory_writes_nothing() -> None:
    """Persisting a manager that never saw a state is no write."""
    stored = Stored()
    manager(stored).persist_state()
    assert stored.puts == []


def test_writes_go_under_the_lock_that_is_held() -> None:
    """The lock id travels with a write while locked, and no longer after unlock."""
    stored = Stored()
    mgr = manager(stored)
    lock_id = mgr.lock(LockInfo.new("alice"))
    mgr.write_state(outputs(a="1"))
    mgr.persist_state()
    mgr.unlock(lock_id)
    mgr.write_state(outputs(a="2"))
    mgr.persist_state()
    assert [used for _, used in stored.puts] == [lock_id, None]


def test_write_after_the_lock_was_lost_is_refused() -> None:
    """A lost lock stops the write; storage stays as it was."""
    stored = Stored()
    mgr = manager(stored)
    mgr.lock(LockInfo.new("alice"))
    stored.holder = None
    mgr.write_state(outputs(a="1"))
    with pytest.raises(LockNotHeld):
        mgr.persist_state()
    assert stored.puts == []


def test_encrypted_state_is_an_error_that_says_so() -> None:
    """An encrypted state cannot be refreshed here, and the error says why."""
    wrapper = {"serial": 1, "lineage": "x", "meta": {}, "encrypted_data": "AA==", "encryption_version": "v0"}
    with pytest.raises(MalformedReply, match="encrypted"):
        manager(Stored(json.dumps(wrapper).encode())).refresh_state()


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"{", "not JSON"), (b"[]", "not a JSON object"), (b"{}", 'no "version"'),
     (b'{"version":3}', "version 3"),
     (b'{"version":4,"serial":"1"}', "serial '1'"), (b'{"version":4,"serial":-1}', "serial -1"),
     (b'{"version":4,"serial":1,"lineage":5}', "lineage is not text"),
     (b"[" * 100_000, "not JSON")],
)  # fmt: skip
def test_broken_state_is_named(data: bytes, expected: str) -> None:
    """Each way in which a state file is broken has its words."""
    with pytest.raises(MalformedReply, match=expected):
        StateFile.parse(data)


def test_state_file_is_written_as_tofu_writes_it() -> None:
    """Compact JSON in OpenTofu's order, unescaped, with a newline; unknown members are kept."""
    text = '{"version":4,"terraform_version":"1.9.0","serial":5,"lineage":"L","outputs":{"ü":{"value":"é"}},'
    text += '"resources":[],"check_results":null,"later":[1]}\n'
    assert StateFile.parse(text.encode()).to_bytes() == text.encode()


def test_output_values_are_read_on_demand() -> None:
    """GetRootOutputValues refreshes a manager that has read nothing."""
    stored = Stored(stored_file(a="1", b="2"))
    assert manager(stored).output_values() == {"a": "1", "b": "2"}
    assert manager(Stored()).output_values() == {}


@pytest.mark.parametrize(
    ("new", "existing", "refusal"),
    [
        (("A", 1, "x"), ("B", 9, None), None),
        (("", 1, "x"), ("B", 9, "y"), None),
        (("A", 1, "x"), ("", 9, "y"), None),
        (("A", 1, "x"), ("B", 9, "y"),
         'cannot import state with lineage "A" over unrelated state with lineage "B"'),
        (("A", 10, "x"), ("A", 9, "y"), None),
        (("A", 9, "x"), ("A", 9, "x"), None),
        (("A", 9, "x"), ("A", 9, "y"),
         "cannot overwrite existing state with serial 9 with a different state that has the same serial"),
        (("A", 8, "x"), ("A", 9, "x"), "cannot import state with serial 8 over newer state with serial 9"),
    ],
)  # fmt: skip
def test_import_rules_are_opentofus(
    new: tuple[str, int, str], existing: tuple[str, int, str | None], refusal: str | None
) -> None:
    """M1 and M2: what may be imported over what, in the original's order and words."""

    def file(lineage: str, serial: int, value: str | None) -> StateFile:
        return StateFile(empty_state() if value is None else outputs(v=value), lineage, serial)

    if refusal is None:
        check_valid_import(file(*new), file(*existing))
        assert is_empty(file(*existing).state) or "" in (new[0], existing[0]) or new[1] >= existing[1]
        return
    with pytest.raises(InvalidImport) as refused:
        check_valid_import(file(*new), file(*existing))
    assert str(refused.value) == refusal


def test_migration_checks_unless_forced() -> None:
    """An unrelated state is refused; with force it takes the place, one serial on (M5)."""
    stored = Stored(stored_file(serial=8, lineage="B", a="1"))
    mgr = manager(stored)
    mgr.refresh_state()
    foreign = StateFile(outputs(a="2"), "A", 3, "1.11.0")
    with pytest.raises(InvalidImport):
        mgr.write_state_for_migration(foreign)
    mgr.write_state_for_migration(foreign, force=True)
    mgr.persist_state()
    written = StateFile.parse(stored.puts[0][0])
    assert (written.lineage, written.serial, written.terraform_version) == ("A", 4, "1.11.0")


def test_migration_into_an_empty_workspace_keeps_lineage_and_serial() -> None:
    """M6 cured: the original makes up a new lineage and serial 1."""
    stored = Stored()
    mgr = manager(stored)
    mgr.refresh_state()
    mgr.write_state_for_migration(StateFile(outputs(a="1"), "A", 7))
    mgr.persist_state()
    written = StateFile.parse(stored.puts[0][0])
    assert (written.lineage, written.serial) == ("A", 7)


def test_without_timeout_a_held_lock_is_one_attempt() -> None:
    """K7: a timeout of 0 asks once."""
    stored = Stored()
    stored.holder = LockInfo(ID="h", Who="bob")
    with pytest.raises(StateLocked, match="bob"):
        manager(stored).lock(LockInfo.new("alice"))
    assert stored.locks == 1


def test_waiter_follows_opentofus_back_off() -> None:
    """K6: attempts come after 1, 2, 4, 8, 16, 16 … seconds until the timeout, then the last refusal."""
    stored = Stored()
    stored.holder = LockInfo(ID="h", Who="bob")
    mgr = manager(stored, timeout=60)
    with pytest.raises(StateLocked):
        mgr.lock(LockInfo.new("alice"))
    assert mgr.clock.slept == [1, 2, 4, 8, 16, 16, 13]  # type: ignore[attr-defined]
    assert stored.locks == 7


def test_waiter_wins_after_release() -> None:
    """A lock that is freed while somebody waits goes to the waiter."""
    stored = Stored()
    stored.holder = LockInfo(ID="h")

    def release_at_third() -> None:
        if stored.locks == 3:
            stored.holder = None

    stored.on_lock = release_at_third
    mgr = manager(stored, timeout=60)
    info = LockInfo.new("alice")
    assert mgr.lock(info) == info.ID
    assert mgr.clock.slept == [1, 2]  # type: ignore[attr-defined]


def test_other_failures_are_not_waited_out() -> None:
    """K6: only a held lock is asked for again."""
    stored = Stored()

    def fail() -> None:
        raise Unavailable("gone")

    stored.on_lock = fail
    with pytest.raises(Unavailable):
        manager(stored, timeout=60).lock(LockInfo.new("alice"))
    assert stored.locks == 1


def test_force_unlock_of_anothers_lock_keeps_ones_own() -> None:
    """Unlock goes by id; a failed one changes nothing."""
    stored = Stored()
    mgr = manager(stored)
    lock_id = mgr.lock(LockInfo.new("alice"))
    with pytest.raises(LockMismatch):
        mgr.unlock("somebody-else")
    assert mgr.lock_id == lock_id
    mgr.unlock(lock_id)
    assert not mgr.lock_id
    assert stored.holder is None


def test_unlock_waits_for_a_write_under_way() -> None:
    """R10: one mutex: a lock is never given up under a write (terraform issue 36155)."""
    stored = Stored()
    mgr = manager(stored)
    lock_id = mgr.lock(LockInfo.new("alice"))
    writing, go_on = threading.Event(), threading.Event()
    order: list[str] = []
    put = stored.put

    def slow_put(data: bytes, *, lock_id: str | None = None) -> None:
        writing.set()
        assert go_on.wait(10)
        put(data, lock_id=lock_id)
        order.append("written")

    stored.put = slow_put  # type: ignore[method-assign]
    mgr.write_state(outputs(a="1"))
    writer = threading.Thread(target=mgr.persist_state)
    writer.start()
    assert writing.wait(10)

    def unlock() -> None:
        mgr.unlock(lock_id)
        order.append("unlocked")

    unlocker = threading.Thread(target=unlock)
    unlocker.start()
    go_on.set()
    writer.join(10)
    unlocker.join(10)
    assert order == ["written", "unlocked"]


@pytest.mark.parametrize(
    ("document", "tracks"),
    [
        ({"resources": []}, False),
        ({}, False),
        ({"resources": [{"mode": "data", "instances": [{}]}]}, False),
        ({"resources": [{"mode": "managed", "instances": []}]}, False),
        ({"resources": [{"mode": "managed", "instances": [{}]}]}, True),
        ({"resources": ["?"]}, True),
        ({"resources": "?"}, True),
        ({"encrypted_data": "AA=="}, True),
        ([], True),
    ],
)
def test_managed_resources_are_recognised(document: Any, tracks: bool) -> None:
    """A state that tracks something, or of which nobody can tell, counts as not empty."""
    assert has_managed_resources(json.dumps(document).encode()) is tracks
