"""DESCRIBE and SHOW, the commands that read the catalogue and the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from lockproof.fakes.databricks.sql import failures
from lockproof.fakes.databricks.sql.cells import Heading, Result
from lockproof.fakes.databricks.sql.ddl import optimize, vacuum
from lockproof.fakes.databricks.sql.parsing import Command
from lockproof.fakes.databricks.sql.session import Session

_SPELLED = {"long": "bigint", "integer": "int", "short": "smallint", "byte": "tinyint"}
_WORDS = {"EXTENDED", "FORMATTED", "TABLE", "DETAIL", "HISTORY", "SCHEMA", "DATABASE", "IN", "FROM", "LIKE"}


def run(session: Session, command: Command) -> Result:
    words = [word.upper() for word in command.words]
    if words[0] in ("DESCRIBE", "DESC"):
        return _describe(session, command, words)
    if words[0] == "OPTIMIZE":
        if "ZORDER" in words or "WHERE" in words:
            raise failures.unsupported("OPTIMIZE with ZORDER or WHERE")
        return optimize(session, _name(session, command, 1)[0])
    if words[0] == "VACUUM":
        if {"RETAIN", "DRY", "LITE", "FULL"} & set(words):
            raise failures.unsupported("VACUUM with options")
        return vacuum(session, _name(session, command, 1)[0])
    if words[0] == "SHOW" and len(words) > 1:
        shower = _SHOWERS.get(words[1])
        if shower is not None:
            return shower(session, command)
    raise failures.unsupported(" ".join(command.words[:3]))


def _describe(session: Session, command: Command, words: list[str]) -> Result:
    kind, at = "TABLE", 1
    while at < len(words) and words[at] in _WORDS and not _is_name(command, at):
        kind = words[at] if words[at] != "TABLE" or kind == "TABLE" else kind
        at += 1
    full_name, at = _name(session, command, at)
    if kind == "HISTORY":
        limit = int(command.words[at + 1]) if words[at : at + 1] == ["LIMIT"] else None
        return _history(session, full_name, limit)
    if kind == "DETAIL":
        return _detail(session, full_name)
    if kind in ("SCHEMA", "DATABASE"):
        raise failures.unsupported("DESCRIBE SCHEMA")
    return _columns(session, full_name, extended=kind in ("EXTENDED", "FORMATTED"))


def _columns(session: Session, full_name: str, *, extended: bool) -> Result:
    snapshot = session.snapshot(full_name, "SELECT")
    rows: list[tuple[str, str, str | None]] = [
        (column.name, type_text(column.type), column.comment) for column in snapshot.columns
    ]
    if snapshot.partitions:
        rows += [("# Partition Information", "", ""), ("# col_name", "data_type", "comment")]
        rows += [row for row in rows if row[0] in snapshot.partitions]
    if extended:
        entry = snapshot.live.entry
        catalog, schema, name = full_name.split(".")
        properties = ",".join(f"{key}={value}" for key, value in sorted(snapshot.properties.items()))
        rows += [
            ("", "", ""),
            ("# Detailed Table Information", "", ""),
            ("Catalog", catalog, ""),
            ("Database", schema, ""),
            ("Table", name, ""),
            ("Type", entry.table_type, ""),
            ("Comment", entry.comment or "", ""),
            ("Location", entry.storage_location, ""),
            ("Provider", "delta", ""),
            ("Owner", entry.owner, ""),
            ("Table Properties", f"[{properties}]", ""),
        ]
        for key in entry.extra.get("primary_key", ()):
            rows.append((f"{name}_pk", f"PRIMARY KEY (`{key}`)", ""))
    return Result((Heading("col_name"), Heading("data_type"), Heading("comment")), rows)


def _detail(session: Session, full_name: str) -> Result:
    snapshot = session.snapshot(full_name, "SELECT")
    handle = snapshot.live.store.at(snapshot.version, session.watch)
    entry, protocol = snapshot.live.entry, handle.protocol()
    times = session.commit_times(full_name)
    features = sorted({*(protocol.reader_features or ()), *(protocol.writer_features or ())})
    values: dict[str, tuple[Heading, Any]] = {
        "format": (Heading("format"), "delta"),
        "id": (Heading("id"), str(handle.metadata().id)),
        "name": (Heading("name"), full_name),
        "description": (Heading("description"), entry.comment),
        "location": (Heading("location"), entry.storage_location),
        "createdAt": (Heading("createdAt", "TIMESTAMP", "TIMESTAMP"), _moment(times[min(times)])),
        "lastModified": (Heading("lastModified", "TIMESTAMP", "TIMESTAMP"), _moment(times[max(times)])),
        "partitionColumns": (Heading("partitionColumns", "ARRAY", "ARRAY"), list(snapshot.partitions)),
        "clusteringColumns": (Heading("clusteringColumns", "ARRAY", "ARRAY"), []),
        "numFiles": (Heading("numFiles", "BIGINT", "LONG"), len(handle.file_uris())),
        "properties": (Heading("properties", "MAP", "MAP"), snapshot.properties),
        "minReaderVersion": (Heading("minReaderVersion", "INT", "INT"), protocol.min_reader_version),
        "minWriterVersion": (Heading("minWriterVersion", "INT", "INT"), protocol.min_writer_version),
        "tableFeatures": (Heading("tableFeatures", "ARRAY", "ARRAY"), features),
    }
    return Result(tuple(item[0] for item in values.values()), [tuple(item[1] for item in values.values())])


def _history(session: Session, full_name: str, limit: int | None) -> Result:
    snapshot = session.snapshot(full_name, "SELECT")
    live, times = snapshot.live, session.commit_times(full_name)
    isolation = session.tables.rules(snapshot).isolation
    rows = []
    for item in live.store.history(session.watch, limit):
        version = int(item["version"])
        known = live.commits.get(version)
        parameters = {key: str(value) for key, value in item.get("operationParameters", {}).items()}
        metrics = {key: str(value) for key, value in item.get("operationMetrics", {}).items()}
        rows.append(
            (
                version,
                _moment(times[version]),
                None,
                live.authors.get(version, item.get("userName")),
                known.operation if known else item.get("operation"),
                parameters,
                int(item["snapshotVersion"]) if "snapshotVersion" in item else item.get("readVersion"),
                isolation if version else "WriteSerializable",
                known.change.blind if known else None,
                metrics,
                item.get("userMetadata"),
                item.get("engineInfo"),
            )
        )
    return Result(_HISTORY, rows)


_HISTORY = (
    Heading("version", "BIGINT", "LONG"),
    Heading("timestamp", "TIMESTAMP", "TIMESTAMP"),
    Heading("userId"),
    Heading("userName"),
    Heading("operation"),
    Heading("operationParameters", "MAP", "MAP"),
    Heading("readVersion", "BIGINT", "LONG"),
    Heading("isolationLevel"),
    Heading("isBlindAppend", "BOOLEAN", "BOOLEAN"),
    Heading("operationMetrics", "MAP", "MAP"),
    Heading("userMetadata"),
    Heading("engineInfo"),
)


def _show_tables(session: Session, command: Command) -> Result:
    schema = f"{session.catalog}.{session.schema}".lower()
    words = [word.upper() for word in command.words]
    at = 2
    if words[at : at + 1] in (["IN"], ["FROM"]):
        parts, at = _parts(command, at + 1)
        schema = ".".join([*([session.catalog] if len(parts) == 1 else []), *parts]).lower()
    session.require_schema(schema, "USE_SCHEMA")
    pattern = command.words[-1].lower() if len(command.words) > at else "*"
    metastore = session.workspace.metastore
    rows = [
        (schema.partition(".")[2], item.name, False)
        for item in metastore.children("table", schema)
        if any(fnmatchcase(item.name, part.strip()) for part in pattern.split("|"))
    ]
    return Result(
        (Heading("database"), Heading("tableName"), Heading("isTemporary", "BOOLEAN", "BOOLEAN")), rows
    )


def _show_schemas(session: Session, command: Command) -> Result:
    catalog = command.words[3].lower() if len(command.words) > 3 else session.catalog
    if catalog not in session.workspace.metastore.objects["catalog"]:
        raise failures.catalog_not_found(catalog)
    found = session.workspace.metastore.children("schema", catalog)
    return Result((Heading("databaseName"),), [(item.name,) for item in found])


def _show_catalogs(session: Session, command: Command) -> Result:
    found = session.workspace.metastore.children("catalog", "")
    return Result((Heading("catalog"),), [(item.name,) for item in found])


def _show_properties(session: Session, command: Command) -> Result:
    snapshot = session.snapshot(_name(session, command, 2)[0], "SELECT")
    return Result((Heading("key"), Heading("value")), sorted(snapshot.properties.items()))


_SHOWERS: dict[str, Callable[[Session, Command], Result]] = {
    "TABLES": _show_tables,
    "SCHEMAS": _show_schemas,
    "DATABASES": _show_schemas,
    "CATALOGS": _show_catalogs,
    "TBLPROPERTIES": _show_properties,
}


def _is_name(command: Command, at: int) -> bool:
    """A word such as `history` that is the table's name: nothing follows, or a dot does."""
    following = command.words[at + 1 : at + 2]
    return not following or following == (".",) or following == ("LIMIT",)


def _parts(command: Command, at: int) -> tuple[list[str], int]:
    parts: list[str] = []
    while at < len(command.words):
        parts.append(command.words[at])
        at += 1
        if command.words[at : at + 1] != (".",):
            break
        at += 1
    if not parts:
        raise failures.syntax("", 1, 0)
    return parts, at


def _name(session: Session, command: Command, at: int) -> tuple[str, int]:
    parts, at = _parts(command, at)
    whole = [*[session.catalog, session.schema][: 3 - len(parts)], *parts]
    return ".".join(whole).lower(), at


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def type_text(kind: Any) -> str:
    if isinstance(kind, str):
        return _SPELLED.get(kind, kind)
    if kind["type"] == "array":
        return f"array<{type_text(kind['elementType'])}>"
    if kind["type"] == "map":
        return f"map<{type_text(kind['keyType'])},{type_text(kind['valueType'])}>"
    return (
        json.dumps(kind)
        if kind["type"] != "struct"
        else "struct<{}>".format(
            ",".join(f"{item['name']}:{type_text(item['type'])}" for item in kind["fields"])
        )
    )
