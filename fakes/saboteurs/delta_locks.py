"""The reference backend with its locks on a Delta table broken in one way each: what people write first."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import ClassVar

from lockproof.driver.databricks import DatabricksDriver
from lockproof.fakes.saboteurs.broken import Register
from tofu_databricks.backend import Backend
from tofu_databricks.client import StateClient
from tofu_databricks.errors import BackendError, LockTableMissing, StateLocked, Unavailable
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore
from tofu_databricks.locks.delta import DeltaLocks
from tofu_databricks.locks.warehouse import Rows, SqlError

register = Register(
    __name__,
    "locks",
    "databricks",
    only=("LOCK-EXCL-001", "LOCK-REL-002", "LOCK-REL-003", "DBX-LOCK-*", "DBX-COST-*"),
)
SABOTEURS = register.saboteurs
VARIANTS = register.variants


class LockingBackend(Backend):
    """A backend whose lock store is `delta_locks`."""

    delta_locks: type[DeltaLocks] = DeltaLocks

    def open_locks(self) -> LockStore:
        found = super().open_locks()
        if isinstance(found, DeltaLocks):
            found.__class__ = self.delta_locks  # the same store, with other methods
        return found


class DeltaBroken(DatabricksDriver):
    """The reference driver's variant `delta`, with `locks` and `client` in the place of its own."""

    locks: ClassVar[type[DeltaLocks]] = DeltaLocks
    client: ClassVar[type[StateClient]] = StateClient

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__({**options, "variant": "delta"})
        parts = {"delta_locks": self.locks, "client_class": self.client}
        self.backend_class = type("BrokenBackend", (LockingBackend,), parts)


class InsertingLocks(DeltaLocks):
    """A lock is a row of its own, which the release deletes."""

    def _insert(self, key: str, info: LockInfo, condition: str = "") -> Rows:
        """Inserts the lock's row, where `condition` is given only if there is none for the key."""
        row = ":k, :id, :info, current_timestamp()"
        source = f"SELECT {row} WHERE {condition}" if condition else f"VALUES ({row})"
        values = {"k": key, "id": info.ID, "info": json.dumps(asdict(info))}
        return self._write("lock.acquire", f"INSERT INTO {self._table} {source}", values)

    def _free(self) -> str:
        return f"DELETE FROM {self._table} WHERE lock_key = :k AND lock_id = :id"


class KeyedLocks(InsertingLocks):
    def ddl(self) -> str:
        return super().ddl().replace("changed_at TIMESTAMP)", "changed_at TIMESTAMP, PRIMARY KEY (lock_key))")

    def acquire(self, key: str, info: LockInfo) -> str:
        try:
            self._insert(key, info)
        except Unavailable as error:
            raise StateLocked(holder=self.holder(key)) from error
        return info.ID


@register.breaks(
    "LOCK-EXCL-001", "LOCK-REL-002", "LOCK-REL-003", "DBX-LOCK-003", "DBX-LOCK-004", "DBX-LOCK-009"
)
class TrustsThePrimaryKey(DeltaBroken):
    """The RFC's own design: an INSERT that a primary key is to refuse, which Databricks does not enforce."""

    locks = KeyedLocks


class LookingLocks(InsertingLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        holder = self.holder(key)
        if holder is None:
            self._insert(key, info)
        elif holder.ID != info.ID:
            raise StateLocked(holder=holder)
        return info.ID


@register.breaks("DBX-LOCK-009", "DBX-LOCK-003")
class LooksThenInserts(DeltaBroken):
    """A SELECT that finds no lock is followed by an INSERT, as if nothing could happen in between."""

    locks = LookingLocks


class SeedingLocks(InsertingLocks):
    made_table = False

    def ddl(self) -> str:
        return super().ddl().replace("'Serializable'", "'WriteSerializable'")

    def prepare(self) -> None:
        super().prepare()
        self.made_table = True

    def acquire(self, key: str, info: LockInfo) -> str:
        unheld = f"NOT EXISTS (SELECT 1 FROM {self._table} x WHERE x.lock_key = :k)"
        try:
            self._run("lock.look", f"SELECT 1 FROM {self._table} LIMIT 0", read_only=True)
        except LockTableMissing:
            self.prepare()
        self._insert(key, info, "" if self.made_table else unheld)
        self.made_table = False
        holder = self.holder(key)
        if holder is None or holder.ID != info.ID:
            raise StateLocked(holder=holder)
        return info.ID


@register.breaks("DBX-LOCK-009", "DBX-COST-004", "LOCK-REL-002", "DBX-LOCK-003")
class SeedsBlindly(DeltaBroken):
    """INSERT … WHERE NOT EXISTS, but who made the table seeds it with its own lock, unconditionally."""

    locks = SeedingLocks


class OptimisticLocks(DeltaLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        statement = (
            f"MERGE INTO {self._table} t USING (SELECT :k AS k, :id AS id, :info AS info) s "
            "ON t.lock_key = s.k WHEN MATCHED AND t.lock_id IS NULL "
            "THEN UPDATE SET lock_id = s.id, info = s.info "
            "WHEN NOT MATCHED THEN INSERT (lock_key, lock_id, info) VALUES (s.k, s.id, s.info)"
        )
        values = {"k": key, "id": info.ID, "info": json.dumps(asdict(info))}
        self._attempt("lock.prepare", f"SELECT 1 FROM {self._table} LIMIT 0", {}, read_only=True)
        try:
            done = self.warehouse.run(statement, values, read_only=False, what="locking")
        except SqlError as error:
            if error.sql_state != "2D521":
                raise self._refusal(error) from error
        else:
            if not done.number("num_affected_rows"):
                holder = self.holder(key)
                if holder is not None and holder.ID != info.ID:
                    raise StateLocked(holder=holder)
        return info.ID


@register.breaks("DBX-LOCK-009")
class TakesAConflictForSuccess(DeltaBroken):
    """A MERGE that lost its race (SQLSTATE 2D521) is taken for one that won."""

    locks = OptimisticLocks


class UnreadLocks(DeltaLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        if not self._rows(key):
            self._seed(key)
        statement = (
            f"UPDATE {self._table} SET lock_id = :id, info = :info WHERE lock_key = :k AND lock_id IS NULL"
        )
        values = {"k": key, "id": info.ID, "info": json.dumps(asdict(info))}
        if not self._write("lock.acquire", statement, values).number("num_affected_rows"):
            raise StateLocked(holder=self.holder(key))
        return info.ID


@register.breaks("DBX-LOCK-003")
class RefusesItselfOnDelta(DeltaBroken):
    """A claim that was sent twice, since its reply was lost, is refused by the row that it wrote itself."""

    locks = UnreadLocks


class ReleasingLocks(DeltaLocks):
    def release(self, key: str, lock_id: str) -> None:
        values = {"k": key, "trace": None}
        self._write("lock.release", self._free().partition(" AND lock_id")[0], values)


@register.breaks("LOCK-REL-003", "LOCK-REL-002")
class ReleasesByKey(DeltaBroken):
    """A release frees the key, whoever holds it."""

    locks = ReleasingLocks


class StatusLocks(DeltaLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        try:
            return super().acquire(key, info)
        except BackendError as error:
            if not isinstance(error.__cause__, SqlError):
                raise
            return info.ID  # the statement failed, its HTTP reply did not


@register.breaks("DBX-LOCK-010")
class TrustsHttpStatus(DeltaBroken):
    """A statement that failed is taken for done, since the HTTP status of its reply is 200."""

    locks = StatusLocks


TOGETHER = threading.Barrier(8)


class FirstLocks(DeltaLocks):
    def prepare(self) -> None:
        try:
            self._run("lock.look", f"SELECT 1 FROM {self._table} LIMIT 0", read_only=True)
        except LockTableMissing:
            if not self.create_table:
                super().prepare()
            try:
                TOGETHER.wait(0.2)  # whoever looks at the same moment sees the same
            except threading.BrokenBarrierError:
                TOGETHER.reset()
            try:
                ddl = self.ddl().replace(" IF NOT EXISTS", "")
                self.warehouse.run(ddl, read_only=False, what="creating the lock table")
            except SqlError as error:
                raise self._refusal(error) from error


@register.breaks("DBX-LOCK-002", "DBX-LOCK-009")
class CreatesTheDeltaTableWithoutCare(DeltaBroken):
    """Who creates the lock table at the same time as another fails."""

    locks = FirstLocks


class SchemalessLocks(DeltaLocks):
    def _run(
        self,
        step: str,
        statement: str,
        values: Mapping[str, str | None] | None = None,
        *,
        read_only: bool = False,
    ) -> Rows:
        values = dict(values or {})
        if values.get("k"):
            top, volumes, catalog, _, rest = str(values["k"]).split("/", 4)
            values["k"] = "/".join((top, volumes, catalog, rest))
        return super()._run(step, statement, values, read_only=read_only)


@register.breaks("DBX-LOCK-008")
class LeavesOutTheSchema(DeltaBroken):
    """The key of a lock is the state's path without the schema."""

    locks = SchemalessLocks


class ThoroughLocks(DeltaLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        self.holder(key)
        return super().acquire(key, info)


@register.breaks("DBX-COST-004")
class LooksTwice(DeltaBroken):
    """Each claim begins with a look that decides nothing."""

    locks = ThoroughLocks


class CarelessClient(StateClient):
    def lock(self, info: LockInfo) -> str:
        return self.locks.acquire(self.path, info)


@register.breaks("DBX-LOCK-007")
class LocksInTwoStores(DeltaBroken):
    """Where others keep the lock of the same state, a second lock store or not, is nobody's concern."""

    client = CarelessClient


class DoublySeedingLocks(DeltaLocks):
    def _seed(self, key: str) -> None:
        statement = f"INSERT INTO {self._table} VALUES (:k, NULL, NULL, current_timestamp())"
        self._write("lock.seed", statement, {"k": key})


@register.correct
class SeedsARowTwice(DeltaBroken):
    """First claims seed their key by INSERTs, which never conflict, so that it may have several rows: a
    claim covers them all."""

    locks = DoublySeedingLocks
