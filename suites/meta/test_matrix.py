"""`lockproof matrix`: runs side by side, and no cell better than what was run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from lockproof.cli import cli
from lockproof.report import schema
from lockproof.report.matrix import markdown, matrix
from lockproof.report.reading import ReportError, read_reports
from lockproof.suites.meta.compared_reports import (
    EXCLUSION,
    LISTING,
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


def compared(*folders: Path) -> dict[str, Any]:
    return matrix([tested for folder in folders for tested in read_reports(folder)])


def row(page: str, requirement: str) -> list[str]:
    """The cells of a requirement's row, without its id and level."""
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {requirement} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


def test_specimens_are_reports() -> None:
    """What these tests compare is valid by the shipped schema."""
    made = report({LOCKS: "unknown"}, narrowed="only a.py was run")
    assert list(jsonschema.Draft202012Validator(schema()).iter_errors(made)) == []


def test_backends_stand_side_by_side(tmp_path: Path) -> None:
    """Each run has a column with its target kind, and a row says how many tests of a requirement tell it."""
    one = written(tmp_path / "one")
    other = written(tmp_path / "two", {MANY: "fail", WORKSPACES: "skip"}, backend="http:x", target="real")
    page = markdown(compared(one, other))
    assert (
        page.splitlines()[0] == "# lockproof matrix: memory (local): conformant; http:x (real): nonconformant"
    )
    assert "| requirement | level | memory (local) | http:x (real) |" in page
    assert row(page, EXCLUSION) == ["✔ 2/2", "✘ fail 1/2"]
    assert row(page, ROUND_TRIP) == ["✔ 1/1", "✔ 1/1"]
    assert row(page, LISTING) == ["✔ 1/1", "n/a: skip"]


@pytest.mark.parametrize("status", ["fail", "error", "unknown", "xfail", "xpass", "flaky", "not-run"])
def test_one_test_that_did_not_pass_takes_the_tick(tmp_path: Path, status: str) -> None:
    """A requirement of which one test passed and another did not shows what the other found."""
    page = markdown(compared(written(tmp_path / "one", {MANY: status})))
    assert row(page, EXCLUSION) == [f"{'✘' if status in {'fail', 'xfail', 'xpass'} else '?'} {status} 1/2"]


def test_what_a_run_left_out_is_not_tested(tmp_path: Path) -> None:
    """A requirement without a test in one run is `not tested` there; what no run tested is listed."""
    page = markdown(
        compared(written(tmp_path / "one"), written(tmp_path / "two", {STATE: ""}, backend="file"))
    )
    assert row(page, ROUND_TRIP) == ["✔ 1/1", "not tested"]
    (rest,) = [line for line in page.splitlines() if line.startswith("Not tested by any of these runs: ")]
    assert "LOCK-EXCL-002" in rest
    assert EXCLUSION not in rest


def test_switched_off_tests_are_counted(tmp_path: Path) -> None:
    """A pass beside tests that were switched off is no full count."""
    run = written(tmp_path / "one", {MANY: "disabled"}, disabled=("locking.fencing",))
    page = markdown(compared(run))
    assert row(page, EXCLUSION) == ["(✔) 1/2"]
    assert "**without locking.fencing**" in page


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"narrowed": "only suite locks was run"}, "**only suite locks was run**"),
        ({"faults": ["net"]}, "**only faults net**"),
        ({"finished": False}, "**the run did not finish**"),
    ],
)
def test_narrowed_run_has_no_full_tick(tmp_path: Path, about: dict[str, Any], said: str) -> None:
    """A run of a part says so in its column, and its passes stand in brackets; the whole one's do not."""
    page = markdown(
        compared(written(tmp_path / "whole"), written(tmp_path / "part", backend="file", **about))
    )
    (head,) = [line for line in page.splitlines() if line.startswith("| requirement | level |")]
    assert [said in cell for cell in head.strip("|").split("|")[2:]] == [False, True]
    assert row(page, EXCLUSION) == ["✔ 2/2", "(✔) 2/2"]


def test_different_tiers_say_so_in_their_columns(tmp_path: Path) -> None:
    """The tier stands in the heads where the runs differ in it."""
    runs = [written(tmp_path / tier, tier=tier, backend=tier) for tier in ("default", "full")]
    assert "| default (local)<br>tier default | full (local)<br>tier full |" in markdown(compared(*runs))
    assert "<br>tier" not in markdown(compared(runs[0]))


def test_different_requirements_are_never_aligned(tmp_path: Path) -> None:
    """Runs that were held to different demands have tables of their own, and the page says why."""
    found = compared(written(tmp_path / "one"), written(tmp_path / "two", backend="file", digest="0" * 64))
    assert [[c["backend"] for c in group["columns"]] for group in found["groups"]] == [["memory"], ["file"]]
    page = markdown(found)
    assert "held to 2 different sets of requirements" in page
    assert page.count("| requirement | level |") == 2
    assert "different sets" not in markdown(compared(tmp_path / "one"))


def test_latencies_of_different_targets_stand_apart(tmp_path: Path) -> None:
    """Times on a fake and on a real target share no table; two on a fake do."""
    runs = []
    for name, target in (("a", "fake"), ("b", "real"), ("c", "fake")):
        document = report(backend=name, target=target)
        row = {"op": "get", "n": 3, "p50": 1.0, "p95": 2.0, "p99": 3.0, "target": None, "met": None}
        document["backends"][0]["latency"] = [row]
        runs.append(put(tmp_path / name, document))
    found = compared(*runs)["latency"]
    assert [(kind["target"], [row["backend"] for row in kind["rows"]]) for kind in found] == [
        ("fake", ["a (fake)", "c (fake)"]),
        ("real", ["b (real)"]),
    ]


def test_equal_backends_are_told_apart_by_folder(tmp_path: Path) -> None:
    """Two runs of one backend are named by where they come from."""
    found = compared(written(tmp_path / "one"), written(tmp_path / "two"))
    assert [c["label"] for c in found["groups"][0]["columns"]] == [
        f"memory (local), {tmp_path / name}" for name in ("one", "two")
    ]


def test_strange_names_are_text(tmp_path: Path) -> None:
    """Whoever wrote a report, no markup and no line of its own comes out of it."""
    evil = 'py:m|f <img src=x onerror="y">`*[a](b)\n## CONFORMANT'
    page = markdown(compared(written(tmp_path / "one", backend=evil, narrowed="<script>|")))
    assert "<img" not in page
    assert "<script>" not in page
    assert not [line for line in page.splitlines() if line.startswith("## CONFORMANT")]
    assert (
        len(
            {
                line.replace("\\|", "").count("|")
                for line in page.splitlines()
                if line.startswith("| STATE-RT")
            }
        )
        == 1
    )
    (head,) = [line for line in page.splitlines() if line.startswith("| requirement | level |")]
    assert head.replace("\\|", "").count("|") == 4


def claims_a_pass(document: dict[str, Any]) -> None:
    document["backends"][0]["requirements"][0]["status"] = "pass"


def claims_conformance(document: dict[str, Any]) -> None:
    document["backends"][0]["verdict"]["result"] = "conformant"


def claims_a_count(document: dict[str, Any]) -> None:
    document["backends"][0]["verdict"]["must"]["met"] = 99


def claims_what_was_not_run(document: dict[str, Any]) -> None:
    rolled = {"id": "LOCK-EXCL-002", "level": "MUST", "status": "pass", "tests": ["x"]}
    document["backends"][0]["requirements"].append(rolled)


@pytest.mark.parametrize("lie", [claims_a_pass, claims_conformance, claims_a_count, claims_what_was_not_run])
def test_report_that_contradicts_itself_is_refused(
    tmp_path: Path, lie: Callable[[dict[str, Any]], None]
) -> None:
    """What a report concludes must follow from its results."""
    document = report({LOCKS: "fail"})
    read_reports(put(tmp_path / "honest", document))
    lie(document)
    with pytest.raises(ReportError, match="contradicts itself"):
        read_reports(put(tmp_path / "lie", document))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file or folder"),
        ("", "no JSON"),
        ("[1]", "no backends in it"),
        (json.dumps({**report(), "schema": 9}), "a report of schema 9, not 1"),
        (
            json.dumps({**report(), "suite": {"name": "lockproof", "version": "0"}}),
            "what the run was held to",
        ),
        (json.dumps({**report(), "run": {}}), "not a whole lockproof report"),
        (json.dumps({**report(), "backends": []}), "no backend was tested"),
        (
            json.dumps(report()).replace('"status": "pass"', '"status": "green"', 1),
            "'green' is none of fail, ",
        ),
    ],
)
def test_unusable_input_is_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    """A file that is no report ends the commands with exit code 4 and one line that names it."""
    file = tmp_path / "r.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    result = CliRunner().invoke(cli, ["matrix", str(file)], standalone_mode=False)
    assert said in str(result.exception)
    assert str(file) in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.output == ""


def test_command_prints_page_and_json(tmp_path: Path) -> None:
    """`matrix` reads folders and files, and prints Markdown or the same as JSON."""
    run = written(tmp_path / "one")
    page = CliRunner().invoke(cli, ["matrix", str(run), str(run / "report.json")], standalone_mode=False)
    assert page.return_value == 0
    assert row(page.output, EXCLUSION) == ["✔ 2/2", "✔ 2/2"]
    data = CliRunner().invoke(cli, ["matrix", str(run), "--format", "json"], standalone_mode=False)
    (group,) = json.loads(data.output)["groups"]
    assert {r["id"] for r in group["rows"]} == set(TESTS.values())
    assert group["rows"][0]["text"] != ""
