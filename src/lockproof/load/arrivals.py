"""Open load: jobs arrive at a fixed rate, whether or not somebody is free to do them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

SECOND = 1_000_000_000


class Arrivals:
    """The jobs that arrive at one process: every `shares`-th of `rate` per second, from number `share` on.

    A user takes the next one and does it when it is due, or at once where it is overdue. Its latency counts
    from when it was due: if every user is stuck, the jobs that arrive meanwhile wait, and that is measured
    (a closed loop would just ask less: "coordinated omission", G. Tene). Times are those of `clock` in
    nanoseconds. Safe for use by many threads.
    """

    def __init__(
        self, rate: float, share: int = 0, shares: int = 1, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.interval = round(shares * SECOND / rate)
        self.taken = 0
        self._first = round(share * SECOND / rate)
        self._clock = clock
        self._start = clock()
        self._mutex = threading.Lock()

    def begin(self) -> None:
        """The first job is due now."""
        self._start = self._clock()

    def take(self) -> int:
        """When the next job is due, which is the caller's from now on."""
        with self._mutex:
            self.taken += 1
            return self._due(self.taken - 1)

    def left(self) -> dict[str, Any]:
        """What nobody took: `n` jobs are due, the `oldest` for so many nanoseconds, each `interval` one."""
        oldest = self._clock() - self._due(self.taken)
        n = 0 if oldest < 0 else oldest // self.interval + 1
        return {"n": n, "oldest": max(oldest, 0), "interval": self.interval}

    def _due(self, number: int) -> int:
        return self._start + self._first + number * self.interval
