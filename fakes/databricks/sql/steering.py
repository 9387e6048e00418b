"""Steering the SQL part of a fake: holds at checkpoints, old snapshots, warehouses, the log of statements."""

from __future__ import annotations

from typing import Any

from lockproof.fakes.databricks.control import FakeControl, control_operation
from lockproof.fakes.databricks.workspace import FakeWorkspace


class SqlControl(FakeControl):
    """`FakeControl` with what concerns statements; in process and over HTTP alike.

    A lost reply after a commit is a fault of the request: `add_fault(method="POST",
    path="/api/2.0/sql/statements", when="after", drop=True)`; a POST that arrives twice has `duplicate=True`.
    """

    def hold_statements(self, point: str, **choice: Any) -> int:
        """Stops statements at `queued`, `started`, `snapshot` or `committed`; returns the hold's id.

        `choice`: `contains` (a part of the text), `principal`, `first`, `times`.
        """
        return int(self.call("hold_statements", point=point, **choice))

    def held_statements(self, hold_id: int) -> dict[str, Any]:
        """`id, point, seen, held, statements, …` of a hold."""
        return dict(self.call("held_statements", hold_id=hold_id))

    def await_statements(self, hold_id: int, count: int = 1, timeout: float = 30.0) -> None:
        """Returns once `count` statements wait at the hold. Raises TimeoutError after `timeout` seconds."""
        self._await(
            lambda: self.held_statements(hold_id)["held"] >= count, f"{count} held statements", timeout
        )

    def release_statements(self, hold_id: int | None = None) -> int:
        """Removes one hold or all, lets their statements go, and returns how many holds there were."""
        return int(self.call("release_statements", hold_id=hold_id))

    def lag_snapshots(self, versions: int, *, contains: str = "", times: int | None = 1) -> None:
        """The next `times` statements with that text read a snapshot that is `versions` commits old."""
        self.call("lag_snapshots", versions=versions, contains=contains, times=times)

    def lagging(self, contains: str) -> int:
        """How many statements are still to read an old snapshot, of those that `contains` chose."""
        return int(self.call("lagging", contains=contains))

    def stop_lagging(self, contains: str) -> None:
        """Those that `contains` chose read the newest snapshot again."""
        self.call("stop_lagging", contains=contains)

    def statements(self, since: int = 0, contains: str = "") -> list[dict[str, Any]]:
        """The log of statements with `i > since`: see `lockproof.fakes.databricks.sql.statements.Record`."""
        return list(self.call("statements", since=since, contains=contains))

    def cool_warehouses(self) -> bool:
        """Stops all warehouses where the latency profile says that locks find them cold; whether it does."""
        return bool(self.call("cool_warehouses"))

    def create_warehouse(self, name: str, **settings: Any) -> str:
        """A stopped warehouse; returns its id. Settings as for `set_warehouse`."""
        return str(self.call("create_warehouse", name=name, **settings))

    def set_warehouse(self, warehouse_id: str, **settings: Any) -> dict[str, Any]:
        """Sets `start_seconds`, `auto_stop_mins`, `patience`, `access` (level by principal, `users` for
        everybody) or `running`; returns the warehouse."""
        return dict(self.call("set_warehouse", warehouse_id=warehouse_id, **settings))

    def warehouses(self) -> list[dict[str, Any]]:
        """All warehouses."""
        return list(self.call("warehouses"))


@control_operation
def hold_statements(workspace: FakeWorkspace, point: str, **choice: Any) -> int:
    return workspace.sql.statements.checkpoints.hold(point, **choice).id


@control_operation
def held_statements(workspace: FakeWorkspace, hold_id: int) -> dict[str, Any]:
    return workspace.sql.statements.checkpoints.get(hold_id).to_json()


@control_operation
def release_statements(workspace: FakeWorkspace, hold_id: int | None = None) -> int:
    return workspace.sql.statements.checkpoints.release(hold_id)


@control_operation
def lag_snapshots(workspace: FakeWorkspace, versions: int, contains: str, times: int | None) -> None:
    workspace.sql.statements.lag(versions, contains=contains, times=times)


@control_operation
def lagging(workspace: FakeWorkspace, contains: str) -> int:
    return workspace.sql.statements.lagging(contains)


@control_operation
def stop_lagging(workspace: FakeWorkspace, contains: str) -> None:
    workspace.sql.statements.stop_lagging(contains)


@control_operation
def statements(workspace: FakeWorkspace, since: int = 0, contains: str = "") -> list[dict[str, Any]]:
    return [record.to_json() for record in workspace.sql.statements.select(since, contains)]


@control_operation
def create_warehouse(workspace: FakeWorkspace, name: str, **settings: Any) -> str:
    made = workspace.sql.warehouses.create(name, workspace.admin)
    _set(workspace, made.id, settings)
    return made.id


@control_operation
def set_warehouse(workspace: FakeWorkspace, warehouse_id: str, **settings: Any) -> dict[str, Any]:
    return _set(workspace, warehouse_id, settings)


@control_operation
def cool_warehouses(workspace: FakeWorkspace) -> bool:
    """Stops all warehouses, where the fake's latency profile says that locks find them cold, so that the next
    statement waits for a start; returns whether it says so."""
    latency = workspace.latency
    if latency is None or latency.warehouse != "cold":
        return False
    for warehouse in workspace.sql.warehouses.by_id.values():
        warehouse.start_seconds = latency.warehouse_start()
        warehouse.stop()
    return True


@control_operation
def warehouses(workspace: FakeWorkspace) -> list[dict[str, Any]]:
    return [item.shown(workspace.url) for item in workspace.sql.warehouses.by_id.values()]


def _set(workspace: FakeWorkspace, warehouse_id: str, settings: dict[str, Any]) -> dict[str, Any]:
    found = workspace.sql.warehouses.get(warehouse_id)
    for name, value in settings.items():
        if name == "running":
            found.start() if value else found.stop()
        elif name == "access":
            found.access = dict(value)
        elif name in ("start_seconds", "auto_stop_mins", "patience"):
            setattr(found, name, value)
        else:
            raise ValueError(f"no setting {name!r} of a warehouse")
    return found.shown(workspace.url)
