"""Scripted faults of database sessions: which logins or statements, and what goes wrong."""

from __future__ import annotations

import itertools
import re
import threading
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

What = Literal["refuse", "drop_request", "drop_reply", "late_request", "hold"]


@dataclass(frozen=True)
class SessionFault:
    """One fault.

    Which: of the statements whose text matches the regular expression `match` (of the logins whose user does,
    for `refuse`), `first` (1 = the first) begins a series of `times` hits (None: for ever). A statement that
    was prepared earlier by name is not seen.

    What: `refuse` answers a login "the database system is starting up". `drop_request` ends the session
    before the statement reaches the server. `drop_reply` lets it run to its end, then ends the session
    without the reply. `late_request` ends the session at once and sends the statement to the server when it
    is released: what a network does that keeps bytes after its client has gone. `hold` keeps the statement
    until it is released, and then all goes on.
    """

    what: What
    match: str = ""
    first: int = 1
    times: int | None = 1

    def __post_init__(self) -> None:
        if self.what not in get_args(What):
            raise ValueError(f"what is one of {', '.join(get_args(What))}, got {self.what!r}")
        if self.first < 1 or (self.times is not None and self.times < 1):
            raise ValueError("first and times count from 1")
        try:
            re.compile(self.match)
        except re.error as error:
            raise ValueError(f"match is not a regular expression: {error}") from None


@dataclass
class Armed:
    """A fault in the script: `seen` matching, `hits` struck, `held` waiting right now, `done` carried out."""

    id: int
    fault: SessionFault
    seen: int = 0
    hits: int = 0
    held: int = 0
    done: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def strikes(self, text: str) -> bool:
        """Counts the statement or login and says whether it is one of the series."""
        fault = self.fault
        if not re.search(fault.match, text, re.IGNORECASE):
            return False
        self.seen += 1
        if self.seen < fault.first or (fault.times is not None and self.seen >= fault.first + fault.times):
            return False
        self.hits += 1
        return True

    def to_json(self) -> dict[str, Any]:
        counts = {"id": self.id, "seen": self.seen, "hits": self.hits, "held": self.held, "done": self.done}
        return {**counts, "fault": asdict(self.fault)}


class SessionFaults:
    """The armed faults; every matching one counts, the first that strikes acts."""

    def __init__(self) -> None:
        self.armed: list[Armed] = []
        self._ids = itertools.count(1)

    def add(self, **fault: Any) -> Armed:
        """Arms `SessionFault(**fault)`."""
        armed = Armed(next(self._ids), SessionFault(**fault))
        self.armed = [*self.armed, armed]
        return armed

    def get(self, fault_id: int) -> Armed:
        """Raises KeyError for an unknown id."""
        for armed in self.armed:
            if armed.id == fault_id:
                return armed
        raise KeyError(f"no session fault with id {fault_id}")

    def clear(self) -> int:
        """Removes all, lets held statements go, and returns how many there were."""
        gone, self.armed = self.armed, []
        for armed in gone:
            armed.released.set()
        return len(gone)

    def strike(self, text: str, *, login: bool = False) -> Armed | None:
        """The fault that strikes a statement's text, or the login of a user."""
        fitting = [armed for armed in self.armed if (armed.fault.what == "refuse") == login]
        struck = [armed for armed in fitting if armed.strikes(text)]
        return struck[0] if struck else None
