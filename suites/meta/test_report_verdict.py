"""The verdict of a backend follows from the statuses of its tests, and from nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from lockproof.report.status import STATUSES, roll_up, strongest, verdict
from lockproof.spec import requirements

MUST = "LOCK-EXCL-001"
OTHER_MUST = "STATE-RT-001"
SHOULD = next(r.id for r in requirements().values() if r.level == "SHOULD")


def result(status: str, *cited: str) -> dict[str, Any]:
    return {"id": f"{status}{cited}", "status": status, "requirements": list(cited)}


def judged(*results: dict[str, Any], narrowed: str = "") -> str:
    return str(verdict(results, roll_up(results), narrowed)["result"])


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("pass", "conformant"),
        ("fail", "nonconformant"),
        ("xpass", "nonconformant"),
        ("xfail", "nonconformant"),
        ("error", "inconclusive"),
        ("unknown", "inconclusive"),
        ("not-run", "inconclusive"),
        ("flaky", "inconclusive"),
        ("disabled", "partial"),
        ("skip", "conformant"),
    ],
)
def test_status_of_one_must_beside_a_good_one(status: str, expected: str) -> None:
    """Each status of a MUST has its own consequence."""
    assert judged(result("pass", OTHER_MUST), result(status, MUST)) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [("fail", "partial"), ("xfail", "partial"), ("error", "inconclusive"), ("pass", "conformant")],
)
def test_should_is_not_a_must(status: str, expected: str) -> None:
    """A SHOULD that fails makes a backend partial, not nonconformant."""
    assert judged(result("pass", MUST), result(status, SHOULD)) == expected


def test_violation_outweighs_doubt_and_doubt_outweighs_a_gap() -> None:
    """nonconformant, then inconclusive, then partial."""
    failed, unsure, gap = result("fail", MUST), result("unknown", OTHER_MUST), result("fail", SHOULD)
    good = result("pass", OTHER_MUST)
    assert judged(failed, unsure, gap) == "nonconformant"
    assert judged(good, unsure, gap) == "inconclusive"
    assert judged(good, gap) == "partial"


def test_nothing_proved_is_not_conformant() -> None:
    """Green by absence: no test at all, or none of a MUST, proves nothing."""
    assert judged() == "inconclusive"
    assert judged(result("skip", MUST)) == "inconclusive"
    assert judged(result("pass", SHOULD)) == "inconclusive"


def test_selection_is_inconclusive() -> None:
    """A part of the suites cannot certify a backend."""
    assert judged(result("pass", MUST), narrowed="only suite smoke was run") == "inconclusive"


def test_failure_without_requirement_is_not_conformant() -> None:
    """A failing test that cites nothing still bars `conformant`."""
    assert judged(result("pass", MUST), result("fail")) == "partial"


def test_what_was_switched_off_is_put_down_to_no_option_in_particular() -> None:
    """Several options disable tests; each test's own reason says which."""
    results = [result("pass", MUST), result("disabled", OTHER_MUST)]
    assert verdict(results, roll_up(results))["reasons"] == ["1 tests disabled by options"]


def test_requirement_has_its_strongest_status() -> None:
    """One failing test of several decides; a pass never hides anything but absence."""
    assert strongest(["pass", "unknown", "fail", "skip"]) == "fail"
    assert strongest(["pass", "skip", "disabled"]) == "pass"
    assert sorted(STATUSES) == sorted(
        ["pass", "fail", "error", "unknown", "skip", "disabled", "xfail", "xpass", "flaky", "not-run"]
    )
    rolled = roll_up([result("pass", MUST), result("fail", MUST, OTHER_MUST), result("pass", SHOULD)])
    assert {r["id"]: (r["level"], r["status"], len(r["tests"])) for r in rolled} == {
        MUST: ("MUST", "fail", 2),
        OTHER_MUST: ("MUST", "fail", 1),
        SHOULD: ("SHOULD", "pass", 1),
    }
