"""What the calls of one client cost: the requests, statements and bytes that the fake counted for it.

The client calls as a principal of its own, so that its requests can be told from those of other tests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lockproof.driver.databricks_direct import DirectBed
from lockproof.fakes.databricks.sql.steering import SqlControl
from lockproof.provision.s3 import BUCKET, asked

if TYPE_CHECKING:
    from lockproof.driver.databricks import DatabricksClient
    from lockproof.driver.databricks_bed import TestBed

PRIVILEGES = ("READ_VOLUME", "WRITE_VOLUME")
METER = "meter"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Cost:
    """What one call cost. `requests` by kind: the fake's operation, or `object store` with S3's method.

    `statements` by their first word: those of a SQL warehouse, of Lakebase, or, with direct locks, reads
    (`SELECT`) and commits (`COMMIT`) of the table. `logins` are connections opened to Lakebase. The bytes are
    those of HTTP bodies and of Postgres messages, without headers and TLS.
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    statements: Mapping[str, int] = field(default_factory=dict)
    logins: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def nothing(self) -> bool:
        return not (self.requests or self.statements)


class Meter:
    """A client of the scope whose calls are counted. `read` tells what was asked since the last reading."""

    def __init__(self, bed: TestBed) -> None:
        self.bed = bed
        self.control = SqlControl(bed.control.target)
        self.role = f"{METER}@{bed.scope.volume}.example"
        self.client: DatabricksClient = bed.client(METER, token=bed.principal(METER, *PRIVILEGES, locks=True))
        self._requests = self.control.mark()
        self._statements = max((record["i"] for record in self.control.statements()), default=0)
        self._sessions = int(self._lakebase(0)["count"])
        self._objects = len(self._stored())
        self._steps = self._noted()

    def read(self) -> Cost:
        """What the calls since the last reading cost."""
        entries = self.control.requests(since=self._requests)
        mine = [
            e for e in entries if e.principal == self.role or (not e.principal and self.bed.root in e.path)
        ]
        records = self.control.statements(self._statements)
        executed = [record["text"] for record in records if record["principal"] == self.role]
        sessions = self._lakebase(self._sessions)
        stored = self._stored()[self._objects :]
        steps = self._noted()
        self._requests = max((entry.i for entry in entries), default=self._requests)
        self._statements = max((record["i"] for record in records), default=self._statements)
        self._sessions, self._objects = int(sessions["count"]), self._objects + len(stored)
        noted, self._steps = steps[len(self._steps) :], steps
        asked_there = [entry for entry in sessions["entries"] if entry["text"]]
        traffic = [
            *stored,
            *sessions["entries"],
            *({"bytes_in": e.bytes_in, "bytes_out": e.bytes_out} for e in mine),
        ]
        return Cost(
            _counted([*(e.operation or "" for e in mine), *(f"object store {e['method']}" for e in stored)]),
            _counted(_first(text) for text in (*executed, *(e["text"] for e in asked_there), *noted)),
            len(sessions["entries"]) - len(asked_there),
            sum(entry["bytes_in"] for entry in traffic),
            sum(entry["bytes_out"] for entry in traffic),
        )

    def _lakebase(self, since: int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.control.call("lakebase_log", since=since, role=self.role)
        return found

    def _stored(self) -> Sequence[Mapping[str, Any]]:
        """The requests to the object store about direct locks of the scope; none for other locks."""
        location, url = self.bed.locks.settings().get("lock_location", ""), ""
        for pair in self.bed.scope.driver.options["lock_storage_options"].split(","):
            name, _, value = pair.partition("=")
            url = value if name == "AWS_ENDPOINT_URL" else url
        if not location.startswith("s3://"):
            return ()
        return asked(url, location.removeprefix(f"s3://{BUCKET}/"))

    def _noted(self) -> Sequence[str]:
        """The reads and commits of direct locks."""
        return list(self.bed.locks.steps) if isinstance(self.bed.locks, DirectBed) else []


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _first(text: str) -> str:
    found = _WORD.search(text)
    return found[0].upper() if found else ""
