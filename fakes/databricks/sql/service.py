"""The SQL part of a fake workspace: its tables, warehouses and statements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks.catalog import Table
from lockproof.fakes.databricks.sql.cells import Result
from lockproof.fakes.databricks.sql.describe import type_text
from lockproof.fakes.databricks.sql.engine import Stopwatch
from lockproof.fakes.databricks.sql.parsing import Parameters
from lockproof.fakes.databricks.sql.run import run
from lockproof.fakes.databricks.sql.session import Reach, Session
from lockproof.fakes.databricks.sql.statements import Statement, Statements
from lockproof.fakes.databricks.sql.tables import Tables
from lockproof.fakes.databricks.sql.warehouses import Warehouses

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace


class SqlService:
    """Reached as `FakeWorkspace.sql`. `root`: where managed tables lie, None for a temporary folder.

    `sorts`: rows that no ORDER BY puts in order come sorted. A Delta engine returns them by the random names
    of their files, so that nothing that depends on their order happens again in the same way.
    """

    def __init__(self, workspace: FakeWorkspace, root: Path | None = None) -> None:
        self.workspace = workspace
        self.tables = Tables(workspace, root)
        self.warehouses = Warehouses(workspace.clock, workspace.admin)
        self.statements = Statements(self)
        self.sorts = False

    def session(self, statement: Statement, reach: Reach) -> Session:
        """A fresh session: nothing carries over from one statement to the next."""
        return Session(
            self.workspace,
            self.tables,
            statement.principal,
            statement.catalog.lower(),
            statement.schema.lower(),
            reach,
        )

    def run(self, session: Session, text: str, parameters: Parameters) -> Result:
        result = run(session, text, parameters)
        if self.sorts and "ORDER BY" not in text.upper():
            result = replace(result, rows=sorted(result.rows, key=repr), source=None)
        return result

    def describe(self, entry: Table) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Columns as in TableInfo, and properties."""
        snapshot = self.tables.snapshot(entry, Stopwatch())
        columns = [
            {
                "name": column.name,
                "position": index,
                "type_text": type_text(column.type),
                "type_name": _NAMES.get(str(column.type).partition("(")[0], "STRING").upper(),
                "nullable": column.nullable,
                **({"comment": column.comment} if column.comment else {}),
            }
            for index, column in enumerate(snapshot.columns)
        ]
        return columns, snapshot.properties


_NAMES = {
    name: name
    for name in (
        "long",
        "double",
        "float",
        "boolean",
        "date",
        "binary",
        "timestamp",
        "timestamp_ntz",
        "decimal",
    )
} | {"integer": "int", "short": "short", "byte": "byte"}
