"""What a run with `--backend` shows on the terminal: little, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lockproof.plugin.options import Settings
from lockproof.report.card import card
from lockproof.report.markdown import counts_line, told, verdict_line

# status -> category of pytest's own counts, letter, word
LETTERS = {
    "pass": ("passed", ".", "PASSED"),
    "fail": ("failed", "F", "FAILED"),
    "error": ("error", "E", "ERROR"),
    "unknown": ("unknown", "?", "UNKNOWN"),
    "skip": ("skipped", "s", "SKIPPED"),
    "disabled": ("disabled", "d", "DISABLED"),
    "xfail": ("xfailed", "x", "XFAIL"),
    "xpass": ("failed", "X", "XPASS"),
    "flaky": ("flaky", "~", "FLAKY"),
    "not-run": ("not-run", "n", "NOT-RUN"),
}
LISTED = 5
COLORS = {"conformant": "green", "partial": "green", "nonconformant": "red", "inconclusive": "yellow"}
QUIET = frozenset({"pass", "skip", "disabled", "not-run"})


def letter(status: str) -> tuple[str, str, str]:
    """How pytest counts and shows a phase; a phase that decided nothing is not shown."""
    return LETTERS[status] if status else ("", "", "")


def header(backends: Sequence[Mapping[str, Any]], settings: Settings, folder: str) -> list[str]:
    """Backend, version, target, capabilities, seed; variables that look like a typo."""
    lines = []
    for backend in backends:
        driver, found = backend["driver"], backend["capabilities"]
        off = f"; switched off: {', '.join(found['disabled'])}" if found["disabled"] else ""
        about = f" ({driver['implementation']})" if driver["implementation"] else ""
        lines.append(f"backend: {backend['id']} {driver['version']}, target {backend['target']}{about}")
        lines.append(f"  capabilities: {', '.join(found['declared']) or 'none'}{off}")
    lines.append(f"lockproof: seed {settings.seed}, tier {settings.tier}, run folder {folder}")
    if settings.unknown_variables:
        lines.append(f"lockproof: unknown environment variables: {', '.join(settings.unknown_variables)}")
    return lines


def applicable(manifest: Mapping[str, Any]) -> str:
    """`lockproof: 58 of 96 tests apply (30 skip, 8 of other tiers or requirements)`."""
    if not manifest:
        return ""
    states = [test["state"] for test in manifest["tests"]]
    parts = [f"{count} {name}" for name, count in Counter(states).items() if name != "run"]
    if manifest["out_of_scope"]:
        parts.append(f"{manifest['out_of_scope']} of other tiers or requirements")
    total = len(states) + manifest["out_of_scope"]
    why = f" ({', '.join(parts)})" if parts else ""
    return f"lockproof: {states.count('run')} of {total} tests apply{why}"


def summary(reporter: Any, report: Mapping[str, Any], manifest: Mapping[str, Any], folder: str) -> None:
    """Counts, what was not met, what is unknown, and one verdict line for each backend."""
    failed = [(b, r) for b in report["backends"] for r in b["results"] if r["failure"]]
    unknown = [(b, r) for b, r in failed if r["status"] == "unknown"]
    if unknown:
        reporter.section("UNKNOWN", sep="=")
        for backend, result in unknown[:LISTED]:
            reporter.write_line("\n".join(card(result, report["run"], backend, folder)))
    reporter.section("lockproof", sep="=")
    if not manifest.get("tests"):
        reporter.write_line("no test of a backend was collected: a usage error (exit code 4)")
    for backend in report["backends"]:
        reporter.write_line(f"{backend['id']}: {counts_line(backend)}")
        unseen = [r for r in told(backend) if r["failure"] is None]
        reasons = Counter((r["status"], r["reason"]) for r in unseen)
        for (status, reason), count in reasons.most_common(LISTED):
            reporter.write_line(f"  {count:>4} {status}: {reason}")
        unmet = [r for r in backend["requirements"] if r["status"] not in QUIET]
        for rolled in unmet[: 2 * LISTED]:
            reporter.write_line(f"  {rolled['status']:<8} {rolled['level']:<6} {rolled['id']}")
        if len(unmet) > 2 * LISTED:
            reporter.write_line(f"  and {len(unmet) - 2 * LISTED} more in report.md")
    for backend in report["backends"]:
        color = COLORS[backend["verdict"]["result"]]
        reporter.write_line(verdict_line(backend), bold=True, **{color: True})
