"""Reports: everything that is written about a run is derived from its events."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lockproof.history import HistoryError, read_history
from lockproof.report.build import build, schema
from lockproof.report.events import EventError, EventLog, read_events
from lockproof.report.folder import EVENTS, HISTORIES
from lockproof.report.junit import junit
from lockproof.report.markdown import markdown

__all__ = [
    "EventError",
    "EventLog",
    "build",
    "junit",
    "markdown",
    "publish",
    "read_events",
    "render",
    "schema",
]


def publish(events: Sequence[Mapping[str, Any]], folder: Path, shown: str) -> dict[str, Any]:
    """Writes `report.json`, `junit.xml`, `report.md`, `report.html` and, beside the history of every failure,
    its page and its program into a run folder, and returns the report.

    `shown` is how the texts name the folder.
    """
    from lockproof.report import html  # who only reads reports needs no template engine

    report = build(events, folder / HISTORIES)
    text = json.dumps(report, ensure_ascii=False, indent=1)
    (folder / "report.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / "junit.xml").write_text(junit(report, shown), encoding="utf-8")
    (folder / "report.md").write_text(markdown(report, shown), encoding="utf-8")
    whole = html.page(report, shown, folder / HISTORIES)
    (folder / "report.html").write_text(whole, encoding="utf-8")
    _draw(report, folder / HISTORIES)
    return report


def _draw(report: Mapping[str, Any], histories: Path) -> None:
    """Writes the timeline and the program of every failure that has a history, under the names that its
    card gives."""
    failures = [r["failure"] for b in report["backends"] for r in b["results"] if r["failure"]]
    recorded = [failure for failure in failures if failure["history"]]
    if recorded:
        from lockproof.report.timeline import page  # most runs need no template engine
    for failure in recorded:
        path = histories / failure["history"]
        if failure["program"]:
            path.with_suffix(".py").write_text(failure["program"], encoding="utf-8")
        with contextlib.suppress(FileNotFoundError, HistoryError):  # a crash may have left no history
            path.with_suffix(".html").write_text(page(read_history(path)), encoding="utf-8")


def render(folder: Path) -> dict[str, Any]:
    """Derives the reports of a run folder again from its events, finished or not.

    Raises `EventError` when its events are not readable.
    """
    return publish(read_events(folder / EVENTS), folder, str(folder))
