"""Derives `report.json` from the events of a run, finished or not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from lockproof.report import faults, latency
from lockproof.report.observed import observe
from lockproof.report.status import STATUSES, roll_up, verdict

SCHEMA_VERSION = 1


def schema() -> dict[str, Any]:
    """The JSON Schema (Draft 2020-12) of `report.json`."""
    text = files("lockproof.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def build(
    events: Sequence[Mapping[str, Any]],
    histories: Path | None = None,
    levels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The report of a run. Tests that were expected and have no result are `not-run`.

    With the folder of `histories`, latencies are taken from them. `levels` are those of the requirements
    where the run was held to another registry than the installed one.
    """
    start = events[0]
    manifest = next((event for event in events if event["event"] == "manifest"), None)
    finish = next((event for event in events if event["event"] == "finish"), None)
    expected = {test["id"]: test for test in (manifest["tests"] if manifest else [])}
    results = {event["id"]: event for event in events if event["event"] == "result"}
    why = "the run stopped before it" if finish else "the run did not finish"
    for name, test in expected.items():
        if name not in results:
            reason = test["reason"] if test["state"] == "not-run" else why
            results[name] = {**test, "status": "not-run", "reason": reason, "duration": 0.0, "failure": None}
    narrowed = manifest["narrowed"] if manifest else ""
    seen = observe(histories) if histories else {}
    order = {name: number for number, name in enumerate(expected)}
    ordered = sorted(results.values(), key=lambda r: (order.get(r["id"], len(order)), r["id"]))
    return {
        "schema": SCHEMA_VERSION,
        "suite": start["suite"],
        "run": {
            **start["run"],
            "finished": finish["time"] if finish else None,
            "complete": finish is not None,
            "out_of_scope": manifest["out_of_scope"] if manifest else 0,
            "narrowed": narrowed,
        },
        "backends": [
            {
                **_backend(
                    backend,
                    [r for r in ordered if r["backend"] == backend["id"]],
                    narrowed,
                    histories,
                    levels,
                ),
                **seen.get(backend["id"], {"contention": [], "windows": []}),
            }
            for backend in start["backends"]
        ],
    }


def _backend(
    backend: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    narrowed: str,
    histories: Path | None,
    levels: Mapping[str, str] | None,
) -> dict[str, Any]:
    rows = latency.measured(results, backend["target"])
    rolled = latency.judged(roll_up(results, levels), rows, backend["target"])
    counts = Counter(result["status"] for result in results)
    return {
        **backend,
        "verdict": verdict(results, rolled, narrowed),
        "counts": {status: counts[status] for status in STATUSES},
        "requirements": rolled,
        "results": [
            {
                "id": result["id"],
                "test": result["test"],
                "summary": result["sentence"],
                "requirements": list(result["requirements"]),
                "status": result["status"],
                "reason": result["reason"],
                "duration": result["duration"],
                "counts": result.get("counts"),
                "failure": result["failure"],
            }
            for result in results
        ],
        "faults": faults.summary(results),
        "latency": [
            *rows,
            *(latency.summarise(histories, backend["id"], backend["target"]) if histories else []),
        ],
        "cost": latency.costs(results),
    }
