"""Arenas: faults strike whom they are meant for, are healed, and what they have hit is known."""

from __future__ import annotations

import random

import pytest
from starlette.requests import Request
from starlette.responses import Response

from lockproof.chaos.arena import Arena
from lockproof.chaos.nemesis import Nemesis
from lockproof.chaos.network import (
    AnsweredBefore,
    Cut,
    IdleConnectionsClosed,
    LinkNemesis,
    ReplyLost,
    RequestLost,
    Slow,
    Throttled,
    Twice,
)
from lockproof.chaos.plan import Plan, Step
from lockproof.driver import DriverError, LockInfo
from lockproof.driver.api import Capabilities
from lockproof.driver.memory import MemoryDriver
from lockproof.driver.recorder import RecordedScope
from lockproof.fakes.drivers.memory_backend import MemoryStateClient
from lockproof.fakes.drivers.served import Served
from lockproof.fakes.saboteurs.broken_gateway import BrokenServer
from lockproof.history import HistoryWriter
from lockproof.history.faults import faults
from lockproof.history.writer import HARNESS
from lockproof.plugin.session import REMARK
from lockproof.spec.outcome import Unknown, Violation
from lockproof.suites.faults import test_network
from lockproof.suites.faults.struck_calls import Strike, Striking
from lockproof.suites.faults.workload import Workload
from lockproof.suites.meta.chaos_bed import in_memory, served
from tofu_databricks.gateway import GatewayApp


def fails(client: object, error: str) -> bool:
    """Whether a read of the client ends in that kind of error; it must not end otherwise."""
    try:
        client.get("default")  # type: ignore[attr-defined]
    except DriverError as found:
        return found.kind == error
    return False


def test_a_fault_strikes_one_client_and_nobody_else() -> None:
    """A fault on the links of one is not seen by another client, nor by the observer."""
    with served() as arena:
        ann, ben = arena.client("ann"), arena.client("ben")
        fault = AnsweredBefore(on="ann", times=None)
        arena.inject(fault)
        assert fails(ann, "unavailable")
        assert not fails(ben, "unavailable")
        assert not fails(arena.observer, "unavailable")
        assert fault.struck() == 1


def test_a_fault_of_nobody_in_particular_strikes_all_clients() -> None:
    """Without a name every client is struck, but not the observer."""
    with served() as arena:
        clients = [arena.client("ann"), arena.client("ben")]
        arena.inject(AnsweredBefore(times=None))
        assert [fails(client, "unavailable") for client in clients] == [True, True]
        assert not fails(arena.observer, "unavailable")


def test_the_history_tells_when_a_fault_began_and_ended_and_what_it_hit() -> None:
    """Two events with the same parameters, the second with the hits; healing again adds nothing."""
    with served() as arena:
        ann = arena.client("ann")
        fault = Throttled(on="ann", retry_after="0", times=None)
        arena.inject(fault)
        assert fails(ann, "throttled")
        arena.heal()
        arena.heal()
        fault.heal(arena)
        assert not fails(ann, "throttled")
        (found,) = faults(arena.history.history().events)
        assert (found.name, found.given) == ("net.throttle", {"on": "ann", "retry_after": "0", "times": None})
        assert found.stop is not None
        assert found.start.i < found.stop.i
        assert found.stop.out == {"hits": 1}


class UnderWay:
    """A fault at a link whose only hit is known some time after it is disarmed."""

    def __init__(self) -> None:
        self.disarmed = False
        self.hits = 0

    def disarm(self) -> None:
        self.disarmed = True

    def await_settled(self, timeout: float) -> bool:
        assert self.disarmed
        assert timeout > 0
        self.hits = 1
        return True


def test_a_hit_that_is_under_way_when_the_fault_is_healed_counts() -> None:
    """The history tells the hits when they are final."""
    with served() as arena:
        fault = ReplyLost(on="ann")
        arena.inject(fault)
        fault.armed = [UnderWay()]  # type: ignore[list-item]
        arena.heal()
        (found,) = faults(arena.history.history().events)
        assert found.stop is not None
        assert found.stop.out == {"hits": 1}


def test_what_was_not_injected_is_not_healed() -> None:
    """Healing a fault that never was leaves no event."""
    with served() as arena:
        Cut(on="ann").heal(arena)
        assert faults(arena.history.history().events) == []


class Lasting(Cut):
    """A partition that cannot be ended."""

    def lift(self, arena: Arena) -> None:
        super().lift(arena)
        raise RuntimeError(f"{self.parameters['on']} is cut off for good")


def test_what_cannot_be_healed_leaves_nothing_else_unhealed() -> None:
    """All faults are ended, and then the first failure is told."""
    with served() as arena:
        ann = arena.client("ann")
        for fault in (Lasting(on="ben"), Lasting(on="cam"), AnsweredBefore(on="ann", times=None)):
            arena.inject(fault)
        with pytest.raises(RuntimeError, match="ben is cut off for good"):
            arena.heal()
        assert not fails(ann, "unavailable")
        assert arena.injected == []


def test_a_client_that_cannot_be_closed_leaves_no_other_open() -> None:
    """A scope closes all of its clients, and then tells the first failure."""
    with HistoryWriter({}) as history:
        scope = RecordedScope(MemoryDriver({}).open_scope("closing"), history, 10.0)
        stuck, other = scope.client("ann"), scope.client("ben")
        stuck._client.close = _unclosable  # type: ignore[method-assign]
        with pytest.raises(DriverError, match="not to be closed"):
            scope.__exit__(None, None, None)
    assert other.gone


def _unclosable() -> None:
    raise DriverError("unavailable", True, "not to be closed")


def test_leaving_the_arena_heals_a_partition() -> None:
    """Whoever waits in a partition goes on when the arena ends, so that nothing is left hanging."""
    with served() as arena:
        ann = arena.client("ann", timeout=0.2)
        arena.inject(Cut(on="ann"))
        assert fails(ann, "timeout")
        assert ann.gone
    ann.join(10)
    assert [found.stop is not None for found in faults(arena.history.history().events)] == [True]


@pytest.mark.parametrize(
    ("settings", "families"),
    [
        ({}, {"net"}),
        ({"faults": ["kill"]}, set()),
        ({"faults": ["net", "clock"]}, {"net"}),
    ],
)
def test_possible_faults_are_those_wanted_whose_precondition_is_met(
    settings: dict[str, object], families: set[str]
) -> None:
    """The options and the links of the backend say what can be injected."""
    with served(Served, **settings) as arena:
        assert {name.partition(".")[0] for name in arena.possible(["net"])} == families


def test_without_links_no_network_can_fail() -> None:
    """A backend in this process has no link, and the reason is said."""
    with in_memory() as arena:
        assert arena.possible(["net"]) == []
        assert Slow().missing(arena) == "the backend is not reached over a network link"
        assert Slow(link="postgres").missing(arena) == "the backend is not reached over a network link"


class Destructive(Slow):
    """A fault that would hurt the service."""

    name = "net.flood"
    destructive = True


@pytest.mark.parametrize(
    ("target", "allowed", "possible"), [("real", False, False), ("real", True, True), ("fake", False, True)]
)
def test_a_service_is_hurt_on_a_real_target_only_when_allowed(
    target: str, allowed: bool, possible: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Destructive faults need the permission on a real target, and none elsewhere."""
    monkeypatch.setattr("lockproof.chaos.arena.nemeses", lambda: {"net.flood": Destructive})
    with served(target=target, allow_destructive=allowed) as arena:
        assert bool(arena.possible(["net"])) is possible


def test_recovery_forces_the_lock_of_the_dead() -> None:
    """A lock whose reply was lost is freed by force, and the state can be read."""
    with served() as arena:
        ann = arena.client("ann")
        arena.inject(ReplyLost(on="ann"))
        with pytest.raises(DriverError) as told:
            ann.lock("default", LockInfo.new("ann"))
        assert not told.value.definite
        arena.recover()
        arena.observer.unlock("default", arena.observer.lock("default", LockInfo.new("next")))


class NobodyForces(Served):
    """A correct backend whose locks cannot be forced."""

    def capabilities(self) -> Capabilities:
        return Capabilities(super().capabilities() - {"locking.force-unlock"})


@pytest.mark.parametrize("fault", [RequestLost, ReplyLost, Twice])
@pytest.mark.parametrize("names", [["lock"], ["unlock"]])
def test_who_lives_releases_its_own_lock_where_nothing_can_force_it(
    fault: type[LinkNemesis], names: list[str]
) -> None:
    """A client that was left in doubt gives back by its own id what it turns out to hold."""
    with served(NobodyForces) as arena:
        Striking(arena, [Strike(fault.name)], every=True).judge_all(names)
        lock_id = arena.observer.lock(f"struck-{names[0]}", LockInfo.new("next"))
        arena.observer.unlock(f"struck-{names[0]}", lock_id)
        assert remarks(arena) == []


def test_a_lock_that_nobody_is_left_to_release_is_remarked_where_nothing_can_force_it() -> None:
    """That a backend cannot force is no defect: the rest of what recovery asks for is judged."""
    with served(NobodyForces) as arena:
        ann = arena.client("ann")
        ann.lock("default", LockInfo.new("ann"))
        ann.close()
        arena.recover()
        assert remarks(arena) == ["the lock of 'default' is left held: nobody who lives knows its id"]


def remarks(arena: Arena) -> list[str]:
    """What the harness has remarked."""
    return [
        (e.given or {})["text"]
        for e in arena.history.history().events
        if (e.e, e.f) == ("note", "remark") and e.p == HARNESS
    ]


class NothingIsReleased(BrokenServer):
    """A release is acknowledged, and the lock stays."""

    class State(MemoryStateClient):
        def unlock(self, lock_id: str) -> None:
            self.require(lock_id)


def test_a_lock_that_cannot_be_taken_after_healing_is_a_violation() -> None:
    """What does not recover within its time is refuted, and not waited for."""
    with served(NothingIsReleased) as arena:
        arena.client("ann").lock("default", LockInfo.new("ann"))
        with pytest.raises(Violation, match="after healing the lock of 'default' cannot be taken"):
            arena.recover(within=0.2)


def test_a_sick_backend_is_unknown_before_a_fault() -> None:
    """Where the backend does not answer on a clean link the fault proves nothing."""
    with served() as arena, pytest.MonkeyPatch.context() as broken:
        broken.setattr(type(arena.observer), "get", _unavailable)
        with pytest.raises(Unknown, match="does not answer on a clean link"):
            Slow().check_health(arena)


def test_a_backend_that_is_still_sick_when_all_is_healed_is_a_violation() -> None:
    """Whoever answered before the faults must answer after them, within the deadline of a call."""
    with served(timeout=0.2) as arena, pytest.MonkeyPatch.context() as broken:
        slow = Slow(on="ann")
        arena.inject(slow)
        broken.setattr(type(arena.observer), "get", _unavailable)
        with pytest.raises(Unknown, match="does not answer on a clean link"):
            slow.check_health(arena)
        slow.heal(arena)
        with pytest.raises(Violation, match="after healing the backend does not answer on a clean link"):
            slow.check_health(arena)


def test_a_workload_looks_at_the_backend_after_each_healing() -> None:
    """A backend that a fault has made sick for good is told at the next operation."""
    with served(timeout=0.2) as arena, pytest.MonkeyPatch.context() as broken:
        load = Workload(arena, Plan(1, (Step(1, "net.delay", 2, {"on": "ann"}),)), ["ann"], seed=1)
        load.conductor.operation()
        broken.setattr(type(arena.observer), "get", _unavailable)
        load.conductor.operation()
        with pytest.raises(Violation, match="after healing the backend does not answer"):
            load.conductor.operation()


def _unavailable(*_: object) -> None:
    raise DriverError("unavailable", True, "gone")


def test_a_fault_that_hits_nothing_is_unknown() -> None:
    """A fault that strikes no message of the calls proves nothing: a read has no body to slow down."""
    slow = Strike("net.slow_body", {"side": "request"})
    with served() as arena, pytest.raises(Unknown, match="side=request hit nothing: message 1 of get"):
        Striking(arena, [slow], every=False).judge_all(["get"])


def test_idle_connections_that_there_are_not_are_not_closed() -> None:
    """Nobody has connected, so nothing was hit."""
    with served() as arena:
        arena.links("ann")
        fault = IdleConnectionsClosed(on="ann")
        arena.inject(fault)
        assert fault.struck() == 0


class EveryReplyIsTheLast(BrokenServer):
    """A correct server without connections that are kept."""

    class App(GatewayApp):
        async def respond(self, request: Request) -> Response:
            response = await super().respond(request)
            response.headers["Connection"] = "close"
            return response


@pytest.mark.parametrize(("kind", "remarks"), [(EveryReplyIsTheLast, {REMARK}), (Served, set())])
def test_a_server_may_close_each_connection_after_its_reply(kind: type[Served], remarks: set[str]) -> None:
    """Where no connection is kept none goes idle, but for a moment: the lock is judged, never unknown."""
    told: dict[str, object] = {}
    with served(kind) as arena:
        test_network.test_a_lock_outlives_its_idle_connection(arena, told.__setitem__)
    assert told.keys() <= remarks


def test_a_read_that_no_link_carries_is_not_taken_for_one_that_cannot_be_stale() -> None:
    """Where no read passes the link the fault proves nothing; where one is stale nothing is remarked."""
    told: dict[str, object] = {}
    with served() as arena, pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setattr(arena, "client", arena.scope.client)
        with pytest.raises(Unknown, match="no read passed a link"):
            test_network.test_no_update_is_lost_by_a_stale_read(arena, told.__setitem__)
    with served() as arena, pytest.raises(Violation, match="a write was accepted that rests on an earlier"):
        test_network.test_no_update_is_lost_by_a_stale_read(arena, told.__setitem__)
    assert told == {}


def test_a_workload_whose_plan_hits_nothing_is_unknown() -> None:
    """Clients that nothing happened to prove nothing about faults."""
    with served() as arena:
        load = Workload(arena, Plan(1, ()), ["ann", "ben"], seed=1)
        with pytest.raises(Unknown, match="no fault of the plan hit anything"):
            load.prove(20)


class WritesAreLost(BrokenServer):
    """Every third write is acknowledged and not stored."""

    class State(MemoryStateClient):
        def put(self, data: bytes, *, lock_id: str | None = None) -> None:
            self.backend.calls.append("put")
            if len([call for call in self.backend.calls if call == "put"]) % 3:
                super().put(data, lock_id=lock_id)


def test_a_violation_shows_the_plan() -> None:
    """What repeats a failure stands in it: seed, times and faults."""
    plan = Plan(7, (Step(2, "net.delay", 3, {"on": "ann", "seconds": 0.01}),))
    with served(WritesAreLost) as arena:
        load = Workload(arena, plan, ["ann", "ben"], seed=7)
        with pytest.raises(Violation, match=r"^the counter of 'default' shows \d+; it must be ") as found:
            load.prove(60)
        assert "\nplan of faults, seed 7:\n  after 2 operations, for 3: net.delay" in str(found.value)


def test_the_plan_of_a_workload_stands_in_its_history() -> None:
    """A history can be read without the run that made it: the plan is its note."""
    plan = Plan.draw(3, ["net.delay"], 40, ["ann", "ben"])
    with served() as arena:
        Workload(arena, plan, ["ann", "ben"], seed=3).prove(40)
        notes = [e.given for e in arena.history.history().events if (e.e, e.f) == ("note", "plan")]
    assert [Plan.from_json(note or {}) for note in notes] == [plan]


class Stuck(Nemesis):
    """Stops the clients: it is healed when they have gone on, which they cannot."""

    name = "net.stuck"

    def __init__(self) -> None:
        super().__init__()
        self.cut = Cut()

    def strike(self, arena: Arena, rng: random.Random) -> None:
        self.cut.strike(arena, rng)

    def lift(self, arena: Arena) -> None:
        self.cut.lift(arena)

    def struck(self) -> int:
        return self.cut.struck()


def test_a_fault_that_stops_all_clients_is_healed_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clients cannot go on until a fault is healed, it is healed without them."""
    monkeypatch.setattr(Step, "make", lambda _: Stuck())
    with served() as arena:
        load = Workload(arena, Plan(1, (Step(3, "net.stuck", 10_000),)), ["ann", "ben"], seed=1)
        load.conductor.patience = 0.2
        load.prove(40)
        assert load.conductor.operations >= 40


def test_a_driver_without_links_meets_the_workload_all_the_same() -> None:
    """Where no network can fail the clients only count, and the plan is empty."""
    with in_memory() as arena:
        load = Workload(arena, Plan.draw(1, arena.possible(["net"]), 40, ["ann"]), ["ann", "ben"], seed=1)
        load.run(60)
        with pytest.raises(Unknown):
            load.require_kept()
        assert load.tallies["default", "acknowledged"] > 0
