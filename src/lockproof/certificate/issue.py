"""Issuing a certificate: the runs, one after the other, and the folder that they earn."""

from __future__ import annotations

import datetime
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockproof.certificate import runs
from lockproof.certificate.archive import ARCHIVE, pack
from lockproof.certificate.conditions import Objection, between, objections
from lockproof.certificate.evidence import Evidence, judge
from lockproof.certificate.manifest import read_suite_files
from lockproof.certificate.page import page
from lockproof.certificate.profile import Profile
from lockproof.certificate.statement import digest, statement
from lockproof.report import publish, read_events
from lockproof.report.folder import EVENTS, HISTORIES, home

CERTIFICATE = "certificate.json"
PAGE = "CERTIFICATE.md"


@dataclass(frozen=True)
class Order:
    """What is to be certified: the backend as `--backend` names it, further words for pytest, the seeds of
    the runs, where the certificate goes (a folder that does not exist yet, or is empty)."""

    spec: str
    profile: Profile
    seeds: Sequence[int]
    options: Sequence[str]
    out: Path


class Refused(Exception):
    """No certificate: why, worst first."""

    def __init__(self, found: Sequence[Objection]) -> None:
        super().__init__("; ".join(objection.text for objection in found))
        self.objections = found


def certify(order: Order, tell: Callable[[str], None], progress: runs.Progress) -> str:
    """Runs the suites with each seed and writes the certificate; returns its digest.

    `tell` is given a line for each run. The run folders stay below `.lockproof/`, whatever happens; the
    folder of the certificate is there whole or not at all. After the first run that earns none, no other
    is begun. Raises `Refused`, `RunError`, or `OSError` when something cannot be written.
    """
    started = datetime.datetime.now(datetime.UTC)
    folder = home(Path.cwd()) / f"certify-{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    folder.mkdir()
    tell(f"run folders: {folder.relative_to(Path.cwd())}/seed-*")
    reports: dict[str, Mapping[str, Any]] = {}
    evidence: dict[str, Evidence] = {}
    for number, seed in enumerate(order.seeds, start=1):
        name = f"seed-{seed}"
        report = runs.run(order.spec, order.profile, seed, order.options, folder / name, progress)
        reports[name] = report
        evidence[name] = judge(folder / name / HISTORIES)
        found = [*objections(report, order.profile), *_of_histories(evidence[name])]
        tell(f"seed {seed} ({number} of {len(order.seeds)}): {_outcome(report)}")
        _require(found)
    found = between(list(reports.values()), order.profile)
    if reports[f"seed-{order.seeds[0]}"]["suite"]["files"] != dict(read_suite_files()):
        found.append(Objection("broke", "the files of the suite were changed while it ran"))
    _require(found)
    return _assemble(order, folder, reports, evidence)


def _require(found: Sequence[Objection]) -> None:
    if found:
        worst = ("violated", "broke", "undecided")
        raise Refused(sorted(found, key=lambda objection: worst.index(objection.kind)))


def _of_histories(evidence: Evidence) -> list[Objection]:
    """A test may have passed that looked at something else."""
    return [Objection("violated", f"a history is violated: {text}") for text in evidence.violated]


def _outcome(report: Mapping[str, Any]) -> str:
    backend = report["backends"][0]
    counts = ", ".join(f"{count} {status}" for status, count in backend["counts"].items() if count)
    return f"{backend['verdict']['result']}, {len(backend['results'])} tests ({counts})"


def _assemble(
    order: Order,
    left: Path,
    reports: Mapping[str, Mapping[str, Any]],
    evidence: Mapping[str, Evidence],
) -> str:
    """Writes the folder beside its place and moves it there when it is whole."""
    order.out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{order.out.name}-", dir=order.out.parent))
    try:
        for name in reports:
            _keep(left / name, part / name)
        written = {
            path.relative_to(part).as_posix(): sha256(path)
            for path in sorted(part.rglob("*"))
            if path.is_file()
        }
        counts = {name: found.counts() for name, found in evidence.items()}
        document = {**statement(reports, order.profile, counts), "files": written}
        (part / PAGE).write_text(page(document), encoding="utf-8")
        document["files"] = {PAGE: sha256(part / PAGE), **written}
        document["digest"] = digest(document)
        text = json.dumps(document, ensure_ascii=False, indent=1)
        (part / CERTIFICATE).write_text(f"{text}\n", encoding="utf-8")
        part.chmod(0o755)
        part.replace(order.out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return str(document["digest"])


def _keep(run: Path, folder: Path) -> None:
    """What a certificate keeps of a run: its events and histories, and the reports drawn from them, in which
    the folder is called by its name in the certificate."""
    folder.mkdir()
    shutil.copyfile(run / EVENTS, folder / EVENTS)
    shutil.copytree(run / HISTORIES, folder / HISTORIES, ignore=lambda _, names: _no_histories(names))
    publish(read_events(folder / EVENTS), folder, folder.name)
    pack(folder / HISTORIES, folder / ARCHIVE)
    shutil.rmtree(folder / HISTORIES)


def _no_histories(names: Sequence[str]) -> list[str]:
    return [name for name in names if not name.endswith(".jsonl")]


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
