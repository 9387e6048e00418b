"""Column definitions: types, nullability, keys and defaults, from SQL to a Delta schema."""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from lockproof.fakes.databricks.sql import failures
from lockproof.fakes.databricks.sql.engine import Column

DEFAULTS_FEATURE = "delta.feature.allowColumnDefaults"
_TYPES = {
    "TEXT": "string",
    "VARCHAR": "string",
    "CHAR": "string",
    "BIGINT": "long",
    "INT": "integer",
    "SMALLINT": "short",
    "TINYINT": "byte",
    "DOUBLE": "double",
    "FLOAT": "float",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "BINARY": "binary",
    "TIMESTAMPTZ": "timestamp",
    "TIMESTAMPLTZ": "timestamp",
    "TIMESTAMP": "timestamp_ntz",
    "TIMESTAMPNTZ": "timestamp_ntz",
}


def columns_of(schema: exp.Schema | None, properties: dict[str, str]) -> tuple[list[Column], dict[str, Any]]:
    columns: list[Column] = []
    keys: set[str] = set()
    extra: dict[str, Any] = {}
    for item in schema.expressions if schema is not None else ():
        if isinstance(item, exp.ColumnDef):
            columns.append(column_of(item))
            for rule in item.args.get("constraints") or ():
                if isinstance(rule.kind, exp.PrimaryKeyColumnConstraint):
                    keys.add(item.name.lower())
                elif isinstance(rule.kind, exp.GeneratedAsIdentityColumnConstraint):
                    raise failures.unsupported("identity columns")
                elif isinstance(rule.kind, exp.DefaultColumnConstraint):
                    text = rule.kind.this.sql(dialect="databricks")
                    extra.setdefault("column_defaults", {})[item.name] = text
            continue
        rules = item.expressions if isinstance(item, exp.Constraint) else [item]
        for rule in rules:
            if isinstance(rule, exp.PrimaryKey):
                keys.update(column.name.lower() for column in rule.expressions)
            elif not isinstance(rule, exp.ForeignKey):
                raise failures.unsupported(f"{item.sql(dialect='databricks')} in CREATE TABLE")
    if extra and properties.get(DEFAULTS_FEATURE) not in ("supported", "enabled"):
        raise failures.SqlFailure(
            "WRONG_COLUMN_DEFAULTS_FOR_DELTA_FEATURE_NOT_ENABLED",
            "Failed to execute CREATE TABLE command because it assigned a column DEFAULT value, but the "
            "corresponding table feature was not enabled. Please retry the command again after executing "
            f"ALTER TABLE tableName SET TBLPROPERTIES('{DEFAULTS_FEATURE}' = 'supported').",
            "0AKDE",
        )
    if keys:
        extra["primary_key"] = sorted(keys)
    keyed = [
        Column(item.name, item.type, item.nullable and item.name.lower() not in keys, item.comment)
        for item in columns
    ]
    return keyed, extra


def column_of(item: exp.ColumnDef) -> Column:
    nullable, comment = True, None
    for rule in item.args.get("constraints") or ():
        if isinstance(rule.kind, exp.NotNullColumnConstraint):
            nullable = bool(rule.kind.args.get("allow_null"))
        elif isinstance(rule.kind, exp.CommentColumnConstraint):
            comment = rule.kind.this.name
    return Column(item.name, _type(item.args["kind"]), nullable, comment)


def _type(kind: exp.DataType) -> Any:
    """The type as a Delta schema spells it."""
    name = kind.this.name if isinstance(kind.this, exp.DataType.Type) else str(kind.this)
    if name in _TYPES:
        return _TYPES[name]
    if name == "DECIMAL":
        digits = [item.name for item in kind.expressions] or ["10", "0"]
        return f"decimal({digits[0]},{digits[1] if len(digits) > 1 else 0})"
    if name == "ARRAY":
        return {"type": "array", "elementType": _type(kind.expressions[0]), "containsNull": True}
    if name == "MAP":
        key, value = (_type(item) for item in kind.expressions)
        return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}
    if name == "STRUCT":
        fields = [
            {"name": item.name, "type": _type(item.args["kind"]), "nullable": True, "metadata": {}}
            for item in kind.expressions
        ]
        return {"type": "struct", "fields": fields}
    raise failures.unsupported(f"columns of type {kind.sql(dialect='databricks')}")


def delta_type(arrow: str) -> Any:
    """For CREATE TABLE … AS: the column type of an engine's result."""
    names = {"Boolean": "boolean", "Int64": "long", "Int32": "integer", "Float64": "double", "Date32": "date"}
    if arrow.startswith("Timestamp"):
        return "timestamp" if "UTC" in arrow else "timestamp_ntz"
    if arrow.startswith("Decimal"):
        return "decimal" + arrow[arrow.index("(") :].replace(" ", "")
    return names.get(arrow, "string")
