"""`lockproof sweep`: what runs on a real workspace have left there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from lockproof.cli.aim import aimed, targets

if TYPE_CHECKING:
    from lockproof.workspace.runs import Run
    from lockproof.workspace.target import Target


@click.command()
@aimed
@click.option("--run", "run_id", metavar="ID", help="Only this run, whether or not it has expired.")
@click.option("--delete", is_flag=True, help="Remove what has expired, or the run that --run names.")
def sweep(
    backend: tuple[str, ...], real: bool, opt: tuple[str, ...], run_id: str | None, delete: bool
) -> int:
    """List the runs under a volume's prefix, with their owner and expiry.

    Nothing is removed without --delete, and never what bears no marker of ours. Exit code 1 when something
    could not be removed.
    """
    from lockproof.workspace.runs import leftovers
    from tofu_databricks.errors import BackendError

    aims = {target.variant: target for _, target in targets(backend, real, opt)}
    now = datetime.now(UTC)
    try:
        with next(iter(aims.values())).backend("sweep") as opened:
            found = [(name, run) for name, run in leftovers(opened) if run_id in (None, name)]
            root = opened.volume.root
    except BackendError as error:
        raise click.ClickException(str(error)) from None
    if not found:
        click.echo(f"no run {run_id} under {root}" if run_id else f"nothing under {root}")
        return 1 if run_id else 0
    failed = False
    for name, run in found:
        click.echo(f"run-{name}  {_told(run, now)}")
        if delete and run is not None and (run_id or run.expired(now)):
            outcome = _removed(aims, run)
            failed |= bool(outcome)
            click.echo(f"  {outcome or 'removed'}")
    return 1 if failed else 0


def _told(run: Run | None, now: datetime) -> str:
    if run is None:
        return "no marker of lockproof in it: left alone"
    state = "expired" if run.expired(now) else "until"
    times = f"begun {run.created:%Y-%m-%d %H:%M}, {state} {run.expires:%Y-%m-%d %H:%M} UTC"
    return f"{run.lock_backend}, of {run.owner}, {times}"


def _removed(aims: Mapping[str, Target], run: Run) -> str:
    """Why a run could not be removed; empty when it was."""
    from lockproof.workspace.runs import NotOurs, remove
    from tofu_databricks.errors import BackendError

    target = aims.get(run.lock_backend)
    if target is None:
        return f"left: its locks need --backend=databricks:{run.lock_backend}"
    if target.settings(run.id).get("lock_table") != run.lock_table:
        return f"left: its locks are in another table than that of the options, {run.lock_table}"
    try:
        with target.backend(run.id) as backend:
            remove(target, backend, run)
    except (BackendError, NotOurs) as error:
        return f"left: {error}"
    return ""
