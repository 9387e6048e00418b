"""Why a statement failed: error class, text and SQLSTATE as a warehouse tells them.

Sources: docs.databricks.com/aws/en/error-messages (classes and texts), recorded answers of a workspace
(github.com/xo/dbimp testdata/databricks) for the classes of parse, table, schema and grant errors.
"""

from __future__ import annotations

from collections.abc import Iterable

DOCS = "https://docs.databricks.com/optimizations/isolation-level.html"


class SqlFailure(Exception):
    """A statement ended FAILED. `str()` is the message of the answer: `[CLASS] text SQLSTATE: state`."""

    def __init__(self, error_class: str, text: str, sql_state: str) -> None:
        super().__init__(f"[{error_class}] {text} SQLSTATE: {sql_state}")
        self.error_class = error_class
        self.sql_state = sql_state


class Conflict(SqlFailure):
    """A concurrent commit is in the way: SQLSTATE 2D521."""

    def __init__(self, error_class: str, text: str) -> None:
        super().__init__(error_class, text, "2D521")


def syntax(near: str, line: int, position: int) -> SqlFailure:
    where = f"Syntax error at or near {near}." if near else "Syntax error, unexpected end of statement."
    failure = SqlFailure("PARSE_SYNTAX_ERROR", where, "42601")
    failure.args = (f"{failure} (line {line}, pos {position})",)
    return failure


def table_not_found(full_name: str) -> SqlFailure:
    return SqlFailure(
        "TABLE_OR_VIEW_NOT_FOUND",
        f"The table or view {quoted(full_name)} cannot be found. Verify the spelling and correctness of the "
        "schema and catalog.\nIf you did not qualify the name with a schema, verify the current_schema() "
        "output, or qualify the name with the correct schema and catalog.\nTo tolerate the error on drop use "
        "DROP VIEW IF EXISTS or DROP TABLE IF EXISTS.",
        "42P01",
    )


def table_exists(full_name: str) -> SqlFailure:
    return SqlFailure(
        "TABLE_OR_VIEW_ALREADY_EXISTS",
        f"Cannot create table or view {quoted(full_name)} because it already exists. Choose a different "
        "name, drop or replace the existing object, add the IF NOT EXISTS clause to tolerate pre-existing "
        "objects, or add the OR REFRESH clause to refresh the existing streaming table.",
        "42P07",
    )


def schema_not_found(full_name: str) -> SqlFailure:
    return SqlFailure(
        "SCHEMA_NOT_FOUND",
        f"The schema {quoted(full_name)} cannot be found. Verify the spelling and correctness of the schema "
        "and catalog.\nIf you did not qualify the name with a catalog, verify the current_schema() output, "
        "or qualify the name with the correct catalog.\nTo tolerate the error on drop use DROP SCHEMA IF "
        "EXISTS.",
        "42704",
    )


def catalog_not_found(name: str) -> SqlFailure:
    return SqlFailure(
        "NO_SUCH_CATALOG_EXCEPTION",
        f"Catalog '{name}' was not found. Please verify the catalog name and then retry the query or command "
        "again.",
        "42704",
    )


def schema_exists(full_name: str) -> SqlFailure:
    return SqlFailure(
        "SCHEMA_ALREADY_EXISTS",
        f"Cannot create schema {quoted(full_name)} because it already exists. Choose a different name, drop "
        "the existing schema, or add the IF NOT EXISTS clause to tolerate pre-existing schema.",
        "42P06",
    )


def insufficient_permissions(report: str) -> SqlFailure:
    return SqlFailure("INSUFFICIENT_PERMISSIONS", f"Insufficient privileges:\n{report}", "42501")


def unbound_parameter(name: str) -> SqlFailure:
    return SqlFailure(
        "UNBOUND_SQL_PARAMETER",
        f"Found the unbound parameter: {name}. Please, fix `args` and provide a mapping of the parameter to "
        "either a SQL literal or collection constructor functions such as `map()`, `array()`, `struct()`.",
        "42P02",
    )


def unresolved_column(name: str, known: Iterable[str] = ()) -> SqlFailure:
    suggestions = ", ".join(quoted(column) for column in list(known)[:5])
    kind = "WITH_SUGGESTION" if suggestions else "WITHOUT_SUGGESTION"
    hint = f" Did you mean one of the following? [{suggestions}]." if suggestions else ""
    return SqlFailure(
        f"UNRESOLVED_COLUMN.{kind}",
        f"A column, variable, or function parameter with name {quoted(name)} cannot be resolved.{hint}",
        "42703",
    )


def unresolved_routine(name: str) -> SqlFailure:
    return SqlFailure(
        "UNRESOLVED_ROUTINE",
        f"Cannot resolve routine `{name}` on search path [`system`.`builtin`, `system`.`session`] (the fake "
        "warehouse has the functions of its engine, DataFusion, and the session's own).",
        "42883",
    )


def cast_invalid(value: str, wanted: str) -> SqlFailure:
    return SqlFailure(
        "CAST_INVALID_INPUT",
        f'The value {value} of the type "STRING" cannot be cast to "{wanted}" because it is malformed. '
        "Correct the value as per the syntax, or change its target type. Use `try_cast` to tolerate "
        "malformed input and return NULL instead.",
        "22018",
    )


def arity(full_name: str, table: int, data: int) -> SqlFailure:
    kind = "NOT_ENOUGH_DATA_COLUMNS" if data < table else "TOO_MANY_DATA_COLUMNS"
    reason = "not enough data columns" if data < table else "too many data columns"
    return SqlFailure(
        f"INSERT_COLUMN_ARITY_MISMATCH.{kind}",
        f"Cannot write to {quoted(full_name)}, the reason is {reason}: {table} wanted, {data} given.",
        "21S01",
    )


def not_null(column: str) -> SqlFailure:
    return SqlFailure(
        "DELTA_NOT_NULL_CONSTRAINT_VIOLATED", f"NOT NULL constraint violated for column: {column}.", "23502"
    )


def multiple_matches() -> SqlFailure:
    return SqlFailure(
        "DELTA_MULTIPLE_SOURCE_ROW_MATCHING_TARGET_ROW_IN_MERGE",
        "Cannot perform Merge as multiple source rows matched and attempted to modify the same target row in "
        "the Delta table in possibly conflicting ways.",
        "21506",
    )


def version_not_found(version: int, newest: int) -> SqlFailure:
    return SqlFailure(
        "DELTA_VERSION_NOT_FOUND",
        f"Cannot time travel Delta table to version {version}. Available versions: [0, {newest}].",
        "22003",
    )


def timestamp_not_found(asked: str, oldest: str) -> SqlFailure:
    return SqlFailure(
        "DELTA_TIMESTAMP_EARLIER_THAN_COMMIT_RETENTION",
        f"The provided timestamp ({asked}) is before the earliest version available to this table "
        f"({oldest}).",
        "42816",
    )


def unsupported(what: str) -> SqlFailure:
    return SqlFailure("UNSUPPORTED_FEATURE", f"The fake warehouse does not run {what}.", "0A000")


def internal(text: str) -> SqlFailure:
    return SqlFailure("INTERNAL_ERROR", text, "XX000")


def quoted(full_name: str) -> str:
    return ".".join(f"`{part}`" for part in full_name.split("."))
