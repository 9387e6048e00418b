"""Rules about the state, without locks and under them, and the machine of the state alone."""

from __future__ import annotations

from typing import ClassVar

from lockproof.driver import DriverError
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.concurrency.machines.base import (
    CLIENT,
    PLACE,
    SECOND_OPINION,
    WHICH,
    Machine,
    Tour,
    step,
)
from lockproof.suites.concurrency.machines.locks import NEVER_GRANTED, ended, releasable
from lockproof.suites.concurrency.machines.model import Place
from lockproof.suites.concurrency.machines.script import Demand, Outcome, Term

UNDER_LOCK = frozenset({"stale", "lock_mismatch", "not_locked", "locked"})
"""How a write may be refused because of the lock."""
LINEAGE = "6bb3e2b4-4a3c-4c53-9f0a-3e3f8c5c3a5e"
LENGTHS = (0, 300, 40)


def state(serial: int) -> bytes:
    """The state of that serial: each is different, and the lengths go up and down."""
    return tofu_bytes(
        document(serial=serial, lineage=LINEAGE, token=f"state-{serial}", filler="x" * LENGTHS[serial % 3])
    )


class StateRules(Machine):
    """put, get, delete, and lost replies of those that change something."""

    @step("state", who=CLIENT, where=PLACE)
    def put(self, who: str, where: int) -> Place:
        """A client writes without a lock id."""
        place = self.place(where)
        works = "" if place.grants else self.rewriting(place)
        self.write(
            who, place, None, Demand(works=works, kinds=UNDER_LOCK, odd="STATE-RT-001"), "LOCK-ERR-001"
        )
        return place

    @step("state", who=CLIENT, where=PLACE)
    def put_and_lose_the_reply(self, who: str, where: int) -> Place:
        """A client writes and learns no answer."""
        place = self.place(where)
        data = self.next_state()
        self.call(who, "put", place, data, demand=Demand(), lost=True)
        place.unseen = self.rewriting(place)
        self.may_be_stored(place, data.value, "put", who)
        self.lock_promise = "LOCK-STATE-001"
        self.unread = place
        return place

    @step("state", who=CLIENT, where=PLACE)
    def get(self, who: str, where: int) -> Place:
        """A client reads."""
        place = self.place(where)
        self.read(who, place, "STATE-READ-001")
        return place

    @step("state.delete", who=CLIENT, where=PLACE)
    def delete(self, who: str, where: int) -> Place:
        """A client deletes the state, which may not be there."""
        place = self.place(where)
        there = None not in place.states
        works = "" if place.grants else "STATE-DEL-001" if there else "STATE-DEL-003"
        demand = Demand(works=works, kinds=UNDER_LOCK, odd="STATE-DEL-001")
        outcome = self.call(who, "delete", place, demand=demand)
        self.state_promise = "STATE-DEL-001"
        self.lock_promise = "LOCK-STATE-001"
        if outcome.ok:
            place.store(None, "delete", who)
            place.rewritten, place.deleted = "STATE-DEL-002" if there else place.rewritten, True
        elif outcome.unknown:
            place.may_store(None, "delete", who)
        if not outcome.refused and place.listed is not False and place is not self.default:
            place.listed = None
        return place

    @step("state.delete", who=CLIENT, where=PLACE)
    def delete_and_lose_the_reply(self, who: str, where: int) -> Place:
        """A client deletes the state and learns no answer."""
        place = self.place(where)
        self.call(who, "delete", place, demand=Demand(), lost=True)
        place.may_store(None, "delete", who)
        if place.listed is not False and place is not self.default:
            place.listed = None
        place.unseen, place.rewritten, place.deleted = "STATE-DEL-001", "STATE-DEL-002", True
        self.lock_promise = "LOCK-STATE-001"
        self.unread = place
        return place

    @step("test-bed", "databricks", "state")
    def the_storage_loses_a_reply(self) -> None:
        """The next write of a state takes effect and is not answered; the backend finds out."""
        if self.ground.bed is not None:
            bed = self.ground.bed
            bed.control.add_fault(method="PUT", path=bed.files, when="after", drop=True)
            self.script.remark("the next write of a state will not be answered")

    def next_state(self) -> Term:
        """A state that was never written."""
        self.serial += 1
        return Term(state(self.serial), f"state({self.serial})")

    def rewriting(self, place: Place) -> str:
        """The requirement that a successful write is about."""
        return place.rewritten or "STATE-RT-001"

    def may_be_stored(self, place: Place, data: bytes, change: str, who: str) -> None:
        """The workspace may have this state now, and exist by it."""
        place.may_store(data, change, who)
        if place.listed is False:
            place.listed = None

    def write(
        self, who: str, place: Place, lock_id: Term | None, demand: Demand, refusal_promise: str
    ) -> Outcome:
        """A write of a new state. A refusal changes nothing, as `refusal_promise` demands."""
        data = self.next_state()
        self.state_promise = self.rewriting(place)
        self.list_promise = "WS-CREATE-001"
        self.lock_promise = "LOCK-STATE-001"
        more = {} if lock_id is None else {"lock_id": lock_id}
        outcome = self.call(who, "put", place, data, demand=demand, **more)
        if outcome.ok:
            place.store(data.value, "put", who)
            place.listed = True
        elif outcome.unknown:
            self.may_be_stored(place, data.value, "put", who)
        elif outcome.refused:
            self.state_promise = refusal_promise
        return outcome

    def read(self, who: str, place: Place, promise: str) -> None:
        """A read shows what may be stored; whatever else it shows violates `promise`, or is diagnosed."""
        never = not place.change and place.states == [None]
        promise = place.unseen or promise
        refusal = self.about(promise, never)
        demand = Demand(works="LOCK-READ-001" if place.grants and self.can("locking") else refusal)
        outcome = self.call(who, "get", place, demand=demand, keep="read")
        place.read = True
        if not outcome.ok:
            return
        data = None if outcome.value is None else outcome.value.data
        terms = {one: f"state({serial})" for serial in range(1, self.serial + 1) for one in [state(serial)]}
        possible = ", ".join("None" if one is None else terms[one] for one in place.states)
        right = data in place.states
        blamed = "" if right else self.diagnose_read(who, place, data, promise, never)
        shown = "nothing" if data is None else terms.get(data, f"{len(data)} bytes that nobody wrote")
        self.script.check(
            f"data({outcome.term}) in [{possible}]",
            right,
            blamed or self.about(promise, never),
            f"{who} reads {shown} in {place.name!r}",
        )
        if place.change == "put" and data is not None:
            self.script.count("STATE-RT-001", "STATE-VIS-001" if who == place.writer else "STATE-VIS-002")
            place.rewritten = ""
        if place.change == "delete":
            self.script.count("STATE-DEL-001")
        place.doubted += [other for other in place.states if other != data]
        place.states, place.unseen = [data], ""

    def diagnose_read(self, who: str, place: Place, data: bytes | None, promise: str, never: bool) -> str:
        """Which requirement a wrong read violates: a new client that reads rightly shows that the state is
        right, and who read it wrongly had not noticed the last change."""
        if data and place.deleted and any(one and data.startswith(one) for one in place.states):
            return "STATE-DEL-002"
        try:
            snapshot = self.script.scope.client(SECOND_OPINION).get(place.name)
        except DriverError:
            return promise
        seen = None if snapshot is None else snapshot.data
        if (
            seen in place.doubted and promise == "STATE-READ-001"
        ):  # who read another one had not noticed the change
            return "STATE-VIS-002" if place.change == "put" else "STATE-DEL-001"
        if seen in place.states and place.change == "put":
            return "STATE-VIS-001" if who == place.writer else "STATE-VIS-002"
        if seen in place.states and place.change:
            return "STATE-DEL-001" if place.change == "delete" else "WS-DEL-001"
        return self.about(promise, never)

    def about(self, promise: str, never: bool) -> str:
        """The requirement of a read where nothing was `never` written, unless a call before promised that."""
        first = {"STATE-READ-001": "STATE-ABS-001", "LOCK-EXCL-002": "LOCK-STATE-001"}
        return first.get(promise, promise) if never else promise


class LockedStateRules(StateRules):
    """put under a lock: held, lost, and never granted."""

    @step("state", "locking", when=releasable, where=PLACE)
    def put_by_the_holder(self, where: int) -> Place:
        """A holder writes under its lock."""
        place = self.pick(where, lambda p: any(grant.id is not None for grant in p.grants))
        grant = next(grant for grant in place.grants if grant.id is not None)
        works = "LOCK-OWN-001" if place.holder is grant else ""
        demand = Demand(works=works, kinds=UNDER_LOCK, odd="LOCK-OWN-001")
        self.write(grant.owner, place, Term(grant.id, grant.id_term), demand, "LOCK-FENCE-001")
        return place

    @step("state", "locking.fencing", when=ended, where=PLACE, which=WHICH)
    def put_by_a_former_holder(self, where: int, which: int) -> Place:
        """A client writes under a lock that it has released, or lost, before."""
        place = self.pick(where, lambda p: any(grant.id is not None for grant in p.released))
        old = [grant for grant in reversed(place.released) if grant.id is not None]
        grant = old[which % len(old)]
        demand = Demand(fails="LOCK-FENCE-001", kinds=UNDER_LOCK, odd="LOCK-FENCE-001")
        self.write(grant.owner, place, Term(grant.id, grant.id_term), demand, "LOCK-FENCE-001")
        return place

    @step("state", "locking.fencing", who=CLIENT, where=PLACE)
    def put_with_a_wrong_id(self, who: str, where: int) -> Place:
        """A client writes under a lock id that was never granted."""
        place = self.place(where)
        demand = Demand(fails="LOCK-FENCE-002", kinds=UNDER_LOCK, odd="LOCK-FENCE-002")
        self.write(who, place, Term(NEVER_GRANTED, repr(NEVER_GRANTED)), demand, "LOCK-FENCE-002")
        return place


class StateMachine(StateRules):
    """The state alone."""

    looks = frozenset({"states"})
    tour: ClassVar[Tour] = (
        ("get", {"who": "alice", "where": 0}),
        ("put", {"who": "alice", "where": 0}),
        ("advance_the_clock", {}),
        ("get", {"who": "alice", "where": 0}),
        ("the_storage_loses_a_reply", {}),
        ("get", {"who": "bob", "where": 0}),
        ("put", {"who": "bob", "where": 0}),
        ("get", {"who": "alice", "where": 0}),
        ("crash", {"who": "bob"}),
        ("put_and_lose_the_reply", {"who": "alice", "where": 0}),
        ("put", {"who": "alice", "where": 0}),
        ("delete", {"who": "bob", "where": 0}),
        ("delete", {"who": "alice", "where": 0}),
        ("put", {"who": "bob", "where": 0}),
        ("delete_and_lose_the_reply", {"who": "alice", "where": 0}),
        ("get", {"who": "carol", "where": 0}),
    )
