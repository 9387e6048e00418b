"""The reference backend with its direct Delta locks broken in one way each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable, write_deltalake

from lockproof.driver.databricks import DatabricksDriver
from lockproof.fakes.saboteurs.broken import Register
from tofu_databricks.backend import Backend
from tofu_databricks.locks import LockStore
from tofu_databricks.locks.delta_direct import Attempt, DirectDeltaLocks
from tofu_databricks.locks.delta_rows import Row, Snapshot, batch_of

register = Register(__name__, "locks", "databricks", only=("LOCK-EXCL-001", "LOCK-REL-*", "DBX-LOCK-*"))
SABOTEURS = register.saboteurs


class DirectBackend(Backend):
    """A backend whose lock store is `direct_locks`."""

    direct_locks: type[DirectDeltaLocks] = DirectDeltaLocks

    def open_locks(self) -> LockStore:
        found = super().open_locks()
        if isinstance(found, DirectDeltaLocks):
            found.__class__ = self.direct_locks  # the same store, with other methods
        return found


class DirectBroken(DatabricksDriver):
    """The reference driver's variant `delta-direct`, with `locks` in the place of its own."""

    locks: ClassVar[type[DirectDeltaLocks]] = DirectDeltaLocks

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__({**options, "variant": "delta-direct"})
        self.backend_class = type("BrokenBackend", (DirectBackend,), {"direct_locks": self.locks})


class RenamingLocks(DirectDeltaLocks):
    def _commit(self, snapshot: Snapshot, rows: Sequence[Row], attempt: Attempt) -> bool:
        """Makes version N+1 on a copy of the log up to N and moves its files here, over what is there."""
        self.checkpoint("lock.commit")
        table = Path(unquote(urlsplit(snapshot.table.table_uri).path))
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "copy")
            shutil.copytree(table / "_delta_log", copy / "_delta_log")
            for later in copy.glob("_delta_log/*.json"):
                if int(later.stem) > snapshot.version:
                    later.unlink()
            write_deltalake(copy, batch_of(rows, snapshot.columns), mode="overwrite")
            for new in copy.rglob("*"):
                target = table / new.relative_to(copy)
                if new.is_file() and (not target.exists() or new.stem == f"{snapshot.version + 1:020d}"):
                    shutil.move(new, target)
        self._table = None
        self.checkpoint("lock.committed")
        return True


@register.breaks("DBX-LOCK-009", "DBX-LOCK-003", "LOCK-EXCL-001", "LOCK-REL-004")
class RenamesOverCommits(DirectBroken):
    """A version is put in its place by a rename that replaces another's, as `ALLOW_UNSAFE_RENAME` does."""

    locks = RenamingLocks


class AppendingLocks(DirectDeltaLocks):
    def _commit(self, snapshot: Snapshot, rows: Sequence[Row], attempt: Attempt) -> bool:
        """Appends the row of a claim; the engine rebases it over what others have committed meanwhile."""
        added = [row for row in rows if row not in snapshot.rows]
        if added[0].lock_id is None:
            return super()._commit(snapshot, rows, attempt)
        self.checkpoint("lock.commit")
        write_deltalake(
            DeltaTable(snapshot.table.table_uri), batch_of(added, snapshot.columns), mode="append"
        )
        self.checkpoint("lock.committed")
        return True


@register.breaks("DBX-LOCK-009", "DBX-LOCK-003", "LOCK-EXCL-001", "LOCK-REL-004")
class AppendsWithRetries(DirectBroken):
    """A claim is an append, which Delta engines repeat over the commits of others until it is in."""

    locks = AppendingLocks


class KeyLocks(DirectDeltaLocks):
    def release(self, key: str, lock_id: str) -> None:
        holder = self.holder(key)
        super().release(key, holder.ID if holder else lock_id)


@register.breaks("LOCK-REL-003", "LOCK-REL-002")
class ReleasesDirectlyByKey(DirectBroken):
    """A release frees the key, whoever holds it and whatever id is given."""

    locks = KeyLocks
