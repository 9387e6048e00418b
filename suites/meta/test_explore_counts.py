"""The exhaustive strategy runs every schedule once, and pruning leaves none out that shows something else."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping

import pytest

from lockproof.driver import Snapshot
from lockproof.driver.memory import MemoryClient
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import Exhaustive, Shared, checkpoint, explore
from lockproof.suites.meta.explored_bed import (
    Bed,
    Body,
    Collector,
    calls,
    order_of_calls,
    program,
    what_clients_saw,
)


def interleavings(left: Mapping[str, int], last: str | None = None) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every order of so many steps of each client, with its number of preemptions."""
    if not any(left.values()):
        yield (), 0
    for who, steps in left.items():
        if steps:
            preempts = int(last is not None and who != last and left[last] > 0)
            for rest, preemptions in interleavings({**left, who: steps - 1}, who):
                yield (who, *rest), preempts + preemptions


@pytest.mark.parametrize("steps", [(1, 1), (3, 2), (4, 4), (2, 2, 2)])
def test_every_interleaving_is_run_once(steps: tuple[int, ...]) -> None:
    """Without a bound and without pruning, as many schedules are run as there are ways to interleave."""
    clients = {f"c{n}": calls(number) for n, number in enumerate(steps)}
    judge = Collector(order_of_calls)
    found = explore(program(clients, judge=judge), Bed(), Exhaustive(None, prune=False))
    number = math.factorial(sum(steps)) // math.prod(math.factorial(n) for n in steps)
    assert (found.status, found.complete, found.schedules, found.pruned) == ("valid", True, number, 0)
    assert len(set(judge.seen)) == number


@pytest.mark.parametrize("bound", [0, 1, 2, 3])
@pytest.mark.parametrize("steps", [{"a": 4, "b": 3}, {"a": 2, "b": 2, "c": 2}])
def test_bound_admits_just_the_schedules_with_so_many_preemptions(steps: dict[str, int], bound: int) -> None:
    """Every interleaving with at most that many preemptions is run, once, those with fewer first."""
    preemptions = dict(interleavings(steps))
    judge = Collector(order_of_calls)
    clients = {who: calls(number) for who, number in steps.items()}
    found = explore(program(clients, judge=judge), Bed(), Exhaustive(bound, prune=False))
    assert found.complete
    assert sorted(judge.seen) == sorted(order for order, n in preemptions.items() if n <= bound)
    spent = [preemptions[order] for order in judge.seen]
    assert spent == sorted(spent)


THINGS = "xyz"


class Scripted(MemoryClient):
    """A client whose `get` reads and writes things of the scope, as its workspace says: `x`, `y=`, `*` …

    A read adds to what is returned, a write puts a value in that no other write puts in; `*` is all things.
    """

    def get(self, workspace: str) -> Snapshot | None:
        seen = []
        for n, word in enumerate(workspace.split()):
            thing = word.removesuffix("=")
            write = thing != word
            checkpoint(f"{n} {word}", touches=thing, write=write)
            for each in THINGS if thing == "*" else thing:
                if write:
                    self.store.states[each] = f"{self.who} {workspace} {n}".encode()
                else:
                    seen.append(self.store.states.get(each, b"nothing"))
        return Snapshot(b",".join(seen))


def scripted(*scripts: str) -> Body:
    def body(client: RecordedClient, shared: Shared) -> None:
        for script in scripts:
            client.get(script)

    return body


def test_only_the_order_of_independent_calls_counts() -> None:
    """Steps that touch different things are run in one order only: two calls come apart or overlap."""
    judge = Collector(what_clients_saw)
    clients = {"a": scripted("x= x x= x"), "b": scripted("y= y y= y")}
    found = explore(program(clients, judge=judge), Bed(Scripted, instrumented=True), Exhaustive(None))
    assert (found.complete, found.schedules) == (True, 3)
    assert len(set(judge.seen)) == 3
    whole = explore(
        program(clients, judge=judge), Bed(Scripted, instrumented=True), Exhaustive(None, prune=False)
    )
    assert whole.schedules == math.comb(8, 4)


def random_script(rng: random.Random) -> str:
    return " ".join(rng.choice([*THINGS, "*"]) + rng.choice(["", "="]) for _ in range(rng.randint(1, 3)))


@pytest.mark.parametrize("bound", [0, 1, 2, None])
@pytest.mark.parametrize("seed", range(6))
def test_pruning_loses_nothing_that_clients_or_a_judge_can_see(seed: int, bound: int | None) -> None:
    """On random programs of reads and writes both explorations see the same set of histories."""
    rng = random.Random(seed)
    names = ("a", "b", "c")[: rng.choice([2, 2, 3])]
    scripts = {who: [random_script(rng) for _ in range(4 - len(names))] for who in names}
    clients = {who: scripted(*script) for who, script in scripts.items()}
    seen = {}
    runs = {}
    for prune in (False, True):
        judge = Collector(what_clients_saw)
        p = program(clients, judge=judge)
        found = explore(p, Bed(Scripted, instrumented=True), Exhaustive(bound, prune), limit=20_000)
        assert found.complete, found.reason
        seen[prune], runs[prune] = set(judge.seen), found.schedules
    assert seen[True] == seen[False], scripts
    assert runs[True] <= runs[False]
