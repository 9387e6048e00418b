"""`lockproof check`: recorded histories judged again."""

from __future__ import annotations

from pathlib import Path

import click

VALID, VIOLATED, UNKNOWN = 0, 1, 2


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
