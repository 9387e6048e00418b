"""The steps of a call in its own process, and what stops or kills that process at one of them.

A step is a call from Python into the operating system that others may notice: a file opened, written or
renamed, bytes given to a socket. Any driver written in Python has them, without its help, and takes the
same ones each time, so that a process can be stopped "just before the third" again. What happens inside a
library in C has none: a timer halts there. The same call again and again, as when a body is sent, is one.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

MODULES = frozenset(
    {"posix", "nt", "_io", "io", "fcntl", "_socket", "socket", "_ssl", "ssl", "_sqlite3", "sqlite3", "mmap"}
)
HARMLESS = frozenset(
    {
        *("fspath", "getpid", "urandom", "stat", "fstat", "lstat", "lseek", "seek", "tell", "isatty"),
        *("fileno", "fsencode", "text_encoding", "getcwd", "scandir", "listdir", "access", "readlink"),
        *("readable", "writable", "seekable", "read", "read1", "readline", "readinto", "readall", "peek"),
        *("recv", "recv_into", "fsync", "fdatasync", "close", "flock", "lockf", "fcntl", "getaddrinfo"),
        *("settimeout", "gettimeout", "setsockopt", "getsockopt", "getpeername", "getsockname", "detach"),
        *("get_inheritable", "set_inheritable", "pending", "selected_alpn_protocol", "version"),
        *("cursor", "fetchone", "fetchall", "cpu_count", "open_code", "getdefaulttimeout"),
    }
)
"""Calls that change nothing for anybody outside the process."""


@dataclass(frozen=True)
class Halt:
    """What happens to a process in its next call, and when.

    With a `step`, counted from 0, before that step; with `seconds`, that long after the call began; at the
    latest when the call has done its work and nobody has been told. `number` is the signal: SIGKILL ends
    the process, SIGSTOP lets it stand still until it is continued.
    """

    number: int = signal.SIGKILL
    step: int | None = None
    seconds: float | None = None


class Steps:
    """The steps of one call, in order, by what they call; halts this very process in the midst of them."""

    def __init__(self, halt: Halt | None) -> None:
        self.names: list[str] = []
        self.halt = halt
        self.struck = False

    def reach(self, name: str) -> None:
        """Counts a step that comes next, and halts before it if that is the one."""
        if self.halt is not None and self.halt.step == len(self.names):
            self._strike()
        self.names.append(name)

    @contextmanager
    def watched(self, *, profiled: bool) -> Iterator[None]:
        """Within it steps count; calls into the operating system are steps when `profiled`."""
        if self.halt is not None and self.halt.seconds is not None:
            signal.signal(signal.SIGALRM, self._alarm)
            if self.halt.number == signal.SIGKILL:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends us wherever we are, also inside C
            signal.setitimer(signal.ITIMER_REAL, max(self.halt.seconds, 1e-6))
        elif profiled:
            sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._strike()

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or called.__name__ in HARMLESS or called.__name__.startswith("_check"):
            return
        subject = getattr(called, "__self__", None)
        owner = getattr(called, "__module__", None) or type(subject).__module__
        if owner not in MODULES or isinstance(subject, io.BytesIO | io.StringIO):
            return
        name = f"{owner.strip('_')}.{called.__name__}"
        if self.names[-1:] != [name]:
            self.reach(name)

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        self._strike()

    def _strike(self) -> None:
        if self.halt is not None and not self.struck:
            self.struck = True
            os.kill(os.getpid(), self.halt.number)


def drawn(names: Sequence[str], count: int, choose: Any) -> Sequence[int]:
    """`count` of the places where a call with these steps can be halted, in order, the two ends among them;
    all when there are not more. `choose` is a `random.Random`."""
    places = range(len(names) + 1)
    if len(places) <= count:
        return list(places)
    return sorted({0, len(names), *choose.sample(places[1:-1], max(0, count - 2))})
