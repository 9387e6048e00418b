"""Clients in another process: the same backend and options, attached to a scope by its name."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from lockproof.driver import Driver
from lockproof.history import HistoryWriter

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 60.0
"""Seconds for a process to start, work and end, on a busy machine."""


def in_another_process(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `call` returns in a fresh interpreter, which has ended when this returns.

    The arguments travel through a pipe, so that no secret stands on a command line.
    """
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(call, *args, **kwargs).result(PATIENCE)


@contextmanager
def recorded(history: HistoryWriter, who: str, f: str, workspace: str, **given: Any) -> Iterator[list[Any]]:
    """Records a call that another process makes meanwhile, as from here: not shorter than it was.

    What is put into the list is its outcome; with an empty list, or an exception, it is unknown.
    """
    process = history.new_process(who)
    history.append(process, "invoke", f, ws=workspace, given=given)
    outcome: list[Any] = []
    try:
        yield outcome
    finally:
        if outcome:
            history.append(process, "ok", f, ws=workspace, out=outcome[0])
        else:
            history.append(process, "info", f, ws=workspace, err={"kind": "unavailable", "definite": False})


def exchange(connect: Callable[[], Driver], scope: str, data: bytes) -> bytes | None:
    """Reads the state of an open scope's default workspace, then replaces it by `data`."""
    with connect().open_scope(scope, attach=True) as attached:
        client = attached.client("elsewhere")
        snapshot = client.get("default")
        client.put("default", data)
        client.close()
        return snapshot.data if snapshot else None
