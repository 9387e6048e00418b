"""Measures the conflict matrix of the fake SQL warehouse, and the bare engine's beside it.

In every cell two statements run at the same time on one table: the second is held between its snapshot and
its commit, the first commits, the second goes on. `python -m lockproof.suites.meta.conflict_matrix` prints
the table that is checked in as fakes/databricks/sql/CONFLICTS.md.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import arro3.core as arrow
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError

from lockproof.suites.meta.fake_bed import reach
from lockproof.suites.meta.sql_bed import Sql

ROW_OPERATIONS = ("INSERT", "INSERT SELECT", "UPDATE", "DELETE", "MERGE")
OPERATIONS = (*ROW_OPERATIONS, "OPTIMIZE", "ALTER")
SETTINGS = tuple(itertools.product(("WriteSerializable", "Serializable"), (True, False)))

_FIRST = {
    "INSERT": "INSERT INTO t VALUES ('{key}', 'first')",
    "INSERT SELECT": "INSERT INTO t SELECT '{key}', 'first' FROM t WHERE k = 'source'",
    "UPDATE": "UPDATE t SET holder = 'first' WHERE k = '{key}'",
    "DELETE": "DELETE FROM t WHERE k = '{key}'",
    "MERGE": "MERGE INTO t USING (SELECT '{key}' AS k) s ON t.k = s.k "
    "WHEN MATCHED THEN UPDATE SET holder = 'first' "
    "WHEN NOT MATCHED THEN INSERT (k, holder) VALUES (s.k, 'first')",
    "OPTIMIZE": "OPTIMIZE t",
    "ALTER": "ALTER TABLE t SET TBLPROPERTIES ('note' = '{key}-first')",
}
_SECOND = {
    "INSERT": "INSERT INTO t VALUES ('{key}', 'second')",
    "INSERT SELECT": "INSERT INTO t SELECT k || '+', 'second' FROM t WHERE k = '{key}'",
    "UPDATE": "UPDATE t SET holder = 'second' WHERE k = '{key}'",
    "DELETE": "DELETE FROM t WHERE k = '{key}' AND 'second' = 'second'",
    "MERGE": "MERGE INTO t USING (SELECT '{key}' AS k) s ON t.k = s.k "
    "WHEN MATCHED THEN UPDATE SET holder = 'second' "
    "WHEN NOT MATCHED THEN INSERT (k, holder) VALUES (s.k, 'second')",
    "OPTIMIZE": "OPTIMIZE t /* second */",
    "ALTER": "ALTER TABLE t SET TBLPROPERTIES ('note' = '{key}-second')",
}


@dataclass(frozen=True)
class Cell:
    """`first` commits while `second` runs; `same`: both are about the same row."""

    isolation: str
    row_level: bool
    first: str
    second: str
    same: bool

    @property
    def overlaps(self) -> str:
        if self.first in ROW_OPERATIONS and self.second in ROW_OPERATIONS:
            return "same row" if self.same else "other row"
        return ""


@dataclass(frozen=True)
class Outcome:
    """`fake`: the error class that the second statement got, None: it committed. `bare`: whether the engine
    alone, without the arbiter, refused the second one."""

    cell: Cell
    fake: str | None
    bare: bool

    @property
    def decided_by(self) -> str:
        """`engine` where the bare engine already decides as the warehouse does."""
        return "engine" if self.bare == (self.fake is not None) else "arbiter"


def cells(isolation: str, row_level: bool) -> Iterator[Cell]:
    """All cells of one setting of the table."""
    for first, second in itertools.product(OPERATIONS, OPERATIONS):
        rows = first in ROW_OPERATIONS and second in ROW_OPERATIONS
        for same in (True, False) if rows else (False,):
            yield Cell(isolation, row_level, first, second, same)


def documented(cell: Cell) -> bool:
    """Whether the second one conflicts, as docs.databricks.com/aws/en/optimizations/isolation says.

    Where the documentation says *can*, the cell is built so that it does.
    """
    if cell.first == "ALTER":
        return True
    if cell.second in ("INSERT", "ALTER"):
        return False
    if cell.second == "OPTIMIZE":
        return cell.first not in ("INSERT", "INSERT SELECT") and cell.first != "ALTER" and not cell.row_level
    if cell.first == "OPTIMIZE":
        return not cell.row_level
    if cell.first == "INSERT" and cell.isolation == "WriteSerializable":
        return False
    return cell.same or not cell.row_level


def measure(isolation: str, row_level: bool) -> list[Outcome]:
    """Runs all cells of one setting on one table of the fake, and on one of the bare engine."""
    found = list(cells(isolation, row_level))
    properties = {"delta.isolationLevel": isolation, "delta.enableDeletionVectors": str(row_level).lower()}
    with tempfile.TemporaryDirectory() as folder:
        bare = _bare(Path(folder), properties, found)
    with reach("in-process") as bed:
        sql = Sql(bed)
        listed = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
        sql.run(f"CREATE TABLE t (k STRING, holder STRING) TBLPROPERTIES ({listed})")
        rows = ", ".join(f"('{key}', 'free')" for key in _keys(found))
        sql.run(f"INSERT INTO t VALUES {rows}")
        return [
            Outcome(cell, _fake(sql, number, cell), refused)
            for number, (cell, refused) in enumerate(zip(found, bare, strict=True))
        ]


def _keys(found: list[Cell]) -> list[str]:
    return ["source", *(f"{kind}{number}" for number in range(len(found)) for kind in ("a", "b"))]


def _fake(sql: Sql, number: int, cell: Cell) -> str | None:
    if "OPTIMIZE" in (cell.first, cell.second):
        sql.run("INSERT INTO t VALUES ('filler', 'x')")
    first = _FIRST[cell.first].format(key=f"a{number}")
    second = _SECOND[cell.second].format(key=f"a{number}" if cell.same else f"b{number}")
    hold = sql.control.hold_statements("snapshot", contains=second)
    running = sql.send(second, wait_timeout="0s").body["statement_id"]
    sql.control.await_statements(hold)
    sql.run(first)
    sql.control.release_statements(hold)
    statement = sql.bed.workspace.sql.statements.by_id[running]
    if not statement.done.wait(30):
        raise TimeoutError(f"{second} did not end")
    answer = sql.poll(running)
    if answer.state == "FAILED":
        if answer.sql_state != "2D521":
            raise AssertionError(f"{second}: {answer.message}")
        return answer.error_class
    return None


def _bare(folder: Path, properties: dict[str, str], found: list[Cell]) -> list[bool]:
    """Whether deltalake's own operations refuse the second statement, each started at the same version."""
    place = str(folder / "bare")
    fields = '{"name":"k","type":"string","nullable":true,"metadata":{}}'
    schema = Schema.from_json(f'{{"type":"struct","fields":[{fields},{fields.replace("k", "holder", 1)}]}}')
    DeltaTable.create(place, schema, configuration=dict(properties), raise_if_key_not_exists=False)
    write_deltalake(place, _rows(*_keys(found)), mode="append")
    return [_race(place, number, cell) for number, cell in enumerate(found)]


def _race(place: str, number: int, cell: Cell) -> bool:
    if "OPTIMIZE" in (cell.first, cell.second):
        write_deltalake(place, _rows("filler"), mode="append")
    one, other = DeltaTable(place), DeltaTable(place)
    _ENGINE[cell.first](one, f"a{number}", "first")
    try:
        _ENGINE[cell.second](other, f"a{number}" if cell.same else f"b{number}", "second")
    except CommitFailedError:
        return True
    return False


def _rows(*keys: str) -> arrow.Table:
    text = arrow.DataType.utf8()
    return arrow.Table.from_pydict(
        {"k": arrow.Array(list(keys), text), "holder": arrow.Array(["free"] * len(keys), text)}
    )


def _append(table: DeltaTable, key: str, holder: str) -> None:
    write_deltalake(table, _rows(key), mode="append")


def _upsert(table: DeltaTable, key: str, holder: str) -> None:
    merger = table.merge(_rows(key), "t.k = s.k", source_alias="s", target_alias="t")
    merger.when_matched_update({"holder": f"'{holder}'"}).when_not_matched_insert_all().execute()


_ENGINE: dict[str, Callable[[DeltaTable, str, str], object]] = {
    "INSERT": _append,
    "INSERT SELECT": _append,
    "UPDATE": lambda table, key, holder: table.update(
        updates={"holder": f"'{holder}'"}, predicate=f"k = '{key}'"
    ),
    "DELETE": lambda table, key, holder: table.delete(f"k = '{key}'"),
    "MERGE": _upsert,
    "OPTIMIZE": lambda table, key, holder: table.optimize.compact(),
    "ALTER": lambda table, key, holder: table.alter.set_table_properties(
        {"note": f"{key}-{holder}"}, raise_if_not_exists=False
    ),
}


def section(outcomes: list[Outcome]) -> str:
    """One setting's part of CONFLICTS.md."""
    cell = outcomes[0].cell
    lines = [
        f"## {cell.isolation}, row-level concurrency {'on' if cell.row_level else 'off'}",
        "",
        "| committed first | second | rows | second one | decided by |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {item.cell.first} | {item.cell.second} | {item.cell.overlaps} | "
        f"{f'`{item.fake}`' if item.fake else 'commits'} | {item.decided_by} |"
        for item in outcomes
    ]
    return "\n".join([*lines, ""])


HEAD = """\
# Conflicts on the fake SQL warehouse

Two statements run at the same time on one table; the first commits before the second does. INSERT is blind;
INSERT SELECT reads its own table. `engine`: deltalake by itself, without the arbiter, lets the second one
through or refuses it just so; `arbiter`: only the arbiter makes it so. The rules and their sources are in
arbiter.py. This file is generated: `python -m lockproof.suites.meta.conflict_matrix`.
"""


def document() -> str:
    return "\n".join([HEAD, *(section(measure(*setting)) for setting in SETTINGS)])


if __name__ == "__main__":
    print(document(), end="")
