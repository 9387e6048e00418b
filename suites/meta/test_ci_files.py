"""The workflow for GitHub and the snippet for GitLab are what those read, and call what there is."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from lockproof.cli import cli
from lockproof.plugin.options import OPTIONS
from lockproof.suites.meta.compared_reports import STATE, written

TOP = Path(__file__).parents[2]
FILES = {name: TOP / "docs" / "ci" / f"{name}.yml" for name in ("github-actions", "gitlab-ci")}


def document(name: str) -> dict[Any, Any]:
    yaml = importlib.import_module("yaml")
    found: dict[Any, Any] = yaml.safe_load(FILES[name].read_text(encoding="utf-8"))
    return found


def scripts(name: str) -> Iterator[str]:
    """The shell scripts of a file, each as its service runs it."""
    found = document(name)
    if name == "github-actions":
        yield from (step["run"] for job in found["jobs"].values() for step in job["steps"] if "run" in step)
    else:
        jobs = [job for job in found.values() if "before_script" in job or "script" in job]
        for job in jobs:
            yield from (
                line for key in ("before_script", "script", "after_script") for line in job.get(key, ())
            )


def commands(script: str) -> Iterator[list[str]]:
    """The commands of ours in a script."""
    for part in re.split(r"[|;&]|\bthen\b", script):
        words = shlex.split(part, comments=True)
        if words[:1] == ["lockproof"]:
            yield [word.replace("$BACKEND", "memory") for word in words[1:]]


@pytest.mark.parametrize("name", FILES)
def test_commands_exist_as_they_are_called(name: str) -> None:
    """click takes each of our commands with its options, and the options of a run are the plugin's."""
    called = [words for script in scripts(name) for words in commands(script)]
    assert {words[0] for words in called} == {"run", "diff", "badge"}
    for words in called:
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None
        context = command.make_context(words[0], words[1:])
        given = context.params.get("specs", ())
        flags = {word.partition("=")[0] for word in given if word.startswith("--")}
        assert flags <= {option.flag for option in OPTIONS}
    assert any(word.startswith("--backend-report=") for words in called for word in words)


@pytest.mark.parametrize("name", FILES)
def test_scripts_are_shell(name: str) -> None:
    """bash reads every script."""
    found = list(scripts(name))
    assert len(found) >= 4
    for script in found:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=30)
        assert checked.returncode == 0, checked.stderr


def test_workflow_has_the_shape_of_one() -> None:
    """Triggers, jobs with steps that either use or run something, no right but to read."""
    found = document("github-actions")
    assert set(found[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key `on` as true
    assert found["permissions"] == {"contents": "read"}
    for job in found["jobs"].values():
        assert job["runs-on"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert all(re.fullmatch(r"[\w/-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


def test_worse_run_fails_the_comparing_step(tmp_path: Path) -> None:
    """The step that compares ends as `diff` does, although its output goes through a pipe."""
    (script,) = [script for script in scripts("github-actions") if "lockproof diff" in script]
    written(tmp_path / "lockproof-baseline")
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environ["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary.md")
    codes = []
    for statuses in ({}, {STATE: "fail"}):
        written(tmp_path / "lockproof-report", statuses)
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]  # as Actions calls it
        codes.append(
            subprocess.run(shell, cwd=tmp_path, env=environ, capture_output=True, timeout=60).returncode
        )
    assert codes == [0, 1]
    assert "## Regressions" in (tmp_path / "summary.md").read_text(encoding="utf-8")
