"""Clients in another process: the same backend and options, attached to a scope by its name."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

from lockproof.driver import Driver

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


def exchange(connect: Callable[[], Driver], scope: str, data: bytes) -> bytes | None:
    """Reads the state of an open scope's default workspace, then replaces it by `data`."""
    with connect().open_scope(scope, attach=True) as attached:
        client = attached.client("elsewhere")
        snapshot = client.get("default")
        client.put("default", data)
        client.close()
        return snapshot.data if snapshot else None
