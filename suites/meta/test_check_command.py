"""`lockproof check`: verdicts, words, JSON, merging, folders, and one line for what is no history."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lockproof.cli.check import check
from lockproof.history import Event, History
from lockproof.history.generate import Workload, write
from lockproof.history.lines import lines
from lockproof.suites.meta.tape import Tape


def run(*words: object) -> Result:
    return CliRunner().invoke(check, [str(word) for word in words], standalone_mode=False)


def judged(*words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--json").output)
    return found


def save(path: Path, history: History) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(lines(history)), encoding="utf-8")
    return path


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    """A history of a state that is read as it was written."""
    tape = Tape()
    tape.put("one")
    tape.get("one")
    return save(tmp_path / "runs" / "valid.jsonl", tape.history())


@pytest.fixture
def stale(tmp_path: Path) -> Path:
    """A history with a stale read."""
    tape = Tape()
    for value in ("one", "two"):
        tape.put(value)
    tape.get("two")
    tape.get("one")
    return save(tmp_path / "runs" / "stale.jsonl", tape.history())


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A history without a footer."""
    tape = Tape()
    tape.lock("a")
    return save(tmp_path / "runs" / "cut.jsonl", tape.history(closed=False))


def test_the_exit_code_is_the_worst_verdict(valid: Path, stale: Path, cut: Path) -> None:
    """0 for valid, 1 as soon as one is violated, 2 for unknown; every file has its line."""
    assert run(valid).return_value == 0
    assert run(valid, cut).return_value == 2
    found = run(cut, stale, valid)
    assert found.return_value == 1
    heads = [line for line in found.output.splitlines() if not line.startswith(" ")]
    assert [head.split(": ")[:2] for head in heads] == [
        [str(cut), "unknown"],
        [str(stale), "violated"],
        [str(valid), "valid"],
    ]


def test_json_tells_anomaly_workspace_witness_and_what_was_checked(stale: Path, valid: Path) -> None:
    """Programs read everything that people do, and what was judged."""
    found = judged(stale, valid)
    assert found["status"] == "violated"
    first, second = found["histories"]
    assert first["path"] == str(stale)
    assert (first["status"], first["anomaly"], first["workspace"]) == ("violated", "stale read", "default")
    assert set(first["witness"]) >= {4, 5, 6, 7}
    assert len(first["operations"]) == 4
    assert "get default" in first["operations"][-1]
    assert first["counted"] == 4
    assert first["checked"] == ["locks", "states", "workspaces"]
    assert second == {
        "path": str(valid),
        "status": "valid",
        "headline": second["headline"],
        "anomaly": None,
        "workspace": None,
        "witness": [],
        "operations": [],
        "counted": 2,
        "checked": ["locks", "states", "workspaces"],
    }


def test_people_and_programs_are_told_the_same(stale: Path) -> None:
    """The lines on the terminal are those of the JSON."""
    (told,) = judged(stale)["histories"]
    first, *rest = run(stale).output.splitlines()
    assert first == f"{stale}: violated: {told['headline']}"
    assert [line.strip() for line in rest] == told["operations"]


def test_a_long_history_is_told_without_keeping_it(stale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the witness alone is read again: the same operations, without remarks."""
    (short,) = judged(stale)["histories"]
    monkeypatch.setattr(importlib.import_module("lockproof.cli.check"), "TOLD", 3)
    (long,) = judged(stale)["histories"]
    assert [line.split(" ms")[0] for line in long["operations"]] == [
        line.split(" ms")[0] for line in short["operations"]
    ]
    assert long["operations"] != short["operations"], "a remark needs the whole history"
    assert {**long, "operations": None} == {**short, "operations": None}


def test_fencing_is_judged_when_claimed_or_asked_for(tmp_path: Path) -> None:
    """A write under a released lock is a violation only where fencing is promised."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.put("late", lock_id="id-a")
    path = save(tmp_path / "late.jsonl", tape.history())
    assert run(path).return_value == 0
    assert run(path, "--fencing").return_value == 1
    assert "fencing" in judged(path, "--fencing")["histories"][0]["checked"]
    for claim in ("locking.fencing", "locking.fencing-strict"):
        claimed = History({"v": 1, "capabilities": [claim]}, tuple(tape.events), True)
        (found,) = judged(save(path, claimed))["histories"]
        assert (found["status"], "fencing" in found["checked"]) == ("violated", True)


def test_a_folder_stands_for_the_histories_in_it(valid: Path, stale: Path, cut: Path) -> None:
    """A run folder can be checked as a whole, in the order of names."""
    found = judged(valid.parent.parent)
    assert [history["path"] for history in found["histories"]] == [str(cut), str(stale), str(valid)]


def test_files_of_several_processes_are_judged_as_one(tmp_path: Path) -> None:
    """What one process reads another one may have written: apart a violation, together none."""
    files = []
    for name, start in (("writer", 1000), ("reader", 9000)):
        tape = Tape()
        tape.put("one") if name == "writer" else tape.get("one")
        history = History({"v": 1, "start": start, "backend": "b"}, tuple(tape.events), True)
        files.append(save(tmp_path / f"{name}.jsonl", history))
    assert run(*files).return_value == 1
    assert run(*files, "--merge").return_value == 0
    (merged,) = judged(*files, "--merge")["histories"]
    assert (merged["path"], merged["counted"]) == (f"{files[0]} + {files[1]}", 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello\n", ":1: not JSON"),
        ("", "empty file"),
        ('{"header":{"v":1}}\n{"i":0,"t":0,"p":0,"e":"invoke","f":"put","in":{}}\n{}\n', ":2: put without"),
        (None, "cannot read"),
    ],
)
def test_what_is_no_history_is_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    """A bad file ends the command with one line that names it, and code 4."""
    path = tmp_path / "bad.jsonl"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    done = shell("check", str(path))
    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 1
    assert str(path) in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("words", [["check"], ["check", "--json"], ["minimise"], ["timeline"]], ids=" ".join)
def test_every_command_refuses_a_malformed_history_alike(words: list[str], tmp_path: Path) -> None:
    """A field of another type is not taken for a violation: one line, code 4, nothing written."""
    path = tmp_path / "bad.jsonl"
    path.write_text('{"header":{"v":1}}\n{"i":0,"t":1,"p":[1],"e":"invoke","f":"get","ws":"a"}\n')
    done = shell(*words, str(path))
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"lockproof: {path}:2: p is [1], not a whole number\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_history_without_operations_is_unknown(tmp_path: Path, valid: Path) -> None:
    """What did nothing proves nothing, with or without notes, told to people and programs."""
    bare = save(tmp_path / "bare.jsonl", History({"v": 1}, (), True))
    note = Event(0, 1, -1, "note", "scope", given={"name": "s"})
    noted = save(tmp_path / "noted.jsonl", History({"v": 1}, (note,), True))
    for path in (bare, noted):
        assert run(path, valid).return_value == 2
        assert run(path).output == f"{path}: unknown: nothing to judge: no operation was recorded\n"
        found = judged(path)
        (told,) = found["histories"]
        assert (found["status"], told["status"], told["counted"]) == ("unknown", "unknown", 0)
        assert told["headline"] == "nothing to judge: no operation was recorded"


def test_in_a_folder_a_history_without_operations_does_not_count_beside_others(valid: Path) -> None:
    """A run folder has histories of tests that called nothing: shown as unknown, the others decide; where
    there are no others the folder proves nothing."""
    bare = save(valid.parent / "bare.jsonl", History({"v": 1}, (), True))
    assert run(valid.parent).return_value == 0
    found = judged(valid.parent)
    assert [history["status"] for history in found["histories"]] == ["unknown", "valid"]
    assert found["status"] == "valid"
    assert run(valid.parent, bare).return_value == 2, "it was asked for by its name"
    valid.unlink()
    assert run(bare.parent).return_value == 2


def test_an_empty_folder_and_histories_that_cannot_be_merged_are_one_line(
    tmp_path: Path, valid: Path, stale: Path
) -> None:
    """Bad input of the other kinds: a folder without histories, files without a common clock."""
    empty = tmp_path / "empty"
    empty.mkdir()
    for words in ([str(empty)], [str(valid), str(stale), "--merge"]):
        done = shell("check", *words)
        assert done.returncode == 4
        assert len(done.stderr.splitlines()) == 1
        assert words[0] in done.stderr


def test_a_long_history_is_checked_in_bounded_memory(tmp_path: Path) -> None:
    """Five times the operations: the command grows by less than a fifth of what the file does."""

    def peak(operations: int) -> tuple[int, int]:
        path = tmp_path / f"{operations}.jsonl"
        write(Workload(model="register", operations=operations, clients=10, seed=8, deletes=0.1), path)
        program = "import resource, sys; from lockproof.cli import cli; "
        program += "code = cli.main(['check', sys.argv[1]], standalone_mode=False); "
        program += "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=120,
        )
        code, most = done.stdout.splitlines()[-1].split()
        assert code == "0"
        return int(most) * 1024, path.stat().st_size

    (short, small), (long, large) = peak(6_000), peak(30_000)
    assert long - short < (large - small) / 5


def shell(*words: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from lockproof.cli import main; sys.argv[0] = 'lockproof'; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=60
    )
