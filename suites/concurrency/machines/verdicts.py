"""What the runs of machines say of one requirement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lockproof.driver import Capabilities
from lockproof.spec.outcome import NotRun, Unknown
from lockproof.suites.concurrency.machines.base import Machine
from lockproof.suites.concurrency.machines.run import MachineRun
from lockproof.suites.concurrency.machines.script import Found

PARTS = ("locking", "state", "workspaces")


@dataclass
class MachineRuns:
    """The machines of one backend, each run once, when a test first asks for it.

    `run` runs one; `new` has the counts of those that were run since they were last taken.
    """

    capabilities: Capabilities
    run: Callable[[type[Machine]], MachineRun]
    ready: dict[type[Machine], MachineRun] = field(default_factory=dict)
    new: list[dict[str, Any]] = field(default_factory=list)

    def of(self, machine: type[Machine]) -> MachineRun:
        """The run of a machine."""
        if machine not in self.ready:
            self.ready[machine] = self.run(machine)
            self.new.append(self.ready[machine].counts)
        return self.ready[machine]

    def require(self, requirement: str, *machines: type[Machine]) -> None:
        """Raises `Found`, with the shortest program, when one of the machines saw it violated; `Unknown` when
        a rule that the backend's capabilities ask for was never applied, no refusal was seen, or nothing
        was checked that would show a violation; `NotRun` when violations of others stood in the way."""
        runs = [self.of(machine) for machine in machines if self.applies(machine)]
        found = [run.tally.found[requirement] for run in runs if requirement in run.tally.found]
        if found:
            raise shortest(found)
        checked = sum(run.tally.checked[requirement] for run in runs)
        others = sorted({name for run in runs for name in run.tally.found})
        if checked == 0 and others:
            raise NotRun(f"every sequence that would show it violates {', '.join(others)} before")
        for run in runs:
            if not run.tally.found:
                exercised(run)
        if checked == 0:
            raise Unknown(f"no sequence of calls came to a point that would show it{because(runs)}")

    def applies(self, machine: type[Machine]) -> bool:
        """Whether the backend has what the machine looks at."""
        wanted = {"locks": "locking", "states": "state", "workspaces": "workspaces"}
        needs = {wanted[part] for part in machine.looks}
        return len(needs & self.capabilities) > (1 if len(needs) == len(PARTS) else 0)


def exercised(run: MachineRun) -> None:
    """Raises `Unknown` unless every rule was applied and, of locks, refusals were seen."""
    if run.idle:
        raise Unknown(f"{run.machine} never applied {', '.join(run.idle)}{because([run])}")
    if "lock" in run.applicable and not run.tally.refusals:
        raise Unknown(f"{run.machine} saw no refusal{because([run])}")


def because(runs: Sequence[MachineRun]) -> str:
    """What the backend said instead of serving calls."""
    said = next((run.tally.unserved for run in runs if run.tally.unserved), "")
    return f"; a call was not served: {said}" if said else ""


def shortest(found: Sequence[Found]) -> Found:
    """The violation with the shortest program."""
    return min(found, key=lambda one: len(one.program))
