"""Small pytest runs with `--backend`, and what they left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import deltalake  # noqa: F401 - it can be imported once, and pytester forgets what a run was the first to import
import pytest

import lockproof.plugin.controller
import lockproof.report.html.plots  # noqa: F401 - as above, with all of matplotlib

FOLDER = "run"
QUICK = ("-pno:cacheprovider", "-pno:hypothesispytest", "-pno:anyio")  # they import much, for nothing here

EVERY_STATUS = '''
import pytest

from lockproof.driver import LockInfo
from lockproof.spec import needs, requirement
from lockproof.spec.outcome import NotRun, Unknown, Violation


@pytest.fixture
def broken():
    raise RuntimeError("the bench is on fire")


@pytest.fixture
def tofu():
    raise NotRun("no tofu on PATH")


@pytest.fixture
def leaky():
    yield
    raise RuntimeError("cannot clean up")


@requirement("STATE-RT-001")
def test_pass(alice):
    """A state reads back."""
    alice.put("default", b"{}")
    assert alice.get("default").data == b"{}"


@requirement("LOCK-EXCL-001")
def test_fail(alice, bob):
    """A held lock is refused."""
    alice.lock("default", LockInfo.new("alice"))
    bob.get("default")
    assert alice.get("default") == "password=hunter22"


def test_fail_by_violation(alice, history):
    """A witness is shown instead of the last operations."""
    alice.put("one", b"{}")
    for _ in range(20):
        alice.get("two")
    put = next(event for event in history.history().events if event.f == "put")
    raise Violation("the write of one was lost", witness=[put.i])


def test_error_in_setup(backend, broken):
    """Needs a bench."""


def test_error_in_body(backend):
    """Is written wrongly."""
    {}["missing"]


def test_error_in_teardown(backend, leaky):
    """Leaves something behind."""


def test_unknown(alice):
    """Cannot say."""
    raise Unknown("only 3 of 50 clients met")


def test_not_run(backend, tofu):
    """Needs a binary."""


@needs("clients.process")
def test_skip(alice):
    """Needs what memory does not have."""
    raise AssertionError("must not run")


@needs("locking.force-unlock")
def test_disabled(alice):
    """Needs what was switched off."""
    raise AssertionError("must not run")


def test_xfail(backend):
    """Is expected to fail."""
    assert backend.id == "something else"


def test_xpass(backend):
    """Is expected to fail, and passes."""
    assert backend.id == "memory"


def test_flaky(backend):
    """Fails now and then."""
    assert backend.id == "something else"
'''

EXPECTATIONS = """
[[expect.fail]]
test = "test_every.py::test_xfail"
reason = "not built yet"
issue = "https://example.org/issues/7"

[[expect.fail]]
test = "test_every.py::test_xpass[memory]"
reason = "not built yet"

[[expect.flaky]]
test = "*::test_flaky"
reason = "depends on the moon"
"""

EXPECTED_STATUSES = {
    "test_pass": "pass",
    "test_fail": "fail",
    "test_fail_by_violation": "fail",
    "test_error_in_setup": "error",
    "test_error_in_body": "error",
    "test_error_in_teardown": "error",
    "test_unknown": "unknown",
    "test_not_run": "not-run",
    "test_skip": "skip",
    "test_disabled": "disabled",
    "test_xfail": "xfail",
    "test_xpass": "xpass",
    "test_flaky": "flaky",
}


@dataclass(frozen=True)
class Run:
    """A finished run: exit code, everything it printed, and its folder."""

    code: int
    output: str
    folder: Path
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.strip()]

    def statuses(self, backend: int = 0) -> dict[str, str]:
        """Status by test name, without file and backend."""
        results = self.report["backends"][backend]["results"]
        return {result["test"].rpartition("::")[2]: result["status"] for result in results}

    def result(self, name: str, backend: int = 0) -> Mapping[str, Any]:
        """The result of the test with that name."""
        found = [r for r in self.report["backends"][backend]["results"] if r["test"].endswith(f"::{name}")]
        assert len(found) == 1, f"{len(found)} results of {name}"
        return dict(found[0])


def run_here(pytester: pytest.Pytester, *args: str, backend: str = "memory") -> Run:
    """A run in this process; the working directory is the pytester's."""
    arguments = [f"--backend={backend}", f"--backend-report={FOLDER}", *QUICK, *args]
    result = pytester.runpytest_inprocess(*arguments)
    return _run(int(result.ret), f"{result.stdout}\n{result.stderr}", pytester.path / FOLDER)


def run_every_status(pytester: pytest.Pytester, *args: str) -> Run:
    """A run with one test of every status and then some."""
    pytester.makepyfile(test_every=EVERY_STATUS)
    pytester.path.joinpath("expect.toml").write_text(EXPECTATIONS, encoding="utf-8")
    options = ("--backend-expect=expect.toml", "--backend-without=locking.force-unlock", "--backend-seed=7")
    return run_here(pytester, "test_every.py", *options, *args)


def run_apart(cwd: Path, *args: str, python: Path | None = None, **environment: str) -> Run:
    """A run in a process of its own."""
    command = [str(python or sys.executable), "-m", "pytest", *QUICK, *args]
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(**environment), capture_output=True, text=True, timeout=120
    )
    return _run(done.returncode, f"{done.stdout}\n{done.stderr}", cwd / FOLDER)


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would steer a run."""
    steering = ("LOCKPROOF_", "PYTEST_", "COV_", "GITHUB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return {**kept, **more}


def _run(code: int, output: str, folder: Path) -> Run:
    written = folder / "report.json"
    report = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    return Run(code, output, folder, report)
