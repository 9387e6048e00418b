"""What the commands that look at a real workspace take: the options of a run that name it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lockproof.workspace.target import Target


def aimed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--backend`, `--backend-real` and `--backend-opt`, spelt as for a run."""
    command = click.option(
        "--backend-opt",
        "opt",
        multiple=True,
        metavar="KEY=VALUE",
        help="Where; LOCKPROOF_OPT, lockproof.toml.",
    )(command)
    command = click.option("--backend-real", "real", is_flag=True, help="A workspace that exists.")(command)
    return click.option(
        "--backend", multiple=True, metavar="SPEC", help="databricks:delta, databricks:lakebase, or both."
    )(command)


def targets(backend: Sequence[str], real: bool, opt: Sequence[str]) -> list[tuple[str, Target]]:
    """The targets by the names of their backends. Raises `click.UsageError`, one line."""
    import pytest

    from lockproof.plugin.options import Settings, driver_options
    from lockproof.plugin.services import specifications
    from lockproof.workspace.driver import RealDatabricksDriver
    from lockproof.workspace.target import Target

    if not backend:
        raise click.UsageError("name what is looked at: --backend=databricks --backend-real")
    if not real:
        raise click.UsageError(
            "add --backend-real: the fake has nothing to look at, a real one is looked at when asked for"
        )
    try:
        pairs = driver_options(opt, Path.cwd(), os.environ)
        specs = specifications(Settings(backends=tuple(backend), opt=tuple(pairs), real=True))
        for spec in specs:
            if spec.factory() is not RealDatabricksDriver:
                raise click.UsageError(f"{spec.id} is no Databricks workspace")
        return [(spec.id, Target(spec.options)) for spec in specs]
    except (pytest.UsageError, ValueError) as error:
        raise click.UsageError(str(error)) from None
