"""One run: clients in threads of their own, of which exactly one goes on at a time.

The right to go on (the baton) is handed from thread to thread: a client that reaches a step asks the
chooser who goes next, and when that is another, wakes it and waits. No thread stands in between, so a
client that goes on costs no switch. The thread that called `Run.go` only watches.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from lockproof.driver.errors import DriverError
from lockproof.explore.happens_before import Trace
from lockproof.explore.lane import Choice, Lane, Option
from lockproof.explore.steps import ANYTHING, CRASH, HERE, Crashed
from lockproof.explore.threads import Pool

TICK = 0.002  # seconds between two looks at a client that is inside a service
CALM = 0.05  # seconds between two looks when no client is
GRACE = 0.2  # seconds that a client inside a service has to come out before its key space is closed


class Diverged(Exception):
    """A run was to repeat an earlier one, and did not: the subject goes by more than the schedule."""


class Chooser(Protocol):
    """Decides a run, one choice after the other."""

    def choose(self, run: Run, options: Sequence[Option]) -> Option | None:
        """One of `options`, or `None` to end the run here; it has ended when there are none."""


@dataclass(frozen=True)
class Ending:
    """How a run ended, and why in one line.

    `done`: every client came to its end. `cut`: the chooser ended it. `deadlock`: nobody can go on.
    `failed`: a client's assertion does not hold. `unknown`: the run is worth nothing.
    """

    how: Literal["done", "cut", "deadlock", "failed", "unknown"]
    why: str = ""


class Run:
    """Executes clients under a `chooser`; used once.

    `faults` may be chosen, at most `max_faults`; a run of more than `max_steps` steps, and a client that
    shows no progress for `patience` seconds of real time, make it unknown. `trace`, where given, is
    told what every step touched.
    """

    def __init__(
        self,
        chooser: Chooser,
        *,
        faults: Collection[str],
        max_faults: int,
        max_steps: int,
        patience: float,
        trace: Trace | None = None,
        after_step: Callable[[], object] | None = None,
    ) -> None:
        self.trail: list[Choice] = []
        self.trace = trace
        self.last: int | None = None
        self.lanes: list[Lane] = []
        self.ending: Ending | None = None
        self._chooser = chooser
        self._faults = frozenset(faults)
        self._faults_left = max_faults
        self._max_steps = max_steps
        self._patience = patience
        self._after_step = after_step
        self._mutex = threading.Lock()
        self._over = threading.Lock()
        self._over.acquire()
        self._unstarted: list[Callable[[], None]] = []
        self._waiting_for_service = False
        self._anybody_outside = False
        self._progress = 0

    # --- the thread that watches ---

    def go(self, pool: Pool, bodies: Mapping[str, Callable[[Lane], object]]) -> Ending:
        """Runs every body until all have ended or the run is over; how it ended.

        Afterwards no client goes on. `unwind`, and `leave` once the scope is closed, get rid of the threads.
        """
        for index, (name, body) in enumerate(bodies.items()):
            self.lanes.append(Lane(self, index, name))
            self._unstarted.append(
                partial(pool.worker(index).start, partial(self._live, self.lanes[-1], body))
            )
        self._unstarted.reverse()
        try:
            self._guarded(self._pass_on)
            self._watch()
        finally:
            self._finish(Ending("unknown", "interrupted"))
        assert self.ending is not None
        return self.ending

    def unwind(self, pool: Pool) -> None:
        """Kills the clients that have not ended, one after the other, as far as they stand before a step."""
        parked = [lane for lane in self.lanes if lane.state == "ready"]
        for lane in parked:
            lane.turn.release()
            pool.worker(lane.index).wait(self._patience)  # what it holds may be what the others wait for
        for lane in self.lanes:
            if lane not in parked and lane.turn.locked():
                lane.turn.release()
                pool.worker(lane.index).wait(GRACE)

    def leave(self, pool: Pool) -> list[str]:
        """Waits for the threads of the clients; who does not come back is left behind and named."""
        until = time.monotonic() + self._patience
        lost = [
            lane for lane in self.lanes if not pool.worker(lane.index).wait(max(0, until - time.monotonic()))
        ]
        for lane in lost:
            pool.forget(lane.index)
        return [lane.name for lane in lost]

    def _watch(self) -> None:
        seen, since = -1, time.monotonic()
        while not self._over.acquire(timeout=TICK if self._anybody_outside else CALM):
            with self._mutex:
                if self.ending is not None:
                    continue
                if self._progress != seen:
                    seen, since = self._progress, time.monotonic()
            self._guarded(self._look_outside)
            if self._progress == seen and time.monotonic() - since > self._patience:
                self._no_progress()

    def _look_outside(self) -> None:
        """Passes the baton on from a client that a service makes wait, or to one that it let go."""
        if self._waiting_for_service:
            if any(lane.state == "blocked" and lane.back.is_set() for lane in self.lanes):
                self._waiting_for_service = False
                self._pass_on()
            return
        for lane in self.lanes:
            blocked = lane.blocked
            if lane.state != "outside" or blocked is None or not blocked():
                continue
            with self._mutex:
                if lane.state != "outside" or lane.blocked is not blocked:
                    continue
                lane.state = "blocked"
                lane.footprint.add((ANYTHING, True))
            self._stop(lane)
            return

    def _no_progress(self) -> None:
        running = [lane for lane in self.lanes if lane.state in ("running", "outside")]
        if running:
            lane = running[0]
            where = _line_of(lane.thread)
            self._finish(
                Ending(
                    "unknown",
                    f"client {lane.name} showed no progress for {self._patience:g} s: its last step was "
                    f"{lane.label!r}, and it stands in {where}",
                )
            )
        else:
            self._finish(Ending("deadlock", self._nobody()))

    # --- the threads of the clients ---

    def _live(self, lane: Lane, body: Callable[[Lane], object]) -> None:
        HERE.lane = lane
        lane.thread = threading.get_ident()
        try:
            body(lane)
        except (Crashed, DriverError):
            pass  # killed by the schedule, or refused: the client's end
        except AssertionError as failure:
            self._finish(Ending("failed", f"client {lane.name}: {failure or 'an assertion does not hold'}"))
        except BaseException as failure:  # noqa: BLE001 - told in the ending
            self._finish(Ending("unknown", f"client {lane.name} failed: {described(failure)}"))
        finally:
            HERE.lane = None
        lane.state = "ended"
        if self.ending is None:
            self._guarded(partial(self._stop, lane))

    def reached(self, lane: Lane) -> str | None:
        """`lane` stands before a step: hands the baton on and waits for it to come back."""
        if self.ending is not None or lane.dead:
            raise Crashed
        lane.state = "ready"
        self._guarded(partial(self._stop, lane))
        return self._resume(lane)

    def _resume(self, lane: Lane) -> str | None:
        lane.turn.acquire()
        if self.ending is not None:
            raise Crashed
        fault = lane.fault
        if fault == CRASH:
            lane.footprint.add((ANYTHING, True))
            lane.dead = True
            raise Crashed
        lane.footprint.add(lane.what)
        lane.open()
        return fault

    def left(self, lane: Lane, blocked: Callable[[], bool]) -> None:
        if self.ending is not None or lane.dead:
            raise Crashed
        self._anybody_outside = True
        lane.back.clear()
        lane.blocked = blocked
        lane.state = "outside"

    def came_back(self, lane: Lane) -> None:
        with self._mutex:
            kept = lane.state == "outside"
            if kept:
                lane.state = "running"
        if kept:
            return
        lane.label = f"{lane.label}, let go"
        lane.what = (ANYTHING, True)
        lane.faults = ()
        lane.back.set()
        self._resume(lane)

    # --- whoever holds the baton ---

    def _stop(self, lane: Lane) -> None:
        """The step that `lane` was doing is over: somebody's next step comes."""
        if lane.index == self.last:
            if any(other.state == "blocked" for other in self.lanes):
                lane.footprint.add((ANYTHING, True))  # the step may have let another's statement happen
            if self.trace is not None:
                self.trace.add(lane.index, lane.fault, lane.footprint)
            if self._after_step is not None:
                self._after_step()
        lane.footprint = set()
        self._pass_on()

    def _pass_on(self) -> None:
        self._progress += 1
        if self._unstarted:
            self._unstarted.pop()()
            return
        self._settle()
        options = self._options()
        if not options and any(other.state == "blocked" for other in self.lanes):
            self._waiting_for_service = True
            return
        if len(self.trail) >= self._max_steps:
            self._finish(Ending("unknown", f"the run went on for more than {self._max_steps} steps"))
            return
        option = self._chooser.choose(self, options)
        if option is None:
            self._finish(self._ended(options))
            return
        chosen = self.lanes[option.client]
        self.trail.append(Choice(chosen.name, option.step, option.fault))
        self.last = option.client
        chosen.fault = option.fault
        if option.fault is not None:
            self._faults_left -= 1
        chosen.state = "running"
        chosen.turn.release()

    def _ended(self, options: Sequence[Option]) -> Ending:
        if options:
            return Ending("cut")
        waiting = any(lane.state != "ended" for lane in self.lanes)
        return Ending("deadlock", self._nobody()) if waiting else Ending("done")

    def _settle(self) -> None:
        """Waits until every client that a service made wait is let go, or still waits."""
        for lane in self.lanes:
            if lane.state != "blocked" or lane.blocked is None:
                continue
            deadline = time.monotonic() + self._patience
            while not lane.back.is_set() and not lane.blocked():
                lane.back.wait(TICK)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"client {lane.name} is let go in {lane.label!r}, and does not return")
            if lane.back.is_set():
                lane.state = "ready"

    def _options(self) -> list[Option]:
        ready: list[Lane] = []
        asleep: list[Lane] = []
        for lane in self.lanes:
            if lane.state == "ready" and (lane.ready is None or lane.ready()):
                (ready if lane.clock is None else asleep).append(lane)
        first: Collection[Lane] = ready
        if any(lane.index == self.last for lane in ready):
            first = [self.lanes[self.last]]  # type: ignore[index]
        elif not ready and asleep:
            soonest = min(lane.wake for lane in asleep)
            first = [lane for lane in asleep if lane.wake == soonest]
        options = []
        for lane in sorted((*ready, *asleep), key=lambda lane: (lane not in first, lane.index)):
            free = lane in first
            options.append(Option(lane.index, lane.label, None, free))
            if self._faults_left > 0 and self._faults:
                offered = self._faults.intersection((*lane.faults, CRASH))
                options.extend(Option(lane.index, lane.label, fault, free) for fault in sorted(offered))
        return options

    def _nobody(self) -> str:
        waits = [f"{lane.name} in {lane.label!r}" for lane in self.lanes if lane.state != "ended"]
        return f"nobody can go on: {', '.join(waits)}"

    def _guarded(self, act: Callable[[], object]) -> None:
        """Does `act`; a failure of the explorer, or of what it asks, ends the run."""
        try:
            act()
        except Exception as failure:  # noqa: BLE001 - told in the ending
            self._finish(
                Ending("unknown", str(failure) if isinstance(failure, Diverged) else described(failure))
            )

    def _finish(self, ending: Ending) -> None:
        with self._mutex:
            if self.ending is None:
                self.ending = ending
                self._over.release()


def described(failure: BaseException) -> str:
    """A failure of somebody else's code, with the line that it comes from."""
    trace = failure.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
    return f"{type(failure).__name__}: {failure}{where}"


def _line_of(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    return "no code" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
