"""`lockproof bench`: all benchmarks, beside their peers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lockproof.bench import Benchmark, Record, Row

WORSE, BROKE, STOPPED = 1, 3, 130
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--list", "listing", is_flag=True, help="Say what there is and what this machine lacks for it.")
@click.option("--quick", is_flag=True, help="Fewer rounds, shorter samples, smaller sizes: minutes.")
@click.option("--json", "json_path", metavar="FILE", type=FILE, help="Write the record, with all samples.")
@click.option("--against", metavar="FILE", type=FILE, help="Compare the ratios with those of this record.")
@click.option(
    "--from", "source", metavar="FILE", type=FILE, help="Measure nothing: take this record as the run."
)
@click.option("--markdown", is_flag=True, help="Print the table as Markdown, when all is measured.")
def bench(
    names: tuple[str, ...],
    listing: bool,
    quick: bool,
    json_path: Path | None,
    against: Path | None,
    source: Path | None,
    markdown: bool,
) -> int:
    """Run benchmarks (all, when none is named), each beside named peers by turns.

    A ratio is subject / peer of the same round; shown are the median and the interval that encloses the true
    one with 95 % confidence. What this machine lacks is skipped with a reason. --against compares ratios, not
    times: one has moved when both intervals have no value in common, and is clearly worse when it is
    also worse by at least 20 %.

    Exit code 0; 1: --against found a ratio that is clearly worse; 3: a benchmark broke down; 4: bad input;
    130: interrupted, after which what was measured so far is shown and written.
    """
    from lockproof.bench import INTERRUPTED, BadRecord, compare, read_record, show

    chosen = _chosen(names)
    if listing:
        for text in show.listed(chosen):
            click.echo(text)
        return 0
    if source is not None and (names or quick or json_path):
        raise click.UsageError("--from measures nothing: it goes with --against and --markdown only")
    _writable(json_path)
    try:
        earlier = None if against is None else read_record(against)
        record = _measured(chosen, quick, markdown) if source is None else read_record(source)
    except BadRecord as error:
        raise click.UsageError(str(error)) from None
    if json_path is not None:
        try:
            record.write(json_path)
        except OSError as error:
            raise click.ClickException(f"{json_path}: {error.strerror or error}") from None
    if markdown:
        click.echo(show.markdown(record))
    else:
        if source is not None:
            click.echo(show.head(record.machine, record.before))
            _Rows().show(*record.rows)
        click.echo("\n".join(show.foot(record)))
    if INTERRUPTED in record.skipped.values() and source is None:
        return STOPPED
    worse = False
    if earlier is not None:
        found = compare(earlier, record)
        click.echo("\n".join(show.compared(found, str(against))), err=markdown)
        worse = bool(found.worse)
    return WORSE if worse else BROKE if record.failed else 0


class _Rows:
    """Prints rows as they come."""

    def __init__(self) -> None:
        self.last: Row | None = None

    def show(self, *rows: Row) -> None:
        from lockproof.bench import show

        for row in rows:
            click.echo(show.line(row, self.last))
            self.last = row


def _measured(chosen: Sequence[Benchmark], quick: bool, markdown: bool) -> Record:
    from lockproof.bench import FULL, QUICK, run_bench, show

    if markdown:
        return run_bench(chosen, QUICK if quick else FULL, lambda *_: None, lambda _: None)
    return run_bench(
        chosen,
        QUICK if quick else FULL,
        lambda machine, before: click.echo(show.head(machine, before)),
        _Rows().show,
    )


def _chosen(names: Sequence[str]) -> list[Benchmark]:
    from lockproof.bench.subjects import BENCHMARKS

    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no benchmark {name!r} (there are: {', '.join(known)})")
    return [known[name] for name in dict.fromkeys(names)] if names else list(BENCHMARKS)


def _writable(path: Path | None) -> None:
    """Refuses a file that could not be written, before minutes are spent."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise click.UsageError(f"--json {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise click.UsageError(f"--json {path}: the folder {path.parent} cannot be written")
