"""Many clients at once, while their warehouse, their network and their clocks fail."""

from __future__ import annotations

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.plan import Plan
from lockproof.plugin.fixtures import Backend
from lockproof.spec import faults, needs, requirement, tier
from lockproof.suites.faults.test_network_load import CLIENTS, MANY
from lockproof.suites.faults.workload import UNFAIR, Workload

OPERATIONS = 60
EVERY = 5


@needs("state", "service.warehouse", "clients.clock")
@faults("warehouse", "clock", "net")
@requirement("FAULT-NET-012")
@pytest.mark.parametrize("operations", [OPERATIONS, pytest.param(MANY, marks=tier("full"))])
def test_clients_keep_everything_while_their_warehouse_fails(
    arena: Arena, backend: Backend, operations: int
) -> None:
    """Whatever a drawn plan does to warehouse, network and clocks of four clients, they lose nothing."""
    families = ["warehouse", "clock"] if operations == OPERATIONS else ["warehouse", "clock", "net"]
    names = arena.possible(families, besides=UNFAIR)
    plan = Plan.draw(backend.seed, names, operations, CLIENTS, every=EVERY)
    Workload(arena, plan, CLIENTS, backend.seed).prove(operations)
