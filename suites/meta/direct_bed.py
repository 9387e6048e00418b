"""What the tests of direct Delta locks share: stores on a folder, and on a table that warehouses know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockproof.suites.meta.fake_bed import Bed
from lockproof.suites.meta.hurried import Hurried
from lockproof.suites.meta.sql_bed import Sql
from tofu_databricks.locks.delta import DeltaLocks
from tofu_databricks.locks.delta_direct import DirectDeltaLocks
from tofu_databricks.locks.delta_storage import CatalogStorage, GivenStorage
from tofu_databricks.locks.warehouse import Warehouse
from tofu_databricks.transport import Transport

KEY = "/Volumes/main/default/v/terraform.tfstate"
TABLE = "main.default.state_locks"


class FakesClock(Hurried):
    """Tells the time of the fake."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed

    def now(self) -> float:
        return self.bed.workspace.clock.time()

    def monotonic(self) -> float:
        return self.bed.workspace.clock.time()


def store_at(
    location: Path | str, options: dict[str, str] | None = None, **settings: Any
) -> DirectDeltaLocks:
    """A store as a process of its own would have it."""
    settings.setdefault("clock", Hurried())
    return DirectDeltaLocks(GivenStorage(str(location), options or {}), name=TABLE, **settings)


@dataclass
class SharedTable:
    """One table that a warehouse knows, with stores of both kinds on it."""

    bed: Bed
    sql: Sql

    def create(self, location: str) -> None:
        """Registers an external table as an error of a direct store asks for it."""
        self.sql.run(store_at("/nowhere").ddl(location))

    def transport(self, token: str | None = None) -> Transport:
        headers = {"Authorization": f"Bearer {token or self.bed.workspace.token}"}
        return Transport(lambda: self.bed.workspace.url, lambda: headers, clock=Hurried())

    def by_warehouse(self) -> DeltaLocks:
        return DeltaLocks(
            Warehouse(self.transport(), self.sql.warehouse, clock=Hurried()),
            catalog="main",
            schema="default",
            table="state_locks",
            clock=Hurried(),
        )

    def directly(
        self, options: dict[str, str] | None = None, token: str | None = None, **settings: Any
    ) -> DirectDeltaLocks:
        clock = FakesClock(self.bed)
        storage = CatalogStorage(self.transport(token).request, TABLE, options or {}, clock)
        return DirectDeltaLocks(storage, name=TABLE, clock=clock, **settings)
