"""What a call costs is counted exactly, for each lock backend and way of fencing: one request more shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import requests

from lockproof.driver import LockInfo
from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.databricks_cost import Cost
from lockproof.provision import s3
from tofu_databricks.backend import Backend
from tofu_databricks.volume import Volume

STATE = b'{"version":4,"serial":1}'
READ, WRITE, EXECUTE = {"Download a file": 1}, {"Upload a file": 1}, {"Execute a statement": 1}
WRITE_TWICE = {"Upload a file": 2}
COSTS: dict[tuple[str, str, str], Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]]] = {
    ("lakebase", "checked", "2.0"): {
        "lock": (READ, {"INSERT": 1}),
        "put": (WRITE, {"SELECT": 1}),
        "get": (READ, {}),
        "unlock": ({}, {"DELETE": 1}),
    },
    ("delta", "checked", "2.0"): {
        "lock": ({**READ, "Execute a statement": 2}, {"UPDATE": 1, "SELECT": 1}),
        "put": ({**WRITE, **EXECUTE}, {"SELECT": 1}),
        "get": (READ, {}),
        "unlock": (EXECUTE, {"UPDATE": 1}),
    },
    ("delta-direct", "checked", "2.0"): {
        "lock": (READ, {"COMMIT": 1}),
        "put": (WRITE, {"SELECT": 1}),
        "get": (READ, {}),
        "unlock": ({}, {"COMMIT": 1}),
    },
    ("lakebase", "strict", "2.0"): {
        "lock": (READ, {"INSERT": 1}),
        "put": (WRITE_TWICE, {"SELECT": 2, "UPDATE": 1}),
        "get": (READ, {"SELECT": 1}),
        "unlock": ({}, {"DELETE": 1}),
    },
    ("delta", "strict", "2.0"): {
        "lock": ({**READ, "Execute a statement": 2}, {"UPDATE": 1, "SELECT": 1}),
        "put": ({**WRITE_TWICE, "Execute a statement": 3}, {"SELECT": 2, "UPDATE": 1}),
        "get": ({**READ, **EXECUTE}, {"SELECT": 1}),
        "unlock": (EXECUTE, {"UPDATE": 1}),
    },
    ("delta-direct", "strict", "2.0"): {
        "lock": (READ, {"COMMIT": 1}),
        "put": (WRITE_TWICE, {"SELECT": 2, "COMMIT": 1}),
        "get": (READ, {"SELECT": 1}),
        "unlock": ({}, {"COMMIT": 1}),
    },
    ("lakebase", "strict", "3.0"): {
        "lock": (READ, {"INSERT": 1}),
        "put": (
            {**WRITE, "Metadata of a file (3.0)": 1, "Upload a file (3.0)": 1},
            {"SELECT": 2, "UPDATE": 1},
        ),
        "get": (READ, {"SELECT": 1}),
        "unlock": ({}, {"DELETE": 1}),
    },
}
"""By lock backend, fencing and Files API: the requests and the statements of each call once connected."""


@pytest.fixture(scope="module")
def provisioned() -> Iterator[Mapping[str, str]]:
    """A fake that serves both Files APIs."""
    with DatabricksDriver.provision({"files_api": "3.0"}) as options:
        yield options


def spent(driver: DatabricksDriver, name: str) -> dict[str, Cost]:
    """The cost of each call, the second time; the first connects and makes the lock table."""
    with driver.open_scope(name) as scope:
        meter = scope.test_bed().meter()
        client, found = meter.client, {}
        for _ in range(2):
            lock_id = client.lock("default", LockInfo.new("meter"))
            found["lock"] = meter.read()
            client.put("default", STATE, lock_id=lock_id)
            found["put"] = meter.read()
            client.get("default")
            found["get"] = meter.read()
            client.unlock("default", lock_id)
            found["unlock"] = meter.read()
    return found


def counts(found: Mapping[str, Cost]) -> dict[str, tuple[Mapping[str, int], Mapping[str, int]]]:
    """Requests and statements alone."""
    return {name: (cost.requests, cost.statements) for name, cost in found.items()}


@pytest.mark.parametrize("mode", COSTS, ids=" ".join)
def test_every_call_costs_exactly_what_is_written_here(
    provisioned: Mapping[str, str], mode: tuple[str, str, str]
) -> None:
    """Locks, writes, reads and releases: no request and no statement more, and none less."""
    variant, fencing, files_api = mode
    options = {**provisioned, "variant": variant, "fencing": fencing, "files_api": files_api}
    found = spent(DatabricksDriver(options), f"cost-{'-'.join(mode).replace('.', '')}")
    assert counts(found) == COSTS[mode]
    assert all(cost.logins == 0 for cost in found.values()), "the connection stays open"


def test_bytes_are_those_of_the_state(provisioned: Mapping[str, str]) -> None:
    """Reading moves the state down and nothing up; writing moves it up, beside the look at the lock."""
    found = spent(DatabricksDriver({**provisioned, "variant": "lakebase"}), "cost-bytes")
    assert (found["get"].bytes_up, found["get"].bytes_down) == (0, len(STATE))
    assert found["put"].bytes_up > len(STATE)
    assert found["unlock"].bytes_up > 0
    assert found["unlock"].bytes_down > 0


class ReadsTwice(Volume):
    """A volume that asks for every file twice."""

    def read(self, path: str) -> bytes | None:
        super().read(path)
        return super().read(path)


class Wasteful(Backend):
    """A backend with one request more for each read."""

    volume_class = ReadsTwice


def test_a_request_more_shows(provisioned: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that reads twice has another cost than the one that is written here, by that one request."""
    monkeypatch.setattr(DatabricksDriver, "backend_class", Wasteful)
    found = counts(spent(DatabricksDriver({**provisioned, "variant": "lakebase"}), "cost-wasteful"))
    honest = COSTS["lakebase", "checked", "2.0"]
    assert found["get"] == ({"Download a file": 2}, {})
    assert found["unlock"] == honest["unlock"]
    assert found != honest


def test_somebody_else_is_not_counted(provisioned: Mapping[str, str]) -> None:
    """What other clients of the same scope do meanwhile costs the measured one nothing."""
    driver = DatabricksDriver({**provisioned, "variant": "lakebase"})
    with driver.open_scope("cost-others") as scope:
        meter = scope.test_bed().meter()
        other = scope.client("other")
        other.unlock("default", other.lock("default", LockInfo.new("other")))
        other.put("default", STATE)
        assert meter.read() == Cost()
        other.close()


def test_requests_to_the_object_store_are_counted() -> None:
    """With direct locks on S3 each request about the lock table is known by its method."""
    with s3.provide_s3() as store:
        url = f"{store.url}/{s3.BUCKET}"
        headers = {"Authorization": s3.SIGNED}
        with requests.Session() as session:
            session.trust_env = False
            session.put(f"{url}/mine/a", data=b"12345", headers=headers, timeout=30).raise_for_status()
            session.get(f"{url}/mine/a", headers=headers, timeout=30).raise_for_status()
            session.get(f"{url}?list-type=2&prefix=mine/", headers=headers, timeout=30).raise_for_status()
            session.put(f"{url}/other/a", data=b"x", headers=headers, timeout=30).raise_for_status()
        found = s3.asked(store.url, "mine/")
    assert [(entry["method"], entry["key"]) for entry in found] == [
        ("PUT", "mine/a"),
        ("GET", "mine/a"),
        ("LIST", "mine/"),
    ]
    assert (found[0]["bytes_in"], found[1]["bytes_out"]) == (5, 5)
