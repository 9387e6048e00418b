"""Reports and histories, made by hand, that the page of a report is drawn from."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

from lockproof.history import History
from lockproof.report.status import STATUSES, roll_up, verdict
from lockproof.suites.meta.stories import Story

HOSTILE = (
    "</script><script>alert(1)</script>\"'`--><img src=x onerror=alert(1)></svg>$x^2$\x00\u2028&lt;{{7*7}}"
)


def contended(clients: int) -> History:
    """A history in which one holds the lock, the others are refused once, and all but the last get it, one
    millisecond between two events."""
    story = Story(test="test_every.py::test_fail[memory]")
    names = ("holder", "one", "two", "three")[:clients]
    story.lock("holder")
    for name in names[1:]:
        story.refused(name, "holder")
    for before, name in itertools.pairwise(names[:-1]):
        story.unlock(before)
        story.lock(name)
    told = story.history()
    slowly = tuple(replace(event, t=event.t * 1000) for event in told.events)
    return History(told.header, slowly, True, told.names)


def every_status() -> dict[str, Any]:
    """A run of `memory` with one test of every status, of which one failed with a history."""
    results = [
        result(f"test_{status.replace('-', '_')}", status, [] if status != "pass" else ["STATE-RT-001"])
        for status in STATUSES
    ]
    results[0]["requirements"] = ["LOCK-EXCL-001"]
    results[0]["failure"] = {
        "phase": "call",
        "expected": "A held lock is refused.",
        "observed": "AssertionError: assert None == 'hunter'",
        "where": "test_every.py:41",
        "operations": ["#1 holder lock default → ok", "#4 one lock default → refused: held by holder"],
        "history": "test_every.test_fail-memory.jsonl",
        "program": "print('again')",
        "traceback": "Traceback: here",
    }
    return report(results)


def with_plots() -> dict[str, Any]:
    """The same with latencies against targets and in passing, contention and a window of a fault."""
    made = every_status()
    passing = {"op": "get", "n": 400, "p50": 1.0, "p95": 2.0, "p99": 3.0, "target": None, "met": None}
    aimed = {
        "op": "lock",
        "n": 100,
        "p50": 3.1,
        "p95": 4.9,
        "p99": 7.0,
        "target": 50.0,
        "met": True,
        "basis": "performance",
        "size_bytes": 10_000,
        "status": "met",
        "requirement": "PERF-LOCK-001",
        "intervals": {"p50": [3.0, 3.2], "p95": [4.5, 5.6], "p99": [6.0, None]},
        "simulated": True,
        "profile": "same-region, warehouse warm",
        "round_trip": None,
        "workers": 1,
        "samples": [3.0, 3.1, 4.9, 7.0],
    }
    cost = {
        "operation": "lock",
        "requests": {"files.download": 1},
        "statements": {"INSERT": 1},
        "logins": 0,
        "bytes_up": 123,
        "bytes_down": 4_560,
    }
    waiters = [
        {"client": "one", "granted": 1, "refused": 3, "median_ms": 4.0, "longest_ms": 4.0},
        {"client": "two", "granted": 0, "refused": 5, "median_ms": None, "longest_ms": None},
        {"client": "three", "granted": 2, "refused": 1, "median_ms": 9.0, "longest_ms": 12.0},
    ]
    test = "test_every.py::test_fail[memory]"
    fault = {"fault": "net.drop", "tests": 1, "injected": 1, "hits": 2, "operations": 3, "unknown": 1}
    window = {
        "test": test,
        "ms": 100.0,
        "faults": [{"fault": "net.drop", "start": 10.0, "stop": None}],
        "calls": [{"call": "put", "outcome": "unknown", "start": 20.0, "stop": None}],
    }
    made["backends"][0] |= {
        "latency": [aimed, passing],
        "cost": [cost],
        "contention": [{"test": test, "workspace": "default", "waiters": waiters}],
        "windows": [window],
        "faults": [{**fault, "violations": 1}],
    }
    return made


def hostile() -> dict[str, Any]:
    """The same from somebody who would like to have a script run."""
    structure = {"status", "level", "result", "target", "id", "requirements", "basis", "outcome", "history"}

    def spoilt(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: spoilt(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return value if key in structure else [spoilt(part, key) for part in value]
        return f"{value}{HOSTILE}" if isinstance(value, str) and key not in structure else value

    made = with_plots()
    backend = made["backends"][0]
    rolled = backend["requirements"]
    return {**made, "backends": [{**spoilt(backend), "requirements": rolled}], "run": spoilt(made["run"])}


def result(name: str, status: str, cited: list[str]) -> dict[str, Any]:
    """The result of one test."""
    return {
        "id": f"test_every.py::{name}[memory]",
        "test": f"test_every.py::{name}",
        "summary": f"The sentence of {name}.",
        "requirements": cited,
        "status": status,
        "reason": "" if status in {"pass", "fail"} else f"why it is {status}",
        "duration": 0.1,
        "counts": None,
        "failure": None,
    }


def report(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The report of a run of `memory` with these results."""
    rolled = roll_up(results)
    counts = Counter(result["status"] for result in results)
    return {
        "schema": 1,
        "suite": {"name": "lockproof", "version": "0.1.0", "requirements": "0" * 64, "files": {}},
        "run": {
            "id": "abcdef",
            "started": "2026-01-02T03:04:05Z",
            "finished": "2026-01-02T03:05:05Z",
            "complete": True,
            "argv": ["pytest", "--backend=memory"],
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
            "python": "3.11.7",
            "platform": "Linux",
            "out_of_scope": 0,
            "narrowed": "",
        },
        "backends": [
            {
                "id": "memory",
                "target": "local",
                "driver": {"name": "memory", "version": "1", "implementation": "", "url": "javascript:x"},
                "capabilities": {"declared": ["state", "locking"], "disabled": []},
                "given": {},
                "options": {"path": "here"},
                "verdict": verdict(results, rolled),
                "counts": {status: counts[status] for status in STATUSES},
                "requirements": rolled,
                "results": results,
                "faults": [],
                "contention": [],
                "windows": [],
                "latency": [],
            }
        ],
    }
