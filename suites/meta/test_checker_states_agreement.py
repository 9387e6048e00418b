"""The register checker against a search of all orders, whole and streamed, and the memory that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockproof.checkers import Verdict, check_register, register
from lockproof.checkers.models import StateModel
from lockproof.checkers.register import RegisterMonitor
from lockproof.checkers.search import search
from lockproof.history import History, pair
from lockproof.history.generate import Workload, generate
from lockproof.history.generate_faults import FAULTS
from lockproof.suites.meta.tape import LOST, Tape, interleave

Call = tuple[str, dict[str, Any], dict[str, Any]]


def streamed(history: History) -> Verdict:
    monitor = RegisterMonitor()
    for op in pair(history.events):
        monitor.add(op)
    return monitor.verdict(history.closed)


def random_calls(random: Random, size: int) -> Iterator[Call]:
    """Writes, deletions and reads of recent values, in shares that differ from history to history; writes
    of a value that was written before in every fifth."""
    equal = random.choice([0, 0, 0, 0, 0.5])
    shares = [random.random() for _ in range(3)]
    lost, written = random.choice([0, 0.1, 0.4]), 0
    for _ in range(size):
        outcome: dict[str, Any] = LOST if random.random() < lost else {"e": "ok"}
        f = random.choices(["put", "delete", "get"], shares)[0]
        if f == "put":
            value = f"v{random.randrange(written) if written and random.random() < equal else written}"
            yield f, {"value": value, "sha256": None, "lock_id": None}, outcome
            written += 1
        elif f == "delete":
            yield random.choice(["delete", "delete_workspace"]), {}, outcome
        else:
            seen = random.choice([None, None, *(f"v{n}" for n in range(max(0, written - 3), written + 1))])
            yield "get", {}, {"e": "ok", "out": {"value": seen}}


@settings(max_examples=250, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_the_register_checker_agrees_with_a_search_on_histories_with_deletions(
    random: Random, size: int
) -> None:
    """Reads of nothing beside any number of deletions, lost replies among them, are decided exactly."""
    history = interleave(random, list(random_calls(random, size)))
    expected = search(history.operations(), StateModel())
    for found in (check_register(history), streamed(history)):
        assert found.status == expected.status, (found, expected, [e.to_json() for e in history.events])


@pytest.fixture
def settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor forgets whatever it can after every operation."""
    monkeypatch.setattr(register, "SETTLED", 1)


@pytest.mark.usefixtures("settling")
def test_forgetting_changes_no_verdict() -> None:
    """A monitor that settles all the time says what one that keeps everything says."""
    seen = set()
    for seed in range(300):
        random = Random(seed)
        history = interleave(random, list(random_calls(random, random.randint(10, 30))))
        whole, forgetful = check_register(history), streamed(history)
        assert whole.status == forgetful.status, (seed, whole, forgetful)
        seen.add(whole.status)
    assert seen == {"valid", "violated"}


@pytest.mark.usefixtures("settling")
def test_forgetting_cuts_no_value_that_is_still_current() -> None:
    """A deletion called while a value surely was current explains no absence before that value."""
    tape = Tape()
    tape.put("old")
    nothing = tape.begin("get")
    tape.put("new")
    deletion = tape.begin("delete")
    nothing("ok", {"value": None})
    write = tape.begin("put", value="next", sha256=None, lock_id=None)
    tape.get("new")
    write()
    deletion()
    for n in range(20):  # more to keep than before, and nothing that surely replaces
        tape.begin("put", value=f"lost {n}", sha256=None, lock_id=None)(**LOST)
    for verdict in (check_register(tape.history()), streamed(tape.history())):
        assert verdict.status == "violated"


@pytest.mark.parametrize(
    "fault", sorted(name for name, fault in FAULTS.items() if "register" in fault.models)
)
@pytest.mark.usefixtures("settling")
def test_a_fault_in_a_long_stream_is_found(fault: str) -> None:
    """Violations are found after most of the history was forgotten."""
    deletes = 0.0 if fault == "lost state" else 0.2  # which a deletion would explain
    workload = Workload(
        model="register", operations=3000, clients=6, seed=11, deletes=deletes, unknown=0.05, fault=fault
    )
    assert streamed(generate(workload)).status == "violated"


def test_a_stream_of_many_values_is_judged_in_bounded_memory() -> None:
    """What is kept is a small part of the values, however many there were."""
    history = generate(Workload(model="register", operations=20_000, clients=10, seed=5, deletes=0.1))
    monitor, most = RegisterMonitor(), 0
    for op in pair(history.events):
        monitor.add(op)
        most = max(most, monitor.kept)
    verdict = monitor.verdict(True)
    assert verdict.status == "valid"
    assert verdict.details["values"] > 4 * register.SETTLED
    assert most < 2 * register.SETTLED


def test_a_value_read_long_after_it_was_forgotten_is_a_stale_read() -> None:
    """A forgotten value that comes back is named, with the write that had replaced it."""
    tape = Tape()
    for n in range(2 * register.SETTLED):
        tape.put(f"v{n}")
    tape.get(f"v{register.SETTLED - 5}")
    verdict = streamed(tape.history())
    assert verdict.details["anomaly"] == "stale read"
    assert tape.events[-1].i in verdict.witness
    assert len(verdict.witness) == 6
