"""Runs a program under schedule after schedule, and says what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from lockproof.checkers import Verdict
from lockproof.checkers.verdict import Status
from lockproof.driver.recorder import RecordedClient
from lockproof.explore.calls import StepCaller
from lockproof.explore.program import Program, Shared, Subject
from lockproof.explore.schedule import Schedule
from lockproof.explore.scheduler import Choice, Ending, Lane, Run
from lockproof.explore.strategies import Chooser, Follower, Strategy
from lockproof.explore.threads import Pool
from lockproof.history import History, HistoryWriter

MAX_STEPS = 2000
PATIENCE = 10.0  # seconds of real time


@dataclass(frozen=True)
class Exploration:
    """What an exploration shows.

    `status`: `violated` with the failing `schedule`, its `history` and the `verdict` on it; `valid` when no
    schedule that was run violates anything and the strategy ran what it promises; else `unknown`, with
    the `reason` in one line. `schedules` were run to their end and judged, `pruned` were left when
    they became like an earlier one. `complete`: the whole space of an exhaustive strategy was
    covered. `judged_unknown` of the schedules had a history that the judge could not decide.
    """

    status: Status
    schedules: int
    pruned: int
    complete: bool
    reason: str = ""
    schedule: Schedule | None = None
    history: History | None = None
    verdict: Verdict | None = None
    seconds: float = 0.0
    judged_unknown: int = 0


@dataclass(frozen=True)
class Outcome:
    """One run: how it ended, what it did, and the verdict on it.

    `sizes` is the history's length after each step, `left` names the clients that would not end.
    """

    ending: Ending
    choices: tuple[Choice, ...]
    history: History
    verdict: Verdict
    sizes: tuple[int, ...]
    left: tuple[str, ...] = ()


class Explorer:
    """Executes single runs of one program on one subject; its threads live as long as its pool."""

    def __init__(self, program: Program, subject: Subject, pool: Pool, patience: float) -> None:
        self.program = program
        self.subject = subject
        self.name = str(getattr(subject, "name", type(subject).__name__))
        self._pool = pool
        self._patience = patience
        self._runs = 0
        self._instrumented = bool(getattr(subject, "instrumented", False))
        self._header = {
            "test": program.name,
            "backend": self.name,
            "capabilities": sorted(getattr(subject, "capabilities", ())),
            "clients": len(program.clients),
        }

    def execute(self, chooser: Chooser) -> Outcome:
        """One run as `chooser` decides it, in a fresh scope."""
        self._runs += 1
        writer = HistoryWriter(self._header)
        program, shared = self.program, Shared()
        sizes: list[int] = []
        run = Run(
            chooser,
            faults=program.faults,
            max_faults=program.max_faults,
            max_steps=MAX_STEPS,
            patience=self._patience,
            trace=chooser.trace,
            after_step=lambda: sizes.append(writer.size),
        )
        with self.subject.open(self._runs) as scope:

            def client(who: str) -> RecordedClient:
                return RecordedClient(scope.client(who), who, writer, StepCaller(self._instrumented))

            if program.prepare is not None:
                program.prepare(client("prepare"), shared)
            bodies: dict[str, Callable[[Lane], object]] = {
                name: partial(_act, body, client(name), shared) for name, body in program.clients.items()
            }
            ending = run.go(self._pool, bodies)
            left = run.unwind(self._pool, self._patience)
        for lane in run.lanes:
            if lane.name in left and not self._pool.worker(lane.index).wait(self._patience):
                self._pool.forget(lane.index)
        history = writer.history()
        verdict = self._verdict(ending, history) if chooser.judged else UNJUDGED
        return Outcome(ending, tuple(run.trail), history, verdict, tuple(sizes), tuple(left))

    def judge(self, history: History) -> Verdict:
        """The program's judgement."""
        return self.program.judge(history)

    def _verdict(self, ending: Ending, history: History) -> Verdict:
        if ending.how == "unknown":
            return Verdict("unknown", ending.why)
        if ending.how == "failed":
            return Verdict("violated", ending.why, details={"anomaly": "assertion"})
        verdict = self.judge(history)
        if ending.how == "deadlock" and verdict.status != "violated":
            return Verdict(self.program.deadlock, ending.why, details={"anomaly": "deadlock"})
        return verdict


UNJUDGED = Verdict("valid", "not judged")


def finding(verdict: Verdict) -> str:
    """What a schedule file says of a verdict: nothing in it differs from run to run."""
    return str(verdict.details.get("anomaly", verdict.headline))


def _act(
    body: Callable[[RecordedClient, Shared], object], client: RecordedClient, shared: Shared, lane: Lane
) -> None:
    body(client, shared)


def explore(
    program: Program,
    subject: Subject,
    strategy: Strategy,
    *,
    limit: int = 10_000,
    seconds: float | None = None,
    patience: float = PATIENCE,
) -> Exploration:
    """Runs `program` on `subject` under the schedules of `strategy` until one violates its judge.

    At most `limit` schedules are run, pruned ones included, and none is begun after `seconds`. A client that
    shows no progress for `patience` seconds of real time (it waits in a private mutex for another client, or
    really sleeps) ends the exploration as `unknown`.
    """
    start = time.monotonic()
    plan = strategy.plan()
    schedules = pruned = undecided = 0
    reason = ""

    def result(status: Status, reason: str, outcome: Outcome | None = None) -> Exploration:
        found = Exploration(status, schedules, pruned, plan.complete, reason)
        found = replace(found, seconds=time.monotonic() - start, judged_unknown=undecided)
        if outcome is None:
            return found
        schedule = Schedule(
            program.name, explorer.name, strategy.describe(), outcome.choices, finding(outcome.verdict)
        )
        return replace(found, schedule=schedule, history=outcome.history, verdict=outcome.verdict)

    with Pool() as pool:
        explorer = Explorer(program, subject, pool, patience)
        for chooser in plan.choosers(len(program.clients)):
            if schedules + pruned >= limit:
                reason = f"stopped after {limit} schedules"
                break
            if seconds is not None and time.monotonic() - start > seconds:
                reason = f"stopped after {seconds:g} s"
                break
            outcome = explorer.execute(chooser)
            if outcome.ending.how == "unknown":
                return result("unknown", outcome.ending.why, outcome)
            if not chooser.judged:
                pruned += 1
                continue
            schedules += 1
            if outcome.verdict.status == "violated":
                return result("violated", outcome.verdict.headline, outcome)
            if outcome.verdict.status == "unknown":
                undecided += 1
                reason = outcome.verdict.headline
    if undecided:
        return result("unknown", f"{undecided} of {schedules} schedules undecided: {reason}")
    if strategy.sampling or plan.complete:
        return result("valid" if schedules else "unknown", reason)
    return result("unknown", reason)


def replay(
    program: Program, subject: Subject, schedule: Schedule, *, patience: float = PATIENCE
) -> Exploration:
    """Runs `program` once more just as `schedule` says, and judges it anew.

    A run that differs is `unknown`, with the first step that does.
    """
    with Pool() as pool:
        outcome = Explorer(program, subject, pool, patience).execute(Follower(schedule.choices))
    verdict = outcome.verdict
    return Exploration(
        verdict.status,
        1,
        0,
        complete=False,
        reason=verdict.headline,
        schedule=replace(schedule, choices=outcome.choices, finding=finding(verdict)),
        history=outcome.history,
        verdict=verdict,
    )
