"""What the state machines have in common: clients, workspaces, and a look at everything after each rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar, Protocol, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from lockproof.driver import Capabilities
from lockproof.driver.databricks_bed import TestBed
from lockproof.driver.memory import DEFAULT
from lockproof.driver.recorder import RecordedScope
from lockproof.suites.concurrency.machines.model import Place
from lockproof.suites.concurrency.machines.script import Demand, Found, Outcome, Script

CLIENTS = ("alice", "bob", "carol")
OBSERVER = "olga"
SECOND_OPINION = "oscar"
CLOCK_STEP = 300  # seconds: more than a lease lasts, less than an address of the storage is good for
CLIENT = st.sampled_from(CLIENTS)
PLACE = st.sampled_from((0, 1, 2))
WHICH = st.sampled_from((0, 1, 2))

Tour = Sequence[tuple[str, Mapping[str, Any]]]
Step = Callable[..., Place | None]


class Grounds(Protocol):
    """Where examples happen: one backend, its test bed where it has one, and what is counted of all."""

    capabilities: Capabilities
    tally: Tally
    bed: TestBed | None

    def enter(self, stack: ExitStack) -> tuple[RecordedScope, Sequence[str], bool]:
        """A scope for one example, the names of workspaces that nobody has used in it, and whether it is
        fresh. Whatever must be closed goes on `stack`."""

    def keep(self, found: Found) -> None:
        """Keeps the shortest program for each requirement."""


@dataclass
class Tally:
    """What was done in all examples of a machine: how often each rule was applied (and answered), each
    requirement checked; `refusals`, and the largest number of clients that wanted one lock at a time.

    `found` has the shortest program that violates each requirement.
    """

    rules: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    examples: int = 0
    steps: int = 0
    refusals: int = 0
    contention: int = 0
    unserved: str = ""
    found: dict[str, Found] = field(default_factory=dict)


def step(
    *needs: str, when: Callable[[Any], bool] = lambda machine: True, **strategies: st.SearchStrategy[Any]
) -> Callable[[Step], Any]:
    """A rule of a machine, for backends with the capabilities `needs`. Afterwards the machine looks at what
    the rule may have changed.

    Where `when` does not hold the rule does nothing. That is no precondition of Hypothesis': what may
    follow must not depend on what a backend answered, or two runs of one example would not be comparable.
    """

    about_locks = bool(needs) and all(need.startswith("locking") for need in needs)

    def decorate(function: Step) -> Any:
        @wraps(function)
        def act(machine: Machine, **arguments: Any) -> None:
            if when(machine):
                machine.act(function, arguments, about_locks)

        made = cast("Any", rule)(**strategies)(act)  # its overloads do not take a mapping
        made.needs = frozenset(needs)
        return made

    return decorate


class Machine(RuleBasedStateMachine):
    """A machine on one backend; `run_machine` makes the subclass that has a `ground`.

    `tour` is a sequence that applies every rule once: each run begins with it, so that a short run, too,
    exercises all. `looks` are the parts that are looked at after each rule.
    """

    ground: ClassVar[Grounds]
    tour: ClassVar[Tour] = ()
    looks: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = self.ground.capabilities
        self.stack = ExitStack()
        scope, names, fresh = self.ground.enter(self.stack)
        self.script = Script(scope)
        self.places = [Place(name) for name in names]
        self.fresh = fresh
        self.serial = 0
        self.contention = 0
        self.looked = False
        self.rules_taken: Counter[str] = Counter()
        self.rules_so_far: list[str] = []
        self.default_promises()

    def default_promises(self) -> None:
        """What the next look is about unless the rule says otherwise: the requirement that is violated
        when the lock, the state, another workspace's state or the list has changed. `unread` is a state that
        the next rule shall find as it is, after a lost reply."""
        self.lock_promise = "LOCK-EXCL-001"
        self.state_promise = "STATE-READ-001"
        self.others_promise = "WS-ISO-001"
        self.list_promise = "WS-LIST-004"
        self.unread: Place | None = None

    def act(self, function: Step, arguments: Mapping[str, Any], about_locks: bool) -> None:
        """Applies one rule and looks at what it did; the first time also at what there is before."""
        self.default_promises()
        if not self.looked:
            self.looked = True
            self.look(self.places)
        if about_locks:  # an update that a lock protects is not undone by calls about the lock
            self.state_promise = self.others_promise = "LOCK-EXCL-002"
        self.rules_so_far.append(function.__name__)
        before = self.script.unserved
        self.script.unserved = ""
        try:
            place = function(self, **arguments)
            self.rules_taken[function.__name__] += not self.script.unserved
            self.look(self.places if place is None else [place])
        except Found as found:
            found.rules = tuple(self.rules_so_far)
            raise
        finally:
            self.script.unserved = before or self.script.unserved

    def place(self, index: int) -> Place:
        """The workspace of that number, where there are so many."""
        return self.places[index % len(self.places)]

    def pick(self, where: int, fits: Callable[[Place], bool]) -> Place:
        """The workspace of that number, or the next one that fits; one must."""
        after = [self.place(where + offset) for offset in range(len(self.places))]
        return next(place for place in after if fits(place))

    @property
    def default(self) -> Place | None:
        """The workspace `default`, where the example uses it."""
        return next((place for place in self.places if place.name == DEFAULT), None)

    def can(self, *capabilities: str) -> bool:
        """Whether the backend has all of them."""
        return self.capabilities >= set(capabilities)

    def call(self, who: str, f: str, place: Place, *arguments: Any, demand: Demand, **more: Any) -> Outcome:
        """One call about a workspace; see `Script.call`."""
        return self.script.call(who, f, place.name, *arguments, demand=demand, **more)

    def look(self, changed: Sequence[Place]) -> None:
        """Compares the backend with the model, through the eyes of a client that changes nothing."""
        if "states" in self.looks and self.can("state"):
            for place in self.places if "workspaces" in self.looks else changed:
                if place is self.unread:
                    continue
                self.read(OBSERVER, place, self.state_promise if place in changed else self.others_promise)
        if "locks" in self.looks and self.can("locking"):
            for place in self.places:
                self.probe(place, self.lock_promise if place in changed else "LOCK-EXCL-001")
        if "workspaces" in self.looks and self.can("workspaces"):
            self.list(OBSERVER)

    def read(self, who: str, place: Place, promise: str) -> None:
        raise AssertionError("a machine that looks at states has StateRules")

    def probe(self, place: Place, promise: str) -> None:
        raise AssertionError("a machine that looks at locks has LockRules")

    def list(self, who: str) -> None:
        raise AssertionError("a machine that looks at workspaces has WorkspaceRules")

    @step("test-bed", "databricks")
    def advance_the_clock(self) -> None:
        """The service's clock moves on: no lock and no state ends by age."""
        if self.ground.bed is not None:
            self.ground.bed.control.advance_clock(CLOCK_STEP)
            self.script.remark(f"the service's clock moves on by {CLOCK_STEP} s")

    @step(when=lambda machine: bool(machine.script.clients.keys() - {OBSERVER}), who=CLIENT)
    def crash(self, who: str) -> None:
        """A client ends without releasing anything; a new one takes its place."""
        running = self.script.clients.keys() - {OBSERVER}
        ending = who if who in running else min(running)
        self.script.end(ending)
        self.state_promise = self.others_promise = "STATE-DUR-001"
        self.lock_promise = "LOCK-CRASH-001"
        for place in self.places:
            orphans = [grant for grant in place.grants if grant.owner == ending]
            for grant in orphans:
                grant.orphan = True
            if orphans and not self.can("locking.force-unlock"):
                place.may_free()

    def teardown(self) -> None:
        tally = self.ground.tally
        tally.examples += 1
        tally.steps += sum(self.rules_taken.values())
        tally.rules.update(self.rules_taken)
        tally.checked.update(self.script.checked)
        tally.refusals += self.script.refusals
        tally.contention = max(tally.contention, self.contention)
        tally.unserved = tally.unserved or self.script.unserved
        self.stack.close()
