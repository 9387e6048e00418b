"""Virtual time: a clock that costs nothing and that the schedule moves."""

from __future__ import annotations

from lockproof.explore.steps import HERE

EPOCH = 1_800_000_000.0  # seconds since 1970; a fixed start makes every run of a schedule alike
CLOCK = "clock"


class ExploredClock:
    """Time as a schedule lets it pass, for a backend (`tofu_databricks.seams.Clock`) and for a waiter.

    Time stands still while clients work. Sleeping is a step. When everybody sleeps, time advances to the
    first who wakes; waking one sooner, while another has work to do, is a preemption: the other is slow.
    Outside exploration `sleep` advances the clock at once.
    """

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return EPOCH + self.monotonic()

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        if HERE.lane is not None:
            HERE.lane.touch(CLOCK, False)
        return self.time

    def sleep(self, seconds: float) -> None:
        """Returns when `seconds` of virtual time have passed."""
        if HERE.lane is None:
            self.time += max(seconds, 0.0)
        else:
            HERE.lane.sleep(self, seconds)

    def pause(self, seconds: float) -> None:
        """The same, as `lockproof.driver.waiting.Clock` calls it."""
        self.sleep(seconds)
