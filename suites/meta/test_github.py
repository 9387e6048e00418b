"""GitHub Actions is told of a run: a summary of the step, and annotations that nobody can forge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lockproof.report.github import command, commands, summary
from lockproof.suites.meta.compared_reports import EXCLUSION, LOCKS, MANY, STATE, report
from lockproof.suites.meta.runs import run_every_status

pytest_plugins = ["pytester"]

FAILURE = {
    "phase": "call",
    "expected": "It holds.",
    "observed": "50% lost\r\n::error::forged",
    "where": "suites/locks/test_a.py:12",
    "operations": ["#1 alice: get"],
    "history": "",
    "program": "",
    "traceback": "",
}


def parsed(line: str) -> tuple[str, dict[str, str], str]:
    """A command as the runner reads it (actions/runner, ActionCommand.TryParseV2)."""
    assert line.startswith("::")
    head, data = line[2:].split("::", 1)
    name, _, rest = head.partition(" ")
    properties = dict(pair.split("=", 1) for pair in rest.split(",") if pair)
    codes = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}

    def decode(text: str) -> str:
        return re.sub("|".join(codes), lambda found: codes[found[0]], text)

    return name, {key: decode(value) for key, value in properties.items()}, decode(data)


@pytest.mark.parametrize("text", ["a: b, c", "50%\r\n::error file=x::no", "%0A", "::", "f,line=3::x", ""])
def test_command_is_read_back_as_it_was_meant(text: str) -> None:
    """Whatever stands in a property or a message, the runner reads one command with just that."""
    line = command("error", {"title": text, "line": 3}, text)
    assert "\n" not in line
    assert "\r" not in line
    assert parsed(line) == ("error", {"title": text, "line": "3"}, text)


def test_failure_is_annotated_where_the_checkout_has_the_file(tmp_path: Path) -> None:
    """File and line are given relative to the workspace, and left out of what lies elsewhere."""
    (tmp_path / "project/suites/locks").mkdir(parents=True)
    (tmp_path / "project/suites/locks/test_a.py").touch()
    found = report({LOCKS: "fail"}, failure=FAILURE)
    (line,) = commands(found, tmp_path / "project", tmp_path)
    name, properties, message = parsed(line)
    assert (name, properties["file"], properties["line"]) == ("error", "project/suites/locks/test_a.py", "12")
    assert properties["title"] == f"memory (local) fail: {EXCLUSION}"
    assert message.splitlines()[:2] == ["It holds.", "50% lost"]
    assert f"repeat: pytest '{LOCKS}[memory]' --backend=memory" in message
    for root, workspace in ((tmp_path, tmp_path), (tmp_path / "project", tmp_path / "other")):
        (line,) = commands(found, root, workspace)
        assert "file" not in parsed(line)[1]


@pytest.mark.parametrize("status", ["fail", "error", "unknown", "xpass"])
def test_what_fails_the_run_is_annotated(tmp_path: Path, status: str) -> None:
    """Each status with exit code 1 is an error; an unknown is one, too."""
    (line,) = commands(report({STATE: status}, failure=FAILURE), tmp_path, tmp_path)
    assert parsed(line)[0] == "error"
    assert f"memory (local) {status}:" in parsed(line)[1]["title"]


def test_many_failures_are_ten_annotations_with_the_worst_first(tmp_path: Path) -> None:
    """GitHub shows ten of a level: nine, and how many more; a violation is not hidden behind an unknown."""
    tests = {f"suites/locks/test_a.py::test_{n}": EXCLUSION for n in range(30)}
    statuses = dict.fromkeys(tests, "unknown") | {list(tests)[-1]: "fail"}
    found = [parsed(line) for line in commands(report(statuses, tests=tests), tmp_path, tmp_path)]
    assert len(found) == 10
    assert " fail:" in found[0][1]["title"]
    assert found[-1][2] == "and 21 more, in the report"


@pytest.mark.parametrize(
    ("about", "expected"),
    [({}, []), ({"narrowed": "only x was run"}, ["inconclusive"]), ({"finished": False}, [])],
)
def test_good_run_is_not_annotated_and_an_inconclusive_one_is(
    tmp_path: Path, about: dict[str, Any], expected: list[str]
) -> None:
    """A verdict that lacks something without a failed test is a warning; a good one is nothing."""
    found = [parsed(line) for line in commands(report(**about), tmp_path, tmp_path)]
    assert [(name, p["title"]) for name, p, _ in found] == [
        ("warning", f"lockproof: {word}") for word in expected
    ]


def test_summary_says_target_and_what_is_not_met() -> None:
    """The first line has verdict and target; an unmet requirement stands in the table with its text."""
    page = summary(report({MANY: "unknown"}, failure=FAILURE, target="fake"), "run")
    assert page.splitlines()[0] == "## lockproof: memory (fake): inconclusive"
    assert f"| memory | {EXCLUSION} | MUST | unknown |" in page
    assert "<details><summary>unknown: It holds.</summary>" in page
    assert "run/report.md" in page
    assert "| requirement |" not in summary(report(), "run")


def test_summary_holds_hostile_text() -> None:
    """What a backend said cannot end its block or open markup."""
    hostile = {**FAILURE, "observed": "`````\n<script>\n# CONFORMANT"}
    page = summary(report({LOCKS: "fail"}, failure=hostile, backend="py:x:<img>"), "run")
    assert page.count("``````") == 2
    assert "<img>" not in page.split("``````")[0]


def test_summary_stays_below_the_limit() -> None:
    """However much failed, GitHub takes the summary."""
    tests = {f"suites/locks/test_a.py::test_{n}": EXCLUSION for n in range(40)}
    long = {**FAILURE, "operations": ["x" * 200] * 1000}
    page = summary(report(dict.fromkeys(tests, "fail"), tests=tests, failure=long), "run")
    assert len(page.encode()) < 2**20
    assert "38 more failures in run/report.md" in page


def test_run_tells_github(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a job of Actions a run appends its summary and prints an annotation of each failure; last stands
    the path of the report."""
    target = pytester.path / "summary.md"
    target.write_text("earlier step\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    run = run_every_status(pytester)
    assert target.read_text(encoding="utf-8") == f"earlier step\n{summary(run.report, 'run')}"
    told = [parsed(line) for line in run.lines if line.startswith("::")]
    files = {properties.get("file") for _, properties, _ in told}
    assert [name for name, *_ in told] == ["error"] * 7
    assert files == {"test_every.py", None}
    assert "hunter22" not in "".join(run.lines)
    assert run.lines[-1].startswith("lockproof report: ")


def test_run_elsewhere_prints_no_commands(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Actions there are no annotations; a summary that cannot be written is a warning."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path))
    with pytest.warns(UserWarning, match="GITHUB_STEP_SUMMARY cannot be written"):
        run = run_every_status(pytester)
    assert [line for line in run.lines if line.startswith("::")] == []
    assert run.code == 1
