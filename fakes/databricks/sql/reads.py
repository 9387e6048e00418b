"""What a statement reads of its own target, and whether given rows would have been among it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from lockproof.fakes.databricks.sql.arbiter import Read, Row
from lockproof.fakes.databricks.sql.dialect import column_type
from lockproof.fakes.databricks.sql.parsing import literal_of
from lockproof.fakes.databricks.sql.session import Session
from lockproof.fakes.databricks.sql.tables import Snapshot

_EVALUABLE = (exp.Subquery, exp.Exists, exp.Select, exp.Anonymous)


@dataclass
class Scan:
    """A scan of the target under `alias`: the conjuncts that speak of nothing else, and those of its
    partition columns. `source`: the other side of a MERGE, whose `on` the row has to meet."""

    target: Snapshot
    alias: str
    conjuncts: list[exp.Expr]
    by_partition: list[exp.Expr]
    source: exp.Expr | None = None
    on: exp.Expr | None = None


def reads_of(session: Session, target: Snapshot, tree: exp.Expr) -> tuple[Read, ...]:
    """Each scan of the target in a prepared statement, before its tables are replaced.

    For an INSERT the tree is its query: without a scan of the target the INSERT is blind.
    """
    found: list[Scan] = []
    if isinstance(tree, (exp.Update, exp.Delete)):
        where = tree.args.get("where")
        found.append(_scan(target, tree.this, [where.this] if where else [], alone=True))
    elif isinstance(tree, exp.Merge):
        scan = _scan(target, tree.this, [tree.args["on"]], alone=False)
        by_source = any(
            clause.args.get("source") and not clause.args["matched"]
            for clause in tree.args["whens"].expressions
        )
        if by_source:
            scan = Scan(target, scan.alias, [], [])
        else:
            scan.source, scan.on = tree.args["using"].copy(), tree.args["on"].copy()
        found.append(scan)
    for node in tree.find_all(exp.Table):
        if node is tree.args.get("this") or not isinstance(node.this, exp.Identifier):
            continue
        if session.full_name(node) == target.full_name and not node.args.get("version"):
            inner = node.find_ancestor(exp.Select)
            where = inner.args.get("where") if inner is not None else None
            alone = inner is not None and not inner.args.get("joins")
            found.append(_scan(target, node, [where.this] if where else [], alone=alone))
    return tuple(Read(whole=not scan.conjuncts and scan.source is None, key=scan) for scan in found)


def _scan(target: Snapshot, node: exp.Table, conditions: list[exp.Expr], *, alone: bool) -> Scan:
    """`alone`: unqualified columns can only be the target's."""
    alias = node.alias or node.name
    names = {column.name.lower() for column in target.columns}
    partitions = {name.lower() for name in target.partitions}
    conjuncts = [
        part.copy()
        for condition in conditions
        for part in (condition.flatten() if isinstance(condition, exp.And) else (condition,))
        if _only(part, alias, names, alone)
    ]
    by_partition = [part for part in conjuncts if _only(part, alias, partitions, alone)]
    return Scan(target, alias, conjuncts, by_partition)


def _only(part: exp.Expr, alias: str, names: set[str], alone: bool) -> bool:
    if isinstance(part, _EVALUABLE) or part.find(*_EVALUABLE):
        return False
    return all(
        column.name in names and (column.table == alias or (not column.table and alone))
        for column in part.find_all(exp.Column)
    )


def watcher(session: Session) -> Callable[[Read, Sequence[Row], bool], bool]:
    """The arbiter's `sees`: the engine evaluates the scan over rows that another statement wrote."""

    def sees(read: Read, rows: Sequence[Row], by_row: bool) -> bool:
        scan = read.key
        if read.whole or scan is None:
            return bool(rows)
        conditions = scan.conjuncts if by_row else scan.by_partition
        if not by_row and not conditions:
            return bool(rows)
        query = exp.select(exp.Literal.number(1).as_("met")).from_(_values(scan.target, rows, scan.alias))
        if by_row and scan.source is not None:
            other = exp.select("*").from_(scan.source.copy()).where(scan.on.copy())
            session.relate(other)
            query = query.where(exp.Exists(this=other))
        for condition in conditions:
            query = query.where(condition.copy())
        return bool(session.query(query.limit(1)).rows)

    return sees


def _values(target: Snapshot, rows: Sequence[Row], alias: str) -> exp.Expr:
    """The rows as a relation of their own. Nested values are left out: conditions rarely speak of them."""
    selects = [
        exp.select(
            *(
                exp.alias_(_literal(value, column.type), column.name.lower())
                for value, column in zip(row, target.columns, strict=True)
            )
        )
        for row in rows
    ]
    query = selects[0] if len(selects) == 1 else exp.union(*selects, distinct=False)
    return query.subquery(alias)


def _literal(value: Any, kind: Any) -> exp.Expr:
    if not isinstance(kind, str):
        return exp.null()
    if value is None or kind == "binary":
        return exp.Cast(this=exp.null(), to=column_type(kind))
    if isinstance(value, bool):
        return exp.true() if value else exp.false()
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return exp.Cast(this=literal_of(text, "STRING"), to=column_type(kind))
