"""`lockproof teeth`: the suites themselves judged, by saboteurs and by correct variants."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lockproof.teeth.table import Form

BROKE = 3


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Also count the kills of N free runs.")
@click.option("--variants", is_flag=True, help="Run the correct variants instead; N seeds, or one run.")
@click.option("--json", "form", flag_value="json", help="The table as JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="The table as Markdown.")
def teeth(names: tuple[str, ...], seeds: int | None, variants: bool, form: Form | None) -> int:
    """Run saboteurs (all, when none is named) and show which test catches each.

    A saboteur of timing is killed by an explored schedule, which is then replayed. With --seeds the
    tests of its requirement that choose no schedule run N times against every saboteur; those that are
    not caught each time are named. NAME is as the table or, the class, as a report shows it.

    Exit code 0: every one was caught for the requirement that it breaks, and every MUST has one; with
    --variants: nothing failed. 3: a run broke down, nothing is known. 4: no such name. 1 otherwise.
    """
    from lockproof.teeth import TeethError, run, run_variants

    judge = run_variants if variants else run
    try:
        return judge(names, seeds=seeds or 0, form=form or "text", echo=click.echo, progress=Line().show)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except TeethError as error:
        click.echo(f"lockproof: {error}", err=True)
        return BROKE


class Line:
    """Keeps somebody who watches a terminal informed, and a log that nobody watches once a minute."""

    def __init__(self) -> None:
        self.watched = sys.stderr.isatty()
        self.last = time.monotonic()

    def show(self, what: str, done: int, of: int) -> None:
        """Tells how far the runs are."""
        if self.watched:
            click.echo(f"\r{done} of {of} {what} ", nl=done == of, err=True)
        elif time.monotonic() - self.last > 60:
            self.last = time.monotonic()
            click.echo(f"{done} of {of} {what}", err=True)
