"""The fake's clock: real time by default; it can be frozen and moved forward."""

from __future__ import annotations

import threading
import time


class VirtualClock:
    """Seconds since the epoch. Token and URL expiry and file times follow it; delays are real."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.offset = 0.0
        self.frozen_at: float | None = None

    def time(self) -> float:
        frozen = self.frozen_at
        return (time.time() if frozen is None else frozen) + self.offset

    def advance(self, seconds: float) -> float:
        """Moves forward and returns the new time. Raises ValueError for a negative step."""
        if seconds < 0:
            raise ValueError(f"the clock only moves forward, got {seconds} s")
        with self.mutex:
            self.offset += seconds
        return self.time()

    def freeze(self) -> float:
        """Stands still (until `resume`), except for `advance`."""
        with self.mutex:
            if self.frozen_at is None:
                self.frozen_at = time.time()
        return self.time()

    def resume(self) -> float:
        """Runs again from where it stood."""
        with self.mutex:
            if self.frozen_at is not None:
                self.offset += self.frozen_at - time.time()
                self.frozen_at = None
        return self.time()
