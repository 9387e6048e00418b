"""One link: a port on this machine before a server, and what is done to what passes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from lockproof.chaos.proxy.armed import Armed, Script
from lockproof.chaos.proxy.connection import Connection
from lockproof.chaos.proxy.faults import Direction, LinkFault, Partition, Protocol, Which, check
from lockproof.chaos.proxy.http import HttpConnection
from lockproof.chaos.proxy.postgres import PostgresConnection
from lockproof.chaos.proxy.shelf import Shelves
from lockproof.chaos.proxy.tcp import TcpConnection
from lockproof.chaos.proxy.upstream import connect
from lockproof.chaos.proxy.wire import Wire
from lockproof.driver.api import Address

if TYPE_CHECKING:
    from lockproof.chaos.proxy.proxy import FaultProxy

T = TypeVar("T")

BACKLOG = 1024
PAUSE_SECONDS = 0.1
OUT_OF_FILES = "the fault proxy cannot take a connection: too many open files (raise `ulimit -n`)"
RELAYS: Mapping[Protocol, type[Connection]] = {
    "tcp": TcpConnection,
    "http": HttpConnection,
    "postgres": PostgresConnection,
}


class Link:
    """Where clients connect instead of to the server; safe to use from any thread.

    `address` is where; it has TLS where the server has. `exchanges` counts those that began, `connections`
    those that were taken, both since the link stands.
    """

    def __init__(
        self, proxy: FaultProxy, upstream: Address, protocol: Protocol, name: str, tls: ssl.SSLContext | None
    ) -> None:
        self.name = name or f"{upstream.host}:{upstream.port}"
        self.protocol = protocol
        self.upstream = upstream
        self.exchanges = 0
        self.connections = 0
        self.script = Script()
        self.shelves = Shelves(self.script)
        self.tls = tls
        self._proxy = proxy
        self._loop = proxy.loop
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self._filler: socket.socket | None = None
        self._partitions: tuple[Armed, ...] = ()
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        self.address = Address(
            "127.0.0.1",
            self._listener.getsockname()[1],
            tls is not None,
            upstream.server_name,
            protocol,
            str(proxy.ca_file) if tls is not None else None,
        )

    def __repr__(self) -> str:
        return f"<Link {self.name}, {self.protocol}, port {self.address.port}>"

    def arm(self, fault: LinkFault, which: Which = Which()) -> Armed:  # noqa: B008, frozen
        """The fault strikes the exchanges that `which` says, until it is disarmed. Raises `ValueError` for
        one that makes no sense in the link's protocol."""
        check(fault, which, self.protocol)
        armed = Armed(fault, which, self.name, self._loop)
        armed.on_release = self.shelves.sweep
        self.script.add(armed)
        return armed

    def partition(self, direction: Direction = "both") -> Armed:
        """From now on bytes of that direction are kept back and nothing is closed; new connections hang, as
        neither half of their handshake comes through. Lifted by `release` or `disarm`, or by `heal`: then all
        that was kept back passes, in order, also that of a client that has left meanwhile."""
        armed = Armed(Partition(direction), Which(times=None), self.name, self._loop)

        def begin() -> None:
            self._partitions = (*self._partitions, armed)
            self._hang_connects()

        armed.on_release = lambda: self._lift(armed)
        self._call(begin)
        return armed

    def close_idle(self) -> int:
        """Ends the connections that carry no exchange, as an idle timeout does, and says how many."""

        def close() -> int:
            idle = [connection for connection in self._open if connection.idle and not connection.client.lost]
            for connection in idle:
                connection.client.close()
                connection.server.close()
            return len(idle)

        return self._call(close)

    def redirect(self, upstream: Address) -> None:
        """New connections go to another server, as after a fail-over; those that there are end."""

        def move() -> None:
            self.upstream = upstream
            self._end_connections()

        self._call(move)

    def heal(self) -> None:
        """Ends all faults: what is held or kept back goes on."""
        for armed in (*self.script.armed, *self._partitions):
            armed.disarm()

    # --- on the loop ---

    def start(self) -> None:
        """Takes connections from now on."""
        self._accepting = self._loop.create_task(self._accept())

    async def close(self) -> None:
        """Ends everything of the link at once."""
        self._stop_accepting()
        self._end_connections()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` until it ends or the link closes; what it raises is a defect of the proxy."""
        task = self._loop.create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (failure := task.exception()) is not None:
                self._proxy.defects.append(failure)

        task.add_done_callback(ended)

    async def passage(self, direction: Direction) -> None:
        """Returns when no partition keeps bytes of that direction back."""
        while closed := [
            armed
            for armed in self._partitions
            if isinstance(armed.fault, Partition) and armed.fault.covers(direction)
        ]:
            closed[0].hit()
            await closed[0].hold()

    async def dial(self) -> Wire:
        """A new connection to the server, with TLS where it has that. Raises `OSError`."""
        return await connect(self.upstream, self.protocol)

    async def _accept(self) -> None:
        while True:
            try:
                sock, peer = await self._loop.sock_accept(self._listener)
            except OSError as failure:
                if failure.errno in (errno.EMFILE, errno.ENFILE):
                    self._proxy.defects.append(OSError(failure.errno, OUT_OF_FILES))
                    await asyncio.sleep(PAUSE_SECONDS)
                continue
            if self._filler is not None and peer == self._filler.getsockname():
                sock.close()
                self._filler.close()
                self._filler = None
                continue
            self.connections += 1
            self.spawn(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        wire = Wire()
        tls = None if self.protocol == "postgres" else self.tls  # Postgres asks for it in its own words
        try:
            await self._loop.connect_accepted_socket(lambda: wire, sock, ssl=tls)
        except OSError:
            return  # the client does not trust us, or left
        connection = RELAYS[self.protocol](self, wire)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    def _end_connections(self) -> None:
        for connection in self._open:
            connection.abort()

    # A listening socket answers handshakes by itself, in the kernel, unless its queue is full: then it drops
    # them, as a partition does. So the queue is made as short as can be, and one of our own fills it.

    def _stop_accepting(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None

    def _hang_connects(self) -> None:
        self._stop_accepting()
        if self._filler is None:
            self._listener.listen(0)
            self._filler = socket.socket()
            self._filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self._filler.connect(self._listener.getsockname())

    def _lift(self, partition: Armed) -> None:
        self._partitions = tuple(other for other in self._partitions if other is not partition)
        if not self._partitions and self._accepting is None:
            self._listener.listen(BACKLOG)
            self.start()

    def _call(self, function: Callable[[], T]) -> T:
        return self._proxy.call(function)
