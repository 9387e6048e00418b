"""A real HTTP server to stand a fault proxy before: uvicorn, with a record of what reached it whole."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from lockproof.driver import Address

WAIT_SECONDS = 20.0


@dataclass
class Seen:
    """What reached the server: whole requests, and those that broke off."""

    whole: list[tuple[str, str, bytes]] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def methods(self, path: str) -> list[str]:
        """The methods of the whole requests for a path, in order."""
        return [method for method, where, _ in self.whole if where == path]

    def eventually(self, met: Callable[[Seen], bool]) -> None:
        """Waits until it is so; fails the test when that does not come."""
        with self.changed:
            assert self.changed.wait_for(lambda: met(self), WAIT_SECONDS), (self.whole, self.broken)


class StateServer:
    """Keeps a body per path, as a state server does.

    GET of `/chunked/…` sends the body in chunks; `/held` answers once `let_go` is set.
    """

    def __init__(self) -> None:
        self.seen = Seen()
        self.states: dict[str, bytes] = {}
        self.let_go = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        method, path = request.method, request.url.path
        try:
            body = b"".join([part async for part in request.stream()])
        except ClientDisconnect:
            with self.seen.changed:
                self.seen.broken.append((method, path))
                self.seen.changed.notify_all()
            return
        with self.seen.changed:
            self.seen.whole.append((method, path, body))
            self.seen.hosts.append(request.headers["host"])
            self.seen.changed.notify_all()
        if path == "/held":
            await asyncio.to_thread(self.let_go.wait, WAIT_SECONDS)
        await self.answer(method, path, body, request.headers.get("if-none-match"))(scope, receive, send)

    def answer(self, method: str, path: str, body: bytes, known: str | None) -> Response:
        if method in ("PUT", "POST", "LOCK"):
            self.states[path] = body
            return Response(status_code=201)
        if method == "DELETE":
            self.states.pop(path, None)
            return Response(status_code=204)
        state = self.states.get(path)
        if state is None:
            return Response("nothing here", status_code=404)
        if path.startswith("/chunked/"):
            return StreamingResponse(iter([state[:1000], state[1000:]]))
        tag = hashlib.sha256(state).hexdigest()
        if tag == known:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(state, headers={"ETag": tag})


def await_started(address: tuple[str, int]) -> None:
    """Waits until the server serves: until then nobody hangs up on who sends it nonsense."""
    with socket.create_connection(address, WAIT_SECONDS) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        while connection.recv(1000):
            continue


@contextmanager
def serve(**settings: Any) -> Iterator[tuple[StateServer, Address]]:
    """The server on a free port, until the block ends; `settings` are uvicorn's."""
    application = StateServer()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        application, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=120, **settings
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    await_started(listener.getsockname())
    try:
        yield application, Address("127.0.0.1", port, "ssl_certfile" in settings, protocol="http")
    finally:
        application.let_go.set()
        server.should_exit = server.force_exit = True
        thread.join(WAIT_SECONDS)
        listener.close()
