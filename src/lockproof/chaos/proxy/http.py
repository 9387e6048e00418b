"""A link that knows HTTP/1.1 requests and their replies."""

from __future__ import annotations

import asyncio
import http
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockproof.chaos.proxy.armed import Strike
from lockproof.chaos.proxy.connection import Budget, Connection, Ended, Send
from lockproof.chaos.proxy.faults import (
    Answer,
    Delay,
    DropReply,
    DropRequest,
    Duplicate,
    Reset,
    SlowBody,
    StaleRead,
    Truncate,
)
from lockproof.chaos.proxy.http_messages import CONTINUE, EndedEarly, Message, Messages, Unreadable
from lockproof.chaos.proxy.shelf import WRITES
from lockproof.chaos.proxy.wire import Wire
from lockproof.driver.api import Address

if TYPE_CHECKING:
    from lockproof.chaos.proxy.link import Link

HOST = re.compile(rb"(?im)^host:[^\r\n]*")
BODILESS = (204, 304)


@dataclass(eq=False)
class Exchange:
    """A request that was sent to the server, until its reply has passed. Of the client's request only this
    is kept; `written` is what a write wrote where a `StaleRead` wants to know."""

    method: str
    path: str
    strike: Strike | None = None
    written: bytes | None = None
    continued: bool = False
    """We have told the client to go on already."""

    def settle(self) -> None:
        if self.strike is not None:
            self.strike.settle()


class HttpConnection(Connection):
    """Pipelined requests are answered in order. What cannot be read as HTTP/1.1, and what another protocol
    follows on, passes as it is."""

    def __init__(self, link: Link, client: Wire) -> None:
        super().__init__(link, client)
        self._host = b"Host: " + authority_of(link.upstream).encode("latin-1")
        self._pending: deque[Exchange] = deque()
        self._asked: Exchange | None = None
        self._answered = asyncio.Event()
        self._answered.set()

    @property
    def idle(self) -> bool:
        return self._asked is None and not self._pending

    def settle(self) -> None:
        for exchange in (*self._pending, *filter(None, [self._asked])):
            exchange.settle()

    # --- requests ---

    async def requests(self) -> None:
        messages = Messages(self.client)
        try:
            while await self._next_request(messages):
                pass
        except Unreadable as foreign:
            await self.to_server(foreign.data)
            await self.each(self.client, self.to_server)
        except EndedEarly:
            pass  # so the server is told
        await self.end_requests()

    async def _next_request(self, messages: Messages) -> bool:
        """Relays a request, in a frame of its own: it is not to be kept while the next is waited for."""
        message = await messages.request()
        if message is None:
            return False
        self.link.exchanges += 1
        self._asked = Exchange(message.method, message.path)
        await self._request(message, self._asked)
        self._asked = None
        return True

    async def _request(self, message: Message, exchange: Exchange) -> None:
        script, shelves = self.link.script, self.link.shelves
        body: bytes | None = None
        texts: Sequence[str] = ()
        recorded = shelves.wants(exchange.path) and exchange.method in WRITES
        if recorded or script.needs_text(exchange.method, exchange.path):
            body = await self._whole(message, exchange)
            content = b"".join(message.content or ())
            texts = (content.decode("utf-8", "replace"),)
            exchange.written = content if recorded else None
        exchange.strike = script.strike(
            exchange.method,
            exchange.path,
            texts,
            able=lambda armed: (
                not isinstance(armed.fault, StaleRead)
                or (exchange.method == "GET" and shelves.has(exchange.path))
            ),
        )
        head = HOST.sub(self._host, message.head, count=1)
        parts = message.body() if body is None else _once(body)
        match exchange.strike:
            case Strike(fault=DropRequest()) as strike:
                await self._answered.wait()
                strike.hit()
                self.cut()
            case Strike(fault=Delay(seconds, "request")) as strike:
                await strike.hold(seconds)
                await self._forward(exchange, head, parts)
            case Strike(fault=SlowBody(rate, "request")) as strike:
                self._expect(exchange)
                await self._trickle(strike, rate, head, parts, self.to_server)
            case Strike(fault=Reset(after_bytes, "request")) as strike:
                await self._answered.wait()
                await self._break_off(strike, after_bytes, head, parts, self.to_server)
            case Strike(fault=Duplicate(late)) as strike:
                body = await self._whole(message, exchange) if body is None else body
                exchange.strike = None  # the copy is what is struck
                copy = self._deliver(strike, exchange.method, head + body, late)
                if late:
                    self.link.spawn(copy)
                else:
                    await copy
                await self._forward(exchange, head, _once(body))
            case Strike(fault=Answer(effect=False) as answer) as strike:
                await self._answer(strike, answer, exchange, message, parts)
            case Strike(fault=StaleRead()) as strike:
                await _drain(parts)
                await self._answered.wait()
                strike.hit()
                await self.to_client(shelves.before(exchange.path))
            case _:  # none, or one that strikes the reply
                await self._forward(exchange, head, parts)

    async def _whole(self, message: Message, exchange: Exchange) -> bytes:
        """The raw body, once all of it is there."""
        message.content = []
        if message.waits_for_continue:
            exchange.continued = True
            await self.to_client(CONTINUE)
        return b"".join([part async for part in message.body()])

    def _expect(self, exchange: Exchange) -> None:
        self._pending.append(exchange)
        self._answered.clear()

    async def _forward(self, exchange: Exchange, head: bytes, parts: AsyncIterator[bytes]) -> None:
        self._expect(exchange)
        await self.to_server(head)
        async for part in parts:
            await self.to_server(part)

    async def _deliver(self, strike: Strike, method: str, request: bytes, late: bool) -> None:
        """Delivers a request over a connection of its own, and reads its reply."""
        if late:
            await strike.armed.hold()
        wire = Wire()
        try:
            wire = await self.link.dial()
            await self.link.passage("requests")
            await wire.send(request)
            messages = Messages(wire)
            while (reply := await messages.reply(method)) is not None:
                await _drain(reply.body())
                if reply.status >= 200:
                    strike.hit()
                    break
        except (OSError, Unreadable, EndedEarly):
            pass  # the server would not have it
        finally:
            strike.settle()
            wire.abort()
            await wire.gone()

    async def _answer(
        self,
        strike: Strike,
        answer: Answer,
        exchange: Exchange,
        message: Message,
        parts: AsyncIterator[bytes],
    ) -> None:
        """Answers in the server's place."""
        ends = message.waits_for_continue  # told no, the client does not send the body
        if not ends:
            await _drain(parts)
        await self._answered.wait()
        strike.hit()
        await self.to_client(reply_of(answer, exchange.method, last=ends))
        if ends:
            self.client.close()
            self.server.abort()
            raise Ended

    # --- replies ---

    async def replies(self) -> None:
        messages = Messages(self.server)
        try:
            while messages.rest or await messages.more():
                await self._next_reply(messages)
        except Unreadable as foreign:
            await self.to_client(foreign.data)
            await self.each(self.server, self.to_client)
        except EndedEarly:
            pass  # so the client is told
        await self.end_replies()
        raise Ended

    async def _next_reply(self, messages: Messages) -> None:
        if not self._pending:  # nobody asked: such as a 408 to a silent client
            raise Unreadable(messages.take())
        exchange = self._pending[0]
        reply = await messages.reply(exchange.method)
        if reply is None:
            return
        await self._reply(exchange, reply)
        if reply.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise Unreadable(messages.take())
        if reply.status >= 200:
            self._pending.popleft().settle()
            if not self._pending:
                self._answered.set()

    async def _reply(self, exchange: Exchange, reply: Message) -> None:
        if reply.status < 200:
            if not (exchange.continued and reply.status == http.HTTPStatus.CONTINUE):
                await self.to_client(reply.head)
            return
        parts = self._recorded(exchange, reply)
        match exchange.strike:
            case Strike(fault=DropReply()) as strike:
                await _drain(parts)
                strike.hit()
                self.cut()
            case Strike(fault=Delay(seconds, "reply")) as strike:
                await strike.hold(seconds)
                await self._pass(reply.head, parts)
            case Strike(fault=SlowBody(rate, "reply")) as strike:
                await self._trickle(strike, rate, reply.head, parts, self.to_client)
            case Strike(fault=Reset(after_bytes, "reply")) as strike:
                await self._break_off(strike, after_bytes, reply.head, parts, self.to_client)
            case Strike(fault=Truncate(keep)) as strike:
                await self._truncate(strike, keep, reply, parts)
            case Strike(fault=Answer(effect=True) as answer) as strike:
                await _drain(parts)
                strike.hit()
                await self.to_client(reply_of(answer, exchange.method))
            case _:
                await self._pass(reply.head, parts)

    async def _recorded(self, exchange: Exchange, reply: Message) -> AsyncIterator[bytes]:
        """The body; what a later `StaleRead` needs of it is put on the shelf."""
        kept = [reply.head] if exchange.method == "GET" and self.link.shelves.wants(exchange.path) else None
        async for part in reply.body():
            if kept is not None:
                kept.append(part)
            yield part
        if kept is not None or exchange.written is not None:
            raw = b"".join(kept or ())
            self.link.shelves.record(exchange.method, exchange.path, reply.status, raw, exchange.written)

    async def _pass(self, head: bytes, parts: AsyncIterator[bytes]) -> None:
        await self.to_client(head)
        async for part in parts:
            await self.to_client(part)

    async def _truncate(
        self, strike: Strike, keep: float, reply: Message, parts: AsyncIterator[bytes]
    ) -> None:
        """Cuts what has a length or chunks; what ends with the connection cannot be seen to be cut."""
        length = reply.length
        if length is None and reply.chunked:
            reply.content = []
            body = b"".join([part async for part in parts])
            parts, length = _once(body), len(body) if any(reply.content) else None
        if not length:
            await self._pass(reply.head, parts)
            return
        await self.to_client(reply.head)
        left = int(length * keep)
        cut = False
        async for part in parts:
            await self.to_client(part[:left])
            left -= len(part[:left])
            cut = True
        if not cut:  # the reply to a HEAD
            return
        strike.hit()
        self.client.close()
        self.server.abort()
        raise Ended

    # --- either way ---

    async def _trickle(
        self, strike: Strike, rate: float, head: bytes, parts: AsyncIterator[bytes], send: Send
    ) -> None:
        await send(head)
        async for part in parts:
            await self.trickle(strike, rate, part, send)

    async def _break_off(
        self, strike: Strike, after_bytes: int, head: bytes, parts: AsyncIterator[bytes], send: Send
    ) -> None:
        """Sends a part of the message, and a RST."""
        budget = Budget(after_bytes)
        if after_bytes:
            sent = False
            async for part in parts:
                if not sent:
                    await send(head)
                sent = True
                await send(budget.take(part))
                if budget.spent:
                    break
            if not sent:  # there is no body: break off in the head
                await send(head[:-1])
        strike.hit()
        self.reset()


def authority_of(upstream: Address) -> str:
    """What a client that connects directly says in the header `Host`."""
    host = upstream.server_name or upstream.host
    default = 443 if upstream.tls else 80
    host = f"[{host}]" if ":" in host else host
    return host if upstream.port == default else f"{host}:{upstream.port}"


def reply_of(answer: Answer, method: str, *, last: bool = False) -> bytes:
    """An answer as its bytes; `last`: the connection ends with it."""
    try:
        phrase = http.HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Unknown"
    headers = dict(answer.headers)
    if answer.status not in BODILESS and not any(name.lower() == "content-length" for name in headers):
        headers["Content-Length"] = str(len(answer.body))
    if last:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    body = b"" if method == "HEAD" or answer.status in BODILESS else answer.body
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


async def _drain(parts: AsyncIterator[bytes]) -> None:
    async for _ in parts:
        pass
