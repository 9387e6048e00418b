"""`lockproof diff`: what became better and worse from one run to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lockproof.report.escaping import escaped
from lockproof.report.reading import NOT_TESTED, TIERS, VERDICTS, ReportError, Tested
from lockproof.report.status import VIOLATED

KINDS = ("regression", "fix", "new", "gone", "change")
LISTED = 40  # of what is no regression
TITLES = {
    "regression": "Regressions",
    "fix": "Fixes",
    "new": "New",
    "gone": "Gone",
    "change": "Other changes",
}


def diff(old: Sequence[Tested], new: Sequence[Tested]) -> dict[str, Any]:
    """The differences as data: `changes` (kind, what, backend, name, level, old, new) and `remarks` on what
    makes the runs hard to compare.

    A regression is a verdict that is worse, what passed and does so no more (failed, unknown, skipped, or not
    tested, because less was run), and what is violated now and was not. What a whole run does not have any
    more, because the suite does not, is `gone`. Raises `ReportError` when no backend is in both.
    """
    changes: list[dict[str, Any]] = []
    remarks: list[str] = []
    for before, after in _pairs(old, new):
        name = after.id if before.id == after.id else f"{before.id} → {after.id}"
        changes += [{**change, "backend": name} for change in _changes(before, after)]
        remarks += [f"{name}: {remark}" for remark in _remarks(before, after)]
    for run in (run for run in old if not _same(run, new) and len(old) + len(new) > 2):
        changes.append(
            _change("regression", "verdict", run.id, run.verdict, NOT_TESTED) | {"backend": run.id}
        )
    for run in (run for run in new if not _same(run, old) and len(old) + len(new) > 2):
        changes.append(_change("new", "verdict", run.id, NOT_TESTED, run.verdict) | {"backend": run.id})
    order = {"verdict": 0, "requirement": 1, "test": 2}
    changes.sort(key=lambda c: (KINDS.index(c["kind"]), c["backend"], order[c["what"]], c["name"]))
    return {
        "schema": 1,
        "old": [_side(run) for run in old],
        "new": [_side(run) for run in new],
        "remarks": remarks,
        "changes": changes,
    }


def regressed(found: Mapping[str, Any]) -> bool:
    """Whether anything became worse."""
    return any(change["kind"] == "regression" for change in found["changes"])


def _same(run: Tested, others: Sequence[Tested]) -> Tested | None:
    return next((other for other in others if other.id == run.id), None)


def _pairs(old: Sequence[Tested], new: Sequence[Tested]) -> list[tuple[Tested, Tested]]:
    """What is compared with what: equal backends, or the only one of each run."""
    if len(old) == len(new) == 1:
        return [(old[0], new[0])]
    pairs = [(run, other) for run in old if (other := _same(run, new)) is not None]
    if not pairs:
        names = " and ".join(", ".join(run.id for run in side) for side in (old, new))
        raise ReportError(f"no backend is in both runs: {names}")
    return pairs


def _side(run: Tested) -> dict[str, Any]:
    return {"source": run.source, "backend": run.id, "target": run.target, "verdict": run.verdict}


def _remarks(old: Tested, new: Tested) -> Iterator[str]:
    if old.id != new.id:
        yield "two different backends"
    if old.target != new.target:
        yield f"{old.target} target → {new.target} target"
    if old.digest != new.digest:
        yield f"suite {old.suite} → {new.suite} demands something else: a requirement may mean another thing"
    parts = sorted(part for part in {*old.files, *new.files} if old.files.get(part) != new.files.get(part))
    if parts:
        yield f"files of the suite differ in {', '.join(parts)}"
    for fact, before, after in (
        ("tier", [old.tier], [new.tier]),
        ("limits", old.limits, new.limits),
    ):
        if before != after:
            yield f"{fact}: {'; '.join(before) or 'none'} → {'; '.join(after) or 'none'}"


def _changes(old: Tested, new: Tested) -> Iterator[dict[str, Any]]:
    if old.verdict != new.verdict:
        worse = VERDICTS.index(new.verdict) > VERDICTS.index(old.verdict)
        yield _change("regression" if worse else "fix", "verdict", new.id, old.verdict, new.verdict)
    whole = not new.limits and TIERS.index(new.tier) >= TIERS.index(old.tier)
    folders = {_folder(name) for name in new.results}
    for name in sorted({*old.findings, *new.findings}):
        before, after = old.findings.get(name), new.findings.get(name)
        pair = (before.status if before else NOT_TESTED, after.status if after else NOT_TESTED)
        kind = _kind(*pair, withdrawn=whole and old.digest != new.digest)
        level = new.levels.get(name, old.levels.get(name, ""))
        if kind:
            yield _change(kind, "requirement", name, *pair) | {"level": level}
    for name in sorted({*old.results, *new.results}):
        result, later = old.results.get(name), new.results.get(name)
        pair = (result.status if result else NOT_TESTED, later.status if later else NOT_TESTED)
        kind = _kind(*pair, withdrawn=whole and _folder(name) in folders)
        if kind:
            yield _change(kind, "test", name, *pair) | {"reason": later.reason if later else ""}


def _folder(test: str) -> str:
    """The suite of a test: of one that was not run, no test was withdrawn."""
    return test.partition("::")[0].rpartition("/")[0]


def _kind(old: str, new: str, *, withdrawn: bool) -> str:
    """What became of a requirement or test; empty when nothing did. `withdrawn` says that what is missing
    from the new run is so because there is no such thing any more."""
    if old == new:
        return ""
    if new == NOT_TESTED:
        return "gone" if withdrawn or old != "pass" else "regression"
    if new in VIOLATED and old not in VIOLATED:
        return "regression"
    if old == NOT_TESTED:
        return "new"
    if old == "pass":
        return "regression"
    return "fix" if new == "pass" else "change"


def _change(kind: str, what: str, name: str, old: str, new: str) -> dict[str, Any]:
    return {"kind": kind, "what": what, "name": name, "level": "", "old": old, "new": new, "reason": ""}


def markdown(found: Mapping[str, Any]) -> str:
    """The differences as text that a terminal and GitHub show. The first line names the targets."""
    sides = [
        ", ".join(f"{run['backend']} ({run['target']}) {run['verdict']}" for run in found[side])
        for side in ("old", "new")
    ]
    lines = [f"# lockproof diff: {escaped(sides[0])} → {escaped(sides[1])}", ""]
    lines += [f"- {escaped(remark)}" for remark in found["remarks"]]
    several = len({change["backend"] for change in found["changes"]}) > 1
    for kind in KINDS:
        changes = [change for change in found["changes"] if change["kind"] == kind]
        if changes:
            lines += ["", f"## {TITLES[kind]} ({len(changes)})", ""]
            listed = changes if kind == "regression" else changes[:LISTED]
            lines += [_line(change, several) for change in listed]
            more = len(changes) - len(listed)
            lines += [f"- and {more} more: `--format json` has all"] if more else []
    if not found["changes"]:
        lines += ["No difference."]
    return "\n".join(lines) + "\n"


def _line(change: Mapping[str, Any], several: bool) -> str:
    where = f" of {escaped(change['backend'])}" if several and change["what"] != "verdict" else ""
    level = f" ({change['level']})" if change["level"] else ""
    reason = f": {escaped(change['reason'])}" if change["reason"] else ""
    name = escaped(change["name"])
    return f"- {change['what']}{where} {name}{level}: {change['old']} → {change['new']}{reason}"
