"""The run folder: where everything that a run leaves behind is found."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from pathlib import Path

EVENTS = "events.ndjson"
HISTORIES = "histories"
SCHEDULES = "schedules"
HOME = ".lockproof"


class FolderError(ValueError):
    """A folder that cannot be used; the message is one line for the user."""


def create(chosen: str | None, run_id: str, started: datetime.datetime, cwd: Path) -> tuple[Path, str]:
    """The run folder, made now, and a remark (`""` when there is none).

    Without a choice it is `.lockproof/run-<utc>-<id>` of the working directory, or a folder of the
    system's temporary directory where that cannot be written. Raises `FolderError` for a chosen
    folder that holds something else than an earlier run, or cannot be written.
    """
    if chosen is not None:
        return _chosen(cwd / chosen), ""
    name = f"run-{started:%Y%m%dT%H%M%SZ}-{run_id}"
    try:
        folder = home(cwd) / name
        (folder / HISTORIES).mkdir(parents=True)
    except OSError as failure:
        folder = Path(tempfile.mkdtemp(prefix=f"lockproof-{name}-"))
        (folder / HISTORIES).mkdir()
        return folder, f"{cwd} cannot be written ({failure.strerror}); the run folder is {folder}"
    return folder, ""


def home(cwd: Path) -> Path:
    """The folder of the working directory that holds what runs leave, made where it is not there; version
    control ignores it. Raises `OSError` where it cannot be written."""
    folder = cwd / HOME
    folder.mkdir(exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return folder


def _chosen(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / EVENTS).exists():
            raise FolderError(f"--backend-report: {folder} holds other files; choose an empty or new folder")
        for made in (HISTORIES, SCHEDULES):
            shutil.rmtree(folder / made, ignore_errors=True)
        for old in folder.glob("*.*"):
            if old.name in {EVENTS, "report.json", "report.html", "report.md", "junit.xml"}:
                old.unlink()
        (folder / HISTORIES).mkdir()
    except (FileExistsError, NotADirectoryError):
        raise FolderError(f"--backend-report: {folder} is not a folder") from None
    except OSError as failure:
        raise FolderError(f"--backend-report: cannot write {folder}: {failure.strerror}") from None
    return folder
