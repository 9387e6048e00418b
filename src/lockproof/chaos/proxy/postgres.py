"""A link that knows the statements of Postgres and their results."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lockproof import pgwire
from lockproof.chaos.proxy.armed import Strike
from lockproof.chaos.proxy.connection import Budget, Connection, Ended
from lockproof.chaos.proxy.faults import DropReply, DropRequest, Reset, Truncate
from lockproof.chaos.proxy.wire import Wire

if TYPE_CHECKING:
    from lockproof.chaos.proxy.link import Link

SYNC = pgwire.message(b"S", b"")
COMPLETE = (b"Q", b"F", b"S", b"H")
"""Query, FunctionCall, Sync and Flush: what came before them is now to be carried out."""
COPYING = (b"d", b"c", b"f")
COPY_BEGINS = (b"G", b"W")
"""CopyInResponse and CopyBothResponse."""
INSECURE = pgwire.fatal("28000", "connection is insecure (try using `sslmode=require`)")


@dataclass(eq=False)
class Exchange:
    """A statement, or an extended query up to its Sync, until ReadyForQuery has passed."""

    strike: Strike | None = None
    copying: bool = False
    """The server takes rows; it disregards the Sync that came before them."""
    budget: Budget | None = None
    answered: bool = False
    """The reply has begun."""
    kept: bytearray = field(default_factory=bytearray)
    """What has been read of a reply of which a part is to pass once its length is known."""


class PostgresConnection(Connection):
    """The login passes untouched, but that TLS is ended here and begun anew with the server. A server that
    binds a login to the TLS channel (SCRAM-SHA-256-PLUS) refuses it, as it should: the client must say
    `channel_binding=disable`. A CancelRequest passes."""

    def __init__(self, link: Link, client: Wire) -> None:
        super().__init__(link, client)
        self._incoming = bytearray()
        self._batch = bytearray()
        self._texts: list[str] = []
        self._prepared: dict[str, str] = {}
        self._ready = False
        self._asking: Exchange | None = None
        self._pending: deque[Exchange] = deque()
        self._replies = Replies()

    @property
    def idle(self) -> bool:
        return self._ready and not self._pending and not self._batch

    def settle(self) -> None:
        for exchange in self._pending:
            if exchange.strike is not None:
                exchange.strike.settle()

    # --- requests ---

    async def requests(self) -> None:
        await self._begin()
        await self.each(self.client, self._received)
        await self.end_requests()

    async def _received(self, data: bytes) -> None:
        if not self._ready:  # the login's messages
            await self.to_server(data)
            return
        self._incoming += data
        end = 0
        for kind, begin, end in pgwire.frames(self._incoming):
            await self._message(kind, bytes(self._incoming[begin:end]))
        del self._incoming[:end]

    async def _begin(self) -> None:
        """What comes before the login. Raises `Ended` for a client without TLS where there should be TLS."""
        encrypted = False
        while True:
            while len(self._incoming) < 8:
                await self._more()
            length, code = struct.unpack_from("!II", self._incoming)
            if not 8 <= length <= pgwire.LONGEST_STARTUP:
                raise ConnectionError("not a Postgres client")
            while len(self._incoming) < length:
                await self._more()
            startup = bytes(self._incoming[:length])
            del self._incoming[:length]
            if code == pgwire.SSL_REQUEST and self.link.tls is not None and not encrypted:
                if self._incoming:
                    raise ConnectionError("the client speaks before TLS has begun")
                await self.to_client(b"S")
                await self.client.start_tls(self.link.tls)
                encrypted = True
            elif code in (pgwire.SSL_REQUEST, pgwire.GSS_REQUEST):
                await self.to_client(b"N")
            else:
                break
        if self.link.tls is not None and not encrypted and code != pgwire.CANCEL_REQUEST:
            await self.to_client(INSECURE)
            self.client.close()
            raise Ended
        await self.to_server(startup)

    async def _more(self) -> None:
        data = await self.client.read()
        if not data:
            raise ConnectionError("the client left before it logged in")
        self._incoming += data

    async def _message(self, kind: bytes, message: bytes) -> None:
        if kind in COPYING or kind == b"X":
            await self.to_server(message)
            return
        if kind == b"S" and not self._batch and self._pending and self._pending[-1].copying:
            await self.to_server(message)
            return
        self._batch += message
        self._texts += self._texts_of(kind, message)
        if kind in COMPLETE:
            batch, self._batch = bytes(self._batch), bytearray()
            texts, self._texts = self._texts, []
            await self._request(batch, texts, last=kind != b"H")

    def _texts_of(self, kind: bytes, message: bytes) -> Iterator[str]:
        """The SQL texts that a message runs. That of a prepared statement is known as long as it is prepared:
        its name says nothing."""
        if kind in (b"Q", b"P"):
            yield from pgwire.statements(message)
        if kind == b"P":
            name, text = pgwire.names(message)
            if name:
                self._prepared[name] = text
        elif kind == b"B":
            _, name = pgwire.names(message)
            if name in self._prepared:
                yield self._prepared[name]
        elif kind == b"C" and message[5:6] == b"S":
            self._prepared.pop(message[6:-1].decode("utf-8", "replace"), None)

    async def _request(self, batch: bytes, texts: list[str], *, last: bool) -> None:
        exchange = self._asking
        if exchange is None:
            exchange = Exchange(self.link.script.strike(texts=texts))
            self._pending.append(exchange)
            self.link.exchanges += 1
        begins = self._asking is None
        self._asking = None if last else exchange
        match exchange.strike:
            case Strike(fault=DropRequest()) as strike:
                strike.hit()
                self.cut()
            case Strike(fault=Reset(after_bytes, "request")) as strike:
                exchange.budget = exchange.budget or Budget(after_bytes)
                await self.to_server(exchange.budget.take(batch))
                if last or exchange.budget.spent:
                    strike.hit()
                    self.reset()
            case strike:
                await self.send_struck(strike, batch, "request", begins=begins)

    # --- replies ---

    async def replies(self) -> None:
        await self.each(self.server, self._answered)
        await self.end_replies()
        raise Ended

    async def _answered(self, data: bytes) -> None:
        for part, ready in self._replies.feed(data):
            if not self._pending:  # the login, or a notice that nobody asked for
                self._ready = self._ready or ready
                await self.to_client(part)
                continue
            exchange = self._pending[0]
            exchange.copying = self._replies.copying
            await self._reply(exchange, part, ready)
            if ready:
                self._pending.popleft()
                if exchange.strike is not None:
                    exchange.strike.settle()

    async def _reply(self, exchange: Exchange, part: bytes, ready: bool) -> None:
        match exchange.strike:
            case Strike(fault=DropReply()) as strike:
                if ready:
                    strike.hit()
                    self.cut()
            case Strike(fault=Reset(after_bytes, "reply")) as strike:
                exchange.budget = exchange.budget or Budget(after_bytes)
                await self.to_client(exchange.budget.take(part))
                if ready:  # only then has the statement taken effect for certain
                    strike.hit()
                    self.reset()
            case Strike(fault=Truncate(keep)) as strike:
                exchange.kept += part
                if ready:
                    strike.hit()
                    await self.to_client(bytes(exchange.kept[: int(len(exchange.kept) * keep)]))
                    self.client.close()
                    self.server.abort()
                    raise Ended
            case strike:
                begins, exchange.answered = not exchange.answered, True
                await self.send_struck(strike, part, "reply", begins=begins)


class Replies:
    """What the server sends, cut behind each ReadyForQuery; of the rest only where messages end is seen."""

    def __init__(self) -> None:
        self.copying = False
        """The last message began a copy from the client."""
        self._header = b""
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """The parts of `data`, and whether each ends with a ReadyForQuery."""
        begin = at = 0
        while at < len(data):
            if len(self._header) < 5:
                more = data[at : at + 5 - len(self._header)]
                self._header += more
                at += len(more)
                if len(self._header) < 5:
                    break
                self._left = struct.unpack("!I", self._header[1:])[0] - 4
                self.copying = self._header[:1] in COPY_BEGINS
            step = min(self._left, len(data) - at)
            at += step
            self._left -= step
            if self._left == 0:
                kind, self._header = self._header[:1], b""
                if kind == b"Z":
                    yield data[begin:at], True
                    begin = at
        if begin < len(data):
            yield data[begin:], False
