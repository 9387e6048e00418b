"""Locks and heads in a Delta table, written to its storage without a warehouse.

A move of the head is one commit on the version at which the lock was held and the head was the old one, like
every change of `tofu_databricks.locks.delta_direct`; the table is the one of `…locks.delta_heads`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tofu_databricks.errors import LockTableMissing, PermissionDenied, Unavailable
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import Head
from tofu_databricks.locks.delta_direct import ROUNDS, DirectDeltaLocks
from tofu_databricks.locks.delta_rows import COLUMNS_WITH_HEAD, Row, Snapshot


class DirectDeltaHeads(DirectDeltaLocks):
    """The `HeadStore` on the storage of a Delta table: `DirectDeltaLocks`, and the column `head`."""

    columns = COLUMNS_WITH_HEAD

    def acquire(self, key: str, info: LockInfo) -> str:
        """See `LockStore.acquire`. A table without the column grants no lock: no write could follow."""
        self.prepare()
        return super().acquire(key, info)

    def head(self, key: str, *, confirmed: bool = False) -> Head:
        """See `HeadStore.head`. What the log shows is in the storage: there is nothing to confirm."""
        with self._mutex:
            self.checkpoint("lock.head")
            snapshot = self._snapshot()
            holders = snapshot.holders(key)
            return Head(holders[0] if holders else None, snapshot.head(key))

    def heads(self, prefix: str) -> Mapping[str, str]:
        """See `HeadStore.heads`."""
        with self._mutex:
            self.checkpoint("lock.heads")
            rows = self._snapshot().rows
        return {row.lock_key: row.head for row in rows if row.head and row.lock_key.startswith(prefix)}

    def move_head(self, key: str, lock_id: str | None, old: str | None, new: str) -> bool:
        """See `HeadStore.move_head`. An earlier commit whose reply was lost is known by its token."""
        self.prepare()
        moved = True

        def move(snapshot: Snapshot) -> list[Row] | None:
            nonlocal moved
            held = lock_id is None or [holder.ID for holder in snapshot.holders(key)] == [lock_id]
            moved = held and snapshot.head(key) == old
            if not moved:
                return None
            rows = [row for row in snapshot.rows if row.lock_key == key]
            rows = rows or [Row(key, None, None, None)]
            return [*snapshot.others(key), *(row._replace(head=new, changed_at=self._now()) for row in rows)]

        self._change("lock.move", move)
        return moved

    def prepare(self) -> None:
        """See `LockStore.prepare`. A table that was made for locks alone gets the column."""
        for _ in range(ROUNDS):
            with self._mutex:
                snapshot = self._snapshot()
                if snapshot.columns == COLUMNS_WITH_HEAD:
                    return
                self._add_column(snapshot)
        raise Unavailable(
            f"the column head of the lock table {self.name} keeps being created by somebody else"
        )

    def _add_column(self, snapshot: Snapshot) -> None:
        """One commit; a lost race shows when the table is looked at again."""
        from deltalake import Field
        from deltalake.exceptions import DeltaError
        from deltalake.schema import PrimitiveType

        names = ".".join("`" + part.replace("`", "``") + "`" for part in self.name.split("."))
        adding = f"ALTER TABLE {names} ADD COLUMNS (head STRING)"
        if not self.create_table:
            raise LockTableMissing(
                f"the lock table {self.name} has no column head and create_lock_table is off; "
                f"create it with: {adding}"
            )
        self._check(snapshot.table)
        self.checkpoint("lock.create")
        self._table = None
        try:
            snapshot.table.alter.add_columns([Field("head", PrimitiveType("string"), nullable=True)])
        except (DeltaError, OSError) as error:
            refusal = self._refusal(error)
            if isinstance(refusal, PermissionDenied):
                raise refusal from error
