"""A client's connection and its counterpart at the server, and what passes between them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from lockproof.chaos.proxy.armed import Strike
from lockproof.chaos.proxy.faults import Delay, Side, SlowBody
from lockproof.chaos.proxy.wire import Wire

if TYPE_CHECKING:
    from lockproof.chaos.proxy.link import Link

SLICES_PER_SECOND = 20
Send = Callable[[bytes], Awaitable[None]]


class Ended(Exception):
    """The relay is over: both ends were told what they were to be told."""


class Connection(ABC):
    """Two tasks, one per direction. A protocol says how exchanges are told apart in what passes."""

    def __init__(self, link: Link, client: Wire) -> None:
        self.link = link
        self.client = client
        self.server = Wire()

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether no exchange is under way."""

    @abstractmethod
    def settle(self) -> None:
        """The connection is over, and the exchanges that were under way with it."""

    @abstractmethod
    async def requests(self) -> None:
        """Relays what the client sends, to its end."""

    @abstractmethod
    async def replies(self) -> None:
        """Relays what the server sends, to its end."""

    async def run(self) -> None:
        """Relays until both directions have ended or one cannot go on."""
        try:
            self.server = await self.link.dial()
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self.requests())
                directions.create_task(self.replies())
        except* (OSError, Ended):  # one side is gone; so is the other, then
            pass
        finally:
            self.settle()
            self.server.close()
            self.client.close()
            await self.server.gone()
            await self.client.gone()

    def abort(self) -> None:
        """Ends both connections at once."""
        self.client.abort()
        self.server.abort()

    # --- what the relays of all protocols do ---

    async def each(self, wire: Wire, relay: Send) -> None:
        """Relays what arrives until its end; nothing is kept while nothing arrives."""
        while data := await wire.read():
            await relay(data)
            del data

    async def to_server(self, data: bytes) -> None:
        await self.link.passage("requests")
        await self.server.send(data)

    async def to_client(self, data: bytes) -> None:
        await self.link.passage("replies")
        await self.client.send(data)

    async def end_requests(self) -> None:
        """The client has sent its last; so the server is told. Raises `Ended` where the client is gone."""
        await self.link.passage("requests")
        if self.client.broken:
            self.server.abort()
            raise Ended
        self.server.end()

    async def end_replies(self) -> None:
        """The server has sent its last; so the client is told. Raises `Ended` where the server is gone."""
        await self.link.passage("replies")
        if self.server.broken:
            self.client.reset()
            raise Ended
        self.client.end()

    def cut(self) -> None:
        """Ends both connections at once. Raises `Ended`."""
        self.abort()
        raise Ended

    def reset(self) -> None:
        """Both sides get a RST. Raises `Ended`."""
        self.client.reset()
        self.server.reset()
        raise Ended

    async def send_struck(self, strike: Strike | None, data: bytes, side: Side, *, begins: bool) -> None:
        """Passes bytes of an exchange late or slowly, where that is its fault; `begins`: its first ones."""
        send = self.to_server if side == "request" else self.to_client
        match strike:
            case Strike(fault=Delay(seconds, where)) if where == side:
                if begins:
                    await strike.hold(seconds)
                await send(data)
            case Strike(fault=SlowBody(rate, where)) if where == side:
                await self.trickle(strike, rate, data, send)
            case _:
                await send(data)

    async def trickle(self, strike: Strike, bytes_per_second: float, data: bytes, send: Send) -> None:
        """Sends `data` in slices, the rest at once when the fault is released."""
        size = max(1, int(bytes_per_second / SLICES_PER_SECOND))
        at = 0
        while at < len(data):
            if strike.armed.released:
                size = len(data)
            part = data[at : at + size]
            await send(part)
            await strike.hold(len(part) / bytes_per_second)
            at += size


class Budget:
    """How much of a message passes before a reset; its last byte never does."""

    def __init__(self, after_bytes: int) -> None:
        self.left = after_bytes
        self._kept = b""

    def take(self, data: bytes) -> bytes:
        """What of `data` may pass now."""
        data = self._kept + data
        passing = data[: min(self.left, len(data) - 1)]
        self._kept = data[len(passing) :]
        self.left -= len(passing)
        return passing

    @property
    def spent(self) -> bool:
        return self.left == 0
