"""The Delta tables of a workspace: their stores, their commits, and the one way to commit."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lockproof.fakes.databricks.catalog import Table
from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.identity import Principal
from lockproof.fakes.databricks.sql import arbiter, failures
from lockproof.fakes.databricks.sql.arbiter import Change, Commit, Read, Row, Rules, Sees
from lockproof.fakes.databricks.sql.engine import Column, DeltaStore, EngineError, Raced, Stopwatch

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

DELETION_VECTORS = "delta.enableDeletionVectors"
ISOLATION = "delta.isolationLevel"


@dataclass
class LiveTable:
    """A table's store and what is known of its versions. `times`: commit times on the fake's clock."""

    entry: Table
    store: DeltaStore
    mutex: threading.RLock = field(default_factory=threading.RLock)
    commits: dict[int, Commit] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    authors: dict[int, str] = field(default_factory=dict)

    def commit_at(self, version: int, watch: Stopwatch) -> Commit:
        """What version did; for a writer outside of the warehouses it is read from the two versions."""
        found = self.commits.get(version)
        if found is None:
            found = self.commits[version] = _foreign(self.store, version, watch)
        return found


@dataclass(frozen=True)
class Snapshot:
    """A table as one statement sees it."""

    live: LiveTable
    version: int
    columns: tuple[Column, ...]
    partitions: tuple[str, ...]
    properties: dict[str, str]

    @property
    def full_name(self) -> str:
        return self.live.entry.full_name


class Tables:
    """All tables. Managed ones lie in `root`, which is removed with the workspace when it was made here.

    They share the workspace's mutex: a table is an entry of the catalogue too, and of two mutexes one request
    would take first what another takes last.
    """

    def __init__(self, workspace: FakeWorkspace, root: Path | None = None) -> None:
        self.workspace = workspace
        self._own = None if root else tempfile.TemporaryDirectory(prefix="lockproof-delta-")
        self.root = Path(root or self._own.name)  # type: ignore[union-attr]
        self.storage_options: dict[str, str] = {}
        self._live: dict[str, LiveTable] = {}
        self.mutex = workspace.mutex

    def find(self, full_name: str) -> Table | None:
        found = self.workspace.metastore.objects["table"].get(full_name)
        return found if isinstance(found, Table) else None

    def live(self, entry: Table) -> LiveTable:
        with self.mutex:
            found = self._live.get(entry.table_id)
            if found is None:
                found = LiveTable(entry, self._store(entry.storage_location))
                self._live[entry.table_id] = found
            return found

    def snapshot(
        self, entry: Table, watch: Stopwatch, *, version: int | None = None, lag: int = 0
    ) -> Snapshot:
        """The newest version, or `version`, or the one that was the newest `lag` commits ago."""
        live = self.live(entry)
        if version is None:
            version = max(0, live.store.newest(watch) - lag)
        store = live.store
        return Snapshot(
            live,
            version,
            store.columns(version, watch),
            store.partitions(version, watch),
            store.properties(version, watch),
        )

    def rules(self, snapshot: Snapshot) -> Rules:
        """By the table's properties; without one, deletion vectors are as the workspace makes new tables."""
        fidelity = self.workspace.fidelity
        vectors = snapshot.properties.get(DELETION_VECTORS, str(fidelity.row_level_concurrency))
        serializable = snapshot.properties.get(ISOLATION, "").lower() == "serializable"
        return Rules(
            isolation="Serializable" if serializable else "WriteSerializable",
            row_level=vectors.lower() == "true",
            partitioned=bool(snapshot.partitions),
            phantoms=fidelity.row_level_phantoms,
        )

    # --- the catalogue ---

    def create(
        self,
        full_name: str,
        owner: Principal,
        columns: Sequence[Column],
        watch: Stopwatch,
        *,
        partitions: Sequence[str] = (),
        properties: dict[str, str] | None = None,
        comment: str | None = None,
        location: str | None = None,
        extra: dict[str, object] | None = None,
    ) -> Table:
        """The table with its version 0, or registered over the Delta table that lies at `location`."""
        parent, _, name = full_name.rpartition(".")
        with self.mutex:
            if self.find(full_name):
                raise failures.table_exists(full_name)
            entry = Table("table", full_name, owner.name, 0, owner.name)
            entry.table_type = "EXTERNAL" if location else "MANAGED"
            entry.storage_location = location or f"file://{self.root}/{entry.table_id}"
            live = LiveTable(entry, self._store(entry.storage_location))
            if not (location and live.store.exists()):
                if not columns:
                    raise failures.SqlFailure(
                        "DELTA_TABLE_NOT_FOUND", f"Delta table `{location}` doesn't exist.", "42P01"
                    )
                if entry.storage_location.startswith("file://"):
                    Path(entry.storage_location.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
                live.store.create(columns, partitions, properties or {}, comment, watch)
                self._record(live, 0, Change("CREATE TABLE", metadata=True), owner)
            try:
                made = self.workspace.metastore.create(
                    "table", parent, name, owner, comment=comment, extra=dict(extra or {})
                )
            except ApiError as error:
                raise failures.internal(error.message) from error
            assert isinstance(made, Table)
            made.table_id, made.table_type = entry.table_id, entry.table_type
            made.storage_location = entry.storage_location
            live.entry = made
            self._live[made.table_id] = live
            return made

    def drop(self, entry: Table) -> None:
        """Removes the entry; the files of a managed table, too."""
        with self.mutex:
            self.workspace.metastore.delete("table", entry.full_name)
            live = self._live.pop(entry.table_id, None)
        if entry.table_type == "MANAGED" and live is not None:
            shutil.rmtree(entry.storage_location.removeprefix("file://"), ignore_errors=True)

    def refresh(self, entry: Table) -> None:
        """Notes that something of the entry changed."""
        entry.updated_at = int(self.workspace.clock.time() * 1000)

    # --- committing ---

    def commit(
        self,
        snapshot: Snapshot,
        change: Change,
        write: Callable[[int], int],
        sees: Sees,
        principal: Principal,
        watch: Stopwatch,
        *,
        protocol: bool = False,
    ) -> int:
        """The arbiter's word, then the engine's commit; returns the new version. Raises `Conflict`.

        `write(version)` commits on top of that version, or finds that there is nothing to do. When a writer
        outside of the warehouses was faster, its commit goes to the arbiter and the write is tried again on
        top of it.
        """
        live = snapshot.live
        rules = self.rules(snapshot)
        checked = snapshot.version
        with live.mutex:
            while True:
                if self.find(live.entry.full_name) is not live.entry:
                    raise failures.table_not_found(live.entry.full_name)
                newest = live.store.newest(watch)
                for version in range(checked + 1, newest + 1):
                    arbiter.check(change, live.commit_at(version, watch), rules, live.entry.full_name, sees)
                checked = newest
                try:
                    version = write(newest)
                except Raced:
                    continue
                if version > newest:
                    self._record(live, version, change, principal, protocol=protocol)
                return version

    def _record(
        self, live: LiveTable, version: int, change: Change, principal: Principal, *, protocol: bool = False
    ) -> None:
        live.commits[version] = Commit(version, change, protocol)
        live.times[version] = self.workspace.clock.time()
        live.authors[version] = principal.name
        live.entry.updated_at = int(self.workspace.clock.time() * 1000)
        live.entry.updated_by = principal.name

    def _store(self, location: str) -> DeltaStore:
        return DeltaStore(location, None if location.startswith("file://") else self.storage_options)


def surplus(removed: Sequence[Row], present: Sequence[Row]) -> Counter[Row]:
    """Rows equal to a removed one that came after the snapshot: these have to stay."""
    wanted = Counter(removed)
    found = Counter(row for row in present if row in wanted)
    return found - wanted


def _foreign(store: DeltaStore, version: int, watch: Stopwatch) -> Commit:
    """A commit by a writer outside of the warehouses, such as a client of `deltalake` itself."""
    entry = next((item for item in store.history(watch) if item.get("version") == version), {})
    operation = str(entry.get("operation", "WRITE"))
    try:
        protocols = [str(store.at(number, watch).protocol()) for number in (version - 1, version)]
        metadata = store.columns(version - 1, watch) != store.columns(version, watch) or store.properties(
            version - 1, watch
        ) != store.properties(version, watch)
        before, after = (Counter(store.rows(number, watch)) for number in (version - 1, version))
    except EngineError as error:
        raise failures.internal(str(error)) from error
    removed, added = tuple((before - after).elements()), tuple((after - before).elements())
    mode = entry.get("operationParameters", {}).get("mode")
    appended = entry.get("isBlindAppend", operation == "WRITE" and mode == "Append")
    change = Change(
        operation,
        removed,
        added,
        reads=() if appended or metadata else (Read(whole=True),),
        metadata=metadata,
        rewrites=operation == "OPTIMIZE",
    )
    return Commit(version, change, protocol=protocols[0] != protocols[1])
