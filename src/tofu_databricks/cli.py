"""The command `tofu-databricks`: Unity Catalog state for stock `tofu` and `terraform`."""

from __future__ import annotations

import logging
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from tofu_databricks import __version__
from tofu_databricks.backend import Backend
from tofu_databricks.client import StateClient
from tofu_databricks.config import Config
from tofu_databricks.errors import BackendError, ConfigError, StaleWrite, WorkspaceError
from tofu_databricks.gateway import Access, Gateway, GatewayApp, Limits
from tofu_databricks.gateway.access import is_loopback
from tofu_databricks.gateway.child import NOT_EXECUTABLE, NOT_FOUND, Child
from tofu_databricks.gateway.environment import client_environment
from tofu_databricks.layout import check_addressable

MISTAKE = 4
"""Exit code of a wrong setting or argument. Not 2: that is terraform's "there are changes"."""
FAILED = 1
OPEN_FILES = 1 << 16
SECRET_VARIABLE = "TOFU_DATABRICKS_GATEWAY_SECRET"
NEVER_ARGUMENTS = ("token", "client_secret")
"""Secrets come from the environment or a file: other users can read a command line."""
COMMON = ("host", "profile", "catalog", "schema", "volume", "key", "lock_backend", "lock_timeout", "fencing")


def settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that say which backend is meant."""
    for name in reversed(COMMON):
        command = click.option(f"--{name.replace('_', '-')}", name, help=f"Setting {name}.")(command)
    command = click.option(
        "--set", "others", multiple=True, metavar="NAME=VALUE", help="Any other setting; repeatable."
    )(command)
    return click.option(
        "--config", "file", type=click.Path(path_type=Path), help="TOML file of settings (NAME = VALUE)."
    )(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tofu-databricks")
def cli() -> None:
    """OpenTofu and Terraform state in Databricks Unity Catalog volumes.

    Settings are those of the backend block (catalog, schema, volume, key, lock_backend …). They come
    from options, then --config FILE, then TOFU_DATABRICKS_* variables; credentials as the Databricks
    SDK finds them.
    """


@cli.command()
@settings
@click.option("--bind", "address", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", default=8410, show_default=True, type=click.IntRange(0, 65535), help="0: any free.")
@click.option("--loopback-only", is_flag=True, help="Ask for no secret; serve this machine alone.")
@click.option("--secret-file", type=click.Path(path_type=Path), help=f"Or the variable {SECRET_VARIABLE}.")
@click.option("--username", default="tofu", show_default=True, help="User name of basic auth.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="PEM certificate chain; serves HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="PEM key of the certificate.")
@click.option("--max-state-mb", default=1024, show_default=True, type=click.IntRange(1))
@click.option("--no-forced-unlock", is_flag=True, help="Refuse an UNLOCK that names no lock ID.")
@click.option(
    "--client-timeout",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds after which a client that stalls in its request or reply is given up.",
)
def serve(
    address: str,
    port: int,
    loopback_only: bool,
    secret_file: Path | None,
    username: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    max_state_mb: int,
    no_forced_unlock: bool,
    client_timeout: float,
    **given: Any,
) -> None:
    """Serve the HTTP backend protocol until interrupted, one address per workspace.

    SIGINT and SIGTERM end it in order: it takes no more connections, completes and answers the requests
    in flight, and exits with 0. A second one ends it at once.
    """
    secret = read_secret(secret_file)
    if loopback_only and not is_loopback(address):
        raise ConfigError(f"--loopback-only and --bind {address} exclude each other")
    if loopback_only and secret is not None:
        source = "--secret-file" if secret_file else f"the secret in {SECRET_VARIABLE}"
        raise ConfigError(f"--loopback-only, which asks for no secret, and {source} exclude each other")
    if secret is None and not loopback_only:
        raise ConfigError(
            f"no secret: set {SECRET_VARIABLE} or --secret-file, or --loopback-only to serve without one"
        )
    if bool(tls_cert) != bool(tls_key):
        raise ConfigError("--tls-cert and --tls-key come together")
    with Backend(load(given)) as backend:
        limits = Limits(
            state_bytes=max_state_mb << 20, forced_unlock=not no_forced_unlock, patience=client_timeout
        )
        app = GatewayApp(backend, Access(None if loopback_only else secret, username), limits)
        gateway = Gateway(app, address, port, tls_cert=tls_cert, tls_key=tls_key)
        logging.getLogger("tofu_databricks").setLevel(logging.INFO)
        if not is_loopback(address) and not tls_cert:
            logging.getLogger("tofu_databricks").warning("the secret and the states travel unencrypted")

        def stop(number: int, frame: FrameType | None) -> None:
            for second in (signal.SIGINT, signal.SIGTERM):
                signal.signal(second, signal.SIG_DFL)
            gateway.request_stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        raise_file_limit()
        click.echo(f"serving {gateway.state_url('default')} (other workspaces: /state/NAME)")
        gateway.run()


def raise_file_limit() -> None:
    """Allows as many connections as the system does, as Go programs do at their start: the usual limit of
    1024 would let idle clients use up what the backend's own connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@cli.command("exec", context_settings={"allow_interspersed_args": False})
@settings
@click.option("--workspace", default="default", show_default=True, help="Whose state the command uses.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...], workspace: str, **given: Any) -> None:
    """Run COMMAND with its `http` backend on a gateway of its own.

    The gateway listens on a free loopback port, asks for a password made for this run, and ends with
    the command. Write it as: tofu-databricks exec -- terraform apply

    Should this program be killed (SIGKILL), COMMAND gets one SIGTERM; processes that COMMAND has started
    itself get what it passes on.
    """
    config = load(given)
    check_addressable(workspace)
    with Backend(config) as backend:
        backend.client(workspace)  # refuses a name that no workspace can have
        access = Access(secrets.token_urlsafe(32))
        assert access.secret is not None
        gateway = Gateway(GatewayApp(backend, access))  # bound: what connects from now on will be answered
        url = gateway.state_url(workspace)
        environment = client_environment(os.environ, url, access.username, access.secret, config.lock_timeout)
        try:
            child = Child.start(command, environment)
        except FileNotFoundError:
            fail(NOT_FOUND, f"command not found: {command[0]}")
        except OSError as error:
            fail(NOT_EXECUTABLE, f"cannot run {command[0]}: {error.strerror}")
        with gateway:
            code = child.wait()
    sys.exit(code)


@cli.command()
@settings
def init(**given: Any) -> None:
    """Check that the volume is there and make the lock table.

    Where the lock table may not be created, its DDL is printed and the exit code is 1.
    """
    with Backend(load(given)) as backend:
        backend.volume.require()
        click.echo(f"volume {backend.config.root}: found")
        backend.locks.prepare()
        click.echo(f"lock table ({backend.config.lock_backend}): ready")


@cli.command()
@settings
@click.option("--workspace", default="default", show_default=True)
def doctor(workspace: str, **given: Any) -> None:
    """Say what works and what does not, without changing anything."""
    with Backend(load(given)) as backend:
        client = backend.client(workspace)

        def state() -> str:
            data = client.get()
            return "none yet" if data is None else f"{len(data)} bytes"

        def lock() -> str:
            holder = client.lock_holder()
            return (
                "free" if holder is None else f"held by {holder.Who} since {holder.Created}, ID {holder.ID}"
            )

        def volume() -> str:
            backend.volume.require()
            return "found"

        checks = {
            f"volume {backend.config.root}": volume,
            f"state of workspace {workspace}": state,
            f"lock of workspace {workspace} ({backend.config.lock_backend})": lock,
            "client": client_version,
        }
        if backend.config.fencing == "strict":
            checks[f"strict fencing, copies at {client.path}"] = lambda: published(backend, client)
        sound = [check(name, probe) for name, probe in checks.items()]
    sys.exit(0 if all(sound) else FAILED)


def published(backend: Backend, client: StateClient) -> str:
    """By what API copies are published. Raises a `BackendError` where that fails, or left an old copy."""
    agreed = backend.record.agreed()
    api = agreed.files_api if agreed else backend.files_api()
    if backend.conditional is not None and "3.0" in (api, backend.config.files_api):
        try:
            reason = backend.conditional.missing(backend.record.path)
        except BackendError as error:
            reason = str(error)
        if reason:
            raise ConfigError(f"Files API 3.0 at {backend.config.files_host} cannot be used: {reason}")
    if client.fenced is not None and not client.fenced.copy_is_current():
        raise StaleWrite(f"not the state, which {client.fenced.objects} holds: the next write publishes it")
    return f"current, by Files API {api}"


def check(name: str, probe: Callable[[], str]) -> bool:
    """Prints the outcome of one probe; whether it was good."""
    try:
        click.echo(f"ok    {name}: {probe()}")
    except BackendError as error:
        click.echo(f"FAIL  {name}: {error}")
        return False
    return True


def client_version() -> str:
    """The client on PATH, in its own words. Raises `ConfigError` when there is none."""
    found = shutil.which("tofu") or shutil.which("terraform")
    if found is None:
        raise ConfigError("neither tofu nor terraform is on PATH")
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    shown = subprocess.run([found, "version"], capture_output=True, text=True, env=environment, check=False)
    return f"{shown.stdout.partition(chr(10))[0]} ({found})"


def load(given: Mapping[str, Any]) -> Config:
    """The settings of options, file and environment. Raises `ConfigError`."""
    options = {name: given[name] for name in COMMON if given[name] is not None}
    known = {option.name for option in fields(Config)}
    for item in given["others"]:
        name, equals, value = item.partition("=")
        if not equals or name not in known:
            raise ConfigError(f"--set {name}: write NAME=VALUE with the name of a setting")
        if name in NEVER_ARGUMENTS:
            raise ConfigError(f"--set {name}: other users can read a command line; use the environment")
        options[name] = value
    return Config.load(read_file(given["file"]), **options)


def read_file(path: Path | None) -> dict[str, Any]:
    """The settings in a TOML file. Raises `ConfigError`."""
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} is not TOML: {error}") from None


def read_secret(path: Path | None) -> str | None:
    """The gateway's secret, from a file or the environment. Raises `ConfigError`."""
    if path is None:
        return os.environ.get(SECRET_VARIABLE) or None
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--secret-file {path}: {getattr(error, 'strerror', 'not UTF-8')}") from None
    if not secret:
        raise ConfigError(f"--secret-file {path} is empty")
    return secret


def fail(code: int, message: str) -> NoReturn:
    """Ends the process with a line on standard error."""
    click.echo(f"tofu-databricks: {message}", err=True)
    sys.exit(code)


def main() -> None:
    """The entry point: every mistake is one line and exit code 4, every failure one line and 1."""
    logging.basicConfig(level=logging.WARNING, format="tofu-databricks: %(message)s")
    logging.getLogger("databricks.sdk").setLevel(logging.CRITICAL)  # our one line says what went wrong
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.Abort:
        sys.exit(128 + signal.SIGINT)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(MISTAKE)
    except click.ClickException as error:
        fail(MISTAKE, error.format_message())
    except (ConfigError, WorkspaceError) as error:
        fail(MISTAKE, str(error))
    except BackendError as error:
        fail(FAILED, str(error))


if __name__ == "__main__":
    main()
