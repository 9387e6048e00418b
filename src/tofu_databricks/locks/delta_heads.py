"""Locks and heads in a Delta table, by a SQL warehouse.

The head is one more column of a lock's row, so that a release and a move of the head change the same row: of
two such UPDATEs at once only one commits (docs.databricks.com/…/optimizations/isolation), and the other is
judged again. Rows that were seeded twice are moved together, or have no head and are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from tofu_databricks.errors import BackendError, LockTableMissing, MalformedReply, Unavailable
from tofu_databricks.locks import Head
from tofu_databricks.locks.delta import ROUNDS, DeltaLocks
from tofu_databricks.locks.delta_rows import holder_in_row
from tofu_databricks.locks.warehouse import SqlError

NO_SUCH_COLUMN = "42703"


class DeltaHeads(DeltaLocks):
    """The `HeadStore` on a Delta table: `DeltaLocks`, and the column `head`."""

    columns = f"{DeltaLocks.columns}, head STRING"
    kept = ", head = head"

    def head(self, key: str, *, confirmed: bool = False) -> Head:
        """See `HeadStore.head`. What the log shows is in the storage: there is nothing to confirm."""
        statement = f"SELECT lock_id, info, head FROM {self._table} WHERE lock_key = :k"
        rows = self._attempt("lock.head", statement, {"k": key}, read_only=True).cells
        holders = [holder_in_row(lock_id, info) for lock_id, info, _ in rows if lock_id is not None]
        heads = {head for _, _, head in rows if head is not None}
        if len(heads) > 1:
            raise MalformedReply(f"the lock table {self.name} has two heads for {key}")
        return Head(holders[0] if holders else None, heads.pop() if heads else None)

    def heads(self, prefix: str) -> Mapping[str, str]:
        """See `HeadStore.heads`."""
        statement = (
            f"SELECT lock_key, head FROM {self._table} WHERE startswith(lock_key, :p) AND head IS NOT NULL"
        )
        rows = self._attempt("lock.heads", statement, {"p": prefix}, read_only=True).cells
        return {str(key): str(head) for key, head in rows}

    def move_head(self, key: str, lock_id: str | None, old: str | None, new: str) -> bool:
        """See `HeadStore.move_head`. One statement; three for a first head without a lock."""
        values = {"k": key, "new": new}
        condition = "lock_key = :k"
        if lock_id is not None:
            values["id"] = lock_id
            condition += " AND lock_id = :id"
        if old is not None:
            values["old"] = old
            condition += " AND head = :old"
        else:
            # a row that was seeded late has no head either: it must not get one beside another's
            condition += (
                " AND head IS NULL AND NOT EXISTS "
                f"(SELECT 1 FROM {self._table} x WHERE x.lock_key = :k AND x.head IS NOT NULL)"
            )
            if lock_id is None:
                self._attempt("lock.look", f"SELECT head FROM {self._table} LIMIT 0", {}, read_only=True)
                self._seed(key)
        statement = (
            f"UPDATE {self._table} SET head = :new, changed_at = current_timestamp() WHERE {condition}"
        )
        return self._write("lock.move", statement, values).number("num_affected_rows") > 0

    def prepare(self) -> None:
        """See `LockStore.prepare`. A table that was made for locks alone gets the column."""
        super().prepare()
        adding = f"ALTER TABLE {self._table} ADD COLUMNS (head STRING)"
        what = f"the column head of the lock table {self.name}"
        for turn in range(ROUNDS):
            try:
                self._run("lock.look", f"SELECT head FROM {self._table} LIMIT 0", read_only=True)
                return
            except ColumnMissing:
                if not self.create_table:
                    raise LockTableMissing(
                        f"{what} is missing and create_lock_table is off; create it with: {adding}"
                    ) from None
            try:
                self._make(adding, what, turn)
            except Unavailable:  # it may be there by now
                self._wait(turn)
        raise Unavailable(f"{what} keeps being created by somebody else")

    def _refusal(self, error: SqlError) -> BackendError:
        if error.sql_state == NO_SUCH_COLUMN and "head" in str(error):
            return ColumnMissing(f"the lock table {self.name} has no column head")
        return super()._refusal(error)


class ColumnMissing(LockTableMissing):
    """The table is of locks alone, and nobody has tried to add the column."""
