"""What may go wrong, each as its own class with one clear line as its text.

`definite` tells whether the call certainly had no effect (`True`) or may have happened (`False`).
No message ever holds a token, a password or a signed URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tofu_databricks.lockinfo import LockInfo


class BackendError(Exception):
    """The base of every error of this package; `str()` is one line for a person.

    `definite=False`: the call may or may not have taken effect.
    """

    definite: bool = True

    def __init__(self, message: str, *, definite: bool | None = None) -> None:
        super().__init__(message)
        if definite is not None:
            self.definite = definite


class ConfigError(BackendError):
    """A setting is unknown, missing, malformed, or contradicts another."""


class Unauthenticated(BackendError):
    """The workspace does not accept the credentials; never retried."""


class PermissionDenied(BackendError):
    """The credentials are good, the principal lacks a grant; never retried."""


class VolumeNotFound(BackendError):
    """The catalog, schema or volume is not there: not the same as "no state yet"."""


class InvalidRequest(BackendError):
    """The service refuses the request as such (400, 409, 412, 413, 416 and the like).

    `status` is the HTTP status, `code` the `error_code`, `reason` the one of `google.rpc.ErrorInfo`.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.reason = reason


class NotFound(InvalidRequest):
    """404; `reason` and `code` tell what is missing, and only some of it may be missing."""


class Throttled(BackendError):
    """The service still answered 429 when `retry_deadline` was over."""


class Unavailable(BackendError):
    """The service could not be reached or kept failing; `definite=False` when a write may have happened."""


class MalformedReply(BackendError):
    """The service answered something that the API does not allow for."""


class StateLocked(BackendError):
    """Another holds the lock; `holder` says who, `None` when the holder vanished meanwhile."""

    def __init__(self, message: str = "", *, holder: LockInfo | None = None) -> None:
        super().__init__(message or _held("the state is already locked", holder) + _way_out(holder))
        self.holder = holder


class LockMismatch(BackendError):
    """The lock is held, under another id than the one given; nothing was changed."""

    def __init__(self, message: str = "", *, holder: LockInfo | None = None) -> None:
        super().__init__(message or _held("the lock is held under another id", holder))
        self.holder = holder


class LockNotHeld(BackendError):
    """Nobody holds the lock; nothing was changed."""


class LockTableMissing(BackendError):
    """The lock table is absent and may not be created; the text holds the DDL to run."""


class StaleWrite(BackendError):
    """A write was refused because the state or the lock moved on since it was read or taken."""


class InvalidImport(BackendError):
    """A state may not replace the stored one: other lineage, or not newer."""


class WorkspaceError(BackendError):
    """A workspace name or operation is not allowed."""


@contextmanager
def definite() -> Iterator[None]:
    """Errors raised in here are definite: what is done changes nothing that counts."""
    try:
        yield
    except BackendError as error:
        error.definite = True
        raise


def _way_out(holder: LockInfo | None) -> str:
    """What to do about a lock that nobody is going to release."""
    return f"; if that run is gone, release it by: force-unlock {holder.ID}" if holder else ""


def _held(text: str, holder: LockInfo | None) -> str:
    if holder is None:
        return text
    who = f" by {holder.Who}" if holder.Who else ""
    since = f" since {holder.Created}" if holder.Created else ""
    operation = f" for {holder.Operation}" if holder.Operation else ""
    return f"{text}{who}{since}{operation} (lock ID {holder.ID})"
