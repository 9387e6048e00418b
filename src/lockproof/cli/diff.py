"""`lockproof diff`: a run compared with an earlier one."""

from __future__ import annotations

from pathlib import Path

import click

from lockproof.cli.reports import FORMATS, as_json, reports


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), default="md", show_default=True)
def diff(old: Path, new: Path, form: str) -> int:
    """Compare a run with an earlier one: regressions, fixes, what is new and what is gone.

    OLD and NEW are run folders or report.json files. Backends are compared by name, or the only one of each.
    What passed and is now unknown, skipped or not tested is a regression, too.

    Exit code 0: nothing became worse, 1: something did, 4: a file that is no report.
    """
    from lockproof.report.diff import diff as compare
    from lockproof.report.diff import markdown, regressed
    from lockproof.report.reading import ReportError

    try:
        found = compare(reports([old]), reports([new]))
    except ReportError as error:
        raise click.UsageError(str(error)) from None
    click.echo(as_json(found) if form == "json" else markdown(found).rstrip())
    return 1 if regressed(found) else 0
