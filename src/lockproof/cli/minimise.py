"""`lockproof minimise`: the smallest history that still shows what is wrong."""

from __future__ import annotations

from pathlib import Path

import click

from lockproof.cli.histories import read, write

UNKNOWN = 2


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; FILE.min.jsonl else.")
def minimise(file: Path, output: Path | None) -> int:
    """Cut a violated history (*.jsonl) to the few operations that show the same violation.

    Of what is left no operation can be taken away without hiding what explains another. Exit code 0 when
    it was written, 2 when it is unknown whether the history is violated, 4 when it is valid or no history.
    """
    from lockproof.checkers import check
    from lockproof.checkers.minimise import NothingToCut
    from lockproof.checkers.minimise import minimise as cut_down
    from lockproof.history.lines import lines
    from lockproof.report.operations import headline, relevant

    history = read(file)
    try:
        cut = cut_down(history, check, source=file.name)
    except NothingToCut as nothing:
        if nothing.verdict.status == "valid":
            raise click.UsageError(f"{file} is valid: there is nothing to cut") from None
        click.echo(f"lockproof: {file} is unknown, so nothing is cut: {nothing.verdict.headline}", err=True)
        return UNKNOWN
    target = output or file.with_suffix(".min.jsonl")
    write(target, "".join(lines(cut.history)), but_not=file)
    click.echo(f"{target}: {len(cut.history.operations())} of {cut.before} operations")
    click.echo(headline(cut.history, cut.verdict))
    for line in relevant(cut.history, cut.verdict.witness):
        click.echo(f"  {line}")
    return 0
