"""Reports that a command reads; a bad one is one line for the user."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lockproof.report.reading import ReportError, Tested, read_reports

FORMATS = ("md", "json")


def reports(paths: Sequence[Path]) -> list[Tested]:
    """The backends of all reports, in order. Raises `click.UsageError` for one that cannot be used."""
    try:
        return [tested for path in paths for tested in read_reports(path)]
    except ReportError as error:
        raise click.UsageError(str(error)) from None


def as_json(document: Mapping[str, Any]) -> str:
    """A document as the commands print it."""
    return json.dumps(document, ensure_ascii=False, indent=2)
