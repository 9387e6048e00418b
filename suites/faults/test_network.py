"""What a client is told when the network fails it."""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from lockproof.chaos.arena import PAUSE, Arena
from lockproof.chaos.network import Cut, IdleConnectionsClosed, ReadStale
from lockproof.chaos.proxy import Delay, Link, Which
from lockproof.checkers import require_valid
from lockproof.driver import DriverError, LockInfo
from lockproof.plugin.session import REMARK
from lockproof.spec import faults, needs, requirement, tier
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Unknown, Violation
from lockproof.suites.faults.struck_calls import (
    CALLS,
    Call,
    Lock,
    Place,
    Strike,
    Striking,
    attempt,
    is_held,
    outcomes,
    require_one_of,
    state,
)

pytestmark = faults("net")

STRIKES = [
    pytest.param(
        [
            Strike("net.drop_request"),
            Strike("net.drop_reply"),
            Strike("net.reset", {"side": "request", "after_bytes": 20}),
        ],
        marks=requirement("FAULT-NET-001"),
        id="lost",
    ),
    pytest.param(
        [Strike("net.truncate"), Strike("net.reset", {"side": "reply", "after_bytes": 60})],
        marks=requirement("FAULT-NET-002"),
        id="cut-short",
    ),
    pytest.param(
        [
            Strike("net.delay", {"seconds": 0.1, "side": "request"}),
            Strike("net.delay", {"seconds": 0.1, "side": "reply"}),
            Strike("net.slow_body", {"side": "request"}),
            Strike("net.slow_body", {"side": "reply"}),
        ],
        marks=requirement("FAULT-NET-003"),
        id="slow",
    ),
    pytest.param([Strike("net.duplicate")], marks=requirement("FAULT-NET-004"), id="twice"),
    pytest.param(
        [
            Strike("net.error_before", {"status": 503}),
            Strike("net.error_after", {"status": 503}),
            Strike("net.error_after", {"status": 500}),
        ],
        marks=requirement("FAULT-NET-005"),
        id="server-error",
    ),
    pytest.param(
        [
            Strike("net.throttle", {"retry_after": "0"}),
            Strike("net.throttle", {"retry_after": "date"}),
            Strike("net.throttle_bare"),
        ],
        marks=requirement("FAULT-NET-006"),
        id="throttled",
    ),
    pytest.param([Strike("net.unauthorized")], marks=requirement("FAULT-NET-007"), id="unauthorized"),
]
PATIENCE = 0.4
"""Seconds after which a client gives up a call in a network that keeps everything back."""


@requirement("FAULT-NET-011")
@pytest.mark.parametrize("strikes", STRIKES)
def test_what_a_client_is_told_of_a_struck_call_is_true(arena: Arena, strikes: Sequence[Strike]) -> None:
    """Whatever the network does to one message of a call, its client is told what became of the call."""
    Striking(arena, strikes, every=False).judge_all()


@tier("full")
@requirement("FAULT-NET-011")
@pytest.mark.parametrize("strikes", STRIKES)
def test_what_a_client_is_told_is_true_whichever_message_is_struck(
    arena: Arena, strikes: Sequence[Strike]
) -> None:
    """The same holds for every single message of every call."""
    Striking(arena, strikes, every=True).judge_all()


@requirement("FAULT-NET-009", "FAULT-NET-011")
@pytest.mark.parametrize("direction", ["both", "requests", "replies"])
def test_a_call_that_was_given_up_in_a_partition_is_unknown(arena: Arena, direction: str) -> None:
    """A client that gives a call up as nothing comes back does not know; nor does its late request harm."""
    arena.check_health()
    able = arena.backend.capabilities
    wanted = [c for c in CALLS.values() if set(c.needs) <= able and c.name != "list"]
    wanted.sort(key=lambda call: call is Lock)  # where nothing can force it, it leaves the lock held
    if "workspaces" in able:
        with ThreadPoolExecutor(len(wanted)) as pool:
            hits = list(pool.map(partial(give_up_in_a_partition, arena, direction, apart=True), wanted))
    else:
        hits = [give_up_in_a_partition(arena, direction, call, apart=False) for call in wanted]
    if not any(hits):
        raise Unknown("the partition kept nothing back")
    require_valid(arena.history.history())


def give_up_in_a_partition(arena: Arena, direction: str, kind: type[Call], *, apart: bool) -> int:
    """Makes one call that is given up, lets what was kept back through, and judges; how much was kept back.
    `apart`: in a workspace of its own."""
    ws, who = f"cut-{kind.name}" if apart else "default", f"cut-off-{kind.name}"
    observer = arena.scope.client(f"observer-{kind.name}")
    place = Place(arena, ws, arena.client(who, timeout=arena.backend.timeout), observer)
    call = kind(place)
    call.prepare()
    place.victim = arena.client(who, timeout=PATIENCE)
    partition = Cut(on=who, direction=direction)
    arena.inject(partition)
    told = attempt(call.act)
    partition.heal(arena)
    if place.victim.gone:
        place.victim.join(arena.backend.timeout)  # what was kept back has arrived, and its answer too
    if partition.struck() and not isinstance(told, DriverError):
        raise Violation(f"{kind.name} succeeded, although nothing came back")
    call.judge(told)
    arena.require_usable(ws, observer)
    return partition.struck()


@reported("terraform#14312", "terraform#16098", "terraform#30598")
@needs("state", "locking")
@requirement("FAULT-NET-010")
def test_a_lock_outlives_its_idle_connection(
    arena: Arena, record_property: Callable[[str, object], None]
) -> None:
    """A lock stays when idle connections are closed; its holder writes and releases or is told why not."""
    arena.check_health()
    holder = arena.client("holder")
    closed = busy = 0
    for _ in range(3):
        before, after = state(1), state(2)
        arena.observer.put("default", before)
        info = LockInfo.new(holder.who)
        lock_id = holder.lock("default", info)
        idle = IdleConnectionsClosed(on=holder.who)
        arena.inject(idle)
        idle.heal(arena)
        closed += idle.struck()
        busy += 0 if idle.struck() else left_open(arena.links(holder.who).values())
        place = Place(arena, "default", holder, arena.observer)
        if not is_held(place, info):
            raise Violation("the lock went with a connection that was idle")
        told = attempt(partial(holder.put, "default", after, lock_id=lock_id))
        require_one_of(place, told, outcomes(told, before, after))
        attempt(partial(holder.unlock, "default", lock_id))
        arena.recover()
    require_valid(arena.history.history())
    if not closed and busy:
        raise Unknown("no connection was idle, so none was closed")
    if not closed:  # RFC 9112 section 9.5: a server may close each after its reply, and then none goes idle
        record_property(REMARK, "no connection stays open between two calls, so that none can be idle")


def left_open(links: Collection[Link]) -> int:
    """How many connections there are on the links, once those that are just ending have ended."""
    ends = time.monotonic() + PATIENCE
    while (found := sum(len(link.open) for link in links)) and time.monotonic() < ends:
        threading.Event().wait(PAUSE)
    return found


@needs("state", "locking", "locking.fencing-strict")
@requirement("FAULT-NET-008")
def test_no_update_is_lost_by_a_stale_read(
    arena: Arena, record_property: Callable[[str, object], None]
) -> None:
    """A client that is shown an earlier state may write nothing that rests on it."""
    arena.check_health()
    reader = arena.client("reader")
    older, newer = state(1), state(2)
    stale = ReadStale(on=reader.who, times=None)
    arena.inject(stale)
    reads = Which(method="GET", times=None)  # strikes those that cannot be stale, and harmlessly
    passed = [link.arm(Delay(0), reads) for _, link in stale.aims(arena)]
    first = reader.lock("default", LockInfo.new(reader.who))
    reader.put("default", older, lock_id=first)
    reader.get("default")
    reader.put("default", newer, lock_id=first)
    shown = reader.get("default")
    told = attempt(lambda: reader.put("default", state(3), lock_id=first))
    stale.heal(arena)
    for armed in passed:
        armed.disarm()
    if not stale.struck() and not sum(armed.hits for armed in passed):
        raise Unknown("no read passed a link on which it could be stale")
    if not stale.struck() and (shown is None or shown.data != newer):
        raise Violation("the present state was not read, although no read was stale")
    if not stale.struck():  # each was tried: that none hit is the backend's doing
        record_property(REMARK, "no read can be stale: none is of a file that was ever overwritten")
    if shown is not None and shown.data == older and not isinstance(told, DriverError):
        raise Violation("a write was accepted that rests on an earlier state")
