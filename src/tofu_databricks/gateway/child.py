"""Runs a command as if it had been started alone: its terminal, its signals, its exit code."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, Self

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
NOT_FOUND = 127
NOT_EXECUTABLE = 126
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when the thread that started it ends."""


class Child:
    """A running command, in a process group of its own.

    So an interrupt reaches it exactly once, whether it comes from the terminal or was sent to this
    process; two would make terraform give up at once and leave its lock behind. On Linux it gets SIGTERM
    when this process is killed: it is asked to end, as without its gateway it can neither write its state
    nor release its lock (terraform then leaves `errored.tfstate`).
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Starts `command`; signals that come from now on are passed on by `wait`, which must follow.

        Call it in the main thread before there are others: it forks, and the main thread is the one whose
        end the command notices. Raises `OSError` when the command cannot be started.
        """
        prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
        report, failed = os.pipe()
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        try:
            pid = os.fork()
            if pid == 0:
                os.close(report)
                _become(command, environment, parent, prctl, failed)
            os.close(failed)
            failed = -1
            number = os.read(report, 16)
            if number:
                os.waitpid(pid, 0)
                raise OSError(int(number), os.strerror(int(number)))
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            raise
        finally:
            os.close(report)
            if failed >= 0:
                os.close(failed)
        return cls(pid)

    def wait(self) -> int:
        """Waits for the command's end; its exit code, 128 + n when signal n ended it."""
        with _terminal() as terminal:
            lent = _Lent(self.pid, terminal)
            previous = {number: signal.signal(number, self._forwarder(lent)) for number in FORWARDED}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            try:
                lent.lend()
                while True:
                    _, status = os.waitpid(self.pid, os.WUNTRACED)
                    if not os.WIFSTOPPED(status):
                        break
                    lent.stopped(os.WSTOPSIG(status))
            finally:
                lent.take_back()
                for number, handler in previous.items():
                    signal.signal(number, handler)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def _forwarder(self, lent: _Lent) -> Callable[[int, FrameType | None], None]:
        def forward(number: int, frame: FrameType | None) -> None:
            with suppress(ProcessLookupError):  # it has just ended
                if number == signal.SIGINT:  # as a terminal does it: the whole group
                    os.killpg(self.pid, number)
                else:
                    os.kill(self.pid, number)
                if lent.terminal is None:  # nobody else would continue it, and stopped it takes no signal
                    os.killpg(self.pid, signal.SIGCONT)

        return forward


class _Lent:
    """The controlling terminal, `None` without one, and its foreground: ours, or lent to `group`."""

    def __init__(self, group: int, terminal: int | None) -> None:
        self.group = group
        self.terminal = terminal
        self.lent = False

    def lend(self) -> None:
        """Puts the command into the foreground, if that is where we are: else it is not ours to give."""
        with suppress(OSError):  # it has been hung up, or the command has ended
            if self.terminal is not None and os.tcgetpgrp(self.terminal) == os.getpgrp():
                os.tcsetpgrp(self.terminal, self.group)
                self.lent = True

    def take_back(self) -> None:
        """Puts us where the command was."""
        with suppress(OSError):
            if self.terminal is not None and self.lent:
                os.tcsetpgrp(self.terminal, os.getpgrp())
        self.lent = False

    def stopped(self, number: int) -> None:
        """The command was stopped: by using the terminal just before it was lent, or as a job, by Ctrl-Z
        or in the background. As a job this process stops, too, until the shell continues it."""
        if self.terminal is None:
            return
        if not (self.lent and number in {signal.SIGTTIN, signal.SIGTTOU}):
            self.take_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            self.lend()
        os.killpg(self.group, signal.SIGCONT)


@contextmanager
def _terminal() -> Iterator[int | None]:
    """The controlling terminal, wherever the standard streams lead; `None` without one.

    Where the system has no /dev/tty it is standard input, if that is a terminal.
    """
    opened = -1
    try:
        opened = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        terminal: int | None = opened
    except OSError:
        try:
            terminal = sys.stdin.fileno()
            os.tcgetpgrp(terminal)
        except (OSError, ValueError, AttributeError):
            terminal = None
    ignored = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # or taking the terminal back would stop us
    try:
        yield terminal
    finally:
        signal.signal(signal.SIGTTOU, ignored)
        if opened >= 0:
            os.close(opened)


def _become(
    command: Sequence[str],
    environment: Mapping[str, str],
    parent: int,
    prctl: Callable[..., int] | None,
    failed: int,
) -> NoReturn:
    """The command in the forked process; writes the number of the error that kept it from starting."""
    try:
        os.setpgid(0, 0)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # kept by exec; where it is forbidden we do without
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)
        for number in (*FORWARDED, *IGNORED_BY_PYTHON):
            if number in IGNORED_BY_PYTHON or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execvpe(command[0], list(command), dict(environment))
    except OSError as error:
        os.write(failed, str(error.errno).encode())
    finally:
        os._exit(NOT_FOUND)
