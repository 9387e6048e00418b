"""What was asked of the fake, in order, without a secret in it."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

REDACTED = "***"
CAPACITY = 200_000
_SECRET_KEYS = re.compile(r"token|secret|signature|credential|password|sig$|^x-amz-", re.IGNORECASE)


@dataclass
class LogEntry:
    """One request. `i` counts from 1; `t` is the fake's epoch seconds at its arrival.

    `status` is None while the answer is pending, and 0 when the connection was dropped without one.
    `bytes_in` and `bytes_out` are body lengths. `operation` is the route's name, None where no route exists
    (`unknown`); `fault` is the id of the fault that struck.
    """

    i: int
    t: float
    method: str
    path: str
    query: dict[str, str]
    host: str
    bytes_in: int
    principal: str | None = None
    operation: str | None = None
    status: int | None = None
    bytes_out: int = 0
    fault: int | None = None
    unknown: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class RequestLog:
    """The newest `CAPACITY` requests; secrets are replaced before an entry is stored."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.entries: deque[LogEntry] = deque(maxlen=CAPACITY)
        self.count = 0

    def open(
        self, now: float, method: str, path: str, query: dict[str, str], host: str, size: int
    ) -> LogEntry:
        with self.mutex:
            self.count += 1
            entry = LogEntry(self.count, now, method, path, redacted(query), host, size)
            self.entries.append(entry)
        return entry

    def select(
        self,
        *,
        since: int = 0,
        path: str = "*",
        method: str = "*",
        host: str = "*",
        operation: str | None = None,
        unknown: bool = False,
    ) -> list[LogEntry]:
        """Entries with `i > since` whose path, method and host match the shell patterns.

        `unknown`: only requests that no route answered.
        """
        with self.mutex:
            entries = [entry for entry in self.entries if entry.i > since]
        return [
            entry
            for entry in entries
            if fnmatchcase(entry.path, path)
            and fnmatchcase(entry.method, method)
            and fnmatchcase(entry.host, host)
            and operation in (None, entry.operation)
            and (entry.unknown or not unknown)
        ]


def redacted(query: dict[str, str]) -> dict[str, str]:
    """The query with the values of secrets replaced. A page token is no secret."""
    if not query:
        return query
    return {
        key: REDACTED if _SECRET_KEYS.search(key) and key != "page_token" else value
        for key, value in query.items()
    }
