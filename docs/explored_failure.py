"""The files that show a failure which the explorer has found: schedule, history, story, timeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lockproof.checkers import check
from lockproof.explore import Exploration
from lockproof.history import HistoryWriter
from lockproof.report.operations import relevant
from lockproof.report.timeline import page
from lockproof.suites.concurrency.exploring import adopt


def write_failure(
    found: Exploration, folder: Path, opening: Sequence[str], backend: str, *, story: str, timeline: str
) -> None:
    """Writes them into `folder`; the story begins with `opening` and ends with how to replay the schedule on
    `backend`. Raises `SystemExit` when nothing was found."""
    if found.status != "violated" or found.schedule is None or found.history is None:
        raise SystemExit(f"no schedule fails: {found.status} after {found.schedules}, {found.reason}")
    folder.mkdir(exist_ok=True)
    found.schedule.save(folder / "schedule.json")
    with HistoryWriter(found.history.header, folder / "history.jsonl") as writer:
        adopt(found.history, writer)
    history = writer.history()
    verdict = check(history)
    lines = [
        *opening,
        "",
        *relevant(history, verdict.witness),
        "",
        f"Verdict: {verdict.headline}",
        "",
        f"Found by schedule {found.schedules} of two clients ({found.schedule.strategy}), shrunk to "
        f"{found.schedule.switches} switch{'es' * (found.schedule.switches != 1)}:",
        "",
        found.schedule.table(),
        "",
        "Replay it:",
        f"  pytest --backend={backend} --backend-schedule docs/{folder.name}/schedule.json",
    ]
    (folder / story).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / timeline).write_text(page(history), encoding="utf-8")
