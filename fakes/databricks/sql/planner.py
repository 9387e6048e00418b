"""INSERT, UPDATE, DELETE and MERGE as one SELECT at the snapshot: the rows that go and the rows that come.

The engine evaluates the statement on its snapshot and answers one row for each row removed (`D`) or added
(`A`). What is committed later is exactly this change, also on top of commits that came in between: that is
how a row inserted meanwhile stays untouched, as Databricks documents for WriteSerializable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from lockproof.fakes.databricks.sql import failures
from lockproof.fakes.databricks.sql.arbiter import Change, Read
from lockproof.fakes.databricks.sql.dialect import column_type
from lockproof.fakes.databricks.sql.engine import ACTION, OPERATION, ORDINAL, Answer, Column
from lockproof.fakes.databricks.sql.reads import reads_of
from lockproof.fakes.databricks.sql.selects import name_columns
from lockproof.fakes.databricks.sql.session import Session, column_named
from lockproof.fakes.databricks.sql.tables import Snapshot

_SOURCE = "__src"


@dataclass(frozen=True)
class Plan:
    """A change with the answer that it was read from. `actions` counts MERGE's rows by what happened."""

    target: Snapshot
    change: Change
    answer: Answer
    operations: tuple[str, ...]
    actions: dict[str, int]
    replaces: bool = False


def plan_insert(session: Session, tree: exp.Insert) -> Plan:
    """`INSERT INTO` and `INSERT OVERWRITE`, of VALUES or of a query, by position or by name."""
    overwrite = bool(tree.args.get("overwrite"))
    session.prepare(tree)
    schema = tree.this
    table = schema.this if isinstance(schema, exp.Schema) else schema
    target = session.snapshot(session.full_name(table), "MODIFY", *(("SELECT",) if overwrite else ()))
    source = tree.expression
    listed = [item.name for item in schema.expressions] if isinstance(schema, exp.Schema) else None
    reads = reads_of(session, target, source) if source is not None else ()
    defaults = _defaults(target)
    if isinstance(source, exp.Values):
        rows = [item.expressions if isinstance(item, exp.Tuple) else [item] for item in source.expressions]
        named = _wanted(target, listed, len(rows[0]))
        for row in rows:
            if len(row) != len(named):
                raise failures.arity(target.full_name, len(named), len(row))
        selects = [
            exp.select(
                *(
                    _named(_given(value, column, defaults), f"c{index}")
                    for index, (value, column) in enumerate(zip(row, named, strict=True))
                )
            )
            for row in rows
        ]
        query: exp.Query = (
            selects[0] if len(selects) == 1 else exp.union(*selects, distinct=False, copy=False)
        )
        session.relate(query)
    else:
        query = source
        session.relate(query)
        names = _output_names(session, query)
        name_columns(query)
        if tree.args.get("by_name"):
            listed = names
        named = _wanted(target, listed, len(names))
        if len(named) != len(names):
            raise failures.arity(target.full_name, len(named), len(names))
    inner = query.subquery("q", copy=False)
    inner.args["alias"].set("columns", [exp.to_identifier(f"c{index}") for index in range(len(named))])
    positions = {column.name: index for index, column in enumerate(named)}
    outputs = [
        _cast(
            exp.column(f"c{positions[column.name]}", "q")
            if column.name in positions
            else defaults.get(column.name, exp.null()).copy(),
            column,
        )
        for column in target.columns
    ]
    outer = exp.select(_named(exp.Literal.string("A"), OPERATION), *outputs).from_(inner, copy=False)
    answer = session.query(outer)
    removed = tuple(target.live.store.rows(target.version, session.watch)) if overwrite else ()
    whole = (Read(whole=True),) if overwrite else ()
    return _plan(target, "WRITE", answer, (*reads, *whole), removed=removed, replaces=overwrite)


def plan_update(session: Session, tree: exp.Update) -> Plan:
    session.prepare(tree)
    target = session.snapshot(session.full_name(tree.this), "SELECT", "MODIFY")
    alias = tree.this.alias or tree.this.name
    reads = reads_of(session, target, tree)
    assigned: dict[str, exp.Expr] = {}
    for item in tree.expressions:
        if not isinstance(item, exp.EQ):
            raise failures.syntax(f"'{item.sql(dialect='databricks')}'", 1, 0)
        assigned[column_named(target, item.this.name).name] = item.expression
    outputs = [
        _either(exp.column(column.name.lower(), alias), assigned.get(column.name), column)
        for column in target.columns
    ]
    return _run(session, target, tree, outputs, reads, "DA")


def plan_delete(session: Session, tree: exp.Delete) -> Plan:
    session.prepare(tree)
    target = session.snapshot(session.full_name(tree.this), "SELECT", "MODIFY")
    alias = tree.this.alias or tree.this.name
    reads = reads_of(session, target, tree)
    outputs = [_either(exp.column(column.name.lower(), alias), None, column) for column in target.columns]
    return _run(session, target, tree, outputs, reads, "D")


def _run(
    session: Session,
    target: Snapshot,
    tree: exp.Update | exp.Delete,
    outputs: list[exp.Expr],
    reads: tuple[Read, ...],
    flags: str,
) -> Plan:
    query = exp.select(_named(exp.column(OPERATION, "o"), OPERATION), *outputs)
    query = query.from_(tree.this, copy=False).join(_flags(flags), join_type="cross", copy=False)
    if tree.args.get("where"):
        query.set("where", tree.args["where"])
    session.relate(query)
    return _plan(target, tree.key.upper(), session.query(query), reads)


def plan_merge(session: Session, tree: exp.Merge) -> Plan:
    """All kinds of clauses, the first that applies to a pair of rows wins."""
    session.prepare(tree)
    target = session.snapshot(session.full_name(tree.this), "SELECT", "MODIFY")
    alias, source_alias = tree.this.alias or tree.this.name, tree.args["using"].alias_or_name
    reads = reads_of(session, target, tree)
    session.relate(tree)
    numbered = exp.select("*", _named(exp.Window(this=exp.RowNumber()), ORDINAL))
    left = numbered.from_(tree.this, copy=False).subquery(alias, copy=False)
    marked = exp.select("*", _named(exp.true(), _SOURCE))
    right = marked.from_(tree.args["using"], copy=False).subquery(source_alias, copy=False)
    there = exp.column(ORDINAL, alias).is_(exp.null()).not_()
    given = exp.column(_SOURCE, source_alias).is_(exp.null()).not_()
    action = exp.Case()
    values: dict[str, dict[int, exp.Expr]] = {column.name: {} for column in target.columns}
    kinds: dict[int, str] = {}
    for number, clause in enumerate(tree.args["whens"].expressions):
        if isinstance(clause.args["then"], exp.Insert):
            _of_source(clause, source_alias)
        pair = _pair(clause, there, given)
        condition = clause.args.get("condition")
        action = action.when(
            exp.and_(pair, condition.copy(), copy=False) if condition else pair, str(number), copy=False
        )
        kinds[number] = _assign(clause.args["then"], target, source_alias, number, values)
    pairs = exp.select(
        _named(action, ACTION),
        _named(exp.column(ORDINAL, alias), ORDINAL),
        *(
            _named(exp.column(column.name.lower(), alias), f"o{index}")
            for index, column in enumerate(target.columns)
        ),
        *(
            _named(value, f"v{number}_{index}")
            for index, column in enumerate(target.columns)
            for number, value in values[column.name].items()
        ),
    )
    pairs = pairs.from_(left, copy=False)
    pairs = pairs.join(right, on=tree.args["on"], join_type="full outer", copy=False)
    outputs = []
    for index, column in enumerate(target.columns):
        new = exp.Case()
        for number in values[column.name]:
            chosen = exp.column(ACTION, "p").eq(number)
            new = new.when(chosen, exp.column(f"v{number}_{index}", "p"), copy=False)
        old = exp.column(f"o{index}", "p")
        updates = [exp.column(ACTION, "p").eq(n) for n, kind in kinds.items() if kind == "update"]
        if values[column.name] and updates:
            new = new.when(exp.or_(*updates), old.copy(), copy=False)
        elif updates or not values[column.name]:
            new = new.when(exp.true(), old.copy() if updates else exp.null(), copy=False)
        outputs.append(_either(old, new, column))
    flag = exp.column(OPERATION, "o")
    wanted = [
        exp.and_(exp.column(ACTION, "p").eq(number), flag.copy().isin(*_FLAGS[kind]))
        for number, kind in kinds.items()
    ]
    query = exp.select(
        _named(flag.copy(), OPERATION),
        *outputs,
        _named(exp.column(ACTION, "p"), ACTION),
        exp.column(ORDINAL, "p"),
    )
    query = query.from_(pairs.subquery("p", copy=False), copy=False)
    query = query.join(_flags("DA"), join_type="cross", copy=False).where(exp.or_(*wanted), copy=False)
    answer = session.query(query)
    width = len(target.columns)
    gone = [row[width + 2] for row in answer.rows if row[0] == "D"]
    if len(gone) != len(set(gone)):
        raise failures.multiple_matches()
    actions = {"update": 0, "delete": 0, "insert": 0}
    for row in answer.rows:
        kind = kinds[row[width + 1]]
        if row[0] == ("A" if kind != "delete" else "D"):
            actions[kind] += 1
    return _plan(target, "MERGE", answer, reads, actions=actions)


_FLAGS = {"update": ("D", "A"), "delete": ("D",), "insert": ("A",)}


def _pair(clause: exp.When, there: exp.Expr, given: exp.Expr) -> exp.Expr:
    if clause.args["matched"]:
        return exp.and_(there.copy(), given.copy())
    if clause.args.get("source"):
        return exp.and_(there.copy(), exp.not_(given.copy()))
    return exp.and_(exp.not_(there.copy()), given.copy())


def _of_source(clause: exp.When, source: str) -> None:
    """In a clause for rows that are not there, only the source's columns can be meant."""
    parts = [clause.args.get("condition"), clause.args["then"].args.get("expression")]
    for part in parts:
        for column in part.find_all(exp.Column) if part is not None else ():
            if not column.table:
                column.set("table", exp.to_identifier(source))


def _assign(
    then: exp.Expr,
    target: Snapshot,
    source: str,
    number: int,
    values: dict[str, dict[int, exp.Expr]],
) -> str:
    """Notes the values that the clause gives to columns; returns `update`, `insert` or `delete`."""
    if isinstance(then, exp.Var):
        return "delete"
    kind = "update" if isinstance(then, exp.Update) else "insert"
    star = isinstance(then.this, exp.Star) or any(isinstance(item, exp.Star) for item in then.expressions)
    if star:
        pairs = [(column, exp.column(column.name.lower(), source)) for column in target.columns]
    elif kind == "update":
        pairs = [(column_named(target, item.this.name), item.expression) for item in then.expressions]
    else:
        named = [column_named(target, item.name) for item in then.this.expressions]
        given = then.expression.expressions
        if len(named) != len(given):
            raise failures.arity(target.full_name, len(named), len(given))
        pairs = list(zip(named, given, strict=True))
    for column, value in pairs:
        values[column.name][number] = _cast(value.copy(), column, alias=False)
    if kind == "insert":
        for column in target.columns:
            default = _defaults(target).get(column.name, exp.null())
            values[column.name].setdefault(number, _cast(default.copy(), column, alias=False))
    return kind


def _plan(
    target: Snapshot,
    operation: str,
    answer: Answer,
    reads: tuple[Read, ...],
    *,
    actions: dict[str, int] | None = None,
    removed: tuple[Any, ...] = (),
    replaces: bool = False,
) -> Plan:
    width = len(target.columns)
    operations = tuple(row[0] for row in answer.rows)
    gone = tuple(row[1 : width + 1] for row in answer.rows if row[0] == "D")
    come = tuple(row[1 : width + 1] for row in answer.rows if row[0] == "A")
    for index, column in enumerate(target.columns):
        if not column.nullable and any(row[index] is None for row in come):
            raise failures.not_null(column.name)
    change = Change(operation, gone or removed, come, reads)
    return Plan(target, change, answer, operations, actions or {}, replaces)


def _named(value: exp.Expr, name: str) -> exp.Alias:
    """`value AS name`, without the copies that sqlglot's own helpers make."""
    return exp.Alias(this=value, alias=exp.to_identifier(name))


def _flags(flags: str) -> exp.Expr:
    rows = [exp.select(_named(exp.Literal.string(flag), OPERATION)) for flag in flags]
    return (rows[0] if len(rows) == 1 else exp.union(*rows, distinct=False, copy=False)).subquery(
        "o", copy=False
    )


def _either(old: exp.Expr, new: exp.Expr | None, column: Column) -> exp.Expr:
    """The old value in a `D` row, the new one (None: no other) in an `A` row."""
    if new is None:
        return _named(old, column.name)
    flag = exp.column(OPERATION, "o").eq(exp.Literal.string("D"))
    value = exp.Case().when(flag, old.copy(), copy=False).else_(_cast(new, column, alias=False), copy=False)
    return _named(value, column.name)


def _cast(value: exp.Expr, column: Column, *, alias: bool = True) -> exp.Expr:
    if isinstance(column.type, str):
        value = exp.Cast(this=value, to=column_type(column.type))
    return _named(value, column.name) if alias else value


def _given(value: exp.Expr, column: Column, defaults: dict[str, exp.Expr]) -> exp.Expr:
    if isinstance(value, exp.Var) and value.name.upper() == "DEFAULT":
        value = defaults.get(column.name, exp.null()).copy()
    return _cast(value, column, alias=False)


def _wanted(target: Snapshot, listed: list[str] | None, given: int) -> list[Column]:
    if listed is None:
        if given != len(target.columns):
            raise failures.arity(target.full_name, len(target.columns), given)
        return list(target.columns)
    return [column_named(target, name) for name in listed]


def _defaults(target: Snapshot) -> dict[str, exp.Expr]:
    found = target.live.entry.extra.get("column_defaults", {})
    return {name: exp.maybe_parse(text, dialect="databricks") for name, text in found.items()}


def _output_names(session: Session, query: exp.Query) -> list[str]:
    selects = query.selects
    if selects and not any(item.is_star for item in selects):
        return [item.alias_or_name for item in selects]
    probe = exp.select("*").from_(query.copy().subquery("q")).limit(0)
    return list(session.query(probe).names)
