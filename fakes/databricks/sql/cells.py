"""Result cells as the Statement Execution API shows them: always text, NULL as JSON null."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

# arrow type -> (type_text, type_name) of a column in a manifest
_TYPES = {
    "Boolean": ("BOOLEAN", "BOOLEAN"),
    "Int8": ("TINYINT", "BYTE"),
    "Int16": ("SMALLINT", "SHORT"),
    "Int32": ("INT", "INT"),
    "Int64": ("BIGINT", "LONG"),
    "UInt8": ("SMALLINT", "SHORT"),
    "UInt16": ("INT", "INT"),
    "UInt32": ("BIGINT", "LONG"),
    "UInt64": ("BIGINT", "LONG"),
    "Float32": ("FLOAT", "FLOAT"),
    "Float64": ("DOUBLE", "DOUBLE"),
    "Date32": ("DATE", "DATE"),
    "Null": ("VOID", "NULL"),
}
_DECIMAL = re.compile(r"Decimal\d+\((\d+), ?(-?\d+)\)")


@dataclass(frozen=True)
class Heading:
    """One column of a result."""

    name: str
    type_text: str = "STRING"
    type_name: str = "STRING"


@dataclass(frozen=True)
class Result:
    """What a statement returned; `rows` hold Python values. A statement without a result has no columns.

    `source` is the engine's arrow table when the result came from it as it is.
    """

    columns: tuple[Heading, ...] = ()
    rows: Sequence[Sequence[Any]] = ()
    source: Any = None


def heading(name: str, arrow_type: str) -> Heading:
    if arrow_type in _TYPES:
        return Heading(name, *_TYPES[arrow_type])
    if found := _DECIMAL.match(arrow_type):
        return Heading(name, f"DECIMAL({found[1]},{found[2]})", "DECIMAL")
    if arrow_type.startswith("Timestamp"):
        zoned = "UTC" in arrow_type
        return Heading(name, *(("TIMESTAMP",) * 2 if zoned else ("TIMESTAMP_NTZ",) * 2))
    if "Binary" in arrow_type:
        return Heading(name, "BINARY", "BINARY")
    for prefix, kind in (("List", "ARRAY"), ("Struct", "STRUCT"), ("Map", "MAP")):
        if prefix in arrow_type.partition("(")[0]:
            return Heading(name, kind, kind)
    return Heading(name)


def counts(**numbers: int) -> Result:
    """The one row of a DML statement, such as `num_affected_rows`."""
    return Result(tuple(Heading(name, "BIGINT", "LONG") for name in numbers), [tuple(numbers.values())])


def cell(value: Any) -> str | None:
    """The text of a value; timestamps end after the milliseconds."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(str(value), repr(value))
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)
    return str(value)


def timestamp(value: datetime) -> str:
    zoned = value.tzinfo is not None
    moment = value.astimezone(UTC) if zoned else value
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}{'Z' if zoned else ''}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (int, float, str)) or value is None:
        return value
    if isinstance(value, (date, Decimal, bytes)):
        return cell(value)
    return str(value)
