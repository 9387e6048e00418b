"""The steps of a call in its own process, and what stops or kills that process at one of them.

A step is a call from Python into the operating system: a file opened, renamed, flushed, bytes given to a
socket. Any driver written in Python has them, without its help, and runs through the same ones each time, so
that a process can be stopped "just before the third" again and again.
"""

from __future__ import annotations

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
        *(
            "fspath",
            "getpid",
            "urandom",
            "stat",
            "fstat",
            "lstat",
            "lseek",
            "seek",
            "tell",
            "isatty",
            "fileno",
        ),
        *("readable", "writable", "seekable", "scandir", "listdir"),
        *("settimeout", "gettimeout", "setsockopt", "getsockopt", "getpeername", "getsockname", "detach"),
        *("register_at_fork", "cpu_count", "get_inheritable", "set_inheritable", "waitstatus_to_exitcode"),
        *("cursor", "fetchone", "fetchall", "getaddrinfo", "pending", "selected_alpn_protocol", "version"),
    }
)
"""Calls that nobody outside the process can notice."""


@dataclass(frozen=True)
class Halt:
    """What happens to a process in its next call, and when.

    With a `step`, counted from 0, before that step; a `step` past the last one is after the call has
    done its work and before anybody is told. With `seconds`, that long after the call began. `number` is
    the signal: SIGKILL ends it, SIGSTOP lets it stand still until it is continued.
    """

    number: int = signal.SIGKILL
    step: int | None = None
    seconds: float | None = None


class Steps:
    """The steps of one call, in order, by what they call; halts this very process at one of them."""

    def __init__(self, halt: Halt | None) -> None:
        self.names: list[str] = []
        self.halt = halt

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within it steps count. A timer that has not struck by its end is called off."""
        halt = self.halt
        if halt is not None and halt.seconds is not None:
            signal.signal(signal.SIGALRM, lambda number, frame: _signal_self(halt.number))
            if halt.number == signal.SIGKILL:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends us wherever we are, also inside C
            signal.setitimer(signal.ITIMER_REAL, max(halt.seconds, 1e-6))
        else:
            sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            signal.setitimer(signal.ITIMER_REAL, 0)
        if halt is not None and halt.step is not None and halt.step >= len(self.names):
            _signal_self(halt.number)

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or called.__name__ in HARMLESS:
            return
        owner = getattr(called, "__module__", None) or type(getattr(called, "__self__", None)).__module__
        if owner not in MODULES:
            return
        if self.halt is not None and self.halt.step == len(self.names):
            _signal_self(self.halt.number)
        self.names.append(f"{owner.strip('_')}.{called.__name__}")


def drawn(names: Sequence[str], count: int, choose: Any) -> Sequence[int]:
    """`count` of the places where a call with these steps can be halted, in order, the two ends among them;
    all when there are not more. `choose` is a `random.Random`."""
    places = range(len(names) + 1)
    if len(places) <= count:
        return list(places)
    return sorted({0, len(names), *choose.sample(places[1:-1], max(0, count - 2))})


def _signal_self(number: int) -> None:
    os.kill(os.getpid(), number)
