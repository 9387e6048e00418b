"""Generated histories: like recorded ones, the same again from the same seed, and as wrong as they say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from lockproof.driver.api import LockInfo
from lockproof.driver.errors import DriverError
from lockproof.driver.memory import MemoryDriver
from lockproof.driver.recorder import RecordedScope
from lockproof.history import History, HistoryWriter, read_history
from lockproof.history.generate import Model, NoOpportunity, Workload, generate, write
from lockproof.history.generate_faults import FAULTS
from lockproof.spec.statefile import document, tofu_bytes

MODELS: tuple[Model, ...] = ("lock", "register", "fenced", "workspaces")


def shapes(history: History) -> dict[tuple[str, str], set[str]]:
    """The names of what stands in the events, by method and kind of event."""
    found: dict[tuple[str, str], set[str]] = {}
    for event in history.events:
        for name, content in (("in", event.given), ("out", event.out), ("err", event.err)):
            if isinstance(content, dict):
                found.setdefault((event.f, f"{event.e} {name}"), set()).update(content)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_the_same_workload_makes_the_same_history(model: Model) -> None:
    """Equal seeds give equal events, other seeds others."""
    workload = Workload(model=model, operations=200, unknown=0.1, seed=4)
    assert generate(workload).events == generate(workload).events
    assert generate(workload).events != generate(replace(workload, seed=5)).events


@pytest.mark.parametrize("model", MODELS)
def test_a_written_history_reads_back_as_it_was_made(model: Model, tmp_path: Path) -> None:
    """The file holds what the object holds, with header and footer."""
    workload = Workload(model=model, operations=200, unknown=0.1, seed=4)
    write(workload, tmp_path / "made.jsonl")
    history = read_history(tmp_path / "made.jsonl")
    made = generate(workload)
    assert [event.to_json() for event in history.events] == [event.to_json() for event in made.events]
    assert history.closed
    assert history.header["workload"]["model"] == model


def test_events_are_like_those_of_a_recorder() -> None:
    """Calls, replies and refusals have the same fields as recorded ones."""
    writer = HistoryWriter({"test": "shapes"})
    with RecordedScope(MemoryDriver({}).open_scope("shapes"), writer, 10) as scope:
        one, two = scope.client("one"), scope.client("two")
        lock_id = one.lock("default", LockInfo.new("one"))
        for attempt in (
            lambda: two.lock("default", LockInfo.new("two")),
            lambda: two.unlock("default", "another"),
            lambda: two.put("default", tofu_bytes(document()), lock_id="another"),
        ):
            with pytest.raises(DriverError, match="held"):
                attempt()
        one.put("default", tofu_bytes(document()), lock_id=lock_id)
        one.get("default")
        one.delete("default")
        one.workspaces()
        one.unlock("default", lock_id)
        one.delete_workspace("dev", force=True)
    recorded = shapes(writer.history())
    for model in MODELS:
        made = shapes(generate(Workload(model=model, operations=400, zombies=0.5, deletes=0.2, force=0.2)))
        for key, names in made.items():
            assert names - {"fault", "call"} <= recorded.get(key, {"fault", "call"}), (model, key)
    for key in (("lock", "fail err"), ("lock", "invoke in"), ("unlock", "fail err")):
        made = shapes(generate(Workload(model="lock", operations=400, zombies=0.5)))
        assert recorded[key] - {"message"} == made[key]


@pytest.mark.parametrize("model", MODELS)
def test_calls_overlap_and_replies_get_lost(model: Model) -> None:
    """As many calls as asked for, several at once, and the share of lost replies that was asked for."""
    history = generate(Workload(model=model, operations=2000, clients=10, unknown=0.1))
    operations = history.operations()
    assert len(operations) == 2000
    assert 120 <= sum(op.kind == "info" for op in operations) <= 280
    overlapping = sum(later.i < op.end for op, later in zip(operations, operations[3:], strict=False))
    assert overlapping > 1000


@pytest.mark.parametrize("model", MODELS)
def test_a_process_makes_one_call_at_a_time_and_none_after_a_lost_reply(model: Model) -> None:
    """Process numbers are used as a recorder uses them."""
    history = generate(Workload(model=model, operations=500, clients=6, unknown=0.2))
    busy: set[int] = set()
    retired: set[int] = set()
    for event in history.events:
        assert event.p not in retired
        if event.e == "invoke":
            assert event.p not in busy
            assert event.p in history.names
            busy.add(event.p)
        elif event.e in {"ok", "fail", "info"}:
            busy.remove(event.p)
            if event.e == "info":
                retired.add(event.p)
    assert retired


def test_times_rise_with_the_numbers_of_events() -> None:
    """No two events have one time."""
    events = generate(Workload(model="fenced", operations=500, clients=6)).events
    assert [event.i for event in events] == list(range(len(events)))
    assert all(earlier.t < later.t for earlier, later in pairwise(events))


def test_manners_show_in_the_history() -> None:
    """Ids chosen by the backend, bare refusals, requests sent again, equal values, deletions: as asked."""
    chosen = generate(Workload(model="lock", operations=300, backend_ids=True))
    assert all(op.out != op.given["info"]["ID"] for op in chosen.operations() if op.f == "lock" and op.out)
    bare = generate(Workload(model="lock", operations=300, bare=1.0))
    assert not any("holder" in op.err for op in bare.operations())
    assert any("holder" in op.err for op in chosen.operations())
    resent = generate(Workload(model="lock", operations=300, unknown=0.3, resend=0.9))
    tokens = Counter(op.given["info"]["Info"] for op in resent.operations() if op.f == "lock")
    assert max(tokens.values()) > 1
    equal = generate(Workload(model="register", operations=300, equal=0.5, deletes=0.3))
    values = Counter(op.given["value"] for op in equal.operations() if op.f == "put")
    assert max(values.values()) > 1
    assert any(op.f == "delete" for op in equal.operations())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noted_once_where_it_was_put(fault: str) -> None:
    """The note names the fault, and the call that got the wrong answer."""
    model: Model = next(m for m in MODELS if m in FAULTS[fault].models)
    deletes = 0.0 if fault == "lost state" else 0.2
    calm = Workload(model=model, operations=400, clients=3, zombies=0.8, deletes=deletes, force=0.5)
    for seed in range(40):
        workload = replace(calm, seed=seed, fault=fault, backend_ids=True)
        try:
            history = generate(workload)
        except NoOpportunity:
            continue
        notes = [event for event in history.events if event.f == "injected"]
        assert [note.given["fault"] for note in notes if note.given] == [fault]
        (op,) = [op for op in history.operations() if notes[0].given and op.i == notes[0].given["call"]]
        assert op.end == notes[0].i + 1
        return
    raise AssertionError(f"no place for {fault}")


def test_a_fault_without_a_place_is_an_error() -> None:
    """A history too short for its fault is not passed off as a faulty one."""
    with pytest.raises(NoOpportunity, match="no place for 'double grant' in 1 operations"):
        generate(Workload(model="lock", operations=1, fault="double grant"))
