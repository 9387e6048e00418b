"""Many clients at once."""

import random

from lockproof.checkers import require_valid
from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.driver.waiting import lock_with_backoff
from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.suites.locks.asking import take
from lockproof.suites.locks.racing import (
    CriticalSection,
    TurnClock,
    Turns,
    count,
    counted,
    lock_in_loops,
    race,
    together,
    until_contended,
)

CLIENTS = 50


@reported("terraform#17407")
@needs("state")
@requirement("LOCK-EXCL-002")
def test_of_fifty_racing_clients_one_at_a_time_holds_the_lock(
    backend: Backend, scope: RecordedScope, history: HistoryWriter, rng: random.Random
) -> None:
    """Of fifty clients that race for one lock, never two are inside, and no update under the lock is lost."""
    clients = [scope.client(f"racer-{n}") for n in range(backend.clients or CLIENTS)]
    clients[0].put("default", counted(0))
    section = CriticalSection()
    tally = until_contended(
        lambda load: race(clients, "default", section, rounds=8 * load, rng=rng), refused=len(clients) // 2
    )
    assert section.overlaps == []
    assert count(clients[0], "default") == tally["won"], "an update made under the lock was lost"
    require_valid(history.history())


@needs("state")
@requirement("LOCK-WAIT-001")
def test_waiting_clients_get_the_lock_one_after_the_other(
    scope: RecordedScope, history: HistoryWriter, rng: random.Random
) -> None:
    """Clients that wait at the same time all get the lock, one at a time."""
    clients = [scope.client(f"waiter-{n}") for n in range(8)]
    clients[0].put("default", counted(0))
    section, turns = CriticalSection(), Turns(len(clients))

    def work(client: RecordedClient) -> None:
        clock, info = TurnClock(turns), LockInfo.new(client.who)
        with turns.one():
            lock_id = lock_with_backoff(client, "default", info, timeout=10_000, clock=clock)
            with section.entered_by(client.who):
                client.put("default", counted(count(client, "default") + 1), lock_id=lock_id)
            client.unlock("default", lock_id)

    together(clients, work, rng)
    assert section.overlaps == []
    assert count(clients[0], "default") == len(clients), "an update made under the lock was lost"
    require_valid(history.history())


@reported("kubernetes-conflict")
@requirement("LOCK-REL-004")
def test_every_granted_lock_is_released_cleanly_under_load(
    scope: RecordedScope, history: HistoryWriter, rng: random.Random
) -> None:
    """Of many clients that lock and unlock in loops, every one that is granted the lock releases it."""
    clients = [scope.client(f"client-{n}") for n in range(8)]
    tally = until_contended(lambda load: lock_in_loops(clients, loops=20 * load, rng=rng), refused=20)
    assert tally["won"] > 0
    take(clients[0])
    require_valid(history.history())


@reported("opentofu#1341", "terraform#30149")
@requirement("LOCK-WAIT-003")
def test_a_holder_that_vanishes_is_no_other_error_than_a_held_lock(
    scope: RecordedScope, history: HistoryWriter, rng: random.Random
) -> None:
    """Two clients that lock and unlock in tight loops see nothing but grants and refused locks."""
    clients = [scope.client("alice"), scope.client("bob")]
    tally = until_contended(lambda load: lock_in_loops(clients, loops=100 * load, rng=rng), refused=10)
    assert tally["won"] > 0
    require_valid(history.history())
