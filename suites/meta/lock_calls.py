"""Lock requests of several at the same time, and who makes them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tofu_databricks.errors import BackendError
from tofu_databricks.lockinfo import LockInfo


def info(who: str) -> LockInfo:
    return LockInfo.new(who, info=f"by {who}")


def together(*calls: Callable[[], object]) -> list[object]:
    """The results of calls made at the same time, an error in the place of a result."""
    found: list[object] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            found[number] = calls[number]()
        except BackendError as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    return found
