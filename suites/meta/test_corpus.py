"""Histories recorded by earlier versions stay readable, and their verdicts stay what they were."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lockproof.checkers import check, check_stream
from lockproof.checkers.minimise import minimise
from lockproof.history import read_history, stream_history
from lockproof.history.lines import lines
from lockproof.report.operations import relevant
from lockproof.report.timeline import page, picture

FOLDER = Path(__file__).parent / "histories"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "expected.toml").read_text(encoding="utf-8"))
VIOLATED = sorted(name for name, entry in EXPECTED.items() if entry["status"] == "violated")


def history_file(name: str) -> Path:
    return FOLDER / f"{name}.jsonl"


def test_every_file_has_an_expected_verdict_and_every_verdict_a_file() -> None:
    """Nothing lies beside the table, and nothing of it is missing."""
    assert {path.stem for path in FOLDER.glob("*.jsonl")} == set(EXPECTED)
    assert {entry["status"] for entry in EXPECTED.values()} == {"valid", "violated", "unknown"}
    assert all(entry["story"].endswith(".") for entry in EXPECTED.values())


def test_corpus_is_small_and_has_of_everything() -> None:
    """Below 1 MB in all; every kind of event, every call, every kind of outcome of locks is there."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000
    events = [event for name in EXPECTED for event in read_history(history_file(name)).events]
    assert {event.e for event in events} >= {"invoke", "ok", "fail", "info", "note"}
    calls = {event.f for event in events if event.e == "invoke"}
    assert calls == {"lock", "unlock", "get", "put", "delete", "delete_workspace", "workspaces"}
    notes = {event.f for event in events if event.e == "note"}
    assert notes >= {"process", "scope", "late", "remark", "explored"}
    locks = {event.e for event in events if event.f == "lock"}
    assert locks == {"invoke", "ok", "fail", "info"}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_no_recorded_history_names_the_machine(name: str) -> None:
    """The boot of its machine is a digest, and no kernel's boot id."""
    assert re.fullmatch("[0-9a-f]{16}|", read_history(history_file(name)).header.get("boot", ""))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_verdict_of_a_recorded_history_is_what_it_was(name: str) -> None:
    """Read whole or as a stream, each history has the verdict and the anomaly of the table."""
    verdict = check(read_history(history_file(name)))
    entry = EXPECTED[name]
    assert (verdict.status, verdict.details.get("anomaly")) == (entry["status"], entry.get("anomaly"))
    streamed = check_stream(stream_history(history_file(name)))
    assert (streamed.status, streamed.details.get("anomaly")) == (verdict.status, entry.get("anomaly"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_recorded_history_can_be_drawn(name: str) -> None:
    """Page and picture of each history say its verdict."""
    history = read_history(history_file(name))
    status = EXPECTED[name]["status"]
    assert f"<title>{status}: " in page(history)
    assert f"{status}: " in str(ElementTree.fromstring(picture(history)).get("aria-label"))


@pytest.mark.parametrize("name", VIOLATED)
def test_recorded_violation_is_told_and_cut_in_a_few_operations(name: str, tmp_path: Path) -> None:
    """The witness is at most six operations, and the cut shows the same anomaly and is a history too."""
    history = read_history(history_file(name))
    assert 1 <= len(relevant(history, check(history).witness, most=None)) <= 6
    cut = minimise(history, check, source=f"{name}.jsonl")
    path = tmp_path / "cut.jsonl"
    path.write_text("".join(lines(cut.history)), encoding="utf-8")
    again = check(read_history(path))
    assert (again.status, again.details.get("anomaly")) == ("violated", EXPECTED[name]["anomaly"])
    assert len(cut.history.operations()) <= 10
