"""Rules about the lock, and the machine that has no others."""

from __future__ import annotations

from typing import Any, ClassVar

from lockproof.driver import DriverError, LockInfo
from lockproof.suites.concurrency.machines.base import (
    CLIENT,
    OBSERVER,
    PLACE,
    SECOND_OPINION,
    WHICH,
    Machine,
    Tour,
    step,
)
from lockproof.suites.concurrency.machines.model import Grant, Place
from lockproof.suites.concurrency.machines.script import Demand, Outcome, Term

HELD = frozenset({"locked"})
RELEASE = frozenset({"lock_mismatch", "not_locked"})
NEVER_GRANTED = "00000000-0000-4000-8000-000000000000"


def releasable(machine: Any) -> bool:
    """Whether some lock may be held whose id is known."""
    return any(grant.id is not None for place in machine.places for grant in place.grants)


def ended(machine: Any) -> bool:
    """Whether some lock was released whose id is known."""
    return any(grant.id is not None for place in machine.places for grant in place.released)


def requested(machine: Any) -> bool:
    """Whether some request that may have been granted can be repeated."""
    return any(grant in place.holders for place in machine.places for grant in place.requests.values())


class LockRules(Machine):
    """lock, lock again, unlock, force-unlock, unlock with wrong and old ids, lost replies."""

    @step("locking", who=CLIENT, where=PLACE)
    def lock(self, who: str, where: int) -> Place:
        """A client asks for the lock."""
        place = self.place(where)
        self.ask(who, place)
        return place

    @step("locking", who=CLIENT, where=PLACE)
    def lock_and_lose_the_reply(self, who: str, where: int) -> Place:
        """A client asks for the lock and learns no answer."""
        place = self.place(where)
        request = self.script.request(who)
        grant = Grant(who, request.value, request.text)
        self.call(who, "lock", place, request, demand=Demand(), lost=True)
        place.requests[who] = grant
        place.may_take(grant)
        return place

    @step("locking", when=requested, where=PLACE, which=WHICH)
    def lock_again(self, where: int, which: int) -> Place:
        """A client repeats its request for a lock that it has, or may have after a lost reply."""
        place = self.pick(where, lambda p: any(grant in p.holders for grant in p.requests.values()))
        repeated = [grant for grant in place.requests.values() if grant in place.holders]
        grant = repeated[which % len(repeated)]
        grant.again = True
        self.lock_promise = "LOCK-IDEM-002" if place.holder is grant else "LOCK-EXCL-001"
        demand = Demand(kinds=HELD, odd="LOCK-ERR-001")
        outcome = self.call(
            grant.owner, "lock", place, Term(grant.info, grant.term), demand=demand, keep="id"
        )
        if outcome.ok:
            term, same = f"id_of({outcome.term})", grant.id in (None, outcome.value)
            if place.holder is grant and grant.id is not None:
                self.script.check(
                    f"isinstance({outcome.term}, DriverError) or {outcome.term} == {grant.id_term}",
                    same,
                    "LOCK-IDEM-002",
                    f"the same request again got another id: {outcome.value!r}",
                )
            if not same:  # it was released before, so this is another acquisition
                grant = Grant(grant.owner, grant.info, grant.term)
                place.requests[grant.owner] = grant
            if grant.id is None:
                grant.id, grant.id_term, grant.told_again = outcome.value, term, same
            place.take(grant)
        elif outcome.refused:
            self.refused(place, outcome, strict=False)
        elif outcome.unknown:
            place.may_take(grant)
        return place

    @step("locking", when=releasable, where=PLACE)
    def unlock(self, where: int) -> Place:
        """A holder releases its lock."""
        place = self.pick(where, lambda p: any(grant.id is not None for grant in p.grants))
        grant = next(grant for grant in place.grants if grant.id is not None)
        works, free_by = ("LOCK-FORCE-001",) * 2 if grant.orphan else ("LOCK-REL-004", "LOCK-REL-001")
        self.release(grant.owner, place, grant, works, free_by)
        return place

    @step("locking", when=releasable, where=PLACE)
    def unlock_and_lose_the_reply(self, where: int) -> Place:
        """A holder releases its lock and learns no answer."""
        place = self.pick(where, lambda p: any(grant.id is not None for grant in p.grants))
        grant = next(grant for grant in place.grants if grant.id is not None)
        term = Term(grant.id, grant.id_term)
        self.call(grant.owner, "unlock", place, term, demand=Demand(), lost=True)
        place.free_by = "LOCK-FORCE-001" if grant.orphan else "LOCK-REL-001"
        if place.holder is not grant:
            place.suspect = "LOCK-IDEM-001"  # it may have been the second release
        place.may_free()
        return place

    @step("locking.force-unlock", when=releasable, who=CLIENT, where=PLACE)
    def force_unlock(self, who: str, where: int) -> Place:
        """A client releases the lock of another."""
        place = self.pick(where, lambda p: any(grant.id is not None for grant in p.grants))
        grant = next(grant for grant in place.grants if grant.id is not None)
        forcing = who if who != grant.owner else OBSERVER
        if self.release(forcing, place, grant, "LOCK-FORCE-001", "LOCK-FORCE-001"):
            grant.forced = True
        return place

    @step("locking.release-nonce", who=CLIENT, where=PLACE)
    def unlock_a_wrong_id(self, who: str, where: int) -> Place:
        """A client releases with an id that was never granted."""
        place = self.place(where)
        self.lock_promise = "LOCK-REL-002"
        demand = Demand(fails="LOCK-REL-002", kinds=RELEASE, odd="LOCK-REL-002")
        self.call(who, "unlock", place, NEVER_GRANTED, demand=demand)
        return place

    @step("locking", when=ended, where=PLACE, which=WHICH)
    def unlock_an_old_id(self, where: int, which: int) -> Place:
        """A client releases once more what it has released, or lost, before."""
        place = self.pick(where, lambda p: any(grant.id is not None for grant in p.released))
        old = [grant for grant in reversed(place.released) if grant.id is not None]
        grant = old[which % len(old)]
        held = place.holder is not None
        if held and self.can("locking.release-nonce"):
            lost = grant.forced and self.can("locking.force-unlock")
            self.lock_promise = "LOCK-FORCE-002" if lost else "LOCK-REL-003"
            demand = Demand(fails=self.lock_promise, kinds=RELEASE, odd=self.lock_promise)
        else:
            self.lock_promise = "LOCK-IDEM-001"
            demand = Demand(kinds=RELEASE, odd="LOCK-IDEM-001")
        outcome = self.call(grant.owner, "unlock", place, Term(grant.id, grant.id_term), demand=demand)
        if place.free:
            place.suspect = "LOCK-IDEM-001"
            self.script.count("LOCK-IDEM-001" if outcome.ok or outcome.refused else "")
        elif not self.can("locking.release-nonce"):
            place.may_free()
        return place

    @step("test-bed", "databricks", "locking")
    def the_lock_store_loses_a_reply(self) -> None:
        """The next change of the lock table takes effect and is not answered; the backend finds out."""
        if self.ground.bed is not None:
            self.ground.bed.locks.lose_change()
            self.script.remark("the next change of the lock table will not be answered")

    @step("test-bed", "databricks", "locking.expiring-login")
    def logins_expire(self) -> None:
        """Every token for the lock store expires; who logs in later needs another."""
        if self.ground.bed is not None:
            own = self.ground.bed.locks.own_compute()  # other tests log in to the shared one meanwhile
            self.ground.bed.control.call("lakebase_expire_tokens", project=own["lakebase_project"])
            self.script.remark("every token for the lock store expires")

    def ask(self, who: str, place: Place) -> None:
        """A new request for the lock."""
        request = self.script.request(who)
        grant = Grant(who, request.value, request.text)
        demand = Demand(kinds=HELD, odd="LOCK-ERR-001")
        if place.free:
            promise = place.free_by or "LOCK-STATE-001"
            demand = Demand(works=promise, diagnose=lambda error: self.diagnose_refusal(place, error))
        elif place.holder is not None:
            demand = Demand(fails=place.suspect or "LOCK-EXCL-001", kinds=HELD, odd="LOCK-ERR-001")
        outcome = self.call(who, "lock", place, request, demand=demand, keep="id")
        if outcome.ok:
            if demand.works:
                self.script.count(
                    "LOCK-REL-001" if place.released else "",
                    "LOCK-IDEM-003" if place.released and place.released[-1].again else "",
                    "LOCK-SCOPE-001" if self.others_held(place) else "",
                )
            self.granted(place, grant, outcome, strict=bool(demand.works))
        elif outcome.refused:
            place.contenders.add(who)
            self.contention = max(self.contention, len(place.contenders))
            self.refused(place, outcome, strict=bool(demand.fails))
        elif outcome.unknown:
            place.requests[who] = grant
            place.may_take(grant)

    def diagnose_refusal(self, place: Place, error: DriverError) -> str:
        """Which requirement is violated when a free lock is refused: it is another workspace's lock, or it is
        not free, as the one that was released last can be released again; else what freed it last."""
        if self.is_elsewhere(place, error.holder) or (not place.free_by and self.others_held(place)):
            return "LOCK-SCOPE-001"
        if not place.released:
            return place.free_by
        last = place.released[-1]
        held = self.still_releases(place, last.id)
        if place.free_by == "LOCK-FORCE-001" and not held:
            return "LOCK-REL-001"
        if last.again and held and self.is_granted(place):
            return "LOCK-IDEM-003"
        return place.free_by

    def others_held(self, place: Place) -> list[Grant]:
        """The acquisitions of other workspaces."""
        return [grant for other in self.places if other is not place for grant in other.grants]

    def is_elsewhere(self, place: Place, holder: LockInfo | None) -> bool:
        """Whether a refusal names the holder of another workspace."""
        return holder is not None and any(grant.is_named_by(holder) for grant in self.others_held(place))

    def is_granted(self, place: Place) -> bool:
        """Whether the lock can be taken: asked when an example has failed, to tell why."""
        try:
            self.script.scope.client(SECOND_OPINION).lock(place.name, LockInfo.new(SECOND_OPINION))
        except DriverError:
            return False
        return True

    def still_releases(self, place: Place, lock_id: str | None) -> bool:
        """Whether the lock can be released with that id: asked when an example has failed, to tell why."""
        try:
            self.script.scope.client(SECOND_OPINION).unlock(place.name, lock_id or "")
        except DriverError:
            return False
        return True

    def granted(self, place: Place, grant: Grant, outcome: Outcome, *, strict: bool) -> None:
        """`grant` got the lock: its id must be one, and new. `strict`: it had to get it."""
        term = outcome.term if strict else f"id_of({outcome.term})"
        self.script.check(term, bool(outcome.value), "LOCK-ID-001", "the lock id is empty")
        earlier = [g for p in self.places for g in (*p.grants, *p.released) if g.id is not None]
        if earlier:
            self.script.check(
                f"{term} not in [{', '.join(g.id_term for g in earlier)}]",
                outcome.value not in {g.id for g in earlier},
                "LOCK-ID-002",
                f"{outcome.value!r} was the id of an earlier acquisition",
            )
        grant.id, grant.id_term = outcome.value, term
        place.requests[grant.owner] = grant
        place.take(grant)

    def refused(self, place: Place, outcome: Outcome, *, strict: bool) -> None:
        """Somebody has the lock; the refusal must name who, where the backend claims to know. `strict`:
        it had to be refused."""
        if not self.can("locking.holder-info"):
            place.refuse(None, "")
            return
        named, held = outcome.holder, place.holder
        who = named.Who if named is not None else "nobody"
        if strict and held is not None and held.id is not None:
            right = named is not None and named.ID == held.id
            self.script.check(
                f"{outcome.term}.holder and {outcome.term}.holder.ID == {held.id_term}",
                right,
                "LOCK-HOLD-001" if right else self.diagnose_holder(place, named),
                f"{held.owner} holds the lock, and the refusal names {who}",
            )
            self.compare(outcome, held)
        else:
            right = named is not None and any(grant.is_named_by(named) for grant in place.grants)
            self.script.check(
                f"isinstance({outcome.term}, str) or {outcome.term}.holder",
                right,
                "LOCK-HOLD-001" if right else self.diagnose_holder(place, named),
                f"the refusal names {who}, who has no lock",
            )
        place.refuse(named, outcome.term)

    def diagnose_holder(self, place: Place, named: LockInfo | None) -> str:
        """Which requirement is violated when a refusal names another than who holds the lock: that of its
        name, unless who is named has the lock indeed."""
        if named is None:
            return "LOCK-HOLD-001"
        if self.is_elsewhere(place, named):
            return "LOCK-SCOPE-001"
        if place.holder is not None and place.holder.told_again and place.holder.info.Info == named.Info:
            return "LOCK-IDEM-002"
        if self.still_releases(place, named.ID):
            return place.suspect or place.free_by or "LOCK-HOLD-001"
        return "LOCK-HOLD-001"

    def compare(self, outcome: Outcome, held: Grant) -> None:
        """The holder that a refusal names is described as in its request."""
        named, fields = outcome.holder, ("Operation", "Info", "Who", "Version")
        wrong = [name for name in fields if getattr(named, name, "") != getattr(held.info, name)]
        self.script.check(
            f"described({outcome.term}.holder) == described({held.term})",
            not wrong,
            "LOCK-HOLD-002",
            f"{outcome.term} describes the holder with another {', '.join(wrong)} than its request",
        )

    def release(self, who: str, place: Place, grant: Grant, works: str, free_by: str) -> bool:
        """A release with the id of `grant`; whether it succeeded."""
        certain = place.holder is grant
        works = "LOCK-HOLD-001" if place.by_name else works
        demand = Demand(works=works) if certain else Demand(kinds=RELEASE, odd=works)
        outcome = self.call(who, "unlock", place, Term(grant.id, grant.id_term), demand=demand)
        if outcome.ok and not certain:
            place.suspect = "LOCK-IDEM-001"  # it may have been the second release
        if outcome.ok and (certain or self.can("locking.release-nonce")):
            place.free_up(free_by)
        elif outcome.ok or outcome.unknown:
            place.free_by = free_by
            place.may_free()
        elif outcome.refused and self.can("locking.release-nonce"):
            place.holders = [other for other in place.holders if other is not grant]
            place.released.append(grant)
        return outcome.ok

    def probe(self, place: Place, promise: str) -> None:
        """A lock that is held for certain is refused to the observer."""
        if place.holder is None:
            return
        request = self.script.request(OBSERVER)
        demand = Demand(fails=place.suspect or promise, kinds=HELD, odd="LOCK-ERR-001")
        outcome = self.call(OBSERVER, "lock", place, request, demand=demand, keep="id")
        if outcome.refused:
            self.refused(place, outcome, strict=True)
            place.suspect = ""


class LockMachine(LockRules):
    """The lock alone."""

    looks = frozenset({"locks"})
    tour: ClassVar[Tour] = (
        ("lock", {"who": "alice", "where": 0}),
        ("unlock", {"where": 0}),
        ("lock", {"who": "alice", "where": 0}),
        ("lock", {"who": "bob", "where": 0}),
        ("advance_the_clock", {}),
        ("logins_expire", {}),
        ("lock_again", {"where": 0, "which": 0}),
        ("unlock_a_wrong_id", {"who": "bob", "where": 0}),
        ("unlock", {"where": 0}),
        ("lock", {"who": "bob", "where": 0}),
        ("unlock_an_old_id", {"where": 0, "which": 0}),
        ("force_unlock", {"who": "carol", "where": 0}),
        ("lock", {"who": "carol", "where": 0}),
        ("unlock_an_old_id", {"where": 0, "which": 0}),
        ("crash", {"who": "carol"}),
        ("force_unlock", {"who": "alice", "where": 0}),
        ("unlock_an_old_id", {"where": 0, "which": 0}),
        ("the_lock_store_loses_a_reply", {}),
        ("lock", {"who": "alice", "where": 1}),
        ("unlock_and_lose_the_reply", {"where": 0}),
        ("lock", {"who": "bob", "where": 1}),
        ("unlock", {"where": 1}),
        ("lock_and_lose_the_reply", {"who": "alice", "where": 2}),
        ("lock_again", {"where": 2, "which": 0}),
        ("unlock", {"where": 2}),
        ("lock", {"who": "bob", "where": 0}),
    )
