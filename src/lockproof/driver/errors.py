"""What may go wrong in a driver call, in the terms that the suite judges by."""

from __future__ import annotations

from typing import Any, Literal, get_args

from lockproof.driver.api import LockInfo

ErrorKind = Literal[
    "locked",
    "lock_mismatch",
    "not_locked",
    "not_found",
    "stale",
    "unsupported",
    "unauthorized",
    "throttled",
    "unavailable",
    "timeout",
    "malformed",
    "internal",
]
KINDS: frozenset[str] = frozenset(get_args(ErrorKind))


class DriverError(Exception):
    """A driver call failed.

    `definite=True`: it had no effect. `definite=False`: it may or may not have happened.
    `message` is one line for a person; it never holds a secret.
    """

    holder: LockInfo | None = None

    def __init__(self, kind: ErrorKind, definite: bool, message: str = "") -> None:
        if kind not in KINDS:
            raise ValueError(f"unknown error kind {kind!r}; known: {', '.join(sorted(KINDS))}")
        super().__init__(kind, definite, message)
        self.kind: ErrorKind = kind
        self.definite = definite
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind

    def to_json(self) -> dict[str, Any]:
        """The error as a history writes it."""
        record: dict[str, Any] = {"kind": self.kind, "definite": self.definite}
        if self.message:
            record["message"] = self.message
        if self.holder is not None:
            record["holder"] = self.holder.to_json()
        return record


class Locked(DriverError):
    """The lock is held by another; `holder` says by whom, where the backend knows."""

    def __init__(self, message: str = "", *, holder: LockInfo | None = None) -> None:
        super().__init__("locked", True, message)
        self.holder = holder


class LockMismatch(DriverError):
    """The lock is held under another id than the one given."""

    def __init__(self, message: str = "", *, holder: LockInfo | None = None) -> None:
        super().__init__("lock_mismatch", True, message)
        self.holder = holder


class NotLocked(DriverError):
    """Nobody holds the lock."""

    def __init__(self, message: str = "") -> None:
        super().__init__("not_locked", True, message)
