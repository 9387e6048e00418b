"""The workspace's side of direct transfers, as databricks-sdk drives it: presigned URLs and uploads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes.files import store, wants_overwrite
from lockproof.fakes.databricks.routes.paths import locate
from lockproof.fakes.databricks.transfers import parse_expiry
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Files API 2.0: presigned URLs and multipart upload", scope="files")
SDK = "databricks-sdk mixins/files.py FilesExt"
PART_LIMIT = 10_000


@routes(
    "POST",
    "/api/2.0/fs/create-download-url",
    name="Presigned download URL",
    source=SDK,
    notes="`path` and `expire_time` in the query. Missing file: 404 here already. Switch `presigned_urls` "
    "off: 403 FILES_API_API_IS_NOT_ENABLED.",
)
def create_download_url(workspace: FakeWorkspace, request: Request) -> Response:
    _enabled(workspace)
    place = locate(workspace, request.query.get("path", ""), request.caller)
    place.volume.tree.read(place.inner, stale=request.stale)
    expires = parse_expiry(request.query.get("expire_time"), workspace.clock.time())
    return Response.of_json({"url": _sign(workspace, "GET", place.full, expires), "headers": []})


@routes(
    "POST",
    "/api/2.0/fs/files{path...}",
    name="Initiate, complete or abort an upload",
    source=SDK,
    notes="`action=initiate-upload` (`overwrite=false` on an existing file is 409 here already), "
    "`complete-upload` (409 shows up here, too), `abort-upload` (databricks-sdk 0.162). Switch "
    "`cloud=gcp` makes the session resumable. Part numbers and etags must be those that were uploaded: "
    "400 (inferred).",
)
def upload_action(workspace: FakeWorkspace, request: Request) -> Response:
    action = request.query.get("action", "")
    path = request.params["path"]
    if action == "initiate-upload":
        return _initiate(workspace, request, path)
    if action == "complete-upload":
        return _complete(workspace, request, path)
    if action == "abort-upload":
        place = locate(workspace, path, request.caller, write=True)
        session = workspace.transfers.session(request.query.get("session_token", ""), place.full)
        del workspace.transfers.sessions[session.token]
        return Response(200)
    raise errors.invalid_parameter(f"Unsupported action: '{action}'")


@routes(
    "POST",
    "/api/2.0/fs/create-upload-part-urls",
    name="Presigned part URLs",
    source=SDK,
    notes="`start_part_number`, `count`, `expire_time`; parts are numbered from 1.",
)
def create_upload_part_urls(workspace: FakeWorkspace, request: Request) -> Response:
    _enabled(workspace)
    body = request.json()
    place = locate(workspace, str(body.get("path", "")), request.caller, write=True)
    session = workspace.transfers.session(str(body.get("session_token", "")), place.full)
    first, count = _number(body, "start_part_number"), _number(body, "count")
    expires = parse_expiry(body.get("expire_time"), workspace.clock.time())
    urls = []
    for number in range(first, first + count):
        extra = {"partNumber": str(number), "uploadId": session.token}
        urls.append(
            {
                "url": _sign(workspace, "PUT", place.full, expires, extra),
                "part_number": number,
                "headers": [],
            }
        )
    return Response.of_json({"upload_part_urls": urls})


@routes(
    "POST",
    "/api/2.0/fs/create-abort-upload-url",
    name="Presigned abort URL",
    source=f"{SDK} (0.156)",
)
def create_abort_upload_url(workspace: FakeWorkspace, request: Request) -> Response:
    _enabled(workspace)
    body = request.json()
    place = locate(workspace, str(body.get("path", "")), request.caller, write=True)
    session = workspace.transfers.session(str(body.get("session_token", "")), place.full)
    expires = parse_expiry(body.get("expire_time"), workspace.clock.time())
    url = _sign(workspace, "DELETE", place.full, expires, {"uploadId": session.token})
    return Response.of_json({"abort_upload_url": {"url": url, "headers": []}})


@routes(
    "POST",
    "/api/2.0/fs/create-resumable-upload-url",
    name="Resumable upload URL",
    source=f"{SDK} (0.156, sessions of GCP workspaces)",
)
def create_resumable_upload_url(workspace: FakeWorkspace, request: Request) -> Response:
    _enabled(workspace)
    body = request.json()
    place = locate(workspace, str(body.get("path", "")), request.caller, write=True)
    session = workspace.transfers.session(str(body.get("session_token", "")), place.full)
    expires = workspace.clock.time() + 7 * 86400  # a session URI lives a week
    url = _sign(workspace, "*", place.full, expires, {"upload_id": session.token})
    return Response.of_json({"resumable_upload_url": {"url": url, "headers": []}})


def _initiate(workspace: FakeWorkspace, request: Request, path: str) -> Response:
    _enabled(workspace)
    place = locate(workspace, path, request.caller, write=True)
    overwrite = wants_overwrite(request)
    if not overwrite and place.volume.tree.file_at(place.inner) is not None:
        raise errors.file_exists()
    resumable = workspace.fidelity.cloud == "gcp"
    session = workspace.transfers.open(
        place.full,
        overwrite=overwrite,
        resumable=resumable,
        principal=request.caller.name,
        began=request.began,
    )
    kind = "resumable_upload" if resumable else "multipart_upload"
    return Response.of_json({kind: {"session_token": session.token}})


def _complete(workspace: FakeWorkspace, request: Request, path: str) -> Response:
    place = locate(workspace, path, request.caller, write=True)
    session = workspace.transfers.session(request.query.get("session_token", ""), place.full)
    named = request.json().get("parts")
    if not isinstance(named, list) or not named:
        raise errors.invalid_parameter("The list of parts is missing or empty.")
    pieces = []
    for part in named:
        number = _number(part, "part_number") if isinstance(part, dict) else 0
        etag, data = session.parts.get(number, ("", b""))
        if not etag or part.get("etag") != etag:
            raise errors.invalid_parameter(f"Part {number} was not uploaded or has another etag.")
        pieces.append(data)
    store(workspace, place, b"".join(pieces), overwrite=session.overwrite, began=session.began)
    del workspace.transfers.sessions[session.token]
    return Response(200)


def _enabled(workspace: FakeWorkspace) -> None:
    if not workspace.fidelity.presigned_urls:
        raise errors.presigned_urls_disabled()


def _sign(
    workspace: FakeWorkspace, method: str, path: str, expires: float, extra: dict[str, str] | None = None
) -> str:
    return workspace.transfers.sign(workspace.storage_url, method, path, expires, extra)


def _number(body: dict[str, Any], key: str) -> int:
    value = body.get(key)
    if not isinstance(value, int) or not 1 <= value <= PART_LIMIT:
        raise errors.invalid_parameter(f"{key} must be between 1 and {PART_LIMIT}.")
    return value
