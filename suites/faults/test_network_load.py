"""Many clients at once in a network that fails them."""

import random

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.plan import Plan
from lockproof.checkers import require_valid
from lockproof.plugin.fixtures import Backend
from lockproof.spec import faults, needs, requirement, tier
from lockproof.suites.faults.workload import Workload

CLIENTS = ("ann", "ben", "cam", "dot")
OPERATIONS = 240
MANY = 3_000
EVERY = 8


@needs("state", "locking")
@faults("net")
@requirement("FAULT-NET-012", "FAULT-NET-011")
@pytest.mark.parametrize("operations", [OPERATIONS, pytest.param(MANY, marks=tier("full"))])
def test_clients_keep_everything_in_a_failing_network(
    arena: Arena, backend: Backend, rng: random.Random, operations: int
) -> None:
    """Whatever a drawn plan of network faults does to four clients, they lose no lock and no write."""
    names = arena.possible(["net"], besides=["net.stale_read"])
    plan = Plan.draw(backend.seed, names, operations, CLIENTS, every=EVERY)
    load = Workload(arena, plan, CLIENTS, backend.seed)
    load.run(operations)
    load.require_kept()
    require_valid(arena.history.history())
