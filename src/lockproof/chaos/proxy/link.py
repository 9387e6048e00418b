"""One link: a port on this machine before a server, and what is done to what passes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from lockproof.chaos.proxy.armed import Armed, Script
from lockproof.chaos.proxy.connection import Connection
from lockproof.chaos.proxy.door import Door
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

LOOK_SECONDS = 0.05
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
        self._door = Door(self._loop, self._take, proxy.defects.append)
        self._partitions: tuple[Armed, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()
        self.open: set[Connection] = set()
        """The connections that there are now."""
        self.address = Address(
            "127.0.0.1",
            self._door.port,
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
            self._door.hang()
            self.spawn(self._count_hanging(armed))

        armed.on_release = lambda: self._lift(armed)
        self._call(begin)
        return armed

    def close_idle(self) -> int:
        """Ends the connections that carry no exchange, as an idle timeout does, and says how many."""

        def close() -> int:
            idle = [connection for connection in self.open if connection.idle and not connection.client.lost]
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
        self._door.open()

    async def close(self) -> None:
        """Ends everything of the link at once."""
        self._door.close()
        self._partitions = ()
        self._end_connections()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` until it ends or the link closes; what it raises is a defect of the proxy."""
        task = self._loop.create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            failure = None if task.cancelled() else task.exception()
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
            if failure is not None:
                self._proxy.defects.append(failure)

        task.add_done_callback(ended)

    async def passage(self, direction: Direction) -> None:
        """Returns when no partition keeps bytes of that direction back."""
        while closed := [
            armed
            for armed in self._partitions
            if isinstance(armed.fault, Partition) and armed.fault.covers(direction) and not armed.released
        ]:
            closed[0].hit()
            await closed[0].hold()

    async def dial(self) -> Wire:
        """A new connection to the server, with TLS where it has that. Raises `OSError`."""
        return await connect(self.upstream, self.protocol)

    def _take(self, sock: socket.socket) -> None:
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
        self.open.add(connection)
        try:
            await connection.run()
        finally:
            self.open.discard(connection)

    def _end_connections(self) -> None:
        for connection in self.open:
            connection.abort()

    def _lift(self, partition: Armed) -> None:
        self._partitions = tuple(other for other in self._partitions if other is not partition)
        if not self._partitions:
            self._door.open()

    async def _count_hanging(self, partition: Armed) -> None:
        """Connections that hang are hit too, and only the kernel knows them."""
        counted: frozenset[int] = frozenset()
        while partition in self._partitions:
            hanging = self._door.hanging()
            for _ in hanging - counted:
                partition.hit()
            counted = hanging
            await asyncio.sleep(LOOK_SECONDS)

    def _call(self, function: Callable[[], T]) -> T:
        return self._proxy.call(function)
