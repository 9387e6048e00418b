"""Calls of a client in a process of its own that are killed or stopped half-way."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from signal import SIGKILL
from typing import Any, TypeVar

from lockproof.chaos.process import RecordedProcess
from lockproof.chaos.process_nursery import ProcessGone
from lockproof.chaos.process_steps import Halt, drawn
from lockproof.driver import DriverError, Locked, LockInfo, LockMismatch, NotLocked
from lockproof.driver.recorder import RecordedClient
from lockproof.spec.outcome import Unknown, Violation
from lockproof.suites.documents import unlike
from lockproof.suites.locks.asking import take

T = TypeVar("T")

MOMENTS, MANY_MOMENTS = 1, 20
HEAD_START = 5.0
"""Seconds that an overtaker has before the stopped process goes on: it may have to wait for it, where the
backend lets one in at a time. Less where it is known how long it takes."""


def halts(
    process: RecordedProcess,
    call: Callable[[], object],
    count: int | None,
    rng: random.Random,
    number: int = SIGKILL,
) -> Sequence[Halt]:
    """Makes the call once, and draws where it can be halted: before `count` of its steps (`None` stands
    for all), after the last, and at a few moments of the time that it took."""
    process.process.watch()
    began = time.monotonic()
    call()
    took = time.monotonic() - began
    names = process.process.steps
    process.note(f"the steps of the call: {', '.join(names)}")
    steps = drawn(names, len(names) + 1 if count is None else count, rng)
    moments = sorted(rng.uniform(0, took) for _ in range(MOMENTS if count else MANY_MOMENTS))
    return [
        *(Halt(number, step=step) for step in steps),
        *(Halt(number, seconds=seconds) for seconds in moments),
    ]


def killed_in(process: RecordedProcess, halt: Halt, call: Callable[[], object]) -> None:
    """Makes the call, in which the process ends."""
    process.halt(halt)
    try:
        call()
    except DriverError as error:
        if error.definite:
            raise
    if not process.process.ended:
        raise Unknown(f"{process.who} went through its call alive")


@contextmanager
def stopped_in(
    process: RecordedProcess, halt: Halt, call: Callable[[], T]
) -> Iterator[Callable[[], DriverError | None]]:
    """Within it the process stands still in the midst of the call. Yields what, afterwards, waits for the
    call's end: the error that it raised, or `None`."""
    process.halt(halt)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(call)
        try:
            process.process.await_paused()
        except (ProcessGone, TimeoutError) as error:
            raise Unknown(f"{process.who} did not stop in its call: {error}") from error
        try:
            yield lambda: _error_of(running)
        finally:
            process.resume()


def _error_of(running: Future[Any]) -> DriverError | None:
    error = running.exception()
    if error is not None and not isinstance(error, DriverError):
        raise error
    return error


@dataclass
class Overtaking:
    """What others do while a process is stopped: they have a head start, then the stopped one goes on."""

    done: int = 0
    waited: int = 0
    head_start: float = HEAD_START

    def during(
        self, stopped: RecordedProcess, halt: Halt, call: Callable[[], object], act: Callable[[], T]
    ) -> T:
        """What `act` returned, which ran while the call was stopped. Both have ended now."""
        with ThreadPoolExecutor(1) as thread:
            with stopped_in(stopped, halt, call) as outcome:
                began = time.monotonic()
                acting = thread.submit(act)
                wait([acting], self.head_start)
                overtaken, took = acting.done(), time.monotonic() - began
            self.done += overtaken
            self.waited += not overtaken
            if overtaken:
                self.head_start = min(HEAD_START, 0.3 + 4 * took)
            outcome()
            return acting.result()

    def require_any(self) -> None:
        """Raises `Unknown` when nobody has ever overtaken the stopped process."""
        if not self.done:
            raise Unknown(f"all {self.waited} times the stopped process kept everybody else waiting")


def require_whole(client: RecordedClient, written: Sequence[bytes], workspace: str = "default") -> None:
    """Raises `Violation` unless the state that is read is one of those that were written, whole."""
    snapshot = client.get(workspace)
    if snapshot is None:
        raise Violation("the state is gone after a write that was cut short")
    if snapshot.data not in written:
        what = unlike(written[-1], snapshot.data)
        raise Violation(f"after a write that was cut short a state is read that nobody wrote: {what}")


def taken_over(
    client: RecordedClient, dead: Sequence[LockInfo], workspace: str = "default"
) -> tuple[str, bool]:
    """The lock's id, taken by force where one of the dead holds it, and whether that was so.

    What a process had sent when it was killed may arrive after what others send then: a lock that is free may
    be taken by the dead, one that they hold be released. Raises `Violation` when a refusal names nobody or a
    stranger, and `Locked` when force does not help.
    """
    forced = False
    for _ in dead:
        try:
            return take(client, workspace), forced
        except Locked as refused:
            holder = refused.holder
        if holder is None:
            raise Violation("a lock that a killed process left behind names no holder: nobody can force it")
        if holder.Info not in {left.Info for left in dead}:
            raise Violation(f"the lock is held by {holder.Who or 'nobody'} (ID {holder.ID}), not by who died")
        forced = True
        with suppress(LockMismatch, NotLocked):
            client.unlock(workspace, holder.ID)
    return take(client, workspace), forced
