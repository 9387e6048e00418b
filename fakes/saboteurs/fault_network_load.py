"""Saboteurs of what a broken network does in the long run: partitions, idle ends, stale reads, load."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lockproof.driver.api import Capabilities, Snapshot
from lockproof.driver.errors import DriverError
from lockproof.driver.http import HttpClient, HttpScope
from lockproof.fakes.drivers.served import Served
from lockproof.fakes.saboteurs.broken_wire import BrokenWire, Register
from lockproof.fakes.saboteurs.fault_network import ExcusingClient, PlainReader

register = Register(__name__, *(f"FAULT-NET-0{number}" for number in ("03", "08", "09", "10", "12")))
SABOTEURS = register.saboteurs


@register.breaks("FAULT-NET-003", "FAULT-NET-002", "FAULT-NET-012")
class TakesTheFirstPiece(BrokenWire):
    """What comes first of a reply is taken for the whole, as it is as long as the network is quick."""

    class Client(PlainReader):
        def body(self, reply: http.client.HTTPResponse) -> bytes:
            return reply.read1()


@register.breaks("FAULT-NET-008")
class StrictInName(BrokenWire):
    """Claims strict fencing, and looks at the lock of a write, but not at what the write rests on."""

    def capabilities(self) -> Capabilities:
        return Capabilities(super().capabilities() | {"locking.fencing-strict"})


@register.breaks("FAULT-NET-009", "FAULT-NET-012")
class SilenceIsConsent(BrokenWire):
    """A change that is not answered in time is taken for done: somebody will see to it."""

    class Client(ExcusingClient):
        def __init__(self, scope: HttpScope, who: str) -> None:
            super().__init__(scope, who)
            self.settings = replace(self.settings, timeout=0.15)

        def excused(self, error: DriverError) -> bool:
            return error.kind == "timeout"


@register.breaks("FAULT-NET-012")
class GoesOnOffline(BrokenWire):
    """A client that was cut off once reads what it remembers from then on, whatever was written since."""

    class Client(HttpClient):
        def __init__(self, scope: HttpScope, who: str) -> None:
            super().__init__(scope, who)
            self.remembered: dict[str, Snapshot] = {}
            self.offline = False

        def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
            super().put(workspace, data, lock_id=lock_id)
            self.remembered[workspace] = Snapshot(data)

        def get(self, workspace: str) -> Snapshot | None:
            if self.offline and workspace in self.remembered:
                return self.remembered[workspace]
            found = super().get(workspace)
            if found is not None:
                self.remembered[workspace] = found
            return found

        def send(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().send(*args, **kwargs)
            except DriverError:
                self.offline = True
                raise


class SessionServer(ThreadingHTTPServer):
    """The protocol with locks that belong to a connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SessionHandler)
        self.mutex = threading.Lock()
        self.states: dict[str, bytes] = {}
        self.locks: dict[str, tuple[object, bytes]] = {}


class SessionHandler(BaseHTTPRequestHandler):
    """One connection, and with its end the end of its locks."""

    server: SessionServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        with self.server.mutex:
            status, reply = self.answer(parts.path, parse_qs(parts.query).get("ID", [""])[0], body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_DELETE = do_LOCK = do_UNLOCK = handle_any

    def answer(self, place: str, lock_id: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the reply."""
        states, locks = self.server.states, self.server.locks
        held = locks[place][1] if place in locks else b""
        asked = json.loads(body)["ID"] if self.command in {"LOCK", "UNLOCK"} and body else lock_id
        owner = json.loads(held)["ID"] if held else ""
        if self.command == "GET":
            return (200, states[place]) if place in states else (404, b"")
        if self.command == "LOCK":
            if held:
                return 423, held
            locks[place] = (self, body)
        elif self.command == "UNLOCK":
            if asked != owner:
                return 409, held
            del locks[place]
        elif asked and asked != owner:
            return 409, held
        elif self.command == "POST":
            states[place] = body
        else:
            states.pop(place, None)
        return 200, b""

    def finish(self) -> None:
        """The connection is over."""
        with self.server.mutex:
            for place in [place for place, (by, _) in self.server.locks.items() if by is self]:
                del self.server.locks[place]
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@register.breaks("FAULT-NET-010", "FAULT-NET-009", "FAULT-NET-012", "FAULT-NET-011")
class LockEndsWithItsSession(Served):
    """A lock belongs to the holder's session, and is gone with its connection: others are let in while the
    holder works on (hashicorp/terraform#14312)."""

    @classmethod
    @contextmanager
    def provision(cls, options: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """Serves until the run is over."""
        with SessionServer() as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            host, port = server.server_address[:2]
            address = f"http://{host!s}:{port}/{{scope}}-{{workspace}}"
            yield {"address": address, "target": "fake", **options}
            server.shutdown()
            thread.join()
