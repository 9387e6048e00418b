"""Saboteurs of the HTTP backend protocol: servers that each answer wrongly in one way that real ones do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import ClassVar, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from lockproof.fakes.drivers.memory_backend import MemoryBackend, MemoryStateClient
from lockproof.fakes.drivers.served import SECRET, Served
from lockproof.fakes.saboteurs.catalogue import CorrectVariant, Saboteur
from tofu_databricks.errors import LockMismatch, StateLocked
from tofu_databricks.gateway import Access, GatewayApp
from tofu_databricks.gateway.app import StateClient
from tofu_databricks.gateway.replies import Refusal, line, lock_info
from tofu_databricks.lockinfo import LockInfo

S = TypeVar("S", bound="type[BrokenServer]")
SABOTEURS: list[Saboteur] = []
VARIANTS = (
    CorrectVariant(
        "served-over-http",
        "The gateway over a backend in memory, driven through the protocol.",
        "py:lockproof.fakes.drivers.served:Served",
        ("smoke", "state", "locks", "workspaces"),
    ),
)
CLIENTS = ("tofu", "terraform")
HANDOVERS = (
    *("HTTP-LOCK-001", "HTTP-LOCK-003"),
    *("HTTP-UNLOCK-001", "HTTP-UNLOCK-002", "HTTP-UNLOCK-003", "HTTP-UNLOCK-005"),
)
"""Requirements whose tests look whether a lock is free by taking and releasing it."""


class BrokenServer(Served):
    """Serves an `App` over a backend whose clients are of type `State`: a subclass brings one or both."""

    App: ClassVar[type[GatewayApp]] = GatewayApp
    State: ClassVar[type[MemoryStateClient]] = MemoryStateClient

    @classmethod
    def app(cls) -> GatewayApp:
        return cls.App(BrokenBackend(cls.State), Access(SECRET))


class BrokenBackend(MemoryBackend):
    """The backend in memory with clients of another type."""

    def __init__(self, client_type: type[MemoryStateClient]) -> None:
        super().__init__()
        self.client_type = client_type

    def client(self, workspace: str = "default") -> MemoryStateClient:
        return self.client_type(self, workspace)


def breaks(requirement: str, *also: str) -> Callable[[S], S]:
    """Registers a server that breaks `requirement`, with which those of `also` cannot hold.

    What only a real client shows (`CLI-…`) needs one on PATH, and is run against the tests of that one
    requirement; the rest against all tests of the protocol.
    """

    def register(server: S) -> S:
        real = requirement.startswith("CLI-")
        SABOTEURS.append(
            Saboteur(
                name=re.sub(r"(?<!^)(?=[A-Z])", "-", server.__name__).lower(),
                breaks=requirement,
                story=" ".join((server.__doc__ or "").split()),
                backend=f"py:{__name__}:{server.__name__}",
                suites=("clients",),
                also=also,
                only=(requirement,) if real else ("HTTP-*",),
                programs=CLIENTS if real else (),
            )
        )
        return server

    return register


def answering(method: str, old: int, new: int) -> type[GatewayApp]:
    """A gateway that says `new` where it should say `old` to `method`."""

    class Answering(GatewayApp):
        async def respond(self, request: Request) -> Response:
            response = await super().respond(request)
            if request.method == method and response.status_code == old:
                response.status_code = new
            return response

    return Answering


# --- The protocol


@breaks("HTTP-READ-001", "HTTP-DELETE-001")
class AbsentReadsAsAnEmptyObject(BrokenServer):
    """A state that is not there is read as `{}`, which no client can parse."""

    class State(MemoryStateClient):
        def get(self) -> bytes | None:
            return super().get() or b"{}"


@breaks(
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


class RefusingApp(GatewayApp):
    """A gateway whose 423 has the body that `refusal` makes of holder and asker."""

    async def lock(self, request: Request, workspace: str, client: StateClient) -> Response:
        asker = LockInfo.from_json(await request.body())
        try:
            return await super().lock(request, workspace, client)
        except StateLocked as refused:
            return self.refusal(refused.holder or asker, asker)

    def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
        return lock_info(423, holder)


@breaks("HTTP-LOCK-002", "HTTP-UNLOCK-004")
class RefusalWithoutHolder(BrokenServer):
    """A held lock is refused with 423 and no body: nobody learns whose lock it is."""

    class App(RefusingApp):
        def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
            return Response(status_code=423)


@breaks("HTTP-LOCK-002")
class RefusalWithUnreadableTime(BrokenServer):
    """The holder's Created is in local style: clients cannot parse it and drop the holder."""

    class App(RefusingApp):
        def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
            document = json.loads(holder.to_json()) | {"Created": "Tue Nov 24 06:00:00 2026"}
            return Response(json.dumps(document), 423, media_type="application/json")


@breaks("HTTP-LOCK-003")
class RepeatedLockIsRefused(BrokenServer):
    """A client that repeats a LOCK after a lost reply is refused by its own lock, which then stays."""

    class App(GatewayApp):
        async def lock(self, request: Request, workspace: str, client: StateClient) -> Response:
            holder = client.lock_holder()
            if holder is not None:
                raise StateLocked(holder=holder)
            return await super().lock(request, workspace, client)


@breaks(
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


@breaks("HTTP-UNLOCK-002", "HTTP-WRITE-002")
class UnlockWantsTheWholeInfo(BrokenServer):
    """An UNLOCK without `Who` is malformed: OpenTofu's force-unlock sends the ID alone."""

    class App(GatewayApp):
        async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
            body = await request.body()
            if body and not LockInfo.from_json(body).Who:
                raise Refusal(400, "the lock info is not complete")
            return await super().unlock(request, workspace, client)


@breaks("HTTP-UNLOCK-003")
class UnlockWantsABody(BrokenServer):
    """An UNLOCK without a body is malformed: terraform's force-unlock up to 1.11 sends none."""

    class App(GatewayApp):
        async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
            if not await request.body():
                raise Refusal(400, "the body is empty")
            return await super().unlock(request, workspace, client)


@breaks("HTTP-UNLOCK-004")
class AnyIdUnlocks(BrokenServer):
    """An UNLOCK releases whatever lock there is, whatever ID it carries."""

    class State(MemoryStateClient):
        def unlock(self, lock_id: str) -> None:
            self.backend.locks.pop(self.workspace, None)


@breaks("HTTP-UNLOCK-005")
class RepeatedUnlockIsRefused(BrokenServer):
    """A client that repeats an UNLOCK after a lost reply hears that nothing is locked, and fails."""

    class App(GatewayApp):
        async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
            if client.lock_holder() is None:
                raise Refusal(409, "not locked")
            return await super().unlock(request, workspace, client)


@breaks("HTTP-WRITE-001", "HTTP-WRITE-003", "HTTP-READ-001")
class WriteIsAccepted(BrokenServer):
    """A write is answered with 202: the client takes it for lost."""

    App = answering("POST", 200, 202)


class UnfencedState(MemoryStateClient):
    """Writes whatever lock the writer shows."""

    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(data)


@breaks("HTTP-WRITE-002")
class StaleWritesPass(BrokenServer):
    """A write with any ID passes, also one whose lock another holds by now."""

    State = UnfencedState


@breaks("HTTP-WRITE-003")
class RepeatedWriteIsRefused(BrokenServer):
    """The same content once more is a conflict: a client that repeats a write after a lost reply fails."""

    class App(GatewayApp):
        async def write(self, request: Request, workspace: str, client: StateClient) -> Response:
            if await request.body() == client.get():
                raise Refusal(409, "the state has this content already")
            return await super().write(request, workspace, client)


@breaks("HTTP-WRITE-004")
class WritesNeedNoLock(BrokenServer):
    """A write that shows no ID passes while somebody holds the lock."""

    class App(GatewayApp):
        async def write(self, request: Request, workspace: str, client: StateClient) -> Response:
            holder = client.lock_holder()
            if holder is not None and not request.url.query:
                request.scope["query_string"] = f"ID={holder.ID}".encode()
                request = Request(request.scope, request.receive)
            return await super().write(request, workspace, client)


@breaks("HTTP-WRITE-005")
class DigestIsIgnored(BrokenServer):
    """Content-MD5 is not looked at: a body damaged on the way is stored."""

    class App(GatewayApp):
        async def respond(self, request: Request) -> Response:
            request.scope["headers"] = [h for h in request.scope["headers"] if h[0] != b"content-md5"]
            return await super().respond(Request(request.scope, request.receive))


@breaks("HTTP-DELETE-001")
class DeleteHasNoContent(BrokenServer):
    """DELETE is answered with 204, which OpenTofu takes for an error."""

    App = answering("DELETE", 200, 204)


# --- What only a client shows


class AlteringState(MemoryStateClient):
    """Stores what `alter` makes of a state."""

    def alter(self, state: dict[str, object]) -> dict[str, object]:
        return state

    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(json.dumps(self.alter(json.loads(data))).encode(), lock_id=lock_id)


@breaks("CLI-STATE-001")
class WritesAreLost(BrokenServer):
    """A write is acknowledged and not stored."""

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            self.backend.calls.append("lost")


@breaks("CLI-STATE-002")
class SerialIsRewritten(BrokenServer):
    """The server counts serials itself."""

    class State(AlteringState):
        def alter(self, state: dict[str, object]) -> dict[str, object]:
            return {**state, "serial": int(str(state["serial"])) + 10}


@breaks("CLI-STATE-003")
class EmptyStatesAreLost(BrokenServer):
    """A state that tracks nothing is acknowledged and not stored."""

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            if json.loads(data)["resources"]:
                super().put(data, lock_id=lock_id)


@breaks("CLI-PUSH-001")
class TextIsMangled(BrokenServer):
    """Letters beyond ASCII are stored as question marks."""

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            super().put(data.decode().encode("ascii", "replace"), lock_id=lock_id)


@breaks("CLI-PUSH-002")
class LockedStatesLookAbsent(BrokenServer):
    """While it is locked a state reads as absent: the client then imports anything over it."""

    class State(MemoryStateClient):
        def get(self) -> bytes | None:
            return None if self.workspace in self.backend.locks else super().get()


@breaks("CLI-MIGRATE-001")
class ResourcesAreLost(BrokenServer):
    """Only the outputs of a state are stored."""

    class State(AlteringState):
        def alter(self, state: dict[str, object]) -> dict[str, object]:
            return {**state, "resources": []}


class ForgetfulState(MemoryStateClient):
    """Acknowledges a release and keeps the lock."""

    def unlock(self, lock_id: str) -> None:
        self.require(lock_id)


@breaks("CLI-PLAN-001")
class UnlockNeedsAWrite(BrokenServer):
    """A lock under which nothing was written is not released."""

    class State(ForgetfulState):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            super().put(data, lock_id=lock_id)
            self.backend.calls.append(f"written under {lock_id}")

        def unlock(self, lock_id: str) -> None:
            if f"written under {lock_id}" in self.backend.calls:
                MemoryStateClient.unlock(self, lock_id)


@breaks("CLI-LOCK-001")
class RefusalNamesTheAsker(BrokenServer):
    """A held lock is refused with the lock info that was sent, not with the holder's."""

    class App(RefusingApp):
        def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
            return lock_info(423, asker)


@breaks("CLI-LOCK-002")
class UnlockIsForgotten(BrokenServer):
    """A release is acknowledged, and the lock stays."""

    State = ForgetfulState


@breaks("CLI-LOCK-003")
class LockedStatesCannotBeRead(BrokenServer):
    """While it is locked a state cannot be read."""

    class State(MemoryStateClient):
        def get(self) -> bytes | None:
            holder = self.backend.locks.get(self.workspace)
            if (
                holder is not None
                and holder.Operation == "OperationTypeApply"
                and self.workspace in self.backend.states
            ):
                raise StateLocked(holder=holder)
            return super().get()


@breaks("CLI-WAIT-001")
class RefusalIsFinal(BrokenServer):
    """A held lock is refused with 412, after which no client waits."""

    class App(RefusingApp):
        def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
            return lock_info(412 if asker.Operation == "OperationTypeApply" else 423, holder)


@breaks("CLI-WAIT-002")
class AskingTwiceSteals(BrokenServer):
    """Who asks for a held lock a second time gets it."""

    class State(MemoryStateClient):
        def lock(self, info: LockInfo) -> str:
            asked = f"asked by {info.ID}"
            if asked in self.backend.calls:
                self.backend.locks.pop(self.workspace, None)
            self.backend.calls.append(asked)
            return super().lock(info)


@breaks("CLI-FORCE-001")
class ForceUnlockIsForgotten(BrokenServer):
    """A release by force is acknowledged, and the lock stays."""

    class App(GatewayApp):
        async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
            body = await request.body()
            if not body or not LockInfo.from_json(body).Who:
                return line(200, "released")
            return await super().unlock(request, workspace, client)


@breaks("CLI-FENCE-001")
class ForcedOutWritersPass(BrokenServer):
    """A client whose lock was released by force still writes."""

    State = UnfencedState


@breaks("CLI-CRASH-001")
class LocksLapse(BrokenServer):
    """A lock is gone as soon as its holder pauses: any later request for it is granted."""

    class State(MemoryStateClient):
        def lock(self, info: LockInfo) -> str:
            self.backend.locks.pop(self.workspace, None)
            return super().lock(info)


@breaks("CLI-INT-001")
class UnlockAfterAWriteFails(BrokenServer):
    """A lock under which something was written cannot be released."""

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            super().put(data, lock_id=lock_id)
            self.backend.calls.append(f"written under {lock_id}")

        def unlock(self, lock_id: str) -> None:
            if f"written under {lock_id}" in self.backend.calls:
                raise LockMismatch("there is a write under this lock")
            super().unlock(lock_id)
