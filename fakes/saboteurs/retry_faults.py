"""The reference backend with its retries, waits or clocks broken in one way each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import psycopg

from lockproof.driver.databricks import DatabricksDriver
from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.delta_faults import WarehouseBroken
from tofu_databricks.backend import Backend
from tofu_databricks.client import StateClient
from tofu_databricks.errors import Unavailable
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks.connector import LakebaseConnector
from tofu_databricks.locks.lakebase import LakebaseLocks
from tofu_databricks.locks.warehouse import Rows, Warehouse
from tofu_databricks.reply import Reply
from tofu_databricks.transport import Transport

T = TypeVar("T")

counts = Register(__name__, "databricks", only=("DBX-RETRY-007", "DBX-RETRY-008"))
clocks = Register(__name__, "faults", only=("FAULT-CLOCK-*",))
SABOTEURS = counts.saboteurs
clocks.saboteurs = SABOTEURS


class OnLakebase(DatabricksDriver):
    """The variant `lakebase` on a backend of its own, or with `parts` in the place of parts of it."""

    backend: ClassVar[type[Backend]] = Backend
    parts: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__({**options, "variant": "lakebase"})
        self.backend_class = type("BrokenBackend", (self.backend,), dict(self.parts))


class DoublingWarehouse(Warehouse):
    def run(
        self,
        statement: str,
        parameters: Mapping[str, str | None] | None = None,
        *,
        read_only: bool,
        what: str,
    ) -> Rows:
        try:
            return super().run(statement, parameters, read_only=read_only, what=what)
        except Unavailable:
            return super().run(statement, parameters, read_only=read_only, what=what)


@counts.breaks("DBX-RETRY-007")
class RetriesOnTopOfRetries(WarehouseBroken):
    """A statement that went unanswered four times is sent four times more by the layer above, which retries,
    too, as a library may that nobody asked."""

    warehouse = DoublingWarehouse


class StubbornLocks(LakebaseLocks):
    def _retried(self, attempt: Callable[[psycopg.Connection[Any], bool], T]) -> T:
        try:
            return super()._retried(attempt)
        except Unavailable:
            return super()._retried(attempt)


class StubbornBackend(Backend):
    def open_locks(self) -> Any:
        found = super().open_locks()
        if isinstance(found, LakebaseLocks):
            found.__class__ = StubbornLocks
        return found


@counts.breaks("DBX-RETRY-008", "DBX-RETRY-007")
class ReconnectsForEver(OnLakebase):
    """A lost connection is opened eight times, and its statement sent as often."""

    backend = StubbornBackend


class LeasingClient(StateClient):
    """Half an hour after it was taken, a lock is nobody's."""

    def lock(self, info: LockInfo) -> str:
        holder = self.lock_holder()
        if holder is not None and self._age(holder) > 1800:
            self.locks.release(self.path, holder.ID)
        return super().lock(info)

    def _age(self, holder: LockInfo) -> float:
        taken = datetime.fromisoformat(holder.Created.replace("Z", "+00:00")).timestamp()
        return self.volume.transport.clock.now() - taken


@clocks.breaks("FAULT-CLOCK-001")
class LeasesByItsOwnClock(OnLakebase):
    """A lock is a lease of half an hour, and whether it is over says the clock of whoever wants it."""

    parts: ClassVar = {"client_class": LeasingClient}


def undated(reply: Reply) -> Reply:
    """The reply without the server's time."""
    headers = {name: value for name, value in reply.headers.items() if name.lower() != "date"}
    return Reply(reply.status, headers, reply.content)


class LocalTransport(Transport):
    def pause(self, reply: Reply) -> float | None:
        return super().pause(undated(reply))


@clocks.breaks("FAULT-CLOCK-002")
class WaitsByItsOwnClock(OnLakebase):
    """A date in Retry-After is compared with the client's own clock."""

    parts: ClassVar = {"transport_class": LocalTransport}


class LocalConnector(LakebaseConnector):
    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Reply:
        return undated(super()._ask(method, path, body))


class LocalBackend(Backend):
    def connector(self) -> LakebaseConnector:
        return LocalConnector(self.config, self.transport.request, self.clock)


@clocks.breaks("FAULT-CLOCK-003")
class CountsTokensByItsOwnClock(OnLakebase):
    """When a login token ends is compared with the client's own clock: an hour ahead, none is ever good."""

    backend = LocalBackend
