"""One client of a run: where it stands, what comes next, and what its current step has touched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Literal, NamedTuple, Protocol

from lockproof.explore.clock import CLOCK
from lockproof.explore.happens_before import INVOKES, RETURNS
from lockproof.explore.steps import ANYTHING, Timer

State = Literal["ready", "running", "outside", "blocked", "ended"]


class Choice(NamedTuple):
    """Who does which step, and with what fault."""

    client: str
    step: str
    fault: str | None = None


class Option(NamedTuple):
    """Something that may happen next. `free`: the client that went last goes on, or cannot go on."""

    client: int
    step: str
    fault: str | None
    free: bool


class Scheduler(Protocol):
    """What a lane asks of its run; each call returns when it is the lane's turn."""

    def reached(self, lane: Lane) -> str | None: ...

    def left(self, lane: Lane, blocked: Callable[[], bool]) -> None: ...

    def came_back(self, lane: Lane) -> None: ...


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

    def __init__(self, run: Scheduler, index: int, name: str) -> None:
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
