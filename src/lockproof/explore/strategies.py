"""Which schedules are run, and in what order."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lockproof.explore.happens_before import Orders, Trace
from lockproof.explore.lane import Choice, Option
from lockproof.explore.scheduler import Diverged, Run

Cost = tuple[int, int]
ANY = (math.inf, math.inf)


class Chooser(Protocol):
    """Decides one run. `judged`: its end is worth a verdict; `trace` is told what its steps touched."""

    judged: bool
    trace: Trace | None

    def choose(self, run: Run, options: Sequence[Option]) -> Option | None: ...


class Plan(Protocol):
    """The schedules of one exploration: `choosers` one by one, each used up before the next is asked for."""

    complete: bool  # every schedule of the space that the strategy promises was run

    def choosers(self, clients: int) -> Iterator[Chooser]: ...


class Strategy(Protocol):
    """Says which schedules to run. `sampling`: it promises none in particular, as many as allowed."""

    sampling: bool

    def plan(self) -> Plan:
        """A fresh plan; equal strategies make equal plans."""

    def describe(self) -> str:
        """The strategy in a few words, as a schedule file says it."""


# --- exhaustive ---


@dataclass(frozen=True)
class Exhaustive:
    """Every schedule with at most `preemptions` preemptions (`None`: every schedule), cheapest first.

    A preemption takes the baton from a client that could go on. All schedules without one are run first,
    then all with one, and so on, so what is found needs as few as can be (iterative context bounding:
    Musuvathi & Qadeer, PLDI 2007).

    `prune` leaves out a run as soon as its steps so far are the same partial order as those of an earlier
    run, and the same client would go on for free: it has reached the same state (the happens-before
    relation stands for the state, ibid.), and whatever it may still do, the earlier run could do. Since
    runs come in the order of their cost, the earlier one had spent no more, so nothing within the bound
    is missed. Sleep sets and DPOR are not used: with a bound on preemptions they are unsound as they are,
    since it makes independent steps depend on each other (Coons, Musuvathi & McKinley, "Bounded
    partial-order reduction", OOPSLA 2013; Musuvathi & Qadeer, MSR-TR-2007-12); without a bound this
    pruning leaves one judged run for each partial order too, as sleep sets do.
    """

    preemptions: int | None = 2
    prune: bool = True
    sampling = False

    def plan(self) -> Search:
        if self.preemptions is None:
            return Search(by_faults, ANY, self.prune)
        return Search(by_preemptions, (self.preemptions, math.inf), self.prune)

    def describe(self) -> str:
        bound = "all schedules" if self.preemptions is None else f"up to {self.preemptions} preemptions"
        return f"exhaustive, {bound}{'' if self.prune else ', unpruned'}"


class Measure(Protocol):
    """What an option costs in a run whose last client was `last`."""

    def __call__(self, option: Option, last: int | None) -> Cost: ...


def by_preemptions(option: Option, last: int | None) -> Cost:
    """Preemptions, then faults."""
    return (int(not option.free), int(option.fault is not None))


def by_faults(option: Option, last: int | None) -> Cost:
    """Faults alone."""
    return (0, int(option.fault is not None))


def by_switches(option: Option, last: int | None) -> Cost:
    """Switches to another client, then faults."""
    return (int(last is not None and option.client != last), int(option.fault is not None))


class Node:
    """A choice, and through `before` all choices that led to it; a path costs one object a step."""

    __slots__ = ("before", "client", "cost", "fault", "step")

    def __init__(self, before: Node | None, option: Option, cost: Cost) -> None:
        self.before = before
        self.client = option.client
        self.step = option.step
        self.fault = option.fault
        self.cost = cost

    def path(self) -> list[Node]:
        nodes = [self]
        while (before := nodes[-1].before) is not None:
            nodes.append(before)
        nodes.reverse()
        return nodes


class Search:
    """A best-first search over schedules, by re-execution: each run follows a path and then goes on for free.

    `bound` is the most that a schedule may cost, in both respects.
    """

    def __init__(self, measure: Measure, bound: tuple[float, float], prune: bool) -> None:
        self.measure = measure
        self.bound = bound
        self.prune = prune
        self.orders = Orders()
        self.seen: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        self.complete = False
        self.cost: Cost = (0, 0)  # of the run that was begun last: none that cost less is left
        self.frontier: list[tuple[Cost, int, Node | None]] = [((0, 0), 0, None)]
        self.pushed = 0

    def choosers(self, clients: int) -> Iterator[Chooser]:
        while self.frontier:
            self.cost, _, node = heapq.heappop(self.frontier)
            trace = Trace(clients, self.orders) if self.prune else None
            yield SearchChooser(self, [] if node is None else node.path(), trace)
        self.complete = True

    def push(self, node: Node) -> None:
        """Remembers a path to be run; the latest of those that cost the same comes first."""
        self.pushed += 1
        heapq.heappush(self.frontier, (node.cost, -self.pushed, node))

    def known(self, trace: Trace, options: Sequence[Option], last: int | None) -> bool:
        """Whether a run stood here before, with the same costs ahead; from now on one did."""
        cheap = tuple(option.client for option in options if self.measure(option, last) == (0, 0))
        key = (trace.key(), cheap)
        if key in self.seen:
            return True
        self.seen.add(key)
        return False


class SearchChooser:
    """One run of a search."""

    def __init__(self, search: Search, path: Sequence[Node], trace: Trace | None) -> None:
        self.judged = True
        self.trace = trace
        self._search = search
        self._path = path
        self._at = path[-1] if path else None
        self._done = 0

    def choose(self, run: Run, options: Sequence[Option]) -> Option | None:
        if self._done < len(self._path):
            node = self._path[self._done]
            self._done += 1
            return find(options, node.client, node.step, node.fault, run)
        search = self._search
        if self.trace is not None and search.known(self.trace, options, run.last):
            self.judged = False
            return None
        best: Option | None = None
        before = self._at
        so_far = (0, 0) if before is None else before.cost
        for option in options:
            cost = search.measure(option, run.last)
            total = (so_far[0] + cost[0], so_far[1] + cost[1])
            if total[0] > search.bound[0] or total[1] > search.bound[1]:
                continue
            node = Node(before, option, total)
            if best is None and cost == (0, 0):
                best, self._at = option, node
            else:
                search.push(node)
        return best


def find(options: Sequence[Option], client: int, step: str, fault: str | None, run: Run) -> Option:
    """The option that an earlier run took here. Raises `Diverged` when it is not there."""
    for option in options:
        if option.client == client and option.fault == fault:
            if option.step == step:
                return option
            there = f"{option.step!r}"
            break
    else:
        there = "not possible" if fault is None else f"not possible with {fault}"
    name = run.lanes[client].name
    raise Diverged(
        f"not the same run again: step {len(run.trail) + 1} was {step!r} of {name}, and is now {there}"
    )


# --- sampling ---


@dataclass
class _Seen:
    """How long runs were so far: change points and faults are drawn among as many steps."""

    steps: int = 1
    offers: int = 1


@dataclass(frozen=True)
class RandomWalk:
    """At every step one of the clients that can go on, drawn evenly; equal seeds draw the same."""

    seed: int = 0
    sampling = True

    def plan(self) -> Sampling:
        return Sampling(self.seed, None)

    def describe(self) -> str:
        return f"random walk, seed {self.seed}"


@dataclass(frozen=True)
class Pct:
    """The client of the highest priority runs; at `depth - 1` drawn steps the running one gets the lowest.

    Finds a bug of that depth (as many ordering constraints) among n clients and k steps with probability
    1/(n k^(depth-1)) at least in each run (PCT: Burckhardt, Kothari, Musuvathi & Nagarakatte, "A randomized
    scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010). Equal seeds draw the same.
    """

    seed: int = 0
    depth: int = 3
    sampling = True

    def plan(self) -> Sampling:
        return Sampling(self.seed, self.depth)

    def describe(self) -> str:
        return f"PCT of depth {self.depth}, seed {self.seed}"


class Sampling:
    """Runs drawn one after the other, without end."""

    complete = False

    def __init__(self, seed: int, depth: int | None) -> None:
        self.seed = seed
        self.depth = depth
        self.seen = _Seen()

    def choosers(self, clients: int) -> Iterator[Chooser]:
        number = 0
        while True:
            rng = random.Random(f"{self.seed}:{number}")
            yield SampleChooser(rng, clients, self.depth, self.seen)
            number += 1


@dataclass
class SampleChooser:
    """One run, drawn; `depth=None` draws every step. In every second run faults are injected."""

    rng: random.Random
    clients: int
    depth: int | None
    seen: _Seen
    judged: bool = True
    trace: Trace | None = None
    priority: list[int] = field(default_factory=list)
    changes: set[int] = field(default_factory=set)
    offers: int = 0
    next_fault: int | None = None

    def __post_init__(self) -> None:
        if self.depth is not None:
            self.priority = self.rng.sample(range(self.depth, self.depth + self.clients), self.clients)
            self.changes = {self.rng.randrange(self.seen.steps) for _ in range(self.depth - 1)}
        if self.rng.random() < 0.5:
            self.next_fault = self.rng.randrange(self.seen.offers)

    def choose(self, run: Run, options: Sequence[Option]) -> Option | None:
        if not options:
            return None
        step = len(run.trail)
        self.seen.steps = max(self.seen.steps, step + 1)
        calm = [option for option in options if option.fault is None]
        if self.depth is None:
            option = self.rng.choice(calm)
        else:
            option = max(calm, key=lambda option: self.priority[option.client])
            if step in self.changes and run.last is not None:
                self.priority[run.last] = min(self.priority) - 1
                option = max(calm, key=lambda option: self.priority[option.client])
        faulty = [other for other in options if other.client == option.client and other.fault is not None]
        if faulty:
            self.offers += 1
            self.seen.offers = max(self.seen.offers, self.offers)
            if self.next_fault is not None and self.offers > self.next_fault:
                self.next_fault = self.offers + self.rng.randrange(self.seen.offers)
                return self.rng.choice(faulty)
        return option


# --- following ---


class Follower:
    """Does what a list of choices says, step by step, and ends the run after the last one; with `go_on` the
    clients come to their ends from there, without a preemption and without a fault."""

    def __init__(self, choices: Sequence[Choice], *, go_on: bool = False) -> None:
        self.judged = True
        self.trace: Trace | None = None
        self._choices = choices
        self._go_on = go_on

    def choose(self, run: Run, options: Sequence[Option]) -> Option | None:
        number = len(run.trail)
        if number >= len(self._choices):
            return next((option for option in options if option.fault is None), None) if self._go_on else None
        if not options:
            raise Diverged(f"not the same run again: it ended after {number} steps of {len(self._choices)}")
        choice = self._choices[number]
        client = next((lane.index for lane in run.lanes if lane.name == choice.client), None)
        if client is None:
            raise Diverged(f"not the same program: step {number + 1} is of {choice.client}, who is no client")
        return find(options, client, choice.step, choice.fault, run)
