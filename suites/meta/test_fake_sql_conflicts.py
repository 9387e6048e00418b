"""The fake warehouse's conflict matrix is Databricks', cell by cell."""

from __future__ import annotations

from importlib import resources

import pytest

from lockproof.suites.meta.conflict_matrix import SETTINGS, documented, measure, section

TABLE = resources.files("lockproof.fakes.databricks.sql").joinpath("CONFLICTS.md").read_text("utf-8")


@pytest.mark.parametrize(("isolation", "row_level"), SETTINGS)
def test_concurrent_statements_conflict_as_documented(isolation: str, row_level: bool) -> None:
    """Every pair of truly concurrent statements ends as the documentation says, and as CONFLICTS.md shows."""
    outcomes = measure(isolation, row_level)
    print(section(outcomes))
    wrong = [
        f"{item.cell}: {item.fake or 'commits'}"
        for item in outcomes
        if documented(item.cell) != (item.fake is not None)
    ]
    assert not wrong, "\n".join(wrong)
    assert {item.decided_by for item in outcomes} == {"engine", "arbiter"}
    assert section(outcomes) in TABLE
