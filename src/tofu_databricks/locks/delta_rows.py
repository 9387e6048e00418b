"""The rows of a Delta lock table: who holds by them, and how the engine of direct locks takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from tofu_databricks.errors import MalformedReply
from tofu_databricks.lockinfo import LockInfo

if TYPE_CHECKING:
    from deltalake import DeltaTable

COLUMNS = {"lock_key": "string", "lock_id": "string", "info": "string", "changed_at": "timestamp"}
"""What the table has for locks."""
COLUMNS_WITH_HEAD = {**COLUMNS, "head": "string"}
"""What it has where heads are kept; who only locks leaves them as they are."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = json.JSONDecoder()


class Row(NamedTuple):
    lock_key: str
    lock_id: str | None
    info: str | None
    changed_at: datetime | None
    head: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """The table at one version."""

    table: DeltaTable
    version: int
    rows: Sequence[Row]
    columns: Mapping[str, str]

    def holders(self, key: str) -> list[LockInfo]:
        """Who holds the key, each once."""
        found = {
            row.lock_id: holder_in_row(row.lock_id, row.info)
            for row in self.rows
            if row.lock_key == key and row.lock_id is not None
        }
        return list(found.values())

    def head(self, key: str) -> str | None:
        """The head of the key. Raises `MalformedReply` when it has two."""
        heads = {row.head for row in self.rows if row.lock_key == key and row.head is not None}
        if len(heads) > 1:
            raise MalformedReply(f"the lock table has two heads for {key}")
        return heads.pop() if heads else None

    def others(self, key: str) -> list[Row]:
        """The rows of all other keys."""
        return [row for row in self.rows if row.lock_key != key]


def holder_in_row(lock_id: str, info: str | None) -> LockInfo:
    """The row's id counts; `info` is what its holder wrote, and behind it the trace of a release."""
    try:
        known = LockInfo.from_json(_FIRST.raw_decode((info or "{}").lstrip())[0])
    except ValueError:
        known = LockInfo()
    return LockInfo(**{**asdict(known), "ID": lock_id})


def batch_of(rows: Sequence[Row], columns: Mapping[str, str]) -> Any:
    """The rows as the engine takes them."""
    import arro3.core as arrow

    def array(name: str) -> Any:
        cells = [getattr(row, name) for row in rows]
        if columns[name] == "string":
            return arrow.Array(cells, arrow.DataType.utf8())
        times = [None if cell is None else (cell - EPOCH) // timedelta(microseconds=1) for cell in cells]
        return arrow.Array(times, arrow.DataType.int64()).cast(arrow.DataType.timestamp("us", tz="UTC"))

    return arrow.RecordBatch.from_arrays([array(name) for name in columns], names=list(columns))
