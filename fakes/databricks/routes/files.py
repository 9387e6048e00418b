"""Files API 2.0: files and directories of volumes on the workspace's own address."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.filetree import File, Folder
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes.content import RangeNotSatisfiable, content, unchanged_since
from lockproof.fakes.databricks.routes.paths import Place, locate
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Files API 2.0", scope="files")
DOC = "docs.databricks.com/api/files/v2"
PAGE_SIZE = 1000


@routes(
    "PUT",
    "/api/2.0/fs/files{path...}",
    name="Upload a file",
    source=f"{DOC}/upload-file",
    notes="204. `overwrite` missing means overwrite; `overwrite=false` on an existing file is 409 "
    "ALREADY_EXISTS. Missing directories are created (switch `parents_auto_created`). Replacing is "
    "atomic. Onto a directory: 409 (inferred).",
)
def upload(workspace: FakeWorkspace, request: Request) -> Response:
    place = locate(workspace, request.params["path"], request.caller, write=True)
    store(workspace, place, request.body, overwrite=wants_overwrite(request), began=request.began)
    return Response(204)


@routes(
    "GET",
    "/api/2.0/fs/files{path...}",
    name="Download a file",
    source=f"{DOC}/download-file",
    notes="200, or 206 for a `Range`. `If-Unmodified-Since` in the past: 412; range outside: 416 (both "
    "bodies inferred). Missing: 404 with reason FILES_API_FILE_NOT_FOUND; a missing volume is a 404 "
    "without that reason.",
)
@routes(
    "HEAD",
    "/api/2.0/fs/files{path...}",
    name="Metadata of a file",
    source=f"{DOC}/get-file-metadata",
    notes="Headers of the download, no body, no ETag; 404 has no body.",
)
def download(workspace: FakeWorkspace, request: Request) -> Response:
    place = locate(workspace, request.params["path"], request.caller)
    file = place.volume.tree.read(place.inner, stale=request.stale)
    if not unchanged_since(request, file):
        message = "The file was modified after the time given in If-Unmodified-Since."
        raise errors.ApiError(412, "FAILED_PRECONDITION", message, details=[])
    return whole_or_range(request, file)


@routes(
    "DELETE",
    "/api/2.0/fs/files{path...}",
    name="Delete a file",
    source=f"{DOC}/delete-file",
    notes="204; 404 FILES_API_FILE_NOT_FOUND when there is none.",
)
def delete(workspace: FakeWorkspace, request: Request) -> Response:
    place = locate(workspace, request.params["path"], request.caller, write=True)
    switches = workspace.fidelity
    place.volume.tree.delete_file(
        place.inner, vanishing=switches.directories_vanish, stale_reads=switches.stale_reads
    )
    workspace.next_version()
    return Response(204)


@routes(
    "PUT",
    "/api/2.0/fs/directories{path...}",
    name="Create a directory",
    source=f"{DOC}/create-directory",
    notes="`mkdir -p`, 204, repeatable; 409 over a file.",
)
def create_directory(workspace: FakeWorkspace, request: Request) -> Response:
    place = locate(workspace, request.params["path"], request.caller, write=True, directory=True)
    place.volume.tree.make_folder(place.inner, workspace.clock.time())
    return Response(204)


@routes(
    "HEAD",
    "/api/2.0/fs/directories{path...}",
    name="Metadata of a directory",
    source=f"{DOC}/get-directory-metadata",
    notes="200 or 404, no body.",
)
def directory_metadata(workspace: FakeWorkspace, request: Request) -> Response:
    _require_folder(workspace, locate(workspace, request.params["path"], request.caller, directory=True))
    return Response(200)


@routes(
    "DELETE",
    "/api/2.0/fs/directories{path...}",
    name="Delete a directory",
    source=f"{DOC}/delete-directory",
    notes="204 when empty; 400 FILES_API_DIRECTORY_IS_NOT_EMPTY; 404. The root of a volume: 400 (inferred).",
)
def delete_directory(workspace: FakeWorkspace, request: Request) -> Response:
    place = locate(workspace, request.params["path"], request.caller, write=True, directory=True)
    if not place.inner:
        raise errors.invalid_path("Invalid path: the root of a volume cannot be deleted")
    place.volume.tree.delete_folder(place.inner)
    return Response(204)


@routes(
    "GET",
    "/api/2.0/fs/directories{path...}",
    name="List a directory",
    source=f"{DOC}/list-directory-contents",
    notes="`page_size` (default and largest 1000, more is coerced) and `page_token`; an empty directory "
    "is `{}`. Pages may be short (switch `max_page`) or empty with a token (`empty_pages`). A token of "
    "another directory or page size: 400 (inferred).",
)
def list_directory(workspace: FakeWorkspace, request: Request) -> Response:
    place = locate(workspace, request.params["path"], request.caller, directory=True)
    _require_folder(workspace, place)
    children = place.volume.tree.listing(place.inner, stale=request.stale)
    asked = _page_size(request)
    size = min(asked, workspace.fidelity.max_page)
    after, filled = _open_token(request.query.get("page_token", ""), place, asked)
    order = _scrambled if workspace.fidelity.unordered_lists else str
    names = sorted((name for name in children if not after or order(name) > order(after)), key=order)
    if workspace.fidelity.empty_pages and names and not filled:
        return Response.of_json({"next_page_token": _token(place, asked, after, filled=True)})
    page, rest = names[:size], names[size:]
    body: dict[str, Any] = {}
    if page:
        body["contents"] = [_entry(place, name, children[name]) for name in page]
    if rest:
        body["next_page_token"] = _token(place, asked, page[-1], filled=False)
    return Response.of_json(body)


@routes(
    "GET",
    "/api/2.0/fs/endpoints",
    name="File transfer endpoints",
    source="databricks-sdk mixins/files.py _fetch_endpoints (switched off by default there)",
    notes="404 ENDPOINT_NOT_FOUND, as a workspace that does not serve this API yet; clients then use their "
    "built-in order.",
)
def endpoints(workspace: FakeWorkspace, request: Request) -> Response:
    raise errors.endpoint_not_found(request.method, request.path)


def store(workspace: FakeWorkspace, place: Place, data: bytes, *, overwrite: bool, began: int) -> None:
    """Puts a whole file in place, by the workspace's switches. Used by every kind of upload."""
    switches = workspace.fidelity
    place.volume.tree.write(
        place.inner,
        data,
        workspace.clock.time(),
        workspace.next_version(),
        overwrite=overwrite,
        unseen_since=None if switches.atomic_create else began,
        parents=switches.parents_auto_created,
        stale_reads=switches.stale_reads,
    )


def whole_or_range(request: Request, file: File) -> Response:
    """The file or the range of it that is asked for. Raises the 416 of a range outside of it."""
    try:
        return content(request, file)
    except RangeNotSatisfiable as error:
        message = "The requested range is not satisfiable."
        raise errors.ApiError(
            416, "OUT_OF_RANGE", message, details=[], headers={"Content-Range": str(error)}
        ) from None


def wants_overwrite(request: Request) -> bool:
    """Documented: "If true or unspecified, an existing file will be overwritten"."""
    return request.query.get("overwrite", "true").lower() != "false"


def _require_folder(workspace: FakeWorkspace, place: Place) -> None:
    tree = place.volume.tree
    emptied = not place.inner and tree.ever_held_a_file and tree.is_empty()
    if emptied and workspace.fidelity.emptied_root_is_missing:
        raise errors.directory_not_found()
    tree.folder(place.inner)


def _entry(place: Place, name: str, node: File | Folder) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "path": f"{place.full}/{name}",
        "is_directory": not isinstance(node, File),
    }
    if isinstance(node, File):
        entry["file_size"] = len(node.data)
    entry["last_modified"] = int(node.modified * 1000)
    entry["name"] = name
    return entry


def _scrambled(name: str) -> str:
    """A stable order that is not by name."""
    return hashlib.sha256(name.encode()).hexdigest()


def _page_size(request: Request) -> int:
    text = request.query.get("page_size", "")
    try:
        size = int(text) if text else PAGE_SIZE
    except ValueError:
        size = -1
    if size < 0:
        raise errors.invalid_parameter(f"Invalid page_size: '{text}'")
    return min(size or PAGE_SIZE, PAGE_SIZE)


def _token(place: Place, size: int, after: str, *, filled: bool) -> str:
    """Opaque to clients: page size, whether the empty page was given, directory, and the last name."""
    text = f"{size}\0{int(filled)}\0{place.full}\0{after}"
    return text.encode().hex()


def _open_token(token: str, place: Place, size: int) -> tuple[str, bool]:
    """The name after which the page begins. Raises the 400 of a token that is not of this listing."""
    if not token:
        return "", False
    try:
        given, filled, directory, after = bytes.fromhex(token).decode().split("\0")
    except ValueError:
        raise errors.invalid_parameter("Invalid page_token.") from None
    if given != str(size) or directory != place.full:
        raise errors.invalid_parameter(
            "Invalid page_token: the other parameters must not change between pages."
        )
    return after, filled == "1"
