"""Bugs of calls that break halfway: a call of several requests meets the fault at each of them in turn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.proxy import Answer, Delay, DropReply, DropRequest, Link, LinkFault, Reset
from lockproof.driver import DriverError, Locked, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.spec import faults, needs, requirement, tier
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Violation
from lockproof.suites.documents import require_stored, successive
from lockproof.suites.faults.sweeping import every_exchange, until_it_stands
from lockproof.suites.locks.asking import holder_seen_by, take

LOST: dict[str, LinkFault] = {"request-lost": DropRequest(), "reply-lost": DropReply()}
MANY = 60
ASKS = 5
BROKEN = pytest.mark.parametrize("kind", [*LOST, pytest.param("failed", marks=tier("full"))])


def breaks(kind: str, link: Link) -> LinkFault:
    """The fault of that kind on a link: where HTTP answers 503, other protocols reset the connection."""
    return LOST.get(kind) or (Answer(503) if link.protocol == "http" else Reset(after_bytes=20))


def attempt(client: RecordedClient, asked: LockInfo) -> str | DriverError:
    """The lock's id, or why it was not granted."""
    try:
        return client.lock("default", asked)
    except DriverError as error:
        return error


def granted(client: RecordedClient) -> str | None:
    """The lock's id when it is granted, None when it is held; raises any other failure."""
    try:
        return take(client)
    except Locked:
        return None


def writes(client: RecordedClient, data: bytes, lock_id: str) -> DriverError | None:
    """Why a write under the lock failed, if it did."""
    try:
        client.put("default", data, lock_id=lock_id)
    except DriverError as error:
        return error
    return None


def releases(client: RecordedClient, lock_id: str) -> DriverError | None:
    """Why a release failed, if it did."""
    try:
        client.unlock("default", lock_id)
    except DriverError as error:
        return error
    return None


@reported("opentofu#4405", "http-reply-lost", "azure-lease-kept", "kubernetes-conflict", "terraform#24289")
@faults("net")
@BROKEN
@needs("links", "locking.holder-info")
@requirement("FAULT-REP-006")
def test_a_lock_request_broken_halfway_leaves_no_lock_for_ever(arena: Arena, kind: str) -> None:
    """Whichever part of a lock request breaks: the lock is free, or named as the requester's and released."""
    alice, bob = arena.client("alice"), arena.observer
    alice.unlock("default", take(alice))
    for turn in every_exchange(arena.links("alice"), lambda link: breaks(kind, link), arena.history):
        asked = LockInfo.new("alice")
        with turn:
            outcome = attempt(alice, asked)
        if isinstance(outcome, DriverError) and outcome.definite:
            bob.unlock("default", take(bob))  # who is told that it holds nothing holds nothing
            continue
        if isinstance(outcome, DriverError):
            outcome = attempt(alice, asked)  # as a client does that heard nothing
        if isinstance(outcome, DriverError):
            holder = outcome.holder
            if not isinstance(outcome, Locked) or holder is None or holder.Info != asked.Info:
                raise Violation(f"asked again, the request ends as {outcome}, which names no id to release")
            outcome = holder.ID
        assert holder_seen_by(bob).ID == outcome
        alice.unlock("default", outcome)
        bob.unlock("default", take(bob))


@reported("http-reply-lost", "terraform#24971", "azure-lease-kept", "opentofu#1026", "cos-first-page")
@faults("net")
@BROKEN
@needs("links", "locking.holder-info")
@requirement("FAULT-REP-007")
def test_a_release_broken_halfway_can_be_made_again(arena: Arena, kind: str) -> None:
    """Whichever part of a release breaks: the lock is free, or held under its id and released by it."""
    alice, bob = arena.client("alice"), arena.observer
    alice.unlock("default", take(alice))
    for turn in every_exchange(arena.links("alice"), lambda link: breaks(kind, link), arena.history):
        lock_id = take(alice)
        with turn:
            failure = releases(alice, lock_id)
        outcome = attempt(bob, LockInfo.new("bob"))
        if isinstance(outcome, DriverError):
            assert failure is not None, f"the release succeeded, and the lock is not free: {outcome}"
            assert holder_seen_by(bob).ID == lock_id, f"the lock is neither free nor held after {failure}"
            alice.unlock("default", lock_id)
            outcome = take(bob)
        elif failure is not None and failure.definite:
            raise Violation(f"the release took effect, and was reported as failed: {failure}")
        bob.unlock("default", outcome)


@reported(
    "s3-digest-unwritten",
    "terraform#20708",
    "terraform#17583",
    "terraform#28496",
    "terraform#14298",
    "terraform#21148",
)
@faults("net")
@BROKEN
@needs("links", "locking.holder-info")
@requirement("FAULT-REP-008")
def test_a_write_broken_halfway_leaves_a_whole_state_and_the_lock(arena: Arena, kind: str) -> None:
    """Whichever part of a write breaks, the state is the old or the new one, and its lock stays."""
    alice, bob = arena.client("alice"), arena.observer
    states = successive(MANY)
    old = next(states)
    lock_id = take(alice)
    alice.put("default", old, lock_id=lock_id)
    for turn in every_exchange(arena.links("alice"), lambda link: breaks(kind, link), arena.history):
        new = next(states)
        with turn:
            failure = writes(alice, new, lock_id)
        if failure is None or (not failure.definite and reads(bob) == new):
            old = new
        require_stored(bob, old)
        assert holder_seen_by(bob).ID == lock_id, "the lock went with a write that failed"
        old = next(states)
        alice.put("default", old, lock_id=lock_id)
        require_stored(bob, old)


@reported(
    "terraform#26593",
    "azure-empty-upload",
    "opentofu#4225",
    "terraform#27670",
    "opentofu#1341",
    "terraform#30149",
    "kubernetes-conflict",
)
@faults("net")
@needs("links", "state")
@requirement("FAULT-REP-009")
def test_a_lock_request_that_stands_still_undoes_nothing(arena: Arena) -> None:
    """Wherever a lock request stands still, others get the lock or are refused it, and their writes stay."""
    alice, bob = arena.client("alice"), arena.observer
    states = successive(MANY)
    alice.unlock("default", take(alice))
    with ThreadPoolExecutor(1) as pool:
        for turn in every_exchange(arena.links("alice"), lambda _: Delay(None), arena.history):
            if "state.delete" in arena.backend.capabilities:
                bob.delete("default")
            data, asked = next(states), LockInfo.new("alice")
            with turn as armed:
                standing = until_it_stands(pool, partial(attempt, alice, asked), armed)
                own = attempt(bob, LockInfo.new("bob"))
                if not isinstance(own, DriverError):
                    bob.put("default", data, lock_id=own)
                    bob.unlock("default", own)
            outcome = standing.result()
            if not isinstance(own, DriverError):
                require_stored(bob, data)
            for error in (own, outcome):
                if isinstance(error, DriverError) and not isinstance(error, Locked):
                    raise Violation(f"while a lock request stood still another ended as {error}") from error
            if not isinstance(outcome, DriverError):
                alice.unlock("default", outcome)
            bob.unlock("default", take(bob))


@reported("terraform#16652", "terraform#14312", "terraform#16098", "terraform#30598")
@faults("net")
@needs("links", "state")
@requirement("FAULT-REP-011")
def test_a_write_that_stands_still_keeps_its_lock_or_is_overtaken_for_good(arena: Arena) -> None:
    """Wherever a write stands still, others are refused its lock; if one gets it, the write is never seen."""
    alice, bob = arena.client("alice"), arena.observer
    states = successive(MANY)
    lock_id = take(alice)
    alice.put("default", next(states), lock_id=lock_id)
    with ThreadPoolExecutor(1) as pool:
        for turn in every_exchange(arena.links("alice"), lambda _: Delay(None), arena.history):
            new = next(states)
            with turn as armed:
                standing = until_it_stands(pool, partial(writes, alice, new, lock_id), armed)
                held = next(filter(None, (granted(bob) for _ in range(ASKS))), None)
                left = new if held is None else next(states)
                if held is not None:
                    bob.put("default", left, lock_id=held)
            failure = standing.result()
            require_stored(bob, left)
            if held is None:
                assert failure is None, f"a write that only stood still failed: {failure}"
            else:
                bob.unlock("default", held)
                lock_id = take(alice)


def reads(client: RecordedClient) -> bytes | None:
    """The state's bytes."""
    snapshot = client.get("default")
    return None if snapshot is None else snapshot.data
