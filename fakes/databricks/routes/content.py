"""The answer to a GET or HEAD of a file: whole or a range, with the headers of both hosts."""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime

from lockproof.fakes.databricks.filetree import File
from lockproof.fakes.databricks.wire import Request, Response

_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


class RangeNotSatisfiable(Exception):
    """The range lies outside of the file."""


def unchanged_since(request: Request, file: File) -> bool:
    """False when `If-Unmodified-Since` is older than the file, at its precision of one second."""
    text = request.headers.get("if-unmodified-since")
    if not text:
        return True
    try:
        limit = parsedate_to_datetime(text).timestamp()
    except ValueError:
        return True
    return int(file.modified) <= limit


def content(request: Request, file: File) -> Response:
    """200 with the file or 206 with the range asked for. Raises `RangeNotSatisfiable`."""
    headers = {
        "Content-Type": "application/octet-stream",
        "Last-Modified": formatdate(int(file.modified), usegmt=True),
        "Accept-Ranges": "bytes",
    }
    size = len(file.data)
    found = _RANGE.match(request.headers.get("range", ""))
    if not found or found.groups() == ("", ""):
        headers["Content-Length"] = str(size)
        return Response(200, file.data, headers)
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) if last else size - 1, size - 1)
    else:
        start, end = max(0, size - int(last)), size - 1
    if start >= size or start > end:
        raise RangeNotSatisfiable(f"bytes */{size}")
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    headers["Content-Length"] = str(end - start + 1)
    return Response(206, memoryview(file.data)[start : end + 1], headers)
