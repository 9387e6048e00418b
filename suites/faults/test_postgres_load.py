"""Clients at work while the Postgres that keeps the locks is hurt again and again, in mid-flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from lockproof.chaos.plan import Plan
from lockproof.chaos.postgres_own import PostgresArena
from lockproof.plugin.fixtures import Backend
from lockproof.spec import faults, needs, requirement, tier
from lockproof.suites.faults.workload import Workload

pytest_plugins = ("lockproof.suites.faults.postgres_fixtures",)

ENDING = ("postgres.terminate", "postgres.restart-fast", "postgres.kill", "postgres.failover-sync")
ALL = (
    *ENDING,
    "postgres.restart-immediate",
    "postgres.read-only",
    "postgres.statement-timeout",
    "postgres.no-connections",
    "postgres.idle-timeout",
)
CLIENTS = ("alice", "bob", "carol", "dave")


@pytest.mark.parametrize(
    ("names", "operations"),
    [
        pytest.param(ENDING, 60, id="ends"),
        pytest.param(ALL, 600, id="everything", marks=tier("full")),
    ],
)
@faults("postgres", destructive=True)
@needs("state", "locking.holder-info", "locking.force-unlock")
@requirement("FAULT-PG-003", "FAULT-PG-006")
def test_nothing_is_lost_while_the_server_is_hurt(
    own_arena: PostgresArena, backend: Backend, names: Sequence[str], operations: int
) -> None:
    """Clients count a state up while the server is hurt again and again: nobody loses a lock or a write."""
    plan = one_after_the_other(Plan.draw(backend.seed, names, operations, every=14))
    Workload(own_arena, plan, CLIENTS, backend.seed).prove(operations)


def one_after_the_other(plan: Plan) -> Plan:
    """The same plan, but each fault is healed before the next begins: one server can be hurt once."""
    *earlier, last = plan.steps
    room = [later.after - step.after for step, later in pairwise(plan.steps)]
    shortened = [replace(step, lasts=min(step.lasts, n)) for step, n in zip(earlier, room, strict=True)]
    return Plan(plan.seed, [*shortened, last])
