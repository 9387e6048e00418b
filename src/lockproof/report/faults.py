"""What faults did to the calls of tests: counted from histories, summed for the report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lockproof.history.event import History, Operation
from lockproof.history.faults import Fault, faults

SUMMED = ("injected", "hits", "operations", "unknown")


def counted(history: History) -> list[dict[str, Any]]:
    """Of every fault in a history, by its name: how often it was `injected`, how many messages, sessions or
    processes it `hits`, how many calls were made meanwhile (`operations`), and of how many of these the
    outcome is `unknown`."""
    by_name: defaultdict[str, list[Fault]] = defaultdict(list)
    for fault in faults(history.events):
        by_name[fault.name].append(fault)
    found = []
    for name, injected in sorted(by_name.items()):
        spans = [(fault.start.i, math.inf if fault.stop is None else fault.stop.i) for fault in injected]
        meanwhile = [
            op
            for op in history.operations()
            if any(op.i < end and begin < _ended(op) for begin, end in spans)
        ]
        found.append(
            {
                "fault": name,
                "injected": len(injected),
                "hits": sum(map(_hits, injected)),
                "operations": len(meanwhile),
                "unknown": sum(op.kind == "info" for op in meanwhile),
            }
        )
    return found


def _ended(op: Operation) -> float:
    """When its caller had an answer, an unknown outcome too."""
    return math.inf if op.outcome is None else op.outcome.i


def _hits(fault: Fault) -> int:
    """What the last event of the fault says; a fault that happened at once has hit what it was about."""
    last = fault.stop
    if last is None:
        return 0
    return int(last.out["hits"]) if isinstance(last.out, Mapping) else int(last is fault.start)


def summary(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sums over all tests of a backend, by the name of the fault; `violations` are the tests that failed
    of those in which it was injected."""
    sums: dict[str, dict[str, Any]] = {}
    for result in results:
        for count in result.get("counts") or ():
            if "fault" not in count:
                continue
            name = count["fault"]
            entry = sums.setdefault(
                name, {"fault": name, "tests": 0, **dict.fromkeys(SUMMED, 0), "violations": 0}
            )
            entry["tests"] += 1
            entry["violations"] += result["status"] == "fail"
            for key in SUMMED:
                entry[key] += count[key]
    return [sums[name] for name in sorted(sums)]


def table(backends: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Faults by backends: a head and, of each fault, what it did to each backend; nothing without faults."""
    by_backend = [{entry["fault"]: entry for entry in backend["faults"]} for backend in backends]
    names = sorted({name for found in by_backend for name in found})
    rows = [[f"`{name}`", *(_cell(found.get(name)) for found in by_backend)] for name in names]
    return [["fault", *(backend["id"] for backend in backends)], *rows] if rows else []


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    return (
        f"{entry['injected']} injected, {entry['hits']} hits, {entry['operations']} calls, "
        f"{entry['unknown']} unknown, **{entry['violations']} violations**"
    )
