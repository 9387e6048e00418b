"""A mixed load under drawn faults for as long as is asked for, in windows that are judged one by one.

A window is a fresh key space with a history of its own: some hundred operations under a plan of its own, all
healed, judged by the checkers and the counters, and forgotten when it is valid. So memory and disk hold one
window, however long the whole lasts, while the services below live on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from lockproof.chaos.arena import Arena
from lockproof.chaos.plan import Plan
from lockproof.checkers import require_valid
from lockproof.driver.recorder import RecordedClient
from lockproof.history import HistoryWriter
from lockproof.report.faults import SUMMED, counted
from lockproof.spec.outcome import Unknown, Violation
from lockproof.suites.faults.workload import UNFAIR, Workload

CLIENTS = ("ann", "ben", "cam", "dot", "eve")
WORKSPACES = ("default", "other")
OPERATIONS = 600
"""Operations of one window."""
EVERY = 8
"""A fault is begun about every so many operations."""
PROGRESS = 10.0
"""Seconds between two lines of progress."""
MOST_UNDECIDED = 0.02
"""The share of windows that may be undecided before the whole is: a search that ran out of budget once in
hours says nothing about the backend, and each is counted."""
RSS = Path("/proc/self/statm")
PAGE = 4096


@dataclass
class Tally:
    """What was done so far. `faults` are sums by the name of the fault, as in a report."""

    windows: int = 0
    operations: int = 0
    unknown: int = 0
    violations: int = 0
    undecided: list[str] = field(default_factory=list)
    faults: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, writer: HistoryWriter) -> None:
        """Counts a window that has ended."""
        history = writer.history()
        self.windows += 1
        self.operations += len(history.operations())
        self.unknown += sum(op.kind == "info" for op in history.operations())
        for entry in counted(history):
            sums = self.faults.setdefault(str(entry["fault"]), Counter())
            sums.update({key: int(entry[key]) for key in SUMMED})

    def total(self, key: str) -> int:
        """The sum of one count over all faults."""
        return sum(sums[key] for sums in self.faults.values())

    def counts(self) -> list[dict[str, Any]]:
        """For the report: an entry for each fault."""
        return [
            {"fault": name, **{key: sums[key] for key in SUMMED}}
            for name, sums in sorted(self.faults.items())
        ]

    def __str__(self) -> str:
        return (
            f"{self.windows} windows, {self.operations:,} operations, {self.total('injected'):,} faults, "
            f"{self.total('hits'):,} hits, {self.unknown:,} unknown outcomes, "
            f"{len(self.undecided)} undecided, {self.violations} violations"
        )


OpenWindow = Callable[[HistoryWriter], AbstractContextManager[Arena]]


@dataclass
class Soak:
    """Windows one after the other, for `seconds`.

    `open_history` begins the history of a window, `open_window` makes an arena on a fresh key space that
    records into it; `plan` draws the faults of a window from a seed, `open_client` says what a client of it
    is. `tell` takes a line of progress, `report` the sums, however it ends.
    """

    title: str
    seconds: float
    seed: int
    open_history: Callable[[int], HistoryWriter]
    open_window: OpenWindow
    plan: Callable[[Arena, int], Plan]
    tell: Callable[[str], None]
    open_client: Callable[[Arena, int], Callable[[str], RecordedClient]]
    report: Callable[[Tally], None]
    tally: Tally = field(default_factory=Tally)
    load: Workload | None = None

    def prove(self) -> None:
        """Goes on until the time is over, at least for one window. Raises the first `Violation`, whose
        history is kept, or `Unknown` when too many windows were undecided."""
        begun = time.monotonic()
        try:
            with self._progress(begun):
                while not self.tally.windows or time.monotonic() - begun < self.seconds:
                    self._window(self.tally.windows)
        finally:
            self.report(self.tally)
        if len(self.tally.undecided) > MOST_UNDECIDED * self.tally.windows:
            first = self.tally.undecided[0]
            raise Unknown(f"{len(self.tally.undecided)} of {self.tally.windows} windows undecided: {first}")

    def _window(self, number: int) -> None:
        writer = self.open_history(number)
        valid = False
        try:
            self._judge(writer, self.seed + number)
            valid = True
        except Violation as violation:
            self.tally.violations += 1
            violation.history = writer  # type: ignore[attr-defined]
            raise
        except Unknown as unknown:
            self.tally.undecided.append(str(unknown))
        finally:
            self.load = None
            writer.close()
            self.tally.add(writer)
            if valid and writer.path is not None:
                writer.path.unlink()

    def _judge(self, writer: HistoryWriter, seed: int) -> None:
        with self.open_window(writer) as arena:
            arena.was_hurt = self.tally.windows > 0  # by the windows before
            plan = self.plan(arena, seed)
            some = [ws for ws in WORKSPACES if ws == "default" or "workspaces" in arena.backend.capabilities]
            load = self.load = Workload(
                arena,
                plan,
                CLIENTS,
                seed,
                workspaces=some,
                open_client=self.open_client(arena, seed),
                late_writes=True,
            )
            try:
                load.run(OPERATIONS)
                load.require_kept()
                require_valid(writer.history())
            except Violation as violation:
                raise Violation(f"{violation}\n{plan}", witness=violation.witness) from violation

    @contextmanager
    def _progress(self, begun: float) -> Iterator[None]:
        """Tells how far it is, every ten seconds and at the end."""
        over = threading.Event()

        def tell() -> None:
            gone = timedelta(seconds=round(time.monotonic() - begun))
            whole = timedelta(seconds=round(self.seconds))
            load = self.load
            now = f", {load.conductor.operations} of {OPERATIONS} in this one" if load else ""
            self.tell(f"soak {self.title} {gone} of {whole}: {self.tally}{now}{memory()}")

        def go_on() -> None:
            while not over.wait(PROGRESS):
                tell()

        teller = threading.Thread(target=go_on, name="soak-progress", daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()
            tell()


def memory() -> str:
    """How much this process holds, where the system tells."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(RSS.read_text(encoding="ascii").split()[1])
        return f", {pages * PAGE / 1e6:.0f} MB"
    return ""


def possible(arena: Arena, families: Sequence[str]) -> Sequence[str]:
    """The nemeses of a long run: those under which clients can be judged fairly."""
    return arena.possible(families, besides=UNFAIR)
