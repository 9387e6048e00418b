"""How far the clock of another machine is from ours, and what is not known of that.

As NTP does (RFC 5905, section 8), from messages there and back: the other clock was read between our sending
and our receiving, so half the round trip bounds the error, however unequal the two ways are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Exchange = tuple[int, int, int]
"""Our clock when the question was sent, the other's when it answered, ours when the answer came."""


@dataclass(frozen=True)
class Offset:
    """The other clock shows ours plus `ns`, give or take `error`; nanoseconds."""

    ns: int = 0
    error: int = 0

    def spanning(self, other: Offset) -> Offset:
        """What holds at both of two moments, and between them for a clock that drifts evenly."""
        low = min(self.ns - self.error, other.ns - other.error)
        high = max(self.ns + self.error, other.ns + other.error)
        return Offset((low + high) // 2, (high - low + 1) // 2)


def estimate(exchanges: Iterable[Exchange]) -> Offset:
    """The offset by the exchange with the shortest round trip. Raises `ValueError` without any."""
    sent, other, received = min(exchanges, key=lambda exchange: exchange[2] - exchange[0])
    return Offset(other - (sent + received) // 2, (received - sent + 1) // 2)
