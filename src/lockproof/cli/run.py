"""`lockproof run`: pytest with the suites, whatever the project in the working directory says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("specs", nargs=-1, required=True, metavar="SPEC... [PYTEST OPTIONS] [-- PATHS]")
def run(specs: tuple[str, ...]) -> None:
    """Run the suites against one or more backends.

    SPEC is a driver (memory, file, databricks), py:MODULE:FACTORY or http:URL. Everything from the
    first option on goes to pytest; after `--` come tests of your own, or ids to repeat.

    The ini file and the conftest of the working directory are not used: this is the way to run the
    suites in a project that has a --backend of its own.
    """
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments(specs)])


def arguments(words: tuple[str, ...]) -> list[str]:
    """pytest's command line for `lockproof run WORDS`."""
    from lockproof.plugin.collect import suite_root

    first = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    specs, rest = words[:first], list(words[first:])
    if not specs:
        raise click.UsageError("name a backend first: lockproof run SPEC [PYTEST OPTIONS]")
    paths: list[str] = []
    if "--" in rest:
        cut = rest.index("--")
        rest, paths = rest[:cut], rest[cut + 1 :]
    return [
        "-plockproof.plugin",
        f"-c{os.devnull}",
        f"--rootdir={Path.cwd()}",
        f"--confcutdir={suite_root()}",
        *(f"--backend={spec}" for spec in specs),
        *rest,
        *(paths or [str(suite_root())]),
    ]
