"""Loads the requirements and capabilities that are shipped as TOML beside this module."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

Level = Literal["MUST", "SHOULD", "MAY"]
LEVELS: tuple[Level, ...] = ("MUST", "SHOULD", "MAY")


@dataclass(frozen=True)
class Clause:
    """Where a requirement comes from: `source` names the text, `quote` is verbatim from `lines` of `path`."""

    source: str
    path: str
    quote: str
    commit: str = ""
    lines: str = ""


@dataclass(frozen=True)
class Requirement:
    """One behaviour that is demanded. `capability` is what a backend must have for it to apply.

    `target_ms`: the time, in milliseconds, that 95 of 100 calls are to stay below; it is measured and
    reported, and no test fails by it.
    """

    id: str
    level: Level
    capability: str
    text: str
    clauses: Sequence[Clause]
    target_ms: float | None = None


@cache
def capabilities() -> Mapping[str, str]:
    """Every capability name with the sentence that says what it promises."""
    text = files("lockproof.spec").joinpath("capabilities.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def requirements() -> Mapping[str, Requirement]:
    """Every requirement by id, in the order of ids."""
    return read_requirements(files("lockproof.spec").joinpath("requirements"))


@cache
def requirements_digest() -> str:
    """SHA-256 (hex) of all that the registry demands: id, level, capability and text of each requirement.

    Two runs with the same digest were held to the same demands; the clauses that justify them are left out.
    """
    demands = [[r.id, r.level, r.capability, " ".join(r.text.split())] for r in requirements().values()]
    text = json.dumps(demands, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_requirements(folder: Traversable) -> Mapping[str, Requirement]:
    """The requirements of all TOML files in `folder`, by id, in the order of ids.

    Raises `ValueError` naming the file and id of an entry that is incomplete or given twice.
    """
    found: dict[str, Requirement] = {}
    for resource in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not resource.name.endswith(".toml"):
            continue
        for name, entry in tomllib.loads(resource.read_text(encoding="utf-8")).items():
            if name in found:
                raise ValueError(f"{resource.name}: requirement {name} is already defined elsewhere")
            found[name] = _requirement(resource.name, name, entry)
    return dict(sorted(found.items()))


def _requirement(file: str, name: str, entry: Mapping[str, Any]) -> Requirement:
    clauses = [Clause(**clause) for clause in entry.get("clause", [])]
    missing = [key for key in ("level", "capability", "text") if not entry.get(key)]
    if missing or not clauses:
        raise ValueError(f"{file}: {name} lacks {', '.join([*missing, *([] if clauses else ['clause'])])}")
    if entry["level"] not in LEVELS:
        raise ValueError(f"{file}: {name} has level {entry['level']!r}, not one of {', '.join(LEVELS)}")
    if entry["capability"] not in capabilities():
        raise ValueError(f"{file}: {name} has unknown capability {entry['capability']!r}")
    target = entry.get("target_ms")
    if target is not None and entry["level"] == "MUST":
        raise ValueError(f"{file}: {name} has a target: how fast a backend is, is no MUST")
    return Requirement(name, entry["level"], entry["capability"], entry["text"], clauses, target)
