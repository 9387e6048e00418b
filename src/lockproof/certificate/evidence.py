"""What one run of a certificate left, and whether everything that is said of it follows from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockproof.checkers import check_stream
from lockproof.history import HistoryError, stream_history


@dataclass(frozen=True)
class Evidence:
    """The histories of a run, judged: how many, how many operations they record, and those that are
    `violated`, each with what is wrong."""

    histories: int
    operations: int
    violated: tuple[str, ...]

    def counts(self) -> Mapping[str, int]:
        """As a certificate states it."""
        return {"histories": self.histories, "operations": self.operations}


def judge(histories: Path) -> Evidence:
    """Judges all histories of a folder with the checkers of this suite. One that is unknown is no objection:
    its test had an answer of its own. One that cannot be read is."""
    violated, operations = [], 0
    paths = sorted(histories.glob("*.jsonl"))
    for path in paths:
        try:
            stream = stream_history(path)
            found = check_stream(stream)
        except HistoryError as error:
            violated.append(str(error).replace(str(path), path.name))
            continue
        operations += stream.counted
        if found.status == "violated":
            violated.append(f"{path.name}: {found.headline}")
    return Evidence(len(paths), operations, tuple(violated))


def essence(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says and a suite of another version can still work out of the events: not how it counts
    and measures, which may have changed."""
    return {
        "suite": report["suite"],
        "run": {
            key: report["run"][key] for key in ("seed", "tier", "suites", "faults", "narrowed", "complete")
        },
        "backends": [
            {
                **{key: backend[key] for key in ("id", "target", "driver", "capabilities", "given")},
                "verdict": backend["verdict"],
                "requirements": backend["requirements"],
                "results": [
                    [r["id"], r["requirements"], r["status"], r["reason"]] for r in backend["results"]
                ],
            }
            for backend in report["backends"]
        ],
    }


def first_difference(said: Any, follows: Any, where: str = "") -> str:
    """Where two documents first differ, with both values: `requirements[3].status: 'pass', not 'fail'`;
    empty when they are equal."""
    if isinstance(said, Mapping) and isinstance(follows, Mapping):
        for key in dict.fromkeys([*follows, *said]):
            inner = f"{where}.{key}" if where else str(key)
            if key not in said:
                return f"{inner} is missing"
            if key not in follows:
                return f"{inner} was added"
            if found := first_difference(said[key], follows[key], inner):
                return found
        return ""
    if isinstance(said, list) and isinstance(follows, list):
        for number, (one, other) in enumerate(zip(said, follows, strict=False)):
            if found := first_difference(one, other, f"{where}[{number}]"):
                return found
        return "" if len(said) == len(follows) else f"{where} has {len(said)} entries, not {len(follows)}"
    if said != follows or type(said) is not type(follows):
        return f"{where} is {_short(said)}, not {_short(follows)}"
    return ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
