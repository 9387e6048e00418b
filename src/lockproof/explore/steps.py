"""What a driver or a fake says of its steps, and how a client is killed at one.

Outside exploration all of it costs next to nothing and does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

ANYTHING = "*"
CRASH = "crash"
LOST_REPLY = "lost reply"


class Crashed(BaseException):
    """Raised in a client's thread when the schedule kills it: no code of the client may go on.

    It is no `Exception`, so that no driver mistakes it for a failure that it may handle. What a client
    does while it unwinds never reaches another step.
    """


class Controlled(Protocol):
    """A client under a controlled scheduler, as its own thread sees it."""

    def reach(self, label: str, touches: str, write: bool, faults: Collection[str]) -> str | None: ...

    def sleep(self, clock: Timer, seconds: float) -> None: ...

    def wait(self, label: str, ready: Callable[[], bool], touches: str) -> None: ...

    def touch(self, what: str, write: bool) -> None: ...

    def leave(self, blocked: Callable[[], bool]) -> None: ...

    def come_back(self) -> None: ...


class Timer(Protocol):
    """Virtual time: `time` in seconds."""

    time: float


class _Here(threading.local):
    lane: Controlled | None = None


HERE = _Here()  # `HERE.lane` is the controlled client whose thread this is, None outside exploration


def checkpoint(
    step: str, *, touches: str = ANYTHING, write: bool = True, faults: Collection[str] = ()
) -> str | None:
    """Called just before `step` is done; returns when it is this client's turn to do it.

    Returns the fault that the schedule chose for the step among `faults`, and `None` when it is to be done
    as it is. Outside exploration, and in threads that are not a client's own, it returns `None` at once.

    `step` names the step for a reader and must be the same in every run: no random ids. `touches` and
    `write` say what the step may conflict with: two steps of two clients may be swapped without
    anybody noticing when they touch different things, or both only read. `"*"` touches everything.
    Saying too little makes the pruned exploration miss schedules. Raises `Crashed` when the schedule
    kills the client here.
    """
    lane = HERE.lane
    return None if lane is None else lane.reach(step, touches, write, faults)


@contextmanager
def outside(blocked: Callable[[], bool]) -> Iterator[None]:
    """Stands around a call into a service that may make it wait for another client.

    When the call does not return at once, the scheduler asks `blocked()` (in another thread): true means that
    the service makes it wait, so other clients run; they run first, and the call's return is a
    step of its own. Outside exploration it does nothing. Not to be nested.
    """
    lane = HERE.lane
    if lane is None:
        yield
        return
    lane.leave(blocked)
    try:
        yield
    finally:
        lane.come_back()
