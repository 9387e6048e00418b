"""Executes one run of a program: a fresh scope, its clients in their threads, the verdict on its history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from lockproof.checkers import Verdict
from lockproof.driver.recorder import RecordedClient
from lockproof.explore.calls import StepCaller
from lockproof.explore.lane import Choice, Lane, Option
from lockproof.explore.program import Program, Shared, Subject
from lockproof.explore.scheduler import Ending, Run, described
from lockproof.explore.strategies import Chooser
from lockproof.explore.threads import Pool
from lockproof.history import History, HistoryWriter
from lockproof.history.writer import HARNESS

MAX_STEPS = 2000
UNJUDGED = Verdict("valid", "not judged")


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

    @property
    def finding(self) -> str:
        """What a schedule file says of the verdict: nothing in it differs from run to run."""
        return str(self.verdict.details.get("anomaly", self.verdict.headline))


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
        """One run as `chooser` decides it, in a fresh scope; unknown when what surrounds it fails."""
        self._runs += 1
        writer = HistoryWriter(self._header)
        program, shared = self.program, Shared()
        sizes: list[int] = []
        run = Run(
            _Noting(chooser, writer),
            faults=program.faults,
            max_faults=program.max_faults,
            max_steps=MAX_STEPS,
            patience=self._patience,
            trace=chooser.trace,
            after_step=lambda: sizes.append(writer.size),
        )
        stage, left, ending = "opened", [], Ending("unknown")
        try:
            with self.subject.open(self._runs) as scope:

                def client(who: str) -> RecordedClient:
                    return RecordedClient(scope.client(who), who, writer, StepCaller(self._instrumented))

                stage = "prepared"
                if program.prepare is not None:
                    program.prepare(client("prepare"), shared)
                bodies: dict[str, Callable[[Lane], object]] = {
                    name: partial(_act, body, client(name), shared) for name, body in program.clients.items()
                }
                try:
                    ending = run.go(self._pool, bodies)
                finally:
                    run.unwind(self._pool)
                stage = "closed"
        except Exception as failure:  # noqa: BLE001 - told in the ending
            ending = Ending("unknown", f"the run could not be {stage}: {described(failure)}")
        finally:
            left = run.leave(self._pool)
        history = writer.history()
        verdict = self._verdict(ending, history) if chooser.judged else UNJUDGED
        return Outcome(ending, tuple(run.trail), history, verdict, tuple(sizes), tuple(left))

    def _verdict(self, ending: Ending, history: History) -> Verdict:
        if ending.how == "unknown":
            return Verdict("unknown", ending.why)
        if ending.how == "failed":
            return Verdict("violated", ending.why, details={"anomaly": "assertion"})
        verdict = self.program.judge(history)
        if ending.how == "deadlock" and verdict.status != "violated":
            return Verdict(self.program.deadlock, ending.why, details={"anomaly": "deadlock"})
        return verdict


@dataclass(frozen=True)
class _Noting:
    """Decides as `chooser` does, and writes its faults into the history."""

    chooser: Chooser
    writer: HistoryWriter

    def choose(self, run: Run, options: Sequence[Option]) -> Option | None:
        option = self.chooser.choose(run, options)
        if option is not None and option.fault is not None:
            given = {"on": run.lanes[option.client].name, "step": option.step}
            self.writer.append(HARNESS, "fault", option.fault, given=given)
        return option


def _act(
    body: Callable[[RecordedClient, Shared], object], client: RecordedClient, shared: Shared, lane: Lane
) -> None:
    body(client, shared)
