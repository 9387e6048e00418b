"""Which tests run, which do not, and that the reason is always said."""

from __future__ import annotations

import pytest

from lockproof.plugin.collect import DEFAULT_SUITES, narrowings, suite_root
from lockproof.suites.meta.runs import run_here

pytest_plugins = ["pytester"]

TESTS = """
import pytest

from lockproof.spec import needs, requirement, tier

ran = []

@requirement("LOCK-EXCL-001")
def test_locks(backend):
    pass

@requirement("STATE-RT-001")
def test_states(backend):
    pass

@tier("smoke")
@requirement("STATE-ABS-001")
def test_at_once(backend):
    pass

@tier("full")
@requirement("STATE-RT-001")
def test_slow(backend):
    pass

@needs("clients.process")
def test_processes(backend):
    raise AssertionError("gated too late")

@requirement("LOCK-FORCE-001")
def test_forces(backend):
    pass

@requirement("LOCK-NOSUCH-001")
def test_cites_nothing_known(backend):
    pass

def test_of_the_project():
    pass
"""


@pytest.fixture
def gated(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_gated=TESTS)
    return pytester


def test_header_says_what_is_tested_and_how_much_applies(gated: pytest.Pytester) -> None:
    """Backend, version, target, capabilities, seed, and how many of how many tests apply."""
    run = run_here(gated, "test_gated.py", "--backend-seed=11", "--backend-without=locking.force-unlock")
    assert any(line.startswith("backend: memory 0.") and "target local" in line for line in run.lines)
    listed = next(line for line in run.lines if line.startswith("  capabilities: "))
    assert "locking.holder-info" in listed
    assert "switched off: locking.force-unlock" in listed
    assert any(line.startswith("lockproof: seed 11, tier default, run folder run") for line in run.lines)
    counts = "lockproof: 3 of 7 tests apply (1 skip, 1 disabled, 1 broken, 1 of other tiers or requirements)"
    assert counts in run.lines


def test_reason_names_the_capability(gated: pytest.Pytester) -> None:
    """Not declared is `skip`, switched off is `disabled`; both name the capability and run nothing."""
    run = run_here(gated, "test_gated.py", "--backend-without=locking")
    results = {name: run.result(name) for name in ("test_processes", "test_locks", "test_forces")}
    assert {name: (r["status"], r["reason"]) for name, r in results.items()} == {
        "test_processes": ("skip", "not declared: clients.process"),
        "test_locks": ("disabled", "switched off by --backend-without: locking"),
        "test_forces": ("disabled", "switched off by --backend-without: locking.force-unlock"),
    }
    assert run.report["backends"][0]["capabilities"]["disabled"] == [
        "locking",
        "locking.fencing",
        "locking.fencing-strict",
        "locking.force-unlock",
        "locking.holder-info",
        "locking.release-nonce",
    ]


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        ("smoke", {"test_at_once"}),
        ("default", {"test_at_once", "test_locks", "test_states", "test_forces"}),
        ("full", {"test_at_once", "test_locks", "test_states", "test_forces", "test_slow"}),
    ],
)
def test_tier_runs_its_own_and_all_earlier_tests(
    gated: pytest.Pytester, tier: str, expected: set[str]
) -> None:
    """A tier is how much to run: each holds those before it."""
    run = run_here(gated, "test_gated.py", f"--backend-tier={tier}")
    passed = {name for name, status in run.statuses().items() if status == "pass"}
    assert passed == expected


def test_requirement_pattern_chooses_tests(gated: pytest.Pytester) -> None:
    """--backend-req runs what cites such a requirement; the others are counted, not lost."""
    run = run_here(gated, "test_gated.py", "--backend-req=STATE-*")
    assert run.statuses() == {"test_states": "pass", "test_at_once": "pass"}
    assert run.report["run"]["out_of_scope"] == 5
    assert "only requirements STATE-* were run" in "; ".join(run.report["backends"][0]["verdict"]["reasons"])


def test_unknown_requirement_is_an_error_of_its_test(gated: pytest.Pytester) -> None:
    """A typo in a citation cannot pass."""
    run = run_here(gated, "test_gated.py", "-k=test_cites_nothing_known")
    assert run.code == 1
    result = run.result("test_cites_nothing_known")
    assert (result["status"], result["requirements"]) == ("error", [])
    assert "LOCK-NOSUCH-001" in result["failure"]["observed"]


def test_tests_without_backend_run_and_are_not_reported(gated: pytest.Pytester) -> None:
    """A project's other tests run as ever and are none of the report's business."""
    run = run_here(gated, "test_gated.py", "-k=test_of_the_project or test_states", "-v")
    assert "test_gated.py::test_of_the_project PASSED" in run.output
    assert "test_of_the_project" not in run.statuses()


@pytest.mark.parametrize(
    ("paths", "suites", "narrowed"),
    [
        ([], DEFAULT_SUITES, []),
        ([], (*DEFAULT_SUITES, "clients"), []),
        ([], ("clients",), ["only suite clients was run"]),
        ([str(suite_root())], DEFAULT_SUITES, []),
        ([str(suite_root() / "locks")], DEFAULT_SUITES, ["only suites/locks was run"]),
        (
            [f"{suite_root()}/smoke/test_smoke.py::x"],
            DEFAULT_SUITES,
            ["only suites/smoke/test_smoke.py::x was run"],
        ),
    ],
)
def test_narrowed_run_says_so(paths: list[str], suites: tuple[str, ...], narrowed: list[str]) -> None:
    """Whatever leaves out a part of the default suites is named; nothing else is."""
    assert list(narrowings(paths, suites, (), "default")) == narrowed


def test_suites_are_chosen_by_name(pytester: pytest.Pytester) -> None:
    """--backend-suite collects those folders; the verdict says that it is about no more than these."""
    run = run_here(pytester, "--backend-suite=smoke")
    assert {r["test"].split("/")[1] for r in run.report["backends"][0]["results"]} == {"smoke"}
    verdict = run.report["backends"][0]["verdict"]
    assert (verdict["result"], verdict["reasons"]) == ("inconclusive", ["only suite smoke was run"])


def test_whole_run_of_a_sound_backend_is_conformant(pytester: pytest.Pytester) -> None:
    """The default suites on the memory driver: conformant, every MUST that applies is met."""
    run = run_here(pytester)
    assert run.code == 0, run.output
    verdict = run.report["backends"][0]["verdict"]
    assert (verdict["result"], verdict["reasons"]) == ("conformant", [])
    assert verdict["must"]["met"] == verdict["must"]["applicable"] > 40
