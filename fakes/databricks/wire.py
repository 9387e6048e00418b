"""A request and a response as the fake's model sees them: no sockets, paths decoded exactly once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from lockproof.fakes.databricks.identity import Principal


class Headers(dict[str, str]):
    """Request headers with lower-case names; `Headers.of` accepts any case."""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Headers:
        return cls({name.lower(): value for name, value in headers.items()})


@dataclass
class Request:
    """One HTTP request.

    `path` is percent-decoded once. `host` is `workspace` or `storage` (the address of presigned URLs).
    `began` is the workspace's version when the head of the request arrived: what a slow request saw.
    `params` are the path parameters of the matched route, `principal` the authenticated caller
    (None on routes without authentication); the workspace fills both in.
    """

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    host: str = "workspace"
    began: int = 0
    params: dict[str, str] = field(default_factory=dict)
    principal: Principal | None = None
    stale: bool = False

    @classmethod
    def to(
        cls,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        host: str = "workspace",
    ) -> Request:
        """A request to `url` (absolute, or from the path on), decoded once."""
        split = urlsplit(url)
        return cls(
            method.upper(),
            unquote(split.path),
            dict(parse_qsl(split.query, keep_blank_values=True)),
            Headers.of(headers or {}),
            body,
            host,
        )

    @property
    def caller(self) -> Principal:
        """The authenticated principal. Only for routes that demand authentication."""
        if self.principal is None:
            raise LookupError(f"{self.method} {self.path} is a route without authentication")
        return self.principal

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is `{}`. Raises the 400 MALFORMED_REQUEST answer."""
        from lockproof.fakes.databricks.errors import ApiError

        if not self.body:
            return {}
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ApiError(
                400, "MALFORMED_REQUEST", "Could not parse request object: expected a JSON object."
            )
        return value


@dataclass
class Response:
    """One HTTP response.

    `truncate_at` (bytes of the body that still arrive; the announced length stays) and `drop` (the connection
    ends without an answer) are carried out by the way in that transports the response.
    """

    status: int = 200
    body: bytes | memoryview = b""
    headers: dict[str, str] = field(default_factory=dict)
    truncate_at: int | None = None
    drop: bool = False

    @classmethod
    def of_json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """`value` as a JSON answer."""
        body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        return cls(status, body, {"Content-Type": "application/json", **(headers or {})})

    def json(self) -> Any:
        """The body parsed as JSON."""
        return json.loads(bytes(self.body))
