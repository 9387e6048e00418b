"""Locks as rows of a Delta table, by a SQL warehouse.

A Databricks primary key excludes nobody: it is informational, and blind INSERTs never conflict
(docs.databricks.com/tables/constraints, …/optimizations/isolation). What excludes here is that a row is there
for each key and that two UPDATEs of one row conflict: the claim is an UPDATE that finds the row free, on a
Serializable table, and a read afterwards that finds nobody else in any row of the key. Should two first
claims seed the key twice, the claim covers all of its rows, and the read catches a row that was seeded by a
statement so late that the claim had not seen it.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from tofu_databricks.errors import (
    BackendError,
    ConfigError,
    InvalidRequest,
    LockMismatch,
    LockNotHeld,
    LockTableMissing,
    PermissionDenied,
    StateLocked,
    Unavailable,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks.delta_rows import holder_in_row
from tofu_databricks.locks.warehouse import Rows, SqlError, Warehouse
from tofu_databricks.seams import Checkpoint, Clock, SystemClock, no_checkpoint

LOST_RACES = ("2D521", "42P07")
"""SQLSTATEs of a conflict with another commit, and of a table that somebody else has just created."""
ROUNDS = 10
"""How often a statement may lose a race without a holder to show for it before we give up."""
FIRST_WAIT = 0.2
LONGEST_WAIT = 3.0


class DeltaLocks:
    """The `LockStore` on a Delta table `catalog.schema.table`; safe for threads.

    In the uncontended case an acquisition is one UPDATE and one SELECT, a release one UPDATE.
    """

    columns = "lock_key STRING NOT NULL, lock_id STRING, info STRING, changed_at TIMESTAMP"
    kept = ""
    """What else a claim sets, after a comma: a table without it grants no lock."""

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        catalog: str,
        schema: str,
        table: str,
        create_table: bool = True,
        clock: Clock | None = None,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self.warehouse = warehouse
        self.name = f"{catalog}.{schema}.{table}"
        self.create_table = create_table
        self.clock = clock or SystemClock()
        self.checkpoint = checkpoint
        self._schema = f"{_quoted(catalog)}.{_quoted(schema)}"
        self._table = f"{self._schema}.{_quoted(table)}"

    def acquire(self, key: str, info: LockInfo) -> str:
        """See `LockStore.acquire`. A conflict is a lost race, never a failure of its own."""
        if not info.ID:
            raise InvalidRequest("a lock ID must be text that is not empty")
        uncertain = False
        for turn in range(ROUNDS):
            claim = self._claim(key, info)
            uncertain = uncertain or claim.resent or claim.won
            try:
                rows = self._rows(key)
            except BackendError as failure:
                failure.definite = False  # the claim may have won
                raise
            if not rows:
                self._seed(key)
                continue
            holders = _holders(rows)
            others = [holder for holder in holders if holder.ID != info.ID]
            ours = len(others) < len(holders)
            if ours and not others:
                return info.ID
            if others:
                if ours:
                    self._withdraw(key, info.ID)
                error = StateLocked(holder=others[0])
                if uncertain:
                    error.definite = False
                raise error
            if claim.won:
                # Claiming again would undo the work of whoever forced the lock.
                text = f"the lock {info.ID} was taken, and forced before that could be confirmed"
                raise Unavailable(text, definite=False)
            self._wait(turn)
        raise StateLocked(holder=None)

    def release(self, key: str, lock_id: str) -> None:
        """See `LockStore.release`. A release that ran twice, because its reply was lost or somebody on the
        way delivered it again, finds its own trace in the row: that is success, whoever holds it now."""
        trace = json.dumps({"released": str(uuid.uuid4())})
        values = {"k": key, "id": lock_id, "trace": f"\n{trace}"}
        resent = False
        for turn in range(ROUNDS):
            done = self._write("lock.release", self._free(), values)
            if done.number("num_affected_rows"):
                return
            resent = resent or done.resent
            try:
                rows = self._rows(key)
            except BackendError as failure:
                failure.definite = False  # an earlier delivery may have freed it
                raise
            if any((info or "").endswith(trace) for _, info in rows):
                return
            holders = _holders(rows)
            if all(holder.ID != lock_id for holder in holders):
                break
            self._wait(turn)  # it began from a table older than the claim, and changed nothing
        else:
            raise Unavailable(f"the lock {lock_id} is still held: no release of it gets through")
        if resent:
            now = f"is now held under ID {holders[0].ID}" if holders else "is free now"
            raise Unavailable(
                f"the reply to the release of lock {lock_id} was lost; the lock {now}", definite=False
            )
        raise LockMismatch(holder=holders[0]) if holders else LockNotHeld("nobody holds the lock")

    def holder(self, key: str) -> LockInfo | None:
        """See `LockStore.holder`."""
        holders = _holders(self._rows(key))
        return holders[0] if holders else None

    def prepare(self) -> None:
        """See `LockStore.prepare`. Creates the table where it is missing, but no schema; several may do so.

        Raises `ConfigError` where there is no such schema or catalog.
        """
        for turn in range(ROUNDS):
            try:
                self._run(
                    "lock.look", f"SELECT lock_key, lock_id, info FROM {self._table} LIMIT 0", read_only=True
                )
                return
            except LockTableMissing:
                if not self.create_table:
                    raise LockTableMissing(
                        f"the lock table {self.name} is missing and create_lock_table is off; "
                        f"create it with: {self.ddl()}"
                    ) from None
            self._make(self.ddl(), f"the lock table {self.name}", turn)
        raise Unavailable(f"the lock table {self.name} keeps being created by somebody else")

    def close(self) -> None:
        """See `LockStore.close`. There are no connections of its own."""

    def ddl(self) -> str:
        """What makes the lock table, as one line of SQL."""
        return (
            f"CREATE TABLE IF NOT EXISTS {self._table} ({self.columns}) "
            "TBLPROPERTIES ('delta.isolationLevel' = 'Serializable')"
        )

    def _make(self, statement: str, what: str, turn: int) -> None:
        """Runs a statement that makes `what`, which somebody else may be making at the same time."""
        try:
            self._run("lock.create", statement, read_only=False)
        except _Lost:
            self._wait(turn)
        except PermissionDenied as error:
            raise LockTableMissing(
                f"{what} is missing and you may not create it ({error}); let an administrator run: "
                f"{statement}"
            ) from error

    # --- statements ---

    def _claim(self, key: str, info: LockInfo) -> _Claim:
        """Sends the claim; whether it holds the lock, only the rows can tell. It keeps the trace of the last
        release behind the new info."""
        statement = (
            f"UPDATE {self._table} SET lock_id = :id, info = concat(:info, coalesce(info, '')), "
            f"changed_at = current_timestamp(){self.kept} "
            "WHERE lock_key = :k AND lock_id IS NULL AND NOT EXISTS "
            f"(SELECT 1 FROM {self._table} x WHERE x.lock_key = :k AND x.lock_id IS NOT NULL)"
        )
        values = {"k": key, "id": info.ID, "info": json.dumps(asdict(info))}
        try:
            done = self._attempt("lock.acquire", statement, values)
        except _Lost as lost:
            return _Claim(won=False, resent=lost.resent)
        except Unavailable as error:
            if error.definite:
                raise
            text = f"{error}; should the lock be taken after all, it is held under ID {info.ID}"
            raise Unavailable(text, definite=False) from error
        return _Claim(won=done.number("num_affected_rows") > 0, resent=done.resent)

    def _seed(self, key: str) -> None:
        """A free row for the key where there is none; a lost race is as good."""
        statement = (
            f"MERGE INTO {self._table} t USING (SELECT :k AS lock_key) s ON t.lock_key = s.lock_key "
            "WHEN NOT MATCHED THEN INSERT (lock_key, lock_id, info, changed_at) "
            "VALUES (s.lock_key, NULL, NULL, current_timestamp())"
        )
        try:
            self._attempt("lock.seed", statement, {"k": key})
        except _Lost:
            return

    def _withdraw(self, key: str, lock_id: str) -> None:
        """Gives back what another holds, too; if that fails, nobody knows what was left."""
        try:
            self._write("lock.withdraw", self._free(), {"k": key, "id": lock_id, "trace": None})
        except BackendError as error:
            error.definite = False
            raise

    def _free(self) -> str:
        return (
            f"UPDATE {self._table} SET lock_id = NULL, info = :trace, changed_at = current_timestamp() "
            "WHERE lock_key = :k AND lock_id = :id"
        )

    def _rows(self, key: str) -> list[tuple[str | None, str | None]]:
        """Lock id and info of every row of the key."""
        statement = f"SELECT lock_id, info FROM {self._table} WHERE lock_key = :k"
        rows = self._attempt("lock.read", statement, {"k": key}, read_only=True)
        return [(cells[0], cells[1]) for cells in rows.cells]

    def _write(self, step: str, statement: str, values: Mapping[str, str | None]) -> Rows:
        """A write that has to go through, whatever else is written to the table."""
        resent = False
        for turn in range(ROUNDS):
            try:
                done = self._attempt(step, statement, values)
            except _Lost as lost:
                resent = resent or lost.resent
                self._wait(turn)
                continue
            except BackendError as error:
                if resent:
                    error.definite = False
                raise
            return Rows(done.columns, done.cells, resent or done.resent)
        raise Unavailable(
            f"the lock table {self.name} is written by so many that no statement got through",
            definite=not resent,
        )

    def _attempt(
        self, step: str, statement: str, values: Mapping[str, str | None], *, read_only: bool = False
    ) -> Rows:
        """Once; and once more when the table had to be created first."""
        try:
            return self._run(step, statement, values, read_only=read_only)
        except LockTableMissing:
            self.prepare()
        return self._run(step, statement, values, read_only=read_only)

    def _run(
        self,
        step: str,
        statement: str,
        values: Mapping[str, str | None] | None = None,
        *,
        read_only: bool = False,
    ) -> Rows:
        self.checkpoint(step)
        try:
            return self.warehouse.run(
                statement, values, read_only=read_only, what=f"the lock table {self.name}"
            )
        except SqlError as error:
            if error.sql_state in LOST_RACES:
                raise _Lost(error.resent) from error
            raise self._refusal(error) from error

    def _refusal(self, error: SqlError) -> BackendError:
        if error.sql_state == "42704":
            return ConfigError(
                f"the lock table {self.name} has no place: {error}; lock_schema names its schema"
            )
        if error.sql_state == "42P01":
            return LockTableMissing(f"the lock table {self.name} is missing")
        if error.sql_state == "42501":
            return PermissionDenied(f"the lock table {self.name}: {error}")
        if error.sql_state in ("42703", "42K09"):
            return ConfigError(
                f"the lock table {self.name} is not one of ours ({error}); name another as lock_table"
            )
        return Unavailable(f"the lock table {self.name}: {error}")

    def _wait(self, turn: int) -> None:
        self.clock.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2.0**turn) * random.uniform(0.5, 1.5))


class _Claim(NamedTuple):
    """What became of a claim: it changed a row, and it was sent more than once."""

    won: bool
    resent: bool


class _Lost(Exception):
    """A concurrent commit was in the way (SQLSTATE 2D521): nothing was written, unless by an earlier delivery
    of the same statement (`resent`)."""

    def __init__(self, resent: bool) -> None:
        self.resent = resent


def _holders(rows: Sequence[tuple[str | None, str | None]]) -> list[LockInfo]:
    """Who holds, each once."""
    found = {lock_id: holder_in_row(lock_id, info) for lock_id, info in rows if lock_id is not None}
    return list(found.values())


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
