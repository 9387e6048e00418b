"""The general search: what it finds, what it shows, where it stops; and that it misses no order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockproof.checkers.models import LockedStateModel, LockModel, Model, Part, StateModel, WorkspaceSetModel
from lockproof.checkers.search import search
from lockproof.history import Operation
from lockproof.history.generate import Workload, generate
from lockproof.suites.meta import agreement
from lockproof.suites.meta.drawn import drawn

TWO_GRANTS = """
    lock a    | [-]                     | ok
    lock b    |     [-]                 | held a
    unlock a  |         [-]             | ok
    lock b    |             [-]         | ok
    lock c    |                 [-]     | ok
    unlock b  |                     [-] | ok
"""


def many_writes_and_an_impossible_read(writes: int) -> str:
    """Writes that all overlap, and a read that none of them explains: the worst case."""
    rows = [f"put v{n} | [{'-' * 12}] | ok" for n in range(writes)]
    return "\n".join([*rows, f"get | {' ' * 14}[-] | x"])


def test_an_empty_history_is_valid() -> None:
    """Nothing that happened is in order."""
    for model in (LockModel(), StateModel(), LockedStateModel(strict=True), WorkspaceSetModel()):
        assert search([], model).status == "valid"


def test_the_order_that_a_violation_shows_is_legal_and_the_longest() -> None:
    """All but what cannot be placed stand in the order, each possible after the ones before it."""
    history = drawn(TWO_GRANTS)
    verdict = search(history.operations(), LockModel())
    assert verdict.status == "violated"
    assert verdict.details["anomaly"] == "not linearizable"
    assert verdict.details["workspace"] == "default"
    assert verdict.details["operations"] == 6
    assert verdict.details["linearized"] == 4
    operations = {op.i: op for op in history.operations()}
    (part,) = LockModel().parts(history.operations())
    states = [part.start]
    for number in verdict.details["order"]:
        states = [after for state in states for after in part.step(state, operations[number])]
        assert states
    assert all(part.step(state, operations[8]) == [] for state in states)


def test_the_witness_is_what_cannot_be_placed_and_what_forbids_it() -> None:
    """The grant that fits no order, with the grant and the release before it."""
    verdict = search(drawn(TWO_GRANTS).operations(), LockModel())
    assert verdict.witness == (4, 5, 6, 7, 8, 9)
    assert "lock fits no order" in verdict.headline


def test_a_violation_shows_the_longest_order_and_not_the_last_one() -> None:
    """Of two orders that end early, the one that explains more is shown."""
    text = """
        put v    | [-------]                | ok
        put w    |  [----]                  | ok
        get      |           [-]            | v
        get      |                [-]       | w
    """
    verdict = search(drawn(text).operations(), StateModel())
    assert verdict.details["linearized"] == 3
    assert verdict.details["order"] == [1, 0, 4]
    assert verdict.witness == (0, 1, 2, 3, 6, 7)


def test_unknown_outcomes_need_not_be_placed() -> None:
    """A lost release of a lock that others hold until the end explains nothing, and need not."""
    text = """
        lock a    | [-]              | ok
        unlock b  |     [-           |
        lock b    |     [-           |
        lock c    |         [-]      | held a
    """
    assert search(drawn(text).operations(), LockModel()).status == "valid"


def test_the_steps_are_bounded() -> None:
    """A search that tried as many steps as it may says unknown, and why."""
    operations = drawn(many_writes_and_an_impossible_read(8)).operations()
    verdict = search(operations, StateModel(), steps=500)
    assert verdict.status == "unknown"
    assert "500 steps" in verdict.headline
    assert search(operations, StateModel(), steps=100_000).status == "violated"


def test_the_time_is_bounded() -> None:
    """A search whose time is over says unknown, and why."""
    operations = drawn(many_writes_and_an_impossible_read(12)).operations()
    verdict = search(operations, StateModel(), seconds=0)
    assert verdict.status == "unknown"
    assert "time ran out" in verdict.headline


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search whose memory is full says unknown, and why."""
    monkeypatch.setattr("lockproof.checkers.search.MEMORY", 40_000)
    verdict = search(drawn(many_writes_and_an_impossible_read(12)).operations(), StateModel())
    assert verdict.status == "unknown"
    assert "memory ran out" in verdict.headline


def test_the_bounds_are_for_all_objects_together() -> None:
    """What one workspace used up, the next one lacks."""
    hard = many_writes_and_an_impossible_read(8).replace("| x", "| v0")
    both = "\n".join([hard, *(row.replace(" |", " @dev |", 1) for row in hard.splitlines())])
    alone = search(drawn(hard).operations(), StateModel()).details["steps"]
    assert search(drawn(hard).operations(), StateModel(), steps=alone + 2).status == "valid"
    assert search(drawn(both).operations(), StateModel(), steps=alone + 2).status == "unknown"


def test_a_violation_counts_although_another_workspace_is_undecided() -> None:
    """A certain violation is reported before and after an undecided workspace."""
    hard = many_writes_and_an_impossible_read(12)
    bad = "put w @dev | [-] | ok\nget @dev |     [-] | nothing"
    for text in (f"{hard}\n{bad}", f"{bad}\n{hard}"):
        verdict = search(drawn(text).operations(), StateModel(), steps=500)
        assert verdict.status == "violated"
        assert verdict.details["workspace"] == "dev"


def test_reads_cost_nothing() -> None:
    """A hundred overlapping refusals are placed at once: a step each at most, not two to their power."""
    rows = [f"lock x{n} | {' ' * 4}[{'-' * 10}] | held a" for n in range(100)]
    text = "\n".join(["lock a | [-] | ok", *rows, f"lock b | {' ' * 18}[-] | ok"])
    for again in ("", "\nlock b | [-- |\nlock b | [-- |"):
        verdict = search(drawn(text + again).operations(), LockModel(), steps=20)
        assert verdict.status == "violated"
        assert verdict.details["linearized"] == 101


def test_lost_calls_cost_little() -> None:
    """Forty lost writes that nobody read, and forty lost releases of nothing, are not tried in all orders."""
    writes = [f"put x{n} | [---------------- |" for n in range(40)]
    rows = ["put v | [-] | ok", "put w |     [-] | ok", "get |         [-] | w", "get | [-------------] | v"]
    late = "get |                  [-] | nobody"
    assert search(drawn("\n".join([*writes, *rows])).operations(), StateModel(), steps=100).status == "valid"
    verdict = search(drawn("\n".join([*writes, *rows, late])).operations(), StateModel(), steps=500)
    assert verdict.status == "violated"
    releases = "\n".join(f"unlock x{n} | [---------------- |" for n in range(40))
    assert search(drawn(f"{TWO_GRANTS}\n{releases}").operations(), LockModel(), steps=20).status == "violated"


def test_a_long_history_costs_a_step_for_each_change() -> None:
    """A valid history of 2,000 operations of 5 clients is decided with a small budget."""
    history = generate(Workload(model="fenced", operations=2000, clients=5, seed=3))
    verdict = search(history.operations(), LockedStateModel(strict=True), steps=20_000)
    assert verdict.status == "valid", verdict


# --- against every order --------------------------------------------------------------------------


def orders(operations: frozenset[Operation]) -> Iterator[tuple[Operation, ...]]:
    """Every order of every choice that leaves out unknown outcomes alone and keeps real time."""
    if all(op.kind == "info" for op in operations):
        yield ()
    for op in operations:
        if all(other is op or other.end > op.i for other in operations):
            for rest in orders(operations - {op}):
                yield (op, *rest)


def legal(part: Part) -> bool:
    """Whether some order is possible, by trying all."""
    for order in orders(frozenset(part.operations)):
        states: list[Any] = [part.start]
        for op in order:
            states = list(chain.from_iterable(part.step(state, op) for state in states))
        if states:
            return True
    return False


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("lock", LockModel()),
        ("register", StateModel()),
        ("fenced", LockedStateModel(strict=True)),
        ("workspaces", WorkspaceSetModel()),
    ],
)
def test_the_search_misses_no_order_and_invents_none(kind: Any, model: Model) -> None:
    """On histories of up to 7 operations it says what trying every order says."""
    verdicts = {"valid": 0, "violated": 0}

    @settings(max_examples=250, deadline=None, database=None)
    @given(agreement.workloads(kind), st.integers(1, 3), st.randoms(use_true_random=False))
    def compare(workload: Workload, changes: int, random: Any) -> None:
        small = agreement.shortened(workload, random.randint(2, 4))
        history = agreement.mutated(generate(small), random, changes)
        verdict = search(history.operations(), model)
        verdicts[verdict.status] += 1
        assert (verdict.status == "valid") == all(map(legal, model.parts(history.operations())))

    compare()
    assert min(verdicts.values()) >= 5, verdicts
