"""What a lock costs at the fake workspace, by its request log."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lockproof.driver.api import Capabilities, Scope


class RequestCount:
    """Counts the requests that arrive at the fake workspace behind `scope` from now on. Everything there is
    taken to be for the run: nobody else uses its services. What goes to Postgres is not in that log."""

    def __init__(self, scope: Scope) -> None:
        self._control = scope.test_bed().control  # type: ignore[attr-defined]
        self._since = self._control.mark()

    def per_acquisition(self, granted: int) -> dict[str, Any] | None:
        """Requests by operation for each of `granted` locks; `None` when there were none."""
        entries = self._control.requests(since=self._since)
        if not granted or len(entries) < self._control.mark() - self._since:  # the log forgot some
            return None
        counted = Counter(entry.operation or "unknown route" for entry in entries)
        each = {name: round(n / granted, 3) for name, n in counted.most_common()}
        return {
            "source": "Requests that the fake workspace logged (all jobs, without statements to Postgres)",
            "requests": len(entries),
            "bytes_in": sum(entry.bytes_in for entry in entries),
            "bytes_out": sum(entry.bytes_out for entry in entries),
            "per_acquisition": each,
        }


def counting(scope: Scope | None, capabilities: Capabilities) -> RequestCount | None:
    """A count where a fake workspace with a log stands behind `scope`."""
    return RequestCount(scope) if scope is not None and {"databricks", "test-bed"} <= capabilities else None
