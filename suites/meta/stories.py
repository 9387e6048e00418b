"""Histories written by hand: who called what, one microsecond between two events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lockproof.history import Event, History


def lock_id(name: str) -> str:
    """The id that `name` asks for a lock with: as long as a real one."""
    return f"{name}-{'0123456789abcdef' * 2}"[:36]


def info(name: str, who: str = "") -> dict[str, str]:
    """The lock info of the request `name`."""
    return {"ID": lock_id(name), "Info": f"lockproof:token-of-{name}", "Who": who or name}


class Story:
    """A history in the making. Every call returns the function that ends it; `say` ends it at once."""

    def __init__(self, **header: Any) -> None:
        self.header = {"v": 1, "backend": "memory", **header}
        self.events: list[Event] = []
        self.names: dict[int, str] = {}
        self.processes: dict[str, int] = {}

    def call(
        self, who: str, f: str, ws: str | None = "default", given: Mapping[str, Any] | None = None
    ) -> Callable[..., None]:
        process = self.process(who)
        self.append(process, "invoke", f, ws=ws, given=given or {})

        def end(e: str = "ok", out: Any = None, **err: Any) -> None:
            self.append(process, e, f, ws=ws, out=out, err=err or None)
            if e == "info":
                del self.processes[who]

        return end

    def process(self, who: str) -> int:
        if who not in self.processes:
            number = len(self.names)
            self.processes[who], self.names[number] = number, who
            self.append(number, "note", "process", given={"who": who})
        return self.processes[who]

    def append(self, p: int, e: Any, f: str, **rest: Any) -> None:
        i = len(self.events)
        self.events.append(Event(i, i * 1000, p, e, f, **rest))

    def history(self, *, closed: bool = True) -> History:
        return History(self.header, tuple(self.events), closed, dict(self.names))

    # --- calls that return before anything else happens ---------------------------------------------

    def lock(self, who: str, name: str = "", granted: str = "") -> None:
        self.call(who, "lock", given={"info": info(name or who, who)})("ok", granted or lock_id(name or who))

    def lost_lock(self, who: str, name: str = "") -> None:
        self.call(who, "lock", given={"info": info(name or who, who)})("info", kind="timeout", definite=False)

    def refused(self, who: str, holder: str | None, name: str = "") -> None:
        named = {} if holder is None else {"holder": info(holder)}
        end = self.call(who, "lock", given={"info": info(name or f"{who}-{len(self.events)}", who)})
        end("fail", kind="locked", definite=True, **named)

    def unlock(self, who: str, name: str = "") -> None:
        self.call(who, "unlock", given={"lock_id": lock_id(name or who)})()

    def put(self, who: str, value: str, *, serial: int = 1, under: str | None = None) -> None:
        given = {**described(value, serial), "size": 9, "lock_id": under and lock_id(under)}
        self.call(who, "put", given=given)()

    def get(self, who: str, value: str | None, *, serial: int = 1, sha256: str = "") -> None:
        seen = {"value": None} if value is None else described(value, serial)
        self.call(who, "get")("ok", {**seen, "sha256": sha256} if sha256 else seen)

    def delete(self, who: str) -> None:
        self.call(who, "delete")()


def described(value: str, serial: int) -> dict[str, Any]:
    """What a history says of a state."""
    return {"value": value, "sha256": f"sha256 of {value}", "serial": serial, "lineage": "one"}


def two_holders(**header: Any) -> History:
    """Alice and bob both hold; carol and dave write and read beside them."""
    story = Story(**header)
    story.put("dave", "first")
    story.lock("alice")
    story.refused("carol", "alice")
    story.lock("bob")
    story.get("dave", "first")
    story.unlock("bob")
    story.unlock("alice")
    return story.history()
