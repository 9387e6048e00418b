"""Histories written by hand, one call after the other or overlapping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from lockproof.history import Event, History

WS = "default"
LOST: dict[str, Any] = {"e": "info", "kind": "timeout", "definite": False}


class Tape:
    """Writes a history by hand: every call returns the function that ends it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.processes = 0

    def begin(self, f: str, ws: str | None = WS, **given: Any) -> Callable[..., None]:
        """Calls `f`; what is returned ends the call, `ok` unless told otherwise."""
        p = self.processes
        self.processes += 1
        self._append(p, "invoke", f, ws, given=given)

        def end(e: str = "ok", out: Any = None, **err: Any) -> None:
            self._append(p, e, f, ws, out=out, err=err or None)

        return end

    def _append(self, p: int, e: Any, f: str, ws: str | None, **rest: Any) -> None:
        i = len(self.events)
        self.events.append(Event(i, i * 1000, p, e, f, ws, **rest))

    def history(self, closed: bool = True) -> History:
        return History({"v": 1}, tuple(self.events), closed)

    def lock(self, name: str, out: str | None = None) -> None:
        self.begin("lock", info=info(name))("ok", out or f"id-{name}")

    def lost_lock(self, name: str) -> None:
        self.begin("lock", info=info(name))("info", kind="timeout", definite=False)

    def refused(self, name: str, holder: str | None, holder_id: str | None = None) -> None:
        named = {} if holder is None else {"holder": {**info(holder), "ID": holder_id or f"id-{holder}"}}
        self.begin("lock", info=info(name))("fail", kind="locked", definite=True, **named)

    def unlock(self, lock_id: str) -> None:
        self.begin("unlock", lock_id=lock_id)()

    def denied(self, lock_id: str, kind: str = "lock_mismatch") -> None:
        self.begin("unlock", lock_id=lock_id)("fail", kind=kind, definite=True)

    def put(self, value: str, lock_id: str | None = None) -> None:
        self.begin("put", value=value, sha256=f"sha-{value}", lock_id=lock_id)()

    def get(self, value: str | None, sha256: str | None = None) -> None:
        out = {"value": value, "sha256": sha256 or f"sha-{value}"} if value else {"value": None}
        self.begin("get")("ok", out)


def info(name: str) -> dict[str, str]:
    return {"ID": f"id-{name}", "Info": f"token-{name}", "Who": name}


def interleave(random: Random, calls: Sequence[tuple[str, dict[str, Any], dict[str, Any]]]) -> History:
    """Runs the calls in this order, each ended at a random later point."""
    tape = Tape()
    open_calls: list[Callable[[], None]] = []
    for f, inputs, outcome in calls:
        while open_calls and random.random() < 0.6:
            open_calls.pop(random.randrange(len(open_calls)))()
        end = tape.begin(f, **inputs)
        open_calls.append(partial(end, **outcome))
    random.shuffle(open_calls)
    for finish in open_calls:
        finish()
    return tape.history()
