"""Files of a Unity Catalog volume through the Databricks Files API 2.0.

The plain calls only: one request to read, one to write (the SDK's own client needs two to read, from a
presigned address that many networks block). Source: docs.databricks.com/api/workspace/files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tofu_databricks.errors import InvalidRequest, MalformedReply, NotFound, VolumeNotFound
from tofu_databricks.transport import Guard, Transport, decode_object

FILES = "/api/2.0/fs/files"
DIRECTORIES = "/api/2.0/fs/directories"
VOLUMES = "/api/2.1/unity-catalog/volumes"
FILE_NOT_FOUND = "FILES_API_FILE_NOT_FOUND"
DIRECTORY_NOT_FOUND = "FILES_API_DIRECTORY_IS_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a directory."""

    name: str
    is_directory: bool


class Volume:
    """The files of one volume; paths are full, `/Volumes/catalog/schema/volume/…`.

    Every method raises the transport's errors, and `VolumeNotFound` when the volume, its schema or its
    catalog is missing: a mistyped name must never look like a state that does not exist yet.
    """

    def __init__(self, transport: Transport, root: str) -> None:
        self.transport = transport
        self.root = root

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, `None` when there is no such file (and nothing else is amiss). One request."""
        try:
            return self.transport.request("GET", FILES + encode(path), what=f"GET {path}").content
        except NotFound as error:
            if error.reason == FILE_NOT_FOUND:
                return None
            raise self.missing(error) from None

    def write(self, path: str, data: bytes, guard: Guard | None = None) -> None:
        """Creates or replaces a file. One request, or three where its directory has to be made first.

        `guard` is called before anything is sent again; what it raises ends the write.
        """
        try:
            self._put(path, data, guard)
        except NotFound as error:
            if error.reason != DIRECTORY_NOT_FOUND:
                raise self.missing(error) from None
            self.make_directory(path.rpartition("/")[0])
            if guard is not None:
                guard()
            try:
                self._put(path, data, guard)
            except NotFound as again:
                raise self.missing(again) from None

    def create(self, path: str, data: bytes) -> None:
        """Creates a file, and its directory; one that exists stays as it is and is no error.

        Whether ours or another's is there shows a read: after a lost reply a retry finds our own.
        """
        try:
            self._put(path, data, overwrite=False)
        except NotFound as error:
            if error.reason != DIRECTORY_NOT_FOUND:
                raise self.missing(error) from None
            self.make_directory(path.rpartition("/")[0])
            self.create(path, data)
        except InvalidRequest as error:
            if not error.code.endswith("ALREADY_EXISTS"):
                raise

    def delete(self, path: str) -> None:
        """Removes a file; one that is not there is no error."""
        try:
            self.transport.request("DELETE", FILES + encode(path), what=f"DELETE {path}")
        except NotFound as error:
            if error.reason != FILE_NOT_FOUND:
                raise self.missing(error) from None

    def entries(self, directory: str) -> Iterator[Entry]:
        """The entries of a directory, from as many pages as it takes.

        None at all when the directory is not there (object stores drop an emptied one), which costs a
        look at whether the volume is. Raises `MalformedReply` for pages that go round in circles.
        """
        token = ""
        seen: set[str] = set()
        while True:
            query = {"page_token": token} if token else {}
            try:
                reply = self.transport.request(
                    "GET", DIRECTORIES + encode(directory), query=query, what=f"listing {directory}"
                )
            except NotFound as error:
                if error.reason != DIRECTORY_NOT_FOUND:
                    raise self.missing(error) from None
                self.require()
                return
            page = decode_object(reply, f"listing {directory}")
            yield from _entries(page, directory)
            token = page.get("next_page_token") or ""
            if not isinstance(token, str) or token in seen:
                raise MalformedReply(f"listing {directory}: the pages do not come to an end")
            if not token:
                return
            seen.add(token)

    def make_directory(self, directory: str) -> None:
        """Makes a directory and its parents; one that exists is no error."""
        try:
            self.transport.request("PUT", DIRECTORIES + encode(directory), what=f"making {directory}")
        except NotFound as error:
            raise self.missing(error) from None

    def require(self) -> None:
        """Raises `VolumeNotFound` unless the volume exists."""
        name = ".".join(self.root.split("/")[2:5])
        try:
            self.transport.request(
                "GET", f"{VOLUMES}/{quote(name, safe='.')}", what=f"looking up volume {name}"
            )
        except NotFound as error:
            raise self.missing(error) from None

    def missing(self, error: NotFound) -> InvalidRequest | VolumeNotFound:
        """What a 404 means that is not about the file itself."""
        if error.code == "ENDPOINT_NOT_FOUND":
            return error
        if error.reason == DIRECTORY_NOT_FOUND:
            return VolumeNotFound(f"{error}; the directory does not exist in {self.root}")
        return VolumeNotFound(f"{error}; catalog, schema and volume must exist: {self.root}")

    def _put(self, path: str, data: bytes, guard: Guard | None = None, *, overwrite: bool = True) -> None:
        self.transport.request(
            "PUT",
            FILES + encode(path),
            query={"overwrite": "true" if overwrite else "false"},
            data=data,
            headers={"Content-Type": "application/octet-stream"},
            what=f"PUT {path}",
            guard=guard,
        )


def encode(path: str) -> str:
    """`path` percent-encoded once, its slashes kept, as databricks-sdk does it."""
    return quote(path)


def _entries(page: dict[str, Any], directory: str) -> Iterator[Entry]:
    contents = page.get("contents") or []
    for item in contents if isinstance(contents, list) else [None]:
        if not isinstance(item, dict) or not isinstance(item.get("path"), str):
            raise MalformedReply(f"listing {directory}: an entry has no path")
        name = item["path"].rstrip("/").rpartition("/")[2]
        yield Entry(name, item.get("is_directory") is True)
