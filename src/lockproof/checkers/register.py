"""Do the reads and writes of each workspace fit on one line?

A state is a register whose written values are unique (each document carries a token). A write with
the reads that saw it is a cluster; zones decide; see `zones`. Absence is the value that a workspace
starts with and that a deletion writes.

Exact while absence has one author. When absence was read although a deletion may have happened, which
one was seen is not determined: violations that do not depend on it are still found, else `unknown`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lockproof.checkers.verdict import Undecided, Verdict, Violated
from lockproof.checkers.zones import Line, Zone
from lockproof.history import History, Operation

WRITES = {"put", "delete", "delete_workspace"}


@dataclass(eq=False)
class Written:
    """One written value: its write (`None`: what the workspace started with) and its reads."""

    name: str
    write: Operation | None
    digest: str | None = None
    reads: list[Operation] = field(default_factory=list)


def check_register(history: History) -> Verdict:
    """Whether every read saw a value that was current at some time during the read.

    Finds stale reads, lost writes, torn or invented values, and reads of writes that were refused.
    The scope must have been empty when the history began.
    """
    by_workspace: dict[str, list[Operation]] = defaultdict(list)
    for op in history.operations():
        if op.ws is not None and (op.f == "get" or op.f in WRITES):
            by_workspace[op.ws].append(op)
    undecided: list[str] = []
    values = 0
    for workspace, operations in by_workspace.items():
        try:
            values += _check_workspace(operations)
        except Violated as violation:
            return violation.verdict(workspace)
        except Undecided as reason:
            undecided.append(f"workspace {workspace!r}: {reason}")
    if undecided:
        return Verdict("unknown", "; ".join(undecided))
    if not history.closed:
        return Verdict("unknown", "the history has no footer: it was cut short")
    return Verdict("valid", f"{values} values, each read while it was current", details={"values": values})


def _check_workspace(operations: Sequence[Operation]) -> int:
    clusters, absent = _collect(operations)
    deletions = [c for c in clusters if c.write is not None and c.write.f != "put"]
    start = Written("the empty start", None)
    if not deletions:
        start.reads = absent
    zones = [_zone(cluster) for cluster in (start, *clusters) if _real(cluster)]
    line = Line(zones)
    if line.overlap:
        one, other = (zone.key for zone in line.overlap)
        raise Violated(
            "stale read",
            f"{one.name} was read after {other.name} had replaced it, or the reverse",
            *_witness(one),
            *_witness(other),
        )
    for zone in zones:
        if not zone.forward and (outer := line.around(zone.last, zone.first)):
            raise Violated(
                "lost write",
                f"{zone.key.name} was written while {outer.key.name} was current before and after it",
                *_witness(zone.key),
                *_witness(outer.key),
            )
    if not deletions:
        return len(clusters)
    for op in absent:
        if outer := line.around(op.invoke.i, _end(op)):
            raise Violated(
                "lost write",
                f"nothing was read while {outer.key.name} was current",
                op,
                *_witness(outer.key),
            )
    if absent:
        raise Undecided("absence was read and may have several authors")
    return len(clusters)


def _collect(operations: Sequence[Operation]) -> tuple[list[Written], list[Operation]]:
    """The written values that may have taken effect, with their reads; and the reads of nothing."""
    clusters: list[Written] = []
    by_value: dict[Any, Written] = {}
    refused: dict[Any, Operation] = {}
    for op in operations:
        if op.f == "put":
            given = op.invoke.given or {}
            value = given["value"]
            if op.kind == "fail":
                refused[value] = op
                continue
            if value in by_value:
                raise Undecided(f"value {value!r} was written twice")
            by_value[value] = Written(f"value {value!r}", op, given.get("sha256"))
            clusters.append(by_value[value])
        elif op.f in WRITES and op.kind != "fail":
            clusters.append(Written("a deletion", op))
    absent: list[Operation] = []
    for op in operations:
        if op.f != "get" or op.kind != "ok" or op.outcome is None:
            continue
        seen = op.outcome.out or {}
        value = seen.get("value")
        if value is None:
            absent.append(op)
        elif value not in by_value:
            _raise_unwritten(op, value, refused.get(value))
        else:
            written = by_value[value]
            if written.digest and seen.get("sha256") not in {None, written.digest}:
                raise Violated("torn value", f"{written.name} was read with other bytes", op)
            written.reads.append(op)
    return clusters, absent


def _raise_unwritten(op: Operation, value: Any, refused: Operation | None) -> None:
    if refused is not None:
        raise Violated(
            "read of a refused write",
            f"value {value!r} was read though its write was refused",
            refused,
            op,
        )
    raise Violated(
        "torn value",
        f"value {value!r} was read, but nobody wrote it",
        op,
    )


def _real(cluster: Written) -> bool:
    """An unknown write that nobody read changes nothing, wherever it is put."""
    return cluster.write is None or cluster.write.kind == "ok" or bool(cluster.reads)


def _zone(cluster: Written) -> Zone[Written]:
    if cluster.write is None:
        return Zone(cluster, -math.inf, max((op.invoke.i for op in cluster.reads), default=-math.inf))
    for op in cluster.reads:
        if _end(op) < cluster.write.invoke.i:
            raise Violated(
                "read before write",
                f"{cluster.name} was read before it was written",
                op,
                cluster.write,
            )
    members = [cluster.write, *cluster.reads]
    return Zone(cluster, min(_end(op) for op in members), max(op.invoke.i for op in members))


def _witness(cluster: Written) -> list[Operation]:
    """What bounds a value: its write and its last read."""
    return [op for op in (cluster.write, *cluster.reads[-1:]) if op is not None]


def _end(op: Operation) -> float:
    return math.inf if op.outcome is None or op.kind == "info" else op.outcome.i
