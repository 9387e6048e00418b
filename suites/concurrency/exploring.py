"""How a test explores the schedules of a program, and what it shows of one that fails."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lockproof.checkers import Verdict
from lockproof.explore import (
    DriverSubject,
    Exhaustive,
    Explorable,
    Exploration,
    Pct,
    Program,
    Schedule,
    Strategy,
    Subject,
    explore,
    replay,
)
from lockproof.history import History, HistoryWriter
from lockproof.history.writer import HARNESS
from lockproof.plugin.fixtures import Backend
from lockproof.plugin.session import COUNTS, REMARK
from lockproof.spec.outcome import Unknown, Violation
from lockproof.suites.concurrency.programs import Scenario

PREEMPTIONS = 2
LARGE = 3
"""From so many clients on schedules are drawn: two preemptions would be too many schedules to run all."""
SCHEDULES = 400
LEAST = 150
LEAST_INSTRUMENTED = 20
"""So many schedules of one program are run before the tier `full` however slow the machine is; fewer where
each is many requests to a service. The tier `full` runs every schedule within the bound."""
SECONDS = 0.6
"""How long one program goes on beyond those."""
LONGEST = 15.0
"""Seconds after which there is no waiting for the least number either."""
PATIENT = (1, 50)
"""So many times `SECONDS`, when no schedule came to the point."""
STANDSTILL = 60.0
"""Seconds without progress after which a client is taken to wait for another in a mutex of its own."""
FULL_SCHEDULES = 20_000
FULL_SECONDS = 900.0
DRAWN = 1_000
"""Schedules that are drawn of a large program in tier `full`."""


@dataclass
class Exploring:
    """Explores the schedules of programs on one backend, or replays the one of `schedule`.

    Until the tier `full`, `complete` is false: schedules are run, those with the fewest preemptions first, as
    far as the budget goes. What fails is kept in `folder`, shown as `shown`; `given` are the options of the
    driver, to repeat it with. What was explored is told to the report through `properties`, the test's user
    properties.
    """

    backend: Backend
    history: HistoryWriter
    folder: Path
    shown: str
    given: Mapping[str, str]
    properties: list[tuple[str, object]]
    complete: bool = False
    schedule: Path | None = None

    def require_valid(self, scenario: Scenario) -> None:
        """How a test of a program ends: every schedule that was run is valid, and some came to the point.

        Raises `Violation` with the shrunk schedule and how to replay it, or `Unknown`.
        """
        if self.schedule is not None:
            found = self._replayed(scenario, Schedule.load(self.schedule))
        else:
            found = self._explored(scenario)
        explored = self._summary(scenario.program, found)
        self.properties.append((COUNTS, [explored]))
        if found.status == "violated":
            raise self._violation(scenario.program, found)
        self.history.append(HARNESS, "note", "explored", given=explored)
        if found.status == "unknown" and not self._enough(scenario.program, found):
            raise Unknown(found.reason)
        if self.schedule is not None:
            self.properties.append((REMARK, found.reason))

    def strategy(self, program: Program) -> Strategy:
        """Exhaustive for two clients, drawn by `--backend-seed` for more."""
        if len(program.clients) < LARGE:
            return Exhaustive(PREEMPTIONS)
        return Pct(self.backend.seed)

    def _explored(self, scenario: Scenario) -> Exploration:
        program = scenario.program
        strategy = self.strategy(program)
        limit, seconds = (FULL_SCHEDULES, FULL_SECONDS) if self.complete else (SCHEDULES, SECONDS)
        limit = DRAWN if self.complete and strategy.sampling else limit
        for times in PATIENT:
            watched = Watched(scenario)
            with self._subject(scenario) as subject:
                found = explore(
                    watched.program,
                    subject,
                    strategy,
                    limit=limit,
                    seconds=times * seconds,
                    least=LEAST_INSTRUMENTED if getattr(subject, "instrumented", False) else LEAST,
                    longest=max(LONGEST, times * seconds),
                    patience=STANDSTILL,
                )
            if watched.reached or found.status == "violated" or found.complete or self.complete:
                break
        if not watched.reached and found.schedule is None and not found.judged_unknown:
            raise Unknown(f"none of {found.schedules} schedules came to {scenario.point}")
        return found

    def _replayed(self, scenario: Scenario, schedule: Schedule) -> Exploration:
        with self._subject(scenario) as subject:
            return replay(scenario.program, subject, schedule)

    def _subject(self, scenario: Scenario) -> AbstractContextManager[Subject]:
        driver: Any = self.backend.driver
        if not isinstance(driver, Explorable):
            return nullcontext(DriverSubject(driver))
        return driver.explored(pristine=True) if scenario.pristine else driver.explored()

    def _enough(self, program: Program, found: Exploration) -> bool:
        """Whether an exploration that did not come to its end has run all that was promised."""
        over = found.schedule is None and not found.judged_unknown and found.schedules > 0
        return over and not (self.complete and len(program.clients) < LARGE)

    def _violation(self, program: Program, found: Exploration) -> Violation:
        assert found.schedule is not None
        assert found.history is not None
        adopt(found.history, self.history)
        path = self.folder / f"{program.name}.json"
        found.schedule.save(path)
        command = ["pytest", f"--backend={self.backend.id}", f"--backend-schedule={self.shown}/{path.name}"]
        command += [f"--backend-opt={name}={value}" for name, value in self.given.items()]
        lines = [found.reason, f"replay: {shlex.join(command)}", program.sentence, found.schedule.table()]
        witness = found.verdict.witness if found.verdict is not None else ()
        return Violation("\n".join(lines), witness=witness)

    def _summary(self, program: Program, found: Exploration) -> dict[str, Any]:
        """How much was explored, for the report and the history of the test."""
        return {
            "program": program.name,
            "strategy": "replay" if self.schedule is not None else self.strategy(program).describe(),
            "schedules": found.schedules,
            "pruned": found.pruned,
            "complete": found.complete,
            "seconds": round(found.seconds, 3),
        }


class Watched:
    """The program of a scenario, whose judge notes how many histories came to the point."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.reached = 0
        self.program = replace(scenario.program, judge=self.judge)

    def judge(self, history: History) -> Verdict:
        self.reached += self.scenario.reached(history)
        return self.scenario.program.judge(history)


def adopt(history: History, writer: HistoryWriter) -> None:
    """Writes the events of `history`, under the same numbers, as the first ones of `writer`."""
    for event in history.events:
        if event.e == "note" and event.f == "process" and event.given is not None:
            writer.new_process(event.given["who"])
        else:
            writer.append(
                event.p, event.e, event.f, ws=event.ws, given=event.given, out=event.out, err=event.err
            )
