"""A link of which only connections and bytes are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockproof.chaos.proxy.armed import Strike
from lockproof.chaos.proxy.connection import Connection, Send
from lockproof.chaos.proxy.faults import DropReply, DropRequest, Reset
from lockproof.chaos.proxy.wire import Wire

if TYPE_CHECKING:
    from lockproof.chaos.proxy.link import Link


class TcpConnection(Connection):
    """An exchange begins with bytes of the client after bytes of the server, or with the first ones. Nobody
    can tell where it ends: the connection is idle when the server had the last word."""

    def __init__(self, link: Link, client: Wire) -> None:
        super().__init__(link, client)
        self._asking = False
        self._strike: Strike | None = None
        self._passed = 0

    @property
    def idle(self) -> bool:
        return not self._asking

    def settle(self) -> None:
        if self._strike is not None:
            self._strike.settle()

    async def requests(self) -> None:
        await self.each(self.client, self._request)
        await self.end_requests()

    async def replies(self) -> None:
        await self.each(self.server, self._reply)
        await self.end_replies()

    async def _request(self, data: bytes) -> None:
        begins, self._asking = not self._asking, True
        if begins:
            self.settle()
            self._passed = 0
            self.link.exchanges += 1
            self._strike = self.link.script.strike()
        match self._strike:
            case Strike(fault=DropRequest()) as strike:
                strike.hit()
                self.cut()
            case Strike(fault=Reset(after_bytes, "request")) as strike:
                await self._pass_up_to(after_bytes, strike, data, self.to_server)
            case strike:
                await self.send_struck(strike, data, "request", begins=begins)

    async def _reply(self, data: bytes) -> None:
        begins, self._asking = self._asking, False
        if begins:
            self._passed = 0
        match self._strike:
            case Strike(fault=DropReply()) as strike:
                strike.hit()
                self.cut()
            case Strike(fault=Reset(after_bytes, "reply")) as strike:
                await self._pass_up_to(after_bytes, strike, data, self.to_client)
            case strike:
                await self.send_struck(strike, data, "reply", begins=begins)

    async def _pass_up_to(self, after_bytes: int, strike: Strike, data: bytes, send: Send) -> None:
        """Passes bytes until there are more than may pass, and then resets."""
        left = after_bytes - self._passed
        self._passed += len(data)
        if left:
            await send(data[:left])
        if len(data) > left:
            strike.hit()
            self.reset()
