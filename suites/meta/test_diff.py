"""`lockproof diff`: what became worse ends with exit code 1, and nothing that became worse is overlooked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lockproof.cli import cli
from lockproof.suites.meta.compared_reports import (
    EXCLUSION,
    LOCKS,
    MANY,
    ROUND_TRIP,
    STATE,
    TESTS,
    WORKSPACES,
    put,
    report,
    written,
)


def run(old: Path, new: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["diff", str(old), str(new), *options], standalone_mode=False)


def changes(old: Path, new: Path) -> set[tuple[str, str, str, str, str]]:
    """Every change: kind, what, name, old, new."""
    found = json.loads(run(old, new, "--format", "json").output)
    return {(c["kind"], c["what"], c["name"], c["old"], c["new"]) for c in found["changes"]}


@pytest.mark.parametrize(
    "status", ["fail", "error", "unknown", "skip", "disabled", "xfail", "xpass", "flaky", "not-run"]
)
def test_pass_that_is_none_any_more_is_a_regression(tmp_path: Path, status: str) -> None:
    """Whatever became of a test that passed, the test and its requirement are regressions, exit code 1."""
    old, new = written(tmp_path / "old"), written(tmp_path / "new", {STATE: status})
    assert run(old, new).return_value == 1
    found = changes(old, new)
    assert ("regression", "requirement", ROUND_TRIP, "pass", status) in found
    assert ("regression", "test", STATE, "pass", status) in found
    assert {kind for kind, *_ in found} == {"regression"}


@pytest.mark.parametrize("status", ["fail", "unknown", "skip", "xfail", "not-run"])
def test_pass_that_was_none_is_a_fix(tmp_path: Path, status: str) -> None:
    """The other way round nothing became worse: exit code 0, and the fix is named."""
    old, new = written(tmp_path / "old", {STATE: status}), written(tmp_path / "new")
    result = run(old, new)
    assert result.return_value == 0
    assert f"- requirement {ROUND_TRIP} (MUST): {status} → pass" in result.output
    assert ("fix", "test", STATE, status, "pass") in changes(old, new)


def test_equal_runs_have_no_difference(tmp_path: Path) -> None:
    """A run and itself: exit code 0, and it says so, with the target in the first line."""
    old = written(tmp_path / "old", {STATE: "fail"})
    result = run(old, old / "report.json")
    assert result.return_value == 0
    assert result.output.splitlines()[0].startswith(
        "# lockproof diff: memory (local) nonconformant → memory (local)"
    )
    assert "No difference." in result.output


def test_worse_verdict_alone_is_a_regression(tmp_path: Path) -> None:
    """The same results of a narrowed run: the verdict is not what it was."""
    old, new = written(tmp_path / "old"), written(tmp_path / "new", narrowed="only x was run")
    assert changes(old, new) == {("regression", "verdict", "memory", "conformant", "inconclusive")}
    assert run(old, new).return_value == 1
    assert run(new, old).return_value == 0


def test_new_violation_of_what_was_undecided_is_a_regression(tmp_path: Path) -> None:
    """Unknown before, violated now: worse, although it never passed."""
    old, new = written(tmp_path / "old", {STATE: "unknown"}), written(tmp_path / "new", {STATE: "fail"})
    assert ("regression", "requirement", ROUND_TRIP, "unknown", "fail") in changes(old, new)
    assert ("change", "requirement", ROUND_TRIP, "fail", "unknown") in changes(new, old)


def test_second_failing_test_of_a_failed_requirement_is_a_regression(tmp_path: Path) -> None:
    """Where requirement and verdict are as bad as before, a test that fails newly still counts."""
    old, new = (
        written(tmp_path / "old", {LOCKS: "fail"}),
        written(tmp_path / "new", {LOCKS: "fail", MANY: "fail"}),
    )
    assert changes(old, new) == {("regression", "test", MANY, "pass", "fail")}
    assert run(old, new).return_value == 1


@pytest.mark.parametrize(
    "about", [{"narrowed": "only requirements X were run"}, {"tier": "smoke"}, {"faults": ["net"]}]
)
def test_less_that_was_run_is_a_regression(tmp_path: Path, about: dict[str, Any]) -> None:
    """What passed and was left out this time is `not-tested`, and that is worse."""
    old = written(tmp_path / "old", {LOCKS: "fail"})
    new = written(tmp_path / "new", {LOCKS: "fail", STATE: ""}, **about)
    found = changes(old, new)
    assert ("regression", "requirement", ROUND_TRIP, "pass", "not-tested") in found
    assert ("regression", "test", STATE, "pass", "not-tested") in found
    assert run(old, new).return_value == 1


def test_suite_that_was_not_run_is_a_regression(tmp_path: Path) -> None:
    """A whole suite that is missing was not run, even where the run does not count as narrowed."""
    old, new = written(tmp_path / "old"), written(tmp_path / "new", {WORKSPACES: ""})
    assert ("regression", "test", WORKSPACES, "pass", "not-tested") in changes(old, new)


def test_test_that_the_suite_dropped_is_gone(tmp_path: Path) -> None:
    """A test that a whole run does not have any more is no regression while its requirement is proved."""
    old, new = written(tmp_path / "old"), written(tmp_path / "new", {MANY: ""}, files="b")
    assert changes(old, new) == {("gone", "test", MANY, "pass", "not-tested")}
    result = run(old, new)
    assert result.return_value == 0
    assert "files of the suite differ in suites" in result.output
    assert changes(new, old) == {("new", "test", MANY, "not-tested", "pass")}


def test_requirement_that_is_demanded_no_more_is_gone(tmp_path: Path) -> None:
    """With another set of requirements one that is missing was withdrawn; with the same it was not tested."""
    fewer = {name: cited for name, cited in TESTS.items() if name != MANY and name != LOCKS}
    more = {**fewer, "suites/locks/test_a.py::test_other": "LOCK-EXCL-002"}
    old = written(tmp_path / "old")
    other = written(tmp_path / "other", tests=more, digest="0" * 64)
    assert ("gone", "requirement", EXCLUSION, "pass", "not-tested") in changes(old, other)
    assert "demands something else" in run(old, other).output
    same = written(tmp_path / "same", tests=more)
    assert ("regression", "requirement", EXCLUSION, "pass", "not-tested") in changes(old, same)


def both(folder: Path, *backends: str) -> Path:
    """A run of several backends."""
    documents = [report(backend=backend) for backend in backends]
    return put(folder, {**documents[0], "backends": [b for d in documents for b in d["backends"]]})


def test_backend_that_was_left_out_is_a_regression(tmp_path: Path) -> None:
    """Backends are compared by name; one that is missing has no verdict any more."""
    old, new = both(tmp_path / "old", "memory", "file"), both(tmp_path / "new", "memory", "py:a:b")
    assert changes(old, new) == {
        ("regression", "verdict", "file", "conformant", "not-tested"),
        ("new", "verdict", "py:a:b", "not-tested", "conformant"),
    }
    assert run(old, new).return_value == 1


def test_single_backends_are_compared_whatever_their_names(tmp_path: Path) -> None:
    """The only backends of two runs are compared, with a remark that they, or their targets, differ."""
    old, new = written(tmp_path / "old"), written(tmp_path / "new", backend="http:x", target="real")
    result = run(old, new)
    assert result.return_value == 0
    assert "two different backends" in result.output
    assert "local target → real target" in result.output


def test_runs_without_a_common_backend_cannot_be_compared(tmp_path: Path) -> None:
    """One line names the backends; exit code 4 is the command's."""
    old, new = both(tmp_path / "old", "memory", "file"), written(tmp_path / "new", backend="http:x")
    assert str(run(old, new).exception) == "no backend is in both runs: memory, file and http:x"


def test_unusable_input_is_one_line_and_exit_code_4(tmp_path: Path) -> None:
    """A folder without a report is named; nothing is compared."""
    result = run(written(tmp_path / "old"), tmp_path)
    assert (
        str(result.exception) == f"{tmp_path}: no report.json in it; name the folder of a run that has ended"
    )
