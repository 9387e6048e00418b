"""Saboteurs of calls that break halfway: of several requests one is lost, and what is left is not mended."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from lockproof.driver.api import LockInfo, Snapshot
from lockproof.driver.errors import DriverError, Locked
from lockproof.driver.http import FORCED, HttpClient
from lockproof.fakes.drivers.memory_backend import MemoryStateClient
from lockproof.fakes.saboteurs.broken_wire import BrokenWire, Register
from tofu_databricks import lockinfo
from tofu_databricks.errors import StateLocked
from tofu_databricks.gateway import GatewayApp
from tofu_databricks.gateway.app import StateClient

register = Register(
    __name__, "FAULT-REP-006", "FAULT-REP-007", "FAULT-REP-008", "FAULT-REP-009", "FAULT-REP-011"
)
SABOTEURS = register.saboteurs


class RetryingClient(HttpClient):
    """Sends a request again, once, when it has heard nothing."""

    def twice(self, call: Callable[[], None]) -> None:
        try:
            call()
        except DriverError as error:
            if error.definite:
                raise
            call()


class OnceApp(GatewayApp):
    """A gateway that grants no request twice."""

    async def lock(self, request: Request, workspace: str, client: StateClient) -> Response:
        asked = lockinfo.LockInfo.from_json(await request.body())
        holder = client.lock_holder()
        if holder is not None and holder.ID == asked.ID:
            raise StateLocked(holder=holder)
        return await super().lock(request, workspace, client)


@register.breaks("FAULT-REP-006")
class TakesItsOwnLockForAnothers(BrokenWire):
    """A lock request is sent again when its reply is lost, and refused by the lock that it has taken: which
    nobody releases (opentofu/opentofu#4405)."""

    App = OnceApp

    class Client(RetryingClient):
        def lock(self, workspace: str, info: LockInfo) -> str:
            self.twice(lambda: self.lock_once(workspace, info))
            return info.ID

        def lock_once(self, workspace: str, info: LockInfo) -> None:
            super().lock(workspace, info)


def name_of(workspace: str) -> str:
    """Where the name of the workspace's holder is kept."""
    return f"{workspace}.holder"


class NamingClient(HttpClient):
    """Takes the lock by its id alone, and says afterwards in a second request who has it."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            super().lock(workspace, LockInfo(ID=info.ID, Created=FORCED))
        except Locked:
            name = self.get(name_of(workspace))
            raise Locked("held", holder=LockInfo.from_json(json.loads(name.data)) if name else None) from None
        self.put(name_of(workspace), json.dumps(info.to_json()).encode())
        return info.ID

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock(workspace, lock_id)
        self.delete(name_of(workspace))


@register.breaks("FAULT-REP-006", "FAULT-REP-007", "FAULT-REP-009")
class LeaseIsKeptWithoutAName(BrokenWire):
    """When the holder's name cannot be written the lock is kept, and an error returned: nobody can tell by
    which id to release it (hashicorp/terraform#17535, terraform-provider-azurerm#8819)."""

    App = OnceApp
    Client = NamingClient


@register.breaks("FAULT-REP-007", "FAULT-REP-006", "FAULT-REP-009")
class TheNameGoesFirst(BrokenWire):
    """A release removes the holder's name, and then the lock: when that fails, the lock is nobody's."""

    class Client(NamingClient):
        def unlock(self, workspace: str, lock_id: str) -> None:
            self.delete(name_of(workspace))
            HttpClient.unlock(self, workspace, lock_id)


@register.breaks("FAULT-REP-007", "FAULT-REP-006", "FAULT-REP-008")
class LostReplyIsAFailure(BrokenWire):
    """A call whose reply was lost is reported as one that did not happen (hashicorp/terraform#14312: a lock
    that could not be released may have been)."""

    class Client(HttpClient):
        def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
            self.surely(lambda: super(type(self), self).put(workspace, data, lock_id=lock_id))

        def lock(self, workspace: str, info: LockInfo) -> str:
            self.surely(lambda: super(type(self), self).lock(workspace, info))
            return info.ID

        def unlock(self, workspace: str, lock_id: str) -> None:
            self.surely(lambda: super(type(self), self).unlock(workspace, lock_id))

        def surely(self, call: Callable[[], object]) -> None:
            try:
                call()
            except DriverError as error:
                if error.definite:
                    raise
                raise DriverError(error.kind, True, error.message) from error


@register.breaks("FAULT-REP-008")
class DigestIsOnlyLogged(BrokenWire):
    """A state's digest is written after the state, and that it could not be is only logged: the write
    succeeds, and the state cannot be read (hashicorp/terraform#17583)."""

    class Client(HttpClient):
        def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
            super().put(workspace, data, lock_id=lock_id)
            try:
                super().put(f"{workspace}.md5", hashlib.sha256(data).hexdigest().encode())
            except DriverError:
                return

        def get(self, workspace: str) -> Snapshot | None:
            found, digest = super().get(workspace), super().get(f"{workspace}.md5")
            if found and digest and hashlib.sha256(found.data).hexdigest().encode() != digest.data:
                raise DriverError("malformed", True, "the state does not have the expected content")
            return found


@register.breaks("FAULT-REP-008")
class RetryDoublesTheWrite(BrokenWire):
    """A write is appended to a log, and sent again when its reply is lost: then it is there twice."""

    class Client(RetryingClient):
        def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
            self.twice(lambda: self.put_once(workspace, data, lock_id))

        def put_once(self, workspace: str, data: bytes, lock_id: str | None) -> None:
            super().put(workspace, data, lock_id=lock_id)

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            same = self.backend.states.get(self.workspace) == data
            super().put(data + data if same else data, lock_id=lock_id)


EMPTY = b"{}"


@register.breaks("FAULT-REP-009")
class LaysAnEmptyStateFirst(BrokenWire):
    """Who locks a state that is not there uploads an empty one first, over what another has written since it
    looked (hashicorp/terraform#26593)."""

    class Client(HttpClient):
        def lock(self, workspace: str, info: LockInfo) -> str:
            if super().get(workspace) is None:
                try:
                    self.put(workspace, EMPTY)
                except Locked as refused:
                    raise Locked("held", holder=refused.holder) from refused
            return super().lock(workspace, info)

        def get(self, workspace: str) -> Snapshot | None:
            found = super().get(workspace)
            return None if found is None or found.data == EMPTY else found


@register.breaks("FAULT-REP-011")
class LeaseWithoutFencing(BrokenWire):
    """A lock is a lease that lapses while its holder is silent and others ask; whoever wrote under it still
    writes afterwards (hashicorp/terraform#30598)."""

    class State(MemoryStateClient):
        asked: ClassVar[Counter[str]] = Counter()

        def lock(self, info: lockinfo.LockInfo) -> str:
            try:
                return super().lock(info)
            except StateLocked as refused:
                holder = refused.holder
                assert holder is not None
                self.asked[holder.ID] += 1
                if self.asked[holder.ID] <= 3:
                    raise
                self.backend.locks.pop(self.workspace, None)
                return super().lock(info)

        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            self.asked.pop(lock_id or "", None)
            super().put(data)
