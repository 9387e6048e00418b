"""What an answer of a Databricks workspace means.

Sources: the error bodies of the Databricks REST API (`error_code`, `message`, `details`), and the parser
order of databricks-sdk `errors/parser.py`: empty body, JSON, text, HTML.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from tofu_databricks.errors import (
    BackendError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Throttled,
    Unauthenticated,
    Unavailable,
)

RETRIED = frozenset({500, 502, 503, 504})
_TITLE = re.compile(r"<(?:title|pre)[^>]*>(.*?)</(?:title|pre)>", re.IGNORECASE | re.DOTALL)
_SECRET = re.compile(
    r"(?:Bearer|Basic)\s+\S+|\b(?:dapi|dose|dkea|eyJ)[A-Za-z0-9._\-]{8,}"
    r"|(?<=[?&])(?:X-Amz-[A-Za-z-]+|sig|token|Signature)=[^&\s]+"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `headers` keys are matched without regard to case by `header`."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def header(self, name: str) -> str:
        """The value of header `name`, empty when it is absent."""
        name = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == name), "")

    def retry_after(self, now: float) -> float | None:
        """Seconds that `Retry-After` asks to wait, given as seconds or as an HTTP date; else `None`.

        `now` as for `seconds_until`. Source: RFC 9110 section 10.2.3.
        """
        text = self.header("Retry-After").strip()
        if text.isascii() and text.isdigit():
            return float(text)
        moment = _moment(text)
        return None if moment is None else max(0.0, self.seconds_until(moment, now))

    def seconds_until(self, moment: float, now: float) -> float:
        """Seconds from this answer to `moment`, a time by the server's clock, in epoch seconds.

        The answer's own `Date` is its beginning, so that a wrong clock of ours does no harm; `now`, our
        time, where the answer has none. Source: RFC 9110 section 6.6.1.
        """
        sent = _moment(self.header("Date"))
        return moment - (now if sent is None else sent)

    def error(self, what: str) -> BackendError:
        """The error that this answer is; `what` names the call, for example `GET /Volumes/c/s/v/key`."""
        code, message, reason = self._details()
        shown = one_line(message) or f"HTTP {self.status}"
        request_id = self.header("X-Request-Id")
        if request_id and request_id not in shown:
            shown = f"{shown} (request id {one_line(request_id, 80)})"
        if self.status == 401:
            return Unauthenticated(f"the workspace does not accept the credentials: {shown}")
        if self.status == 403:
            # A wrong or expired token is 403 with a numeric error code, a missing grant has a name.
            if isinstance(code, int) or message.startswith("Invalid access token"):
                return Unauthenticated(f"the token is wrong, expired or lacks a scope: {shown}")
            return PermissionDenied(f"{what} is not permitted: {shown}")
        if self.status == 404:
            return NotFound(f"{what}: {shown}", status=404, code=str(code or ""), reason=reason)
        if self.status == 429:
            return Throttled(f"{what} is throttled: {shown}")
        if self.status in RETRIED:
            return Unavailable(f"{what} failed with {self.status}: {shown}")
        if 300 <= self.status < 400:
            message = (
                f"{what} was answered with a redirect ({self.status}): is host the workspace's own address?"
            )
            return InvalidRequest(message, status=self.status)
        return InvalidRequest(
            f"{what} was refused with {self.status}: {shown}",
            status=self.status,
            code=str(code or ""),
            reason=reason,
        )

    def _details(self) -> tuple[str | int | None, str, str]:
        """`error_code`, message and `ErrorInfo.reason` of the body."""
        text = self.content[:65536].decode("utf-8", "replace").strip()
        try:
            body: Any = json.loads(text) if text else None
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            title = _TITLE.search(text)
            return None, html.unescape(title[1]) if title else text, ""
        code = body.get("error_code")
        message = next((body[k] for k in ("message", "detail", "error") if isinstance(body.get(k), str)), "")
        reason = ""
        details = body.get("details")
        for detail in details if isinstance(details, list) else []:
            if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("google.rpc.ErrorInfo"):
                reason = str(detail.get("reason", ""))
        if isinstance(code, str) and code and code not in message:
            message = f"{message} [{code}]" if message else code
        return (code if isinstance(code, str | int) else None), message, reason


def _moment(text: str) -> float | None:
    """An HTTP date in epoch seconds, `None` when `text` is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def one_line(text: str, limit: int = 300) -> str:
    """`text` on one line of at most `limit` characters, with what looks like a credential removed."""
    flat = _SECRET.sub("[redacted]", " ".join(text.split()))
    flat = "".join(c for c in flat if c.isprintable())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"
