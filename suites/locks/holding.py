"""A client in a process of its own, that takes a lock and keeps it until it is killed."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from lockproof.driver import Driver, LockInfo
from lockproof.spec.outcome import Unknown

PATIENCE = 120  # seconds for a Python to start on a busy machine, and to be granted a lock


@contextmanager
def process_that_holds(
    connect: Callable[[], Driver], scope: str, workspace: str, info: LockInfo
) -> Iterator[tuple[str, Callable[[], None]]]:
    """A process that holds the lock of `workspace` in the open scope: the lock's id, and what kills it.

    `connect` makes the driver over there; it must pickle. Raises `AssertionError` with what went
    wrong when the lock is not granted. On exit the process is gone.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_hold, args=(connect, scope, workspace, info, there), daemon=True)
    process.start()
    there.close()

    def kill() -> None:
        process.kill()
        process.join()

    try:
        if not here.poll(PATIENCE):
            raise Unknown(f"the other process did not answer within {PATIENCE} s")
        try:
            lock_id, failure = here.recv()
        except EOFError:
            process.join()
            raise AssertionError(f"the other process ended with exit code {process.exitcode}") from None
        assert failure is None, f"the other process was not granted the lock: {failure}"
        yield lock_id, kill
    finally:
        kill()
        here.close()


def _hold(
    connect: Callable[[], Driver], scope: str, workspace: str, info: LockInfo, answer: Connection
) -> None:
    try:
        attached = connect().open_scope(scope, attach=True)
        attached.__enter__()
        lock_id = attached.client(info.Who).lock(workspace, info)
    except Exception as failure:  # noqa: BLE001 - told to the parent, which fails the test with it
        answer.send((None, f"{type(failure).__name__}: {failure}"))
        sys.exit(1)
    answer.send((lock_id, None))
    answer.poll(None)  # holds until it is killed, or its parent is gone
