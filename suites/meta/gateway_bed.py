"""A gateway over a backend in memory, and a client that speaks the protocol byte by byte."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import requests

from lockproof.fakes.drivers.memory_backend import MemoryBackend
from tofu_databricks.gateway import Access, Gateway, GatewayApp, Limits
from tofu_databricks.gateway.memory import Memory
from tofu_databricks.lockinfo import LockInfo

SECRET = "s3cret-of-this-test"


@dataclass
class Wire:
    """A client that speaks the protocol byte by byte to `url`."""

    url: str
    auth: tuple[str, str] | None = ("tofu", SECRET)
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False

    def send(
        self,
        method: str,
        body: bytes | None = None,
        *,
        workspace: str = "default",
        lock_id: str | None = None,
        path: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        """One request. `path` replaces `/state/WORKSPACE` verbatim."""
        target = self.url + (path if path is not None else f"/state/{workspace}")
        if lock_id is not None:
            target += f"?ID={lock_id}"
        request = requests.Request(method, target, data=body, headers=headers, auth=self.auth)
        prepared = self.session.prepare_request(request)
        prepared.url = target  # requests would tidy the path up
        return self.session.send(prepared, timeout=20, allow_redirects=False)

    def lock(self, lock_id: str, **fields: str) -> requests.Response:
        """LOCK as OpenTofu sends it."""
        return self.send("LOCK", lock_body(lock_id, **fields))

    def unlock(self, lock_id: str, **fields: str) -> requests.Response:
        """UNLOCK as OpenTofu sends it."""
        return self.send("UNLOCK", lock_body(lock_id, **fields))


def lock_body(lock_id: str, **fields: str) -> bytes:
    """The lock info of a client that runs an apply."""
    info = LockInfo(lock_id, "OperationTypeApply", "", "alice@host", "1.11.4", "2026-01-02T03:04:05.6Z", "")
    return json.dumps({**asdict(info), **fields}).encode()


def id_only(lock_id: str) -> bytes:
    """What OpenTofu's `force-unlock` sends."""
    return json.dumps({**asdict(LockInfo(ID=lock_id)), "Created": "0001-01-01T00:00:00Z"}).encode()


def md5_of(body: bytes) -> dict[str, str]:
    """The header that clients send with a body."""
    return {"Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode()}


@dataclass
class Bed:
    """A running gateway over a backend in memory."""

    backend: MemoryBackend
    gateway: Gateway
    wire: Wire

    def renew(self) -> None:
        """As a gateway just started over an empty backend."""
        self.backend = MemoryBackend()
        self.gateway.app.backend = self.backend
        self.gateway.app.memory = Memory()
        self.wire.auth = ("tofu", SECRET)


@contextmanager
def running(
    backend: Any = None, *, access: Access | None = None, limits: Limits | None = None
) -> Iterator[Bed]:
    """A gateway over `backend` (an empty one in memory when not given) that asks for `SECRET`."""
    backend = backend or MemoryBackend()
    app = GatewayApp(backend, access or Access(SECRET), limits)
    with Gateway(app) as gateway:
        bed = Bed(backend, gateway, Wire(gateway.url))
        try:
            yield bed
        finally:
            bed.wire.session.close()
