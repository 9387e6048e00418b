"""What a certificate states: a function of the reports of its runs and of the profile, nothing else."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from lockproof.certificate.profile import Profile
from lockproof.report.redact import HIDDEN
from lockproof.report.status import INAPPLICABLE, strongest, verdict

VERSION = 1
Report = Mapping[str, Any]


def schema() -> dict[str, Any]:
    """The JSON Schema (Draft 2020-12) of `certificate.json`."""
    text = files("lockproof.report").joinpath("certificate.schema.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def statement(
    reports: Mapping[str, Report], profile: Profile, evidence: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """The certificate without its hashes.

    `reports` are those of its runs by their folder; `evidence` says of each folder how many histories it
    holds, and how many operations these.
    """
    runs = list(reports.values())
    first = runs[0]
    backend = first["backends"][0]
    found = verdict(backend["results"], backend["requirements"], first["run"]["narrowed"])
    return {
        "title": title(backend, profile),
        "certificate": VERSION,
        "target": backend["target"],
        "profile": {**asdict(profile), "suites": list(profile.suites)},
        "backend": {
            "id": backend["id"],
            "driver": backend["driver"],
            "capabilities": backend["capabilities"]["declared"],
            "given": backend["given"],
        },
        "suite": {**first["suite"], "sha256": of_parts(first["suite"]["files"])},
        "verdict": {key: found[key] for key in ("result", "must", "should", "may")},
        "requirements": _requirements(runs),
        "runs": [_run(folder, run, evidence[folder]) for folder, run in reports.items()],
        "numbers": _numbers(runs, evidence),
        "reproduce": reproduce(runs, profile),
    }


def title(backend: Mapping[str, Any], profile: Profile) -> str:
    """One line that cannot be read as more than it is: `databricks:delta 0.1.0 on a FAKE target is …`."""
    kind = backend["target"].upper() if backend["target"] == "fake" else backend["target"]
    version = f" {backend['driver']['version']}" if backend["driver"]["version"] else ""
    return f"{backend['id']}{version} on a {kind} target is conformant (profile {profile.name})"


def of_parts(parts: Mapping[str, str]) -> str:
    """One SHA-256 (hex) for the hashes of all parts of a suite."""
    return digest(dict(parts))


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a document, whatever the order of its keys and the white space between them."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def reproduce(runs: Sequence[Report], profile: Profile) -> str:
    """The command that certifies again in the same way; secrets are left for the reader to fill in."""
    run, backend = runs[0]["run"], runs[0]["backends"][0]
    seeds = ",".join(str(report["run"]["seed"]) for report in runs)
    command = ["lockproof", "certify", f"--backend={backend['id']}", f"--profile={profile.name}"]
    command += [f"--backend-opt={name}={value}" for name, value in backend["given"].items()]
    command += ["--backend-real"] if "--backend-real" in run["argv"] else []  # typed, so it is there
    command += ["--backend-allow-destructive"] if run["allow_destructive"] else []
    command += [f"--backend-timeout={run['timeout']:g}"] if run["timeout"] != 30 else []
    command += [f"--backend-postgres={HIDDEN}"] if run["own_postgres"] else []
    return shlex.join([*command, f"--seeds={seeds}"])


def _requirements(runs: Sequence[Report]) -> list[dict[str, Any]]:
    """Of each requirement its level, its status in all runs together, the number of its tests, and why it was
    not tested where it was not."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        for entry in run["backends"][0]["requirements"]:
            by_id.setdefault(entry["id"], []).append(entry)
    reasons = {result["id"]: result["reason"] for result in runs[0]["backends"][0]["results"]}
    return [
        {
            "id": name,
            "level": entries[0]["level"],
            "status": strongest(entry["status"] for entry in entries),
            "tests": len(entries[0]["tests"]),
            "reason": _reason(entries[0], reasons),
        }
        for name, entries in by_id.items()
    ]


def _reason(entry: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    if entry["status"] not in INAPPLICABLE:
        return ""
    why = "; ".join(dict.fromkeys(reasons[test] for test in entry["tests"] if reasons[test]))
    return why or "the target is one of a real service, and its times are not those"


def _run(folder: str, report: Report, evidence: Mapping[str, int]) -> dict[str, Any]:
    run, backend = report["run"], report["backends"][0]
    kept = ("id", "seed", "started", "finished", "python", "platform", "workers")
    measured = {key: backend[key] for key in ("latency", "cost") if backend.get(key)}
    counts = {status: count for status, count in backend["counts"].items() if count}
    return {"folder": folder, **{key: run[key] for key in kept}, "tests": counts, **evidence, **measured}


def _numbers(runs: Sequence[Report], evidence: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Sums over all runs."""
    found: Counter[str] = Counter(tests=0, passed=0, schedules=0, faults=0, hits=0, unknown_outcomes=0)
    for run in runs:
        backend = run["backends"][0]
        found["tests"] += sum(backend["counts"].values())
        found["passed"] += backend["counts"]["pass"]
        found["schedules"] += sum(count["schedules"] for count in _explored(backend))
        for fault in backend["faults"]:
            found["faults"] += fault["injected"]
            found["hits"] += fault["hits"]
            found["unknown_outcomes"] += fault["unknown"]
    for kept in evidence.values():
        found.update(kept)
    return dict(found)


def _explored(backend: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (count for r in backend["results"] for count in r["counts"] or () if "schedules" in count)
