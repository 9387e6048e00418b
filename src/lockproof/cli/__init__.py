"""The command `lockproof`."""

from __future__ import annotations

import sys

import click

import lockproof
from lockproof.cli.badge import badge
from lockproof.cli.bench import bench
from lockproof.cli.certify import certify
from lockproof.cli.check import check
from lockproof.cli.diff import diff
from lockproof.cli.doctor import doctor
from lockproof.cli.explain import explain
from lockproof.cli.fake import fake
from lockproof.cli.list import list_
from lockproof.cli.load import load
from lockproof.cli.matrix import matrix
from lockproof.cli.minimise import minimise
from lockproof.cli.run import run
from lockproof.cli.sweep import sweep
from lockproof.cli.teeth import teeth
from lockproof.cli.timeline import timeline
from lockproof.cli.verify import verify

USAGE = 4  # as pytest's own usage errors


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lockproof.__version__, prog_name="lockproof")
def cli() -> None:
    """Prove, or refute, that an OpenTofu/Terraform state backend is safe."""


for command in (
    run,
    certify,
    verify,
    list_,
    explain,
    teeth,
    check,
    timeline,
    minimise,
    fake,
    doctor,
    sweep,
    matrix,
    diff,
    badge,
    bench,
    load,
):
    cli.add_command(command)


def main() -> None:
    """Entry point. Bad input is one line and exit code 4."""
    try:
        code = cli.main(prog_name="lockproof", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as nothing:
        click.echo(nothing.format_message(), err=True)
        sys.exit(USAGE)
    except click.ClickException as error:
        click.echo(f"lockproof: {error.format_message()}", err=True)
        sys.exit(USAGE)
    except click.Abort:
        sys.exit(130)
    sys.exit(code or 0)
