"""The fake without sockets: `requests` clients in this process (databricks-sdk, too) reach it unchanged.

While `activate` is on, `requests.adapters.HTTPAdapter.send` hands requests for the workspace's two addresses
to the model and leaves all others alone. That is the seam that the library `responses` uses, too; patching it
here directly avoids a dependency at run time and lets `drop` and `truncate` surface as the errors of a real
socket.

With `responses` or moto in the same test, activate the fake inside of them: they hand what is not theirs to
the real network, not to whoever was there before.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError

from lockproof.fakes.databricks.wire import Request, Response
from lockproof.fakes.databricks.workspace import FakeWorkspace, UnknownRoute

_ACTIVE: dict[str, tuple[FakeWorkspace, str]] = {}
_MUTEX = threading.Lock()
_real_send = HTTPAdapter.send


@contextmanager
def activate(workspace: FakeWorkspace, *, strict: bool = True) -> Iterator[FakeWorkspace]:
    """Serves `workspace.url` and `workspace.storage_url` to `requests` in this process.

    Several workspaces may be active at once under different addresses. On leaving, raises `UnknownRoute` that
    names the operations which were called and do not exist here, unless `strict` is off.
    """
    global _real_send
    addresses = {_origin(workspace.url): "workspace", _origin(workspace.storage_url): "storage"}
    seen = workspace.log.count
    with _MUTEX:
        taken = addresses.keys() & _ACTIVE.keys()
        if taken:
            raise RuntimeError(f"another fake workspace is active at {', '.join(sorted(taken))}")
        if not _ACTIVE:
            _real_send = HTTPAdapter.send
        _ACTIVE.update({origin: (workspace, host) for origin, host in addresses.items()})
        HTTPAdapter.send = _send  # type: ignore[method-assign]
    try:
        yield workspace
    finally:
        workspace.release_all()
        with _MUTEX:
            for origin in addresses:
                del _ACTIVE[origin]
            if not _ACTIVE:
                HTTPAdapter.send = _real_send  # type: ignore[method-assign]
    unknown = [f"{entry.method} {entry.path}" for entry in workspace.log.select(since=seen, unknown=True)]
    if strict and unknown:
        raise UnknownRoute(f"the fake Databricks has no route for: {', '.join(dict.fromkeys(unknown))}")


def _send(
    self: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **options: Any
) -> requests.Response:
    target = _ACTIVE.get(_origin(request.url or ""))
    if target is None:
        return _real_send(self, request, *args, **options)
    workspace, host = target
    stream = bool(args[0] if args else options.get("stream"))
    asked = request_of(request, host)
    return response_of(workspace.handle(asked), self, request, stream=stream)


def request_of(request: requests.PreparedRequest, host: str = "workspace") -> Request:
    """What `requests` is about to send, as the model takes it."""
    return Request.to(
        request.method or "GET",
        request.url or "",
        headers={name: _text(value) for name, value in request.headers.items()},
        body=_body(request.body),
        host=host,
    )


def response_of(
    answer: Response, adapter: HTTPAdapter, request: requests.PreparedRequest, *, stream: bool
) -> requests.Response:
    """The answer as `adapter` returns it. Raises `requests.ConnectionError` for one that is dropped."""
    if answer.drop:
        cause = ProtocolError(
            "Connection aborted.",
            http.client.RemoteDisconnected("Remote end closed connection without response"),
        )
        raise requests.ConnectionError(cause, request=request)
    response = adapter.build_response(request, _raw(request.method or "GET", answer))
    if not stream:
        _ = response.content
    return response


def _raw(method: str, answer: Response) -> HTTPResponse:
    headers = dict(answer.headers)
    length = len(answer.body)
    if method != "HEAD" and answer.status != 204:
        headers["Content-Length"] = str(length)
    cut = length if answer.truncate_at is None else min(answer.truncate_at, length)
    return HTTPResponse(
        body=BytesIO(answer.body[:cut]),
        headers=headers,
        status=answer.status,
        reason=http.client.responses.get(answer.status),
        preload_content=False,
        enforce_content_length=True,
        request_method=method,
    )


def _body(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    if hasattr(body, "read"):
        return _body(body.read())
    return b"".join(_body(chunk) for chunk in body)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _origin(url: str) -> str:
    split = urlsplit(url)
    port = split.port or (443 if split.scheme == "https" else 80)
    return f"{split.scheme}://{split.hostname}:{port}"
