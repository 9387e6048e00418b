"""The gateway as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import unquote_to_bytes
from weakref import WeakValueDictionary

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tofu_databricks.errors import BackendError, LockMismatch, LockNotHeld, StaleWrite, StateLocked
from tofu_databricks.gateway import replies
from tofu_databricks.gateway.access import Access
from tofu_databricks.gateway.body import body_of
from tofu_databricks.gateway.memory import ANY_ID, Memory
from tofu_databricks.gateway.replies import Refusal
from tofu_databricks.layout import check_addressable
from tofu_databricks.lockinfo import LockInfo

T = TypeVar("T")
METHODS = ("GET", "POST", "DELETE", "LOCK", "UNLOCK")
PREFIX = b"/state/"
LOCK_INFO_BYTES = 64 << 10
SHOWN = 200
"""Characters of a path or reason that the log shows: the client chooses its length."""
ABSOLUTE = re.compile(rb"^https?://[^/]+", re.IGNORECASE)
MALFORMED_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
INTERNAL = "internal error of the gateway; its log has the details"
log = logging.getLogger("tofu_databricks.gateway")
audit = logging.getLogger("tofu_databricks.gateway.audit")


class StateClient(Protocol):
    """One workspace of a backend, as `tofu_databricks.client.StateClient`; safe for threads."""

    def get(self) -> bytes | None: ...
    def put(self, data: bytes, *, lock_id: str | None = None) -> None: ...
    def delete(self, *, lock_id: str | None = None) -> None: ...
    def lock(self, info: LockInfo) -> str: ...
    def unlock(self, lock_id: str) -> None: ...
    def lock_holder(self) -> LockInfo | None: ...


class Backend(Protocol):
    """What the gateway serves, as `tofu_databricks.backend.Backend`."""

    def client(self, workspace: str = "default") -> StateClient: ...


@dataclass(frozen=True)
class Limits:
    """`state_bytes`: the largest state taken, 413 beyond. `forced_unlock`: whether an UNLOCK without a
    body releases whatever is held (terraform's `force-unlock` up to 1.11 sends no id). `threads`: how
    many calls to the backend run at once. `patience`: seconds that a client has for the head of a request,
    for its body (and one more for each KiB of it), and for taking some of its reply."""

    state_bytes: int = 1 << 30
    forced_unlock: bool = True
    threads: int = 64
    patience: float = 60.0


class GatewayApp:
    """Serves `backend`; see the package for the protocol and `replies` for the status codes.

    Calls to the backend run in threads. In one workspace a write, a delete and an unlock never overlap
    (an unlock waits for the write that it follows), nor do lock and unlock of one id; reads and other
    clients' locks never wait.
    """

    def __init__(self, backend: Backend, access: Access, limits: Limits | None = None) -> None:
        self.backend = backend
        self.access = access
        self.limits = limits or Limits()
        self.memory = Memory()
        self.orders: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()
        self.threads = ThreadPoolExecutor(self.limits.threads, thread_name_prefix="gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway serves http, not {scope['type']}")
        request = Request(scope, receive)
        start = time.perf_counter()
        what = f"{request.method} {path_of(request).decode('ascii', 'replace')}"[:SHOWN]
        reason = ""
        try:
            response = await self.respond(request)
            if await request.is_disconnected():
                reason = "done, but the client left before it was told"
        except Refusal as refusal:
            response, reason = replies.line(refusal.status, str(refusal), refusal.headers), str(refusal)
        except BackendError as error:
            response, reason = replies.failure(error), str(error)
        except ClientDisconnect:
            log.warning("%s: the client left before its request was complete", what)
            return
        except Exception:
            log.exception("%s: internal error", what)
            response, reason = replies.line(500, INTERNAL), INTERNAL
        spent = 1000 * (time.perf_counter() - start)
        level = logging.WARNING if reason and response.status_code != 423 else logging.INFO
        log.log(level, "%s %d %.1f ms %s", what, response.status_code, spent, reason[:SHOWN])
        await response(scope, receive, send)

    def close(self) -> None:
        """Ends the threads once their calls are complete."""
        self.threads.shutdown()

    async def respond(self, request: Request) -> Response:
        """The reply. Raises `Refusal` or `BackendError`."""
        path = path_of(request)
        if path == b"/healthz" and request.method == "GET":
            return replies.line(200, "ok")
        self.access.check(request.headers)
        if "content-length" in request.headers and "transfer-encoding" in request.headers:
            # Where such a body ends is a matter of opinion: RFC 9112, section 6.1.
            raise Refusal(400, "both Content-Length and Transfer-Encoding", {"Connection": "close"})
        workspace = workspace_of(path)
        if request.method not in METHODS:
            raise Refusal(
                405, f"{request.method} is not of the HTTP backend protocol", {"Allow": ", ".join(METHODS)}
            )
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "send the state as it is, without a content encoding")
        client = await self.call(lambda: self.backend.client(workspace))
        match request.method:
            case "GET":
                return await self.call(lambda: replies.state(client.get()))
            case "POST":
                return await self.write(request, workspace, client)
            case "DELETE":
                return await self.delete(request, workspace, client)
            case "LOCK":
                return await self.lock(request, workspace, client)
            case _:
                return await self.unlock(request, workspace, client)

    async def write(self, request: Request, workspace: str, client: StateClient) -> Response:
        """Stores the body. With the id of a lock that is not held: 409; without one while locked: 423.

        The same content under the same lock as the write before is a repeat after a lost reply: it
        succeeds as long as the state still is that content.
        """
        lock_id = lock_id_of(request)
        data, md5 = await body_of(request, self.limits.state_bytes, self.limits.patience)

        def put() -> None:
            if lock_id is None:
                require_unlocked(client)
            try:
                client.put(data, lock_id=lock_id)
            except (StaleWrite, LockMismatch, LockNotHeld):
                repeat = lock_id is not None and self.memory.is_repeated_write(workspace, lock_id, md5)
                if not repeat or client.get() != data:
                    raise
            except BackendError as error:
                if not error.definite:
                    self.memory.written(workspace, lock_id, md5)
                raise
            self.memory.written(workspace, lock_id, md5)

        async with self.order(workspace):
            await self.call(put)
        return replies.line(200, "stored")

    async def delete(self, request: Request, workspace: str, client: StateClient) -> Response:
        """Removes the state; under the same conditions as a write."""
        lock_id = lock_id_of(request)

        def delete() -> None:
            if lock_id is None:
                require_unlocked(client)
            client.delete(lock_id=lock_id)
            self.memory.written(workspace, None, b"")

        async with self.order(workspace):
            await self.call(delete)
        return replies.line(200, "deleted")

    async def lock(self, request: Request, workspace: str, client: StateClient) -> Response:
        """Takes the lock, once, without waiting: 200, or 423 with the holder's lock info.

        The id that already holds the lock succeeds again: a client repeats a lock whose reply was lost.
        """
        info = lock_info_of((await body_of(request, LOCK_INFO_BYTES, self.limits.patience))[0])

        def lock() -> None:
            try:
                client.lock(info)
            except StateLocked as refused:
                holder = refused.holder or client.lock_holder()
                if holder is None and refused.definite:  # it vanished after the refusal
                    client.lock(info)
                elif holder is None or holder.ID != info.ID:
                    if not refused.definite:
                        raise
                    self.tell_holder(workspace, holder)
                    raise StateLocked(holder=holder) from refused
            self.memory.lock_granted(workspace, info.ID)

        async with self.order(workspace, info.ID):
            await self.call(lock)
        return replies.lock_info(200, info)

    def tell_holder(self, workspace: str, holder: LockInfo | None) -> None:
        """Logs who holds the lock, once: terraform up to 1.11 shows the asker's own lock info instead."""
        if holder is not None and self.memory.is_news(workspace, holder.ID):
            log.warning("workspace %r: %s", workspace, StateLocked(holder=holder))

    async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
        """Releases the lock of the id in the body: 200, or 409 where it does not hold the lock.

        The id just released succeeds again while nobody else holds the lock. An empty body, the
        `force-unlock` of terraform up to 1.11, releases whatever is held, is audited, and can be
        switched off.
        """
        body = (await body_of(request, LOCK_INFO_BYTES, self.limits.patience))[0]
        if not body:
            async with self.order(workspace):
                await self.call(lambda: self.unlock_any(request, workspace, client))
            return replies.line(200, "released")
        info = lock_info_of(body)
        if not info.Who:  # `force-unlock` of OpenTofu: the id alone
            record_forced(request, workspace, info)
        async with self.order(workspace, info.ID), self.order(workspace):
            await self.call(lambda: self.unlock_id(workspace, client, info.ID, body))
        return replies.line(200, "released")

    def unlock_id(self, workspace: str, client: StateClient, lock_id: str, body: bytes) -> None:
        """Releases `lock_id`, again too. Raises `LockMismatch` or `LockNotHeld`.

        When the backend cannot say whether it did, the repeat of the request may find the lock free. That
        counts as its release only for an id that did hold the lock: one never granted stays refused.
        """
        held = self.memory.is_granted(workspace, lock_id)
        if not held:  # a forced release, or a lock that is older than this process
            holder = client.lock_holder()
            held = holder is not None and holder.ID == lock_id
        try:
            client.unlock(lock_id)
        except LockNotHeld:
            if not self.memory.is_repeated_unlock(workspace, lock_id, body):
                raise
        except BackendError as error:
            if held and not error.definite:
                self.memory.lock_released(workspace, lock_id, body)
            raise
        self.memory.lock_released(workspace, lock_id, body)

    def unlock_any(self, request: Request, workspace: str, client: StateClient) -> None:
        """Releases the lock whoever holds it."""
        if not self.limits.forced_unlock:
            raise Refusal(403, "an UNLOCK without the lock's id is switched off here; send the lock's info")
        holder = client.lock_holder()
        if holder is None:
            if not self.memory.is_repeated_unlock(workspace, ANY_ID, b""):
                raise LockNotHeld(f"workspace {workspace!r} is not locked")
            return
        record_forced(request, workspace, holder)
        try:
            client.unlock(holder.ID)
        except BackendError as error:
            if not error.definite:
                self.memory.lock_released(workspace, ANY_ID, b"")
            raise
        self.memory.lock_released(workspace, ANY_ID, b"")

    async def call(self, function: Callable[[], T]) -> T:
        """Runs `function`, which may block, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function)

    def order(self, *key: str) -> asyncio.Lock:
        """Held by one request with this key at a time."""
        return self.orders.setdefault(key, asyncio.Lock())


def path_of(request: Request) -> bytes:
    """The raw path of the address, also of one in absolute form, which every server must take.

    Source: RFC 9112, section 3.2.2.
    """
    target: bytes = request.scope["raw_path"]
    return ABSOLUTE.sub(b"", target.partition(b"?")[0], count=1)


def workspace_of(path: bytes) -> str:
    """The workspace that a raw request path names.

    Raises `Refusal` or `WorkspaceError`, both 400, not 404: a client takes 404 for "no state yet", and a
    mistyped address must not look like that.
    """
    name = path.removeprefix(PREFIX)
    if not path.startswith(PREFIX) or not name:
        raise Refusal(400, "no such address: the state of a workspace is at /state/WORKSPACE")
    if MALFORMED_ESCAPE.search(name):
        raise Refusal(400, "the address has a percent sign that escapes nothing")
    try:
        workspace = unquote_to_bytes(name).decode()
    except UnicodeDecodeError:
        raise Refusal(400, "the workspace in the address is not UTF-8") from None
    check_addressable(workspace)
    return workspace


def lock_id_of(request: Request) -> str | None:
    """The lock id in the query of a write, `None` when there is none. Raises `Refusal` for several."""
    given = set(request.query_params.getlist("ID"))
    if len(given) > 1:
        raise Refusal(400, "the address has more than one ID")
    return next(iter(given), None) or None


def lock_info_of(body: bytes) -> LockInfo:
    """The lock info in a body. Raises `Refusal` when it is none or has no ID."""
    try:
        info = LockInfo.from_json(body)
    except ValueError as error:
        raise Refusal(400, f"the body is not a lock info: {error}") from None
    if not info.ID:
        raise Refusal(400, "the lock info has no ID")
    return info


def require_unlocked(client: StateClient) -> None:
    """Raises `StateLocked` when anybody holds the lock."""
    holder = client.lock_holder()
    if holder is not None:
        raise StateLocked(holder=holder)


def record_forced(request: Request, workspace: str, holder: LockInfo) -> None:
    """Writes down who releases whose lock by force."""
    peer = request.client.host if request.client else "unknown"
    audit.warning(
        "force-unlock of workspace %r from %s: lock ID %r held by %r for %r since %r",
        workspace,
        peer,
        holder.ID,
        holder.Who,
        holder.Operation,
        holder.Created,
    )
