"""Reports of earlier runs, read back for comparison. A report may come from anybody: it is checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lockproof.report.build import SCHEMA_VERSION
from lockproof.report.status import STATUSES, UNDECIDED, VIOLATED, strongest
from lockproof.spec.registry import LEVELS

REPORT = "report.json"
NOT_TESTED = "not-tested"
"""What a requirement is of which a run has no result at all; no status of a test."""
TARGETS = ("fake", "local", "real")
TIERS = ("smoke", "default", "full", "soak")  # each runs what those before it run
VERDICTS = ("conformant", "partial", "inconclusive", "nonconformant")  # best first


class ReportError(ValueError):
    """A report that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Result:
    """What one test found out."""

    status: str
    reason: str
    requirements: Sequence[str]


@dataclass(frozen=True)
class Finding:
    """What a run found out about one requirement: its status, and how many of its tests say so."""

    status: str
    telling: int
    tests: int


@dataclass(frozen=True)
class Tested:
    """One backend in one run. `results` are by the test's id without the backend; `measured` are requirements
    of latency, with their status: the times decide it, not the tests that took them."""

    source: str
    id: str
    target: str
    driver: str
    suite: str
    digest: str
    files: Mapping[str, str]
    tier: str
    seed: int
    started: str
    complete: bool
    narrowed: str
    faults: Sequence[str]
    disabled: Sequence[str]
    verdict: str
    reasons: Sequence[str]
    must: tuple[int, int]
    levels: Mapping[str, str]
    measured: Mapping[str, str]
    results: Mapping[str, Result]
    latency: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """`databricks:lakebase (fake)`: never without the kind of the target."""
        return f"{self.id} ({self.target})"

    @property
    def edition(self) -> str:
        """A short name for the files of the suite: equal for equal files."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def limits(self) -> list[str]:
        """Why a pass of this run says less than one of a whole run; empty for a whole run."""
        limits = [] if self.complete else ["the run did not finish"]
        limits += [self.narrowed] if self.narrowed else []
        limits += [f"only faults {', '.join(self.faults)}"] if self.faults else []
        return limits + ([f"without {', '.join(self.disabled)}"] if self.disabled else [])

    @cached_property
    def findings(self) -> Mapping[str, Finding]:
        """Every requirement that a result cites, in the order of ids."""
        citing: dict[str, list[str]] = {}
        for result in self.results.values():
            for name in result.requirements:
                citing.setdefault(name, []).append(result.status)
        found = {}
        for name, statuses in sorted(citing.items()):
            status = self.measured.get(name) or strongest(statuses)
            telling = len(statuses) if name in self.measured else statuses.count(status)
            found[name] = Finding(status, telling, len(statuses))
        return found


def report_file(path: Path) -> Path:
    """The file of a report that is given by its run folder or as the file."""
    return path / REPORT if path.is_dir() else path


def read_reports(path: Path) -> list[Tested]:
    """The backends of a report, given by its run folder or as the file. Raises `ReportError`."""
    file = report_file(path)
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = f"{path}: no {REPORT} in it; name the folder of a run that has ended"
        raise ReportError(hint if path.is_dir() else f"{path}: no such file or folder") from None
    except OSError as failure:
        raise ReportError(f"{file}: cannot be read: {failure.strerror}") from None
    except (ValueError, RecursionError):
        raise ReportError(f"{file}: not a lockproof report: no JSON") from None
    if not isinstance(report, Mapping) or "backends" not in report:
        raise ReportError(f"{file}: not a lockproof report: no backends in it")
    if report.get("schema") != SCHEMA_VERSION:
        raise ReportError(f"{file}: a report of schema {report.get('schema')!r}, not {SCHEMA_VERSION}")
    if not {"requirements", "files"} <= set(report.get("suite") or ()):
        raise ReportError(f"{file}: does not say what the run was held to; repeat it with this lockproof")
    try:
        tested = [_tested(report, backend, str(path)) for backend in report["backends"]]
    except (KeyError, TypeError, AttributeError) as wrong:
        raise ReportError(f"{file}: not a whole lockproof report: {type(wrong).__name__} {wrong}") from None
    except ReportError as wrong:
        raise ReportError(f"{file}: {wrong}") from None
    if not tested:
        raise ReportError(f"{file}: no backend was tested in it")
    return tested


def _tested(report: Mapping[str, Any], backend: Mapping[str, Any], source: str) -> Tested:
    run, suite, verdict = report["run"], report["suite"], backend["verdict"]
    levels = {rolled["id"]: _one_of(LEVELS, rolled["level"]) for rolled in backend["requirements"]}
    claimed = {rolled["id"]: _one_of(STATUSES, rolled["status"]) for rolled in backend["requirements"]}
    results: dict[str, Result] = {}
    for found in backend["results"]:
        status = _one_of(STATUSES, found["status"])
        if found["test"] in results:
            raise ReportError(f"{found['test']} has two results for {backend['id']}")
        results[found["test"]] = Result(status, str(found["reason"]), tuple(map(str, found["requirements"])))
    driver = backend["driver"]
    tested = Tested(
        source=source,
        id=str(backend["id"]),
        target=_one_of(TARGETS, backend["target"]),
        driver=f"{driver['name']} {driver['version']}",
        suite=str(suite["version"]),
        digest=str(suite["requirements"]),
        files={str(part): str(digest) for part, digest in suite["files"].items()},
        tier=_one_of(TIERS, run["tier"]),
        seed=int(run["seed"]),
        started=str(run["started"]),
        complete=run["complete"] is True,
        narrowed=str(run["narrowed"]),
        faults=tuple(map(str, run["faults"])),
        disabled=tuple(map(str, backend["capabilities"]["disabled"])),
        verdict=_one_of(VERDICTS, verdict["result"]),
        reasons=tuple(map(str, verdict["reasons"])),
        must=(int(verdict["must"]["met"]), int(verdict["must"]["applicable"])),
        levels=levels,
        measured={name: claimed[name] for name in _measured(backend["latency"]) if name in claimed},
        results=results,
        latency=tuple(dict(row) for row in backend["latency"]),
    )
    _require_agreement(tested, claimed)
    return tested


def _require_agreement(tested: Tested, claimed: Mapping[str, str]) -> None:
    """Raises `ReportError` where the results do not carry what the report concludes from them."""
    for name in sorted({*claimed, *tested.findings}):
        found = tested.findings[name].status if name in tested.findings else NOT_TESTED
        if claimed.get(name, NOT_TESTED) != found:
            said = claimed.get(name, NOT_TESTED)
            raise ReportError(f"contradicts itself: {name} is {said}, its results say {found}")
    measured = _measured(tested.latency)
    for name, status in tested.measured.items():
        if status == "pass" and (tested.target == "fake" or measured[name] != {"met"}):
            raise ReportError(f"contradicts itself: {name} is pass, its times do not say so")
    statuses = {result.status for result in tested.results.values()}
    violated = [n for n, f in tested.findings.items() if f.status in VIOLATED and tested.levels[n] == "MUST"]
    met = sum(f.status == "pass" and tested.levels[n] == "MUST" for n, f in tested.findings.items())
    good = tested.verdict in {"conformant", "partial"}
    if good and (violated or UNDECIDED & statuses or tested.narrowed or not met):
        raise ReportError(f"contradicts itself: {tested.id} is {tested.verdict}, its results say otherwise")
    if tested.must[0] != met:
        raise ReportError(f"contradicts itself: {tested.must[0]} MUST met, its results say {met}")


def _measured(rows: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """What the rows say of each requirement that they measure: `met`, `missed`, `undecided`."""
    found: dict[str, set[str]] = {}
    for row in rows:
        if row.get("requirement"):
            found.setdefault(str(row["requirement"]), set()).add(str(row["status"]))
    return found


def _one_of(known: Sequence[str], word: Any) -> str:
    if word not in known:
        raise ReportError(f"{word!r} is none of {', '.join(known)}")
    return str(word)
