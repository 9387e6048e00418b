"""What a run says to GitHub Actions: a summary of the step, and an annotation for each failure.

The workflow commands and how they are escaped:
https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions and `escapeData`,
`escapeProperty` of actions/toolkit, packages/core/src/command.ts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lockproof.report.card import card, repeat
from lockproof.report.escaping import escaped, fenced
from lockproof.report.markdown import counts_line, shortened, verdict_line
from lockproof.report.status import BAD, INAPPLICABLE, STATUSES
from lockproof.spec import requirements

ANNOTATIONS = 10  # as many of one level as GitHub shows of a step
CARDS = 10
UNMET = 50
SUMMARY_BYTES = 500_000  # GitHub refuses a summary beyond 1 MiB, which other commands of the step share


def tell(
    report: Mapping[str, Any],
    shown: str,
    root: Path,
    environ: Mapping[str, str],
    echo: Callable[[str], object],
) -> None:
    """Appends the summary to the file that `GITHUB_STEP_SUMMARY` names, and echoes the annotations where
    `GITHUB_ACTIONS` is `true`. Does nothing elsewhere. Ids of tests are relative to `root`."""
    target = environ.get("GITHUB_STEP_SUMMARY")
    if target:
        try:
            with Path(target).open("a", encoding="utf-8") as file:
                file.write(summary(report, shown))
        except OSError as failure:
            warnings.warn(f"GITHUB_STEP_SUMMARY cannot be written: {failure.strerror}", stacklevel=2)
    if environ.get("GITHUB_ACTIONS") == "true":
        for line in commands(report, root, Path(environ.get("GITHUB_WORKSPACE") or root)):
            echo(line)


def commands(report: Mapping[str, Any], root: Path, workspace: Path) -> Iterator[str]:
    """Workflow commands: an error for each test that failed, broke or is unknown, the worst first, and a
    warning for a verdict that lacks something without such a test. At most ten of each, the last one a count.

    A place is named where the file is in the checkout that GitHub shows.
    """
    bad = [(b, r) for b in report["backends"] for r in b["results"] if r["status"] in BAD]
    bad.sort(key=lambda found: STATUSES.index(found[1]["status"]))
    shown = bad if len(bad) <= ANNOTATIONS else bad[: ANNOTATIONS - 1]
    for backend, result in shown:
        cited = " ".join(result["requirements"])
        title = f"{backend['id']} ({backend['target']}) {result['status']}: {cited or result['test']}"
        where = _place(result["failure"], root, workspace)
        yield command("error", {**where, "title": title}, _message(result, report["run"], backend))
    if len(bad) > len(shown):
        yield command("error", {"title": "lockproof"}, f"and {len(bad) - len(shown)} more, in the report")
    for backend in report["backends"]:
        found = backend["verdict"]
        quiet = not any(backend is owner for owner, _ in bad)
        if quiet and found["result"] in {"inconclusive", "nonconformant"}:
            yield command("warning", {"title": f"lockproof: {found['result']}"}, verdict_line(backend))


def command(name: str, properties: Mapping[str, object], message: str) -> str:
    """A workflow command of one line, whatever is in its parts."""
    given = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items())
    return f"::{name} {given}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _place(failure: Mapping[str, Any] | None, root: Path, workspace: Path) -> dict[str, str]:
    if failure is None:
        return {}
    name, _, line = failure["where"].rpartition(":")
    path = (root / name).resolve()
    if not path.is_file() or not path.is_relative_to(workspace.resolve()):
        return {}
    return {"file": path.relative_to(workspace.resolve()).as_posix(), "line": line}


def _message(result: Mapping[str, Any], run: Mapping[str, Any], backend: Mapping[str, Any]) -> str:
    observed = result["failure"]["observed"] if result["failure"] else ""
    gist = result["reason"] or next(iter(observed.splitlines()), "")
    parts = [result["summary"], shortened([gist], 500), f"repeat: {repeat(run, backend, result['id'])}"]
    return "\n".join(part for part in parts if part)


def summary(report: Mapping[str, Any], shown: str) -> str:
    """The page of a step: verdicts and targets first, then what is not met, and the first failures."""
    run = report["run"]
    heads = [f"{b['id']} ({b['target']}): {b['verdict']['result']}" for b in report["backends"]]
    lines = [f"## lockproof: {escaped('; '.join(heads))}", ""]
    lines += [] if run["complete"] else ["**The run did not finish.**", ""]
    for backend in report["backends"]:
        lines += [f"- **{escaped(verdict_line(backend))}** {escaped(counts_line(backend))}"]
    unmet = [
        [b["id"], r["id"], r["level"], r["status"], requirements()[r["id"]].text]
        for b in report["backends"]
        for r in b["requirements"]
        if r["status"] not in {"pass", *INAPPLICABLE}
    ]
    if unmet:
        lines += ["", "| backend | requirement | level | status | demands |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(map(escaped, row))} |" for row in unmet[:UNMET]]
        lines += ["", f"and {len(unmet) - UNMET} more"] if len(unmet) > UNMET else []
    failed = [(b, r) for b in report["backends"] for r in b["results"] if r["failure"] and r["status"] in BAD]
    failed.sort(key=lambda found: STATUSES.index(found[1]["status"]))
    page = "\n".join(lines) + "\n"
    told = 0
    for backend, result in failed[:CARDS]:
        block = "\n".join(_details(card(result, run, backend, shown), result)) + "\n"
        if len((page + block).encode()) > SUMMARY_BYTES:
            break
        page, told = page + block, told + 1
    rest = f"{len(failed) - told} more failures in " if told < len(failed) else ""
    tail = (
        f"Tier {run['tier']}, seed {run['seed']}, suite {report['suite']['version']}. {rest}{shown}/report.md"
    )
    return f"{page}\n{escaped(tail)}\n"


def _details(lines: Sequence[str], result: Mapping[str, Any]) -> list[str]:
    head = f"{result['status']}: {result['summary'] or result['test']}"
    return [
        "",
        f"<details><summary>{escaped(head)}</summary>",
        "",
        *fenced("\n".join(lines)),
        "",
        "</details>",
    ]
