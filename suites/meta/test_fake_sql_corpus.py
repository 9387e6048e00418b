"""The corpus of lock SQL runs on the fake warehouse, and leaves a real Delta log."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from lockproof.suites.meta.fake_bed import Bed, reach
from lockproof.suites.meta.sql_bed import Answer, Sql

CORPUS: list[dict[str, Any]] = tomllib.loads(
    resources.files("lockproof.fakes.databricks.sql").joinpath("corpus.toml").read_text("utf-8")
)["scenario"]


def difference(expected: dict[str, Any], answer: Answer) -> str | None:
    """What is not as the corpus says; None when all is."""
    if "error" in expected:
        if answer.state != "FAILED" or answer.error_class != expected["error"]:
            return f"wanted {expected['error']}, got {answer.body['status']}"
        return None
    if answer.state != "SUCCEEDED":
        return f"failed: {answer.body['status']}"
    if "columns" in expected and answer.columns != expected["columns"]:
        return f"columns {answer.columns}"
    wanted = [[None if cell == "NULL" else cell for cell in row] for row in expected["rows"]]
    rows = answer.rows
    if expected.get("unordered"):
        rows, wanted = sorted(rows, key=str), sorted(wanted, key=str)
    same = len(rows) == len(wanted) and all(
        len(row) == len(want) and all(w in ("*", cell) for cell, w in zip(row, want, strict=True))
        for row, want in zip(rows, wanted, strict=True)
    )
    return None if same else f"rows {rows}, wanted {wanted}"


@pytest.mark.parametrize("scenario", CORPUS, ids=[item["name"].replace(" ", "-") for item in CORPUS])
def test_lock_sql_of_other_drivers_runs(scenario: dict[str, Any], fake: Bed) -> None:
    """Every statement of the corpus answers as a warehouse would."""
    sql = Sql(fake)
    wrong = []
    for number, expected in enumerate(scenario["statement"], 1):
        answer = sql.send(expected["sql"], expected.get("parameters", ()))
        found = difference(expected, answer)
        if found:
            wrong.append(f"{number}. {expected['sql'][:70]}: {found}")
    assert not wrong, "\n".join(wrong)


def test_corpus_is_large_and_varied() -> None:
    """At least 40 different statements, of every kind that a lock driver sends."""
    statements = {item["sql"] for scenario in CORPUS for item in scenario["statement"]}
    assert len(statements) >= 40
    kinds = {text.split()[0].upper() for text in statements}
    assert kinds >= {
        "CREATE",
        "MERGE",
        "UPDATE",
        "DELETE",
        "INSERT",
        "SELECT",
        "DESCRIBE",
        "SHOW",
        "ALTER",
        "DROP",
    }
    features = ("IDENTIFIER(:", "current_timestamp()", "VERSION AS OF", "TIMESTAMP AS OF", "NOT EXISTS")
    assert all(any(feature in text for text in statements) for feature in features)


def test_tables_are_delta_tables_on_disk(tmp_path: Path) -> None:
    """Another Delta reader finds the rows, and a commit for each statement that wrote."""
    with reach("in-process") as bed:
        sql = Sql(bed)
        sql.run(f"CREATE TABLE ext (k STRING, n BIGINT) LOCATION '{tmp_path}/ext'")
        sql.run("INSERT INTO ext VALUES ('a', 1), ('b', 2)")
        sql.run("UPDATE ext SET n = 7 WHERE k = 'b'")
        sql.run(
            "MERGE INTO ext t USING (SELECT 'c' AS k) s ON t.k = s.k "
            "WHEN NOT MATCHED THEN INSERT (k) VALUES (k)"
        )
        commits = sorted(path.name for path in (tmp_path / "ext" / "_delta_log").glob("*.json"))
        assert commits == [f"{version:020}.json" for version in range(4)]
        table = DeltaTable(str(tmp_path / "ext"))
        assert table.version() == 3
        assert [entry["isBlindAppend"] for entry in table.history(3)] == [False, False, True]
        assert sorted(sql.run("SELECT * FROM ext"), key=str) == [["a", "1"], ["b", "7"], ["c", None]]
