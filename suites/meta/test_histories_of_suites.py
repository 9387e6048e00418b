"""What a run records can be judged offline: nothing that a correct backend did looks like a violation."""

from __future__ import annotations

from pathlib import Path

from lockproof.checkers import check
from lockproof.history import read_history
from lockproof.suites.meta.runs import run_apart

SEVERAL = (  # tests with two key spaces, or with clients in other processes
    "suites/locks/test_crash.py",
    "suites/locks/test_exclusion.py",
    "suites/state/test_visibility.py",
)


def test_history_of_a_correct_backend_is_never_violated(tmp_path: Path) -> None:
    """Two places have two histories, and what another process did is recorded as its parent saw it."""
    run = run_apart(tmp_path, *SEVERAL, "--backend=file", "--backend-report=run")
    assert run.code == 0, run.output
    found = {path.name: check(read_history(path)) for path in run.folder.glob("histories/*.jsonl")}
    assert {name for name, verdict in found.items() if verdict.status == "violated"} == set()
    assert sum(".other" in name for name in found) == 3
    names = {
        name for path in run.folder.glob("histories/*.jsonl") for name in read_history(path).names.values()
    }
    assert {"victim", "elsewhere"} <= names


def test_places_that_are_one_are_seen_in_the_history_too(tmp_path: Path) -> None:
    """The history of the other place shows what came from this one."""
    backend = "--backend=py:lockproof.fakes.saboteurs.visibility:OnePlace"
    run = run_apart(tmp_path, *SEVERAL[1:], backend, "--backend-report=run")
    assert run.code == 1, run.output
    other = list(run.folder.glob("histories/*.other-1.jsonl"))
    assert [check(read_history(path)).status for path in other] == ["violated"] * 3
