"""Two runs compared, by their ratios: never by times, which are the machine's.

The rule: a ratio has *moved* when the intervals of both runs (95 %) have no value in common. It is *clearly
worse*, or better, when it has moved and its median is at least 20 % worse, or better, than the earlier one:
less than that, different runs of the same code differ by where the machine happened to put things.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from lockproof.bench.record import Record
from lockproof.bench.row import Row

MARGIN = 1.2

Moved = Literal["worse", "better", "moved", "same", "not comparable"]


@dataclass(frozen=True)
class Change:
    """A ratio in both runs. `factor`: how many times the cost, so that above 1 is worse whatever the unit."""

    earlier: Row
    now: Row
    factor: float
    moved: Moved


@dataclass(frozen=True)
class Comparison:
    """All ratios that both runs have; `new`, `gone`: those of one only; `conditions`: what else differs."""

    changes: list[Change]
    new: list[Row]
    gone: list[Row]
    conditions: list[str]

    @property
    def worse(self) -> list[Change]:
        """Those that are clearly worse."""
        return [change for change in self.changes if change.moved == "worse"]


def compare(earlier: Record, now: Record) -> Comparison:
    """`now` beside `earlier`. Of a benchmark that was not run now nothing is `gone`."""
    before, after = ({row.key: row for row in record.rows} for record in (earlier, now))
    run = {row.benchmark for row in now.rows}
    return Comparison(
        [change(before[key], row) for key, row in after.items() if key in before],
        [row for key, row in after.items() if key not in before],
        [row for key, row in before.items() if key not in after and row.benchmark in run],
        list(conditions(earlier, now)),
    )


def change(earlier: Row, now: Row) -> Change:
    """The rule of this module."""
    was, is_ = earlier.ratio, now.ratio
    factor = is_.median / was.median
    if now.better == "higher":
        factor = 1 / factor
    if (earlier.unit, earlier.better, earlier.bound) != (now.unit, now.better, now.bound):
        return Change(earlier, now, factor, "not comparable")
    if not was.apart(is_):
        return Change(earlier, now, factor, "same")
    if factor >= MARGIN:
        return Change(earlier, now, factor, "worse")
    return Change(earlier, now, factor, "better" if factor <= 1 / MARGIN else "moved")


def conditions(earlier: Record, now: Record) -> Iterator[str]:
    """What was not the same, apart from lockproof."""
    was, is_ = asdict(earlier.machine), asdict(now.machine)
    both = earlier.versions.keys() & now.versions.keys()
    was |= {name: earlier.versions[name] for name in both}
    is_ |= {name: now.versions[name] for name in both}
    for name, value in was.items():
        if value != is_[name]:
            yield f"{name}: {value}, now {is_[name]}"
