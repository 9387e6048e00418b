"""What was asked of Lakebase, in order: one entry for a login and one for each statement that was run."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from lockproof.pgwire import frames, names

CAPACITY = 200_000


@dataclass
class SessionEntry:
    """A login (its `text` is empty) or a statement. `i` counts from 1; `role` is who logged in.

    `text` is the SQL without the values of its parameters; a text sent as a simple query has them.
    `bytes_in` and `bytes_out` are what passed, TLS aside, from here to the next entry of the session.
    """

    i: int
    session: int
    role: str
    text: str
    bytes_in: int = 0
    bytes_out: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class SessionLog:
    """The newest `CAPACITY` entries of all sessions."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.entries: deque[SessionEntry] = deque(maxlen=CAPACITY)
        self.count = 0

    def add(self, session: int, role: str, text: str) -> SessionEntry:
        with self.mutex:
            self.count += 1
            entry = SessionEntry(self.count, session, role, text)
            self.entries.append(entry)
        return entry

    def select(self, since: int, role: str) -> list[SessionEntry]:
        """The entries with `i > since` of the sessions of a role."""
        with self.mutex:
            return [entry for entry in self.entries if entry.i > since and entry.role == role]


class Traffic:
    """What passes in one session, as it is written to the log.

    A statement that was prepared is run again by its name alone, so the names are kept with their texts.
    """

    def __init__(self, log: SessionLog, session: int, role: str) -> None:
        self.log, self.session, self.role = log, session, role
        self.newest = log.add(session, role, "")
        self.texts: dict[str, str] = {}
        self.portals: dict[str, str] = {}

    def asked(self, data: bytes) -> None:
        """Whole messages of the client."""
        for kind, begin, end in frames(data):
            message = data[begin:end]
            if kind == b"Q":
                self.newest = self.log.add(self.session, self.role, _text(message[5:]))
            elif kind == b"P":
                name, text = names(message)
                self.texts[name] = text
            elif kind == b"B":
                portal, name = names(message)
                self.portals[portal] = self.texts.get(name, "")
            elif kind == b"E":
                self.newest = self.log.add(self.session, self.role, self.portals.get(_text(message[5:]), ""))
        self.newest.bytes_in += len(data)

    def answered(self, size: int) -> None:
        """`size` bytes of the server."""
        self.newest.bytes_out += size


def _text(body: bytes) -> str:
    return body.partition(b"\0")[0].decode("utf-8", "replace")
