"""`lockproof teeth`: the suites themselves judged, by saboteurs."""

from __future__ import annotations

import sys

import click

BROKE = 3


@click.command()
@click.argument("names", nargs=-1, metavar="[SABOTEUR...]")
@click.option("--json", "as_json", is_flag=True, help="The table as JSON.")
def teeth(names: tuple[str, ...], as_json: bool) -> int:
    """Run saboteurs (all, when none is named) and show which test catches each.

    Exit code 0: every one was caught for the requirement that it breaks, and every MUST has one;
    1 otherwise.
    """
    from lockproof.teeth import TeethError, run

    try:
        return run(names, as_json=as_json, echo=click.echo, progress=_progress)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except TeethError as error:
        click.echo(f"lockproof: {error}", err=True)
        return BROKE


def _progress(done: int, of: int) -> None:
    """Keeps somebody who watches a terminal informed."""
    if sys.stderr.isatty():
        click.echo(f"\r{done} of {of} saboteurs run", nl=done == of, err=True)
