"""Presigned URLs and the upload sessions behind them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.clock import VirtualClock
from lockproof.fakes.databricks.wire import Request, Response

URL_LIFETIME = 3600.0
BUCKET = "fake-bucket"


@dataclass
class Session:
    """An upload under way. Parts by number, or, when `resumable`, the bytes received so far in `received`."""

    token: str
    path: str
    overwrite: bool
    resumable: bool
    principal: str
    began: int
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    received: bytearray = field(default_factory=bytearray)


class Transfers:
    """Signs and checks the URLs of the storage address, and keeps the sessions by token.

    A URL is bound to one method and path and expires on the fake's clock. Its query looks like S3's.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.key = secrets.token_bytes(32)
        self.sessions: dict[str, Session] = {}

    def open(self, path: str, *, overwrite: bool, resumable: bool, principal: str, began: int) -> Session:
        session = Session(secrets.token_hex(16), path, overwrite, resumable, principal, began)
        self.sessions[session.token] = session
        return session

    def session(self, token: str, path: str) -> Session:
        """The session, which must be of that file. Raises the 404 of an unknown one."""
        session = self.sessions.get(token)
        if session is None or session.path != path:
            raise errors.ApiError(404, "NOT_FOUND", "The upload session is not found or has expired.")
        return session

    def sign(
        self, base: str, method: str, path: str, expires: float, extra: dict[str, str] | None = None
    ) -> str:
        """The URL under `base` that lets anybody `method` (`*`: any) the file at `path` until `expires`."""
        resource = f"/{BUCKET}{path}"
        query = {**(extra or {}), "X-Amz-Expires": f"{expires:.3f}", "X-Amz-Method": method}
        query["X-Amz-Signature"] = self._signature(resource, query)
        return f"{base}{quote(resource)}?{urlencode(query)}"

    def refusal(self, request: Request, cloud: str) -> Response | None:
        """Why the storage refuses this request, None when the URL's signature holds."""
        if "authorization" in request.headers:
            return errors.storage_error(400, "InvalidArgument", "Only one auth mechanism allowed")
        query = dict(request.query)
        signature = query.pop("X-Amz-Signature", "")
        if not signature:
            return errors.storage_error(403, "AccessDenied", "Access Denied")
        method = query.get("X-Amz-Method", "")
        if method not in ("*", request.method) or not hmac.compare_digest(
            signature, self._signature(request.path, query)
        ):
            message = "The request signature we calculated does not match the signature you provided."
            return errors.storage_error(403, "SignatureDoesNotMatch", message)
        if float(query["X-Amz-Expires"]) <= self.clock.time():
            if cloud == "azure":
                extra = (
                    "<AuthenticationErrorDetail>Signature not valid in the specified time frame"
                    "</AuthenticationErrorDetail>"
                )
                message = "Server failed to authenticate the request."
                return errors.storage_error(403, "AuthenticationFailed", message, extra)
            return errors.storage_error(403, "AccessDenied", "Request has expired")
        return None

    def _signature(self, resource: str, query: dict[str, str]) -> str:
        text = "\n".join([resource, *(f"{key}={query[key]}" for key in sorted(query))])
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


def parse_expiry(text: str | None, now: float) -> float:
    """When a URL expires on the fake's clock: an RFC 3339 `expire_time`, an hour from `now` without one.

    Clients reckon `expire_time` by their own clock, which is real time, so what counts is how far it lies
    ahead of that. Raises the 400 answer for another format.
    """
    if not text:
        return now + URL_LIFETIME
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise errors.invalid_parameter(f"expire_time is not an RFC 3339 time: '{text}'") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return now + moment.timestamp() - time.time()
