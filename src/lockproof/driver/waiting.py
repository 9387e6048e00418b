"""How OpenTofu waits for a held lock: `LockWithContext`, over any driver's client.

Source: opentofu internal/states/statemgr/locker.go:88-134 (back-off), 251-265 (what is retried).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lockproof.driver.api import Client, LockInfo
from lockproof.driver.errors import Locked

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 16.0
IMMEDIATE_RETRIES = 100


class Clock(Protocol):
    """Time as a waiter needs it."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def pause(self, seconds: float) -> None:
        """Returns when `seconds` have passed."""


class WallClock:
    """Real time."""

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class ScriptedClock:
    """Time that passes only while a waiter pauses, and things that happen in those pauses.

    `script` maps the number of a pause, counted from 1, to what happens during it; `pauses` is every
    pause so far, in seconds. A test of waiting needs neither threads nor real time with it.
    """

    script: Mapping[int, Callable[[], object]] = field(default_factory=dict)
    pauses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds
        if happening := self.script.get(len(self.pauses)):
            happening()


def lock_with_backoff(
    client: Client, workspace: str, info: LockInfo, *, timeout: float, clock: Clock | None = None
) -> str:
    """Takes the lock as `tofu -lock-timeout=TIMEOUT` does and returns its id; `timeout` is in seconds.

    A refusal that names a holder is retried after 1, 2, 4, 8, 16, 16, … s until the time is up; then
    the last refusal is raised, without a further attempt. `timeout=0` is one attempt. A refusal
    that names no holder stands for OpenTofu's `InconsistentRead` (the holder vanished between refusal
    and read) and is retried at once, whatever the time; OpenTofu does so for ever, here at most
    `IMMEDIATE_RETRIES` times in a row. A holder without an id, and any other error, is raised at once.
    """
    clock = clock or WallClock()
    deadline = clock.now() + timeout
    pause = FIRST_PAUSE
    vanished = 0
    while True:
        try:
            return client.lock(workspace, info)
        except Locked as refusal:
            if refusal.holder is None:
                vanished += 1
                if vanished > IMMEDIATE_RETRIES:
                    raise
                continue
            left = deadline - clock.now()
            if not refusal.holder.ID or left <= 0:
                raise
            vanished = 0
            clock.pause(min(pause, left))
            if pause >= left:
                raise
            pause = min(pause * 2, LONGEST_PAUSE)
