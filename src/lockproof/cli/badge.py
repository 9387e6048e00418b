"""`lockproof badge`: the verdict of a run as a small picture."""

from __future__ import annotations

from pathlib import Path

import click

from lockproof.cli.histories import write
from lockproof.cli.reports import as_json, reports


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="NAME.svg or NAME.json")
@click.option("--backend", metavar="ID", help="Which one, of a run of several backends.")
def badge(run: Path, output: Path, backend: str | None) -> int:
    """Write a badge of a run: an SVG, or, for NAME.json, what shields.io's endpoint badge reads.

    RUN is a run folder or a report.json. The badge names the target; a run that was narrowed or did not
    finish is `unknown`, unless it is worse. Exit code 0 when it was written, whatever the verdict; 4 for a
    file that is no report.
    """
    from lockproof.report.badge import badge as earned
    from lockproof.report.badge import endpoint, svg
    from lockproof.report.reading import report_file

    if output.suffix not in {".svg", ".json"}:
        raise click.UsageError(f"-o {output}: a badge is a .svg or a .json file")
    found = [tested for tested in reports([run]) if backend in {None, tested.id}]
    if len(found) != 1:
        names = ", ".join(tested.id for tested in reports([run]))
        raise click.UsageError(f"{run}: choose one of its backends with --backend: {names}")
    text = svg(earned(found[0])) if output.suffix == ".svg" else f"{as_json(endpoint(earned(found[0])))}\n"
    write(output, text, but_not=report_file(run))
    click.echo(output)
    return 0
