"""Removing the locks of a run: tables that bear its name, or its rows in a table that the user named."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from lockproof.workspace.target import Target
from tofu_databricks.backend import Backend
from tofu_databricks.config import Config
from tofu_databricks.errors import Unavailable
from tofu_databricks.locks.lakebase_heads import heads_table
from tofu_databricks.locks.warehouse import SqlError, Warehouse

MISSING = "TABLE_OR_VIEW_NOT_FOUND"


def remove_locks(target: Target, backend: Backend, run_id: str, path: str) -> None:
    """Drops the tables named after the run, or deletes the rows of keys below `path`.

    The names come from the run's id and the target's options, never from a file that somebody else may have
    written. Raises `BackendError`s.
    """
    config = backend.config
    named = "lock_table" in target.options
    if target.variant == "delta":
        _remove_from_delta(Warehouse(backend.transport, config.warehouse_id), config, named, path)
    else:
        try:
            with backend.connector()() as connection:
                _remove_from_lakebase(connection, config, named, path, own=f"lockproof_{run_id}")
        except psycopg.Error as error:
            raise Unavailable(f"removing locks: {' '.join(str(error).split())}") from error


def _remove_from_delta(warehouse: Warehouse, config: Config, named: bool, path: str) -> None:
    table = ".".join(f"`{part}`" for part in (config.catalog, config.lock_schema, config.lock_table))
    what = "removing locks"
    try:
        if not named:
            warehouse.run(f"DROP TABLE IF EXISTS {table}", read_only=False, what=what)
            return
        keys = warehouse.run(f"SELECT lock_key FROM {table}", read_only=True, what=what).cells
        for key in sorted({str(key) for (key,) in keys if str(key).startswith(f"{path}/")}):
            statement = f"DELETE FROM {table} WHERE lock_key = :k"
            warehouse.run(statement, {"k": key}, read_only=False, what=what)
    except SqlError as error:
        if error.error_class != MISSING:
            raise Unavailable(f"removing locks: {error}") from error


def _remove_from_lakebase(
    connection: psycopg.Connection[Any], config: Config, named: bool, path: str, *, own: str
) -> None:
    tables = [config.lock_table, heads_table(config.lock_table)]
    if config.fencing != "strict":
        tables.pop()
    for name in tables:
        table = sql.Identifier(config.lock_schema, name)
        if named:
            delete = sql.SQL("DELETE FROM {} WHERE starts_with(key, %s)").format(table)
            connection.execute(delete, [f"{path}/"])
        else:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
    if config.lock_schema == own:
        # Without CASCADE: what somebody else has put there keeps it, and us, from dropping it.
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {}").format(sql.Identifier(own)))
