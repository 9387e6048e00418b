"""Nemeses of the family `net`: what a network does to the links of a client, and nobody else's."""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Iterator
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, ClassVar

from lockproof.chaos.nemesis import Nemesis
from lockproof.chaos.proxy.faults import (
    FOREIGN,
    Answer,
    Delay,
    DropReply,
    DropRequest,
    Duplicate,
    LinkFault,
    Partition,
    Reset,
    SlowBody,
    StaleRead,
    Truncate,
    Which,
)

if TYPE_CHECKING:
    from lockproof.chaos.arena import Arena
    from lockproof.chaos.proxy import Armed, Link

SETTLING = 5.0
"""Seconds that a fault which is lifted waits for the exchanges it was to strike, to count its hits."""


class LinkNemesis(Nemesis):
    """Strikes exchanges on links of the arena.

    Parameters: `on`, the client whose links they are (all clients' when not given); `link`, the driver's
    name of one of them (else all on which the fault is possible); `first`, `times`, `method`, `path` and
    `text` say which exchanges (`lockproof.chaos.proxy.faults.Which`); and what the fault itself takes.
    """

    on_a_client = True
    kind: ClassVar[type[LinkFault | Partition]]

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.armed: list[Armed] = []

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"times": rng.choice((1, 1, 2, 6))}

    @classmethod
    def protocols(cls) -> frozenset[str]:
        """On links of which protocols the fault is possible."""
        return frozenset(name for name in FOREIGN if cls.kind not in FOREIGN[name])

    def missing(self, arena: Arena) -> str:
        addresses = arena.addresses()
        if not addresses:
            return "the backend is not reached over a network link"
        wanted = self.parameters.get("link")
        fitting = [n for n, a in addresses.items() if wanted in (None, n) and a.protocol in self.protocols()]
        which = "no link" if wanted is None else f"not the link {wanted}:"
        return (
            "" if fitting else f"{self.name} is possible on {' and '.join(sorted(self.protocols()))}, {which}"
        )

    @abstractmethod
    def fault(self) -> LinkFault:
        """What the links are armed with."""

    def which(self) -> Which:
        """The exchanges that are struck."""
        named = {k: v for k, v in self.parameters.items() if k in Which.__dataclass_fields__}
        return Which(**named)

    def aims(self, arena: Arena) -> Iterator[tuple[str, Link]]:
        """The links that are struck, with the driver's names of them."""
        protocols, addresses = self.protocols(), arena.addresses()
        on, wanted = self.parameters.get("on"), self.parameters.get("link")
        for links in [arena.links(on)] if on is not None else arena.all_links():
            for name, link in links.items():
                if wanted in (None, name) and addresses[name].protocol in protocols:
                    yield name, link

    def strike(self, arena: Arena, rng: random.Random) -> None:
        for _, link in self.aims(arena):
            self.armed.append(link.arm(self.fault(), self.which()))

    def lift(self, arena: Arena) -> None:
        for armed in self.armed:
            armed.disarm()
        for armed in self.armed:
            armed.await_settled(SETTLING)  # what is under way longer than that counts as not hit

    def struck(self) -> int:
        return sum(armed.hits for armed in self.armed)


class RequestLost(LinkNemesis):
    """The connection ends and the request never reaches the server."""

    name = "net.drop_request"
    kind = DropRequest

    def fault(self) -> LinkFault:
        return DropRequest()


class ReplyLost(LinkNemesis):
    """The request takes effect, and the connection ends without the reply."""

    name = "net.drop_reply"
    kind = DropReply

    def fault(self) -> LinkFault:
        return DropReply()


class Slow(LinkNemesis):
    """A message waits `seconds` (0.3); without a number (`None`) until the fault is healed, so that it
    arrives late, after its sender may have given up. `side`: `request` or `reply`."""

    name = "net.delay"
    kind = Delay

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        side = rng.choice(("request", "reply"))
        return {**super().draw(rng), "seconds": round(rng.uniform(0.02, 0.6), 2), "side": side}

    def fault(self) -> LinkFault:
        return Delay(self.parameters.get("seconds", 0.3), self.parameters.get("side", "request"))


class Trickle(LinkNemesis):
    """The body of a message trickles, `bytes_per_second` (4000); on `side` `reply` or `request`."""

    name = "net.slow_body"
    kind = SlowBody

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        rate = rng.choice((1_000, 4_000, 20_000))
        return {**super().draw(rng), "bytes_per_second": rate, "side": rng.choice(("request", "reply"))}

    def fault(self) -> LinkFault:
        return SlowBody(self.parameters.get("bytes_per_second", 4_000), self.parameters.get("side", "reply"))


class ResetConnection(LinkNemesis):
    """Both ends get a RST in mid-message, after `after_bytes` (0); on `side` `reply` or `request`."""

    name = "net.reset"
    kind = Reset

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        after = rng.choice((0, 20, 60))
        return {**super().draw(rng), "after_bytes": after, "side": rng.choice(("request", "reply"))}

    def fault(self) -> LinkFault:
        return Reset(self.parameters.get("after_bytes", 0), self.parameters.get("side", "reply"))


class CutShort(LinkNemesis):
    """The reply announces its whole length and ends early: after the share `keep` (0.5) of it."""

    name = "net.truncate"
    kind = Truncate

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {**super().draw(rng), "keep": rng.choice((0.0, 0.5, 0.9))}

    def fault(self) -> LinkFault:
        return Truncate(self.parameters.get("keep", 0.5))


class Twice(LinkNemesis):
    """The request is delivered twice; `late`: the second copy when the fault is healed, which only a backend
    with strict fencing can be asked to survive."""

    name = "net.duplicate"
    kind = Duplicate

    def fault(self) -> LinkFault:
        return Duplicate(late=self.parameters.get("late", False))


class AnsweredBefore(LinkNemesis):
    """A server error, `status` (503), is answered instead of the request."""

    name = "net.error_before"
    kind = Answer
    effect: ClassVar[bool] = False

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {**super().draw(rng), "status": rng.choice((500, 502, 503, 504))}

    def fault(self) -> LinkFault:
        return Answer(self.parameters.get("status", 503), body=b"injected", effect=self.effect)


class AnsweredAfter(AnsweredBefore):
    """A server error, `status` (503), is answered although the request took effect."""

    name = "net.error_after"
    effect = True


class Throttled(LinkNemesis):
    """429 is answered instead of the request, with `retry_after` (`1`) as its Retry-After: seconds, or
    `date` for a second from now as an HTTP-date; an empty one for none."""

    name = "net.throttle"
    kind = Answer

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"times": rng.choice((1, 2)), "retry_after": rng.choice(("0", "1", "date"))}

    def fault(self) -> LinkFault:
        given = self.parameters.get("retry_after", "1")
        # RFC 9110 section 10.2.3: Retry-After = HTTP-date / delay-seconds
        shown = formatdate(time.time() + 1, usegmt=True) if given == "date" else given
        return Answer(429, {"Retry-After": shown} if shown else {}, b"injected")


class ThrottledSilently(Throttled):
    """429 is answered instead of the request, without Retry-After."""

    name = "net.throttle_bare"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"times": rng.choice((1, 2)), "retry_after": ""}

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**{**parameters, "retry_after": ""})


class Refused(LinkNemesis):
    """401 is answered instead of the request, as to a token that has expired."""

    name = "net.unauthorized"
    kind = Answer

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"times": 1}

    def fault(self) -> LinkFault:
        return Answer(401, body=b"injected")


class ReadStale(LinkNemesis):
    """A GET is answered with what stood there before the last write."""

    name = "net.stale_read"
    kind = StaleRead

    def fault(self) -> LinkFault:
        return StaleRead()


class Cut(LinkNemesis):
    """Bytes are kept back and nothing is closed; `direction` `both` (as given by default), `requests` or
    `replies`. Healed, they flow."""

    name = "net.partition"
    kind = Partition

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"direction": rng.choice(("both", "requests", "replies"))}

    def fault(self) -> LinkFault:
        raise TypeError("a partition is no fault of an exchange")

    def strike(self, arena: Arena, rng: random.Random) -> None:
        for _, link in self.aims(arena):
            self.armed.append(link.partition(self.parameters.get("direction", "both")))


class IdleConnectionsClosed(LinkNemesis):
    """Connections that carry no exchange are closed, as a load balancer does after its idle timeout."""

    name = "net.idle_kill"
    kind = DropReply  # possible wherever a connection can be closed

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.closed = 0

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {}

    def fault(self) -> LinkFault:
        raise TypeError("closing what is idle is no fault of an exchange")

    def strike(self, arena: Arena, rng: random.Random) -> None:
        self.closed = sum(link.close_idle() for _, link in self.aims(arena))

    def struck(self) -> int:
        return self.closed


NEMESES: tuple[type[Nemesis], ...] = (
    RequestLost,
    ReplyLost,
    Slow,
    Trickle,
    ResetConnection,
    CutShort,
    Twice,
    AnsweredBefore,
    AnsweredAfter,
    Throttled,
    ThrottledSilently,
    Refused,
    ReadStale,
    Cut,
    IdleConnectionsClosed,
)
