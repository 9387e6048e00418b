"""Locks as rows of a Delta table, written to its storage without a warehouse, by `deltalake` (delta-rs).

The table is the one of `tofu_databricks.locks.delta`, and both may use it at the same time. What excludes
here is the log: version N+1 is a file that is put only where none is. A claim reads version N, finds its key
free, and commits N+1 or nothing, the engine's own retries switched off: an append would be rebased over
another's claim and both would hold the lock. Each commit replaces all rows. That keeps the table in one file,
and it removes what a concurrent UPDATE of a warehouse has read, so that of the two only one commits, whatever
the isolation level (docs.databricks.com/…/optimizations/isolation). Who wrote N+1 is told by a token in its
commit: so a lost reply is known for what it was.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

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
from tofu_databricks.locks.delta_engine import engine, refusal_of
from tofu_databricks.locks.delta_rows import COLUMNS, COLUMNS_WITH_HEAD, EPOCH, Row, Snapshot, batch_of
from tofu_databricks.locks.delta_storage import Access, Storage
from tofu_databricks.reply import one_line
from tofu_databricks.seams import Checkpoint, Clock, SystemClock, no_checkpoint

if TYPE_CHECKING:
    from deltalake import DeltaTable

ROUNDS = 24
"""How many commits of others may come first before we give up."""
RESENDS = 3
"""How often a commit is sent again that failed although no other took its version."""
FIRST_WAIT = 0.02
LONGEST_WAIT = 1.0
KEEP_SECONDS = 60.0
"""How long a handle follows the log before the table is opened anew: it may have been made anew meanwhile."""
VACUUM_EVERY = 200
TOKEN = "lockAttempt"
PROPERTIES = {
    "delta.isolationLevel": "Serializable",
    "delta.enableDeletionVectors": "false",
    "delta.enableRowTracking": "false",
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 1 days",
}
"""What the table is made with: nothing that the engine cannot write, and a log that stays short."""
WRITABLE = frozenset(
    {"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "timestampNtz"}
)
"""Writer features that the engine keeps to; deletion vectors and column mapping it overwrites, wrongly."""


class DirectDeltaLocks:
    """The `LockStore` on the storage of the Delta table `name`; safe for threads, one at a time.

    An acquisition is one look at the log, one read of the table's one file and one commit.
    """

    columns: Mapping[str, str] = COLUMNS

    def __init__(
        self,
        storage: Storage,
        *,
        name: str,
        create_table: bool = True,
        clock: Clock | None = None,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self.storage = storage
        self.name = name
        self.create_table = create_table
        self.clock = clock or SystemClock()
        self.checkpoint = checkpoint
        self._mutex = threading.RLock()
        self._table: DeltaTable | None = None
        self._known: Snapshot | None = None
        self._opened_with: Access | None = None
        self._opened_at = 0.0

    def acquire(self, key: str, info: LockInfo) -> str:
        """See `LockStore.acquire`. Another's commit is a lost race: it is looked at and tried again."""
        if not info.ID:
            raise InvalidRequest("a lock ID must be text that is not empty")
        if not _storable(info.ID):
            raise InvalidRequest("a lock ID must be text that can be encoded")

        def claim(snapshot: Snapshot) -> list[Row] | None:
            holders = snapshot.holders(key)
            others = [holder for holder in holders if holder.ID != info.ID]
            if others:
                raise StateLocked(holder=others[0])
            if holders:
                return None
            mine = Row(key, info.ID, json.dumps(asdict(info)), self._now(), snapshot.head(key))
            return [*snapshot.others(key), mine]

        self._change("lock.acquire", claim)
        return info.ID

    def release(self, key: str, lock_id: str) -> None:
        """See `LockStore.release`."""

        def free(snapshot: Snapshot) -> list[Row]:
            holders = snapshot.holders(key)
            others = [holder for holder in holders if holder.ID != lock_id]
            if len(others) == len(holders):
                raise LockMismatch(holder=others[0]) if others else LockNotHeld("nobody holds the lock")
            kept = [row for row in snapshot.rows if row.lock_key != key or row.lock_id not in (lock_id, None)]
            return [*kept, Row(key, None, None, self._now(), snapshot.head(key))]

        self._change("lock.release", free)

    def holder(self, key: str) -> LockInfo | None:
        """See `LockStore.holder`."""
        with self._mutex:
            self.checkpoint("lock.read")
            holders = self._snapshot().holders(key)
        return holders[0] if holders else None

    def prepare(self) -> None:
        """See `LockStore.prepare`."""
        with self._mutex:
            self._snapshot()

    def close(self) -> None:
        """See `LockStore.close`."""
        with self._mutex:
            self._table = None

    def ddl(self, location: str = "") -> str:
        """What makes the lock table, as one line of SQL."""
        names = ".".join("`" + part.replace("`", "``") + "`" for part in self.name.split("."))
        columns = ", ".join(f"{name} {kind.upper()}" for name, kind in self.columns.items())
        columns = columns.replace("lock_key STRING", "lock_key STRING NOT NULL")
        properties = ", ".join(f"'{key}' = '{value}'" for key, value in PROPERTIES.items())
        return (
            f"CREATE TABLE IF NOT EXISTS {names} ({columns}) USING DELTA "
            f"LOCATION '{location or 's3://BUCKET/PATH'}' "
            f"TBLPROPERTIES ({properties})"
        )

    # --- changes ---

    def _change(self, step: str, change: Callable[[Snapshot], list[Row] | None]) -> None:
        """Commits `change(snapshot)`, the rows to be, on top of the newest version; `None`: nothing to do."""
        attempt = Attempt(str(uuid.uuid4()))
        for turn in range(ROUNDS):
            with self._mutex:
                try:
                    self.checkpoint(step)
                    snapshot = self._snapshot()
                    if self._landed(snapshot, attempt):
                        return
                    rows = change(snapshot)
                    if rows is None or self._commit(snapshot, rows, attempt):
                        return
                except BackendError as error:
                    if attempt.unresolved:
                        error.definite = False
                    raise
            self.clock.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2.0**turn) * random.uniform(0.5, 1.5))
        raise Unavailable(
            f"the lock table {self.name} is written by so many that no commit got through",
            definite=not attempt.unresolved,
        )

    def _commit(self, snapshot: Snapshot, rows: Sequence[Row], attempt: Attempt) -> bool:
        """Whether version N+1 is ours. False: it is not, or not yet known to be."""
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import DeltaError

        self._check(snapshot.table)
        self.checkpoint("lock.commit")
        attempt.begin(snapshot.version + 1)
        try:
            write_deltalake(
                snapshot.table,
                batch_of(sorted(rows, key=lambda row: row.lock_key), snapshot.columns),
                mode="overwrite",
                commit_properties=CommitProperties(
                    custom_metadata={TOKEN: attempt.token}, max_commit_retries=0
                ),
            )
            self.checkpoint("lock.committed")
        except (DeltaError, OSError) as error:
            self._table = None
            attempt.failures += 1
            refusal = self._refusal(error)
            if isinstance(refusal, PermissionDenied):
                attempt.end()
                raise refusal from error
            if attempt.failures > RESENDS:
                raise refusal from error
            return False
        attempt.end()
        if (snapshot.version + 1) % VACUUM_EVERY == 0:
            self._vacuum(snapshot.table)
        return True

    def _landed(self, snapshot: Snapshot, attempt: Attempt) -> bool:
        """Whether the commit that was sent is in the log. Another's in its place is the end of it."""
        if attempt.version is None or snapshot.version < attempt.version:
            return False
        with self._engine_errors():
            made = snapshot.table.history(snapshot.version - attempt.version + 1)
        found = any(
            item.get("version") == attempt.version and item.get(TOKEN) == attempt.token for item in made
        )
        attempt.end()
        return found

    def _vacuum(self, table: DeltaTable) -> None:
        """Removes files that were replaced a day ago. The lock is held or freed already: this may fail."""
        from deltalake.exceptions import DeltaError

        with contextlib.suppress(DeltaError, OSError):
            table.vacuum(dry_run=False)

    # --- the table ---

    def _snapshot(self) -> Snapshot:
        """The newest version; the table is made when it is missing and may be made."""
        for _ in range(ROUNDS):
            try:
                table = self._newest()
            except LockTableMissing:
                self._create()
                continue
            version = int(table.version())
            if self._known is None or self._known.table is not table or self._known.version != version:
                columns = self._columns(table)
                self._known = Snapshot(table, version, self._rows(table, columns), columns)
            return self._known
        raise Unavailable(f"the lock table {self.name} keeps being created by somebody else")

    def _newest(self) -> DeltaTable:
        deltalake = engine()
        access = self.storage.access()
        with self._engine_errors():
            table: DeltaTable | None = self._table
            kept = self.clock.monotonic() - self._opened_at <= KEEP_SECONDS
            if table is not None and kept and access == self._opened_with:
                table.update_incremental()
                return table
            opened: DeltaTable = deltalake.DeltaTable(access.location, storage_options=dict(access.options))
        self._table, self._opened_with, self._opened_at = opened, access, self.clock.monotonic()
        return opened

    def _rows(self, table: DeltaTable, wanted: Mapping[str, str]) -> list[Row]:
        from deltalake import QueryBuilder

        names = ", ".join(wanted)
        with self._engine_errors():
            query = QueryBuilder().register("locks", table)
            found = query.execute(f"SELECT {names} FROM locks").read_all().combine_chunks()
        columns: list[Any] = [column.to_pylist() if column.num_chunks else [] for column in found.columns]
        return [Row(*cells) for cells in zip(*columns, strict=True)]

    def _create(self) -> None:
        """Version 0, unless somebody else makes it at the same time."""
        deltalake = engine()
        access = self.storage.access() if self.storage.creates else Access("")
        if not self.create_table:
            raise LockTableMissing(
                f"the lock table {self.name} is missing and create_lock_table is off; "
                f"create it with: {self.ddl(access.location)}"
            )
        if not self.storage.creates:
            raise LockTableMissing(
                f"the lock table {self.name} is missing, and direct locks make none without lock_location; "
                f"set it, or let an administrator run: {self.ddl()}"
            )
        self.checkpoint("lock.create")
        fields = [
            {"name": name, "type": kind, "nullable": name != "lock_key", "metadata": {}}
            for name, kind in self.columns.items()
        ]
        schema = deltalake.Schema.from_json(json.dumps({"type": "struct", "fields": fields}))
        try:
            deltalake.DeltaTable.create(
                access.location,
                schema,
                configuration=PROPERTIES,
                storage_options=dict(access.options),
                raise_if_key_not_exists=False,
            )
        except deltalake.exceptions.CommitFailedError:
            return
        except (deltalake.exceptions.DeltaError, OSError) as error:
            if "already exists" not in str(error):
                raise self._refusal(error) from error

    def _columns(self, table: DeltaTable) -> Mapping[str, str]:
        """Name and type of each column. Raises `ConfigError` for a table that is not one of ours."""
        found = {item["name"]: item["type"] for item in json.loads(table.schema().to_json())["fields"]}
        for ours in (COLUMNS, COLUMNS_WITH_HEAD):
            if found == ours:
                return ours
        shown = ", ".join(f"{name} {kind}" for name, kind in found.items())
        raise ConfigError(
            f"the lock table {self.name} is not one of ours (it has {one_line(shown)}); name another as "
            "lock_table or lock_location"
        )

    def _check(self, table: DeltaTable) -> None:
        """Raises `ConfigError` for a table that the engine would not write, or would write wrongly."""
        protocol = table.protocol()
        features = set(protocol.writer_features or ()) - WRITABLE
        settings = table.metadata().configuration
        if settings.get("delta.enableDeletionVectors") == "true":
            features.add("deletionVectors")
        if settings.get("delta.columnMapping.mode", "none") != "none":
            features.add("columnMapping")
        if features or protocol.min_writer_version > 7:
            what = ", ".join(sorted(features)) or f"writer version {protocol.min_writer_version}"
            raise ConfigError(
                f"the lock table {self.name} has features that direct locks cannot write ({what}): create it "
                "as an external table with TBLPROPERTIES ('delta.enableDeletionVectors' = 'false', "
                "'delta.enableRowTracking' = 'false') and no clustering, or use lock_backend = \"delta\""
            )

    @contextlib.contextmanager
    def _engine_errors(self) -> Iterator[None]:
        """Errors of the engine's reads as ours; the table is opened anew after one."""
        from deltalake.exceptions import DeltaError

        try:
            yield
        except (DeltaError, OSError) as error:
            self._table = None
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> BackendError:
        return refusal_of(error, self.name)

    def _now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.clock.now())


class Attempt:
    """What became of the commits of one call, all of which carry its token."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.version: int | None = None
        self.failures = 0

    @property
    def unresolved(self) -> bool:
        """A commit was sent and nobody knows whether it will be there."""
        return self.version is not None

    def begin(self, version: int) -> None:
        self.version = version

    def end(self) -> None:
        self.version = None
        self.failures = 0


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, legal in JSON
        return False
    return True
