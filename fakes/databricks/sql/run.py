"""Runs one statement's text in a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from lockproof.fakes.databricks.sql import ddl, describe, failures, writes
from lockproof.fakes.databricks.sql.cells import Result
from lockproof.fakes.databricks.sql.engine import EngineError
from lockproof.fakes.databricks.sql.parsing import Command, Parameters, parse
from lockproof.fakes.databricks.sql.selects import select
from lockproof.fakes.databricks.sql.session import Session, translated

_RUNNERS: dict[type[exp.Expr], Callable[[Session, Any], Result]] = {
    exp.Insert: writes.insert,
    exp.Update: writes.update,
    exp.Delete: writes.delete,
    exp.Merge: writes.merge,
    exp.Create: ddl.create,
    exp.Drop: ddl.drop,
    exp.Alter: ddl.alter,
    exp.TruncateTable: ddl.truncate,
    exp.Use: lambda session, tree: Result(),
    exp.Set: lambda session, tree: Result(),
}


def run(session: Session, text: str, parameters: Parameters) -> Result:
    """The statement's result. Raises `SqlFailure`, whose text and SQLSTATE are the warehouse's."""
    tree = parse(text, parameters)
    session.reach("started")
    try:
        if isinstance(tree, Command):
            return describe.run(session, tree)
        if isinstance(tree, exp.Query):
            return select(session, tree)
        if isinstance(tree, exp.Values):
            return select(session, exp.select("*").from_(tree.as_("v") if hasattr(tree, "as_") else tree))
        runner = _RUNNERS.get(type(tree))
        if runner is None:
            raise failures.unsupported(type(tree).__name__.upper())
        return runner(session, tree)
    except EngineError as error:
        raise translated(str(error)) from error
