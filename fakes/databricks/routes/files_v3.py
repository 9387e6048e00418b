"""Files API 3.0 (beta): files of volumes with entity tags and preconditions, on the storage address.

The only compare-and-swap that Databricks offers for files. Off by default, as in a workspace whose
administrator has not enabled the preview (switch `files_api_3`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.filetree import File
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes.content import unchanged_since
from lockproof.fakes.databricks.routes.files import store, wants_overwrite, whole_or_range
from lockproof.fakes.databricks.routes.paths import Place, locate
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Files API 3.0", scope="files", host="storage")
DOC = "docs.databricks.com/volumes/files-api"
PATH = "/api/3.0/fs/files{path...}"


@routes(
    "PUT",
    PATH,
    name="Upload a file (3.0)",
    source=f"{DOC}/conditional-requests",
    notes="200 with `ETag`. `If-Match` and `If-None-Match` (`*`: create only) decide at the instant of the "
    "write; a failed one is 412 (body inferred) and nothing is written. Without `Content-Length`: 411 "
    "(inferred). `overwrite=false` as in 2.0.",
)
def upload(workspace: FakeWorkspace, request: Request) -> Response:
    if "content-length" not in request.headers:
        raise errors.ApiError(411, "BAD_REQUEST", "Content-Length is required.", details=[])
    place = _located(workspace, request, write=True)
    _require(workspace, request, place)
    store(workspace, place, request.body, overwrite=wants_overwrite(request), began=request.began)
    written = place.volume.tree.file_at(place.inner)
    assert written is not None
    return Response(200, headers={"ETag": etag(workspace, written)})


@routes(
    "GET",
    PATH,
    name="Download a file (3.0)",
    source=f"{DOC}/conditional-requests",
    notes="As in 2.0, with `ETag`. `If-None-Match` or `If-Modified-Since` not met: 304; `If-Match` or "
    "`If-Unmodified-Since` not met: 412.",
)
@routes(
    "HEAD",
    PATH,
    name="Metadata of a file (3.0)",
    source=f"{DOC}/conditional-requests",
    notes="Headers of the download, with `ETag`; no body.",
)
def download(workspace: FakeWorkspace, request: Request) -> Response:
    place = _located(workspace, request)
    file = place.volume.tree.read(place.inner, stale=request.stale)
    tag = etag(workspace, file)
    if not _matches(request.headers.get("if-match"), tag, absent=True):
        raise _precondition_failed()
    if _matches(request.headers.get("if-none-match"), tag, absent=False):
        return Response(304, headers={"ETag": tag})
    if not unchanged_since(request, file):
        raise _precondition_failed()
    response = whole_or_range(request, file)
    response.headers["ETag"] = tag
    return response


@routes(
    "DELETE",
    PATH,
    name="Delete a file (3.0)",
    source=f"{DOC}/conditional-requests",
    notes="204, also when there is none; with `If-Match: *` that is 404, with another `If-Match` 412.",
)
def delete(workspace: FakeWorkspace, request: Request) -> Response:
    place = _located(workspace, request, write=True)
    file = place.volume.tree.file_at(place.inner)
    if file is None and request.headers.get("if-match") == "*":
        raise errors.file_not_found()
    _require(workspace, request, place)
    if file is not None:
        switches = workspace.fidelity
        place.volume.tree.delete_file(
            place.inner, vanishing=switches.directories_vanish, stale_reads=switches.stale_reads
        )
        workspace.next_version()
    return Response(204)


def etag(workspace: FakeWorkspace, file: File) -> str:
    """The entity tag of a file: different for every write, or (switch `content_etags`) one per content, as
    an object store has it that hashes what it holds."""
    if workspace.fidelity.content_etags:
        return f'"{hashlib.md5(file.data, usedforsecurity=False).hexdigest()}"'
    return f'"{workspace.id}-{file.version:x}"'


def _located(workspace: FakeWorkspace, request: Request, *, write: bool = False) -> Place:
    if not workspace.fidelity.files_api_3:
        raise errors.endpoint_not_found(request.method, request.path)
    return locate(workspace, request.params["path"], request.caller, write=write)


def _require(workspace: FakeWorkspace, request: Request, place: Place) -> None:
    """Raises the 412 of a write whose preconditions are not met; they see the newest content."""
    file = place.volume.tree.file_at(place.inner)
    tag = None if file is None else etag(workspace, file)
    if not _matches(request.headers.get("if-match"), tag, absent=True):
        raise _precondition_failed()
    if _matches(request.headers.get("if-none-match"), tag, absent=False):
        raise _precondition_failed()


def _matches(condition: str | None, tag: str | None, *, absent: bool) -> bool:
    """Whether the list of tags in `condition` (`*`: any) names `tag`; `absent` without a condition.

    Source: RFC 9110, sections 13.1.1 and 13.1.2. Weak tags name nothing here.
    """
    if condition is None:
        return absent
    if condition.strip() == "*":
        return tag is not None
    return tag in {part.strip() for part in condition.split(",")}


def _precondition_failed() -> errors.ApiError:
    return errors.ApiError(
        412, "FAILED_PRECONDITION", "A precondition of the request is not met.", details=[]
    )
