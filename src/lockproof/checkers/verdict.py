"""What a checker says of a history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lockproof.history import Operation

Status = Literal["valid", "violated", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """`headline` is one line for a person; `witness` the numbers (`i`) of the events that prove a
    violation, in order; `details` names the anomaly and the workspace, and what else is known."""

    status: Status
    headline: str
    witness: tuple[int, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Violated(Exception):
    """Raised inside a checker as soon as a violation is certain; `operations` prove it, with what is only
    left of others, the numbers of their `events`."""

    def __init__(
        self, anomaly: str, headline: str, *operations: Operation, events: Iterable[int] = ()
    ) -> None:
        super().__init__(headline)
        self.anomaly = anomaly
        self.headline = headline
        shown = {event.i for op in operations for event in (op.invoke, op.outcome) if event is not None}
        self.witness = tuple(sorted(shown.union(events)))

    def verdict(self, workspace: str) -> Verdict:
        """The violation, with the workspace that it happened in."""
        details = {"anomaly": self.anomaly, "workspace": workspace}
        return Verdict("violated", f"{self.anomaly}: {self.headline}", self.witness, details)


class Undecided(Exception):
    """Raised inside a checker when the history does not determine the answer."""
