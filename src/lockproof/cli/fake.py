"""`lockproof fake`: a Databricks workspace on this machine, and how it compares with a real one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lockproof.fakes.databricks.exchanges.targets import Target

PORT = click.IntRange(0, 65535)


@click.group(invoke_without_command=True)
@click.option(
    "--port", type=PORT, default=0, show_default="a free one", help="Port of the workspace on 127.0.0.1."
)
@click.option(
    "--lakebase-port", type=PORT, default=0, show_default="a free one", help="Port of Lakebase's Postgres."
)
@click.option(
    "--postgres",
    envvar="LOCKPROOF_POSTGRES",
    metavar="DSN",
    help="A Postgres to use instead of starting one.",
)
@click.pass_context
def fake(context: click.Context, port: int, lakebase_port: int, postgres: str | None) -> None:
    """Serve a fake Databricks workspace until interrupted.

    Prints KEY=VALUE lines; sourcing them is all that tofu-databricks needs. The Postgres
    behind it is named in a comment.

        lockproof fake > fake.env &   then   set -a; . ./fake.env; set +a
    """
    if context.invoked_subcommand is not None:
        if port or lakebase_port:
            raise click.UsageError(f"--port and --lakebase-port are not for `{context.invoked_subcommand}`")
        return
    from lockproof.fakes.databricks.serve import serve
    from lockproof.provision.postgres import ProvisionError

    try:
        serve(sys.stdout, dsn=postgres, port=port, lakebase_port=lakebase_port)
    except ProvisionError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"cannot serve: {error.strerror or error}") from None


def workspace_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name a workspace; without --host and --profile a fake of its own is used."""
    for name, metavar, text in reversed(
        (
            ("--host", "URL", "A workspace, by unified authentication; a fake of its own without it."),
            ("--profile", "NAME", "The profile in ~/.databrickscfg that says who calls."),
            ("--volume", "C.S.V", "The volume in which a new folder is used and removed again."),
            ("--warehouse", "ID", "The SQL warehouse for statements."),
            ("--tables", "C.S", "The schema in which one table is made and dropped again."),
            ("--endpoint", "NAME", "The Lakebase endpoint, projects/…/branches/…/endpoints/…."),
            ("--files-host", "URL", "The address of Files API 3.0."),
            ("--stranger", "PROFILE", "The profile of a principal without any grant."),
        )
    ):
        command = click.option(name, metavar=metavar, default="", help=text)(command)
    return command


@fake.command()
@workspace_options
@click.option(
    "--recording",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What is compared with; the documented behaviour that lockproof ships by default.",
)
@click.option("--texts", is_flag=True, help="Compare the texts of messages, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def verify(recording: Path | None, texts: bool, as_json: bool, **named: str) -> int:
    """Replay recorded exchanges and list the differences.

    Against the fake it shows where the fake is not what was recorded, against a workspace
    where the recording (by default: the documents) is not what the workspace does. What
    cannot be sent for want of an option is listed as not replayed.

    Exit code 0: no difference, 1: differences (or something that could not be removed), 4: a
    usage error.
    """
    from lockproof.fakes.databricks.exchanges import player
    from lockproof.fakes.databricks.exchanges.recording import RecordingError, load, shipped

    try:
        compared_with = load(recording) if recording else shipped()
    except RecordingError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{recording}: {error.strerror}") from None
    with _target(named) as target:
        found = player.verify(target, compared_with, texts=texts)
    if not found.compared:
        raise click.UsageError("none of the recorded exchanges can be sent to this target")
    if as_json:
        click.echo(json.dumps(found.to_json(target.kind, compared_with), ensure_ascii=False, indent=2))
    else:
        for difference in found.differences:
            click.echo(str(difference))
        for exchange, reason in found.left:
            click.echo(f"exchange {exchange.n} {exchange.ask.shown}: not replayed: {reason}")
        click.echo(
            f"{target.kind}: {found.compared} exchanges replayed, {len(found.left)} not; "
            f"{len(found.differences)} differences from a recording of a {compared_with.target}"
        )
    return 1 if found.differences or _behind(target) else 0


@fake.command()
@workspace_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write; it holds no token, host, address or name of yours.",
)
def record(out: Path, **named: str) -> int:
    """Record how a workspace, or the fake, answers a fixed list of requests.

    The recording is redacted as it is written: send it to whoever wants to know where
    the fake is wrong; `lockproof fake verify --recording FILE` shows it.
    """
    from lockproof.fakes.databricks.exchanges import player
    from lockproof.fakes.databricks.exchanges.recording import write
    from lockproof.fakes.databricks.exchanges.script import script

    if not out.parent.is_dir():
        raise click.UsageError(f"{out}: there is no folder {out.parent}")
    with _target(named) as target:
        try:
            made, left = player.record(target, script())
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    try:
        out.write_text(write(made), encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{out}: {error.strerror}") from None
    for line in left:
        click.echo(f"left out: {line}", err=True)
    click.echo(f"{out}: {len(made.exchanges)} exchanges with a {made.target}, {len(left)} left out")
    return 1 if _behind(target) else 0


def _behind(target: Target) -> bool:
    """Says what could not be removed."""
    if target.behind:
        click.echo(f"lockproof: left behind, remove it by hand: {', '.join(target.behind)}", err=True)
    return bool(target.behind)


@contextmanager
def _target(named: dict[str, str]) -> Iterator[Target]:
    """The fake or the workspace that the options name. What goes wrong with it is a usage error."""
    import requests

    from lockproof.fakes.databricks.exchanges.targets import Named, TargetError, own_fake, workspace_target

    real = bool(named["host"] or named["profile"])
    extra = sorted(name for name, value in named.items() if value)
    if not real and extra:
        options = ", ".join("--" + name.replace("_", "-") for name in extra)
        raise click.UsageError(f"{options}: only for a workspace, which --host or --profile names")
    try:
        with workspace_target(Named(**named)) if real else own_fake() as target:
            yield target
    except TargetError as error:
        raise click.UsageError(str(error)) from None
    except requests.RequestException as error:
        raise click.UsageError(f"the workspace does not answer: {type(error).__name__}") from None
