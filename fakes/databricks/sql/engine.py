"""The Delta engine: `deltalake`, its log, its queries and its writes, with the time that they take.

Nothing here knows of Databricks' rules. A write goes to the version after the one that it was made for or
fails with `Raced`: the engine's own conflict checker and its retries are switched off, because the arbiter
decides.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arro3.core as arrow
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

Row = tuple[Any, ...]
OPERATION = "__op"
ACTION = "__act"
ORDINAL = "__rid"
NO_RETRY = 0


class Raced(Exception):
    """Another writer took the version."""


class EngineError(Exception):
    """The engine refused; the text is its own."""


class Stopwatch:
    """Seconds that one statement spent inside of the engine."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except CommitFailedError:
            raise
        except (DeltaError, OSError) as error:
            raise EngineError(str(error)) from error
        finally:
            self.seconds += time.perf_counter() - started


@dataclass(frozen=True)
class Column:
    """`type` as in the Delta schema, such as `long`; nested types as a JSON object."""

    name: str
    type: Any
    nullable: bool = True
    comment: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a query returned: arrow batches and the same as Python rows."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    table: Any
    rows: list[Row]


class DeltaStore:
    """One Delta table at `location` (`file://…`, or `s3://…` with storage options)."""

    def __init__(self, location: str, options: Mapping[str, str] | None = None) -> None:
        self.location = location
        self.options = dict(options or {})
        self.mutex = threading.RLock()
        self._writer: DeltaTable | None = None
        self._readers: dict[int, DeltaTable] = {}
        self._columns: dict[int, tuple[Column, ...]] = {}

    @property
    def log_path(self) -> Path | None:
        """The log's folder when the table is on this machine's disk."""
        if not self.location.startswith("file://"):
            return None
        return Path(self.location.removeprefix("file://")) / "_delta_log"

    def exists(self) -> bool:
        return bool(DeltaTable.is_deltatable(self.location, self.options or None))

    def create(
        self,
        columns: Sequence[Column],
        partitions: Sequence[str],
        properties: Mapping[str, str],
        comment: str | None,
        watch: Stopwatch,
    ) -> None:
        """Version 0. Raises EngineError when a table is there already or a property is refused."""
        with watch.running(), self.mutex:
            self._writer = DeltaTable.create(
                self.location,
                schema_of(columns),
                partition_by=list(partitions),
                description=comment,
                configuration=dict(properties),
                storage_options=self.options or None,
                raise_if_key_not_exists=False,
            )

    def newest(self, watch: Stopwatch) -> int:
        """The newest version, other writers' commits included."""
        with watch.running(), self.mutex:
            return int(self._table().version())

    def at(self, version: int, watch: Stopwatch) -> DeltaTable:
        """A handle that stays at `version`."""
        found = self._readers.get(version)
        if found is None:
            with watch.running():
                found = DeltaTable(self.location, version=version, storage_options=self.options or None)
            with self.mutex:
                self._readers[version] = found
                while len(self._readers) > 16:
                    del self._readers[next(iter(self._readers))]
        return found

    def columns(self, version: int, watch: Stopwatch) -> tuple[Column, ...]:
        found = self._columns.get(version)
        if found is None:
            document = json.loads(self.at(version, watch).schema().to_json())
            found = tuple(
                Column(item["name"], item["type"], item["nullable"], item["metadata"].get("comment"))
                for item in document["fields"]
            )
            self._columns[version] = found
        return found

    def properties(self, version: int, watch: Stopwatch) -> dict[str, str]:
        return {key: value or "" for key, value in self.at(version, watch).metadata().configuration.items()}

    def partitions(self, version: int, watch: Stopwatch) -> tuple[str, ...]:
        return tuple(self.at(version, watch).metadata().partition_columns)

    def rows(self, version: int, watch: Stopwatch) -> list[Row]:
        """All rows of a version, columns in the schema's order."""
        names = ", ".join(f'"{column.name}"' for column in self.columns(version, watch))
        return query(f"SELECT {names} FROM t", {"t": self.at(version, watch)}, watch).rows

    def history(self, watch: Stopwatch, limit: int | None = None) -> list[dict[str, Any]]:
        """Newest first."""
        with watch.running(), self.mutex:
            return list(self._table().history(limit))

    # --- writes; each makes exactly one commit, `metadata` goes into its commitInfo ---

    def append(self, batch: Any, version: int, metadata: Mapping[str, Any], watch: Stopwatch) -> int:
        """Adds rows after `version`. Raises Raced."""
        return self._write(
            version,
            watch,
            lambda table: write_deltalake(table, batch, mode="append", commit_properties=_commit(metadata)),
        )

    def overwrite(self, batch: Any, version: int, metadata: Mapping[str, Any], watch: Stopwatch) -> int:
        """Replaces all rows. Raises Raced."""
        return self._write(
            version,
            watch,
            lambda table: write_deltalake(
                table, batch, mode="overwrite", commit_properties=_commit(metadata)
            ),
        )

    def exchange(self, batch: Any, version: int, metadata: Mapping[str, Any], watch: Stopwatch) -> int:
        """Removes every row equal to a `D` row of the batch and adds its `A` rows. Raises Raced."""
        names = [name for name in batch.schema.names if name != OPERATION]
        same = " AND ".join(f'(t."{name}" IS NOT DISTINCT FROM s."{name}")' for name in names)

        def merge(table: DeltaTable) -> None:
            (
                table.merge(
                    arrow.Table.from_batches([batch]),
                    f"{same} AND (s.\"{OPERATION}\" = 'D')",
                    source_alias="s",
                    target_alias="t",
                    commit_properties=_commit(metadata),
                )
                .when_matched_delete()
                .when_not_matched_insert(
                    {f'"{name}"': f's."{name}"' for name in names}, predicate=f"s.\"{OPERATION}\" = 'A'"
                )
                .execute()
            )

        return self._write(version, watch, merge)

    def alter(self, change: Any, version: int, watch: Stopwatch) -> int:
        """`change(DeltaTable)` makes one metadata commit. Raises Raced."""
        return self._write(version, watch, change)

    def vacuum(self, watch: Stopwatch) -> None:
        """Removes the files that no version of the retention time needs; the engine commits a note of it."""
        with watch.running(), self.mutex:
            self._table().vacuum(dry_run=False)

    def _write(self, version: int, watch: Stopwatch, write: Any) -> int:
        with self.mutex:
            try:
                with watch.running():
                    table = self._table()
                    if table.version() != version:
                        raise Raced
                    write(table)
                    if table.version() == version:
                        table.update_incremental()
            except CommitFailedError as error:
                self._writer = None
                if _lost_race(error):
                    raise Raced from error
                raise EngineError(str(error)) from error
            except EngineError:
                self._writer = None
                raise
            return int(table.version())

    def _table(self) -> DeltaTable:
        if self._writer is None:
            self._writer = DeltaTable(self.location, storage_options=self.options or None)
        else:
            self._writer.update_incremental()
        return self._writer


def query(sql: str, tables: Mapping[str, DeltaTable], watch: Stopwatch) -> Answer:
    """Runs one SELECT over tables registered by name. Raises EngineError."""
    with watch.running():
        builder = QueryBuilder()
        for name, table in tables.items():
            builder.register(name, table)
        found = builder.execute(sql).read_all().combine_chunks()
        columns: list[Any] = [column.to_pylist() if column.num_chunks else [] for column in found.columns]
    names = tuple(found.schema.names)
    types = tuple(_type_text(found.schema.field(index).type) for index in range(len(names)))
    return Answer(names, types, found, list(zip(*columns, strict=True)))


def batch_of(answer: Answer, picks: Sequence[int], operations: Sequence[str], names: Sequence[str]) -> Any:
    """The picked rows with the columns `names`, each flagged with its operation."""
    columns = [answer.table.column(name).combine_chunks() for name in names]
    taken = [column.take(arrow.Array(list(picks), arrow.DataType.uint64())) for column in columns]
    flags = arrow.Array(list(operations), arrow.DataType.utf8())
    return arrow.RecordBatch.from_pydict({**dict(zip(names, taken, strict=True)), OPERATION: flags})


def schema_of(columns: Sequence[Column]) -> Schema:
    fields = [
        {
            "name": column.name,
            "type": column.type,
            "nullable": column.nullable,
            "metadata": {} if column.comment is None else {"comment": column.comment},
        }
        for column in columns
    ]
    return Schema.from_json(json.dumps({"type": "struct", "fields": fields}))


def _commit(metadata: Mapping[str, Any]) -> CommitProperties:
    return CommitProperties(custom_metadata=dict(metadata), max_commit_retries=NO_RETRY)


def _lost_race(error: CommitFailedError) -> bool:
    text = str(error)
    return "concurrent" in text or "Failed to commit transaction" in text or "already exists" in text


def _type_text(kind: Any) -> str:
    return str(kind).strip().removeprefix("arro3.core.DataType<").removesuffix(">")
