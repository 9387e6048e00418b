"""Scripted faults: what goes wrong, on which requests, and how often."""

from __future__ import annotations

import base64
import itertools
import threading
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from lockproof.fakes.databricks.wire import Request


@dataclass
class Fault:
    """One fault.

    Which requests: `method` and `path` are shell patterns (`*` also spans slashes) on the method and the
    decoded path; `host` is `workspace`, `storage` or `*`; `principal` narrows to one caller (by name, known
    after authentication), `client` to the requests for a token of one OAuth client (by its id); `query` to
    requests whose query holds these pairs; `content` is a shell pattern on the body as text. Of the matching
    requests, `first` (1 = the first) begins a series of `times` hits (None: for ever).

    What happens: `delay` seconds; then `hold` until `FakeControl.release`; then the request takes effect,
    or, with `when="before"` and an answer of the fault's own (`status`, `drop`), it does not. `status`,
    `body` and `headers` replace the answer, `drop` ends the connection without one, `truncate` cuts the
    body after that many bytes while the announced length stays. Without a `body`, a status of 400 and more
    brings the body that a workspace sends with it. With `when="after"` the request takes
    effect first, and delay and hold come between the effect and the answer. `stale`: a read sees what stood
    there before the last write. `duplicate`: the request is delivered twice, one after the other, and the
    answer is the second one's.
    """

    method: str = "*"
    path: str = "*"
    host: str = "*"
    principal: str | None = None
    client: str | None = None
    query: dict[str, str] = field(default_factory=dict)
    content: str = "*"
    first: int = 1
    times: int | None = 1
    when: Literal["before", "after"] = "before"
    delay: float = 0.0
    hold: bool = False
    status: int | None = None
    body: str | dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    truncate: int | None = None
    stale: bool = False
    duplicate: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.when not in ("before", "after"):
            raise ValueError(f"when is 'before' or 'after', got {self.when!r}")
        if self.first < 1 or (self.times is not None and self.times < 1):
            raise ValueError("first and times count from 1")
        if self.body is not None and self.status is None:
            raise ValueError("a fault with a body needs a status")
        if not (
            self.delay
            or self.hold
            or self.answers
            or self.truncate is not None
            or self.stale
            or self.duplicate
            or self.headers
        ):
            raise ValueError(
                "the fault does nothing: set status, drop, truncate, delay, hold, headers, stale or duplicate"
            )

    @property
    def answers(self) -> bool:
        """Whether the fault answers in the place of the route."""
        return self.status is not None or self.drop

    def matches(self, request: Request) -> bool:
        return (
            fnmatchcase(request.method, self.method.upper())
            and fnmatchcase(request.path, self.path)
            and self.host in ("*", request.host)
            and (not self.query or self.query.items() <= request.query.items())
            and (
                self.principal is None
                or (request.principal is not None and request.principal.name == self.principal)
            )
            and (self.client is None or self.client == _basic_name(request))
            and (self.content == "*" or fnmatchcase(request.body.decode("utf-8", "replace"), self.content))
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _basic_name(request: Request) -> str:
    """The name of HTTP Basic authentication, empty where a request has none."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        return base64.b64decode(value).decode().partition(":")[0] if kind.lower() == "basic" else ""
    except ValueError:
        return ""


@dataclass
class Armed:
    """A fault in the script. `seen` matching requests, `hits` of them struck, `held` waiting right now."""

    id: int
    fault: Fault
    seen: int = 0
    hits: int = 0
    held: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def strikes(self, request: Request) -> bool:
        """Counts the request and says whether this is one of the series."""
        fault = self.fault
        if not fault.matches(request):
            return False
        self.seen += 1
        if self.seen < fault.first or (fault.times is not None and self.seen >= fault.first + fault.times):
            return False
        self.hits += 1
        return True

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "seen": self.seen,
            "hits": self.hits,
            "held": self.held,
            "fault": self.fault.to_json(),
        }


class FaultScript:
    """The armed faults; every matching one counts a request, the first that strikes acts."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.ids = itertools.count(1)
        self.armed: list[Armed] = []

    def add(self, fault: Fault) -> Armed:
        with self.mutex:
            armed = Armed(next(self.ids), fault)
            self.armed.append(armed)
        return armed

    def strike(self, request: Request) -> Armed | None:
        if not self.armed:
            return None
        with self.mutex:
            struck = [armed for armed in self.armed if armed.strikes(request)]
        return struck[0] if struck else None

    def get(self, fault_id: int) -> Armed:
        """Raises KeyError for an unknown id."""
        for armed in self.armed:
            if armed.id == fault_id:
                return armed
        raise KeyError(f"no fault with id {fault_id}")

    def remove(self, fault_id: int | None = None) -> int:
        """Removes one fault or all of them, lets held requests go, and returns how many were removed."""
        with self.mutex:
            gone = [armed for armed in self.armed if fault_id in (None, armed.id)]
            self.armed = [armed for armed in self.armed if armed not in gone]
        for armed in gone:
            armed.released.set()
        return len(gone)
