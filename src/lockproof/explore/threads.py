"""Real threads that are used again from run to run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Worker:
    """A daemon thread that does one task at a time. `idle` is held while it does."""

    def __init__(self) -> None:
        self._go = threading.Lock()
        self._go.acquire()
        self._task: Callable[[], None] | None = None
        self._idle = threading.Lock()
        self._ended = False
        self.thread = threading.Thread(target=self._serve, name="explored client", daemon=True)
        self.thread.start()

    def start(self, task: Callable[[], None]) -> None:
        """Begins `task`, which must not raise. The worker must be idle."""
        self._idle.acquire()
        self._task = task
        self._go.release()

    def wait(self, seconds: float) -> bool:
        """Waits up to `seconds` until the worker is idle; whether it is."""
        if self._idle.acquire(timeout=seconds):
            self._idle.release()
            return True
        return False

    def end(self) -> None:
        """Lets the worker's thread end, once its task has."""
        self._ended = True
        if self._go.locked():
            self._go.release()

    def _serve(self) -> None:
        while self._next():
            assert self._task is not None
            self._task()
            self._idle.release()

    def _next(self) -> bool:
        self._go.acquire()
        return not self._ended


class Pool:
    """Workers by number. One that does not come back is left behind, and another takes its place."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []

    def worker(self, number: int) -> Worker:
        """The idle worker of this number."""
        while len(self._workers) <= number:
            self._workers.append(Worker())
        return self._workers[number]

    def forget(self, number: int) -> None:
        """Gives up the worker of this number: its task does not end."""
        self._workers[number].end()
        self._workers[number] = Worker()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for worker in self._workers:
            worker.end()
            if worker.wait(0):
                worker.thread.join()
