"""`lockproof matrix`: backends side by side, requirement by requirement.

Only runs that were held to the same requirements share a table. A cell is never better than what was run: a
requirement without a test is `not tested`, and in a run that was narrowed a pass stands in brackets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lockproof.report.escaping import escaped
from lockproof.report.reading import NOT_TESTED, Finding, Tested
from lockproof.report.status import INAPPLICABLE, VIOLATED
from lockproof.spec import requirements, requirements_digest

LEGEND = (
    "`✔ 3/4`: passed by 3 of its 4 tests; the others do not apply; `(✔)`: the same in a run that was "
    "narrowed, so that tests of the requirement may be missing; `✘`: violated, in so many of its tests; `?`: "
    "undecided; `n/a`: not declared by the backend, or switched off; `not tested`: no test of it was chosen."
)
NUMBERS = ("n", "p50", "p95", "p99", "target", "status")
TIMES = ("op", "size_bytes", *NUMBERS)


def matrix(runs: Sequence[Tested]) -> dict[str, Any]:
    """The comparison as data: `groups` of runs with equal requirements, and latencies by kind of target.

    Each group has its `columns` and `rows`; a row has a cell for each column, with a `status` (of a test, or
    `not-tested`), how many tests are `telling`, and how many `tests` of the requirement the run has.
    `untested` are requirements of which no run of the group has a test, where this lockproof knows them.
    """
    digests = list(dict.fromkeys(run.digest for run in runs))
    return {
        "schema": 1,
        "groups": [_group(digest, [r for r in runs if r.digest == digest]) for digest in digests],
        "latency": list(_latency(runs)),
    }


def _group(digest: str, runs: Sequence[Tested]) -> dict[str, Any]:
    known = requirements() if digest == requirements_digest() else {}
    levels = {name: level for run in runs for name, level in run.levels.items()}
    return {
        "requirements": digest,
        "untested": sorted(set(known) - set(levels)),
        "columns": [_column(run, label) for run, label in zip(runs, labels(runs), strict=True)],
        "rows": [
            {
                "id": name,
                "level": level,
                "text": known[name].text if name in known else "",
                "cells": [_cell(run.findings.get(name)) for run in runs],
            }
            for name, level in sorted(levels.items())
        ],
    }


def _column(run: Tested, label: str) -> dict[str, Any]:
    return {
        "label": label,
        "source": run.source,
        "backend": run.id,
        "target": run.target,
        "driver": run.driver,
        "suite": f"{run.suite} ({run.edition})",
        "tier": run.tier,
        "seed": run.seed,
        "started": run.started,
        "verdict": run.verdict,
        "must": {"met": run.must[0], "applicable": run.must[1]},
        "limits": run.limits,
    }


def _cell(finding: Finding | None) -> dict[str, Any]:
    found = finding or Finding(NOT_TESTED, 0, 0)
    return {"status": found.status, "telling": found.telling, "tests": found.tests}


def labels(runs: Sequence[Tested]) -> list[str]:
    """What each run is called beside the others: its backend and target, and its folder where that is not
    enough to tell it from another."""
    often = Counter(run.name for run in runs)
    return [run.name if often[run.name] == 1 else f"{run.name}, {run.source}" for run in runs]


def _latency(runs: Sequence[Tested]) -> Iterator[dict[str, Any]]:
    """A table for each kind of target and profile: times on a fake say nothing beside those on a real one."""
    columns = [
        (run, f"{label}{'*' if run.limits else ''}") for run, label in zip(runs, labels(runs), strict=True)
    ]
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for run, label in columns:
        for row in run.latency:
            kind = (run.target, str(row.get("basis", "histories")), str(row.get("profile") or ""))
            times = {key: row.get(key) for key in TIMES}
            found.setdefault(kind, []).append({"backend": label, **times})
    for (target, basis, profile), rows in found.items():
        rows.sort(key=lambda row: (row["op"], row["size_bytes"] or 0))
        yield {"target": target, "basis": basis, "profile": profile, "rows": rows}


def markdown(found: Mapping[str, Any]) -> str:
    """The comparison as a page. The first line says of every run what kind of target it was."""
    groups = found["groups"]
    heads = [f"{c['label']}: {c['verdict']}" for group in groups for c in group["columns"]]
    lines = [f"# lockproof matrix: {escaped('; '.join(heads))}", "", LEGEND]
    if len(groups) > 1:
        lines += [
            "",
            f"**The runs were held to {len(groups)} different sets of requirements, which are not the",
        ]
        lines += ["same demand under the same name: they stand in tables of their own.**"]
    for group in groups:
        lines += _section(group)
    for kind in found["latency"]:
        lines += _times(kind)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _times(kind: Mapping[str, Any]) -> list[str]:
    simulated = f", simulated: {kind['profile']}" if kind["profile"] else ""
    lines = ["", f"## Latency on {kind['target']} targets{escaped(simulated)}", ""]
    if kind["basis"] == "histories":
        lines += ["Of acknowledged calls in the histories of each run, while tests ran beside each other: a"]
        lines += ["description, not a benchmark. A star: the run was narrowed, so that its calls are others."]
    lines += ["Milliseconds, each on the machine of its run.", ""]
    rows = [
        ["" if row[key] is None else row[key] for key in ("op", "size_bytes", "backend", *NUMBERS)]
        for row in kind["rows"]
    ]
    return lines + _table(["call", "bytes", "backend", *NUMBERS], rows)


def _section(group: Mapping[str, Any]) -> list[str]:
    columns = group["columns"]
    suites = list(dict.fromkeys(column["suite"] for column in columns))
    title = f"Suite {escaped(', '.join(suites))}, requirements {escaped(group['requirements'][:12])}"
    lines = ["", f"## {title}", ""]
    if len(suites) > 1:
        lines += ["**The same requirements, but not the same files of the suite: its tests may differ.**", ""]
    facts = ["driver", "suite", "tier", "seed", "started", "source"]
    lines += _table(
        ["run", "verdict", "MUST", *facts, "limits"],
        [
            [
                column["label"],
                column["verdict"],
                f"{column['must']['met']}/{column['must']['applicable']}",
                *(column[fact] for fact in facts),
                "; ".join(column["limits"]) or "none",
            ]
            for column in columns
        ],
    )
    tiers = {column["tier"] for column in columns}
    heads = [_head(column, several=len(tiers) > 1) for column in columns]
    lines += ["", f"| requirement | level | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    for row in group["rows"]:
        cells = [shown(c, limited=bool(col["limits"])) for c, col in zip(row["cells"], columns, strict=True)]
        lines.append(f"| {escaped(row['id'])} | {row['level']} | {' | '.join(cells)} |")
    if group["untested"]:
        lines += ["", f"Not tested by any of these runs: {', '.join(group['untested'])}."]
    return lines


def _head(column: Mapping[str, Any], *, several: bool) -> str:
    """The head of a column, with what makes the run another kind than those beside it."""
    parts = [escaped(column["label"]), *([f"tier {escaped(column['tier'])}"] if several else [])]
    return "<br>".join([*parts, *(f"**{escaped(limit)}**" for limit in column["limits"])])


def shown(cell: Mapping[str, Any], *, limited: bool) -> str:
    """A cell in words: see `LEGEND`."""
    status, count = cell["status"], f"{cell['telling']}/{cell['tests']}"
    if status == NOT_TESTED:
        return "not tested"
    if status == "pass":
        return f"(✔) {count}" if limited else f"✔ {count}"
    if status in INAPPLICABLE:
        return f"n/a: {status}"
    return f"{'✘' if status in VIOLATED else '?'} {status} {count}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"{'|---' * len(head)}|"]
    return lines + [f"| {' | '.join(escaped(str(cell)) for cell in row)} |" for row in rows]
