"""Files of a volume through the Databricks Files API 3.0: reads say an ETag, writes may rest on it.

Source: docs.databricks.com/…/volumes/files-api/conditional-requests and …/versions (Beta). The API has an
address of its own, has to be enabled for the workspace, and answers 412 where a condition is not met.
"""

from __future__ import annotations

from tofu_databricks.errors import InvalidRequest, MalformedReply, NotFound
from tofu_databricks.transport import Transport
from tofu_databricks.volume import encode

FILES = "/api/3.0/fs/files"
PRECONDITION_FAILED = 412


class ConditionalFiles:
    """Files at the address that `transport` speaks to; paths are full. Every method raises its errors."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def etag(self, path: str) -> str | None:
        """The entity tag of a file, `None` when there is none. One request.

        Raises `MalformedReply` when the service gives no tag: it is not this API then.
        """
        try:
            reply = self.transport.request("HEAD", FILES + encode(path), what=f"HEAD {path}")
        except NotFound:  # without a body; should more than the file be missing, the write will say what
            return None
        tag = reply.header("ETag")
        if not tag:
            raise MalformedReply(f"HEAD {path} was answered without an ETag")
        return tag

    def write(self, path: str, data: bytes, etag: str | None) -> bool:
        """Puts the file whose tag is `etag`, `None`: where there is none. False, and nothing is changed, when
        that is not so (any more). After a lost reply a retry finds our own write, and that is False as well.
        """
        return self._changed("PUT", path, etag, data)

    def delete(self, path: str, etag: str | None) -> bool:
        """Removes the file whose tag is `etag`; False as for `write`."""
        return etag is None or self._changed("DELETE", path, etag, None)

    def missing(self, path: str) -> str:
        """Why there is no such API at this address, empty when there is. One request.

        An outage or a refusal says nothing of that: it is raised, and not taken for an API that is missing.
        """
        try:
            reply = self.transport.request("GET", FILES + encode(path), what="Files API 3.0")
        except NotFound as error:
            return "the workspace does not serve it" if error.code == "ENDPOINT_NOT_FOUND" else ""
        return "" if reply.header("ETag") else "it answers without ETags"

    def _changed(self, method: str, path: str, etag: str | None, data: bytes | None) -> bool:
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": etag}
        kind = {} if data is None else {"Content-Type": "application/octet-stream"}
        try:
            self.transport.request(
                method,
                FILES + encode(path),
                data=data,
                headers={**condition, **kind},
                what=f"{method} {path}",
            )
        except InvalidRequest as error:
            if error.status != PRECONDITION_FAILED:
                raise
            return False
        return True
