"""A run that is killed leaves a usable record."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from lockproof.history import read_history
from lockproof.report import EventError, read_events, render, schema
from lockproof.suites.meta.runs import FOLDER, QUICK, clean_environment

TESTS = """
import os
import re

def test_first(alice):
    alice.put("default", b"{}")

def test_second(alice):
    alice.lock("default", __import__("lockproof.driver").driver.LockInfo.new("alice"))
    os.write(3, b"now")
    os.read(4, 1)

def test_third(alice):
    assert alice.get("default") is None
"""


def test_killed_run_leaves_events_to_derive_a_report_from(tmp_path: Path) -> None:
    """After kill -9 in the middle, what was done is reported, the rest is not-run, and nothing is lost."""
    (tmp_path / "test_kill.py").write_text(TESTS, encoding="utf-8")
    said, say = os.pipe()
    heard, hear = os.pipe()
    command = [sys.executable, "-m", "pytest", *QUICK, "--backend=memory", f"--backend-report={FOLDER}"]
    shell = f'exec "$@" 3>&{say} 4<&{heard}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "run", *command, "-s", "test_kill.py"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        pass_fds=(say, heard),
    )
    os.close(say)
    assert os.read(said, 3) == b"now"  # the second test is under way
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    for descriptor in (said, heard, hear):
        os.close(descriptor)
    folder = tmp_path / FOLDER
    assert not (folder / "report.json").exists()
    assert [event["event"] for event in read_events(folder / "events.ndjson")] == [
        "start",
        "manifest",
        "result",
    ]
    report = render(folder)
    jsonschema.Draft202012Validator(schema()).validate(report)
    results = {r["test"].partition("::")[2]: r["status"] for r in report["backends"][0]["results"]}
    assert results == {"test_first": "pass", "test_second": "not-run", "test_third": "not-run"}
    assert not report["run"]["complete"]
    assert report["backends"][0]["verdict"]["result"] == "inconclusive"
    history = read_history(folder / "histories" / "test_kill.test_second-memory.jsonl")
    assert not history.closed
    assert [operation.f for operation in history.operations()] == ["lock"]


def test_line_cut_short_is_dropped(tmp_path: Path) -> None:
    """A last line that a crash cut off is not an error."""
    path = tmp_path / "events.ndjson"
    start = '{"event":"start","v":1}\n'
    path.write_text(start + '{"event":"res', encoding="utf-8")
    assert [event["event"] for event in read_events(path)] == ["start"]


@pytest.mark.parametrize(
    "text", ["", "not json\n", '{"event":"start","v":2}\n', '{"v":1}\n', '{"event":"finish"}\n']
)
def test_file_that_is_no_event_log_is_refused(tmp_path: Path, text: str) -> None:
    """A file of another kind or version is named, not half read."""
    path = tmp_path / "events.ndjson"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EventError, match=re.escape(str(path))):
        read_events(path)
