"""The HTTP backend protocol over any driver's clients, so that stock tofu and terraform reach them.

The least that a correct server does, and nothing beyond what the driver does: what a client is told
is what the driver said.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from lockproof.driver import Client, DriverError, Locked, LockInfo, NotLocked
from lockproof.driver.command_line import CommandLine

STATUS = {"locked": 423, "lock_mismatch": 409, "not_locked": 409, "stale": 409, "unauthorized": 403}
NO_TIME = "0001-01-01T00:00:00Z"


class Server(ThreadingHTTPServer):
    """A thread for each connection, and room for many that come at once."""

    daemon_threads = True
    request_queue_size = 256


class Adapter:
    """Serves `client` on 127.0.0.1 while it is open; one address per workspace, no password."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.mutex = threading.Lock()
        self.ids: dict[str, str] = {}
        self.server = Server(("127.0.0.1", 0), self.handler())
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def command_line(self, workspace: str) -> CommandLine:
        """How to run a client on the state of `workspace`."""
        url = f"http://127.0.0.1:{self.server.server_address[1]}/{workspace}"
        names = ("TF_HTTP_ADDRESS", "TF_HTTP_LOCK_ADDRESS", "TF_HTTP_UNLOCK_ADDRESS")
        return CommandLine((), dict.fromkeys(names, url))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, method: str, workspace: str, query: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the reply; one request at a time, as a client's calls are sequential."""
        calls: dict[str, Callable[[], tuple[int, bytes]]] = {
            "GET": lambda: self.read(workspace),
            "POST": lambda: self.write(workspace, parse_qs(query).get("ID", [None])[0], body),
            "DELETE": lambda: self.purge(workspace),
            "LOCK": lambda: self.lock(workspace, LockInfo.from_json(json.loads(body))),
            "UNLOCK": lambda: self.unlock(workspace, body),
        }
        with self.mutex:
            try:
                return calls[method]()
            except DriverError as error:
                holder = json.dumps(with_time(error.holder).to_json()) if error.holder else str(error)
                return STATUS.get(error.kind, 503 if not error.definite else 422), holder.encode()

    def read(self, workspace: str) -> tuple[int, bytes]:
        snapshot = self.client.get(workspace)
        return (204, b"") if snapshot is None else (200, snapshot.data)

    def write(self, workspace: str, lock_id: str | None, body: bytes) -> tuple[int, bytes]:
        self.client.put(workspace, body, lock_id=None if lock_id is None else self.ids.get(lock_id, lock_id))
        return 200, b""

    def purge(self, workspace: str) -> tuple[int, bytes]:
        self.client.delete(workspace)
        return 200, b""

    def lock(self, workspace: str, info: LockInfo) -> tuple[int, bytes]:
        """The id that the backend chose is kept beside the client's own."""
        self.ids[info.ID] = self.client.lock(workspace, info)
        return 200, b""

    def unlock(self, workspace: str, body: bytes) -> tuple[int, bytes]:
        """Without a body, terraform's `force-unlock`, the holder's id is learned from a refusal."""
        if body:
            given = LockInfo.from_json(json.loads(body)).ID
            self.client.unlock(workspace, self.ids.get(given, given))
            return 200, b""
        try:
            probe = self.client.lock(workspace, LockInfo.new("force-unlock"))
        except Locked as refused:
            if refused.holder is None:
                raise
            self.client.unlock(workspace, refused.holder.ID)
            return 200, b""
        self.client.unlock(workspace, probe)
        raise NotLocked(f"workspace {workspace!r} is not locked")

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """The request handler class of this server."""
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                status, reply = answer(self.command, parts.path.strip("/"), parts.query, body)
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_POST = do_DELETE = do_LOCK = do_UNLOCK = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                """The history has the calls."""

        return Handler


def with_time(holder: LockInfo) -> LockInfo:
    """`holder` with a time that a client can parse: it would discard the whole of it otherwise."""
    return holder if holder.Created else replace(holder, Created=NO_TIME)
