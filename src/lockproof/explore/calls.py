"""How a recorded client's calls are made under the scheduler: in its own thread, one step after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lockproof.driver.errors import DriverError
from lockproof.driver.recorder import defect
from lockproof.explore.lane import Lane
from lockproof.explore.steps import ANYTHING, HERE, LOST_REPLY, Crashed

T = TypeVar("T")


class StepCaller:
    """Makes the calls of the client `lane`, and those of nobody's thread at once.

    `instrumented`: the subject's own checkpoints are the steps; an operation begins with its first one,
    which is as late as can be: the shorter an operation, the more of them are surely one after the other.
    """

    def __init__(self, instrumented: bool) -> None:
        self.gone = False
        self._instrumented = instrumented

    def call(
        self, step: str, begin: Callable[[], object], act: Callable[[], T], late: Callable[[], object]
    ) -> T:
        lane = HERE.lane
        if not isinstance(lane, Lane):
            begin()
            return _answered(act)
        lost = False
        if self._instrumented:
            lane.begin_later(begin)
        else:
            lost = lane.reach(step, ANYTHING, True, (LOST_REPLY,)) == LOST_REPLY
            lane.begin(begin)
        try:
            result = _answered(act)
        except DriverError:
            lane.end()
            if lost:
                raise _lost() from None
            raise
        lane.end()
        if lost:
            raise _lost()
        return result

    def close(self, act: Callable[[], T]) -> None:
        self.gone = True
        _answered(act)

    def join(self, timeout: float) -> None:
        """Nothing to wait for: calls are made in the thread of who makes them."""


def _lost() -> DriverError:
    return DriverError("timeout", False, "the reply was lost")


def _answered(act: Callable[[], T]) -> T:
    try:
        return act()
    except (DriverError, Crashed):
        raise
    except BaseException as failure:
        raise defect(failure) from failure
