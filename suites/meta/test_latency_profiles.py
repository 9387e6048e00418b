"""Latency profiles of the fake: data with sources, drawn as it says, applied to every kind of request."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.resources import files
from statistics import quantiles
from typing import Any

import pytest

from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.databricks_services import profile
from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.latency import NETWORKS, WAREHOUSES, Distribution, Latency, kind_of
from lockproof.fakes.databricks.wire import Request, Response
from lockproof.fakes.databricks.workspace import FakeWorkspace, Pause

PROVISIONED = {
    "host": "http://127.0.0.1:1",
    "storage": "http://127.0.0.1:2",
    "token": "x",
    "lakebase_port": "3",
    "lock_root": "file:///x",
}
NUMBERS: dict[str, Any] = tomllib.loads(
    files("lockproof.fakes.databricks").joinpath("latency.toml").read_text(encoding="utf-8")
)
ENTRIES = [(group, name) for group in ("network", "service", "warehouse") for name in NUMBERS[group]]


def waited(workspace: FakeWorkspace, request: Request) -> tuple[float, Response]:
    """How long a request is made to wait, in seconds, and its answer; without waiting for it."""
    exchange, seconds, answer = workspace.exchange(request), 0.0, None
    while True:
        try:
            step = exchange.send(answer)
        except StopIteration as end:
            return seconds, end.value
        answer = None
        if isinstance(step, Pause):
            seconds += step.seconds
        else:
            answer = workspace.perform(step.route, step.request)


def asked(workspace: FakeWorkspace, method: str, path: str, body: bytes = b"") -> Request:
    """A request of the administrator."""
    headers = {"Authorization": f"Bearer {workspace.token}"}
    return Request.to(method, f"{workspace.url}{path}", headers=headers, body=body)


def file_of(workspace: FakeWorkspace, data: bytes) -> str:
    """A file with `data`; its path in the Files API."""
    workspace.create_volume("main.default.v")
    path = "/api/2.0/fs/files/Volumes/main/default/v/f"
    assert workspace.handle(asked(workspace, "PUT", path, data)).status == 204
    return path


@pytest.mark.parametrize(("group", "name"), ENTRIES)
def test_every_number_says_what_it_rests_on(group: str, name: str) -> None:
    """A profile that nobody can look up is worth nothing."""
    entry = NUMBERS[group][name]
    assert entry["basis"] in {"documented", "measured", "assumed"}
    assert len(entry["source"]) > 10
    if group != "network":
        assert entry["median"] <= entry["p95"]


def test_every_name_that_can_be_chosen_has_numbers() -> None:
    """No more and no fewer networks and warehouses than the options offer."""
    assert set(NUMBERS["network"]) == set(NETWORKS)
    assert set(NUMBERS["warehouse"]) == set(WAREHOUSES)


def test_what_is_drawn_has_the_median_and_the_tail_that_were_asked_for() -> None:
    """Half of many draws lie below the median, 95 in 100 below the 95th percentile."""
    latency = Latency("lan")
    latency.services["api"] = Distribution(50, 150)
    cuts = quantiles((latency.draw("api") for _ in range(4000)), n=20)
    assert cuts[9] == pytest.approx(50, rel=0.05)
    assert cuts[18] == pytest.approx(150, rel=0.08)


def test_equal_sequences_wait_equally_long() -> None:
    """What one kind of request draws depends on the seed and on no other kind."""
    first, second = Latency("lan"), Latency("lan")
    alone = [first.draw("api") for _ in range(5)]
    mixed = []
    for _ in range(5):
        second.draw("postgres")
        mixed.append(second.draw("api"))
    assert alone == mixed
    assert len(set(alone)) == 5


@pytest.mark.parametrize(
    ("operation", "method", "path", "statement", "kind"),
    [
        ("Download a file", "GET", "/api/2.0/fs/files/Volumes/a/b/c/d", "", "file-read"),
        ("Upload a file", "PUT", "/api/2.0/fs/files/Volumes/a/b/c/d", "", "file-write"),
        ("List a directory", "GET", "/api/2.0/fs/directories/Volumes/a", "", "file-read"),
        ("Execute a statement", "POST", "/api/2.0/sql/statements", "SELECT 1", "sql-read"),
        ("Execute a statement", "POST", "/api/2.0/sql/statements", " update t SET a = 1", "sql-write"),
        ("Mint a login token for an endpoint", "POST", "/api/2.0/postgres/credentials", "", "credential"),
        ("List warehouses", "GET", "/api/2.0/sql/warehouses", "", "api"),
        (None, "GET", "/nothing", "", "api"),
    ],
)
def test_each_request_waits_for_the_service_that_answers_it(
    operation: str | None, method: str, path: str, statement: str, kind: str
) -> None:
    """Reading differs from writing, statements from files."""
    body = json.dumps({"statement": statement}).encode() if statement else b""
    assert kind_of(operation, Request.to(method, f"https://x{path}", headers={}, body=body)) == kind


def test_a_request_waits_for_way_service_and_bytes() -> None:
    """A request waits for the round trip, the service as drawn, and the bytes of its bodies."""
    workspace = FakeWorkspace()
    data = b"x" * 2_500_000
    path = file_of(workspace, data)
    latency = workspace.latency = Latency("cross-region")
    latency.services["file-read"] = Distribution(100, 100)
    seconds, answer = waited(workspace, asked(workspace, "GET", path))
    assert answer.body == data
    assert seconds == pytest.approx(0.0805 + 0.1 + 2_500_000 * 8 / 200e6)


def test_without_a_profile_nothing_waits() -> None:
    """The fake is as fast as it can be until somebody asks for a profile."""
    workspace = FakeWorkspace()
    path = file_of(workspace, b"x")
    assert waited(workspace, asked(workspace, "GET", path))[0] == 0


@pytest.mark.parametrize(("warehouse", "stopped"), [("cold", True), ("warm", False)])
def test_a_cold_warehouse_starts_as_the_profile_says(warehouse: str, stopped: bool) -> None:
    """Cooling stops the warehouses and sets how long a start takes; where they are warm it does nothing."""
    workspace = FakeWorkspace()
    workspace.latency = Latency("lan", warehouse)
    control = FakeControl(workspace)
    (found,) = workspace.sql.warehouses.by_id.values()
    assert control.call("cool_warehouses") is stopped
    assert found.state == ("STOPPED" if stopped else "RUNNING")
    assert (found.start_seconds > 1) is stopped


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"latency": "moon"}, "latency must be lan, same-region or cross-region, not 'moon'"),
        ({"latency": "lan", "warehouse": "hot"}, "warehouse must be warm or cold, not 'hot'"),
        ({"warehouse": "cold"}, "set latency, too"),
        ({"latency": "lan", "variant": "delta-direct"}, "set lock_storage=s3"),
    ],
)
def test_a_wrong_profile_is_refused_in_one_line(options: dict[str, str], text: str) -> None:
    """The user learns which names there are, and where a profile would not reach."""
    with pytest.raises(ValueError, match=re.escape(text)) as refused:
        DatabricksDriver({**PROVISIONED, **options})
    assert "\n" not in str(refused.value)


def test_a_profile_is_told_wherever_the_backend_is() -> None:
    """What the driver says of itself, and with it every report, calls the latency simulated."""
    options = {"latency": "same-region", "warehouse": "cold"}
    driver = DatabricksDriver({**PROVISIONED, **options})
    assert "simulated latency: same-region (1.5 ms round trip), warehouse cold" in driver.info.implementation
    assert profile(options) == ["same-region", "cold"]
    assert "simulated" not in DatabricksDriver(PROVISIONED).info.implementation
