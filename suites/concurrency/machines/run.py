"""One way to run any machine on any backend."""

from __future__ import annotations

import itertools
import re
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, configuration
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import run_state_machine_as_test

from lockproof.driver import Capabilities, Client, Driver, Scope
from lockproof.driver.api import HasTestBed, Target
from lockproof.driver.databricks_bed import SkippingClock, TestBed
from lockproof.driver.memory import DEFAULT
from lockproof.driver.recorder import RecordedScope
from lockproof.history import HistoryWriter
from lockproof.report.folder import HOME
from lockproof.suites.concurrency.machines.base import Machine, Tally
from lockproof.suites.concurrency.machines.script import Found


@dataclass(frozen=True)
class Profile:
    """How much a machine does: so many `examples` of so many `steps`, shrunk when they fail or not;
    `fresh` scopes, or fresh workspaces in one scope where making scopes and clients is slow."""

    examples: int
    steps: int
    shrink: bool = True
    fresh: bool = True


PROFILES: Mapping[tuple[Target, bool], Profile] = {
    ("local", False): Profile(50, 16),
    ("local", True): Profile(200, 30),
    ("fake", False): Profile(5, 8, fresh=False),
    ("fake", True): Profile(40, 20, fresh=False),
    ("real", False): Profile(4, 10, shrink=False, fresh=False),
    ("real", True): Profile(10, 12, shrink=False, fresh=False),
}
"""By the kind of target, and whether the tier is `full` or more."""


def profile(target: Target, tier: str) -> Profile:
    """How much to do on such a target in such a tier."""
    return PROFILES[target, tier in {"full", "soak"}]


@dataclass
class MachineRun:
    """What a run of a machine found out: the `tally` of its examples, and which rules never `fired` though
    the backend has their capabilities."""

    machine: str
    tally: Tally
    applicable: Sequence[str]

    @property
    def idle(self) -> list[str]:
        """Rules that the backend's capabilities ask for and that were never applied and answered."""
        return [name for name in self.applicable if not self.tally.rules[name]]

    @property
    def counts(self) -> dict[str, Any]:
        """The counts as the report has them."""
        return {
            "machine": self.machine,
            "examples": self.tally.examples,
            "steps": self.tally.steps,
            "refusals": self.tally.refusals,
            "contention": self.tally.contention,
            "rules": {name: self.tally.rules[name] for name in self.applicable},
        }


def example_folder(run_folder: Path) -> Path:
    """Where failing examples are kept from run to run: beside the run folders, or in the one that the user
    chose."""
    return (run_folder.parent if run_folder.parent.name == HOME else run_folder) / "examples"


def run_machine(
    machine: type[Machine],
    driver: Driver,
    *,
    backend: str,
    capabilities: Capabilities,
    seed: int,
    examples: Path,
    size: Profile,
    timeout: float = 30.0,
    redact: Callable[[str], str] | None = None,
) -> MachineRun:
    """Runs a machine on a backend: first its tour, then examples that Hypothesis chooses from `seed`.

    `backend` names the backend in traces and in the example database, which is in the folder `examples`:
    what failed there is tried first. `timeout` is the deadline of one call in seconds, `redact` takes
    secrets out of messages. The run goes on after a failure to look for others; what was found is in the
    result. Raises what is no failure of the backend: a defect of a machine.
    """
    applicable = [name for name, needs in rules_of(machine) if needs <= capabilities]
    header = {"test": machine.__name__, "backend": backend, "target": driver.info.target, "seed": seed}
    with Ground(driver, capabilities, size, timeout, header, redact) as ground:
        bound = bind(machine, backend, ground, applicable)
        with quiet_home(examples):
            walk(bound)
            explore(bound, seed, size, examples)
        return MachineRun(machine.__name__, ground.tally, applicable)


def rules_of(machine: type[Machine]) -> list[tuple[str, frozenset[str]]]:
    """Every rule of a machine with the capabilities that it needs."""
    found = {name: getattr(machine, name, None) for name in dir(machine)}
    return [
        (name, needs) for name, rule in found.items() if (needs := getattr(rule, "needs", None)) is not None
    ]


def bind(machine: type[Machine], backend: str, ground: Ground, applicable: Sequence[str]) -> type[Machine]:
    """The machine on one backend: a subclass with a name of its own, without rules that do not apply."""
    name = f"{machine.__name__}On_{re.sub(r'[^0-9A-Za-z]+', '_', backend)}"
    absent = {rule: None for rule, _ in rules_of(machine) if rule not in applicable}
    key = f"{machine.__name__} {backend}".encode()
    return type(name, (machine,), {**absent, "ground": ground, "_hypothesis_internal_add_digest": key})


def walk(machine: type[Machine]) -> None:
    """The tour, as far as its rules apply."""
    example = machine()
    try:
        for name, arguments in example.tour:
            rule = getattr(example, name)
            if rule is not None:
                rule(**arguments)
    except Found as found:
        machine.ground.keep(found)
    finally:
        example.teardown()


def explore(machine: type[Machine], seed: int, size: Profile, examples: Path) -> None:
    """Lets Hypothesis choose sequences, and shrink those that fail."""
    phases = [Phase.reuse, Phase.generate, *([Phase.shrink] if size.shrink else [])]
    settings = hypothesis.settings(
        max_examples=size.examples,
        stateful_step_count=size.steps,
        phases=phases,
        database=DirectoryBasedExampleDatabase(examples),
        derandomize=False,  # the seed decides
        deadline=None,  # a call has its own deadline; how long an example takes says nothing
        report_multiple_bugs=True,
        print_blob=False,
        verbosity=Verbosity.quiet,  # what failed is told by the report
        # A slow backend makes slow examples, and large ones are wanted.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    number = zlib.crc32(f"{seed} {machine.__name__}".encode())
    try:
        run_state_machine_as_test(hypothesis.seed(number)(machine), settings=settings)
    except Exception as failure:
        found = [leaf for leaf in leaves(failure) if isinstance(leaf, Found)]
        if len(found) < len(list(leaves(failure))):
            raise
        for one in found:
            machine.ground.keep(one)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


@contextmanager
def quiet_home(folder: Path) -> Iterator[None]:
    """Lets Hypothesis keep whatever it keeps in `folder`, and nothing in the working directory."""
    name = "__hypothesis_home_directory"
    before = getattr(configuration, name, None)
    configuration.set_hypothesis_home_dir(folder)
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(before)


def bed_behind(scope: Scope, capabilities: Capabilities) -> TestBed | None:
    """The test bed of the reference driver behind a scope, where there is one."""
    if not capabilities >= {"test-bed", "databricks"} or not isinstance(scope, HasTestBed):
        return None
    bed = scope.test_bed()
    return bed if isinstance(bed, TestBed) else None


class Ground:
    """One backend, where the examples of one machine happen one after the other."""

    def __init__(
        self,
        driver: Driver,
        capabilities: Capabilities,
        size: Profile,
        timeout: float,
        header: Mapping[str, Any],
        redact: Callable[[str], str] | None,
    ) -> None:
        self.driver = driver
        self.capabilities = capabilities
        self.fresh = size.fresh or "workspaces" not in capabilities
        self.timeout = timeout
        self.header = {**header, "capabilities": sorted(capabilities)}
        self.redact = redact
        self.tally = Tally()
        self.numbers = itertools.count(1)
        self.stack = ExitStack()
        self.shared: KeptScope | None = None
        self.bed: TestBed | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stack.close()

    def keep(self, found: Found) -> None:
        """Keeps the shortest program for each requirement."""
        best = self.tally.found.get(found.requirement)
        if best is None or len(found.program) <= len(best.program):
            self.tally.found[found.requirement] = found

    def enter(self, stack: ExitStack) -> tuple[RecordedScope, Sequence[str], bool]:
        number = next(self.numbers)
        scope = self.open() if self.fresh or self.shared is None else self.shared
        fresh = self.fresh or self.shared is None
        if not self.fresh:
            if self.shared is None:
                opened = self.stack.enter_context(scope)
                self.bed = bed_behind(opened, self.capabilities)
                own = self.bed is not None and "locking.expiring-login" in self.capabilities
                self.shared = KeptScope(opened, self.bed, own_compute=own)
            scope = self.shared
        names = [DEFAULT, "team", "team-b"] if fresh else [f"e{number}{end}" for end in ("", "-b", "-c")]
        if "workspaces" not in self.capabilities:
            names = [DEFAULT]
        recorded = RecordedScope(scope, HistoryWriter(self.header, None, self.redact), self.timeout)
        stack.enter_context(recorded)
        if self.shared is not None:
            stack.callback(self.shared.end_example)
        return recorded, names, fresh

    def open(self) -> Scope:
        """A scope that nobody has used."""
        return self.driver.open_scope(f"lp-{uuid.uuid4().hex[:12]}")


class KeptScope:
    """A scope that stays open from example to example, and its clients with it: whom an example has not
    ended is given to the next one that asks for its name. `own_compute`: their logins are to a compute of
    the scope alone."""

    def __init__(self, scope: Scope, bed: TestBed | None, *, own_compute: bool = False) -> None:
        self.scope = scope
        self.bed = bed
        self.settings = bed.locks.own_compute() if bed is not None and own_compute else {}
        self.idle: dict[str, Client] = {}
        self.busy: list[KeptClient] = []

    def client(self, who: str) -> Client:
        kept = KeptClient(self.idle.pop(who) if who in self.idle else self.make(who), who)
        self.busy.append(kept)
        return cast("Client", kept)

    def make(self, who: str) -> Client:
        """A client whose waiting takes no time, where there is a test bed of ours."""
        bed = self.bed
        if bed is None:
            return self.scope.client(who)
        return bed.client(who, clock=SkippingClock(), **self.settings)

    def end_example(self) -> None:
        """Takes the clients back that the example leaves."""
        for kept in self.busy:
            if kept.client is not None:
                self.idle[kept.who], kept.client = kept.client, None
        self.busy.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """The end of an example; the scope stays."""


class KeptClient:
    """A client of a `KeptScope`; closing it, when the example has given it back, closes nothing."""

    def __init__(self, client: Client, who: str) -> None:
        self.client: Client | None = client
        self.who = who

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
            self.client = None
