"""Statuses and exit codes: each as documented, alone and together."""

from __future__ import annotations

import pytest

from lockproof.suites.meta.runs import EXPECTED_STATUSES, run_every_status, run_here

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_every_test_has_exactly_one_status(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """Each of the ten statuses is given to just the tests that earn it, also by xdist workers."""
    run = run_every_status(pytester, *workers)
    assert run.statuses() == EXPECTED_STATUSES
    left = {path.name for path in run.folder.iterdir()}
    assert left == {"events.ndjson", "report.json", "report.html", "report.md", "junit.xml", "histories"}
    assert len(run.report["backends"][0]["results"]) == len(EXPECTED_STATUSES)


@pytest.mark.parametrize(
    ("chosen", "code"),
    [
        ("test_pass", 0),
        ("test_fail", 1),
        ("test_fail_by_violation", 1),
        ("test_error_in_setup", 1),
        ("test_error_in_body", 1),
        ("test_error_in_teardown", 1),
        ("test_unknown", 1),
        ("test_not_run", 0),
        ("test_skip", 0),
        ("test_disabled", 0),
        ("test_xfail", 0),
        ("test_xpass", 1),
        ("test_flaky", 0),
    ],
)
def test_exit_code_follows_from_the_status(pytester: pytest.Pytester, chosen: str, code: int) -> None:
    """A run of one test ends with the code of that test's status."""
    run = run_every_status(pytester, f"--deselect=nothing::{chosen}", f"-k={chosen} and not {chosen}_")
    assert run.result(chosen)["status"] == EXPECTED_STATUSES[chosen]
    assert run.code == code


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_nothing_collected_is_a_usage_error(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """A selection that leaves no test exits with 4, not with success and not with 5."""
    run = run_every_status(pytester, "-k=no_such_test", *workers)
    assert run.code == 4
    assert set(run.statuses().values()) == {"not-run"}


def test_stopped_run_leaves_the_rest_not_run(pytester: pytest.Pytester) -> None:
    """After -x every remaining test is not-run, and the code is 1."""
    run = run_every_status(pytester, "-x")
    assert run.code == 1
    assert run.result("test_fail")["status"] == "fail"
    assert run.result("test_flaky")["status"] == "not-run"
    assert "stopped" in run.result("test_flaky")["reason"]


def test_deselected_tests_are_not_run(pytester: pytest.Pytester) -> None:
    """What -k leaves out is in the report as not-run, and the verdict is inconclusive."""
    run = run_every_status(pytester, "-k=test_pass")
    assert run.code == 0
    assert run.statuses() == dict.fromkeys(EXPECTED_STATUSES, "not-run") | {"test_pass": "pass"}
    assert {run.result(name)["reason"] for name in EXPECTED_STATUSES if name != "test_pass"} == {"deselected"}
    assert run.report["backends"][0]["verdict"]["result"] == "inconclusive"


def test_crashed_worker_is_an_error_of_its_test(pytester: pytest.Pytester) -> None:
    """The test that kills its worker is an error; the others still have their own status."""
    pytester.makepyfile(
        test_crash="""
        import os

        def test_kills_its_process(alice):
            os._exit(9)

        def test_is_well(alice):
            assert alice.get("default") is None
        """
    )
    run = run_here(pytester, "-n1", "test_crash.py")
    assert run.code == 1
    assert run.statuses() == {"test_kills_its_process": "error", "test_is_well": "pass"}


def test_violation_outweighs_a_failing_tear_down(pytester: pytest.Pytester) -> None:
    """A test that failed stays failed when its tear-down breaks too; both are told."""
    pytester.makepyfile(
        test_both="""
        import pytest

        @pytest.fixture
        def leaky():
            yield
            raise RuntimeError("cannot clean up")

        def test_both(backend, leaky):
            assert backend.id == "another"
        """
    )
    run = run_here(pytester, "test_both.py")
    assert run.result("test_both")["status"] == "fail"
    assert "tear-down failed" in run.result("test_both")["reason"]


def test_file_of_the_project_that_cannot_be_imported_fails_the_run(pytester: pytest.Pytester) -> None:
    """A broken file beside good ones is code 1 and hides none of their results."""
    pytester.makepyfile(
        test_broken="import no_such_module", test_good="def test_good(backend): assert backend.id"
    )
    run = run_here(pytester, "test_broken.py", "test_good.py")
    assert run.code == 1
    assert run.statuses() == {"test_good": "pass"}
    assert "no_such_module" in run.output
