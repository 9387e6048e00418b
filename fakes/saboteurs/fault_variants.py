"""Correct backends that meet a broken network in unusual but legal ways: the suite must fail none of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from lockproof.driver.api import LockInfo
from lockproof.driver.errors import DriverError, Locked, LockMismatch, NotLocked
from lockproof.driver.http import HttpClient, dump
from lockproof.driver.http_outcome import holder_of, refusal
from lockproof.fakes.drivers.memory_backend import MemoryStateClient
from lockproof.fakes.saboteurs.broken_wire import BrokenWire, Register
from tofu_databricks import lockinfo
from tofu_databricks.errors import LockMismatch as Mismatch
from tofu_databricks.errors import StateLocked
from tofu_databricks.gateway import GatewayApp
from tofu_databricks.gateway.app import StateClient
from tofu_databricks.gateway.replies import lock_info

register = Register(
    __name__,
    *(f"FAULT-NET-0{number}" for number in ("01", "02", "05", "10")),
    *(f"FAULT-REP-0{number}" for number in ("06", "07", "08", "09", "11")),
)
VARIANTS = register.variants
SLOW = 0.01


@register.correct
class OwnIdsOnSlowLinks(BrokenWire):
    """The server chooses the ids of locks, tells them in its reply, and takes its time for each; what
    others answer with 423 it answers with 409."""

    class App(GatewayApp):
        async def respond(self, request: Request) -> Response:
            await asyncio.sleep(SLOW)
            response = await super().respond(request)
            await asyncio.sleep(SLOW)
            return response

        async def lock(self, request: Request, workspace: str, client: StateClient) -> Response:
            asked = lockinfo.LockInfo.from_json(await request.body())
            own = replace(asked, ID=f"lock-{uuid4().hex}")
            try:
                client.lock(own)
            except StateLocked as refused:
                return lock_info(409, refused.holder or asked)
            return lock_info(200, own)

    class Client(HttpClient):
        def lock(self, workspace: str, info: LockInfo) -> str:
            reply = self.send(self.settings.lock_method, self.settings.lock_address, workspace, dump(info))
            if reply.status_code == 409:
                raise Locked("held", holder=holder_of(reply))
            if reply.status_code != 200:
                raise refusal("lock", reply, write=True)
            return str(json.loads(reply.content)["ID"])


@register.correct
class RefusesWhatIsRepeated(BrokenWire):
    """A request that is sent again is refused: LOCK by the id that holds the lock, UNLOCK by the id that was
    just released, a write of what is stored already."""

    class App(GatewayApp):
        async def lock(self, request: Request, workspace: str, client: StateClient) -> Response:
            client.lock(lockinfo.LockInfo.from_json(await request.body()))
            return Response(status_code=200)

        async def unlock(self, request: Request, workspace: str, client: StateClient) -> Response:
            client.unlock(lockinfo.LockInfo.from_json(await request.body()).ID)
            return Response(status_code=200)

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            if lock_id is not None and self.backend.states.get(self.workspace) == data:
                raise Mismatch("the state is that already")
            super().put(data, lock_id=lock_id)


@register.correct
class MakesLostRepliesGood(BrokenWire):
    """A client that hears nothing asks again, and knows what it did itself by id and content; what it cannot
    find out it leaves open."""

    class Client(HttpClient):
        def lock(self, workspace: str, info: LockInfo) -> str:
            try:
                return super().lock(workspace, info)
            except DriverError as error:
                if error.definite:
                    raise
            try:
                return super().lock(workspace, info)
            except Locked as refused:
                if refused.holder is None or refused.holder.ID != info.ID:
                    raise DriverError("unavailable", False, "the lock is another's by now") from refused
                return info.ID

        def unlock(self, workspace: str, lock_id: str) -> None:
            try:
                super().unlock(workspace, lock_id)
            except DriverError as error:
                if error.definite:
                    raise
                try:
                    super().unlock(workspace, lock_id)
                except (LockMismatch, NotLocked) as refused:
                    raise DriverError("unavailable", False, "the lock is free by now") from refused
