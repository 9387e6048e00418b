"""`lockproof check` and `lockproof teeth`: histories judged again, and the judges themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import click

VALID, VIOLATED, UNKNOWN, BROKE = 0, 1, 2, 3


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> int:
    """Judge recorded histories (*.jsonl) again, without the backend.

    Exit code 0: all valid, 1: at least one violated, 2: otherwise at least one unknown.
    """
    from lockproof.checkers import check as judge
    from lockproof.history import HistoryError, read_history
    from lockproof.report.operations import relevant

    worst = VALID
    for path in files:
        try:
            history = read_history(path)
        except HistoryError as error:
            raise click.UsageError(str(error)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(
                f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
            ) from None
        found = judge(history)
        click.echo(f"{path}: {found.status}: {found.headline}")
        if found.status == "violated":
            for line in relevant(history, found.witness):
                click.echo(f"  {line}")
        code = {"valid": VALID, "violated": VIOLATED, "unknown": UNKNOWN}[found.status]
        worst = VIOLATED if VIOLATED in (worst, code) else max(worst, code)
    return worst


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
