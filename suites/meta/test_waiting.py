"""Waiting for a lock keeps OpenTofu's schedule and its notion of what can be retried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from lockproof.driver import DriverError, Locked, LockInfo
from lockproof.driver.memory import MemoryClient, MemoryStore
from lockproof.driver.waiting import IMMEDIATE_RETRIES, ScriptedClock, WallClock, lock_with_backoff

HOLDER = LockInfo.new("holder")


@dataclass
class Answers(MemoryClient):
    """A client whose lock attempts are answered from a list; the last answer repeats."""

    answers: Sequence[DriverError | str] = ()
    attempts: list[LockInfo] = field(default_factory=list)

    def lock(self, workspace: str, info: LockInfo) -> str:
        self.attempts.append(info)
        answer = self.answers[min(len(self.attempts), len(self.answers)) - 1]
        if isinstance(answer, DriverError):
            raise answer
        return answer


def answering(*answers: DriverError | str) -> Answers:
    return Answers(answers=answers)


@pytest.mark.parametrize(
    ("timeout", "pauses"),
    [
        (0, []),
        (0.5, [0.5]),
        (1, [1]),
        (4, [1, 2, 1]),
        (60, [1, 2, 4, 8, 16, 16, 13]),
    ],
)
def test_pauses_double_to_sixteen_seconds_and_end_with_the_time(timeout: float, pauses: list[float]) -> None:
    """The pauses are 1, 2, 4, 8, 16, 16 s, the last cut short, and the last refusal is raised after it."""
    client, clock = answering(Locked(holder=HOLDER)), ScriptedClock()
    with pytest.raises(Locked) as caught:
        lock_with_backoff(client, "default", LockInfo.new("me"), timeout=timeout, clock=clock)
    assert caught.value.holder == HOLDER
    assert clock.pauses == pauses
    assert len(client.attempts) == max(1, len(pauses))


def test_attempts_fall_at_zero_one_and_three_seconds_of_a_four_second_timeout() -> None:
    """With -lock-timeout=4s OpenTofu attempts at 0, 1 and 3 s."""
    times: list[float] = []
    clock = ScriptedClock()

    class Timed(Answers):
        def lock(self, workspace: str, info: LockInfo) -> str:
            times.append(clock.now())
            return super().lock(workspace, info)

    with pytest.raises(Locked):
        lock_with_backoff(
            Timed(answers=(Locked(holder=HOLDER),)), "default", LockInfo.new("me"), timeout=4, clock=clock
        )
    assert times == [0, 1, 3]


def test_every_attempt_sends_the_same_lock_info() -> None:
    """A waiter asks with one lock info all the time."""
    client = answering(Locked(holder=HOLDER), Locked(), "id")
    info = LockInfo.new("me")
    assert lock_with_backoff(client, "default", info, timeout=10, clock=ScriptedClock()) == "id"
    assert client.attempts == [info] * 3


def test_a_vanished_holder_is_retried_at_once() -> None:
    """A refusal that names no holder costs no pause."""
    client, clock = answering(Locked(), Locked(), "id"), ScriptedClock()
    assert lock_with_backoff(client, "default", LockInfo.new("me"), timeout=0, clock=clock) == "id"
    assert clock.pauses == []


def test_a_backend_that_never_names_a_holder_does_not_spin_for_ever() -> None:
    """Immediate retries are bounded."""
    client = answering(Locked())
    with pytest.raises(Locked):
        lock_with_backoff(client, "default", LockInfo.new("me"), timeout=10, clock=ScriptedClock())
    assert len(client.attempts) == IMMEDIATE_RETRIES + 1


@pytest.mark.parametrize(
    "refusal",
    [
        DriverError("unavailable", False, "lost"),
        DriverError("internal", True),
        Locked(holder=LockInfo(Who="x")),
    ],
    ids=["unknown outcome", "definite error", "holder without id"],
)
def test_anything_but_a_named_holder_is_raised_at_once(refusal: DriverError) -> None:
    """Only a refusal that names a holder's id is waited for."""
    client, clock = answering(refusal), ScriptedClock()
    with pytest.raises(DriverError) as caught:
        lock_with_backoff(client, "default", LockInfo.new("me"), timeout=10, clock=clock)
    assert caught.value is refusal
    assert len(client.attempts) == 1
    assert clock.pauses == []


def test_a_waiter_wins_in_real_time() -> None:
    """On the wall clock a waiter gets the lock that is released during its pause."""
    store = MemoryStore()
    holder, waiter = MemoryClient(store, "holder"), MemoryClient(store, "waiter")
    lock_id = holder.lock("default", HOLDER)

    class ReleasingClock(WallClock):
        def pause(self, seconds: float) -> None:
            holder.unlock("default", lock_id)
            super().pause(seconds / 1000)

    info = LockInfo.new("waiter")
    assert lock_with_backoff(waiter, "default", info, timeout=30, clock=ReleasingClock()) == info.ID
