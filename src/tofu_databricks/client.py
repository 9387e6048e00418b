"""The bytes and the lock of one workspace: what OpenTofu calls a remote client.

Source: opentofu internal/states/remote/remote.go:17-44 (Client, ClientLocker).
"""

from __future__ import annotations

from functools import partial

from tofu_databricks.fenced import FencedState, require_holder
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.lockrecord import LockStoreRecord
from tofu_databricks.locks import LockStore
from tofu_databricks.seams import Checkpoint, no_checkpoint
from tofu_databricks.volume import Volume


class StateClient:
    """State and lock of one workspace, as opaque bytes; safe to use from several threads.

    `path` is the state file's full path, which is also the key of its lock. Under strict fencing the state is
    `fenced`, else the file itself. Keeps nothing between calls, so that any process can finish what another
    began. Every method raises `BackendError`s.
    """

    def __init__(
        self,
        volume: Volume,
        locks: LockStore,
        path: str,
        record: LockStoreRecord,
        checkpoint: Checkpoint | None = None,
        fenced: FencedState | None = None,
    ) -> None:
        self.volume = volume
        self.locks = locks
        self.path = path
        self.record = record
        self.checkpoint = checkpoint or no_checkpoint
        self.fenced = fenced

    def get(self) -> bytes | None:
        """The state as it was written, `None` when there is none yet. A request; strict: a statement too."""
        return self.fenced.get() if self.fenced else self.volume.read(self.path)

    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        """Replaces the state. One request, and with a `lock_id` one statement to the lock store before it;
        strict: see `FencedState`.

        Raises `LockMismatch` or `LockNotHeld` when `lock_id` no longer holds the lock; nothing is written
        then. The lock is looked at again before the write is sent again (throttling may last minutes); an
        error of that look has `definite=False` when an earlier attempt may have been written. Without a
        `lock_id` the lock is not looked at: locks are advisory (locker.go:43-49). A process that has taken no
        lock asks once, by a request, whether others fence strictly: they would not see the write
        (`ConfigError`). Under strict fencing itself a write without a `lock_id` is refused with `StateLocked`
        while somebody holds the lock.
        """
        if self.fenced:
            self.fenced.put(data, lock_id)
            return
        self.record.refuse_others()
        if lock_id is None:
            self.volume.write(self.path, data)
            return
        self.require_lock(lock_id)
        self.checkpoint("state.put")
        self.volume.write(self.path, data, guard=partial(self.require_lock, lock_id))

    def delete(self, *, lock_id: str | None = None) -> None:
        """Removes the state; one that is not there is no error. The lock stays as it is.

        With a `lock_id`, and under strict fencing, under the same conditions as `put`; else whoever holds the
        lock.
        """
        if self.fenced:
            self.fenced.delete(lock_id)
            return
        self.record.refuse_others()
        if lock_id is not None:
            self.require_lock(lock_id)
        self.volume.delete(self.path)

    def lock(self, info: LockInfo) -> str:
        """One attempt to take the lock; returns the lock's id. A request that reads the record, and then a
        statement.

        Raises `StateLocked` with the holder, and `ConfigError` when locks of this state are recorded to be
        kept elsewhere. `Unavailable.definite` is false when it may have been taken.
        """
        self.record.require(anew=True)
        return self.locks.acquire(self.path, info)

    def unlock(self, lock_id: str) -> None:
        """Releases the lock, whoever took it: force-unlock is this call from another process.

        Raises `LockMismatch` or `LockNotHeld` and changes nothing when `lock_id` does not hold it.
        """
        self.locks.release(self.path, lock_id)

    def lock_holder(self) -> LockInfo | None:
        """Who holds the lock, `None` when nobody does. One statement."""
        return self.locks.holder(self.path)

    def require_lock(self, lock_id: str) -> None:
        """Raises `LockMismatch` or `LockNotHeld` unless `lock_id` holds the lock now."""
        require_holder(self.lock_holder(), lock_id)
