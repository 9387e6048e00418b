"""Processes that are there within milliseconds: forked from one that has everything imported.

A fresh interpreter with a driver in it takes about half a second of a core. So one is started, the nursery,
which does nothing but fork: what runs in the fork travels to it through a socket, so that no secret stands on
a command line or in an environment. The nursery reaps what it forked, and kills it when this process ends,
also what was stopped.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pickle
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds for the nursery to start and for a process to end, on a busy machine."""
OURS = ("lockproof.driver.", "tofu_databricks.")
LOOK = 0.001
"""Seconds between two looks at whether a process has stopped: nothing tells who is not its parent."""

_BOOT = (
    "import json, sys; given = json.load(sys.stdin); sys.path[:] = given['path']; "
    "from lockproof.chaos.process_nursery import serve; serve(int(sys.argv[1]), given['modules'])"
)


class ProcessGone(Exception):
    """A process could not be started, or is not there any more."""


class Child:
    """A process that was forked for us: its number `pid`, and the `connection` to what runs in it.

    Its `pidfd` makes sure that a signal never reaches a stranger who was given the same number later.
    """

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid = pid
        self.connection = connection
        self.pidfd = os.pidfd_open(pid)

    def signal(self, number: int) -> None:
        """Sends a signal. Raises `ProcessGone` when there is nobody to send it to."""
        if self.ended:
            raise ProcessGone(f"process {self.pid} has ended")
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            signal.pidfd_send_signal(self.pidfd, number)

    @property
    def ended(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.pidfd < 0 or self.wait(0)

    @property
    def stopped(self) -> bool:
        """Whether every thread of it stands still."""
        return not self.ended and _stopped(self.pid)

    def wait(self, timeout: float) -> bool:
        """Waits until it has ended, at most `timeout` seconds; whether it has."""
        if self.pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def await_stopped(self, timeout: float = PATIENCE) -> None:
        """Waits until every thread of it stands still. Raises `ProcessGone` when it ends instead, and
        `TimeoutError`."""
        for _ in range(int(timeout / LOOK)):
            if self.ended:
                raise ProcessGone(f"process {self.pid} has ended instead of stopping")
            if self.stopped:
                return
            threading.Event().wait(LOOK)
        raise TimeoutError(f"process {self.pid} did not stop within {timeout:g} s")

    def close(self) -> None:
        """Kills it, unless it has ended, and forgets it."""
        if self.pidfd < 0:
            return
        if not self.ended:
            self.signal(signal.SIGKILL)
            self.wait(PATIENCE)
        self.connection.close()
        os.close(self.pidfd)
        self.pidfd = -1


class Nursery:
    """Forks processes for this one. Thread-safe; starts with the first, and ends with this process."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None
        self._control: Connection | None = None

    def fork(self, task: Callable[..., None], *args: Any) -> Child:
        """A process that runs `task(connection, *args)` and then ends as any Python does.

        Task and arguments must pickle. What this process has imported of ours the new one has, too, and
        it finds modules where this one does. Raises `ProcessGone` when none can be started.
        """
        ours, theirs = socket.socketpair()
        with self._mutex, theirs:
            control = self._control or self._start()
            try:
                control.send_bytes(pickle.dumps((sys.path, pickle.dumps((task, args)))))
                reduction.send_handle(control, theirs.fileno(), None)
                pid = control.recv()
            except (EOFError, OSError) as error:
                ours.close()
                self._stop()
                raise ProcessGone(f"the process that forks others has ended: {error}") from error
            return Child(pid, Connection(ours.detach()))

    def close(self) -> None:
        """Kills all that was forked, and ends."""
        with self._mutex:
            self._stop()

    def _stop(self) -> None:
        if self._helper is not None and self._control is not None:
            self._control.close()
            self._helper.wait(PATIENCE)
        self._helper = self._control = None

    def _start(self) -> Connection:
        here, there = socket.socketpair()
        with there:
            self._helper = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.PIPE,
            )
        assert self._helper.stdin is not None
        with self._helper.stdin as given:
            given.write(json.dumps({"path": sys.path, "modules": sorted(_imported())}).encode())
        self._control = Connection(here.detach())
        atexit.register(self.close)
        return self._control


NURSERY = Nursery()
"""The nursery of this process."""


def _imported() -> Iterable[str]:
    """What this process has imported of ours that a client may need."""
    return [name for name in sys.modules if name.startswith(OURS)]


def _stopped(pid: int) -> bool:
    try:
        states = [path.read_text().rpartition(")")[2].split()[0] for path in _threads(pid)]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return bool(states) and set(states) == {"T"}


def _threads(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").glob("*/stat"))


# --- in the nursery


def serve(control_fd: int, modules: Iterable[str]) -> None:
    """Forks until nobody is left who asks. Ends in the nursery, and in every fork when its task is done."""
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # what is there now is nobody's garbage: a fork need not touch, and so copy, it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked us; we end with it
    control = Connection(control_fd)
    with selectors.DefaultSelector() as watched:
        watched.register(control, selectors.EVENT_READ)
        job = _serve(control, watched)
    if job is not None:
        _run(*job)


def _serve(control: Connection, watched: selectors.BaseSelector) -> tuple[bytes, Connection] | None:
    """In a fork its job, in the nursery `None` at its end."""
    forked: dict[int, int] = {}  # pidfd -> pid
    while True:
        for key, _ in watched.select():
            if key.fileobj is not control:
                _reap(watched, forked, key.fd)
                continue
            try:
                job = control.recv_bytes()
                connection = Connection(reduction.recv_handle(control))
            except (EOFError, OSError):
                _end(forked)
                return None
            pid = os.fork()
            if not pid:
                control.close()
                for pidfd in forked:
                    os.close(pidfd)
                return job, connection
            connection.close()
            pidfd = os.pidfd_open(pid)
            forked[pidfd] = pid
            watched.register(pidfd, selectors.EVENT_READ)
            control.send(pid)


def _reap(watched: selectors.BaseSelector, forked: dict[int, int], pidfd: int) -> None:
    watched.unregister(pidfd)
    os.waitpid(forked.pop(pidfd), 0)
    os.close(pidfd)


def _end(forked: dict[int, int]) -> None:
    for pidfd, pid in forked.items():
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)


def _run(job: bytes, connection: Connection) -> None:
    path, call = pickle.loads(job)
    sys.path[:] = path
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    task, args = pickle.loads(call)
    task(connection, *args)


def _leave(number: int, frame: object) -> None:
    """Ends as a program does that is asked to: what was begun is unwound and exit handlers run. Who is asked
    again ends at once: what is raised here is lost in a finaliser, and in an extension that makes another
    error of it (deltalake does)."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_DFL)
    sys.exit(128 + number)
