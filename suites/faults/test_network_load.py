"""Many clients at once, whom the network fails and who die."""

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.plan import Plan
from lockproof.plugin.fixtures import Backend
from lockproof.spec import faults, needs, requirement, tier
from lockproof.suites.faults.workload import UNFAIR, Workload

CLIENTS = ("ann", "ben", "cam", "dot")
OPERATIONS = 160
FEWER = 100
MANY = 3_000
EVERY = 8


@needs("state", "locking")
@faults("net")
@requirement("FAULT-NET-012", "FAULT-NET-011")
@pytest.mark.parametrize("operations", [OPERATIONS, pytest.param(MANY, marks=tier("full"))])
def test_clients_keep_everything_in_a_failing_network(
    arena: Arena, backend: Backend, operations: int
) -> None:
    """Whatever a drawn plan of network faults does to four clients, they lose no lock and no write."""
    names = arena.possible(["net"], besides=UNFAIR)
    plan = Plan.draw(backend.seed, names, operations, CLIENTS, every=EVERY)
    Workload(arena, plan, CLIENTS, backend.seed).prove(operations)


@needs("state", "locking", "clients.process")
@faults("net", "kill")
@requirement("FAULT-PROC-001", "FAULT-PROC-006", "FAULT-PROC-007", "FAULT-PROC-008")
@pytest.mark.parametrize("operations", [FEWER, pytest.param(MANY, marks=tier("full"))])
def test_clients_that_die_in_a_failing_network_harm_nobody(
    arena: Arena, backend: Backend, operations: int
) -> None:
    """Whatever a drawn plan does to network and processes of four clients, the others lose nothing."""
    names = arena.possible(["net", "kill"], besides=UNFAIR)
    plan = Plan.draw(backend.seed, names, operations, CLIENTS, every=EVERY)
    load = Workload(arena, plan, CLIENTS, backend.seed, open_client=arena.process, late_writes=True)
    load.prove(operations)
