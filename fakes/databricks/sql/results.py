"""A result as the API delivers it: manifest, chunks, inline or behind links, in three formats."""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lockproof.fakes.databricks.errors import ApiError, invalid_parameter
from lockproof.fakes.databricks.sql.cells import Heading, Result, cell
from lockproof.fakes.databricks.sql.failures import SqlFailure
from lockproof.fakes.databricks.sql.statements import Options

INLINE_BYTES = 25 * 1024 * 1024
CHUNK_BYTES = {"INLINE": 4 * 1024 * 1024, "EXTERNAL_LINKS": 20 * 1024 * 1024}
LINK_SECONDS = 900.0

Cells = list[str | None]


@dataclass
class Chunk:
    """Some rows of a result. `body` and `token` belong to a chunk behind a link."""

    index: int
    offset: int
    rows: list[Cells]
    size: int
    body: bytes = b""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    expires: float = 0.0


@dataclass
class Delivery:
    """The chunks of a result, cut by its limits."""

    columns: tuple[Heading, ...]
    format: str
    external: bool
    chunks: list[Chunk]
    truncated: bool

    def manifest(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"column_count": len(self.columns)}
        if self.columns:
            schema["columns"] = [
                {
                    "name": item.name,
                    "type_text": item.type_text,
                    "type_name": item.type_name,
                    "position": index,
                }
                for index, item in enumerate(self.columns)
            ]
        shown: dict[str, Any] = {
            "format": self.format,
            "schema": schema,
            "total_chunk_count": len(self.chunks),
        }
        if self.chunks:
            shown["chunks"] = [
                {
                    "chunk_index": chunk.index,
                    "row_offset": chunk.offset,
                    "row_count": len(chunk.rows),
                    **({"byte_count": chunk.size} if self.external else {}),
                }
                for chunk in self.chunks
            ]
        shown["total_row_count"] = sum(len(chunk.rows) for chunk in self.chunks)
        if self.external:
            shown["total_byte_count"] = sum(chunk.size for chunk in self.chunks)
        shown["truncated"] = self.truncated
        return shown

    def chunk(self, index: int, statement_id: str, storage_url: str, now: float) -> dict[str, Any]:
        """`result` of an answer, or the answer to a request for one chunk. Raises 400 out of range."""
        if not self.chunks and index == 0:
            return {}
        if not 0 <= index < len(self.chunks):
            raise invalid_parameter(
                f"The requested chunk index {index} is out of range: there are {len(self.chunks)} chunks."
            )
        chunk = self.chunks[index]
        shown: dict[str, Any] = {
            "chunk_index": chunk.index,
            "row_offset": chunk.offset,
            "row_count": len(chunk.rows),
        }
        following = {}
        if index + 1 < len(self.chunks):
            path = f"/api/2.0/sql/statements/{statement_id}/result/chunks/{index + 1}"
            following = {"next_chunk_index": index + 1, "next_chunk_internal_link": path}
        if not self.external:
            return {**shown, **following, "data_array": chunk.rows}
        chunk.expires = now + LINK_SECONDS
        link = {
            **shown,
            **following,
            "byte_count": chunk.size,
            "external_link": f"{storage_url}/sql-results/{statement_id}/{index}?token={chunk.token}",
            "expiration": _iso(chunk.expires),
        }
        return {"external_links": [link]}


def deliver(result: Result, options: Options) -> Delivery:
    """Cuts the result into chunks. Raises SqlFailure when it is too large for INLINE."""
    external = options.disposition == "EXTERNAL_LINKS"
    limit = options.byte_limit if options.byte_limit is not None else (None if external else INLINE_BYTES)
    rows = result.rows
    truncated = options.row_limit is not None and len(rows) > options.row_limit
    if truncated:
        rows = rows[: options.row_limit]
    chunks: list[Chunk] = []
    held: list[Cells] = []
    size = total = 0
    for row in rows:
        cells = [cell(value) for value in row]
        length = sum(len(text) + 3 if text is not None else 4 for text in cells) + 2
        if limit is not None and total + length > limit:
            if options.byte_limit is None:
                raise SqlFailure(
                    "INLINE_BYTE_LIMIT_EXCEEDED",
                    "Inline byte limit exceeded. Statements executed with disposition=INLINE can have a "
                    f"result size of at most {INLINE_BYTES} bytes. Please execute the statement with "
                    "disposition=EXTERNAL_LINKS if you want to download the full result.",
                    "54000",
                )
            truncated = True
            break
        if held and size + length > CHUNK_BYTES[options.disposition]:
            chunks.append(_chunk(chunks, held, size))
            held, size = [], 0
        held.append(cells)
        size += length
        total += length
    if held:
        chunks.append(_chunk(chunks, held, size))
    if external:
        for chunk in chunks:
            chunk.body = _body(chunk, result, options.format)
            chunk.size = len(chunk.body)
    return Delivery(result.columns, options.format, external, chunks, truncated)


def _chunk(before: Sequence[Chunk], rows: list[Cells], size: int) -> Chunk:
    return Chunk(len(before), before[-1].offset + len(before[-1].rows) if before else 0, rows, size)


def _body(chunk: Chunk, result: Result, kind: str) -> bytes:
    if kind == "CSV":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if chunk.index == 0:
            writer.writerow([item.name for item in result.columns])
        writer.writerows(chunk.rows)
        return text.getvalue().encode()
    if kind == "ARROW_STREAM":
        return _arrow(chunk, result)
    return json.dumps(chunk.rows, separators=(",", ":"), ensure_ascii=False).encode()


def _arrow(chunk: Chunk, result: Result) -> bytes:
    """An Arrow IPC stream of the chunk's rows; `arro3-io` writes it, the engine has no writer of its own."""
    import arro3.core as arrow
    from arro3.io import write_ipc_stream

    table = result.source
    if table is None:
        columns = zip(*chunk.rows, strict=True)
        table = arrow.Table.from_pydict(
            {
                item.name: arrow.Array(list(values), arrow.DataType.utf8())
                for item, values in zip(result.columns, columns, strict=True)
            }
        )
    else:
        table = table.slice(chunk.offset, len(chunk.rows))
    stream = io.BytesIO()
    write_ipc_stream(table, stream, compression=None)
    return stream.getvalue()


def arrow_available() -> bool:
    """Whether ARROW_STREAM can be served."""
    try:
        import arro3.io
    except ImportError:
        return False
    return bool(arro3.io)


def check_options(body: dict[str, Any]) -> Options:
    """The options of a request. Unknown values of enumerations count as the default. Raises 400."""
    disposition = body.get("disposition")
    disposition = disposition if disposition in CHUNK_BYTES else "INLINE"
    kind = body.get("format")
    kind = kind if kind in ("ARROW_STREAM", "CSV") else "JSON_ARRAY"
    if disposition == "INLINE" and kind != "JSON_ARRAY":
        raise invalid_parameter(
            "Incompatible parameters: The format field must be JSON_ARRAY when the disposition field is "
            "INLINE."
        )
    if kind == "ARROW_STREAM" and not arrow_available():
        raise ApiError(
            501, "NOT_IMPLEMENTED", "This fake warehouse serves ARROW_STREAM when arro3-io is installed."
        )
    return Options(disposition, kind, _limit(body, "row_limit"), _limit(body, "byte_limit"))


def _limit(body: dict[str, Any], key: str) -> int | None:
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid_parameter(f"The {key} field must be a positive integer.")
    return value


def _iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
