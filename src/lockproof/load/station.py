"""What the users of one process of a load run share: the backend, the history, the arrivals, the end."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from lockproof.driver.recorder import RecordedScope
from lockproof.history.writer import HARNESS, HistoryWriter
from lockproof.load.arrivals import Arrivals
from lockproof.load.operator import Operator, Sample
from lockproof.load.plan import Plan
from lockproof.report.redact import Redactor


class Station:
    """One process's part of a load run, number `index` of `plan.workers`. Safe for use by many threads.

    Raises what the driver raises when it cannot be reached.
    """

    def __init__(self, plan: Plan, index: int, path: Path) -> None:
        self.plan = plan
        self.path = path
        self.stop = threading.Event()
        self.arrivals = Arrivals(plan.rate, index % plan.workers, plan.workers) if plan.rate else None
        self._index = index
        self._operators = 0
        self._busy = 0
        self._changed = threading.Condition()
        redactor = Redactor()
        redactor.learn(plan.options)
        header = {
            "test": f"load {plan.scenario}",
            "backend": plan.backend,
            "target": plan.target,
            "capabilities": list(plan.capabilities),
            "seed": plan.seed,
            "clients": plan.users // plan.workers,
        }
        scope = plan.spec.connect().open_scope(plan.scope, attach=plan.attach)
        self.history = HistoryWriter(header, path, redactor.text)
        self.scope = RecordedScope(scope, self.history, plan.timeout, plan.scope)
        self.scope.__enter__()

    def operator(self) -> Operator:
        """One more user."""
        with self._changed:
            self._operators += 1
            who = f"user {self._index + 1}.{self._operators}"
        return Operator(who, self.plan, self.scope.client, self.history, self.stop)

    def work(self, operator: Operator, due: int | None) -> list[Sample]:
        """The operator's next job, unless the run has ended."""
        with self._changed:
            if self.stop.is_set():
                return []
            self._busy += 1
        try:
            return operator.work(due)
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def close(self) -> bool:
        """Ends the run: jobs in progress are finished, clients and history closed. Returns whether all jobs
        ended. Closing twice is harmless."""
        with self._changed:
            if self.stop.is_set():
                return True
            self.stop.set()
        if self.arrivals is not None:
            self.history.append(HARNESS, "note", "arrivals", given=self.arrivals.left())
        deadline = time.monotonic() + 2 * self.plan.timeout + 5
        with self._changed:
            ended = self._changed.wait_for(lambda: not self._busy, deadline - time.monotonic())
        with suppress(Exception):  # a client that cannot be closed is left behind: its calls are recorded
            self.scope.__exit__(None, None, None)
        self.history.close()
        return ended
