"""Where locks live, apart from the states that they guard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from tofu_databricks.lockinfo import LockInfo


class LockStore(Protocol):
    """One lock per key, safe to use from several threads.

    A key is the full path of the state file that the lock guards. Locks have no expiry and outlive the
    process that took them. Every method is one attempt: nothing here waits for a held lock, while lost
    connections are made good by at most three retries.

    Any method raises `Unauthenticated`, `PermissionDenied`, `ConfigError`, `LockTableMissing` or
    `Unavailable`; `Unavailable.definite` is false when `acquire` or `release` may have taken effect.
    """

    def acquire(self, key: str, info: LockInfo) -> str:
        """Takes the lock for `info` and returns its id, which is `info.ID`.

        The id that already holds the lock succeeds again: that is how a lost reply is made good.
        Raises `StateLocked` with the holder when another id holds it; the holder is `None` when it
        vanished every time before it could be read.
        """

    def release(self, key: str, lock_id: str) -> None:
        """Frees the lock that `lock_id` holds.

        Raises `LockMismatch` with the holder when another id holds it and `LockNotHeld` when nobody
        does; in both cases nothing was changed.
        """

    def holder(self, key: str) -> LockInfo | None:
        """Who holds the lock, by one statement; `None` when nobody does."""

    def prepare(self) -> None:
        """Makes the store ready for its first lock; several may do it at once, and again.

        Raises `LockTableMissing`, whose text holds the DDL, when it may not create what is missing.
        """

    def close(self) -> None:
        """Drops connections; releases no lock."""


class Head(NamedTuple):
    """What a `HeadStore` keeps of one key, as of one instant: who holds its lock, and its head's text."""

    holder: LockInfo | None
    text: str | None


class HeadStore(LockStore, Protocol):
    """A lock store that also keeps one text for each key, its head, which only the holder can replace.

    This is where a write under `fencing = "strict"` takes effect: lock and head are of one store, so that one
    statement can look at both and change one. A head stays when its lock is released.
    """

    def head(self, key: str, *, confirmed: bool = False) -> Head:
        """Holder and head of the key, by one statement.

        A move that is `confirmed` to have been made outlives the loss of a server, as one does that was
        answered. That may take a commit, and where it is not answered, an error.
        """

    def heads(self, prefix: str) -> Mapping[str, str]:
        """The heads of all keys that begin with `prefix`, by one statement."""

    def move_head(self, key: str, lock_id: str | None, old: str | None, new: str) -> bool:
        """Puts `new` in the place of `old` (`None`: of no head) while `lock_id` holds the lock, by one
        atomic statement; without a `lock_id` whoever holds it.

        True: it was done. False: this delivery of the statement did nothing, since the head is another or
        the lock not held; an earlier delivery, whose reply was lost, may have: `head` tells. The errors are
        those of a release.
        """
