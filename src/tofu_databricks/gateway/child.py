"""Runs a command as if it had been started alone: its terminal, its signals, its exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
NOT_FOUND = 127
NOT_EXECUTABLE = 126


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs `command` to its end and returns its exit code, 128 + n when signal n ended it.

    It gets a process group of its own, and the terminal when there is one. So an interrupt reaches it
    exactly once, whether it comes from the terminal or was sent to this process; two would make
    terraform give up at once and leave its lock behind. Call it in the main thread. Raises `OSError`
    when the command cannot be started.
    """
    with _signals_held():
        pid = os.posix_spawnp(
            command[0],
            list(command),
            dict(environment),
            setpgroup=0,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
        previous = {number: signal.signal(number, _forwarder(pid)) for number in FORWARDED}
    try:
        with _terminal_lent_to(pid) as terminal:
            while True:
                _, status = os.waitpid(pid, os.WUNTRACED)
                if not os.WIFSTOPPED(status):
                    break
                if terminal is not None:
                    _stopped(pid, os.WSTOPSIG(status), terminal)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _forwarder(pid: int) -> Callable[[int, FrameType | None], None]:
    def forward(number: int, frame: FrameType | None) -> None:
        try:
            if number == signal.SIGINT:  # as a terminal does it: the whole group
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
        except ProcessLookupError:
            return  # it has just ended

    return forward


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that come meanwhile are delivered afterwards."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _terminal_lent_to(pid: int) -> Iterator[int | None]:
    """Puts the child's group in the terminal's foreground; yields the terminal, `None` without one."""
    terminal = _own_terminal()
    if terminal is None:
        yield None
        return
    ignored = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # or taking the terminal back would stop us
    os.tcsetpgrp(terminal, pid)
    try:
        yield terminal
    finally:
        os.tcsetpgrp(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, ignored)


def _own_terminal() -> int | None:
    """The terminal on standard input, when this process is in its foreground."""
    try:
        terminal = sys.stdin.fileno()
        return terminal if os.tcgetpgrp(terminal) == os.getpgrp() else None
    except (OSError, ValueError, AttributeError):
        return None


def _stopped(pid: int, number: int, terminal: int) -> None:
    """The child was stopped: by reading before the terminal was its own, or by Ctrl-Z, which then
    stops this process too until the shell continues it."""
    if number not in {signal.SIGTTIN, signal.SIGTTOU}:
        os.tcsetpgrp(terminal, os.getpgrp())
        os.kill(os.getpid(), signal.SIGSTOP)
        os.tcsetpgrp(terminal, pid)
    os.killpg(pid, signal.SIGCONT)
