"""Which concurrent commits exclude each other: Databricks' conflict matrix.

A statement takes a snapshot when it starts. Before its change is written, every commit made since then is
held against it here, oldest first, in the order of Delta's own `ConflictChecker.checkConflicts`
(delta-io/delta spark/src/main/scala/org/apache/spark/sql/delta/ConflictChecker.scala): protocol, metadata,
added data, then deleted data.

The matrix, docs.databricks.com/aws/en/optimizations/isolation/row-level-concurrency and …/isolation-level:

* INSERT without a subquery on its own table reads nothing, so it never conflicts; one with such a subquery
  behaves like MERGE.
* UPDATE, DELETE, MERGE against rows that a blind INSERT added: no conflict in WriteSerializable; in
  Serializable a conflict, with row-level concurrency only for rows that the statement would have read.
* UPDATE, DELETE, MERGE against each other: in both levels; with row-level concurrency only over the same row.
* OPTIMIZE never conflicts with INSERT, and with the others only without row-level concurrency.
* A metadata change fails all statements that were running when it was committed.

Not documented, decided here: with row-level concurrency, rows that another non-blind statement *inserted*
conflict with a statement whose condition they meet (as recorded in the field for anti-join INSERTs:
`DELTA_CONCURRENT_APPEND.ROW_LEVEL_CHANGES`); `Rules.phantoms` lets both commit instead, so that a lock can be
tried against the worse case. A row that was only read (in a subquery) and was changed by another conflicts,
as files do in Delta's checker. Without row-level concurrency the unit is the partition, in a table without
partitions the whole table: data skipping within a partition is not modelled, so there the fake conflicts
whenever the documentation says *can*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lockproof.fakes.databricks.sql.failures import DOCS, Conflict

Row = tuple[Any, ...]
Isolation = Literal["WriteSerializable", "Serializable"]


@dataclass(frozen=True)
class Rules:
    """What holds for one table. `partitioned` tables have no row-level concurrency."""

    isolation: Isolation = "WriteSerializable"
    row_level: bool = True
    partitioned: bool = False
    phantoms: bool = False

    @property
    def rows(self) -> bool:
        return self.row_level and not self.partitioned


@dataclass(frozen=True)
class Read:
    """A scan of the target. `whole`: it has no condition of its own; `key` is the reader's to evaluate."""

    whole: bool
    key: Any = None


@dataclass(frozen=True)
class Change:
    """What a statement is about to commit. Rows are values in the order of the table's columns."""

    operation: str
    removed: tuple[Row, ...] = ()
    added: tuple[Row, ...] = ()
    reads: tuple[Read, ...] = ()
    metadata: bool = False
    rewrites: bool = False

    @property
    def blind(self) -> bool:
        """It read nothing of its own table."""
        return not self.reads and not self.removed and not self.metadata and not self.rewrites


@dataclass(frozen=True)
class Commit:
    """A version of the table and what made it. `rewrites`: files were replaced, no row changed (OPTIMIZE)."""

    version: int
    change: Change
    protocol: bool = False

    @property
    def operation(self) -> str:
        return self.change.operation


Sees = Callable[[Read, Sequence[Row], bool], bool]


def check(change: Change, commit: Commit, rules: Rules, table: str, sees: Sees) -> None:
    """Raises `Conflict` when `change`, made for an older snapshot, may not be committed after `commit`.

    `sees(read, rows, by_row)` tells whether a scan meets one of the rows: by the scan's whole condition, or
    (`by_row` false) by what it says of the partition columns alone.
    """
    if commit.protocol:
        raise _protocol_changed(table, commit)
    if commit.change.metadata:
        raise _metadata_changed(table, commit)
    if change.blind or (change.metadata and not change.reads):
        return
    if change.rewrites:
        if (commit.change.removed or commit.change.rewrites) and not rules.row_level:
            raise _deleted("DELTA_CONCURRENT_DELETE_DELETE", "", table, commit)
        return
    if commit.change.rewrites:
        if not rules.row_level:
            raise _deleted("DELTA_CONCURRENT_DELETE_READ", "WITHOUT_HINT", table, commit)
        return
    if rules.rows:
        _check_touched(change, commit, table)
    _check_added(change, commit, rules, table, sees)
    _check_removed(change, commit, rules, table, sees)


def _check_touched(change: Change, commit: Commit, table: str) -> None:
    if set(change.removed).isdisjoint(commit.change.removed):
        return
    if commit.change.added:
        raise _added("ROW_LEVEL_CHANGES", table, commit)
    raise _deleted("DELTA_CONCURRENT_DELETE_READ", "ROW_LEVEL_CHANGES", table, commit)


def _check_added(change: Change, commit: Commit, rules: Rules, table: str, sees: Sees) -> None:
    added = commit.change.added
    if not added or (commit.change.blind and rules.isolation == "WriteSerializable"):
        return
    if rules.rows and rules.phantoms and not commit.change.removed:
        return
    for read in change.reads:
        if sees(read, added, rules.rows):
            hint = "WITH_PARTITION_HINT" if rules.partitioned else "WITHOUT_HINT"
            kind = "WHOLE_TABLE_READ" if read.whole else "ROW_LEVEL_CHANGES" if rules.rows else hint
            raise _added(kind, table, commit)


def _check_removed(change: Change, commit: Commit, rules: Rules, table: str, sees: Sees) -> None:
    removed = commit.change.removed
    if not removed:
        return
    for read in change.reads:
        if sees(read, removed, rules.rows):
            hint = "WITH_PARTITION_HINT" if rules.partitioned else "WITHOUT_HINT"
            kind = "EMPTY_READ_PREDICATES" if read.whole else "ROW_LEVEL_CHANGES" if rules.rows else hint
            raise _deleted("DELTA_CONCURRENT_DELETE_READ", kind, table, commit)


_REASONS = {
    "ROW_LEVEL_CHANGES": "The concurrent operation modified the same rows that this transaction attempted to "
    "modify. ",
    "WHOLE_TABLE_READ": "This transaction attempted to read the entire table, conflicting with the "
    "concurrent modification. Consider adding filters to your query to narrow the data scope or retrying the "
    "operation. ",
    "EMPTY_READ_PREDICATES": "This transaction did not include any filters and read the entire table, "
    "conflicting with the concurrent deletion. Add filters to your query to narrow the data scope and retry "
    "the operation. ",
}
_DELETED_ROWS = "The concurrent operation deleted rows that this transaction attempted to read. "


def _added(kind: str, table: str, commit: Commit) -> Conflict:
    return Conflict(
        f"DELTA_CONCURRENT_APPEND.{kind}",
        f"Transaction conflict detected. A concurrent {commit.operation} added data to table {table} "
        f"committed at version {commit.version}. {_REASONS.get(kind, '')}{_RETRY}",
    )


def _deleted(error_class: str, kind: str, table: str, commit: Commit) -> Conflict:
    reason = _DELETED_ROWS if kind == "ROW_LEVEL_CHANGES" else _REASONS.get(kind, "")
    verb = "read" if error_class.endswith("READ") else "attempted to delete"
    return Conflict(
        f"{error_class}.{kind}" if kind else error_class,
        f"Transaction conflict detected, a concurrent {commit.operation} deleted data from table {table} "
        f"(committed at version {commit.version}) that this transaction {verb}. {reason}{_RETRY}",
    )


def _metadata_changed(table: str, commit: Commit) -> Conflict:
    return Conflict(
        "DELTA_METADATA_CHANGED",
        f"MetadataChangedException: The metadata of the Delta table {table} has been changed by a concurrent "
        f"{commit.operation} committed at version {commit.version}. {_RETRY}",
    )


def _protocol_changed(table: str, commit: Commit) -> Conflict:
    return Conflict(
        "DELTA_PROTOCOL_CHANGED",
        f"ProtocolChangedException: The protocol version of the Delta table {table} has been changed by a "
        f"concurrent {commit.operation} committed at version {commit.version}. {_RETRY}",
    )


_RETRY = f"Please retry the operation. Refer to {DOCS} for more information."
