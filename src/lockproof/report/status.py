"""The ten statuses, and the verdict that follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lockproof.spec import requirements

# Strongest first: the status of a requirement is the strongest of its tests'. A violation that was
# seen outweighs a test that could not be run.
STATUSES = (
    "fail",
    "xpass",
    "xfail",
    "error",
    "unknown",
    "not-run",
    "flaky",
    "pass",
    "disabled",
    "skip",
)
BAD = frozenset({"fail", "error", "xpass", "unknown"})
VIOLATED = frozenset({"fail", "xpass", "xfail"})
UNDECIDED = frozenset({"error", "unknown", "not-run", "flaky"})
INAPPLICABLE = frozenset({"skip", "disabled"})


def strongest(statuses: Iterable[str]) -> str:
    """The status of a group."""
    return min(statuses, key=STATUSES.index)


def roll_up(
    results: Sequence[Mapping[str, Any]], levels: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The requirements that the results cite, each with its level, status and tests; `levels` by id where
    they are not those of the registry."""
    tests: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        for name in result["requirements"]:
            tests.setdefault(name, []).append(result)
    if levels is None:
        levels = {name: requirement.level for name, requirement in requirements().items()}
    return [
        {
            "id": name,
            "level": levels[name],
            "status": strongest(result["status"] for result in citing),
            "tests": [result["id"] for result in citing],
        }
        for name, citing in sorted(tests.items())
    ]


def verdict(
    results: Sequence[Mapping[str, Any]], rolled: Sequence[Mapping[str, Any]], narrowed: str = ""
) -> dict[str, Any]:
    """`conformant`, `partial`, `nonconformant` or `inconclusive`, with the counts and the reasons.

    Nonconformant when a MUST fails (expected or not) or passes against expectation; else inconclusive
    when anything is error, unknown, not-run or flaky, when only a selection of files was run
    (`narrowed` says which), or when no MUST was proved; else partial when a SHOULD fails, a test that
    cites nothing fails, or a capability was switched off; else conformant.
    """
    counts = Counter(result["status"] for result in results)
    levels = {level.lower(): _count(rolled, level) for level in ("MUST", "SHOULD", "MAY")}
    violated = {
        level: [r["id"] for r in rolled if r["level"] == level and r["status"] in VIOLATED]
        for level in ("MUST", "SHOULD")
    }
    uncited = [r["id"] for r in results if not r["requirements"] and r["status"] in VIOLATED]
    undecided = [f"{counts[name]} {name}" for name in STATUSES if name in UNDECIDED and counts[name]]
    if narrowed:
        undecided.append(narrowed)
    if not levels["must"]["met"]:
        undecided.append("no MUST was proved")
    short = []
    if violated["SHOULD"]:
        short.append(f"SHOULD violated: {', '.join(violated['SHOULD'])}")
    if uncited:
        short.append(f"failed without citing a requirement: {', '.join(uncited)}")
    if counts["disabled"]:
        short.append(f"{counts['disabled']} tests disabled by options")
    reasons = [f"MUST violated: {', '.join(violated['MUST'])}"] if violated["MUST"] else []
    if reasons:
        result = "nonconformant"
    elif undecided:
        result = "inconclusive"
    else:
        result = "partial" if short else "conformant"
    return {"result": result, **levels, "reasons": [*reasons, *undecided, *short]}


def _count(rolled: Sequence[Mapping[str, Any]], level: str) -> dict[str, int]:
    statuses = [r["status"] for r in rolled if r["level"] == level]
    return {
        "met": statuses.count("pass"),
        "applicable": sum(status not in INAPPLICABLE for status in statuses),
        "inapplicable": sum(status in INAPPLICABLE for status in statuses),
    }
