"""The body of a request: bounded in size and time, and checked."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import io

from starlette.requests import Request

from tofu_databricks.gateway.replies import Refusal

RATE = 1 << 10


async def body_of(request: Request, limit: int, patience: float) -> tuple[bytes, bytes]:
    """The body and its MD5, verified where the client sent one.

    Raises `Refusal`: 413 beyond `limit` bytes, 408 when it is not complete after `patience` seconds and
    one more for each `RATE` bytes that came, 400 when its digest is wrong. A client that breaks off
    raises starlette's `ClientDisconnect`.
    """
    try:
        async with asyncio.timeout(patience) as deadline:
            return await _collect(request, limit, deadline)
    except TimeoutError:
        raise Refusal(
            408, f"the request's body was not complete after {patience:g} s and 1 s for each {RATE} bytes"
        ) from None


async def _collect(request: Request, limit: int, deadline: asyncio.Timeout) -> tuple[bytes, bytes]:
    """In a buffer that hands its bytes over without a copy."""
    too_large = Refusal(
        413,
        f"the request's body is larger than the {limit} bytes taken here; for a state "
        "serve --max-state-mb sets the limit",
    )
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large
    expected = expected_md5(request.headers.get("content-md5"))
    buffer, digest = io.BytesIO(), hashlib.md5(usedforsecurity=False)
    async for chunk in request.stream():
        if buffer.tell() + len(chunk) > limit:
            raise too_large
        buffer.write(chunk)
        digest.update(chunk)
        deadline.reschedule((deadline.when() or 0.0) + len(chunk) / RATE)
    if expected is not None and not hmac.compare_digest(expected, digest.digest()):
        raise Refusal(
            400, "the body does not have the digest that Content-MD5 gives: it was damaged on the way"
        )
    return buffer.getvalue(), digest.digest()


def expected_md5(header: str | None) -> bytes | None:
    """The digest that a Content-MD5 header gives. Raises `Refusal` when it gives none."""
    if header is None:
        return None
    try:
        digest = base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != hashlib.md5(usedforsecurity=False).digest_size:
        raise Refusal(400, "Content-MD5 is not the base64 of an MD5 digest")
    return digest
