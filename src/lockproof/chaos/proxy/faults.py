"""What a link can do to an exchange, and to which exchanges.

An exchange is a request and its reply: in HTTP one of each; in Postgres a simple query or an extended one up
to its Sync, and all that the server sends up to ReadyForQuery; in plain TCP bytes one way after bytes the
other way. "The client" and "the server" are the two ends of the link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, get_args

Protocol = Literal["tcp", "http", "postgres"]
Side = Literal["request", "reply"]
Direction = Literal["both", "requests", "replies"]


@dataclass(frozen=True)
class DropRequest:
    """The connection ends and nothing of the request reaches the server. We know that it had no effect; the
    client, which sent it, does not."""


@dataclass(frozen=True)
class DropReply:
    """The request takes effect, its reply is read to the end, and the connection ends without it."""


@dataclass(frozen=True)
class Delay:
    """The request, or the reply once the server has begun it, waits that many seconds; None: until it is
    released. A request whose client left meanwhile reaches the server all the same: late."""

    seconds: float | None
    side: Side = "request"

    def __post_init__(self) -> None:
        _check_side(self.side)
        if self.seconds is not None and not 0 <= self.seconds < float("inf"):
            raise ValueError(f"Delay takes seconds or None, got {self.seconds!r}")


@dataclass(frozen=True)
class SlowBody:
    """The body (in Postgres and TCP: all bytes) of one side trickles; released, the rest comes at once."""

    bytes_per_second: float
    side: Side = "reply"

    def __post_init__(self) -> None:
        _check_side(self.side)
        if not 0 < self.bytes_per_second < float("inf"):
            raise ValueError(f"SlowBody takes a positive number of bytes, got {self.bytes_per_second!r}")


@dataclass(frozen=True)
class Reset:
    """Both ends get a RST in mid-message, after that many bytes of the body (in Postgres and TCP: of all)
    have passed. 0: nothing passes, the head neither; a request then never reaches the server, and a reply's
    has taken effect. However short it is, the message never passes whole; but in TCP, where nobody knows how
    long one is, one of no more bytes passes and is not hit."""

    after_bytes: int = 0
    side: Side = "reply"

    def __post_init__(self) -> None:
        _check_side(self.side)
        if self.after_bytes < 0:
            raise ValueError(f"Reset takes a number of bytes, got {self.after_bytes!r}")


@dataclass(frozen=True)
class Truncate:
    """The reply announces its whole length and ends early, with this share of its body (in Postgres: of its
    messages). A reply without a body is not hit."""

    keep: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.keep < 1:
            raise ValueError(f"Truncate keeps a share of 0 up to but not including 1, got {self.keep!r}")


@dataclass(frozen=True)
class Duplicate:
    """The request is delivered twice, as by an intermediary that repeats what it has no reply to. The client
    gets the second reply. `late`: it gets the first, and the second copy is delivered when it is released,
    whatever happened in between."""

    late: bool = False


@dataclass(frozen=True)
class Answer:
    """The client gets this answer: instead of the request (`effect=False`), or after it took effect."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    effect: bool = False

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"Answer takes a final status, 200 to 599, got {self.status!r}")
        for name, value in self.headers.items():
            if any(c in f"{name}{value}" for c in "\r\n\0") or not name or not f"{name}{value}".isascii():
                raise ValueError(f"Answer takes headers of one ASCII line each, got {name!r}")


@dataclass(frozen=True)
class StaleRead:
    """A GET is answered with the 200 that stood there before the last write on that path (PUT, POST, PATCH
    or DELETE). What stood there is what a GET read or what a PUT or POST wrote since the fault was armed; a
    GET of a path without such a past passes and is not hit."""


@dataclass(frozen=True)
class Partition:
    """Bytes are kept back, and nothing is closed; see `Link.partition`, which arms it."""

    direction: Direction = "both"

    def __post_init__(self) -> None:
        if self.direction not in get_args(Direction):
            raise ValueError(f"a partition is {', '.join(get_args(Direction))}, got {self.direction!r}")

    def covers(self, direction: Direction) -> bool:
        return self.direction in ("both", direction)


LinkFault = DropRequest | DropReply | Delay | SlowBody | Reset | Truncate | Duplicate | Answer | StaleRead

FOREIGN: Mapping[Protocol, Mapping[type[LinkFault], str]] = {
    "http": {},
    "tcp": {
        Truncate: "a byte stream announces no length",
        Duplicate: "TCP delivers nothing twice",
        Answer: "a byte stream has no answers",
        StaleRead: "a byte stream has no reads",
    },
    "postgres": {
        Duplicate: "nothing between a client and Postgres repeats a statement",
        Answer: "Postgres knows no HTTP status",
        StaleRead: "Postgres has no GET",
    },
}
"""The faults that make no sense in a protocol, and why."""


@dataclass(frozen=True)
class Which:
    """The exchanges that a fault strikes.

    `method` and `path` (without query, percent-decoded) are shell patterns, in which `*` spans slashes too;
    `text` is one on the body, or on the SQL text of any statement of the exchange, and there case does not
    matter. Of the exchanges that match, `first` (1 = the first) begins a series of `times` (None: for ever),
    of which each is struck with `probability`, drawn from `seed`.
    """

    method: str = "*"
    path: str = "*"
    text: str = "*"
    first: int = 1
    times: int | None = 1
    probability: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.first < 1 or (self.times is not None and self.times < 1):
            raise ValueError("first and times count from 1")
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability is above 0 and at most 1, got {self.probability!r}")

    def fits(self, method: str, path: str) -> bool:
        """Whether an exchange matches as far as its text is not looked at."""
        return fnmatchcase(method, self.method.upper()) and fnmatchcase(path, self.path)

    def fits_text(self, text: str) -> bool:
        return self.text == "*" or fnmatchcase(text.lower(), self.text.lower())


def check(fault: LinkFault, which: Which, protocol: Protocol) -> None:
    """Raises `ValueError`, one line, for what cannot happen in `protocol`."""
    if not isinstance(fault, LinkFault):
        raise ValueError(f"{fault!r} is no fault of a link; a partition is made with Link.partition")
    reason = FOREIGN[protocol].get(type(fault))
    if reason is not None:
        raise ValueError(f"{type(fault).__name__} cannot strike a {protocol} link: {reason}")
    if protocol != "http" and (which.method, which.path) != ("*", "*"):
        raise ValueError(f"a {protocol} link has no methods and no paths to match")
    if protocol == "tcp" and which.text != "*":
        raise ValueError("a tcp link has no texts to match: its bytes are not read")
    if isinstance(fault, StaleRead) and not fnmatchcase("GET", which.method.upper()):
        raise ValueError(f"StaleRead strikes GET alone, and the method {which.method!r} does not match it")


def _check_side(side: str) -> None:
    if side not in get_args(Side):
        raise ValueError(f"side is {' or '.join(get_args(Side))}, got {side!r}")
