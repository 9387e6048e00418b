"""Saboteurs of the HTTP backend protocol: servers that each answer wrongly in one way that real ones do."""

from __future__ import annotations

import json
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message

from lockproof.fakes.drivers.memory_backend import MemoryStateClient
from lockproof.fakes.saboteurs.broken_gateway import (
    BrokenServer,
    RefusingApp,
    Register,
    UnfencedState,
    answering,
)
from lockproof.fakes.saboteurs.catalogue import CorrectVariant
from tofu_databricks.errors import StateLocked
from tofu_databricks.gateway import GatewayApp
from tofu_databricks.gateway.app import StateClient
from tofu_databricks.gateway.replies import Refusal
from tofu_databricks.lockinfo import LockInfo

register = Register(__name__)
SABOTEURS = register.saboteurs
VARIANTS = (
    CorrectVariant(
        "served-over-http",
        "The gateway over a backend in memory, driven through the protocol.",
        "py:lockproof.fakes.drivers.served:Served",
        ("smoke", "state", "locks", "workspaces"),
    ),
)


@register.breaks("HTTP-READ-001", "HTTP-DELETE-001")
class AbsentReadsAsAnEmptyObject(BrokenServer):
    """A state that is not there is read as `{}`, which no client can parse."""

    class State(MemoryStateClient):
        def get(self) -> bytes | None:
            return super().get() or b"{}"


@register.breaks(
    "HTTP-LOCK-001",
    "HTTP-LOCK-003",
    "HTTP-UNLOCK-001",
    "HTTP-UNLOCK-002",
    "HTTP-UNLOCK-003",
    "HTTP-UNLOCK-005",
)
class LockIsCreated(BrokenServer):
    """A lock is granted with 201: the client fails and the lock stays."""

    App = answering("LOCK", 200, 201)


@register.breaks("HTTP-LOCK-002", "HTTP-UNLOCK-004")
class RefusalWithoutHolder(BrokenServer):
    """A held lock is refused with 423 and no body: nobody learns whose lock it is."""

    class App(RefusingApp):
        def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
            return Response(status_code=423)


@register.breaks("HTTP-LOCK-002")
class RefusalWithUnreadableTime(BrokenServer):
    """The holder's Created is in local style: clients cannot parse it and drop the holder."""

    class App(RefusingApp):
        def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
            document = json.loads(holder.to_json()) | {"Created": "Tue Nov 24 06:00:00 2026"}
            return Response(json.dumps(document), 423, media_type="application/json")


@register.breaks("HTTP-LOCK-003")
class RepeatedLockIsRefused(BrokenServer):
    """A client that repeats a LOCK after a lost reply is refused by its own lock, which then stays."""

    class App(GatewayApp):
        async def lock(self, request: Request, workspace: str, client: StateClient) -> Response:
            holder = client.lock_holder()
            if holder is not None:
                raise StateLocked(holder=holder)
            return await super().lock(request, workspace, client)


@register.breaks(
    "HTTP-UNLOCK-001",
    "HTTP-LOCK-001",
    "HTTP-LOCK-003",
    "HTTP-UNLOCK-002",
    "HTTP-UNLOCK-003",
    "HTTP-UNLOCK-005",
)
class UnlockHasNoContent(BrokenServer):
    """A release is answered with 204: the client reports that it failed."""

    App = answering("UNLOCK", 200, 204)


@register.breaks("HTTP-UNLOCK-002", "HTTP-WRITE-002")
class UnlockWantsTheWholeInfo(BrokenServer):
    """An UNLOCK without `Who` is malformed: OpenTofu's force-unlock sends the ID alone."""

    class App(GatewayApp):
        async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
            body = await request.body()
            if body and not LockInfo.from_json(body).Who:
                raise Refusal(400, "the lock info is not complete")
            return await super().unlock(request, workspace, client)


@register.breaks("HTTP-UNLOCK-003")
class UnlockWantsABody(BrokenServer):
    """An UNLOCK without a body is malformed: terraform's force-unlock up to 1.11 sends none."""

    class App(GatewayApp):
        async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
            if not await request.body():
                raise Refusal(400, "the body is empty")
            return await super().unlock(request, workspace, client)


@register.breaks("HTTP-UNLOCK-004")
class AnyIdUnlocks(BrokenServer):
    """An UNLOCK releases whatever lock there is, whatever ID it carries."""

    class State(MemoryStateClient):
        def unlock(self, lock_id: str) -> None:
            self.backend.locks.pop(self.workspace, None)


@register.breaks("HTTP-UNLOCK-005")
class RepeatedUnlockIsRefused(BrokenServer):
    """A client that repeats an UNLOCK after a lost reply hears that nothing is locked, and fails."""

    class App(GatewayApp):
        async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
            if client.lock_holder() is None:
                raise Refusal(409, "not locked")
            return await super().unlock(request, workspace, client)


@register.breaks("HTTP-WRITE-001", "HTTP-WRITE-003", "HTTP-READ-001")
class WriteIsAccepted(BrokenServer):
    """A write is answered with 202: the client takes it for lost."""

    App = answering("POST", 200, 202)


@register.breaks("HTTP-WRITE-002")
class StaleWritesPass(BrokenServer):
    """A write with any ID passes, also one whose lock another holds by now."""

    State = UnfencedState


@register.breaks("HTTP-WRITE-003")
class RepeatedWriteIsRefused(BrokenServer):
    """The same content once more is a conflict: a client that repeats a write after a lost reply fails."""

    class App(GatewayApp):
        async def write(self, request: Request, workspace: str, client: StateClient) -> Response:
            if await request.body() == client.get():
                raise Refusal(409, "the state has this content already")
            return await super().write(request, workspace, client)


@register.breaks("HTTP-WRITE-004")
class WritesNeedNoLock(BrokenServer):
    """A write that shows no ID passes while somebody holds the lock."""

    class App(GatewayApp):
        async def write(self, request: Request, workspace: str, client: StateClient) -> Response:
            holder = client.lock_holder()
            if holder is not None and not request.url.query:
                request.scope["query_string"] = f"ID={holder.ID}".encode()
                request = Request(request.scope, request.receive)
            return await super().write(request, workspace, client)


@register.breaks("HTTP-WRITE-005")
class DigestIsIgnored(BrokenServer):
    """Content-MD5 is not looked at: a body damaged on the way is stored."""

    class App(GatewayApp):
        async def respond(self, request: Request) -> Response:
            request.scope["headers"] = [h for h in request.scope["headers"] if h[0] != b"content-md5"]
            return await super().respond(Request(request.scope, request.receive))


@register.breaks("HTTP-WRITE-006")
class StoresWhatCame(BrokenServer):
    """A write whose client leaves in the middle of the body is stored as far as it came."""

    class App(GatewayApp):
        async def write(self, request: Request, workspace: str, client: StateClient) -> Response:
            received = bytearray()
            with suppress(ClientDisconnect):
                async for piece in request.stream():
                    received += piece
            whole: Message = {"type": "http.request", "body": bytes(received), "more_body": False}

            async def receive() -> Message:
                return whole

            return await super().write(Request(request.scope, receive), workspace, client)


@register.breaks("HTTP-DELETE-001")
class DeleteHasNoContent(BrokenServer):
    """DELETE is answered with 204, which OpenTofu takes for an error."""

    App = answering("DELETE", 200, 204)
