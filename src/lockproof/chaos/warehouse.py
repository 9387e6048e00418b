"""Faults of a SQL warehouse and of the Delta table that it keeps locks in.

All of them concern the statements on the lock table of one scope: others use the same fake meanwhile.
"""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from lockproof.chaos.arena import Arena
from lockproof.chaos.nemesis import Nemesis
from lockproof.driver.databricks_locks import DeltaBed
from lockproof.driver.recorder import RecordedScope
from lockproof.spec.outcome import Unknown
from tofu_databricks.locks.warehouse import STATEMENTS, SqlError

PAUSE = 0.5
"""Seconds between two rounds of upkeep: a statement that loses to one has to get through before the next."""
THROTTLING = ("1", "0", "", "soon")
"""What `Retry-After` says: seconds, nothing, or something that is neither seconds nor a date."""
UPKEEP = (
    "OPTIMIZE {table}",
    "ALTER TABLE {table} SET TBLPROPERTIES ('upkeep' = '{turn}')",
    "COMMENT ON TABLE {table} IS 'upkeep {turn}'",
)
"""What an administrator does to a table while it is used."""


def delta_bed(scope: RecordedScope) -> DeltaBed:
    """What stands behind a lock table in a warehouse. Raises `Unknown` where there is none."""
    test_bed = getattr(scope.scope, "test_bed", None)
    found = test_bed().locks if test_bed is not None else None
    if not isinstance(found, DeltaBed):
        raise Unknown("the locks of this scope are in no SQL warehouse that a test can steer")
    return found


def changes_of(bed: DeltaBed) -> str:
    """How the text of each statement begins that claims or frees a lock of this scope."""
    catalog, _, schema = bed.schema.partition(".")
    return f"UPDATE `{catalog}`.`{schema}`."


class WarehouseNemesis(Nemesis):
    """A fault of the statements on a lock table."""

    hits: int | None = None

    def missing(self, arena: Arena) -> str:
        if "service.warehouse" in arena.backend.capabilities:
            return ""
        return f"{self.name}: this backend keeps its locks in no SQL warehouse that a test can steer"

    def strike(self, arena: Arena, rng: random.Random) -> None:
        self.begin(delta_bed(arena.scope))

    def lift(self, arena: Arena) -> None:
        self.hits = self.counted()
        self.end(delta_bed(arena.scope))

    def struck(self) -> int:
        if self.hits is None:
            return self.counted() if self.injected else 0
        return self.hits

    @abstractmethod
    def begin(self, bed: DeltaBed) -> None:
        """The fault is there."""

    @abstractmethod
    def end(self, bed: DeltaBed) -> None:
        """The fault is gone."""

    @abstractmethod
    def counted(self) -> int:
        """How many statements it has hit so far."""


class ScriptedNemesis(WarehouseNemesis):
    """A fault of the requests that bring a claim or a release to the warehouse."""

    def begin(self, bed: DeltaBed) -> None:
        text = changes_of(bed).replace("[", "[[]")
        fault = {"method": "POST", "path": STATEMENTS, "content": f"*{text}*", **self.fault()}
        self.control, self.armed = bed.control, bed.control.add_fault(**fault)

    def end(self, bed: DeltaBed) -> None:
        bed.control.clear_faults(self.armed)

    def counted(self) -> int:
        return int(self.control.fault(self.armed)["hits"])

    @abstractmethod
    def fault(self) -> dict[str, Any]:
        """What happens to them, as in `lockproof.fakes.databricks.faults.Fault`."""


class LostReply(ScriptedNemesis):
    """Claims and releases commit, and their replies are lost; `times` of them, else all."""

    name: ClassVar[str] = "warehouse.lost_reply"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"times": rng.randint(1, 6)}

    def fault(self) -> dict[str, Any]:
        return {"when": "after", "drop": True, "times": self.parameters.get("times")}


class Throttled(ScriptedNemesis):
    """Claims and releases are answered 429, with `retry_after` as the header; `times` of them, else all."""

    name: ClassVar[str] = "warehouse.throttled"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"retry_after": rng.choice(THROTTLING), "times": rng.randint(1, 8)}

    def fault(self) -> dict[str, Any]:
        said = self.parameters.get("retry_after", "")
        headers = {"Retry-After": said} if said else {}
        return {"status": 429, "headers": headers, "times": self.parameters.get("times")}


class HeldNemesis(WarehouseNemesis):
    """Claims and releases stand still at one point of their life until it is healed."""

    point: ClassVar[str]

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"times": rng.randint(1, 4)}

    def begin(self, bed: DeltaBed) -> None:
        self.control = bed.control
        self.hold = bed.control.hold_statements(
            self.point, contains=changes_of(bed), times=self.parameters.get("times")
        )

    def end(self, bed: DeltaBed) -> None:
        bed.control.release_statements(self.hold)

    def counted(self) -> int:
        return len(self.control.held_statements(self.hold)["statements"])

    def await_held(self, count: int, timeout: float = 30.0) -> None:
        """Returns once so many stand still. Raises `Unknown` after `timeout` seconds."""
        try:
            self.control.await_statements(self.hold, count, timeout)
        except TimeoutError as error:
            raise Unknown(f"{self.name}: {error}") from error


class Cold(HeldNemesis):
    """The warehouse starts, and starts: statements stay PENDING until it is healed."""

    name: ClassVar[str] = "warehouse.cold"
    point: ClassVar[str] = "queued"


class Late(HeldNemesis):
    """Statements stand still between their snapshot and their commit, and so meet the others' commits."""

    name: ClassVar[str] = "warehouse.late"
    point: ClassVar[str] = "snapshot"


class Unreported(HeldNemesis):
    """Statements have committed, and nobody is told until it is healed."""

    name: ClassVar[str] = "warehouse.unreported"
    point: ClassVar[str] = "committed"


class Stale(WarehouseNemesis):
    """The next `times` claims and releases start from a table that is `versions` commits old."""

    name: ClassVar[str] = "warehouse.stale"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"times": rng.randint(1, 6), "versions": rng.randint(1, 3)}

    def begin(self, bed: DeltaBed) -> None:
        self.control, self.chosen = bed.control, changes_of(bed)
        self.times = int(self.parameters.get("times", 1))
        versions = int(self.parameters.get("versions", 1))
        bed.control.lag_snapshots(versions, contains=self.chosen, times=self.times)

    def end(self, bed: DeltaBed) -> None:
        bed.control.stop_lagging(self.chosen)

    def counted(self) -> int:
        return self.times - self.control.lagging(self.chosen)


class Upkeep(WarehouseNemesis):
    """An administrator compacts the lock table and changes its properties, again and again."""

    name: ClassVar[str] = "warehouse.upkeep"

    def begin(self, bed: DeltaBed) -> None:
        self.over = threading.Event()
        self.failures: list[SqlError] = []
        self.done = 0
        self.thread = threading.Thread(target=self._work, args=(bed,), name=self.name, daemon=True)
        self.thread.start()

    def _work(self, bed: DeltaBed) -> None:
        while not self.over.is_set():
            for statement in self.statements():
                try:
                    bed.run(statement.format(table=bed.table, turn=self.done))
                    self.done += 1
                except SqlError as error:
                    self.failures.append(error)  # no table yet, or the users' commits came first
            self.over.wait(PAUSE)

    def statements(self) -> Sequence[str]:
        """What is done again and again."""
        return UPKEEP

    def end(self, bed: DeltaBed) -> None:
        self.over.set()
        self.thread.join()

    def counted(self) -> int:
        return self.done


NEMESES: tuple[type[Nemesis], ...] = (LostReply, Throttled, Cold, Late, Unreported, Stale, Upkeep)
