"""Kills a saboteur of timing by an explored schedule, and replays the schedule that killed it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lockproof.driver.registry import resolve
from lockproof.explore import Exhaustive, Program, Schedule, Subject, explore, replay, subject_of
from lockproof.fakes.saboteurs.catalogue import Saboteur

LIMIT = 3000  # schedules of one program
SECONDS = 20.0


@dataclass(frozen=True)
class Kill:
    """The schedule that shows a saboteur's bug: of which program, after how many schedules of it, after how
    many seconds in all, and whether the schedule as saved fails in the same way again."""

    program: str
    schedules: int
    seconds: float
    finding: str
    replays: bool


def programs_of(tests: Iterable[str]) -> list[Program]:
    """The programs of the suite `concurrency` that the tests of these ids explore."""
    from lockproof.suites.concurrency.catalogue import PROGRAMS

    words = {word for test in tests for word in re.split(r"\W+", test.partition("::")[2])}
    return [program for program in PROGRAMS.values() if {program.name, f"test_{program.name}"} & words]


def kill(saboteur: Saboteur, programs: Iterable[Program]) -> Kill | None:
    """The first of the programs that finds the bug; `None` when none does."""
    (spec,) = resolve(saboteur.backend, saboteur.options)
    spent = 0.0
    with subject_of(spec.factory()(spec.options)) as subject:
        for program in programs:
            found = explore(program, subject, Exhaustive(), limit=LIMIT, seconds=SECONDS)
            spent += found.seconds
            if found.status == "violated" and found.schedule is not None:
                again = _again(program, subject, found.schedule)
                return Kill(program.name, found.schedules, spent, found.reason, again)
    return None


def _again(program: Program, subject: Subject, schedule: Schedule) -> bool:
    """Whether the schedule, saved and loaded, shows the same anomaly by the same steps."""
    with tempfile.TemporaryDirectory(prefix="lockproof-teeth-") as folder:
        file = Path(folder, "schedule.json")
        schedule.save(file)
        loaded = Schedule.load(file)
    repeated = replay(program, subject, loaded)
    same = repeated.schedule is not None and repeated.schedule.choices == schedule.choices
    return repeated.status == "violated" and same
