"""The suite of schedules: what it fails, what it leaves behind, and how that is replayed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lockproof.driver.http import HttpDriver
from lockproof.plugin.collect import declared_tests
from lockproof.report import schema
from lockproof.suites.concurrency import exploring
from lockproof.suites.concurrency.catalogue import PROGRAMS
from lockproof.suites.meta.runs import Run, run_here

pytest_plugins = ["pytester"]

LATE = "py:lockproof.fakes.saboteurs.timing_writes:LooksThenWrites.driver"
TEST = "test_stale_write_in_flight"
DRIVERS = '''
from lockproof.driver import DriverError
from lockproof.driver.memory import MemoryClient, MemoryDriver, MemoryScope


class Unwilling(MemoryClient):
    """Locks nothing, and says that it cannot."""

    def lock(self, workspace, info):
        raise DriverError("unavailable", True, "not today")


class Scope(MemoryScope):
    def client(self, who):
        return Unwilling(self.store, who)


class Driver(MemoryDriver):
    def capabilities(self):
        return super().capabilities() - {"in-process"}

    def open_scope(self, name, links=None, *, attach=False):
        return Scope()
'''


def run_program(pytester: pytest.Pytester, program: str, backend: str) -> Run:
    return run_here(pytester, f"suites/concurrency/test_schedules.py::test_{program}", backend=backend)


def saved(run: Run) -> str:
    """The schedule that the run has left."""
    return (run.folder / "schedules" / "stale_write_in_flight.json").read_text(encoding="utf-8")


@pytest.fixture
def failed(pytester: pytest.Pytester) -> Run:
    """A run that has failed and left a schedule."""
    return run_program(pytester, "stale_write_in_flight", LATE)


def test_every_program_has_a_test_of_its_name() -> None:
    """A schedule names its program; that leads to the test that replays it."""
    tests = [t.name for t in declared_tests() if t.file == "suites/concurrency/test_schedules.py"]
    explored = PROGRAMS.values()
    assert sorted(tests) == sorted(f"test_{program.name}" for program in explored)
    assert len({program.sentence for program in explored}) == len(explored) >= 12


def test_failure_shows_the_shrunk_schedule_and_how_to_replay_it(failed: Run) -> None:
    """The card holds headline, command and table; schedule and history are in the run folder."""
    result = failed.result(TEST)
    assert result["status"] == "fail"
    schedule = json.loads((failed.folder / "schedules" / "stale_write_in_flight.json").read_text())
    assert (schedule["program"], schedule["switches"], schedule["minimal"]) == (
        "stale_write_in_flight",
        3,
        True,
    )
    observed = result["failure"]["observed"]
    assert f"replay: pytest --backend={LATE} --backend-schedule={failed.folder.name}/schedules/" in observed
    assert "8  write the state" in observed
    assert any("bob get default" in line for line in result["failure"]["operations"])
    recorded = (failed.folder / "histories" / result["failure"]["history"]).read_text().splitlines()
    assert sum('"e":"invoke"' in line for line in recorded) == 6


def test_schedule_is_replayed_alone(failed: Run, pytester: pytest.Pytester) -> None:
    """The command of the card runs the one test, on the one schedule, and fails as before."""
    kept = pytester.path / "kept.json"
    kept.write_text(
        (failed.folder / "schedules" / "stale_write_in_flight.json").read_text(), encoding="utf-8"
    )
    again = run_here(pytester, "--backend-schedule=kept.json", backend=LATE)
    assert (again.code, again.statuses()) == (1, {TEST: "fail"})
    assert "only one schedule was replayed" in again.report["backends"][0]["verdict"]["reasons"]
    assert json.loads(saved(again))["steps"] == json.loads(kept.read_text(encoding="utf-8"))["steps"]


def test_schedule_of_another_backend_is_unknown(failed: Run, pytester: pytest.Pytester) -> None:
    """A backend whose steps are others cannot repeat the schedule: that is no verdict on it."""
    kept = pytester.path / "kept.json"
    kept.write_text(
        (failed.folder / "schedules" / "stale_write_in_flight.json").read_text(), encoding="utf-8"
    )
    other = run_here(pytester, "--backend-schedule=kept.json")
    assert (other.code, other.statuses()) == (1, {TEST: "unknown"})
    assert "step 7 was 'write the state' of bob" in other.result(TEST)["reason"]
    assert other.result(TEST)["reason"].startswith("the replay did not show 'assertion': not the same run")


def test_replay_without_the_finding_says_so(failed: Run, pytester: pytest.Pytester) -> None:
    """On a backend that takes the same steps and does nothing wrong the test passes, with a line that says
    what is no longer shown; on the terminal and in the report."""
    changed = json.loads(saved(failed))
    changed["steps"] = [step for step in changed["steps"] if step["step"] != "write the state"]
    changed["length"] = len(changed["steps"])
    (pytester.path / "changed.json").write_text(json.dumps(changed), encoding="utf-8")
    run = run_here(pytester, "--backend-schedule=changed.json")
    assert (run.code, run.statuses()) == (0, {TEST: "pass"})
    line = f"no longer shows 'assertion': its {changed['length']} steps were taken"
    assert run.result(TEST)["reason"].startswith(line)
    assert f"1 pass: {line}" in run.output
    assert line in (run.folder / "report.md").read_text(encoding="utf-8")


def without_steps(schedule: dict[str, Any]) -> None:
    schedule["steps"] = []


def without_the_last_step(schedule: dict[str, Any]) -> None:
    schedule["steps"].pop()


def with_a_strange_client(schedule: dict[str, Any]) -> None:
    schedule["steps"][2]["client"] = "mallory"


def with_a_strange_fault(schedule: dict[str, Any]) -> None:
    schedule["steps"][2]["fault"] = "flood"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without_steps, "'steps' must be a list of at least one step"),
        (without_the_last_step, "has {shorter} steps, and 'length' says {length}: is it the whole schedule?"),
        (
            with_a_strange_client,
            "step 3 is of 'mallory', who is no client of stale_write_in_flight: alice, bob",
        ),
        (with_a_strange_fault, "step 3 has the fault 'flood', which stale_write_in_flight does not have: "),
    ],
)
def test_changed_schedule_is_no_pass(
    failed: Run, pytester: pytest.Pytester, change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    """What was cut off, and what cannot be of its program, is a usage error before anything runs."""
    schedule = json.loads(saved(failed))
    length = len(schedule["steps"])
    change(schedule)
    (pytester.path / "changed.json").write_text(json.dumps(schedule), encoding="utf-8")
    run = run_here(pytester, "--backend-schedule=changed.json", backend=LATE)
    assert run.code == 4
    assert complaint.format(shorter=length - 1, length=length) in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot be read: No such file or directory"),
        ("[]", "not a lockproof schedule of version 1"),
        (
            '{"lockproof schedule": 1, "program": "tea_time", "subject": "", "strategy": "", "finding": "", '
            '"minimal": false, "length": 1, "steps": [{"client": "alice", "step": "brew"}]}',
            "no test explores a program 'tea_time'; known: lock_against_lock, ",
        ),
    ],
)
def test_bad_schedule_is_one_clear_line(pytester: pytest.Pytester, text: str | None, complaint: str) -> None:
    """A file that is no schedule of ours is a usage error that names it and what is wrong."""
    if text is not None:
        pytester.path.joinpath("bad.json").write_text(text, encoding="utf-8")
    run = run_here(pytester, "--backend-schedule=bad.json")
    assert run.code == 4
    lines = [line for line in run.lines if line.startswith("ERROR: ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"ERROR: --backend-schedule {pytester.path / 'bad.json'}: ")
    assert complaint in lines[0]
    assert "Traceback" not in run.output


def test_exploration_that_never_met_the_point_is_unknown(pytester: pytest.Pytester) -> None:
    """Where no client was ever refused a held lock, nothing was shown about exclusion."""
    pytester.makepyfile(drivers=DRIVERS)
    run = run_program(pytester, "lock_unlock_lock", "py:drivers:Driver")
    result = run.result("test_lock_unlock_lock")
    assert result["status"] == "unknown"
    assert re.fullmatch(r"none of \d schedules came to a refused lock", result["reason"])


def test_budget_that_ends_before_the_point_is_unknown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exploration that was stopped before it came to what it is about has shown nothing either."""
    monkeypatch.setattr(exploring, "SCHEDULES", 1)
    result = run_program(pytester, "lock_unlock_lock", "memory").result("test_lock_unlock_lock")
    assert (result["status"], result["reason"]) == ("unknown", "none of 1 schedules came to a refused lock")


def test_bounded_exploration_is_enough_until_tier_full(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default tier promises some schedules, the tier `full` all of them."""
    monkeypatch.setattr(exploring, "SCHEDULES", 5)
    monkeypatch.setattr(exploring, "FULL_SCHEDULES", 5)
    path = "suites/concurrency/test_schedules.py::test_lock_against_lock"
    assert run_here(pytester, path).statuses() == {"test_lock_against_lock": "pass"}
    full = run_here(pytester, path, "--backend-tier=full").result("test_lock_against_lock")
    assert (full["status"], full["reason"]) == ("unknown", "stopped after 5 schedules")


def test_py_driver_is_explored_though_it_does_not_say_so(pytester: pytest.Pytester) -> None:
    """A `py:` driver's clients are in this process by nature; a server's are not."""
    pytester.makepyfile(drivers=DRIVERS)
    run = run_program(pytester, "lock_unlock_lock", "py:drivers:Driver")
    assert "in-process" in run.report["backends"][0]["capabilities"]["declared"]
    assert "in-process" not in HttpDriver({"address": "http://127.0.0.1:9"}).capabilities()


def test_a_slow_machine_runs_as_many_schedules(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found does not hang on the clock: though time is up at once, so many schedules are run."""
    monkeypatch.setattr(exploring, "SECONDS", 0.0)
    [count] = run_program(pytester, "three_clients", "memory").result("test_three_clients")["counts"]
    assert (count["schedules"], count["complete"]) == (exploring.LEAST, False)
    saboteur = "py:lockproof.fakes.saboteurs.timing_locks:RetryTakesTheLock.driver"
    late = run_program(pytester, "lost_reply_against_force_unlock", saboteur)
    [result] = late.report["backends"][0]["results"]
    assert result["status"] == "fail"
    assert result["counts"][0]["schedules"] > exploring.LEAST_INSTRUMENTED


def test_what_was_explored_stands_in_report_and_history(pytester: pytest.Pytester) -> None:
    """A test that passes leaves how many schedules it ran, and whether these were all."""
    run = run_program(pytester, "lock_against_lock", "memory")
    assert run.statuses() == {"test_lock_against_lock": "pass"}
    (path,) = Path(run.folder / "histories").glob("*lock_against_lock*.jsonl")
    notes = [json.loads(line) for line in path.read_text().splitlines() if '"explored"' in line]
    (explored,) = [note["in"] for note in notes]
    assert (explored["program"], explored["complete"]) == ("lock_against_lock", True)
    assert explored["schedules"] >= 6
    assert run.result("test_lock_against_lock")["counts"] == [explored]
    jsonschema.Draft202012Validator(schema()).validate(run.report)
    cells = "lock_against_lock", explored["strategy"], explored["schedules"], explored["pruned"], "yes"
    row = f"| {' | '.join(map(str, cells))} |"
    assert row in (run.folder / "report.md").read_text(encoding="utf-8")
