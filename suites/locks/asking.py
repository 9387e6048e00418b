"""Short words for what most tests of locks do."""

from __future__ import annotations

from lockproof.driver import DriverError, Locked, LockInfo, LockMismatch, NotLocked
from lockproof.driver.recorder import RecordedClient
from lockproof.spec.outcome import Violation


def take(client: RecordedClient, workspace: str = "default") -> str:
    """Asks once for the lock, as a new request; the lock's id. Raises `Locked`."""
    return client.lock(workspace, LockInfo.new(client.who))


def grants(client: RecordedClient, workspace: str = "default") -> bool:
    """Whether the lock is free for `client`: asks once, as a new request, and keeps it when granted."""
    try:
        take(client, workspace)
    except Locked:
        return False
    return True


def holder_seen_by(client: RecordedClient, workspace: str = "default") -> LockInfo:
    """The holder that a refusal of `client` names; raises `Violation` without refusal or name."""
    try:
        take(client, workspace)
    except Locked as refusal:
        if refusal.holder is None:
            raise Violation(
                f"the lock was refused to {client.who}, but the refusal names no holder"
            ) from refusal
        return refusal.holder
    raise Violation(f"{client.who} was granted a lock that is held")


def releases(client: RecordedClient, lock_id: str, workspace: str = "default") -> bool:
    """Whether a release with `lock_id` succeeds; a refusal must be one of a release's own."""
    try:
        client.unlock(workspace, lock_id)
    except (LockMismatch, NotLocked):
        return False
    return True


def writes(client: RecordedClient, data: bytes, lock_id: str, workspace: str = "default") -> bool:
    """Whether a write under `lock_id` is accepted; a refusal must be definite and about the lock."""
    try:
        client.put(workspace, data, lock_id=lock_id)
    except DriverError as refusal:
        if refusal.kind in {"stale", "lock_mismatch", "not_locked", "locked"} and refusal.definite:
            return False
        raise
    return True
