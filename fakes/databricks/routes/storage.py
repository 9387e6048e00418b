"""The cloud storage behind presigned URLs, at an address of its own and without the workspace's tokens."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes.content import RangeNotSatisfiable, content, unchanged_since
from lockproof.fakes.databricks.routes.files import store
from lockproof.fakes.databricks.routes.paths import Place, visible_volume
from lockproof.fakes.databricks.transfers import Session
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Cloud storage (presigned URLs)", scope=None, host="storage")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)$")


@routes(
    "GET",
    "/{bucket}/{path...}",
    name="Download by presigned URL",
    source="S3 GetObject; databricks-sdk mixins/files.py",
    notes="No token of the workspace may be sent along (400 InvalidArgument). Expired: 403 AccessDenied "
    "`Request has expired`, on `cloud=azure` AuthenticationFailed. `Range`, `If-Unmodified-Since`, ETag.",
)
def get_object(workspace: FakeWorkspace, request: Request) -> Response:
    refusal = workspace.transfers.refusal(request, workspace.fidelity.cloud)
    if refusal is not None:
        return refusal
    try:
        place = _place(workspace, request)
        file = place.volume.tree.read(place.inner, stale=request.stale)
    except ApiError:
        return errors.storage_error(404, "NoSuchKey", "The specified key does not exist.")
    if not unchanged_since(request, file):
        message = "At least one of the pre-conditions you specified did not hold"
        return errors.storage_error(412, "PreconditionFailed", message)
    try:
        response = content(request, file)
    except RangeNotSatisfiable as error:
        refused = errors.storage_error(416, "InvalidRange", "The requested range is not satisfiable")
        refused.headers["Content-Range"] = str(error)
        return refused
    response.headers["ETag"] = f'"{file.version:032x}"'
    return response


@routes(
    "PUT",
    "/{bucket}/{path...}",
    name="Upload a part by presigned URL",
    source="S3 UploadPart; Google Cloud Storage resumable uploads",
    notes="A part: 200 (`cloud=azure`: 201) with the ETag that completing must name. A resumable session: "
    "308 with the `Range` received, 200 at the end, 412 when the file may not be replaced.",
)
def put_object(workspace: FakeWorkspace, request: Request) -> Response:
    refusal = workspace.transfers.refusal(request, workspace.fidelity.cloud)
    if refusal is not None:
        return refusal
    session = _session(workspace, request)
    if session is None:
        return errors.storage_error(404, "NoSuchUpload", "The specified multipart upload does not exist.")
    if session.resumable:
        return _resume(workspace, request, session)
    etag = f'"{hashlib.md5(request.body, usedforsecurity=False).hexdigest()}"'
    session.parts[int(request.query["partNumber"])] = (etag, request.body)
    return Response(201 if workspace.fidelity.cloud == "azure" else 200, b"", {"ETag": etag})


@routes(
    "DELETE",
    "/{bucket}/{path...}",
    name="Abort an upload by presigned URL",
    source="S3 AbortMultipartUpload; Google Cloud Storage resumable uploads",
    notes="200 for an upload in parts (as databricks-sdk expects), 499 for a resumable session.",
)
def abort(workspace: FakeWorkspace, request: Request) -> Response:
    refusal = workspace.transfers.refusal(request, workspace.fidelity.cloud)
    if refusal is not None:
        return refusal
    session = _session(workspace, request)
    if session is None:
        return errors.storage_error(404, "NoSuchUpload", "The specified multipart upload does not exist.")
    del workspace.transfers.sessions[session.token]
    return Response(499 if session.resumable else 200)


def _session(workspace: FakeWorkspace, request: Request) -> Session | None:
    token = request.query.get("uploadId") or request.query.get("upload_id", "")
    return workspace.transfers.sessions.get(token)


def _place(workspace: FakeWorkspace, request: Request) -> Place:
    """The signature stands for the rights that were checked when the URL was made."""
    parts = request.params["path"].split("/")
    return Place(visible_volume(workspace, parts[1:4]), "/".join(parts[4:]))


def _resume(workspace: FakeWorkspace, request: Request, session: Session) -> Response:
    found = _CONTENT_RANGE.match(request.headers.get("content-range", ""))
    if not found:
        return errors.storage_error(400, "InvalidArgument", "Content-Range is missing or malformed")
    first, _, total = found.groups()
    if first is not None:
        if int(first) > len(session.received):
            return errors.storage_error(400, "InvalidArgument", "The chunk leaves a gap")
        del session.received[int(first) :]
        session.received += request.body
    if total == "*" or len(session.received) < int(total):
        got = len(session.received)
        return Response(308, b"", {"Range": f"bytes=0-{got - 1}"} if got else {})
    try:
        place = _place(workspace, request)
        store(workspace, place, bytes(session.received), overwrite=session.overwrite, began=session.began)
    except ApiError as error:
        if error.error_code == "ALREADY_EXISTS":
            message = "At least one of the pre-conditions you specified did not hold"
            return errors.storage_error(412, "PreconditionFailed", message)
        return errors.storage_error(error.status, "NoSuchBucket", error.message)
    del workspace.transfers.sessions[session.token]
    return Response(200)
