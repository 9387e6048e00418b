"""What a run of the state machines leaves: counts, histories, and programs that show a failure again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lockproof.report import schema
from lockproof.suites.meta.runs import clean_environment, run_apart, run_here

pytest_plugins = ["pytester"]

TESTS = "suites/concurrency/test_state_machines.py"
SECRET = "fishy-sesame"
HOSTILE = """
[pytest]
python_files = nothing_*.py
python_functions = nothing_*
filterwarnings = error
xfail_strict = true
addopts = --strict-markers
"""
UNLOCKER = """
from lockproof.fakes.saboteurs.lock_release import ReleaseIgnoresId


def make(options):
    assert options["token"]
    return ReleaseIgnoresId.driver({})
"""


def counts(report: Any) -> list[dict[str, Any]]:
    """Everything that the machines of the first backend counted."""
    return [count for result in report["backends"][0]["results"] for count in result["counts"] or ()]


def test_counts_of_rules_stand_in_the_report(tmp_path: Path) -> None:
    """Under xdist and hostile settings: each worker counts the same, the report shows each machine once, and
    Hypothesis leaves no folder of its own."""
    (tmp_path / "pytest.ini").write_text(HOSTILE, encoding="utf-8")
    run = run_apart(tmp_path, TESTS, "--backend=memory", "--backend-report=run", "--backend-seed=7", "-n2")
    assert run.code == 0, run.output
    jsonschema.Draft202012Validator(schema()).validate(run.report)
    found = counts(run.report)
    machines = {count["machine"]: count for count in found}
    assert sorted(machines) == ["LockMachine", "StateMachine", "WholeMachine", "WorkspaceMachine"]
    assert all(count == machines[count["machine"]] for count in found), "workers differ"
    assert all(fired for count in found for fired in count["rules"].values())
    assert machines["LockMachine"]["refusals"] > 20
    assert machines["LockMachine"]["contention"] >= 2
    page = (run.folder / "report.md").read_text(encoding="utf-8")
    assert page.count("| LockMachine |") == 1
    assert f"lock {machines['LockMachine']['rules']['lock']}" in page
    assert {entry.name for entry in tmp_path.iterdir()} == {"pytest.ini", "run"}


def test_failure_is_a_program_that_shows_it_again(pytester: pytest.Pytester) -> None:
    """The program beside the history fails on the broken backend, at the call that is at fault, and passes
    on a correct one; options that are secret are left to the reader; `lockproof check` judges alike."""
    pytester.makepyfile(unlocker=UNLOCKER)
    pytester.syspathinsert()
    options = ("--backend-req=LOCK-REL-002", "--backend-seed=7", f"--backend-opt=token={SECRET}")
    run = run_here(pytester, TESTS, *options, backend="py:unlocker:make")
    [result] = run.report["backends"][0]["results"]
    assert result["status"] == "fail"
    jsonschema.Draft202012Validator(schema()).validate(run.report)
    history = run.folder / "histories" / result["failure"]["history"]
    program = history.with_suffix(".py")
    assert f"{run.folder.name}/histories/{program.name}" in run.output
    text = program.read_text(encoding="utf-8")
    assert text == result["failure"]["program"]
    page = (run.folder / "report.md").read_text(encoding="utf-8")
    assert text in page
    assert "OPTIONS = {'token': '***'}  # *** stands for" in text
    assert SECRET not in page + run.output
    broken = execute(pytester.path, text)
    assert broken.stderr.endswith("AssertionError: unlock was not refused\n")
    assert broken.returncode == 1
    correct = text.replace("'py:unlocker:make'", "'memory'").replace("{'token': '***'}", "{}")
    passed = execute(pytester.path, correct)
    assert (passed.returncode, passed.stderr) == (0, "")
    judged = python(pytester.path, "-m", "lockproof", "check", str(history))
    assert judged.returncode == 1
    assert "violated: phantom release" in judged.stdout


def execute(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Runs a program as a user would."""
    (folder / "program.py").write_text(program, encoding="utf-8")
    return python(folder, "program.py")


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A Python with these arguments in a folder."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
