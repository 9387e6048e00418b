"""What several of the project's own tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lockproof.suites.meta.fake_bed import Bed, reach


@pytest.fixture(params=["in-process", "server"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """The fake Databricks, once in process and once over a server; no ambient DATABRICKS_ settings."""
    for name in ("DATABRICKS_CONFIG_PROFILE", "DATABRICKS_TOKEN", "DATABRICKS_CLIENT_ID", "DATABRICKS_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", "/nonexistent")
    with reach(request.param) as bed:
        yield bed
