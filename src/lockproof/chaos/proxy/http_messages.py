"""HTTP/1.1 messages as they pass: h11 says where each one ends, and its bytes stay as they came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import unquote_to_bytes, urlsplit

import h11

from lockproof.chaos.proxy.wire import Wire

LONGEST_HEAD = 1 << 20
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Unreadable(Exception):
    """What is sent is no HTTP/1.1, or has changed to another protocol. `data` was read and not passed yet."""

    def __init__(self, data: bytes) -> None:
        super().__init__("not HTTP")
        self.data = data


class EndedEarly(Exception):
    """The connection ended in the middle of a message."""


class Message:
    """A request or a reply whose head has arrived: its raw `head`, and then, once, its `body`."""

    def __init__(
        self,
        stream: Messages,
        parser: h11.Connection,
        event: h11.Request | h11.Response | h11.InformationalResponse,
        head: bytes,
    ) -> None:
        self.event = event
        self.head = head
        self.content: list[bytes] | None = None
        """Set to a list, it gathers what the body says, free of chunk framing."""
        self._stream = stream
        self._parser = parser

    @property
    def method(self) -> str:
        """Of a request."""
        assert isinstance(self.event, h11.Request)
        return self.event.method.decode("ascii")

    @property
    def path(self) -> str:
        """Of a request: without query, percent-decoded."""
        assert isinstance(self.event, h11.Request)
        target = self.event.target.decode("latin-1")
        path = target if target.startswith("/") else urlsplit(target).path or "/"
        return unquote_to_bytes(path.partition("?")[0].encode("latin-1")).decode("utf-8", "replace")

    @property
    def status(self) -> int:
        """Of a reply."""
        assert not isinstance(self.event, h11.Request)
        return self.event.status_code

    @property
    def waits_for_continue(self) -> bool:
        """Whether the client sends the body only after a 100."""
        return self._parser.they_are_waiting_for_100_continue

    @property
    def length(self) -> int | None:
        """What the head announces, where it does."""
        found = [value for name, value in self.event.headers if name == b"content-length"]
        return int(found[0]) if found else None

    @property
    def chunked(self) -> bool:
        """Whether the body says itself where it ends."""
        return any(name == b"transfer-encoding" for name, _ in self.event.headers)

    async def body(self) -> AsyncIterator[bytes]:
        """The bytes of the body as they come, with chunk framing and trailers. Raises `EndedEarly` and
        `Unreadable`."""
        data = self._stream.take()
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError:
                if self._stream.wire.eof and not data:
                    raise EndedEarly from None
                raise Unreadable(data) from None
            if isinstance(event, h11.Data):
                if self.content is not None:
                    self.content.append(bytes(event.data))
            elif event is h11.NEED_DATA:
                if data:
                    yield data
                data = await self._stream.wire.read()
                self._parser.receive_data(data)
            else:
                rest = self._parser.trailing_data[0]
                self._stream.rest = rest
                if len(rest) < len(data):
                    yield data[: len(data) - len(rest)]
                return


class Messages:
    """The messages that arrive on a wire, one after the other; each must be read to its end."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.rest = b""
        """What has arrived beyond the last message."""

    async def more(self) -> bool:
        """Waits for bytes of the next message; False at the end."""
        self.rest += await self.wire.read()
        return bool(self.rest)

    def take(self) -> bytes:
        """What has arrived and was not read as a message."""
        rest, self.rest = self.rest, b""
        return rest

    async def request(self) -> Message | None:
        """The next one; None at the end. Raises `Unreadable`."""
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        return await self._head(parser)

    async def reply(self, method: str) -> Message | None:
        """The next one, to a request of that method; None at the end. Raises `Unreadable`. After one with a
        status of 1xx comes another."""
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "any")]))
        parser.send(h11.EndOfMessage())
        return await self._head(parser)

    async def _head(self, parser: h11.Connection) -> Message | None:
        data = self.take()
        seen = b""
        while True:
            if data:
                seen += data
                parser.receive_data(data)
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError:
                raise Unreadable(seen) from None
            if isinstance(event, h11.Request | h11.Response | h11.InformationalResponse):
                self.rest = parser.trailing_data[0]
                return Message(self, parser, event, seen[: len(seen) - len(self.rest)])
            data = await self.wire.read()
            if not data:
                if seen:
                    raise Unreadable(seen)
                return None
