"""Random histories of clients that lock, write and read one workspace, some of their replies lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from lockproof.history import Event
from lockproof.suites.meta.tape import LOST, Tape, info

Outcome = dict[str, Any]


class Truth:
    """A backend that locks and stores one state; with `broken`, it lets that share of stale writes in."""

    def __init__(self, random: Random, broken: float) -> None:
        self.random = random
        self.broken = broken
        self.holder: str | None = None
        self.value: str | None = None

    def lock(self, name: str) -> Outcome:
        if self.holder is not None:
            return self._refuse("locked")
        self.holder = name
        return {"out": f"id-{name}"}

    def unlock(self, lock_id: str) -> Outcome:
        if not self._holds(lock_id):
            return self._refuse("lock_mismatch" if self.holder else "not_locked")
        self.holder = None
        return {}

    def put(self, value: str, lock_id: str) -> Outcome:
        if not self._holds(lock_id) and self.random.random() >= self.broken:
            return self._refuse("lock_mismatch" if self.holder else "not_locked")
        self.value = value
        return {}

    def get(self) -> Outcome:
        return {"out": {"value": self.value}}

    def _holds(self, lock_id: str) -> bool:
        return lock_id == f"id-{self.holder}"

    def _refuse(self, kind: str) -> Outcome:
        named = {"holder": info(self.holder)} if self.holder else {}
        return {"e": "fail", "kind": kind, "definite": True, **named}


def fenced_traffic(random: Random, size: int, broken: float = 0.0) -> Sequence[Event]:
    """`size` calls, each taking effect when it is called, or if its reply is lost perhaps later or never,
    and returning at some later time."""
    truth, tape = Truth(random, broken), Tape()
    names: list[str] = []
    late: list[Callable[[], Outcome]] = []
    open_calls: list[Callable[[], None]] = []
    for number in range(size):
        while open_calls and random.random() < 0.5:
            open_calls.pop(random.randrange(len(open_calls)))()
        if late and random.random() < 0.3:
            late.pop(random.randrange(len(late)))()
        what = random.choice(["lock", "unlock", "put", "get"]) if names else "lock"
        holder = truth.holder if truth.holder and random.random() < 0.7 else random.choice(names or ["0"])
        lost = what != "get" and random.random() < 0.2
        effect: Callable[[], Outcome]
        if what == "lock":
            names.append(str(number))
            end = tape.begin("lock", info=info(str(number)))
            effect = partial(truth.lock, str(number))
        elif what == "unlock":
            end = tape.begin("unlock", lock_id=f"id-{holder}")
            effect = partial(truth.unlock, f"id-{holder}")
        elif what == "put":
            end = tape.begin("put", value=f"v{number}", sha256=None, lock_id=f"id-{holder}")
            effect = partial(truth.put, f"v{number}", f"id-{holder}")
        else:
            end, effect = tape.begin("get"), truth.get
        if lost and random.random() < 0.5:
            late.append(effect)
            open_calls.append(partial(end, **LOST))
        else:
            outcome = effect()
            open_calls.append(partial(end, **(LOST if lost else outcome)))
    random.shuffle(open_calls)
    for finish in open_calls:
        finish()
    return tape.events
