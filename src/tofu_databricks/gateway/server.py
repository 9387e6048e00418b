"""The gateway as a running server."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, cast
from urllib.parse import quote

import uvicorn

from tofu_databricks.errors import ConfigError
from tofu_databricks.gateway.app import GatewayApp
from tofu_databricks.gateway.connection import HEAD_BYTES, Connection

IDLE_SECONDS = 120
"""Longer than the 90 s for which Go's HTTP client keeps an idle connection: the client closes first,
so that none of its requests meets a connection that is just being closed."""


class Gateway:
    """A `GatewayApp` on a socket, from construction on; `url` is its address.

    As a context manager it serves in a thread; `run` serves in the calling thread until `request_stop`.
    Both end with the requests in flight completed, and set no deadline of their own to that: a write may be
    several SQL statements of five minutes each. It ends all the same, since whatever the backend asks for has
    a bound, and a client that stalls is given up (`Limits.patience`).

    Raises `ConfigError` when the address cannot be bound.
    """

    def __init__(
        self,
        app: GatewayApp,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
    ) -> None:
        self.app = app
        self.socket = bind(host, port)
        self.host, self.port = self.socket.getsockname()[:2]
        name = f"[{self.host}]" if ":" in self.host else self.host
        self.url = f"{'https' if tls_cert else 'http'}://{name}:{self.port}"
        config = uvicorn.Config(
            app,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            http=cast("type[asyncio.Protocol]", partial(Connection, patience=app.limits.patience)),
            ws="none",
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=None,
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
        )
        try:
            config.load()
        except OSError as error:
            self.socket.close()
            raise ConfigError(f"cannot use the TLS certificate {tls_cert}: {error}") from None
        self.server = _Server(config)
        self.thread = threading.Thread(target=self.run, name="gateway", daemon=True)

    def state_url(self, workspace: str) -> str:
        """The address of a workspace's state."""
        return f"{self.url}/state/{quote(workspace, safe='')}"

    def run(self) -> None:
        """Serves until told to stop."""
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        try:
            self.server.run(sockets=[self.socket])
        finally:
            self.app.close()

    def request_stop(self) -> None:
        """Makes `run` return once the requests in flight are complete; at once when called before it."""
        self.server.should_exit = True

    def stop(self) -> None:
        """Stops taking requests, completes those in flight, ends the thread."""
        self.request_stop()
        self.thread.join()
        self.socket.close()

    def __enter__(self) -> Self:
        # Its threads take no signals: one that arrives there would not wake the main thread, whose work
        # it is to handle it, and would end the process where no handler is set yet.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self.server.ready.wait()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Server(uvicorn.Server):
    """Says when it is ready, and leaves signals to the program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ConfigError` when the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return listener
