"""Where a test takes hold of time and of schedules; production uses the defaults."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

Checkpoint = Callable[[str], None]
"""Called with the name of the step that comes next (`files.put`, `lock.acquire` …); may block or raise."""


class Clock(Protocol):
    """Time as the backend sees it."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC, for times that come from a service."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back, for deadlines."""

    def sleep(self, seconds: float) -> None:
        """Lets `seconds` pass."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def no_checkpoint(step: str) -> None:
    """The checkpoint of production: nothing waits."""
