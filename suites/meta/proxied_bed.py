"""A real server with a link before it, and a client that goes through the link."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from lockproof.chaos.proxy import FaultProxy, Link
from lockproof.driver import Address
from lockproof.suites.meta.proxied_server import WAIT_SECONDS, StateServer

BODY = b"0123456789" * 1000
PATHS = itertools.count()


@dataclass
class Bed:
    """A server, a link before it, a client that goes through the link, and a path of its own."""

    server: StateServer
    upstream: Address
    proxy: FaultProxy
    link: Link
    session: requests.Session
    path: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.link.address.port}{self.path}"

    @property
    def seen(self) -> list[str]:
        """The methods of the requests that reached the server whole."""
        return self.server.seen.methods(self.path)

    def send(self, method: str, body: bytes | None = None, **options: Any) -> requests.Response:
        return self.session.request(method, self.url, data=body, **{"timeout": WAIT_SECONDS, **options})

    def put(self, body: bytes = BODY) -> requests.Response:
        return self.send("PUT", body)

    def get(self) -> bytes:
        reply = self.send("GET")
        assert reply.status_code == 200
        return reply.content

    def later(self, call: Callable[[], Any]) -> Call:
        return Call(call)


class Call:
    """A call in a thread of its own; `result()` gives or raises what came of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._outcome: Any = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._outcome = call()
        except (requests.RequestException, AssertionError) as failure:
            self._failure = failure

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(WAIT_SECONDS)
        assert self.done, "the call does not end"
        if self._failure is not None:
            raise self._failure
        return self._outcome
