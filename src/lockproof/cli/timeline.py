"""`lockproof timeline`: a recorded history as a page or a picture."""

from __future__ import annotations

from pathlib import Path

import click

from lockproof.cli.histories import read, write


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; beside FILE when not given.")
@click.option("--svg", is_flag=True, help="A still picture of the witness and what ran beside it.")
def timeline(file: Path, output: Path | None, svg: bool) -> int:
    """Draw a recorded history (*.jsonl) as one HTML page that needs no network.

    The page shows every operation of every client, the verdict of the checkers and the operations that
    prove it. Exit code 0 when it was written, whatever the verdict; 4 for a file that is no history.
    """
    from lockproof.report.timeline import page, picture

    history = read(file)
    target = output or file.with_suffix(".svg" if svg else ".html")
    write(target, (picture if svg else page)(history), but_not=file)
    click.echo(target)
    return 0
