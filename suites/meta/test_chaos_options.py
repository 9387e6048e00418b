"""Which faults a run injects: `--backend-faults`, `--backend-allow-destructive`, and what the report says."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from lockproof.report.build import schema
from lockproof.report.faults import counted, summary
from lockproof.suites.meta.runs import run_here
from lockproof.suites.meta.tape import Tape

pytest_plugins = ["pytester"]

TESTS = """
from lockproof.chaos.nemesis import Nemesis
from lockproof.driver import DriverInfo
from lockproof.driver.memory import MemoryDriver
from lockproof.spec import faults, requirement


class Real(MemoryDriver):
    def __init__(self, options):
        super().__init__(options)
        self.info = DriverInfo("real", "1", target="real")


class Noise(Nemesis):
    name = "net.noise"

    def strike(self, arena, rng):
        arena.observer.get("default")

    def lift(self, arena):
        pass

    def struck(self):
        return 3


@faults("net")
@requirement("STATE-RT-001")
def test_network(arena):
    noise = Noise(on="ann")
    arena.inject(noise)
    arena.observer.get("default")
    arena.heal()


@faults("net", "kill")
@requirement("STATE-RT-001")
def test_both(arena):
    arena.inject(Noise(on="ben"))
    arena.heal()
    assert False, "broken"


@faults("kill")
@requirement("STATE-RT-001")
def test_processes(backend):
    pass


@faults("postgres", destructive=True)
@requirement("STATE-RT-001")
def test_hurts(backend):
    assert backend.duration == 12.5


@requirement("STATE-RT-001")
def test_calm(backend):
    pass
"""
SOAK = ("--backend-tier=soak", "--backend-duration=12.5")


@pytest.fixture
def marked(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_marked=TESTS)
    return pytester


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (
            "--backend-faults=nte",
            "--backend-faults: no family of faults named 'nte' (did you mean net?): net, ",
        ),
        ("--backend-faults=net,postgers", "named 'postgers' (did you mean postgres?)"),
        ("--backend-duration=0", "--backend-duration needs a positive, finite number of seconds"),
        ("--backend-duration=long", "--backend-duration must be a number, not 'long'"),
        ("--backend-duration=9", "--backend-duration is for tests of tier soak: add --backend-tier=soak"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_four(
    marked: pytest.Pytester, option: str, complaint: str
) -> None:
    """The option, what is wrong with it, and what there is."""
    run = run_here(marked, "test_marked.py", option)
    assert run.code == 4
    (line,) = [line for line in run.lines if complaint in line]
    assert line.startswith("ERROR: ")


def test_families_that_are_left_out_are_disabled_with_the_reason(marked: pytest.Pytester) -> None:
    """A test of which any family is left out does not run, and says which; a calm one runs."""
    run = run_here(marked, "test_marked.py", "--backend-faults=net", *SOAK)
    assert run.statuses() == {
        "test_network": "pass",
        "test_both": "disabled",
        "test_processes": "disabled",
        "test_hurts": "disabled",
        "test_calm": "pass",
    }
    assert run.result("test_both")["reason"] == "left out by --backend-faults: kill"


@pytest.mark.parametrize(
    ("options", "backend", "status"),
    [
        ((), "py:test_marked:Real", "disabled"),
        (("--backend-allow-destructive",), "py:test_marked:Real", "pass"),
        ((), "memory", "pass"),
    ],
)
def test_a_real_service_is_hurt_only_when_that_is_allowed(
    marked: pytest.Pytester, options: tuple[str, ...], backend: str, status: str
) -> None:
    """On a real target a destructive test is disabled, unless it was allowed."""
    run = run_here(marked, "test_marked.py", "-ktest_hurts", *SOAK, *options, backend=backend)
    assert run.result("test_hurts")["status"] == status
    if status == "disabled":
        assert "needs --backend-allow-destructive" in run.result("test_hurts")["reason"]


def test_the_variable_and_the_file_say_it_too(
    marked: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hyphen of the option is an underscore in the environment and in the file."""
    monkeypatch.setenv("LOCKPROOF_ALLOW_DESTRUCTIVE", "yes")
    marked.path.joinpath("lockproof.toml").write_text('faults = ["postgres"]\nduration = 12.5\n', "utf-8")
    run = run_here(marked, "test_marked.py", backend="py:test_marked:Real")
    assert (run.statuses()["test_hurts"], run.statuses()["test_network"]) == ("pass", "disabled")


def test_the_report_counts_what_faults_did(marked: pytest.Pytester) -> None:
    """A table of faults by backends: injections, hits, calls meanwhile, unknown outcomes, violations."""
    run = run_here(marked, "test_marked.py", *SOAK)
    jsonschema.validate(run.report, schema())
    assert run.report["backends"][0]["faults"] == [
        {
            "fault": "net.noise",
            "tests": 2,
            "injected": 2,
            "hits": 6,
            "operations": 3,
            "unknown": 0,
            "violations": 1,
        }
    ]
    page = (run.folder / "report.md").read_text(encoding="utf-8")
    row = "| `net.noise` | 2 injected, 6 hits, 3 calls, 0 unknown, **1 violations** |"
    assert page.rstrip().endswith(f"## Faults\n\n| fault | memory |\n|---|---|\n{row}")


def test_without_faults_the_report_has_no_table(marked: pytest.Pytester) -> None:
    """A page of calm tests does not speak of faults."""
    run = run_here(marked, "test_marked.py", "-ktest_calm")
    assert run.report["backends"][0]["faults"] == []
    assert "## Faults" not in (run.folder / "report.md").read_text(encoding="utf-8")


def test_what_is_counted_is_what_overlapped_a_fault() -> None:
    """Calls before and after a fault do not count, those begun before its end do; a fault without an end
    lasts to the end of the history, and one that happens at once has hit what it was about."""
    tape = Tape()
    tape.get("before")
    open_call = tape.begin("get")
    tape._append(-1, "fault", "net.delay", None, given={"phase": "start", "on": "ann"})
    tape.lost_lock("ann")
    tape._append(-1, "fault", "net.delay", None, given={"phase": "stop", "on": "ann"}, out={"hits": 2})
    open_call("ok", {"value": None})
    tape.get("between")
    tape._append(-1, "fault", "kill.kill", None, given={"on": "ben"})
    tape._append(-1, "fault", "net.partition", None, given={"phase": "start"})
    tape.get("last")
    assert counted(tape.history()) == [
        {"fault": "kill.kill", "injected": 1, "hits": 1, "operations": 0, "unknown": 0},
        {"fault": "net.delay", "injected": 1, "hits": 2, "operations": 2, "unknown": 1},
        {"fault": "net.partition", "injected": 1, "hits": 0, "operations": 1, "unknown": 0},
    ]


def test_sums_are_over_tests_and_leave_other_counts_alone() -> None:
    """Only counts of faults are summed; a test that failed is a violation of each of its faults."""
    fault = {"fault": "net.delay", "injected": 1, "hits": 2, "operations": 3, "unknown": 1}
    results: list[dict[str, Any]] = [
        {"status": "pass", "counts": [fault, {**fault, "fault": "kill.kill"}]},
        {"status": "fail", "counts": [fault]},
        {"status": "unknown", "counts": [fault]},
        {"status": "pass", "counts": [{"program": "p"}]},
        {"status": "pass", "counts": None},
    ]
    assert summary(results) == [
        {
            "fault": "kill.kill",
            "tests": 1,
            "injected": 1,
            "hits": 2,
            "operations": 3,
            "unknown": 1,
            "violations": 0,
        },
        {
            "fault": "net.delay",
            "tests": 3,
            "injected": 3,
            "hits": 6,
            "operations": 9,
            "unknown": 3,
            "violations": 1,
        },
    ]
