"""Histories that a command reads, and files that it writes; a bad one is one line for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from lockproof.history import History, HistoryError, read_history


def read(path: Path) -> History:
    """The history in `path`. Raises `click.UsageError` for what cannot be read or is none."""
    with reading(path):
        return read_history(path)


@contextmanager
def reading(*paths: Path) -> Iterator[None]:
    """Where histories are read: raises `click.UsageError` for a file that cannot be read or is none."""
    try:
        yield
    except HistoryError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        name = error.filename or " + ".join(map(str, paths))
        raise click.UsageError(f"cannot read {name}: {error.strerror or error}") from None


def write(path: Path, text: str, *, but_not: Path) -> None:
    """Writes `text`, whole or not at all. Raises `click.UsageError` where it cannot, or for the input."""
    if path.exists() and path.samefile(but_not):
        raise click.UsageError(f"{path} is what was read; name another file with -o")
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise click.UsageError(f"cannot write {path}: {error.strerror}") from None
