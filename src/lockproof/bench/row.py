"""One measured comparison: the raw samples, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lockproof.bench.benchmark import Better
from lockproof.bench.ratio import Aim, Interval, Judged, interval


@dataclass(frozen=True)
class Row:
    """A subject beside a peer, `theirs[i]` measured in the same round as `ours[i]`.

    `stopped` names those that ran into a limit, so that their samples are lower bounds.
    """

    benchmark: str
    case: str
    subject: str
    peer: str
    unit: str
    better: Better
    ours: Sequence[float]
    theirs: Sequence[float]
    stopped: Sequence[str] = ()
    aim: Aim | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a row of an earlier run must be equal in to be the same comparison."""
        return self.benchmark, self.case, self.subject, self.peer

    @property
    def ratio(self) -> Interval:
        """Subject / peer, of each round."""
        return interval([one / other for one, other in zip(self.ours, self.theirs, strict=True)])

    @property
    def bound(self) -> str:
        """`≤` where the peer was stopped at a limit, `≥` where the subject was, `?` where both were."""
        ours, theirs = self.subject in self.stopped, self.peer in self.stopped
        return "?" if ours and theirs else "≥" if ours else "≤" if theirs else ""

    @property
    def met(self) -> Judged | None:
        """Whether the aim is reached, by the interval of what it is about."""
        if self.aim is None:
            return None
        if self.aim.of == "ratio":
            return self.aim.judge(self.ratio)
        if self.aim.of == "subject":
            return self.aim.judge(interval(self.ours))
        return self.aim.judge(interval([a - b for a, b in zip(self.ours, self.theirs, strict=True)]))

    def to_json(self) -> dict[str, Any]:
        """As the record keeps it: the samples, and for a reader what follows from them."""
        ratio = asdict(self.ratio)
        return {
            **{
                name: getattr(self, name)
                for name in ("benchmark", "case", "subject", "peer", "unit", "better")
            },
            "ratio": ratio,
            "bound": self.bound,
            "aim": None if self.aim is None else asdict(self.aim),
            "met": self.met,
            "stopped": list(self.stopped),
            "samples": {"subject": list(self.ours), "peer": list(self.theirs)},
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Row:
        """The row of a record; the ratio is computed again. Raises KeyError, TypeError or ValueError."""
        ours, theirs = (numbers(found["samples"][side]) for side in ("subject", "peer"))
        if len(ours) != len(theirs):
            raise ValueError("subject and peer have not the same number of samples")
        names = {name: found[name] for name in ("benchmark", "case", "subject", "peer", "unit")}
        if not all(isinstance(text, str) for text in names.values()):
            raise TypeError("a name is not text")
        if found["better"] not in ("lower", "higher"):
            raise ValueError(f"better is {found['better']!r}, neither lower nor higher")
        aim = None if found["aim"] is None else Aim(**found["aim"])
        return cls(
            **names, better=found["better"], ours=ours, theirs=theirs, stopped=found["stopped"], aim=aim
        )


def numbers(samples: Any) -> list[float]:
    """Samples of a record: numbers above 0. Raises TypeError or ValueError."""
    if not isinstance(samples, list) or not samples:
        raise TypeError("samples are not a list of numbers")
    if not all(isinstance(one, int | float) and math.isfinite(one) and one > 0 for one in samples):
        raise ValueError("a sample is not a number above 0")
    return [float(one) for one in samples]
