"""A failure card: what a reader needs, in a dozen lines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from lockproof.report.redact import HIDDEN
from lockproof.spec import Clause, requirements

SOURCES = {"opentofu": "https://github.com/opentofu/opentofu"}
OBSERVED_LINES = 12


def clause_url(clause: Clause) -> str:
    """Where the clause can be read, `""` when its source is not public."""
    root = SOURCES.get(clause.source)
    if root is None or not clause.commit:
        return clause.path if clause.path.startswith("https://") else ""
    lines = "-L".join(clause.lines.replace(" ", "").split("-")) if clause.lines else ""
    return f"{root}/blob/{clause.commit}/{clause.path}{f'#L{lines}' if lines else ''}"


def clause_name(clause: Clause) -> str:
    """`opentofu internal/states/statemgr/locker.go:38-41`; an issue is called by its name alone."""
    if clause.path.startswith("https://"):
        return clause.source
    return f"{clause.source} {clause.path}{f':{clause.lines}' if clause.lines else ''}"


def repeat(run: Mapping[str, Any], backend: Mapping[str, Any], test: str) -> str:
    """The command that runs the test again in the same way; secrets are left for the reader to fill in."""
    command = ["pytest", test, f"--backend={backend['id']}", f"--backend-seed={run['seed']}"]
    command += [f"--backend-opt={name}={value}" for name, value in backend["given"].items()]
    command += [f"--backend-tier={run['tier']}"] if run["tier"] != "default" else []
    command += [f"--backend-clients={run['clients']}"] if run["clients"] is not None else []
    without = backend["capabilities"]["disabled"]
    command += [f"--backend-without={','.join(without)}"] if without else []
    command += [f"--backend-faults={','.join(run['faults'])}"] if run["faults"] else []
    command += [f"--backend-duration={run['duration']:g}"] if run["tier"] == "soak" else []
    command += ["--backend-allow-destructive"] if run["allow_destructive"] else []
    command += [f"--backend-timeout={run['timeout']:g}"] if run["timeout"] != 30 else []
    command += [f"--backend-postgres={HIDDEN}"] if run["own_postgres"] else []
    return shlex.join(command)


def card(
    result: Mapping[str, Any], run: Mapping[str, Any], backend: Mapping[str, Any], folder: str
) -> list[str]:
    """The lines of the card of a result that has a failure; the first one is a headline."""
    failure = result["failure"]
    gist = next((line for line in (result["reason"], *failure["observed"].splitlines()) if line), "")
    headline = (f"{backend['id']} ({backend['target']}) {result['status']}:", *result["requirements"], gist)
    lines = [" ".join(part for part in headline if part), f"  {'test':<8}  {result['id']}"]
    for name in result["requirements"]:
        demanded = requirements()[name]
        lines.append(f"  {name} ({demanded.level})  {demanded.text}")
        for clause in demanded.clauses:
            lines.append(f"    clause  {clause_name(clause)}  {clause_url(clause)}".rstrip())
    lines += _block("expected", [failure["expected"]] if failure["expected"] else [])
    lines += _block("observed", _shortened(failure["observed"].splitlines()))
    lines += _block("at", [failure["where"]])
    lines += _block("history", failure["operations"])
    if failure["history"]:
        path = f"{folder}/histories/{failure['history']}"
        lines += [*_block("file", [path]), *_block("timeline", [f"{path.removesuffix('.jsonl')}.html"])]
        lines += _block("program", [f"{path.removesuffix('.jsonl')}.py"] if failure["program"] else [])
    return [*lines, *_block("repeat", [repeat(run, backend, result["id"])])]


def _block(label: str, content: Sequence[str]) -> list[str]:
    return [f"  {label if number == 0 else '':<8}  {line}" for number, line in enumerate(content)]


def _shortened(lines: Sequence[str]) -> list[str]:
    kept = [line if len(line) <= 200 else f"{line[:199]}…" for line in lines[:OBSERVED_LINES]]
    more = len(lines) - len(kept)
    return [*kept, f"… {more} more lines in report.json"] if more > 0 else kept
