"""`tofu-databricks` in a process of its own, and clients that speak to it in raw bytes."""

from __future__ import annotations

import http.client
import os
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit

DEADLINE = 60.0
PAUSE = 0.02


def command(
    settings: Mapping[str, str],
    *arguments: str,
    errors: IO[str] | int = subprocess.PIPE,
    prefix: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """Starts `tofu-databricks ARGUMENTS` with nothing in its environment but settings."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "tofu_databricks.cli", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **settings},
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


@contextmanager
def serving(
    settings: Mapping[str, str],
    *options: str,
    errors: IO[str] | int = subprocess.PIPE,
    prefix: Sequence[str] = (),
    **extra: str,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `serve` on a free port and its address."""
    process = command({**settings, **extra}, "serve", "--port", "0", *options, errors=errors, prefix=prefix)
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], DEADLINE)[0], "serve did not start"
        line = process.stdout.readline()
        found = re.search(r"https?://\S+(?=/state/default)", line)
        assert found, line + str(process.communicate()[1])
        yield process, found[0]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@dataclass
class Served:
    """A gateway that serves this machine without a secret, and writes its log to `log`."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def connect(self) -> Raw:
        """A new connection to it."""
        address = urlsplit(self.url)
        return Raw(socket.create_connection((str(address.hostname), address.port), DEADLINE))

    def logged(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(encoding="utf-8")

    def refuses(self) -> bool:
        """Whether it takes no more connections."""
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    def connections(self) -> int:
        """How many connections of clients it has open."""
        local, established = f":{urlsplit(self.url).port:04X}", "01"
        table = Path(f"/proc/{self.process.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        rows = [line.split() for line in table]
        return sum(row[1].endswith(local) and row[3] == established for row in rows)

    def end(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(DEADLINE)


@contextmanager
def served(
    settings: Mapping[str, str], log: Path, *options: str, prefix: Sequence[str] = ()
) -> Iterator[Served]:
    """A `Served` gateway."""
    with (
        log.open("w", encoding="utf-8") as errors,
        serving(settings, "--loopback-only", *options, errors=errors, prefix=prefix) as (process, url),
    ):
        yield Served(process, url, log)


@dataclass
class Reply:
    """A reply: its status, headers and body."""

    status: int
    headers: Message
    text: str


class Raw:
    """One connection, byte by byte."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def send(self, data: bytes) -> Self:
        """Sends `data`, or as much of it as still has a taker."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)
        return self

    def request(self, method: str, path: str, body: bytes = b"", *headers: str) -> Reply:
        """The reply to a complete request."""
        self.send(head(method, path, f"Content-Length: {len(body)}", *headers) + body)
        return self.reply(method)

    def reply(self, method: str = "GET") -> Reply:
        """The next reply, to a request with that method."""
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        return Reply(response.status, response.headers, response.read().decode())

    def rest(self) -> bytes:
        """All that comes until the server ends the connection."""
        received = bytearray()
        with suppress(ConnectionResetError):
            while piece := self.socket.recv(1 << 20):
                received += piece
        return bytes(received)

    def answered(self, pause: float = PAUSE) -> bool:
        """Whether there is something to read, or the end, within `pause` seconds."""
        return bool(select.select([self.socket], [], [], pause)[0])

    def trickle(self, piece: bytes, every: float = PAUSE) -> int:
        """Sends `piece` again and again until the server answers or ends; how often."""
        for sent in range(int(DEADLINE / every)):
            if self.answered(every):
                return sent
            self.send(piece)
        raise AssertionError(f"the server has taken {piece!r} for {DEADLINE:g} s")

    def reset(self) -> None:
        """Ends the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()

    def close(self) -> None:
        """Ends the connection."""
        self.socket.close()


def head(method: str, path: str, *headers: str) -> bytes:
    """The head of a request to this machine."""
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def until(condition: Callable[[], bool], what: str) -> None:
    """Returns once `condition` holds. Fails after `DEADLINE` seconds."""
    nap = threading.Event()
    for _ in range(int(DEADLINE / PAUSE)):
        if condition():
            return
        nap.wait(PAUSE)
    raise AssertionError(f"{what} did not come to pass")
