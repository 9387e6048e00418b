"""The record of a run, as the JSON file that a later run is compared with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lockproof.bench.machine import Machine, Unrest
from lockproof.bench.row import Row

FORMAT = "lockproof-bench/1"


class BadRecord(ValueError):
    """A file that is no record of a run; one line that names what is wrong."""


@dataclass(frozen=True)
class Record:
    """Everything that a run found. `made` is when it began, in UTC; `seconds` how long it took."""

    lockproof: str
    made: str
    seconds: float
    quick: bool
    rounds: int
    machine: Machine
    before: Unrest
    after: Unrest
    versions: Mapping[str, str]
    rows: Sequence[Row]
    skipped: Mapping[str, str]
    failed: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in ("lockproof", "made", "seconds", "quick", "rounds")},
            **{name: asdict(getattr(self, name)) for name in ("machine", "before", "after")},
            "versions": dict(self.versions),
            "rows": [row.to_json() for row in self.rows],
            "skipped": dict(self.skipped),
            "failed": dict(self.failed),
        }

    def write(self, path: Path) -> None:
        """Writes the file as a whole or not at all. Raises OSError."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def read_record(path: Path) -> Record:
    """The record in a file. Raises `BadRecord` for whatever is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRecord(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # neither JSON nor text
        raise BadRecord(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BadRecord(f"{path}: not written by `lockproof bench --json` (its format is not {FORMAT!r})")
    try:
        return Record(
            lockproof=str(found["lockproof"]),
            made=str(found["made"]),
            seconds=float(found["seconds"]),
            quick=bool(found["quick"]),
            rounds=int(found["rounds"]),
            machine=Machine(**found["machine"]),
            before=unrest(found["before"]),
            after=unrest(found["after"]),
            versions=texts(found["versions"]),
            rows=[Row.from_json(row) for row in found["rows"]],
            skipped=texts(found["skipped"]),
            failed=texts(found["failed"]),
        )
    except KeyError as error:
        raise BadRecord(f"{path}: broken record: {error} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise BadRecord(f"{path}: broken record: {error}") from None


def unrest(found: Mapping[str, Any]) -> Unrest:
    """How busy the machine was."""
    one, five, fifteen = (float(load) for load in found["load"])
    return Unrest((one, five, fifteen), float(found["jitter"]))


def texts(found: Mapping[str, Any]) -> dict[str, str]:
    """Names and what is said of them."""
    return {str(name): str(text) for name, text in found.items()}
