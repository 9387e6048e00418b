"""One client's connection: uvicorn's, with the deadlines and bounds that it lacks.

uvicorn bounds the size of a request's head (`h11_max_incomplete_event_size`) and the pause between
requests (`timeout_keep_alive`). A client that sends its head byte by byte, goes on with a body that was
refused, or does not read its reply would keep a connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_BYTES = 16 << 10
"""The longest head of a request, give or take a piece, as in Node.js. Stock clients send less than 2 KiB."""
PIECE = 2 << 10


class Connection(H11Protocol):
    """A connection whose client is given up when for `patience` seconds it owes the rest of a head, or of a
    body that nobody waits for any more, or takes nothing of its reply. A body that is waited for has the
    deadline of whoever waits."""

    def __init__(self, *arguments: Any, patience: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.patience = patience
        self.owed: asyncio.TimerHandle | None = None
        self.stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.watch_owed()

    def data_received(self, data: bytes) -> None:
        """A head is handed on in pieces: h11 measures only what is not complete."""
        while data and not self.transport.is_closing():
            size = PIECE if self.conn.their_state is h11.IDLE else len(data)
            super().data_received(data[:size])
            data = data[size:]
        self.watch_owed()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self.owed, self.stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def watch_owed(self) -> None:
        """Starts the deadline when the client begins to owe something, and ends it with the last byte."""
        refused = self.cycle is not None and self.cycle.response_complete
        state = self.conn.their_state
        if state is h11.IDLE or (state is h11.SEND_BODY and refused):
            if self.owed is None:
                self.owed = self.loop.call_later(self.patience, self.give_up)
        elif self.owed is not None:
            self.owed.cancel()
            self.owed = None

    def give_up(self) -> None:
        """Ends the connection, with a word to a client that is in the middle of a head."""
        received, _ = self.conn.trailing_data
        if self.conn.their_state is h11.IDLE and received:
            self.send_400_response(f"the head of the request was not complete after {self.patience:g} s\n")
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True  # whoever works on the request before: this is its answer
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # the reply has been given: what is not HTTP came after it
            self.transport.abort()

    def _should_upgrade(self) -> bool:
        return False  # a server may ignore the wish: RFC 9110, section 7.8

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stalled = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stalled is not None:
            self.stalled.cancel()
            self.stalled = None

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()  # closing would wait for a reply that nobody reads
