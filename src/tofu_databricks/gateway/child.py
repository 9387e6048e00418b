"""Runs a command as if it had been started alone: its terminal, its signals, its exit code."""

from __future__ import annotations

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


class Child:
    """A running command, in a process group of its own.

    So an interrupt reaches it exactly once, whether it comes from the terminal or was sent to this
    process; two would make terraform give up at once and leave its lock behind. When this process is
    killed, it gets SIGTERM, once: without its gateway it can neither write its state nor release its
    lock (terraform then leaves `errored.tfstate`).
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.watch = _Watch(pid)

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Starts `command`; signals that come from now on are passed on by `wait`, which must follow.

        Call it in the main thread, and before there are others: it forks. Raises `OSError` when the
        command cannot be started.
        """
        report, failed = os.pipe()
        watched, go = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        try:
            pid = os.fork()
            if pid == 0:
                os.close(go)
                _become(command, environment, watched, failed)
            os.close(failed)
            child = cls(pid)
            os.write(go, b".")
            number = os.read(report, 16)
            if number:
                child.watch.end()
                os.waitpid(pid, 0)
                raise OSError(int(number), os.strerror(int(number)))
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            raise
        finally:
            for descriptor in (report, watched, go):
                os.close(descriptor)
        return child

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
                self.watch.end()
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


class _Watch:
    """A process that sends `pid` one SIGTERM should this process end before `end` is called.

    It sees that by the pipe between them. PR_SET_PDEATHSIG sends its signal for each thread of a killed
    parent that ends, and terraform gives up without saving anything at a second one.
    """

    def __init__(self, pid: int) -> None:
        ended, self.alive = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.alive)
            _watch(ended, pid)
        os.close(ended)

    def end(self) -> None:
        """Stops watching."""
        with suppress(OSError):  # it was killed itself
            os.write(self.alive, b".")
        os.close(self.alive)
        os.waitpid(self.pid, 0)


def _watch(ended: int, pid: int) -> NoReturn:
    """The watching process; beyond the reach of the terminal, and holding none of our streams open."""
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        if not os.read(ended, 1):
            os.kill(pid, signal.SIGTERM)
    finally:
        os._exit(0)


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


def _become(command: Sequence[str], environment: Mapping[str, str], watched: int, failed: int) -> NoReturn:
    """The command in the forked process, once it is watched; writes the number of the error that kept it
    from starting."""
    try:
        os.setpgid(0, 0)
        if not os.read(watched, 1):
            os._exit(NOT_FOUND)
        for number in (*FORWARDED, *IGNORED_BY_PYTHON):
            if number in IGNORED_BY_PYTHON or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execvpe(command[0], list(command), dict(environment))
    except OSError as error:
        os.write(failed, str(error.errno).encode())
    finally:
        os._exit(NOT_FOUND)
