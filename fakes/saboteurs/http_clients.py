"""Saboteurs of stock clients: servers whose fault shows in what `tofu` or `terraform` does with them."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from lockproof.fakes.drivers.memory_backend import MemoryStateClient
from lockproof.fakes.saboteurs.broken_gateway import (
    BrokenServer,
    RefusingApp,
    Register,
    UnfencedState,
)
from tofu_databricks.errors import LockMismatch, StateLocked
from tofu_databricks.gateway import GatewayApp
from tofu_databricks.gateway.app import StateClient
from tofu_databricks.gateway.replies import line, lock_info
from tofu_databricks.lockinfo import LockInfo

register = Register(__name__)
SABOTEURS = register.saboteurs


class AlteringState(MemoryStateClient):
    """Stores what `alter` makes of a state."""

    def alter(self, state: dict[str, object]) -> dict[str, object]:
        return state

    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(json.dumps(self.alter(json.loads(data))).encode(), lock_id=lock_id)


@register.breaks("CLI-STATE-001")
class WritesAreLost(BrokenServer):
    """A write is acknowledged and not stored."""

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            self.backend.calls.append("lost")


@register.breaks("CLI-STATE-002")
class SerialIsRewritten(BrokenServer):
    """The server counts serials itself."""

    class State(AlteringState):
        def alter(self, state: dict[str, object]) -> dict[str, object]:
            return {**state, "serial": int(str(state["serial"])) + 10}


@register.breaks("CLI-STATE-003")
class EmptyStatesAreLost(BrokenServer):
    """A state that tracks nothing is acknowledged and not stored."""

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            if json.loads(data)["resources"]:
                super().put(data, lock_id=lock_id)


@register.breaks("CLI-PUSH-001")
class TextIsMangled(BrokenServer):
    """Letters beyond ASCII are stored as question marks."""

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            super().put(data.decode().encode("ascii", "replace"), lock_id=lock_id)


@register.breaks("CLI-PUSH-002")
class LockedStatesLookAbsent(BrokenServer):
    """While it is locked a state reads as absent: the client then imports anything over it."""

    class State(MemoryStateClient):
        def get(self) -> bytes | None:
            return None if self.workspace in self.backend.locks else super().get()


@register.breaks("CLI-MIGRATE-001")
class ResourcesAreLost(BrokenServer):
    """Only the outputs of a state are stored."""

    class State(AlteringState):
        def alter(self, state: dict[str, object]) -> dict[str, object]:
            return {**state, "resources": []}


class ForgetfulState(MemoryStateClient):
    """Acknowledges a release and keeps the lock."""

    def unlock(self, lock_id: str) -> None:
        self.require(lock_id)


@register.breaks("CLI-PLAN-001")
class UnlockNeedsAWrite(BrokenServer):
    """A lock under which nothing was written is not released."""

    class State(ForgetfulState):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            super().put(data, lock_id=lock_id)
            self.backend.calls.append(f"written under {lock_id}")

        def unlock(self, lock_id: str) -> None:
            if f"written under {lock_id}" in self.backend.calls:
                MemoryStateClient.unlock(self, lock_id)


@register.breaks("CLI-LOCK-001")
class RefusalNamesTheAsker(BrokenServer):
    """A held lock is refused with the lock info that was sent, not with the holder's."""

    class App(RefusingApp):
        def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
            return lock_info(423, asker)


@register.breaks("CLI-LOCK-002")
class UnlockIsForgotten(BrokenServer):
    """A release is acknowledged, and the lock stays."""

    State = ForgetfulState


@register.breaks("CLI-LOCK-003")
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


@register.breaks("CLI-WAIT-001")
class RefusalIsFinal(BrokenServer):
    """A held lock is refused with 412, after which no client waits."""

    class App(RefusingApp):
        def refusal(self, holder: LockInfo, asker: LockInfo) -> Response:
            return lock_info(412 if asker.Operation == "OperationTypeApply" else 423, holder)


@register.breaks("CLI-WAIT-002")
class AskingTwiceSteals(BrokenServer):
    """Who asks for a held lock a second time gets it."""

    class State(MemoryStateClient):
        def lock(self, info: LockInfo) -> str:
            asked = f"asked by {info.ID}"
            if asked in self.backend.calls:
                self.backend.locks.pop(self.workspace, None)
            self.backend.calls.append(asked)
            return super().lock(info)


@register.breaks("CLI-FORCE-001")
class ForceUnlockIsForgotten(BrokenServer):
    """A release by force is acknowledged, and the lock stays."""

    class App(GatewayApp):
        async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
            body = await request.body()
            if not body or not LockInfo.from_json(body).Who:
                return line(200, "released")
            return await super().unlock(request, workspace, client)


@register.breaks("CLI-FENCE-001")
class ForcedOutWritersPass(BrokenServer):
    """A client whose lock was released by force still writes."""

    State = UnfencedState


@register.breaks("CLI-CRASH-001")
class LocksLapse(BrokenServer):
    """A lock is gone as soon as its holder pauses: any later request for it is granted."""

    class State(MemoryStateClient):
        def lock(self, info: LockInfo) -> str:
            self.backend.locks.pop(self.workspace, None)
            return super().lock(info)


@register.breaks("CLI-INT-001")
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
