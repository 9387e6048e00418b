"""The fake on sockets: uvicorn on 127.0.0.1 in threads, workspace and storage each at a port of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lockproof.fakes.databricks.control import PREFIX, serve_control
from lockproof.fakes.databricks.wire import Headers, Request, Response
from lockproof.fakes.databricks.workspace import FakeWorkspace, Pause

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
LOOPBACK = ("127.0.0.1", "::1", "localhost")
START_SECONDS = 20.0
POLL_SECONDS = 0.01
BODILESS = (204, 304)
MAX_WAITING = 512


class Protocol(HttpToolsProtocol):
    """Puts the connection into the scope: a scripted fault must be able to break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


class Application:
    """The ASGI application of one address (`host` as in `Request.host`)."""

    def __init__(self, workspace: FakeWorkspace, host: str, *, control: bool) -> None:
        self.workspace = workspace
        self.host = host
        self.control = control
        # many requests may wait at once (statements held by a test), none may keep another from waiting
        self.workers = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix=f"fake {host}")

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the fake speaks HTTP only, not {scope['type']}")
        request = Request(
            scope["method"],
            unquote(scope["raw_path"].decode("latin-1")),
            dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
            Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
            host=self.host,
            began=self.workspace.version,
        )
        body = await _body(receive)
        if body is None:
            self.workspace.abandon(request)
            return
        request.body = body
        if self.control and request.path.startswith(PREFIX):
            answer = await asyncio.to_thread(serve_control, self.workspace, request)
        else:
            answer = await self._exchange(request)
        transport: asyncio.Transport = scope["state"]["transport"]
        if answer.drop:
            transport.abort()
            await _gone(receive)
        elif not await _send(answer, request.method, send):
            transport.close()
            await _gone(receive)

    async def _exchange(self, request: Request) -> Response:
        """`FakeWorkspace.handle` without blocking the loop."""
        exchange = self.workspace.exchange(request)
        answer: Response | None = None
        while True:
            try:
                step = exchange.send(answer)
            except StopIteration as end:
                result: Response = end.value
                return result
            answer = None
            if isinstance(step, Pause):
                if step.seconds:
                    await asyncio.sleep(step.seconds)
                while step.armed is not None and not step.armed.released.is_set():
                    await asyncio.sleep(POLL_SECONDS)
            else:
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(
                    self.workers, self.workspace.perform, step.route, step.request
                )


class FakeServer:
    """Serves a `FakeWorkspace` until it is closed; use it as a context manager.

    `port` and `storage_port` 0 choose free ports; a port that is taken is an OSError at once. `certificate`,
    a PEM file with a chain and its key, has both addresses speak TLS. The control API
    (`FakeControl`) is served at the workspace's address, and only when `host` is a loopback address.
    """

    def __init__(
        self,
        workspace: FakeWorkspace | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        storage_port: int = 0,
        certificate: Path | None = None,
    ) -> None:
        self.workspace = workspace or FakeWorkspace()
        control = host in LOOPBACK
        self._listeners: list[_Listener] = []
        try:
            for name, number in (("workspace", port), ("storage", storage_port)):
                application = Application(self.workspace, name, control=control and name == "workspace")
                self._listeners.append(_Listener(application, host, number, certificate))
        except OSError:
            self.close()
            raise
        self.url, self.storage_url = (listener.url for listener in self._listeners)
        self.workspace.url, self.workspace.storage_url = self.url, self.storage_url

    @property
    def token(self) -> str:
        """The admin's personal access token."""
        return self.workspace.token

    def start(self) -> Self:
        """Returns once both addresses answer. Raises RuntimeError when one does not start."""
        for listener in self._listeners:
            listener.start()
        return self

    def close(self) -> None:
        """Lets held requests go, ends all connections and the threads."""
        self.workspace.release_all()
        for listener in self._listeners:
            listener.stop()
        for listener in self._listeners:
            listener.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.close()


class _Listener:
    """One uvicorn server on a socket that is bound at once, so that its port is known before it starts."""

    def __init__(self, application: Application, host: str, port: int, certificate: Path | None) -> None:
        self.application = application
        self.socket = socket.create_server((host, port), backlog=256)
        bound = self.socket.getsockname()[1]
        self.url = f"{'https' if certificate else 'http'}://{host}:{bound}"
        config = uvicorn.Config(
            application,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,  # the answers carry the fake's own
            timeout_keep_alive=120,
            ssl_certfile=certificate,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run, name=f"fake {application.host} {bound}", daemon=True)

    def _run(self) -> None:
        self.server.run(sockets=[self.socket])

    def start(self) -> None:
        self.thread.start()
        ticker = threading.Event()
        for _ in range(int(START_SECONDS / POLL_SECONDS)):
            if self.server.started:
                return
            if not self.thread.is_alive():
                break
            ticker.wait(POLL_SECONDS)
        raise RuntimeError(f"the fake Databricks did not start at {self.url}")

    def stop(self) -> None:
        """Requests under way are cut off: nobody reads their answers any more."""
        self.server.should_exit = self.server.force_exit = True

    def join(self) -> None:
        if self.thread.is_alive():
            self.thread.join(START_SECONDS)
        self.application.workers.shutdown(wait=False)
        self.socket.close()


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when the client went away before its end."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        if chunk:
            chunks.append(chunk)
        if not message.get("more_body", False):
            break
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _gone(receive: Receive) -> None:
    """Waits until the server knows that the connection is gone; else it reports an unfinished answer."""
    while (await receive())["type"] != "http.disconnect":
        continue


async def _send(answer: Response, method: str, send: Send) -> bool:
    """Sends the answer; False when it is to break off after what was sent."""
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()
    ]
    length = len(answer.body)
    named = any(name == b"content-length" for name, _ in headers)
    if not named and answer.status not in BODILESS and method != "HEAD":
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.truncate_at is not None and answer.truncate_at < length:
        await send(
            {
                "type": "http.response.body",
                "body": bytes(answer.body[: answer.truncate_at]),
                "more_body": True,
            }
        )
        return False
    await send({"type": "http.response.body", "body": answer.body if length else b""})
    return True
