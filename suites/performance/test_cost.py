"""What reads, writes and locks cost: requests, statements and bytes, as the fake counted them."""

from collections.abc import Callable
from dataclasses import asdict

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.databricks_cost import Cost
from lockproof.driver.recorder import RecordedScope
from lockproof.plugin.session import COUNTS
from lockproof.spec import needs, requirement
from lockproof.spec.outcome import Unknown
from lockproof.suites.databricks.special import bed_of, recorded
from lockproof.suites.performance.test_latency import state

SIZE = 10_000
ROUNDS = 3


@needs("databricks")
@requirement("PERF-COST-001")
def test_a_repeated_call_costs_no_more(scope: RecordedScope, request: pytest.FixtureRequest) -> None:
    """Reads, writes, locks and unlocks cost as many requests and statements the third time as the second."""
    meter = bed_of(scope).meter()
    client = recorded(scope, "meter", meter.client)
    data, lock_ids = state(SIZE), []
    calls: dict[str, Callable[[], object]] = {
        "lock": lambda: lock_ids.append(client.lock("default", LockInfo.new("meter"))),
        "put": lambda: client.put("default", data, lock_id=lock_ids[-1]),
        "get": lambda: client.get("default"),
        "unlock": lambda: client.unlock("default", lock_ids[-1]),
    }
    rounds: list[dict[str, Cost]] = []
    for _ in range(ROUNDS):
        found: dict[str, Cost] = {}
        for name, call in calls.items():
            call()
            found[name] = meter.read()
        rounds.append(found)
    first, before, after = rounds
    told = [{"operation": "first lock", **asdict(first["lock"])}]
    told += [{"operation": name, **asdict(cost)} for name, cost in after.items()]
    request.node.user_properties.append((COUNTS, told))
    silent = [name for name, cost in after.items() if cost.nothing]
    if silent:
        raise Unknown(f"no request and no statement was counted for {', '.join(silent)}")
    for name, cost in after.items():
        assert cost.requests == before[name].requests, f"{name} asks more and more of the workspace"
        assert cost.statements == before[name].statements, f"{name} takes more and more statements"
