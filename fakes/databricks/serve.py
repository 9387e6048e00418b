"""The body of `lockproof fake`: a workspace with all that `tofu-databricks` needs, until interrupted."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from lockproof.fakes.databricks.lakebase_service import PROJECT, serve_lakebase
from lockproof.fakes.databricks.server import FakeServer
from lockproof.provision.postgres import provide_postgres

CATALOG, SCHEMA, VOLUME = "main", "default", "tofu"
KEY = "terraform.tfstate"


@contextmanager
def local_databricks(
    postgres: Mapping[str, Any], *, port: int = 0, lakebase_port: int = 0
) -> Iterator[FakeServer]:
    """A served workspace with the volume `main.default.tofu` and Lakebase over the given Postgres.

    `postgres` holds psycopg keywords; ports 0 choose free ones. Everything ends with the context.
    """
    with FakeServer(port=port) as server, serve_lakebase(server.workspace, postgres, port=lakebase_port):
        server.workspace.create_volume(f"{CATALOG}.{SCHEMA}.{VOLUME}")
        yield server


def settings(server: FakeServer) -> dict[str, str]:
    """The environment with which `tofu-databricks`, databricks-sdk and `FakeControl` reach the workspace."""
    from lockproof.fakes.databricks.lakebase import Lakebase

    return {
        "DATABRICKS_HOST": server.url,
        "DATABRICKS_TOKEN": server.token,
        "TOFU_DATABRICKS_CATALOG": CATALOG,
        "TOFU_DATABRICKS_SCHEMA": SCHEMA,
        "TOFU_DATABRICKS_VOLUME": VOLUME,
        "TOFU_DATABRICKS_KEY": KEY,
        "TOFU_DATABRICKS_LOCK_BACKEND": "lakebase",
        "TOFU_DATABRICKS_LAKEBASE_PROJECT": PROJECT,
        "TOFU_DATABRICKS_LAKEBASE_PORT": str(server.workspace.service(Lakebase).port),
    }


def serve(out: TextIO, *, dsn: str | None = None, port: int = 0, lakebase_port: int = 0) -> None:
    """Prints `KEY=VALUE` lines and comments to `out`, for a shell, and serves until SIGINT or SIGTERM.

    `dsn` names a Postgres; without one it is found or started as `provide_postgres` says. Must be called in
    the main thread, for the signals. Raises `ProvisionError` without a Postgres, OSError for a taken port.
    """
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with (
            provide_postgres(dsn) as postgres,
            local_databricks(postgres.keywords(), port=port, lakebase_port=lakebase_port) as server,
        ):
            write(settings(server), postgres.dsn, out)
            stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write(values: Mapping[str, str], dsn: str, out: TextIO) -> None:
    """One `NAME=VALUE` a line, quoted for a shell, then the line that says that all is there.

    The Postgres is told in a comment: as a variable it would be used by runs that outlive it.
    """
    for name, value in values.items():
        print(f"{name}={shlex.quote(value)}", file=out)
    print(f"# Postgres: {dsn}", file=out)
    print("# serving until interrupted (Ctrl-C)", file=out, flush=True)
