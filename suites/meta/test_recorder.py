"""The recorder writes every call as it happened, enforces the deadline and classifies failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver import DriverError, Locked, LockInfo, Snapshot
from lockproof.driver.memory import MemoryClient, MemoryScope, MemoryStore
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import Event, HistoryWriter, read_history
from lockproof.spec.statefile import document, tofu_bytes


class Scripted(MemoryClient):
    """A client whose `get` does what the test says."""

    def __init__(self, action: Callable[[], Snapshot | None]) -> None:
        super().__init__(MemoryStore(), "scripted")
        self.action = action

    def get(self, workspace: str) -> Snapshot | None:
        return self.action()


def outcomes(history: HistoryWriter) -> list[tuple[int, str, str]]:
    return [(e.p, e.e, e.f) for e in history.history().events if e.e != "note"]


def notes(history: HistoryWriter, f: str) -> Sequence[Event]:
    return [e for e in history.history().events if e.e == "note" and e.f == f]


def test_calls_are_written_with_what_went_in_and_came_back() -> None:
    """A put records value, serial, lineage and size; a get the same of what it read; a lock its id."""
    history = HistoryWriter({})
    state = document(serial=7)
    with RecordedScope(MemoryScope(), history, 5) as scope:
        alice = scope.client("alice")
        info = LockInfo.new("alice")
        lock_id = alice.lock("default", info)
        alice.put("default", tofu_bytes(state), lock_id=lock_id)
        alice.get("default")
    lock, put, get = (op for op in history.history().operations())
    assert lock.invoke.given == {"info": info.to_json()}
    assert lock.outcome is not None
    assert lock.outcome.out == info.ID
    assert put.invoke.given is not None
    token = state["outputs"]["lockproof_token"]["value"]
    assert put.invoke.given["value"] == token
    assert put.invoke.given["lock_id"] == lock_id
    assert put.invoke.given["size"] == len(tofu_bytes(state))
    assert get.outcome is not None
    assert get.outcome.out == {k: put.invoke.given[k] for k in ("value", "sha256", "serial", "lineage")}
    assert get.outcome.out["serial"] == 7
    assert get.outcome.out["lineage"] == state["lineage"]


def test_refusal_is_written_with_the_holder() -> None:
    """A definite refusal is `fail` and carries the holder's lock info; the process goes on."""
    history = HistoryWriter({})
    with RecordedScope(MemoryScope(), history, 5) as scope:
        alice, bob = scope.client("alice"), scope.client("bob")
        info = LockInfo.new("alice")
        alice.lock("default", info)
        with pytest.raises(Locked):
            bob.lock("default", LockInfo.new("bob"))
        bob.get("default")
    assert outcomes(history) == [
        (0, "invoke", "lock"),
        (0, "ok", "lock"),
        (1, "invoke", "lock"),
        (1, "fail", "lock"),
        (1, "invoke", "get"),
        (1, "ok", "get"),
    ]
    refusal = next(e for e in history.history().events if e.e == "fail")
    assert refusal.err is not None
    assert refusal.err["holder"] == info.to_json()


def test_unknown_outcome_retires_the_process_number() -> None:
    """After `info` the client goes on under a new process number."""

    def fails() -> Snapshot | None:
        raise DriverError("unavailable", False, "connection lost")

    history = HistoryWriter({})
    client = RecordedClient(Scripted(fails), "alice", history, 5)
    with pytest.raises(DriverError):
        client.get("default")
    client.put("default", b"{}")
    assert outcomes(history) == [
        (0, "invoke", "get"),
        (0, "info", "get"),
        (1, "invoke", "put"),
        (1, "ok", "put"),
    ]
    assert history.history().names == {0: "alice", 1: "alice"}


@pytest.mark.parametrize("raised", [ValueError("boom"), TimeoutError("socket"), KeyError("x"), SystemExit(3)])
def test_foreign_exception_is_reported_as_the_drivers_defect(raised: BaseException) -> None:
    """Whatever a driver raises that is no DriverError counts as internal and not definite."""

    def fails() -> Snapshot | None:
        raise raised

    client = RecordedClient(Scripted(fails), "alice", HistoryWriter({}), 5)
    with pytest.raises(DriverError) as failure:
        client.get("default")
    assert (failure.value.kind, failure.value.definite) == ("internal", False)
    assert type(raised).__name__ in failure.value.message


def test_call_past_its_deadline_is_unknown_and_its_late_reply_a_note() -> None:
    """A call without reply in time is `info`, the client is gone, and the reply becomes a note."""
    release = threading.Event()

    def hangs() -> Snapshot | None:
        release.wait(30)
        return Snapshot(b"late")

    history = HistoryWriter({})
    client = RecordedClient(Scripted(hangs), "alice", history, 0.05)
    with pytest.raises(DriverError) as failure:
        client.get("default")
    assert (failure.value.kind, failure.value.definite) == ("timeout", False)
    with pytest.raises(DriverError, match="closed or stuck"):
        client.get("default")
    assert notes(history, "late") == []
    release.set()
    client.join(30)
    assert len(notes(history, "late")) == 1
    assert [kind for _, kind, _ in outcomes(history)] == ["invoke", "info"]


def test_closed_client_refuses_calls_and_tells_the_driver_once() -> None:
    """Closing ends the driver's client once; later calls do not reach it."""
    closed: list[str] = []

    class Closing(MemoryClient):
        def close(self) -> None:
            closed.append(self.who)

    client = RecordedClient(Closing(MemoryStore(), "alice"), "alice", HistoryWriter({}), 5)
    client.close()
    client.close()
    assert closed == ["alice"]
    with pytest.raises(DriverError, match="closed"):
        client.put("default", b"x")


def test_scope_closes_its_clients_and_itself_when_a_test_fails() -> None:
    """A failing test leaves no client open and the driver's scope closed."""
    events: list[Any] = []

    class Scope(MemoryScope):
        def __exit__(self, *exc: Any) -> None:
            events.append(exc[0])

    recorded = RecordedScope(Scope(), HistoryWriter({}), 5)
    client = recorded.client("alice")
    with pytest.raises(ZeroDivisionError), recorded:
        raise ZeroDivisionError
    assert events == [ZeroDivisionError]
    with pytest.raises(DriverError, match="closed"):
        client.get("default")


def test_history_file_reads_back_as_it_was_recorded(tmp_path: Path) -> None:
    """The file holds header, events and footer, and every event reads back equal."""
    path = tmp_path / "h.jsonl"
    with HistoryWriter({"test": "t", "seed": 7}, path) as history:
        with RecordedScope(MemoryScope(), history, 5) as scope:
            scope.client("älice").put("default", "{}ü".encode())
        expected = history.history()
    found = read_history(path)
    assert found.header == history.header
    assert found.header.items() >= {"v": 1, "clock": "monotonic_ns", "test": "t", "seed": 7}.items()
    assert list(found.events) == list(expected.events)
    assert found.closed
    assert found.names == {0: "älice"}


def test_history_is_on_disk_while_it_happens(tmp_path: Path) -> None:
    """A crash loses nothing that happened: without a footer the history is read as not closed."""
    path = tmp_path / "h.jsonl"
    history = HistoryWriter({}, path)
    client = RecordedClient(MemoryClient(MemoryStore(), "a"), "a", history, 5)
    client.put("default", b"x")
    found = read_history(path)
    assert not found.closed
    assert [e.e for e in found.events] == ["note", "invoke", "ok"]
    with path.open("a") as file:
        file.write('{"i":3,"t":12')
    assert len(read_history(path).events) == 3
    history.close()
