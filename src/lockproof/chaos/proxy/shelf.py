"""What stood at a path before its last write: kept while a `StaleRead` is armed, and no longer."""

from __future__ import annotations

from lockproof.chaos.proxy.armed import Script
from lockproof.chaos.proxy.faults import StaleRead

WRITES = ("PUT", "POST", "PATCH", "DELETE")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"


class Shelves:
    """Replies with status 200, raw, by path: the current one and the one before the last write."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._now: dict[str, bytes] = {}
        self._before: dict[str, bytes] = {}

    def wants(self, path: str) -> bool:
        """Whether a `StaleRead` may yet strike a GET of `path`."""
        return any(
            isinstance(armed.fault, StaleRead) and not armed.spent and armed.which.fits("GET", path)
            for armed in self._script.armed
        )

    def has(self, path: str) -> bool:
        return path in self._before

    def before(self, path: str) -> bytes:
        return self._before[path]

    def record(self, method: str, path: str, status: int, raw: bytes, written: bytes | None) -> None:
        """An exchange ended: `raw` is the reply to a GET, `written` what a write wrote."""
        if method == "GET" and status == 200:
            self._now[path] = raw
        elif method in WRITES and 200 <= status < 300:
            if path in self._now:
                self._before[path] = self._now.pop(path)
            if method in ("PUT", "POST") and written:
                self._now[path] = HEAD % len(written) + written

    def sweep(self) -> None:
        """Forgets all unless a `StaleRead` is armed."""
        if not any(isinstance(armed.fault, StaleRead) for armed in self._script.armed):
            self._now.clear()
            self._before.clear()
