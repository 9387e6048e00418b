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
from typing import Literal, NamedTuple, Protocol

from lockproof.driver.errors import DriverError
from lockproof.explore.clock import CLOCK
from lockproof.explore.happens_before import INVOKES, RETURNS, Trace
from lockproof.explore.steps import ANYTHING, CRASH, HERE, Crashed, Timer
from lockproof.explore.threads import Pool

TICK = 0.002  # seconds between two looks at a client that is inside a service
CALM = 0.05  # seconds between two looks when no client is

State = Literal["ready", "running", "outside", "blocked", "ended"]


class Choice(NamedTuple):
    """Who does which step, and with what fault."""

    client: str
    step: str
    fault: str | None = None


class Diverged(Exception):
    """A run was to repeat an earlier one, and did not: the subject goes by more than the schedule."""


class Option(NamedTuple):
    """Something that may happen next. `free`: the client that went last goes on, or cannot go on."""

    client: int
    step: str
    fault: str | None
    free: bool


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


class Lane:
    """One client of a run, as the scheduler and its own thread see it."""

    __slots__ = (
        "back",
        "blocked",
        "clock",
        "dead",
        "fault",
        "faults",
        "footprint",
        "index",
        "label",
        "name",
        "opening",
        "ready",
        "run",
        "state",
        "thread",
        "turn",
        "wake",
        "what",
    )

    def __init__(self, run: Run, index: int, name: str) -> None:
        self.run = run
        self.index = index
        self.name = name
        self.state: State = "running"
        self.turn = threading.Lock()
        self.turn.acquire()
        self.label = "start"
        self.what: tuple[str, bool] = (ANYTHING, True)
        self.faults: Collection[str] = ()
        self.fault: str | None = None
        self.footprint: set[tuple[str, bool]] = set()
        self.clock: Timer | None = None
        self.wake = 0.0
        self.ready: Callable[[], bool] | None = None
        self.blocked: Callable[[], bool] | None = None
        self.back = threading.Event()
        self.opening: Callable[[], object] | None = None
        self.dead = False
        self.thread = 0

    def reach(self, label: str, touches: str, write: bool, faults: Collection[str]) -> str | None:
        """Waits for this client's turn to do a step; the fault chosen for it."""
        self.label = label
        self.what = (touches, write)
        self.faults = faults
        return self.run.reached(self)

    def sleep(self, clock: Timer, seconds: float) -> None:
        """Waits until virtual time has come that far."""
        seconds = max(seconds, 0.0)
        self.touch(CLOCK, False)
        self.clock = clock
        self.wake = clock.time + seconds
        self.reach(f"sleep {seconds:g} s", CLOCK, True, ())
        self.clock = None
        clock.time = max(clock.time, self.wake)

    def wait(self, label: str, ready: Callable[[], bool], touches: str) -> None:
        """Waits until another client has made `ready()` true."""
        self.ready = ready
        self.reach(label, touches, False, ())
        self.ready = None

    def touch(self, what: str, write: bool) -> None:
        """Adds to what the step that is being done has touched."""
        self.footprint.add((what, write))

    def leave(self, blocked: Callable[[], bool]) -> None:
        """Goes into a service, keeping the baton for the time being."""
        self.run.left(self, blocked)

    def come_back(self) -> None:
        """Comes out of a service; waits for its turn when others went on meanwhile."""
        self.run.came_back(self)

    def begin(self, record: Callable[[], object]) -> None:
        """An operation begins with this step."""
        self.footprint.add((INVOKES, True))
        record()

    def begin_later(self, record: Callable[[], object]) -> None:
        """An operation begins with this client's next step, or when it ends without one."""
        self.opening = record

    def end(self) -> None:
        """An operation returns in this step."""
        self.open()
        self.footprint.add((RETURNS, True))

    def open(self) -> None:
        """Begins the operation that `begin_later` announced."""
        if self.opening is not None:
            record, self.opening = self.opening, None
            self.begin(record)


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

        Afterwards no client goes on; `leave_behind` gets rid of the threads.
        """
        for index, (name, body) in enumerate(bodies.items()):
            self.lanes.append(Lane(self, index, name))
            self._unstarted.append(
                partial(pool.worker(index).start, partial(self._live, self.lanes[-1], body))
            )
        self._unstarted.reverse()
        self._pass_on()
        self._watch()
        assert self.ending is not None
        return self.ending

    def unwind(self, pool: Pool, patience: float) -> list[str]:
        """Kills the clients that have not ended, one after the other; the names of those that live on."""
        parked = [lane for lane in self.lanes if lane.state == "ready"]
        for lane in parked:
            lane.turn.release()
            pool.worker(lane.index).wait(patience)  # what it holds may be what the others wait for
        for lane in self.lanes:
            if lane not in parked and lane.turn.locked():
                lane.turn.release()
        return [lane.name for lane in self.lanes if not pool.worker(lane.index).wait(patience)]

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
