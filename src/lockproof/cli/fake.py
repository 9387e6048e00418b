"""`lockproof fake`: a Databricks workspace on this machine."""

from __future__ import annotations

import sys

import click

PORT = click.IntRange(0, 65535)


@click.command()
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
def fake(port: int, lakebase_port: int, postgres: str | None) -> None:
    """Serve a fake Databricks workspace until interrupted.

    Prints KEY=VALUE lines; sourcing them is all that tofu-databricks needs. The Postgres
    behind it is named in a comment.

        lockproof fake > fake.env &   then   set -a; . ./fake.env; set +a
    """
    from lockproof.fakes.databricks.serve import serve
    from lockproof.provision.postgres import ProvisionError

    try:
        serve(sys.stdout, dsn=postgres, port=port, lakebase_port=lakebase_port)
    except ProvisionError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"cannot serve: {error.strerror or error}") from None
