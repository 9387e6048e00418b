"""One call again and again, in each turn with another of its exchanges broken, until all were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TypeVar

from lockproof.chaos.network import NEMESES, AnsweredAfter
from lockproof.chaos.proxy import Answer, Armed, Link, LinkFault, Which
from lockproof.history.faults import START, STOP
from lockproof.history.writer import HARNESS, HistoryWriter
from lockproof.spec.outcome import Unknown

T = TypeVar("T")

MOST = 24
"""So many exchanges no call needs: more mean that it goes round in circles."""
LOOK = 0.002
"""Seconds between two looks whether a call stands still."""


class Turn:
    """One turn: a context manager in which the call is made while one exchange on the link is broken."""

    def __init__(self, link: Link, fault: LinkFault, number: int, history: HistoryWriter) -> None:
        self.link = link
        self.fault = fault
        self.number = number
        self.history = history
        self.hits = 0

    def __enter__(self) -> Armed:
        self._tell({"phase": START})
        self.armed = self.link.arm(self.fault, Which(first=self.number))
        return self.armed

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.armed.disarm()
        self.hits = self.armed.hits
        self._tell({"phase": STOP}, {"hits": self.hits})

    def _tell(self, phase: Mapping[str, str], out: Mapping[str, int] | None = None) -> None:
        given = {**phase, "on": self.link.name, "exchange": self.number}
        self.history.append(HARNESS, "fault", name_of(self.fault), given=given, out=out)


def name_of(fault: LinkFault) -> str:
    """The name of the nemesis that injects such a fault."""
    if isinstance(fault, Answer) and fault.effect:
        return AnsweredAfter.name
    return next(nemesis.name for nemesis in NEMESES if nemesis.kind is type(fault))  # type: ignore[attr-defined]


def every_exchange(
    links: Mapping[str, Link], fault: Callable[[Link], LinkFault | None], history: HistoryWriter
) -> Iterator[Turn]:
    """A turn for every exchange of a call on each of the links; the caller makes the call in each turn.

    `fault` says how an exchange on a link is broken; None where the link's protocol does not know that. A
    turn that broke nothing was the last of its link. Raises `Unknown` when no turn broke anything, or the
    last one that there may be did.
    """
    struck = 0
    for link in links.values():
        breaking = fault(link)
        if breaking is None:
            continue
        for number in range(1, MOST):
            turn = Turn(link, breaking, number, history)
            yield turn
            if not turn.hits:
                break
            struck += 1
        else:
            raise Unknown(f"after {MOST - 1} exchanges on link {link.name} the call still makes more")
    if not struck:
        raise Unknown("the fault hit nothing: no link carries an exchange of this call that it can break")


def until_it_stands(pool: ThreadPoolExecutor, call: Callable[[], T], armed: Armed) -> Future[T]:
    """Begins `call` in a thread; returns once it is held by the fault or has ended."""
    future = pool.submit(call)
    while not armed.held and not wait([future], LOOK).done:
        pass
    return future
