"""One end of a connection: bounded buffers, half-close, and the ways to end."""

from __future__ import annotations

import asyncio
import asyncio.trsock
import socket
import ssl
import struct
from collections import deque
from typing import cast

HIGH_WATER = 1 << 18
"""Bytes that are read ahead or wait to be written before the other side is slowed down."""
RST_ON_CLOSE = struct.pack("ii", 1, 0)


class Wire(asyncio.Protocol):
    """A connection, read by one task."""

    def __init__(self) -> None:
        self.eof = False
        """Nothing more will arrive."""
        self.lost = False
        """Nothing more can be sent."""
        self.broken = False
        """It ended by an error, such as a reset."""
        self._transport: asyncio.Transport | None = None
        self._socket: asyncio.trsock.TransportSocket
        self._encrypted = False
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.get_running_loop().create_future()

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        # asyncio does so itself, but not for a socket that was accepted by one without a protocol number
        self._socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._encrypted = transport.get_extra_info("sslcontext") is not None

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self.eof = True
        _wake(self._reader)
        return not self._encrypted  # stay open to send; TLS cannot

    def connection_lost(self, failure: Exception | None) -> None:
        self.eof = self.lost = True
        self.broken = failure is not None
        _wake(self._reader)
        self._writable.set()
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- called by the relay ---

    @property
    def transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise ConnectionError("not connected")
        return self._transport

    async def read(self) -> bytes:
        """Some of what has arrived, at least a byte; empty at the end."""
        while not self._chunks:
            if self.eof:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._chunks.popleft()
        self._size -= len(data)
        if self._paused and not self._chunks:
            self._paused = False
            self.transport.resume_reading()
        return data

    async def send(self, data: bytes) -> None:
        """Returns when little waits to be sent. Raises `ConnectionError` when the other side is gone."""
        if self.lost or self.transport.is_closing():
            raise ConnectionResetError("the other side is gone")
        self.transport.write(data)
        await self._writable.wait()
        if self.lost:
            raise ConnectionResetError("the other side is gone")

    async def start_tls(self, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        """Begins TLS; as its server side when no name is given. Raises `OSError` when that fails."""
        encrypted = await asyncio.get_running_loop().start_tls(
            self.transport,
            self,
            context,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        if encrypted is None:
            raise ConnectionResetError("the other side is gone")
        self.connection_made(encrypted)

    def end(self) -> None:
        """Nothing more will be sent: a half-close, where the transport has one."""
        if self.lost or self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def close(self) -> None:
        """Ends both ways, after what was written."""
        # a TLS transport that is closed twice has nothing left to ask
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Ends at once."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Ends at once with a RST, whatever is still in the buffers of this machine."""
        if not self.lost:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
            self.transport.abort()

    async def gone(self) -> None:
        """Returns when the connection has ended, or never was."""
        if self._transport is not None:
            await asyncio.shield(self._gone)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
