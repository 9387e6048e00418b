"""One statement's session: names and grants, snapshots, the session's own functions, queries on the engine.

A session lives for one statement. Every table is read at the snapshot that the statement took when it first
named it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from lockproof.fakes.databricks.catalog import Table
from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.identity import Principal
from lockproof.fakes.databricks.sql import engine, failures
from lockproof.fakes.databricks.sql.dialect import to_engine
from lockproof.fakes.databricks.sql.engine import Answer, Column, EngineError, Stopwatch
from lockproof.fakes.databricks.sql.tables import Snapshot, Tables

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

Reach = Callable[[str], None]
_RELATED = "__relation"
_CASTS = ("Cannot cast string", "Error parsing timestamp", "Error parsing date", "Error parsing")


@dataclass
class Session:
    """`reach(point)` is the statement arriving at a named checkpoint; it may wait there."""

    workspace: FakeWorkspace
    tables: Tables
    principal: Principal
    catalog: str = "main"
    schema: str = "default"
    reach: Reach = lambda point: None
    lag: int = 0
    watch: Stopwatch = field(default_factory=Stopwatch)
    snapshots: dict[tuple[str, int | None], Snapshot] = field(default_factory=dict)
    relations: dict[str, Any] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = datetime.fromtimestamp(self.workspace.clock.time(), UTC)

    # --- names and grants ---

    def full_name(self, node: exp.Table) -> str:
        """`catalog.schema.table`, lower-cased, completed with the request's catalog and schema."""
        if not isinstance(node.this, exp.Identifier):
            raise failures.unsupported(f"the table function {node.this.sql(dialect='databricks')}")
        catalog, schema = node.catalog or self.catalog, node.db or self.schema
        return f"{catalog}.{schema}.{node.name}".lower()

    def entry(self, full_name: str, *privileges: str) -> Table:
        """The table. Raises TABLE_OR_VIEW_NOT_FOUND, or INSUFFICIENT_PERMISSIONS for a missing grant."""
        found = self.tables.find(full_name)
        if found is None:
            self.require_schema(full_name.rpartition(".")[0], "USE_SCHEMA", existing=False)
            raise failures.table_not_found(full_name)
        for privilege in privileges:
            self.require(privilege, found)
        return found

    def require(self, privilege: str, item: Any) -> None:
        try:
            self.workspace.metastore.require(self.principal, privilege, item)
        except ApiError as error:
            raise failures.insufficient_permissions(error.message) from None

    def require_schema(self, full_name: str, privilege: str, *, existing: bool = True) -> None:
        """Raises NO_SUCH_CATALOG_EXCEPTION, SCHEMA_NOT_FOUND (when `existing`), INSUFFICIENT_PERMISSIONS."""
        objects = self.workspace.metastore.objects
        catalog = full_name.partition(".")[0]
        if catalog not in objects["catalog"]:
            raise failures.catalog_not_found(catalog)
        schema = objects["schema"].get(full_name)
        if schema is not None:
            self.require(privilege, schema)
        elif existing:
            raise failures.schema_not_found(full_name)

    # --- snapshots ---

    def snapshot(self, full_name: str, *privileges: str, version: int | None = None) -> Snapshot:
        """The table at this statement's snapshot, or at `version`."""
        entry = self.entry(full_name, *privileges)
        key = (full_name, version)
        if key not in self.snapshots:
            self.snapshots[key] = self.tables.snapshot(
                entry, self.watch, version=version, lag=0 if version is not None else self.lag
            )
        return self.snapshots[key]

    def version_of(self, node: exp.Table) -> int | None:
        """The version that `VERSION AS OF`, `TIMESTAMP AS OF` or `@v3` asks for."""
        asked = node.args.get("version")
        alias = node.args.get("alias")
        full_name = self.full_name(node)
        if alias is not None and isinstance(alias.this, exp.Parameter):
            text = alias.this.name.lower()
            node.set("alias", None)
            return self._existing(full_name, int(text.removeprefix("v")))
        if asked is None:
            return None
        node.set("version", None)
        operand = asked.args["expression"]
        if str(asked.this).upper() == "VERSION":
            return self._existing(full_name, int(operand.name))
        answer = self.query(exp.select(exp.cast(operand, "timestamp", dialect="databricks").as_("at")))
        return self._version_at(full_name, answer.rows[0][0])

    def _existing(self, full_name: str, version: int) -> int:
        newest = self.tables.live(self.entry(full_name, "SELECT")).store.newest(self.watch)
        if not 0 <= version <= newest:
            raise failures.version_not_found(version, newest)
        return version

    def _version_at(self, full_name: str, moment: datetime) -> int:
        times = self.commit_times(full_name)
        found = [version for version, seconds in times.items() if seconds <= moment.timestamp()]
        if not found:
            oldest = datetime.fromtimestamp(times[min(times)], UTC)
            raise failures.timestamp_not_found(f"{moment:%Y-%m-%d %H:%M:%S}", f"{oldest:%Y-%m-%d %H:%M:%S}")
        return max(found)

    def commit_times(self, full_name: str) -> dict[int, float]:
        """Epoch seconds by version: on the fake's clock, the log's own for writers from outside."""
        live = self.tables.live(self.entry(full_name))
        logged = {
            int(item["version"]): float(item["timestamp"]) / 1000 for item in live.store.history(self.watch)
        }
        return {**logged, **live.times}

    # --- the syntax tree ---

    def prepare(self, tree: exp.Expr) -> None:
        """Lower-cases identifiers (names are case-insensitive) and fills in the session's own functions."""
        for node in list(tree.walk()):
            if isinstance(node, exp.Identifier):
                node.set("this", node.name.lower())
            elif isinstance(node, exp.Column) and node.args.get("db"):
                node.set("catalog", None)
                node.set("db", None)
            else:
                value = self._function(node)
                if value is not None and node.parent is not None:
                    node.replace(value)

    def _function(self, node: exp.Expr) -> exp.Expr | None:
        name = node.name.lower() if isinstance(node, exp.Anonymous) else ""
        if isinstance(node, exp.CurrentTimestamp) or name in ("now", "current_timestamp"):
            return exp.cast(exp.Literal.string(self.now.isoformat()), "timestamp", dialect="databricks")
        if isinstance(node, exp.CurrentDate):
            return exp.cast(exp.Literal.string(f"{self.now:%Y-%m-%d}"), "date")
        if isinstance(node, (exp.CurrentUser, exp.SessionUser)) or name in ("user", "session_user"):
            return exp.Literal.string(self.principal.name)
        if isinstance(node, exp.CurrentCatalog):
            return exp.Literal.string(self.catalog)
        if isinstance(node, (exp.CurrentSchema, exp.CurrentDatabase)):
            return exp.Literal.string(self.schema)
        if name == "unix_timestamp" and not node.expressions:
            return exp.Literal.number(int(self.now.timestamp()))
        return None

    def relate(self, tree: exp.Expr) -> None:
        """Puts the engine's relations in the place of the tables of a tree; names of CTEs stay."""
        local = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
        for node in list(tree.find_all(exp.Table)):
            if node.meta.get(_RELATED) or (not node.db and node.name.lower() in local):
                continue
            full_name, version = self.full_name(node), self.version_of(node)
            relation = self.relation(
                self.snapshot(full_name, "SELECT", version=version), node.alias or node.name
            )
            if node.args.get("joins"):
                relation.set("joins", node.args["joins"])
            node.replace(relation)

    def relation(self, snapshot: Snapshot, alias: str) -> exp.Expr:
        """The snapshot under `alias`, its columns lower-cased."""
        name = f"{_RELATED}{len(self.relations)}"
        self.relations[name] = snapshot.live.store.at(snapshot.version, self.watch)
        source = exp.table_(name)
        source.meta[_RELATED] = True
        if all(column.name == column.name.lower() for column in snapshot.columns):
            source.set("alias", exp.TableAlias(this=exp.to_identifier(alias)))
            return source
        columns = [exp.column(column.name).as_(column.name.lower()) for column in snapshot.columns]
        return exp.select(*columns).from_(source).subquery(alias)

    # --- the engine ---

    def query(self, tree: exp.Expr) -> Answer:
        """Runs a prepared and related SELECT. The engine's refusals become a warehouse's errors."""
        sql = to_engine(tree)
        relations = {name: handle for name, handle in self.relations.items() if name in sql}
        try:
            return engine.query(sql, relations, self.watch)
        except EngineError as error:
            raise translated(str(error)) from error


def translated(text: str) -> failures.SqlFailure:
    """DataFusion's refusal as a warehouse would put it."""
    if "No field named" in text:
        name = text.partition("No field named ")[2].split("\n")[0].rstrip(".").split(". ")[0].replace('"', "")
        known = text.partition("Valid fields are ")[2].rstrip(".").replace('"', "").split(", ")
        return failures.unresolved_column(name, [item for item in known if item and "__" not in item])
    if "Ambiguous reference" in text or "ambiguous" in text.lower():
        return failures.SqlFailure("AMBIGUOUS_REFERENCE", text.splitlines()[0], "42704")
    if "Invalid function" in text:
        return failures.unresolved_routine(text.partition("Invalid function '")[2].partition("'")[0])
    if any(sign in text for sign in _CASTS):
        value = text.partition("string '")[2].partition("'")[0] or text.partition("'")[2].partition("'")[0]
        wanted = text.rpartition("value of ")[2].partition(" type")[0] or "TIMESTAMP"
        return failures.cast_invalid(
            f"'{value}'", {"Int64": "BIGINT", "Int32": "INT"}.get(wanted, wanted.upper())
        )
    if "Divide by zero" in text:
        return failures.SqlFailure("DIVIDE_BY_ZERO", "Division by zero.", "22012")
    if "not supported" in text or "not implemented" in text or "unsupported" in text.lower():
        return failures.unsupported(f"this statement: {text.splitlines()[0]}")
    return failures.internal(text.splitlines()[0])


def column_named(snapshot: Snapshot, name: str) -> Column:
    """By name in any case. Raises UNRESOLVED_COLUMN."""
    for column in snapshot.columns:
        if column.name.lower() == name.lower():
            return column
    raise failures.unresolved_column(name, [column.name for column in snapshot.columns])
