"""SQL warehouses: states on the fake's clock, and who may use them.

Source: docs.databricks.com/api/workspace/warehouses; databricks-sdk service/sql.py EndpointInfo.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

from lockproof.fakes.databricks.clock import VirtualClock
from lockproof.fakes.databricks.errors import ApiError, invalid_parameter
from lockproof.fakes.databricks.identity import Principal

USERS = "users"
POLL_SECONDS = 0.02
LEVELS = ("CAN_VIEW", "CAN_MONITOR", "CAN_USE", "CAN_MANAGE", "IS_OWNER")
_USING = ("CAN_MONITOR", "CAN_USE", "CAN_MANAGE", "IS_OWNER")
_SETTINGS = {
    "cluster_size": "Small",
    "min_num_clusters": 1,
    "max_num_clusters": 1,
    "warehouse_type": "PRO",
    "enable_serverless_compute": True,
    "enable_photon": True,
    "spot_instance_policy": "COST_OPTIMIZED",
    "channel": {"name": "CHANNEL_NAME_CURRENT"},
    "tags": {},
}


@dataclass
class Warehouse:
    """A warehouse. `start_seconds`: how long a start takes on the fake's clock; `auto_stop_mins` 0: never.

    `access`: permission level by principal; the name `users` stands for everybody. `patience`: seconds after
    which a statement is answered with the state that it has then, where `wait_timeout` allows more (None: it
    always does); 0 makes every statement one that is polled.
    """

    name: str
    creator: str
    clock: VirtualClock
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    start_seconds: float = 0.0
    auto_stop_mins: int = 0
    patience: float | None = None
    settings: dict[str, Any] = field(default_factory=lambda: dict(_SETTINGS))
    access: dict[str, str] = field(default_factory=lambda: {USERS: "CAN_USE"})
    running: int = 0
    ready_at: float | None = None
    used_at: float = 0.0

    @property
    def state(self) -> str:
        now = self.clock.time()
        if self.ready_at is None:
            return "STOPPED"
        if now < self.ready_at:
            return "STARTING"
        idle = now - max(self.used_at, self.ready_at)
        if self.auto_stop_mins and not self.running and idle >= self.auto_stop_mins * 60:
            self.ready_at = None
            return "STOPPED"
        return "RUNNING"

    def start(self) -> None:
        """Starts it when it is stopped."""
        if self.state == "STOPPED":
            self.ready_at = self.used_at = self.clock.time() + self.start_seconds

    def stop(self) -> None:
        self.ready_at = None

    def usable_by(self, principal: Principal) -> bool:
        held = {self.access.get(principal.name), self.access.get(USERS)}
        return principal.admin or principal.name == self.creator or bool(held & set(_USING))

    def visible_to(self, principal: Principal) -> bool:
        """Any level is enough to see it listed; CAN_VIEW is enough for nothing else."""
        return self.usable_by(principal) or bool({principal.name, USERS} & set(self.access))

    def shown(self, host: str) -> dict[str, Any]:
        """EndpointInfo."""
        state = self.state
        name = host.partition("://")[2].partition(":")[0]
        path = f"/sql/1.0/warehouses/{self.id}"
        return {
            "id": self.id,
            "name": self.name,
            **self.settings,
            "auto_stop_mins": self.auto_stop_mins,
            "num_clusters": int(state == "RUNNING"),
            "num_active_sessions": self.running,
            "creator_name": self.creator,
            "state": state,
            "jdbc_url": f"jdbc:spark://{name}:443/default;transportMode=http;ssl=1;AuthMech=3;httpPath={path};",
            "odbc_params": {"hostname": name, "path": path, "protocol": "https", "port": 443},
            "health": {"status": "HEALTHY"} if state == "RUNNING" else {},
        }


class Warehouses:
    """All warehouses by id. It starts with one that runs and that everybody may use."""

    def __init__(self, clock: VirtualClock, admin: Principal) -> None:
        self.clock = clock
        self.by_id: dict[str, Warehouse] = {}
        self.create("Serverless Starter Warehouse", admin).start()

    def create(self, name: str, creator: Principal, **settings: Any) -> Warehouse:
        """A stopped warehouse. Raises 400 for a name that is missing or taken."""
        if not name:
            raise invalid_parameter("Warehouse name cannot be empty.")
        if any(item.name == name for item in self.by_id.values()):
            raise invalid_parameter(f"Warehouse name '{name}' already exists.")
        made = Warehouse(name, creator.name, self.clock)
        made.auto_stop_mins = int(settings.pop("auto_stop_mins", None) or 0)
        made.settings.update({key: value for key, value in settings.items() if key in _SETTINGS})
        self.by_id[made.id] = made
        return made

    def get(self, warehouse_id: str) -> Warehouse:
        """Raises 404, as the warehouses API does."""
        if warehouse_id not in self.by_id:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"SQL warehouse {warehouse_id} does not exist.")
        return self.by_id[warehouse_id]

    def for_statement(self, warehouse_id: object, principal: Principal) -> Warehouse:
        """As the Statement Execution API looks it up: 400 for no id or a malformed one, 403 for the rest."""
        if not isinstance(warehouse_id, str) or not warehouse_id:
            raise ApiError(
                400,
                "BAD_REQUEST",
                "Required field is not specified: warehouse_id.",
                details=[violation("warehouse_id", "field is not specified")],
            )
        if len(warehouse_id) != 16 or not all(char in "0123456789abcdef" for char in warehouse_id):
            raise ApiError(400, "BAD_REQUEST", f"{warehouse_id} is not a valid endpoint id.")
        found = self.by_id.get(warehouse_id)
        if found is None or not found.usable_by(principal):
            raise ApiError(
                403,
                "PERMISSION_DENIED",
                "You do not have permission to use the SQL Warehouse. Please contact your administrator.",
            )
        return found

    def visible(self, principal: Principal) -> list[Warehouse]:
        return [item for item in self.by_id.values() if item.visible_to(principal)]

    def wait_ready(self, warehouse: Warehouse, ended: threading.Event) -> None:
        """Starts it when need be and returns once it runs on the fake's clock, or once `ended`."""
        while not ended.is_set():
            state = warehouse.state
            if state == "RUNNING":
                return
            if state == "STOPPED":
                warehouse.start()
            else:
                ended.wait(POLL_SECONDS)


def violation(name: str, description: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "field_violations": [{"field": name, "description": description}],
    }
