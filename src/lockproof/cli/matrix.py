"""`lockproof matrix`: several runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from lockproof.cli.reports import FORMATS, as_json, reports


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), default="md", show_default=True)
def matrix(runs: tuple[Path, ...], form: str) -> int:
    """Show runs side by side: a row for each requirement, a column for each backend.

    RUN is a run folder or a report.json; a run of several backends has a column for each. Only runs that were
    held to the same requirements share a table. Exit code 0 when it was shown, whatever the verdicts; 4 for a
    file that is no report.
    """
    from lockproof.report.matrix import markdown
    from lockproof.report.matrix import matrix as compare

    found = compare(reports(runs))
    click.echo(as_json(found) if form == "json" else markdown(found).rstrip())
    return 0
