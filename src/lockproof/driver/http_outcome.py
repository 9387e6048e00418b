"""What replies of the HTTP backend protocol, and their absence, mean to the `http` driver."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from lockproof.driver.api import LockInfo
from lockproof.driver.errors import DriverError, ErrorKind

KINDS: Mapping[int, ErrorKind] = {
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    429: "throttled",
}


class NoSuchMethod(DriverError):
    """The server does not know the method that it was asked for; nothing was done."""


def refusal(what: str, reply: requests.Response, *, write: bool) -> DriverError:
    """The error for a status that the protocol gives no meaning.

    A server error after a write leaves the outcome unknown; a refusal (4xx, 501) had no effect.
    """
    status = reply.status_code
    if 300 <= status < 400:
        return DriverError("unsupported", True, f"{what} was redirected: give the server's final address")
    if status >= 500 and status not in {501, 505}:
        return DriverError(
            "unavailable", not write, f"{what} failed with status {status}: {first_line(reply)}"
        )
    if status == 408:
        return DriverError("timeout", not write, f"{what} failed with status 408")
    definite = status >= 400 or not write  # an odd 2xx says that something was done
    kind = KINDS.get(status, "unsupported" if status >= 400 else "malformed")
    error = NoSuchMethod if status in {405, 501} else DriverError
    return error(kind, definite, f"{what} refused with status {status}: {first_line(reply)}")


def first_line(reply: requests.Response) -> str:
    """The beginning of a reply's text, for a person."""
    text = " ".join(reply.content[:400].decode("utf-8", "replace").split())
    return text[:200] or "no text"


def holder_of(reply: requests.Response) -> LockInfo | None:
    """The lock info in a refusal; `None` when the body is none or names no id."""
    try:
        document = json.loads(reply.content)
        info = LockInfo.from_json(document) if isinstance(document, dict) else LockInfo()
    except ValueError:
        return None
    return info if info.ID else None


def check_md5(reply: requests.Response) -> None:
    """Raises `DriverError` when the server's Content-MD5 is malformed or not that of the body."""
    header = reply.headers.get("Content-MD5")
    if header is None:
        return
    expected = base64.b64encode(hashlib.md5(reply.content, usedforsecurity=False).digest()).decode()
    if header.strip() != expected:
        raise DriverError("malformed", True, f"Content-MD5 is {header!r}, the body's is {expected!r}")


def never_sent(failure: BaseException) -> bool:
    """Whether no connection was made, so that the server cannot have received the request."""
    if isinstance(failure, requests.ConnectTimeout):
        return True
    return any(isinstance(cause, NewConnectionError | ConnectTimeoutError) for cause in causes(failure))


def causes(failure: BaseException) -> Iterator[BaseException]:
    """`failure` and what lies beneath it."""
    queue: list[object] = [failure]
    seen: set[int] = set()
    while queue:
        item = queue.pop()
        if isinstance(item, BaseException) and id(item) not in seen:
            seen.add(id(item))
            yield item
            queue += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]


def reason(failure: BaseException) -> str:
    """The innermost cause in words; no address, which may hold a secret in its query."""
    system = [e for e in causes(failure) if isinstance(e, OSError) and e.strerror]
    return str(system[-1].strerror) if system else f"no reply ({type(failure).__name__})"
