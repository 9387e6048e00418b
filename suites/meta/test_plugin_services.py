"""What all processes of a run share is started once, by the controller, and always stopped."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lockproof.suites.meta.runs import QUICK, clean_environment, run_apart, run_here
from lockproof.suites.meta.shared_service import marks

pytest_plugins = ["pytester"]
BACKEND = "py:lockproof.suites.meta.shared_service:SharedService"
SIX_TESTS = """
import pytest

@pytest.mark.parametrize("n", range(6))
def test_writes(alice, n):
    alice.put("default", b"{}")
"""

WAITING_TEST = """
import os

def test_waits(alice):
    os.write(os.open("ready", os.O_WRONLY), b"ready")
    os.read(os.open("gate", os.O_RDONLY), 2)
"""


def options(folder: Path) -> list[str]:
    return [f"--backend-opt=marks={folder}", "--backend-opt=password=tiger-in-the-tank"]


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_service_is_started_once_and_stopped(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """One process starts and stops the service; every other one only connects to its address."""
    pytester.makepyfile(test_six=SIX_TESTS)
    run = run_here(pytester, "test_six.py", *options(pytester.path), *workers, backend=BACKEND)
    assert run.code == 0
    lines = marks(pytester.path)
    starter = lines[0].rpartition(" ")[2]
    assert lines[0] == f"started in {starter}"
    assert lines[-1] == f"stopped in {starter}"
    drivers = lines[1:-1]
    assert {line.split()[1] for line in drivers} == {f"service-{starter}"}
    users = {line.split()[3] for line in drivers} - {starter}
    assert len(users) == (2 if workers else 0)
    assert sum(line.startswith(("started", "stopped")) for line in lines) == 2


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_service_is_stopped_when_the_run_is_interrupted(
    tmp_path: Path, stop: signal.Signals, workers: tuple[str, ...]
) -> None:
    """Ctrl-C and a polite kill stop what was started, and the reports are written all the same."""
    (tmp_path / "test_wait.py").write_text(WAITING_TEST, encoding="utf-8")
    os.mkfifo(tmp_path / "ready")
    os.mkfifo(tmp_path / "gate")
    ready, gate = os.open(tmp_path / "ready", os.O_RDWR), os.open(tmp_path / "gate", os.O_RDWR)
    command = [sys.executable, "-m", "pytest", *QUICK, f"--backend={BACKEND}", "--backend-report=run"]
    process = subprocess.Popen(
        [*command, *options(tmp_path), *workers, "test_wait.py"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert select.select([ready], [], [], 60)[0], "the test did not start"
    process.send_signal(stop)
    os.write(gate, b"go")  # a worker is not interrupted; it ends its test
    output, _ = process.communicate(timeout=60)
    os.close(ready)
    os.close(gate)
    assert process.returncode == 2, output
    assert marks(tmp_path)[-1].startswith("stopped in")
    assert (tmp_path / "run" / "report.json").exists()


def test_service_that_cannot_be_started_is_one_line(pytester: pytest.Pytester) -> None:
    """The reason is told in one line without the password; nothing is collected, so the code is 4."""
    pytester.makepyfile(test_six=SIX_TESTS)
    broken = "--backend-opt=broken=no room"
    run = run_here(pytester, "test_six.py", broken, *options(pytester.path), backend=BACKEND)
    assert run.code == 4
    assert f"backend {BACKEND} could not be started: no service: no room with ***" in run.output
    assert "Traceback" not in run.output
    assert "tiger-in-the-tank" not in run.output


def test_bad_option_of_a_driver_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """A ValueError of the driver is the user's mistake: one line, code 4."""
    pytester.makepyfile(test_six=SIX_TESTS)
    run = run_here(pytester, "test_six.py", backend=BACKEND)
    assert run.code == 4
    assert f"backend {BACKEND}: option marks is missing: name a folder" in run.output
    run = run_here(pytester, "test_six.py", "--backend-opt=colour=blue")
    assert run.code == 4
    assert "memory driver takes no options" in run.output


def test_secrets_stay_in_the_process(pytester: pytest.Pytester) -> None:
    """No secret is found in anything that a failing run prints or writes."""
    pytester.makepyfile(
        test_leak="""
        def test_leak(backend, alice, capsys):
            print("printed tiger-in-the-tank and s3cr3t-of-the-service")
            alice.put("default", b"{}")
            address = "https://bob:pw@example.org/x?sig=abcdef0123"
            assert backend.connect().info == f"{address} Bearer abcdef0123456789"
        """
    )
    dsn = "--backend-postgres=postgresql://me:open-sesame@127.0.0.1/db"
    run = run_here(pytester, "test_leak.py", dsn, *options(pytester.path), backend=BACKEND)
    assert run.statuses() == {"test_leak": "fail"}
    assert any(line.endswith("dsn postgresql://me:open-sesame@127.0.0.1/db") for line in marks(pytester.path))
    written = [p.read_text(encoding="utf-8") for p in run.folder.rglob("*") if p.is_file()]
    assert len(written) >= 5
    for secret in ("tiger-in-the-tank", "s3cr3t-of-the-service", "open-sesame", "bob:pw", "abcdef0123"):
        assert [text for text in (run.output, *written) if secret in text] == []


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_driver_of_the_working_directory_is_found(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """`py:` names a module beside the tests, also in a worker, also where pytest adds no path."""
    text = "from lockproof.driver.memory import MemoryDriver as make\n"
    (tmp_path / "my_driver.py").write_text(text, encoding="utf-8")
    (tmp_path / "test_six.py").write_text(SIX_TESTS, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("pytest")), *QUICK, "--import-mode=importlib"]
    done = subprocess.run(
        [*command, "--backend=py:my_driver:make", "test_six.py", *workers],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_postgres_is_handed_only_to_drivers_that_start_something(pytester: pytest.Pytester) -> None:
    """A driver without `provision` is not bothered with a DSN."""
    pytester.makepyfile(test_six=SIX_TESTS)
    assert run_here(pytester, "test_six.py", "--backend-postgres=postgresql://me@127.0.0.1/db").code == 0


def test_help_starts_nothing(tmp_path: Path) -> None:
    """--help shows the options and starts nothing."""
    run = run_apart(tmp_path, f"--backend={BACKEND}", f"--backend-opt=marks={tmp_path}", "--help")
    assert run.code == 0
    assert "--backend-seed" in run.output
    assert not (tmp_path / "marks.txt").exists()
