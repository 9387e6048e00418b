"""The reference backend with its Delta locks broken in one way each that shows when something goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from lockproof.driver import Capabilities
from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.delta_locks import DeltaBroken, LockingBackend
from lockproof.fakes.saboteurs.direct_locks import DirectBroken
from tofu_databricks.errors import BackendError, StateLocked, Unavailable
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore
from tofu_databricks.locks.delta import DeltaLocks
from tofu_databricks.locks.delta_direct import Attempt, DirectDeltaLocks
from tofu_databricks.locks.delta_rows import Row, Snapshot, holder_in_row
from tofu_databricks.locks.warehouse import Rows, SqlError, Warehouse
from tofu_databricks.reply import Reply
from tofu_databricks.transport import Guard, Transport, decode_object

conflicts = Register(__name__, "faults", only=tuple(f"FAULT-DELTA-00{n}" for n in (1, 2, 3, 4)))
unheard = Register(__name__, "faults", only=tuple(f"FAULT-DELTA-00{n}" for n in (5, 6, 7)))
warehouses = Register(__name__, "faults", only=tuple(f"FAULT-DELTA-0{n}" for n in ("08", "09", "10", "11")))
SABOTEURS = conflicts.saboteurs
unheard.saboteurs = warehouses.saboteurs = SABOTEURS


class LocksBroken(DeltaBroken):
    """It claims no clients in processes of their own, whose tests show nothing else and take longest."""

    def capabilities(self) -> Capabilities:
        return Capabilities(set(super().capabilities()) - {"clients.process"})


class WarehouseBackend(LockingBackend):
    """A backend whose lock store sends its statements through `warehouse_class`."""

    warehouse_class: type[Warehouse] = Warehouse

    def open_locks(self) -> LockStore:
        found = super().open_locks()
        if isinstance(found, DeltaLocks):
            found.warehouse.__class__ = self.warehouse_class
        return found


class WarehouseBroken(DeltaBroken):
    """The variant `delta` with `warehouse` and `transport` in the place of its own."""

    warehouse: ClassVar[type[Warehouse]] = Warehouse
    transport: ClassVar[type[Transport]] = Transport

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        parts = {"warehouse_class": self.warehouse, "transport_class": self.transport}
        self.backend_class = type("BrokenBackend", (WarehouseBackend,), parts)


# --- Commits that conflict


class InsistingLocks(DeltaLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        claim = (
            f"UPDATE {self._table} SET lock_id = :id, info = :info WHERE lock_key = :k AND lock_id IS NULL"
        )
        values = {"k": key, "id": info.ID, "info": json.dumps(asdict(info))}
        if not self._rows(key):
            self._seed(key)
        # `_write` sends it again after a conflict; without its condition the second time
        try:
            done = self.warehouse.run(claim, values, read_only=False, what="locking")
        except SqlError:
            done = self._write("lock.acquire", claim.partition(" AND lock_id")[0], values)
        if not done.number("num_affected_rows"):
            raise StateLocked(holder=self.holder(key))
        return info.ID


@conflicts.breaks("FAULT-DELTA-001", "FAULT-DELTA-004")
class InsistsAfterAConflict(LocksBroken):
    """A claim that lost its race (SQLSTATE 2D521) is sent again, whether the lock is still free or not."""

    locks = InsistingLocks


class ImpatientDirectLocks(DirectDeltaLocks):
    def _change(self, step: str, change: Callable[[Snapshot], list[Row] | None]) -> None:
        with self._mutex:
            self.checkpoint(step)
            snapshot = self._snapshot()
            rows = change(snapshot)
            if rows is not None and not self._commit(snapshot, rows, Attempt("once")):
                raise Unavailable("another committed first")


@conflicts.breaks("FAULT-DELTA-002", "FAULT-DELTA-001")
class GivesUpAtAConflict(DirectBroken):
    """A commit that lost its race is a failure of the call, though the race was about another lock."""

    locks = ImpatientDirectLocks


class NarrowLocks(DeltaLocks):
    def _run(
        self,
        step: str,
        statement: str,
        values: Mapping[str, str | None] | None = None,
        *,
        read_only: bool = False,
    ) -> Rows:
        try:
            return super()._run(step, statement, values, read_only=read_only)
        except Exception as lost:
            if "DELTA_METADATA_CHANGED" in str(lost.__cause__):
                raise Unavailable(f"the lock table {self.name}: {lost.__cause__}") from lost
            raise


@conflicts.breaks("FAULT-DELTA-003")
class FearsUpkeep(DeltaBroken):
    """Only conflicts with other claims are tried again; a property that somebody set meanwhile is fatal."""

    locks = NarrowLocks


class LookingLocks(DeltaLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        rows = self._rows(key)
        if not rows:
            self._seed(key)
        for lock_id, theirs in rows:
            if lock_id is not None:
                raise StateLocked(holder=holder_in_row(lock_id, theirs))
        claim = f"UPDATE {self._table} SET lock_id = :id, info = :info WHERE lock_key = :k"
        self._write("lock.acquire", claim, {"k": key, "id": info.ID, "info": json.dumps(asdict(info))})
        return info.ID


@conflicts.breaks("FAULT-DELTA-004", "FAULT-DELTA-001")
class TrustsItsLook(DeltaBroken):
    """Whether the lock is free is decided by a SELECT, however old what it shows; the UPDATE asks no more."""

    locks = LookingLocks


# --- Statements whose end nobody hears of


class ForgetfulLocks(DeltaLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        try:
            return super().acquire(key, info)
        except Unavailable as error:
            error.definite = True
            raise


@unheard.breaks("FAULT-DELTA-005")
class TakesSilenceForFailure(LocksBroken):
    """A claim whose every reply was lost is reported as failed, while it holds the lock."""

    locks = ForgetfulLocks


class ConfirmingLocks(DeltaLocks):
    claiming = ""

    def acquire(self, key: str, info: LockInfo) -> str:
        self.claiming = info.ID
        lock_id = super().acquire(key, info)
        confirm = f"UPDATE {self._table} SET info = concat(info, '\\nconfirmed') WHERE lock_id = :id"
        self._write("lock.confirm", confirm, {"id": lock_id})
        return lock_id

    def _rows(self, key: str) -> list[tuple[str | None, str | None]]:
        return [
            (lock_id if lock_id == self.claiming or (info or "").endswith("confirmed") else None, info)
            for lock_id, info in super()._rows(key)
        ]


@unheard.breaks("FAULT-DELTA-006", "FAULT-DELTA-005")
class OverlooksGhosts(DeltaBroken):
    """A claim counts once its client has confirmed it; one whose client gave up is nobody's, and stays."""

    locks = ConfirmingLocks


class ReleasingLocks(DeltaLocks):
    def _free(self) -> str:
        return super()._free().partition(" AND lock_id")[0]


@unheard.breaks("FAULT-DELTA-007")
class FreesWhoeverHolds(LocksBroken):
    """A release frees the row of its key; when it comes late, that is another's lock."""

    locks = ReleasingLocks


# --- Warehouses


class ResendingWarehouse(Warehouse):
    sent: tuple[dict[str, Any], bool, str, Guard]

    def _submit(self, body: dict[str, Any], read_only: bool, what: str, guard: Guard) -> Reply:
        self.sent = (body, read_only, what, guard)
        return super()._submit(body, read_only, what, guard)

    def _ended(self, answer: dict[str, Any], what: str) -> dict[str, Any]:
        if answer["status"]["state"] == "PENDING":
            answer = decode_object(super()._submit(*self.sent), what)
        return super()._ended(answer, what)


@warehouses.breaks("FAULT-DELTA-008", "FAULT-DELTA-009", "FAULT-DELTA-010", "FAULT-DELTA-011")
class SendsAgainWhatIsPending(WarehouseBroken):
    """A statement that is PENDING, since its warehouse is cold, is sent once more."""

    warehouse = ResendingWarehouse


class TrustingWarehouse(Warehouse):
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
        except BackendError as error:
            if "did not end within" in str(error):
                error.definite = True
            raise


@warehouses.breaks("FAULT-DELTA-009")
class TakesACancellationForTheEnd(WarehouseBroken):
    """A statement that was to be cancelled is taken to have had no effect, whatever became of it."""

    warehouse = TrustingWarehouse


class CertainWarehouse(Warehouse):
    def _result(self, answer: dict[str, Any], what: str, resent: bool) -> Rows:
        if answer["status"]["state"] == "CANCELED":
            raise SqlError(f"{what}: the statement was cancelled", "")
        return super()._result(answer, what, resent)


@warehouses.breaks("FAULT-DELTA-010")
class TakesCanceledForUndone(WarehouseBroken):
    """A statement that ended as CANCELED, with its warehouse, is taken to have committed nothing."""

    warehouse = CertainWarehouse


class HastyTransport(Transport):
    def pause(self, reply: Reply) -> float | None:
        return None


@warehouses.breaks("FAULT-DELTA-011")
class HurriesThrottledClaims(WarehouseBroken):
    """Retry-After is not looked at: a throttled claim comes again when it likes, for two minutes."""

    transport = HastyTransport
