"""Errors as a Databricks workspace answers them: status, body and `google.rpc` details.

The texts are those of recorded workspaces and of the SDKs' own tests where these exist; a text of our own is
marked *inferred* beside the route that answers it (see OPERATIONS.md).
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Any

from lockproof.fakes.databricks.wire import Response

FILES_DOMAIN = "filesystem.databricks.com"


def request_info() -> dict[str, str]:
    return {
        "@type": "type.googleapis.com/google.rpc.RequestInfo",
        "request_id": str(uuid.uuid4()),
        "serving_data": "",
    }


def error_info(reason: str, domain: str = FILES_DOMAIN) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": domain,
        "metadata": {},
    }


class ApiError(Exception):
    """An error answer. `error_code` is a string, or the status as a number (authentication failures)."""

    def __init__(
        self,
        status: int,
        error_code: str | int,
        message: str,
        *,
        reason: str | None = None,
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {error_code}: {message}")
        self.status = status
        self.error_code = error_code
        self.message = message
        self.details = details if details is not None else ([error_info(reason)] if reason else None)
        self.headers = headers or {}

    def response(self) -> Response:
        body: dict[str, Any] = {"error_code": self.error_code, "message": self.message}
        if self.details is not None:
            body["details"] = [*self.details, request_info()]
        return Response.of_json(body, self.status, self.headers)


def endpoint_not_found(method: str, path: str) -> ApiError:
    """The recorded text names the path without `/api/2.x`: "No API found for 'PUT /sql/statements'"."""
    parts = path.split("/", 3)
    shown = f"/{parts[3]}" if path.startswith("/api/") and len(parts) == 4 else path
    return ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {shown}'")


def invalid_token() -> ApiError:
    """Wrong or expired token: 403 with a *numeric* error code, unlike a missing grant."""
    message = f"Invalid access token. [ReqId: {uuid.uuid4()}]"
    return ApiError(403, 403, message, headers={"X-Databricks-Reason-Phrase": message})


def credential_missing() -> ApiError:
    message = f"Credential was not sent or was of an unsupported type for this API. [ReqId: {uuid.uuid4()}]"
    return ApiError(401, 401, message, headers={"X-Databricks-Reason-Phrase": message})


def missing_scope(scope: str) -> ApiError:
    message = f"Provided OAuth token does not have required scopes: {scope}"
    return ApiError(403, 403, message, headers={"X-Databricks-Reason-Phrase": message})


def permission_denied(message: str) -> ApiError:
    return ApiError(403, "PERMISSION_DENIED", message)


def lacks(privilege: str, kind: str, full_name: str) -> ApiError:
    """`privilege` in the API's spelling, such as READ_VOLUME; `kind` such as volume."""
    shown = privilege.replace("_", " ")
    return permission_denied(f"User does not have {shown} on {kind.capitalize()} '{full_name}'.")


def invalid_parameter(message: str) -> ApiError:
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def typical(status: int) -> Response:
    """The answer that a workspace, or the proxy before it, usually gives with an error status."""
    if status < 400:
        return Response(status)
    if status == 401:
        return credential_missing().response()
    if status in (502, 504):
        phrase = HTTPStatus(status).phrase
        page = f"<html><head><title>{status} {phrase}</title></head><body><h1>{phrase}</h1></body></html>"
        return Response(status, page.encode(), {"Content-Type": "text/html"})
    code, message = {
        400: ("BAD_REQUEST", "The request is malformed."),
        403: ("PERMISSION_DENIED", "User does not have the privilege that this operation needs."),
        404: ("NOT_FOUND", "The resource does not exist."),
        409: ("ALREADY_EXISTS", "The file being created already exists."),
        429: ("REQUEST_LIMIT_EXCEEDED", "The request rate limit is exceeded. Please try again later."),
        500: ("INTERNAL_ERROR", "An internal error occurred."),
        503: (
            "TEMPORARILY_UNAVAILABLE",
            "Authentication is temporarily unavailable. Please try again later. [TraceId: -]",
        ),
    }.get(status, ("UNKNOWN", f"Status {status}"))
    return ApiError(status, code, message).response()


# --- Files API 2.0 ----------------------------------------------------------------------------------------


def file_not_found() -> ApiError:
    """The only 404 that means "there is no such file"."""
    return ApiError(
        404, "NOT_FOUND", "The file being accessed is not found.", reason="FILES_API_FILE_NOT_FOUND"
    )


def directory_not_found() -> ApiError:
    message = "The directory being accessed is not found."
    return ApiError(404, "NOT_FOUND", message, reason="FILES_API_DIRECTORY_IS_NOT_FOUND")


def files_container_missing(kind: str, full_name: str) -> ApiError:
    """A missing volume (or schema, or catalog) as the Files API tells it: no ErrorInfo, so no file reason."""
    return ApiError(404, "NOT_FOUND", f"{kind.capitalize()} '{full_name}' does not exist.", details=[])


def file_exists() -> ApiError:
    return ApiError(409, "ALREADY_EXISTS", "The file being created already exists.")


def path_is_a_file() -> ApiError:
    message = "The given path points to an existing file. This API does not support operations on files."
    return ApiError(409, "ALREADY_EXISTS", message, reason="FILES_API_PATH_IS_A_FILE")


def path_is_a_directory() -> ApiError:
    message = (
        "The given path points to an existing directory. This API does not support operations on directories."
    )
    return ApiError(409, "ALREADY_EXISTS", message, reason="FILES_API_PATH_IS_A_DIRECTORY")


def directory_not_empty() -> ApiError:
    message = "The directory being deleted is not empty."
    return ApiError(400, "INVALID_PARAMETER_VALUE", message, reason="FILES_API_DIRECTORY_IS_NOT_EMPTY")


def invalid_path(message: str) -> ApiError:
    return ApiError(400, "BAD_REQUEST", message, reason="FILES_API_INVALID_PATH")


def presigned_urls_disabled() -> ApiError:
    message = "Presigned URLs API is not enabled"
    return ApiError(403, "PERMISSION_DENIED", message, reason="FILES_API_API_IS_NOT_ENABLED")


# --- Unity Catalog ----------------------------------------------------------------------------------------


def does_not_exist(kind: str, full_name: str) -> ApiError:
    return ApiError(
        404, f"{kind.upper()}_DOES_NOT_EXIST", f"{kind.capitalize()} '{full_name}' does not exist."
    )


def already_exists(kind: str, name: str, status: int) -> ApiError:
    return ApiError(status, f"{kind.upper()}_ALREADY_EXISTS", f"{kind.capitalize()} '{name}' already exists")


def not_empty(kind: str, full_name: str) -> ApiError:
    message = f"{kind.capitalize()} '{full_name}' is not empty."
    return ApiError(400, "INVALID_STATE", message)


# --- the cloud storage behind presigned URLs --------------------------------------------------------------


def storage_error(status: int, code: str, message: str, extra: str = "") -> Response:
    """An S3 or Azure style XML error."""
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}"
        f"<RequestId>{uuid.uuid4().hex[:16].upper()}</RequestId></Error>"
    )
    return Response(status, text.encode(), {"Content-Type": "application/xml"})
