"""Runs a program under schedule after schedule, and says what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from lockproof.checkers import Verdict
from lockproof.checkers.verdict import Status
from lockproof.explore.execution import Explorer, Outcome
from lockproof.explore.program import Program, Subject
from lockproof.explore.schedule import Schedule
from lockproof.explore.shrink import shrink
from lockproof.explore.strategies import Follower, Strategy
from lockproof.explore.threads import Pool
from lockproof.history import History

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


def explore(
    program: Program,
    subject: Subject,
    strategy: Strategy,
    *,
    limit: int = 10_000,
    seconds: float | None = None,
    least: int = 0,
    longest: float | None = None,
    patience: float = PATIENCE,
    shrinking: int = 1000,
) -> Exploration:
    """Runs `program` on `subject` under the schedules of `strategy` until one violates its judge.

    At most `limit` schedules are run, pruned ones included. None is begun after `seconds` once `least` were
    run, so that the first ones do not hang on the speed of a machine, nor any after `longest`. A failing one
    is replayed, and shrunk with up to `shrinking` more runs. A client that shows no progress for `patience`
    seconds of real time (it waits in a private mutex for another client, or really sleeps) ends the
    exploration as `unknown`. So do a subject that does not repeat itself, and, unless the program says
    otherwise, a deadlock.
    """
    start = time.monotonic()
    plan = strategy.plan()
    schedules = pruned = undecided = 0
    reason = ""

    def result(
        status: Status, reason: str, outcome: Outcome | None = None, minimal: bool = False
    ) -> Exploration:
        found = Exploration(status, schedules, pruned, plan.complete, reason)
        found = replace(found, seconds=time.monotonic() - start, judged_unknown=undecided)
        if outcome is None:
            return found
        schedule = Schedule(
            program.name, explorer.name, strategy.describe(), outcome.choices, outcome.finding, minimal
        )
        return replace(found, schedule=schedule, history=outcome.history, verdict=outcome.verdict)

    with Pool() as pool:
        explorer = Explorer(program, subject, pool, patience)
        for chooser in plan.choosers(len(program.clients)):
            if schedules + pruned >= limit:
                reason = f"stopped after {limit} schedules"
                break
            allowed = longest if schedules + pruned < least else seconds
            if allowed is not None and time.monotonic() - start > allowed:
                reason = f"stopped after {allowed:g} s"
                break
            outcome = explorer.execute(chooser)
            nobody = outcome.ending.how == "deadlock" and outcome.verdict.status == "unknown"
            if outcome.ending.how == "unknown" or nobody:
                return result("unknown", outcome.ending.why, outcome)
            if not chooser.judged:
                pruned += 1
                continue
            schedules += 1
            if outcome.verdict.status == "violated":
                again = explorer.execute(Follower(outcome.choices))
                if again.finding != outcome.finding:
                    why = f"{outcome.verdict.headline}; the same schedule once more: {again.verdict.headline}"
                    return result("violated", f"does not repeat itself: {why}", outcome)
                outcome, minimal = shrink(explorer, again, shrinking)
                return result("violated", outcome.verdict.headline, outcome, minimal)
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

    A run that differs is `unknown`, with the first step that does. A shrunk schedule ends where its finding
    shows; one that shows nothing there is run again, and from its last step on to the end of every client, so
    that `valid` is never said of a beginning. The `reason` then tells which finding is no longer shown.
    """
    with Pool() as pool:
        explorer = Explorer(program, subject, pool, patience)
        outcome = explorer.execute(Follower(schedule.choices))
        if outcome.ending.how == "cut" and outcome.verdict.status != "violated":
            outcome = explorer.execute(Follower(schedule.choices, go_on=True))
    verdict = outcome.verdict
    if schedule.finding and verdict.status == "valid":
        taken = f"its {len(schedule.choices)} steps were taken, and the rest of the run is valid too"
        verdict = replace(verdict, headline=f"no longer shows {schedule.finding!r}: {taken}")
    elif schedule.finding and verdict.status == "unknown":
        why = f"the replay did not show {schedule.finding!r}: {verdict.headline}"
        verdict = replace(verdict, headline=why)
    return Exploration(
        verdict.status,
        1,
        0,
        complete=False,
        reason=verdict.headline,
        schedule=replace(schedule, choices=outcome.choices, finding=outcome.finding),
        history=outcome.history,
        verdict=verdict,
    )
