"""The SQL part of a fake workspace: its tables, warehouses and statements."""

from __future__ import annotations

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
    """Reached as `FakeWorkspace.sql`. `root`: where managed tables lie, None for a temporary folder."""

    def __init__(self, workspace: FakeWorkspace, root: Path | None = None) -> None:
        self.workspace = workspace
        self.tables = Tables(workspace, root)
        self.warehouses = Warehouses(workspace.clock, workspace.admin)
        self.statements = Statements(self)

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
        return run(session, text, parameters)

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
