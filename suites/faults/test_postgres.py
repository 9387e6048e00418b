"""What keeps the locks is hurt, and they hold: sessions end, the server stops, refuses and comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lockproof.chaos.nemesis import Nemesis, nemeses
from lockproof.chaos.postgres import IdleTimeout
from lockproof.chaos.postgres_own import PostgresArena
from lockproof.chaos.proxy import DropReply, DropRequest, LinkFault
from lockproof.checkers import require_valid
from lockproof.driver import DriverError, Locked, LockInfo, Snapshot
from lockproof.provision.cluster import until
from lockproof.spec import faults, needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Unknown
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.faults.asking_again import holder_in_the_end, put_in_the_end, release_in_the_end
from lockproof.suites.faults.struck_calls import CALLS, Place, attempt
from lockproof.suites.faults.sweeping import every_exchange

pytest_plugins = ("lockproof.suites.faults.postgres_fixtures",)


@reported("pg-holder-terminated", "terraform#14312")
@pytest.mark.parametrize("name", ["postgres.terminate", "postgres.idle-timeout"])
@faults("postgres", destructive=True)
@needs("locking.holder-info")
@requirement("FAULT-PG-001")
def test_the_holder_whose_session_ended_is_still_the_holder(own_arena: PostgresArena, name: str) -> None:
    """The server ends the holder's session: everybody else is refused, and the holder goes on working."""
    require_the_holder_stays(own_arena, name)


@pytest.mark.parametrize("name", ["postgres.restart-fast", "postgres.restart-immediate", "postgres.kill"])
@faults("postgres", destructive=True)
@needs("locking.holder-info")
@requirement("FAULT-PG-002")
def test_locks_and_states_survive_the_end_of_the_server(own_arena: PostgresArena, name: str) -> None:
    """The server stops, in order or not, and starts again: the holder still holds, and the state is there."""
    require_the_holder_stays(own_arena, name)


@faults("postgres", destructive=True)
@needs("locking.holder-info")
@requirement("FAULT-PG-004")
def test_locks_and_states_survive_a_fail_over_to_a_synchronous_standby(own_arena: PostgresArena) -> None:
    """The primary is lost and its synchronous standby takes over: the holder still holds."""
    require_the_holder_stays(own_arena, "postgres.failover-sync")


@reported("http-reply-lost")
@pytest.mark.parametrize("call", ["lock", "unlock", "put"])
@pytest.mark.parametrize("fault", [DropRequest(), DropReply()], ids=["before", "after"])
@faults("postgres", destructive=True)
@requirement("FAULT-PG-003")
def test_what_is_told_of_a_statement_whose_connection_died_is_true(
    own_arena: PostgresArena, call: str, fault: LinkFault
) -> None:
    """Whatever statement of a call loses its connection, the outcome told is true, or unknown."""
    victim = own_arena.client("victim")
    victim.unlock("default", victim.lock("default", LockInfo.new("victim")))
    for turn in every_exchange({"postgres": own_arena.postgres.link}, lambda _: fault, own_arena.history):
        struck = CALLS[call](Place(own_arena, "default", victim, own_arena.observer))
        struck.prepare()
        with turn:
            told = attempt(struck.act)
        struck.judge(told)
        struck.clear()
        own_arena.recover()
    require_valid(own_arena.history.history())


@pytest.mark.parametrize(
    "name", ["postgres.read-only", "postgres.no-connections", "postgres.statement-timeout"]
)
@faults("postgres", destructive=True)
@requirement("FAULT-PG-005", "FAULT-PG-006")
def test_a_server_that_refuses_grants_nothing_and_ends_no_lock(own_arena: PostgresArena, name: str) -> None:
    """While the server refuses, asking for a free lock is an error, and no lock is lost; then all goes on."""
    alice, bob = own_arena.client("alice"), own_arena.client("bob")
    workspace = "other" if "workspaces" in own_arena.backend.capabilities else "default"
    held = alice.lock("default", LockInfo.new("alice")) if workspace != "default" else ""
    nemesis = strike(own_arena, name)
    told = attempt(lambda: bob.lock(workspace, LockInfo.new("bob")))
    nemesis.heal(own_arena)
    assert_hit(nemesis)
    assert isinstance(told, DriverError), f"{bob.who} was granted a lock by a server that refuses"
    assert not isinstance(told, Locked), (
        f"{bob.who} was told that the lock is held, and nobody holds it: {told}"
    )
    if held:
        assert holder_in_the_end(bob).ID == held
        release_in_the_end(alice, held)
    own_arena.recover()
    own_arena.recover(workspace)
    require_valid(own_arena.history.history())


def strike(arena: PostgresArena, name: str) -> Nemesis:
    """Injects a nemesis into a healthy arena."""
    nemesis = nemeses()[name]()
    nemesis.check_health(arena)
    arena.inject(nemesis)
    return nemesis


def assert_hit(nemesis: Nemesis) -> None:
    """Raises `Unknown` when it hit nothing."""
    if not nemesis.struck():
        raise Unknown(f"{nemesis.name} hit nothing")


@pytest.mark.parametrize("ended", [False, True], ids=["waits", "session ended"])
@faults("postgres", destructive=True)
@needs("locking.holder-info")
@requirement("FAULT-PG-004")
def test_what_a_synchronous_standby_has_not_confirmed_is_not_acknowledged(
    own_arena: PostgresArena, ended: bool
) -> None:
    """The standby gets nothing more and takes over: who was granted a lock meanwhile holds it after that."""
    alice, bob = own_arena.client("alice"), own_arena.client("bob")
    alice.unlock("default", alice.lock("default", LockInfo.new("alice")))
    nemesis = strike(own_arena, "postgres.failover-unconfirmed")
    primary, cut = own_arena.postgres.cluster.primary, 0
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(lambda: attempt(lambda: alice.lock("default", LockInfo.new("alice"))))
        until(lambda: asking.done() or primary.waiting("SyncRep") > 0, "the lock is not committed")
        if ended and not asking.done():  # whoever looks again sees a row that the standby has not got
            cut = primary.end_sessions()
            until(lambda: asking.done() or primary.waiting("SyncRep") > 0, "nobody asks again")
        nemesis.heal(own_arena)
        told = asking.result()
    if not cut:
        assert_hit(nemesis)
    if not isinstance(told, DriverError):
        assert holder_in_the_end(bob).ID == told
    own_arena.recover()
    require_valid(own_arena.history.history())


def require_the_holder_stays(arena: PostgresArena, name: str) -> None:
    """Alice holds the lock and has written; the nemesis strikes, and is healed; nothing of that is lost."""
    alice, bob = arena.client("alice"), arena.client("bob")
    asked = LockInfo.new("alice")
    lock_id = alice.lock("default", asked)
    first, second = tofu_bytes(document(serial=1)), tofu_bytes(document(serial=2))
    alice.put("default", first, lock_id=lock_id)
    nemesis = strike(arena, name)
    if isinstance(nemesis, IdleTimeout):
        put_in_the_end(alice, first, lock_id)
        nemesis.await_hit()
    nemesis.heal(arena)
    assert_hit(nemesis)
    holder = holder_in_the_end(bob)
    assert (holder.ID, holder.Info) == (lock_id, asked.Info)
    put_in_the_end(alice, second, lock_id)
    release_in_the_end(alice, lock_id)
    arena.recover()
    assert arena.observer.get("default") == Snapshot(second)
    require_valid(arena.history.history())
