"""Progress of a long run: now and then a line with what is done, what is left and what runs longest.

pytest's dots say nothing while one test takes minutes, and a CI log shows them late. With `-v` pytest names
every test itself, with `-q` nothing is wanted: then there are no lines.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

import pytest

from lockproof.plugin.controller import CRASHED

EVERY = 30.0
"""Seconds before the first line and between two of them, in a log."""
WATCHED = 10.0
"""The same on a terminal."""
SPARSER = 20
"""A run that has lasted N seconds waits at least N/20 for the next line: a long one makes no flood."""
LONGEST = 300.0
"""But no longer than this: some CI services end a job that is silent."""


class Counted(Protocol):
    """What the controller knows: every test of the run by id, and the status of those that have a result."""

    expected: dict[str, Mapping[str, Any]]
    statuses: dict[str, str]


class Progress:
    """Hooks of the process that the user started: it hears of the tests of all xdist workers."""

    def __init__(self, config: pytest.Config, counted: Counted) -> None:
        self.config = config
        self.counted = counted
        self.running: dict[str, float] = {}
        self.over = threading.Event()
        self.teller: threading.Thread | None = None
        self.begun = time.monotonic()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        """Begins to tell, unless nobody wants it. While tests run, pytest captures what is written to
        standard output: the lines go to where it leads now."""
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is None or reporter.verbosity != 0 or self.config.getoption("collectonly"):
            return
        try:
            output = os.dup(sys.stdout.fileno())
        except (OSError, ValueError, AttributeError):  # standard output is no file here
            return
        self.config.add_cleanup(lambda: os.close(output))
        every = WATCHED if os.isatty(output) else EVERY
        self.teller = threading.Thread(
            target=self.go_on, args=(output, every, reporter), name="lockproof-progress", daemon=True
        )
        self.config.add_cleanup(self.stop)
        self.teller.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.running[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.running.pop(nodeid, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == CRASHED:  # of a worker that crashed: it ends nothing any more
            self.running.pop(report.nodeid, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self.stop()

    def stop(self) -> None:
        """No line comes after this. Stopping twice is harmless."""
        self.over.set()
        if self.teller is not None:
            self.teller.join(timeout=5)

    def go_on(self, output: int, every: float, reporter: Any) -> None:
        while not self.over.wait(pause(time.monotonic() - self.begun, every)):
            told = self.line(time.monotonic())
            if told:
                midway = reporter._tw.width_of_current_line > 0  # behind pytest's dots
                text = f"{chr(10) if midway else ''}{told}\n"
                os.write(output, text.encode(errors="replace"))

    def line(self, now: float) -> str:
        """What is to be told at the time `now`; empty without a test that is left or runs."""
        expected, statuses = dict(self.counted.expected), dict(self.counted.statuses)
        running = dict(self.running)
        if len(statuses) == len(expected) and not running:
            return ""
        found = Counter(statuses.values())
        counts = ", ".join(f"{number} {status}" for status, number in found.most_common())
        left = Counter(suite_of(name) for name in expected if name not in statuses)
        parts = [f"{len(statuses)} of {len(expected)} tests done after {_time(now - self.begun)}"]
        parts[0] += f" ({counts})" if counts else ""
        parts += (
            [f"left: {', '.join(f'{number} {suite}' for suite, number in left.most_common())}"]
            if left
            else []
        )
        if running:
            slowest = min(running, key=lambda name: running[name])
            more = f" and {len(running) - 1} more" if len(running) > 1 else ""
            parts.append(f"running: {slowest} for {_time(now - running[slowest])}{more}")
        return f"lockproof: {'; '.join(parts)}"


def pause(elapsed: float, every: float) -> float:
    """How long to wait for the next line of a run that has lasted `elapsed` seconds."""
    return max(every, min(elapsed / SPARSER, LONGEST))


def suite_of(nodeid: str) -> str:
    """`locks` for a test of the suite `locks`, the file for one of the user's own."""
    file = nodeid.partition("::")[0]
    parts = file.split("/")
    return parts[1] if parts[0] == "suites" and len(parts) > 2 else file


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
