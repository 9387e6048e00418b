"""A schedule: which client did which step, in order, and with what fault. Kept as a readable file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from lockproof.explore.lane import Choice
from lockproof.explore.program import Program

VERSION = 1


class ScheduleError(ValueError):
    """A file that is no schedule; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Schedule:
    """What one run of a program did. `program` and `subject` are names, `strategy` and `seed` say how it
    was found, `finding` what its run shows. `minimal`: no schedule with fewer switches and no
    more faults shows it, nor one with as many switches and fewer faults."""

    program: str
    subject: str
    strategy: str
    choices: tuple[Choice, ...]
    finding: str = ""
    minimal: bool = False

    @property
    def switches(self) -> int:
        """How often another client went on than the one before."""
        return sum(one.client != other.client for one, other in pairwise(self.choices))

    @property
    def faults(self) -> int:
        """How many faults were injected."""
        return sum(choice.fault is not None for choice in self.choices)

    def save(self, path: Path) -> None:
        """Writes the schedule as JSON, one line a step."""
        head = {
            "lockproof schedule": VERSION,
            "program": self.program,
            "subject": self.subject,
            "strategy": self.strategy,
            "finding": self.finding,
            "switches": self.switches,
            "minimal": self.minimal,
            "length": len(self.choices),
        }
        lines = [
            f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}," for key, value in head.items()
        ]
        steps = []
        for choice in self.choices:
            step = {"client": choice.client, "step": choice.step}
            steps.append(step if choice.fault is None else {**step, "fault": choice.fault})
        body = ",\n".join(f"    {json.dumps(step, ensure_ascii=False)}" for step in steps)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["{", *lines, '  "steps": [', body, "  ]", "}"]) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """The schedule in `path`. Raises `ScheduleError` when there is none."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except OSError as failure:
            raise ScheduleError(f"{path}: cannot be read: {failure.strerror}") from failure
        except ValueError as failure:
            raise ScheduleError(f"{path}: not a schedule: {failure}") from failure
        if not isinstance(record, dict) or record.get("lockproof schedule") != VERSION:
            raise ScheduleError(f"{path}: not a lockproof schedule of version {VERSION}")
        texts: dict[str, Any] = {}
        for name in ("program", "subject", "strategy", "finding"):
            texts[name] = record.get(name)
            if not isinstance(texts[name], str):
                raise ScheduleError(f"{path}: {name!r} must be text")
        steps = record.get("steps")
        if not isinstance(steps, list) or not steps:
            raise ScheduleError(f"{path}: 'steps' must be a list of at least one step")
        if record.get("length") != len(steps):
            said = f"'length' says {record['length']}" if "length" in record else "'length' is missing"
            raise ScheduleError(f"{path}: has {len(steps)} steps, and {said}: is it the whole schedule?")
        minimal = record.get("minimal") is True
        return cls(
            minimal=minimal, choices=tuple(_choice(path, n, step) for n, step in enumerate(steps, 1)), **texts
        )

    def require_of(self, program: Program) -> None:
        """Raises `ScheduleError` when a step is of a client, or has a fault, that `program` has not."""
        for number, choice in enumerate(self.choices, 1):
            if choice.client not in program.clients:
                raise ScheduleError(
                    f"step {number} is of {choice.client!r}, who is no client of {program.name}: "
                    f"{', '.join(program.clients)}"
                )
            if choice.fault is not None and choice.fault not in program.faults:
                raise ScheduleError(
                    f"step {number} has the fault {choice.fault!r}, which {program.name} does not have: "
                    f"{', '.join(sorted(program.faults)) or 'it has none'}"
                )

    def table(self) -> str:
        """The schedule for a reader: one line a step, one column a client."""
        names = list(dict.fromkeys(choice.client for choice in self.choices))
        return lanes(names, self.choices)


def _choice(path: Path, number: int, step: Any) -> Choice:
    if isinstance(step, dict):
        client, label, fault = step.get("client"), step.get("step"), step.get("fault")
        if isinstance(client, str) and isinstance(label, str) and isinstance(fault, str | None):
            return Choice(client, label, fault)
    raise ScheduleError(f"{path}: step {number} must have 'client' and 'step', and may have 'fault', as text")


def lanes(names: Sequence[str], choices: Sequence[Choice]) -> str:
    """A table of steps with a column for each client of `names`."""
    cells = [f"{c.step} !! {c.fault}" if c.fault else c.step for c in choices]
    width = {
        name: max(
            [len(name), *(len(cell) for c, cell in zip(choices, cells, strict=True) if c.client == name)]
        )
        for name in names
    }
    rows = ["step  " + "  ".join(name.ljust(width[name]) for name in names)]
    for number, (choice, cell) in enumerate(zip(choices, cells, strict=True), 1):
        columns = [(cell if name == choice.client else "").ljust(width[name]) for name in names]
        rows.append(f"{number:4}  " + "  ".join(columns))
    return "\n".join(row.rstrip() for row in rows)
