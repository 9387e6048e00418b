"""What each outcome looks like on the wire.

The status codes are chosen by what stock clients do with them. For a read, 200 with an empty body,
204 and 404 mean "no state yet" without any warning, so no error may ever use them. 429 and 5xx
(501 excepted) are sent again by the client, everything else is final. A lock must be answered by
exactly 200, or 423 with the holder's lock info; an unlock by exactly 200.
Source: opentofu internal/backend/remote-state/http/client.go; go-retryablehttp DefaultRetryPolicy.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tofu_databricks.errors import (
    BackendError,
    InvalidRequest,
    LockMismatch,
    LockNotHeld,
    MalformedReply,
    PermissionDenied,
    StaleWrite,
    StateLocked,
    Throttled,
    Unauthenticated,
    Unavailable,
    WorkspaceError,
)
from tofu_databricks.lockinfo import LockInfo

NO_TIME = "0001-01-01T00:00:00Z"
CHUNK = 256 << 10

STATUS: tuple[tuple[type[BackendError], int], ...] = (
    (StateLocked, 423),
    (LockMismatch, 409),
    (LockNotHeld, 409),
    (StaleWrite, 409),
    (Unauthenticated, 401),
    (PermissionDenied, 403),
    (WorkspaceError, 400),
    (InvalidRequest, 422),
    (Throttled, 429),
    (MalformedReply, 502),
    (Unavailable, 503),
)
NOT_SET_UP = 424
"""Everything else that the backend refuses: a missing volume or lock table, a bad setting. Nothing
that sending again would cure, and never 404."""


class Refusal(Exception):
    """A request that the gateway itself refuses: a status, one line of text, headers."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})


class StateResponse(Response):
    """A state's bytes with their digest, sent piece by piece so that no second copy is buffered."""

    media_type = "application/json"

    def __init__(self, data: bytes, md5: bytes) -> None:
        super().__init__(headers={"Content-MD5": base64.b64encode(md5).decode(), "Cache-Control": "no-store"})
        self.data = data
        self.headers["Content-Length"] = str(len(data))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        for offset in range(0, len(self.data), CHUNK):
            piece = self.data[offset : offset + CHUNK]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def state(data: bytes | None) -> Response:
    """The reply to a read: the state, or 204 where there is none yet."""
    if data is None:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    return StateResponse(data, hashlib.md5(data, usedforsecurity=False).digest())


def line(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """A reply of one line of text."""
    plain = " ".join(text.split())
    return Response(plain + "\n", status, dict(headers or {}), media_type="text/plain")


def lock_info(status: int, info: LockInfo) -> Response:
    """A reply that carries a lock info."""
    return Response(readable(info).to_json(), status, media_type="application/json")


def failure(error: BackendError) -> Response:
    """The reply to a call that the backend refused or that failed.

    A held lock is answered with its holder. Where the holder is not known the body is plain text:
    clients then take the lock as held and go on waiting, while `{}` would make them give up.
    """
    holder = getattr(error, "holder", None)
    if error.definite and isinstance(holder, LockInfo):
        return lock_info(status_of(error), holder)
    return line(status_of(error), str(error))


def status_of(error: BackendError) -> int:
    """The status for `error`. Whatever may have happened is sent again by the client, which is safe here."""
    if not error.definite:
        return 503
    return next((status for kind, status in STATUS if isinstance(error, kind)), NOT_SET_UP)


def readable(info: LockInfo) -> LockInfo:
    """`info` with a `Created` that OpenTofu can parse: a bad one makes it discard the whole holder."""
    try:
        datetime.datetime.fromisoformat(info.Created)
        good = "T" in info.Created
    except ValueError:
        good = False
    return info if good else dataclasses.replace(info, Created=NO_TIME)
