"""A target that is missed stands in the report: on a real service as a SHOULD that is not met, on a fake as
simulated, and never as a test that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lockproof.report.latency import costs, judged, measured, summarise
from lockproof.report.latency_table import tables
from lockproof.report.status import roll_up, verdict
from lockproof.spec import requirements

LOCK = "PERF-LOCK-001"
FAST, SLOW, ASTRIDE = [4.0] * 80, [60.0] * 80, [4.0] * 75 + [60.0] * 5
TARGETS = {"PERF-GET-001": 3000, "PERF-PUT-001": 5000, "PERF-LOCK-001": 50, "PERF-LOCK-002": 2000}
"""The RFC's table, in milliseconds."""


def result(samples: list[float], *, workers: int = 1, status: str = "pass") -> dict[str, Any]:
    """What a test of the suite tells."""
    measurement = {
        "operation": "lock",
        "size_bytes": None,
        "requirement": LOCK,
        "samples": samples,
        "profile": "same-region",
        "round_trip": {"postgres": 0.2},
        "workers": workers,
    }
    return {"id": "t", "status": status, "requirements": [LOCK], "counts": [measurement]}


def status_of(samples: list[float], target: str, **told: Any) -> str:
    """The status of the requirement after one test."""
    results = [result(samples, **told)]
    (rolled,) = judged(roll_up(results), measured(results, target), target)
    return str(rolled["status"])


def test_the_targets_are_those_of_the_rfc() -> None:
    """Four requirements have a target, the RFC's, and say it in their text; none is a MUST."""
    found = {r.id: r for r in requirements().values() if r.target_ms is not None}
    assert {name: requirement.target_ms for name, requirement in found.items()} == TARGETS
    for requirement in found.values():
        assert requirement.target_ms is not None
        assert requirement.level == "SHOULD"
        words = (f"{requirement.target_ms:g} ms", f"{requirement.target_ms / 1000:g} seconds")
        assert any(word in requirement.text for word in words)


@pytest.mark.parametrize(
    ("samples", "row", "real"),
    [
        (FAST, "met", "pass"),
        (SLOW, "missed", "fail"),
        (ASTRIDE, "undecided", "unknown"),
        (FAST[:71], "undecided", "unknown"),
    ],
)
def test_the_interval_decides(samples: list[float], row: str, real: str) -> None:
    """Met, missed and undecided become the status of the requirement where the service is real."""
    (found,) = measured([result(samples)], "real")
    assert (found["status"], found["target"]) == (row, 50)
    assert found["met"] == {"met": True, "missed": False, "undecided": None}[row]
    assert status_of(samples, "real") == status_of(samples, "local") == real


@pytest.mark.parametrize("samples", [FAST, SLOW, ASTRIDE])
def test_a_fake_proves_no_target(samples: list[float]) -> None:
    """On a fake the row is labelled as simulated, and the requirement does not apply, met or missed."""
    (found,) = measured([result(samples)], "fake")
    assert found["simulated"] is True
    assert status_of(samples, "fake") == "skip"
    (shown,) = (rows for title, rows in tables({"latency": [found], "cost": []}) if title.startswith("Times"))
    assert shown[1][-1] == "simulated: same-region"


def test_a_test_that_failed_stays_failed() -> None:
    """A state that does not read back is no matter of time: the measurement hides it nowhere."""
    assert status_of(FAST, "real", status="fail") == "fail"
    assert status_of(FAST, "fake", status="error") == "error"


def test_beside_other_workers_nothing_is_missed() -> None:
    """Who shares the machine can only be slower: then too slow is undecided, and fast enough is met."""
    assert status_of(SLOW, "real", workers=2) == "unknown"
    assert status_of(FAST, "real", workers=2) == "pass"


def test_a_missed_target_makes_a_backend_partial_at_worst() -> None:
    """The verdict is that of a SHOULD."""
    proved = {"id": "u", "status": "pass", "requirements": ["LOCK-EXCL-001"]}
    results = [result(SLOW), proved]
    rolled = {
        target: judged(roll_up(results), measured(results, target), target) for target in ("real", "fake")
    }
    assert verdict(results, rolled["real"])["result"] == "partial"
    assert verdict(results, rolled["fake"])["result"] == "conformant"


def test_costs_are_told_as_counted() -> None:
    """What a test counted is in the report and its table, unchanged."""
    cost = {
        "operation": "lock",
        "requests": {"Download a file": 1},
        "statements": {"INSERT": 1},
        "logins": 0,
        "bytes_up": 5,
        "bytes_down": 7,
    }
    found = costs([{"counts": [cost]}, {"counts": None}, result(FAST)])
    assert found == [cost]
    ((title, rows),) = tables({"latency": [], "cost": found})
    assert title == "What one call costs:"
    assert rows[1] == ["lock", "1 Download a file", "1 INSERT", "0", "5", "7"]


def test_histories_of_measurements_are_not_counted_twice(tmp_path: Path) -> None:
    """The calls of the suite `performance` have rows of their own."""
    for number, test in enumerate(("suites/locks/test_x.py::test_y", "suites/performance/test_x.py::test_y")):
        lines = [
            f'{{"header":{{"v":1,"test":"{test}","backend":"b","clock":"monotonic_ns"}}}}',
            '{"i":0,"t":0,"p":0,"e":"invoke","f":"get","ws":"default"}',
            '{"i":1,"t":2000000,"p":0,"e":"ok","f":"get","ws":"default","out":{"value":null}}',
            '{"footer":{"ops":1,"closed":true}}',
        ]
        (tmp_path / f"{number}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (row,) = summarise(tmp_path, "b", "fake")
    assert (row["op"], row["n"], row["p95"], row["basis"]) == ("get", 1, 2.0, "histories")
