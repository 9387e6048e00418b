"""`report.md`: the report as a page of GitHub Markdown, and the lines that a terminal shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lockproof.report import faults, latency_table
from lockproof.report.card import card
from lockproof.report.status import BAD, STATUSES
from lockproof.spec import requirements

FENCE = "````"  # longer than any that a test's message is likely to hold
MARKS = {"pass": "✔", "fail": "✘", "xpass": "✘", "xfail": "✘", "error": "!", "unknown": "?", "flaky": "~"}


def verdict_line(backend: Mapping[str, Any]) -> str:
    """`databricks:lakebase (fake): CONFORMANT  58/58 MUST  12/12 SHOULD  4 do not apply`."""
    found = backend["verdict"]
    levels = [
        f"{found[level]['met']}/{found[level]['applicable']} {level.upper()}"
        for level in ("must", "should", "may")
        if found[level]["applicable"]
    ]
    idle = sum(found[level]["inapplicable"] for level in ("must", "should", "may"))
    levels += [f"{idle} not applicable"] if idle else []
    reasons = f"  ({shortened(found['reasons'])})" if found["reasons"] else ""
    return f"{backend['id']} ({backend['target']}): {found['result'].upper()}  {', '.join(levels)}{reasons}"


def counts_line(backend: Mapping[str, Any]) -> str:
    """`96 tests: 90 pass, 6 skip`."""
    counts = backend["counts"]
    parts = [f"{counts[status]} {status}" for status in ("pass", *STATUSES) if counts[status]]
    return f"{sum(counts.values())} tests: {', '.join(dict.fromkeys(parts)) or 'none'}"


def told(backend: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results that are not simply passed: those, too, that passed with a remark."""
    return [result for result in backend["results"] if result["status"] != "pass" or result["reason"]]


def failed(backend: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results that have a failure to be shown as a card."""
    return [r for r in backend["results"] if r["failure"] and r["status"] in {*BAD, "xfail", "flaky"}]


def counted(backend: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """What was counted of everything that is named by `key`, in the order of the names."""
    counts = (count for r in backend["results"] for count in r["counts"] or () if key in count)
    return sorted({count[key]: count for count in counts}.items())


def shortened(reasons: Sequence[str], longest: int = 160) -> str:
    """The reasons in one line of bearable length; the report has them in full."""
    text = "; ".join(reasons)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def markdown(report: Mapping[str, Any], folder: str) -> str:
    """The whole page. The first line says of every backend what kind of target it is."""
    run = report["run"]
    heads = [f"{b['id']} on a {b['target']} target: {b['verdict']['result']}" for b in report["backends"]]
    lines = [f"# lockproof: {'; '.join(heads)}", ""]
    lines += [] if run["complete"] else ["**The run did not finish; this report is what it left.**", ""]
    lines += [
        f"Suite {report['suite']['version']}, tier {run['tier']}, seed {run['seed']}, "
        f"started {run['started']}, Python {run['python']} on {run['platform']}.",
        "",
        FENCE,
        " ".join(run["argv"]),
        FENCE,
    ]
    for backend in report["backends"]:
        lines += ["", *_backend(backend, run, folder)]
    lines += _faults(report["backends"])
    return "\n".join(lines) + "\n"


def _backend(backend: Mapping[str, Any], run: Mapping[str, Any], folder: str) -> list[str]:
    driver, found = backend["driver"], backend["verdict"]
    lines = [
        f"## {backend['id']} ({backend['target']})",
        "",
        f"**{verdict_line(backend)}**",
        "",
        f"Driver {driver['name']} {driver['version']}"
        + (f", {driver['implementation']}" if driver["implementation"] else "")
        + f". {counts_line(backend)}.",
        "",
    ]
    lines += [f"- {reason}" for reason in found["reasons"]]
    lines += [f"- Capabilities: {', '.join(backend['capabilities']['declared']) or 'none'}"]
    if backend["capabilities"]["disabled"]:
        lines.append(f"- Switched off: {', '.join(backend['capabilities']['disabled'])}")
    cards = failed(backend)
    for result in cards:
        lines += ["", f"### {result['status']}: {result['summary'] or result['test']}", "", FENCE]
        lines += [*card(result, run, backend, folder), FENCE]
        if result["failure"]["program"]:
            lines += ["", "As a program:", "", f"{FENCE}python", result["failure"]["program"].rstrip(), FENCE]
    others = [r for r in told(backend) if r not in cards]
    if others:
        lines += ["", "| test | status | reason |", "|---|---|---|"]
        lines += [f"| `{r['test']}` | {r['status']} | {_cell(r['reason'])} |" for r in others]
    if backend["requirements"]:
        lines += ["", "<details><summary>Requirements</summary>", "", "| | id | level | text | tests |"]
        lines += ["|---|---|---|---|---|"]
        for rolled in backend["requirements"]:
            mark = MARKS.get(rolled["status"], "")
            text = _cell(requirements()[rolled["id"]].text)
            cells = [f"{mark} {rolled['status']}", rolled["id"], rolled["level"], text, len(rolled["tests"])]
            lines.append(f"| {' | '.join(map(str, cells))} |")
        lines += ["", "</details>"]
    lines += _machines(backend)
    lines += _explored(backend)
    for title, table in latency_table.tables(backend):
        lines += ["", title, *_table(table[0], table[1:])]
    return lines


def _faults(backends: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was injected into each backend, what it hit, and what became of the calls meanwhile."""
    found = faults.table(backends)
    return ["", "## Faults", *_table(found[0], found[1:])] if found else []


def _machines(backend: Mapping[str, Any]) -> list[str]:
    """What the state machines did. Workers that ran the same machine did the same: it is shown once."""
    rows = []
    for name, count in counted(backend, "machine"):
        rules = ", ".join(f"{rule} {fired}" for rule, fired in count["rules"].items())
        rows.append([name, *(count[key] for key in ("examples", "steps", "refusals", "contention")), rules])
    return _table(["state machine", "examples", "steps", "refusals", "contention", "rules applied"], rows)


def _explored(backend: Mapping[str, Any]) -> list[str]:
    """How many schedules of each program were run, and whether these were all within the bound."""
    rows = [
        [
            *(count[key] for key in ("program", "strategy", "schedules", "pruned")),
            "yes" if count["complete"] else "no",
        ]
        for _, count in counted(backend, "program")
    ]
    return _table(["explored program", "strategy", "schedules", "pruned", "complete"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table after an empty line; nothing without rows."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (head, *rows)]
    return ["", lines[0], f"{'|---' * len(head)}|", *lines[1:]] if rows else []


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
