"""Whether a certificate says what its runs said. Its conclusions are not trusted: they are drawn again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockproof.certificate.archive import ARCHIVE, ArchiveError, unpack
from lockproof.certificate.conditions import between, levels_of, objections
from lockproof.certificate.evidence import Evidence, essence, first_difference, judge
from lockproof.certificate.issue import CERTIFICATE, PAGE, sha256
from lockproof.certificate.manifest import suite_files
from lockproof.certificate.page import page
from lockproof.certificate.profile import Profile, profiles
from lockproof.certificate.statement import VERSION, digest, statement
from lockproof.report import build, junit, markdown, read_events
from lockproof.report.events import EventError
from lockproof.report.folder import EVENTS
from lockproof.spec import requirements_digest

COUNTS = ("histories", "operations")
FROM_REPORT: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {
    "report.md": markdown,
    "junit.xml": junit,
}


class NoCertificate(ValueError):
    """What is to be verified is no certificate at all; the message is one line for the user."""


class Tampered(Exception):
    """The certificate is refused. `reasons` name the file or the field, one each."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Verified:
    """A certificate that holds. `other_parts` are the parts of the suite that differ from the one installed
    here, none when it is the same."""

    title: str
    digest: str
    files: int
    seeds: tuple[int, ...]
    histories: int
    operations: int
    suite: str
    other_parts: tuple[str, ...]


def verify(path: Path, known: Mapping[str, Profile] | None = None) -> Verified:
    """Verifies the certificate in a folder, or of which `path` is the `certificate.json`.

    In this order: the digest; the hashes, no file missing or added; the statement, worked out of the reports;
    the conditions of the profile; the reports, worked out of the events and histories; the verdict of the
    checkers on each history. Where the installed suite is another than the one that certified, the reports
    cannot be drawn again word for word: then their results and verdicts are compared.

    `known` are the profiles that there are, the shipped ones when not given. Raises `NoCertificate`, or
    `Tampered` with everything that was found in the first step that found something.
    """
    folder, document = _read(path)
    same = document["suite"].get("files") == dict(suite_files())
    _require_digest(document)
    _require_files(folder, document["files"])
    if same and document["suite"].get("requirements") != requirements_digest():
        raise Tampered(f"{CERTIFICATE}: suite.requirements is not what its suite demands")
    profile = _profile(document["profile"], profiles() if known is None else known, same)
    reports = {name: _report(folder, name, document["files"]) for name in _folders(document["runs"])}
    _require_statement(document, reports, profile)
    _require_conditions(reports, profile)
    if same and (folder / PAGE).read_text(encoding="utf-8") != page(_without_page(document)):
        raise Tampered(f"{PAGE}: does not say what {CERTIFICATE} states")
    found = {name: _require_evidence(folder / name, report, same) for name, report in reports.items()}
    counts = {name: evidence.counts() for name, evidence in found.items()}
    _require_same(document, {**statement(reports, profile, counts), **_hashes(document)})
    parts = document["suite"]["files"]
    return Verified(
        title=document["title"],
        digest=document["digest"],
        files=len(document["files"]),
        seeds=tuple(report["run"]["seed"] for report in reports.values()),
        histories=sum(evidence.histories for evidence in found.values()),
        operations=sum(evidence.operations for evidence in found.values()),
        suite=f"{document['suite']['name']} {document['suite']['version']}",
        other_parts=tuple(
            name for name in sorted({*parts, *suite_files()}) if parts.get(name) != suite_files().get(name)
        ),
    )


def _read(path: Path) -> tuple[Path, dict[str, Any]]:
    file = path / CERTIFICATE if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        where = f"no {CERTIFICATE} in it" if path.is_dir() else "no such file or folder"
        raise NoCertificate(f"{path}: {where}") from None
    except OSError as failure:
        raise NoCertificate(f"{file}: cannot be read: {failure.strerror}") from None
    except (ValueError, RecursionError):
        raise NoCertificate(f"{file}: not a certificate: no JSON") from None
    if not isinstance(document, dict) or "certificate" not in document:
        raise NoCertificate(f"{file}: not a certificate of lockproof")
    if document["certificate"] != VERSION:
        raise NoCertificate(f"{file}: a certificate of version {document['certificate']!r}, not {VERSION}")
    shape = {"files": dict, "suite": dict, "profile": dict, "runs": list, "digest": str, "title": str}
    for name, kind in shape.items():
        if not isinstance(document.get(name), kind):
            raise Tampered(f"{CERTIFICATE}: {name} is missing or misshapen")
    return file.parent, document


def _require_digest(document: Mapping[str, Any]) -> None:
    if digest({key: value for key, value in document.items() if key != "digest"}) != document["digest"]:
        raise Tampered(f"{CERTIFICATE}: was changed: its digest is not that of its content")


def _require_files(folder: Path, hashes: Mapping[str, str]) -> None:
    there = {
        p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()
    }
    there.pop(CERTIFICATE, None)
    reasons = [f"{name}: is missing" for name in sorted({*hashes} - {*there})]
    reasons += [f"{name}: was added" for name in sorted({*there} - {*hashes})]
    for name in sorted({*there} & {*hashes}):
        path = there[name]
        if path.is_symlink() or not path.is_file() or sha256(path) != hashes[name]:
            reasons.append(f"{name}: was changed")
    if reasons:
        raise Tampered(*reasons)


def _profile(said: Mapping[str, Any], known: Mapping[str, Profile], same: bool) -> Profile:
    """What the certificate says it demanded; of the same suite, what its profile of that name demands."""
    try:
        profile = Profile(**said)
    except TypeError:
        raise Tampered(f"{CERTIFICATE}: profile is misshapen") from None
    if same and profile.name not in known:
        raise Tampered(f"{CERTIFICATE}: profile.name is {profile.name!r}, which this suite has not")
    return known[profile.name] if same else profile


def _folders(runs: Sequence[Any]) -> list[str]:
    try:
        return [str(run["folder"]) for run in runs]
    except (KeyError, TypeError):
        raise Tampered(f"{CERTIFICATE}: runs are misshapen") from None


def _report(folder: Path, name: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    where = f"{name}/report.json"
    if where not in hashes:
        raise Tampered(f"{CERTIFICATE}: runs name {name}, which has no report.json")
    try:
        report: dict[str, Any] = json.loads((folder / where).read_text(encoding="utf-8"))
        levels_of(report)
    except (ValueError, KeyError, TypeError):
        raise Tampered(f"{where}: is no report") from None
    return report


def _require_statement(
    document: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]], profile: Profile
) -> None:
    """What it states of the reports; how many operations the histories hold is found out later."""
    if not reports:
        raise Tampered(f"{CERTIFICATE}: runs are missing")
    counts = {run["folder"]: {key: run.get(key, 0) for key in COUNTS} for run in document["runs"]}
    try:
        follows = statement(reports, profile, counts)
    except (KeyError, TypeError, IndexError, AttributeError) as wrong:
        raise Tampered(f"the reports are not whole: {type(wrong).__name__} {wrong}") from None
    _require_same(document, {**follows, **_hashes(document)})


def _hashes(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in ("files", "digest")}


def _require_same(document: Mapping[str, Any], follows: Mapping[str, Any]) -> None:
    if found := first_difference(document, follows):
        raise Tampered(f"{CERTIFICATE}: does not state what its runs say: {found}")


def _require_conditions(reports: Mapping[str, Mapping[str, Any]], profile: Profile) -> None:
    reasons = [
        f"{name}/report.json: earns no certificate: {objection.text}"
        for name, report in reports.items()
        for objection in objections(report, profile)
    ]
    reasons += [objection.text for objection in between(list(reports.values()), profile)]
    if reasons:
        raise Tampered(*reasons)


def _without_page(document: Mapping[str, Any]) -> dict[str, Any]:
    """As it was when the page was drawn, which cannot hold its own hash."""
    return {**document, "files": {name: value for name, value in document["files"].items() if name != PAGE}}


def _require_evidence(folder: Path, report: Mapping[str, Any], same: bool) -> Evidence:
    """The histories of a run, judged, once its report is known to follow from them and from its events."""
    name = folder.name
    with tempfile.TemporaryDirectory(prefix="lockproof-verify-") as directory:
        histories = Path(directory)
        try:
            events = read_events(folder / EVENTS)
            unpack(folder / ARCHIVE, histories)
            follows = build(events, histories, None if same else levels_of(report))
        except (EventError, ArchiveError, OSError, KeyError, TypeError) as wrong:
            raise Tampered(f"{name}: its events or histories are not whole: {wrong}") from None
        if found := first_difference(report, follows) if same else _differs(report, follows):
            raise Tampered(f"{name}/report.json: does not say what the events and histories say: {found}")
        for file, write in FROM_REPORT.items() if same else ():
            if (folder / file).read_text(encoding="utf-8") != write(report, name):
                raise Tampered(f"{name}/{file}: does not say what report.json says")
        evidence = judge(histories)
    if evidence.violated:
        raise Tampered(*(f"{name}/{ARCHIVE}: {text}" for text in evidence.violated))
    return evidence


def _differs(report: Mapping[str, Any], follows: Mapping[str, Any]) -> str:
    return first_difference(essence(report), essence(follows))
