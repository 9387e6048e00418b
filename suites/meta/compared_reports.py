"""Small reports to compare, each derived from events as a run derives its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lockproof.report import build
from lockproof.spec import requirements_digest

EXCLUSION, ROUND_TRIP, LISTING = "LOCK-EXCL-001", "STATE-RT-001", "WS-LIST-001"
TESTS: Mapping[str, str] = {
    "suites/locks/test_a.py::test_excludes": EXCLUSION,
    "suites/locks/test_a.py::test_excludes_many": EXCLUSION,
    "suites/state/test_b.py::test_reads_back": ROUND_TRIP,
    "suites/workspaces/test_c.py::test_lists": LISTING,
}
LOCKS, MANY, STATE, WORKSPACES = TESTS


def events(
    statuses: Mapping[str, str] | None = None,
    *,
    backend: str = "memory",
    target: str = "local",
    narrowed: str = "",
    digest: str = "",
    files: str = "a",
    finished: bool = True,
    disabled: tuple[str, ...] = (),
    tests: Mapping[str, str] = TESTS,
    failure: Mapping[str, Any] | None = None,
    **run: Any,
) -> list[dict[str, Any]]:
    """The events of a run in which each of `tests` passed, or has the status that is given; `""`: not run."""
    facts = {
        "id": "abc123",
        "started": "2026-01-02T03:04:05Z",
        "argv": ["pytest"],
        "seed": 7,
        "tier": "default",
        "suites": [],
        "clients": None,
        "faults": [],
        "duration": 60.0,
        "allow_destructive": False,
        "timeout": 30.0,
        "own_postgres": False,
        "workers": 0,
        "python": "3.11",
        "platform": "Linux",
        **run,
    }
    described = {
        "id": backend,
        "target": target,
        "driver": {"name": backend.partition(":")[0], "version": "1.0", "implementation": "", "url": ""},
        "capabilities": {"declared": ["locking", "state"], "disabled": list(disabled)},
        "given": {},
        "options": {},
    }
    suite = {
        "name": "lockproof",
        "version": "0.1.0",
        "requirements": digest or requirements_digest(),
        "files": {"suites": files * 64},
    }
    chosen = {name: cited for name, cited in tests.items() if (statuses or {}).get(name) != ""}
    entries = [
        {
            "id": f"{name}[{backend}]",
            "test": name,
            "backend": backend,
            "requirements": [cited] if cited else [],
            "sentence": "It holds.",
            "state": "run",
            "reason": "",
        }
        for name, cited in chosen.items()
    ]
    found = []
    for entry in entries:
        status = (statuses or {}).get(str(entry["test"]), "pass")
        named = {key: entry[key] for key in ("id", "test", "backend", "requirements", "sentence")}
        reason = "" if status in {"pass", "fail"} else f"because of {status}"
        shown = {"failure": failure if status in {"fail", "unknown", "error"} else None, "counts": None}
        found.append(
            {"event": "result", **named, "status": status, "reason": reason, "duration": 0.1, **shown}
        )
    return [
        {"event": "start", "v": 1, "suite": suite, "run": facts, "backends": [described]},
        {"event": "manifest", "tests": entries, "out_of_scope": 0, "narrowed": narrowed},
        *found,
        *([{"event": "finish", "time": "2026-01-02T03:05:05Z", "exit": 0}] if finished else []),
    ]


def report(statuses: Mapping[str, str] | None = None, **about: Any) -> dict[str, Any]:
    """The report of such a run; see `events`."""
    return build(events(statuses, **about))


def written(folder: Path, statuses: Mapping[str, str] | None = None, **about: Any) -> Path:
    """A run folder that holds such a report."""
    return put(folder, report(statuses, **about))


def put(folder: Path, document: Mapping[str, Any]) -> Path:
    """A run folder that holds the report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(document), encoding="utf-8")
    return folder
