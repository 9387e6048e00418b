"""The suites have teeth: every broken backend is caught, and for what it breaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

from lockproof import teeth
from lockproof.fakes.saboteurs import catalogue
from lockproof.fakes.saboteurs.catalogue import Saboteur, saboteurs
from lockproof.suites.meta.saboteur_runs import SharedRuns, shared_runs
from lockproof.teeth.bites import catches
from lockproof.teeth.schedules import kill, programs_of

TIMING = [saboteur for saboteur in saboteurs() if saboteur.timing]
NO_LOCK = Saboteur("no-lock", "LOCK-EXCL-001", "Grants all.", "py:any:thing", ("locks",), ("LOCK-ERR-001",))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SharedRuns:
    """The results of all saboteurs."""
    return shared_runs(saboteurs(), tmp_path_factory)


def runnable(saboteur: Saboteur) -> ParameterSet:
    """The saboteur as a parameter, skipped where its tests need a program that is not here."""
    needs = f"needs {' or '.join(saboteur.programs)} on PATH"
    return pytest.param(
        saboteur, id=saboteur.name, marks=pytest.mark.skipif(not saboteur.can_run(), reason=needs)
    )


@pytest.mark.parametrize("saboteur", [runnable(saboteur) for saboteur in saboteurs()])
def test_saboteur_is_caught_for_the_requirement_that_it_breaks(saboteur: Saboteur, runs: SharedRuns) -> None:
    """A test that cites the broken requirement fails, and none that cites only kept ones."""
    bite = teeth.bite(saboteur, runs.of(saboteur))
    assert bite.test, f"no test of {saboteur.breaks} fails: {saboteur.story}"
    assert bite.strays == (), "tests fail that cite only requirements which this saboteur keeps"


@pytest.mark.parametrize("saboteur", TIMING, ids=lambda saboteur: saboteur.name)
def test_saboteur_of_timing_is_killed_by_a_schedule_that_replays(
    saboteur: Saboteur, runs: SharedRuns
) -> None:
    """A program of a test that caught it finds the bug again, in a schedule that fails again when it is
    loaded; the first schedules, of one client after the other, do not."""
    tests = [result["test"] for result in catches(saboteur, runs.of(saboteur))]
    killed = kill(saboteur, programs_of(tests))
    assert killed is not None, f"no program of {tests} finds it: {saboteur.story}"
    assert killed.replays, killed
    assert killed.schedules > 2, "this needs no interleaving"


def test_every_must_has_a_saboteur() -> None:
    """No MUST is without a backend that breaks it."""
    assert teeth.without_saboteur(saboteurs()) == []


def result(status: str, *requirements: str, test: str = "test_it") -> dict[str, Any]:
    return {"test": f"suites/locks/{test}", "status": status, "requirements": requirements, "duration": 0.5}


def test_a_failure_of_a_citing_test_is_a_catch() -> None:
    """The first failing test that cites the broken requirement caught the saboteur."""
    bite = teeth.bite(
        NO_LOCK,
        [
            result("pass", "LOCK-EXCL-001", test="first"),
            result("fail", "LOCK-EXCL-001", test="second"),
            result("fail", "LOCK-EXCL-001", test="third"),
            result("fail", "LOCK-ERR-001", test="fourth"),
        ],
    )
    assert (bite.test, bite.seconds, bite.strays) == ("suites/locks/second", 0.5, ())
    assert bite.clean


@pytest.mark.parametrize("status", ["pass", "unknown", "error", "skip", "xpass"])
def test_anything_but_a_failure_is_no_catch(status: str) -> None:
    """A test that could not tell, or broke, has caught nothing."""
    assert teeth.bite(NO_LOCK, [result(status, "LOCK-EXCL-001")]).test == ""


@pytest.mark.parametrize("status", ["fail", "unknown", "error"])
def test_a_failure_of_what_is_kept_is_a_stray(status: str) -> None:
    """A test that fails on a requirement which the saboteur keeps is reported."""
    bite = teeth.bite(
        NO_LOCK, [result("fail", "LOCK-EXCL-001"), result(status, "STATE-RT-001", test="other")]
    )
    assert bite.strays == ("suites/locks/other",)
    assert not bite.clean


def harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue with one entry that breaks nothing."""
    entry = Saboteur("harmless", "STATE-RT-001", "Breaks nothing.", "memory", ("smoke",))
    monkeypatch.setattr(teeth, "saboteurs", lambda: (entry,))


def test_an_uncaught_saboteur_makes_the_exit_code_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A saboteur that no test fails is shown as not caught."""
    harmless(monkeypatch)
    assert teeth.run(["harmless"]) == 1
    assert "NOT CAUGHT" in capsys.readouterr().out


def test_a_must_without_saboteur_makes_the_exit_code_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of all saboteurs names every MUST that none of them breaks."""
    monkeypatch.setattr(teeth, "saboteurs", tuple)
    assert teeth.run() == 1
    assert "LOCK-EXCL-001 has no saboteur" in capsys.readouterr().out


def test_a_caught_saboteur_makes_the_exit_code_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """The table names saboteur, requirement and test; as JSON too."""
    assert teeth.run(["local-time"], form="json") == 0
    (row,) = json.loads(capsys.readouterr().out)["saboteurs"]
    assert (row["saboteur"], row["requirement"]) == ("local-time", "LOCK-HOLD-003")
    assert row["test"] == "suites/locks/test_holder.py::test_the_holders_time_is_an_rfc_3339_time"
    assert row["clean"]


def test_an_unknown_name_is_one_line_with_the_nearest() -> None:
    """A saboteur that is not there is refused with a proposal."""
    with pytest.raises(ValueError, match=r"no saboteur named no-lok; did you mean no-lock\?"):
        teeth.run(["no-lok"])


def test_a_run_that_breaks_down_says_what_pytest_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that cannot be made is an error with pytest's words, not a table."""
    entry = Saboteur("lost", "STATE-RT-001", "Is not there.", "py:lockproof.nowhere:Driver", ("smoke",))
    monkeypatch.setattr(teeth, "saboteurs", lambda: (entry,))
    with pytest.raises(teeth.TeethError, match=r"lost.*lockproof\.nowhere"):
        teeth.run(["lost"])


def test_the_catalogue_refuses_a_name_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two entries with one name, or one backend, are an error."""
    twice = [Saboteur("one", "STATE-RT-001", "", f"py:a:{n}", ()) for n in range(2)]
    with pytest.raises(ValueError, match="name 'one' is registered twice"):
        catalogue._require_unique(twice)
