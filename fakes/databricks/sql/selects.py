"""SELECT: run by the engine at the statement's snapshots."""

from __future__ import annotations

from sqlglot import exp

from lockproof.fakes.databricks.sql.cells import Result, heading
from lockproof.fakes.databricks.sql.session import Session


def select(session: Session, tree: exp.Query) -> Result:
    """The rows, under the names that Databricks gives to columns."""
    names = _names(tree)
    session.prepare(tree)
    name_columns(tree)
    session.relate(tree)
    session.reach("snapshot")
    answer = session.query(tree)
    spelled = {
        column.name.lower(): column.name
        for snapshot in session.snapshots.values()
        for column in snapshot.columns
    }
    shown = names or [spelled.get(name, name) for name in answer.names]
    return Result(
        tuple(heading(name, kind) for name, kind in zip(shown, answer.types, strict=True)),
        answer.rows,
        answer.table.rename_columns(shown),
    )


def _leftmost(tree: exp.Query) -> exp.Query:
    while isinstance(tree, exp.SetOperation):
        tree = tree.left
    inner = tree.unnest() if isinstance(tree, exp.Subquery) else tree
    return inner if isinstance(inner, exp.Query) else tree


def _names(tree: exp.Query) -> list[str] | None:
    """The output names as typed; None when a star makes them depend on the tables."""
    selects = _leftmost(tree).selects
    if any(item.is_star for item in selects):
        return None
    return [_name(item) for item in selects]


def _name(item: exp.Expr) -> str:
    if isinstance(item, (exp.Alias, exp.Column)):
        return item.alias_or_name
    if isinstance(item, exp.Count) and isinstance(item.this, exp.Star):
        return "count(1)"
    text = item.sql(dialect="databricks", normalize_functions="lower")
    return text.lower() if isinstance(item, exp.Func) and not item.expressions and not item.this else text


def name_columns(tree: exp.Query) -> None:
    """Expressions without a name, and names that come twice, get one that is unique."""
    leftmost = _leftmost(tree)
    if not isinstance(leftmost, exp.Select) or any(item.is_star for item in leftmost.selects):
        return
    taken: set[str] = set()
    for index, item in enumerate(leftmost.selects):
        named = isinstance(item, (exp.Alias, exp.Column)) and item.alias_or_name.lower() not in taken
        taken.add(item.alias_or_name.lower())
        if not named:
            item.replace(exp.alias_(item.unalias().copy(), f"__column_{index}"))
