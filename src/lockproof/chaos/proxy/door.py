"""Where clients of a link connect: a port of this machine, whose handshakes can be kept from completing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from pathlib import Path

BACKLOG = 1024
PAUSE_SECONDS = 0.1
OUT_OF_FILES = "the fault proxy cannot take a connection: too many open files (raise `ulimit -n`)"
SOCKETS = Path("/proc/net/tcp")
SYN_SENT = "02"


class Door:
    """Listens on 127.0.0.1; `taken` gets each connection.

    A listening socket completes handshakes by itself, in the kernel, unless its queue is full: then it drops
    them, as a partition does. So to hang clients the queue is made as short as can be, and a connection of
    our own fills it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        taken: Callable[[socket.socket], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self._loop = loop
        self._taken = taken
        self._failed = failed
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._filler: socket.socket | None = None
        self._later: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Takes connections from now on, those that hang first."""
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener, self._accept)

    def hang(self) -> None:
        """From now on no handshake completes."""
        self._stop()
        if self._filler is None:
            self._listener.listen(0)
            self._filler = socket.socket()
            self._filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self._filler.connect(self._listener.getsockname())

    def close(self) -> None:
        """Refuses connections from now on, those that hang too."""
        self._stop()
        if self._filler is not None:
            self._filler.close()
        self._listener.close()

    def hanging(self) -> frozenset[int]:
        """The ports of the clients whose handshake hangs right now; none where the system does not tell."""
        here = f"0100007F:{self.port:04X}"
        own = self._filler.getsockname()[1] if self._filler is not None else 0
        found = set()
        with contextlib.suppress(OSError):
            for line in SOCKETS.read_text(encoding="ascii").splitlines()[1:]:
                _, local, remote, state, *_ = line.split(maxsplit=4)
                if remote == here and state == SYN_SENT:
                    found.add(int(local.rpartition(":")[2], 16))
        return frozenset(found - {own})

    # Not `loop.sock_accept`: one that is cancelled at the wrong moment takes a connection and loses it.

    def _stop(self) -> None:
        self._loop.remove_reader(self._listener)
        if self._later is not None:
            self._later.cancel()

    def _accept(self) -> None:
        try:
            while True:
                sock, peer = self._listener.accept()
                if self._filler is not None and peer == self._filler.getsockname():
                    sock.close()
                    self._filler.close()
                    self._filler = None
                else:
                    sock.setblocking(False)
                    self._taken(sock)
        except BlockingIOError:
            return
        except OSError as failure:
            if failure.errno in (errno.EMFILE, errno.ENFILE):
                self._failed(OSError(failure.errno, OUT_OF_FILES))
                self._stop()
                self._later = self._loop.call_later(PAUSE_SECONDS, self.open)
