"""A long run tells how far it is, and floods no log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lockproof.plugin.progress import EVERY, LONGEST, Progress, pause, suite_of
from lockproof.suites.meta.runs import FOLDER, run_apart

SLOW = """
import threading

import pytest


@pytest.mark.parametrize("n", range(3))
def test_quick(alice, n):
    assert alice.get("default") is None


def test_slow(backend):
    print("noise of the test")
    assert not threading.Event().wait(1.5)
"""
OFTEN = """
import lockproof.plugin.progress

lockproof.plugin.progress.EVERY = 0.3
"""
LINE = re.compile(r"^lockproof: (\d) of 4 tests done after \d:\d\d:\d\d.*", re.MULTILINE)


def told(tmp_path: Path, *options: str) -> Sequence[str]:
    """The lines of progress of a run of which one test takes its time."""
    (tmp_path / "test_slow.py").write_text(SLOW, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(OFTEN, encoding="utf-8")
    run = run_apart(tmp_path, "--backend=memory", f"--backend-report={FOLDER}", "test_slow.py", *options)
    assert run.code == 0, run.output
    assert "noise of the test" not in run.output
    assert sum(run.statuses()[name] == "pass" for name in run.statuses()) == 4
    return [found[0] for found in LINE.finditer(run.output)]


@pytest.mark.parametrize("options", [(), ("-n2",)])
def test_line_names_what_is_done_left_and_running(tmp_path: Path, options: Sequence[str]) -> None:
    """While a test takes its time, a line of its own says so, with workers and without."""
    lines = [line for line in told(tmp_path, *options) if "3 of 4" in line]
    assert lines
    assert "(3 pass); left: 1 test_slow.py; running: test_slow.py::test_slow[memory] for 0:00:0" in lines[-1]


@pytest.mark.parametrize("options", [("-v",), ("-q",)])
def test_nothing_is_told_where_pytest_does_or_nobody_asks(tmp_path: Path, options: Sequence[str]) -> None:
    """With -v pytest names each test; with -q nothing is wanted."""
    assert told(tmp_path, *options) == []


def progress() -> Progress:
    """What a run of six tests knows in its middle."""
    names = [f"suites/{suite}/test_x.py::test_{n}[memory]" for suite in ("locks", "faults") for n in range(3)]
    counted = SimpleNamespace(
        expected={name: {} for name in names}, statuses={names[0]: "pass", names[1]: "pass", names[2]: "fail"}
    )
    found = Progress(cast(pytest.Config, None), cast(Any, counted))
    found.begun = 100.0
    return found


def test_slowest_of_all_workers_is_named() -> None:
    """Of several tests that run, the line names the one that began first, and counts the others."""
    found = progress()
    names = list(found.counted.expected)
    found.running = {names[3]: 150.0, names[4]: 120.0, names[5]: 160.0}
    assert found.line(191.0) == (
        "lockproof: 3 of 6 tests done after 0:01:31 (2 pass, 1 fail); left: 3 faults; "
        "running: suites/faults/test_x.py::test_1[memory] for 0:01:11 and 2 more"
    )


def test_test_that_ended_runs_no_more() -> None:
    """What ended, and what a crashed worker was at, is not running any more."""
    found = progress()
    for name in ("a", "b", "c"):
        found.pytest_runtest_logstart(name)
    found.pytest_runtest_logfinish("a")
    found.pytest_runtest_logreport(cast(pytest.TestReport, SimpleNamespace(when="???", nodeid="b")))
    found.pytest_runtest_logreport(cast(pytest.TestReport, SimpleNamespace(when="call", nodeid="c")))
    assert list(found.running) == ["c"]


def test_nothing_is_told_before_the_first_test_and_after_the_last() -> None:
    """While tests are collected there is nothing to count; after the last one there is nothing to tell."""
    found = progress()
    assert found.line(191.0) != ""
    found.counted.statuses = dict.fromkeys(found.counted.expected, "pass")
    assert found.line(191.0) == ""
    found.counted.expected, found.counted.statuses = {}, {}
    assert found.line(191.0) == ""


def test_long_run_does_not_flood_its_log() -> None:
    """Never two lines within 30 seconds; in ten hours less than 200, and no silence beyond five minutes."""
    elapsed, pauses = 0.0, []
    while elapsed < 36_000:
        pauses.append(pause(elapsed, EVERY))
        elapsed += pauses[-1]
    assert min(pauses) >= 30
    assert max(pauses) <= LONGEST <= 300
    assert len(pauses) < 200


def test_suite_is_the_folder_and_an_own_test_its_file() -> None:
    """What is left is counted by suite."""
    assert suite_of("suites/locks/test_x.py::test_y[memory]") == "locks"
    assert suite_of("tests/test_mine.py::test_y[memory]") == "tests/test_mine.py"
