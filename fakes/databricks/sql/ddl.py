"""CREATE, ALTER, DROP, TRUNCATE, OPTIMIZE: what changes the catalogue or a table's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from deltalake import DeltaTable
from sqlglot import exp

from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.sql import failures
from lockproof.fakes.databricks.sql.arbiter import Change, Read
from lockproof.fakes.databricks.sql.cells import Heading, Result
from lockproof.fakes.databricks.sql.columns import column_of, columns_of, delta_type
from lockproof.fakes.databricks.sql.engine import Column, EngineError, schema_of
from lockproof.fakes.databricks.sql.planner import plan_delete
from lockproof.fakes.databricks.sql.reads import watcher
from lockproof.fakes.databricks.sql.session import Session, column_named
from lockproof.fakes.databricks.sql.tables import DELETION_VECTORS, Snapshot
from lockproof.fakes.databricks.sql.writes import commit, insert


def create(session: Session, tree: exp.Create) -> Result:
    kind = str(tree.args["kind"]).upper()
    if kind in ("SCHEMA", "DATABASE"):
        return _create_schema(session, tree)
    if kind != "TABLE":
        raise failures.unsupported(f"CREATE {kind}")
    schema = tree.this if isinstance(tree.this, exp.Schema) else None
    full_name = session.full_name(schema.this if schema else tree.this)
    parent = full_name.rpartition(".")[0]
    session.require_schema(parent, "USE_SCHEMA")
    existing = session.tables.find(full_name)
    if existing is None or tree.args.get("replace"):
        session.require_schema(parent, "CREATE_TABLE")
    settings = _settings(tree)
    columns, extra = columns_of(schema, settings["properties"])
    query = tree.expression
    if query is not None:
        session.prepare(query)
        session.relate(query)
        answer = session.query(exp.select("*").from_(query.copy().subquery("q")).limit(0))
        columns = [
            Column(name, delta_type(kind)) for name, kind in zip(answer.names, answer.types, strict=True)
        ]
    session.reach("snapshot")
    existing = session.tables.find(full_name)
    if existing is not None and tree.args.get("exists"):
        return Result()
    if existing is not None and tree.args.get("replace"):
        _replace(session, session.snapshot(full_name, "MODIFY"), columns, settings)
    else:
        try:
            session.tables.create(
                full_name,
                session.principal,
                columns,
                session.watch,
                partitions=settings["partitions"],
                properties=settings["properties"],
                comment=settings["comment"],
                location=settings["location"],
                extra=extra,
            )
        except failures.SqlFailure as failure:
            if failure.error_class == "TABLE_OR_VIEW_ALREADY_EXISTS" and tree.args.get("exists"):
                return Result()
            raise
        except EngineError as error:
            raise failures.internal(str(error).splitlines()[0]) from error
    session.reach("committed")
    if query is not None:
        insert(session, exp.Insert(this=exp.to_table(full_name), expression=query))
    return Result()


def drop(session: Session, tree: exp.Drop) -> Result:
    kind = str(tree.args["kind"]).upper()
    (node,) = tree.args.get("tables") or [tree.this]
    if kind in ("SCHEMA", "DATABASE"):
        return _drop_schema(session, node, tree)
    if kind != "TABLE":
        raise failures.unsupported(f"DROP {kind}")
    full_name = session.full_name(node)
    session.reach("snapshot")
    entry = session.tables.find(full_name)
    if entry is None and tree.args.get("exists"):
        return Result()
    entry = session.entry(full_name)
    _manage(session, entry)
    session.tables.drop(entry)
    session.reach("committed")
    return Result()


def alter(session: Session, tree: exp.Alter) -> Result:
    if str(tree.args["kind"]).upper() != "TABLE":
        raise failures.unsupported(f"ALTER {tree.args['kind']}")
    snapshot = session.snapshot(session.full_name(tree.this))
    entry = snapshot.live.entry
    _manage(session, entry)
    fields: list[Column] = []
    for action in tree.args["actions"]:
        if isinstance(action, exp.AlterSet):
            _set_properties(session, snapshot, action)
        elif isinstance(action, exp.AlterRename):
            _rename(session, snapshot, action.this)
        elif isinstance(action, (exp.Schema, exp.ColumnDef)):
            given = action.expressions if isinstance(action, exp.Schema) else [action]
            fields += [column_of(item) for item in given]
        elif isinstance(action, exp.AddConstraint):
            _constrain(session, snapshot, action)
        else:
            raise failures.unsupported(f"ALTER TABLE … {action.sql(dialect='databricks')}")
    if fields:
        added = schema_of(fields).fields
        _metadata(session, snapshot, "ADD COLUMNS", lambda table: table.alter.add_columns(list(added)))
    return Result()


def truncate(session: Session, tree: exp.TruncateTable) -> Result:
    plan = plan_delete(session, exp.Delete(this=tree.expressions[0]))
    commit(session, plan)
    return Result()


def optimize(session: Session, full_name: str) -> Result:
    """Compaction by the engine. No row changes, so it carries no rows to the arbiter."""
    snapshot = session.snapshot(full_name, "SELECT", "MODIFY")
    store = snapshot.live.store
    session.reach("snapshot")
    if len(store.at(snapshot.version, session.watch).file_uris()) < 2:
        return Result()

    def compact(version: int) -> int:
        return store.alter(lambda table: table.optimize.compact(), version, session.watch)

    change = Change("OPTIMIZE", rewrites=True, reads=(Read(whole=True),))
    session.committed[full_name] = session.tables.commit(
        snapshot, change, compact, watcher(session), session.principal, session.watch
    )
    session.reach("committed")
    return Result()


def vacuum(session: Session, full_name: str) -> Result:
    """Removal of old files by the engine. No row is read or changed, so nothing conflicts with it."""
    live = session.snapshot(full_name, "SELECT", "MODIFY").live
    session.reach("snapshot")
    live.store.vacuum(session.watch)
    session.reach("committed")
    return Result((Heading("path"),), [(live.store.location,)])


def _metadata(
    session: Session, snapshot: Snapshot, operation: str, change: Any, *, protocol: bool = False
) -> None:
    """One metadata commit by `change(DeltaTable)`."""
    session.reach("snapshot")
    watch, store = session.watch, snapshot.live.store
    try:
        version = session.tables.commit(
            snapshot,
            Change(operation, metadata=True),
            lambda version: store.alter(change, version, watch),
            watcher(session),
            session.principal,
            watch,
            protocol=protocol,
        )
    except EngineError as error:
        raise failures.internal(str(error).splitlines()[0]) from error
    session.committed[snapshot.full_name] = version
    session.reach("committed")


def _replace(
    session: Session, snapshot: Snapshot, columns: list[Column], settings: Mapping[str, Any]
) -> None:
    store = snapshot.live.store

    def replace(table: DeltaTable) -> None:
        DeltaTable.create(
            store.location,
            schema_of(columns),
            mode="overwrite",
            partition_by=list(settings["partitions"]),
            configuration=dict(settings["properties"]),
            raise_if_key_not_exists=False,
            storage_options=store.options or None,
        )

    _metadata(session, snapshot, "CREATE OR REPLACE TABLE", replace)
    session.snapshots.clear()


def _set_properties(session: Session, snapshot: Snapshot, action: exp.AlterSet) -> None:
    given = _properties(action.expressions)
    vectors = given.get(DELETION_VECTORS, "").lower() == "true"
    known = snapshot.properties.get(DELETION_VECTORS, "").lower() == "true"

    def change(table: DeltaTable) -> None:
        table.alter.set_table_properties(given, raise_if_not_exists=False)

    _metadata(session, snapshot, "SET TBLPROPERTIES", change, protocol=vectors and not known)


def _rename(session: Session, snapshot: Snapshot, node: exp.Table) -> None:
    target = session.full_name(node)
    with session.workspace.mutex:
        if session.tables.find(target):
            raise failures.table_exists(target)
        if target.rpartition(".")[0] != snapshot.full_name.rpartition(".")[0]:
            raise failures.unsupported("renaming a table into another schema")
        session.workspace.metastore.rename(snapshot.live.entry, node.name)


def _constrain(session: Session, snapshot: Snapshot, action: exp.AddConstraint) -> None:
    """Keys are informational; CHECK constraints are the engine's, which enforces them."""
    for constraint in action.expressions:
        rules = constraint.expressions if isinstance(constraint, exp.Constraint) else [constraint]
        name = constraint.name if isinstance(constraint, exp.Constraint) else "key"
        for rule in rules:
            if isinstance(rule, (exp.PrimaryKey, exp.ForeignKey)):
                for column in rule.expressions if isinstance(rule, exp.PrimaryKey) else ():
                    if column_named(snapshot, column.name).nullable:
                        raise failures.SqlFailure(
                            "DELTA_CANNOT_CREATE_PRIMARY_KEY_ON_NULLABLE_COLUMN",
                            f"Cannot create the primary key `{name}` because its child column(s) "
                            f"`{column.name}` is nullable. Please change the column nullability and retry.",
                            "42831",
                        )
                snapshot.live.entry.extra.setdefault("table_constraints", []).append(name)
            else:
                text = rule.this.sql(dialect="databricks")
                _metadata(
                    session,
                    snapshot,
                    "ADD CONSTRAINT",
                    lambda table, text=text, name=name: table.alter.add_constraint({name: text}),
                )


def _settings(tree: exp.Create) -> dict[str, Any]:
    found = tree.args.get("properties")
    items = found.expressions if found is not None else []
    settings: dict[str, Any] = {"partitions": (), "comment": None, "location": None}
    settings["properties"] = _properties([found]) if found is not None else {}
    for item in items:
        if isinstance(item, exp.PartitionedByProperty):
            settings["partitions"] = tuple(column.name.lower() for column in item.this.expressions)
        elif isinstance(item, exp.LocationProperty):
            settings["location"] = _location(item.this.name)
        elif isinstance(item, exp.SchemaCommentProperty):
            settings["comment"] = item.this.name
        elif isinstance(item, exp.FileFormatProperty) and item.this.name.upper() != "DELTA":
            raise failures.unsupported(f"tables in the format {item.this.name}")
    return settings


def _location(text: str) -> str:
    split = urlsplit(text)
    if split.scheme == "s3":
        return text.rstrip("/")
    if split.scheme in ("", "file") and PurePosixPath(split.path).is_absolute():
        return f"file://{split.path.rstrip('/')}"
    raise failures.SqlFailure(
        "INVALID_PARAMETER_VALUE", f"'{text}' is no absolute path, file: or s3: location.", "22023"
    )


def _properties(nodes: list[exp.Expr]) -> dict[str, str]:
    return {
        _spelled(item.this): item.args["value"].name or item.args["value"].sql(dialect="databricks")
        for node in nodes
        for item in node.expressions
        if type(item) is exp.Property
    }


def _spelled(node: Any) -> str:
    if isinstance(node, exp.Literal):
        return node.name
    return node.sql(dialect="databricks").replace("`", "") if isinstance(node, exp.Expr) else str(node)


def _create_schema(session: Session, tree: exp.Create) -> Result:
    catalog, name = tree.this.catalog or session.catalog, tree.this.db
    objects = session.workspace.metastore.objects
    if catalog.lower() not in objects["catalog"]:
        raise failures.catalog_not_found(catalog)
    with session.workspace.mutex:
        if f"{catalog}.{name}".lower() in objects["schema"]:
            if tree.args.get("exists"):
                return Result()
            raise failures.schema_exists(f"{catalog}.{name}")
        session.require("CREATE_SCHEMA", objects["catalog"][catalog.lower()])
        session.workspace.metastore.create("schema", catalog, name, session.principal)
    return Result()


def _drop_schema(session: Session, node: exp.Table, tree: exp.Drop) -> Result:
    full_name = f"{node.catalog or session.catalog}.{node.db or node.name}".lower()
    metastore = session.workspace.metastore
    with session.workspace.mutex:
        if full_name not in metastore.objects["schema"]:
            if tree.args.get("exists"):
                return Result()
            raise failures.schema_not_found(full_name)
        _manage(session, metastore.objects["schema"][full_name])
        inside = [name for name in metastore.objects["table"] if name.startswith(f"{full_name}.")]
        try:
            if not (inside and not tree.args.get("cascade")):
                for name in inside:
                    session.tables.drop(metastore.table(name))
            metastore.delete("schema", full_name, force=bool(tree.args.get("cascade")))
        except ApiError as error:
            raise failures.SqlFailure("SCHEMA_NOT_EMPTY", error.message, "2BP01") from None
    return Result()


def _manage(session: Session, item: Any) -> None:
    if not session.workspace.metastore.manages(session.principal, item):
        kind = item.kind.capitalize()
        raise failures.insufficient_permissions(f"User does not have MANAGE on {kind} '{item.full_name}'.")
