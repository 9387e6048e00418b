"""Rules about the set of workspaces, the machine of workspaces with their states, and the one of all."""

from __future__ import annotations

from typing import ClassVar

from lockproof.driver import DriverError
from lockproof.driver.memory import DEFAULT
from lockproof.suites.concurrency.machines.base import CLIENT, PLACE, SECOND_OPINION, Machine, Tour, step
from lockproof.suites.concurrency.machines.locks import LockMachine, LockRules
from lockproof.suites.concurrency.machines.model import Place
from lockproof.suites.concurrency.machines.script import Demand
from lockproof.suites.concurrency.machines.states import LockedStateRules, StateRules


class WorkspaceRules(Machine):
    """list, delete a workspace that is there or not, try to delete `default`. The first put makes one."""

    @step("workspaces", who=CLIENT)
    def list_workspaces(self, who: str) -> None:
        """A client lists the workspaces."""
        self.list(who)

    @step("workspaces", who=CLIENT, where=PLACE)
    def delete_workspace(self, who: str, where: int) -> Place:
        """A client deletes a workspace by force; `default` it must not."""
        place = self.place(where)
        if place is self.default:
            self.state_promise = "WS-DEFAULT-002"
            self.call(who, "delete_workspace", place, demand=Demand(fails="WS-DEFAULT-002"), force=True)
            return place
        there = place.listed is True
        works = "WS-DEL-003" if there and not place.grants else ""
        outcome = self.call(who, "delete_workspace", place, demand=Demand(works=works), force=True)
        self.state_promise = self.list_promise = "WS-DEL-001" if there else "WS-DEL-004"
        self.script.count("" if there or not (outcome.ok or outcome.refused) else "WS-DEL-004")
        if outcome.ok:
            place.store(None, "delete_workspace", who)
            place.rewritten, place.listed = "WS-DEL-002", False
        elif outcome.unknown:
            place.may_store(None, "delete_workspace", who)
            place.listed = None if place.listed else place.listed
        if place.free:
            place.free_by = "WS-DEL-005" if outcome.ok else place.free_by
        elif not outcome.refused:
            place.may_free()  # whether a lock outlives its workspace is not said
        return place

    def list(self, who: str) -> None:
        """The list has every workspace that must be there, once, and none that must not."""
        outcome = self.script.call(who, "workspaces", demand=Demand(works="WS-LIST-001"), keep="names")
        if not outcome.ok:
            return
        term, names = outcome.term, list(outcome.value)
        touched = any(place.change or place.grants or place.released for place in self.places)
        self.script.check(
            f"len({term}) == len(set({term}))",
            len(names) == len(set(names)),
            "WS-LIST-002",
            f"{who} is shown a workspace twice: {names}",
        )
        self.script.check(
            f"{DEFAULT!r} in {term}",
            DEFAULT in names,
            "WS-DEFAULT-003" if touched else "WS-DEFAULT-001",
            f"{who} is not shown the default workspace: {names}",
        )
        for place in self.places:
            if place.listed is not None and place is not self.default:
                word = "in" if place.listed else "not in"
                right = (place.name in names) is place.listed
                self.script.check(
                    f"{place.name!r} {word} {term}",
                    right,
                    self.list_promise if right else self.diagnose_list(place),
                    f"{who} is {'not ' if place.listed else ''}shown {place.name!r}: {names}",
                )
                self.script.count("WS-LIST-003", "WS-LIST-001" if place.listed else "")
        known = {DEFAULT, *(place.name for place in self.places)}
        strange = set(names) - known if self.fresh else set()
        self.script.check(
            f"set({term}) <= {sorted(known)}" if self.fresh else term,
            not strange,
            "WS-LIST-004" if touched else "WS-DEFAULT-001",
            f"{who} is shown what is no workspace: {sorted(strange)}",
        )

    def diagnose_list(self, place: Place) -> str:
        """Which requirement a wrong list violates: a new client that lists rightly shows that the change was
        made, and who listed wrongly had not noticed it."""
        try:
            shown = place.name in self.script.scope.client(SECOND_OPINION).workspaces()
        except DriverError:
            return self.list_promise
        if shown is place.listed and place.change:
            return "WS-LIST-003"
        if place.listed:
            return "WS-CREATE-001" if self.list_promise == "WS-CREATE-001" else "WS-ISO-001"
        if place.change or self.list_promise == "WS-DEL-004":
            return self.list_promise
        return "STATE-READ-001" if place.read else "WS-LIST-004"


class WorkspaceMachine(WorkspaceRules, StateRules):
    """Workspaces and their states."""

    looks = frozenset({"states", "workspaces"})
    tour: ClassVar[Tour] = (
        ("list_workspaces", {"who": "alice"}),
        ("put", {"who": "alice", "where": 1}),
        ("advance_the_clock", {}),
        ("the_storage_loses_a_reply", {}),
        ("put", {"who": "bob", "where": 2}),
        ("put", {"who": "alice", "where": 0}),
        ("get", {"who": "carol", "where": 1}),
        ("delete_workspace", {"who": "carol", "where": 1}),
        ("delete_workspace", {"who": "carol", "where": 1}),
        ("list_workspaces", {"who": "bob"}),
        ("put", {"who": "carol", "where": 1}),
        ("put_and_lose_the_reply", {"who": "carol", "where": 1}),
        ("put", {"who": "alice", "where": 1}),
        ("crash", {"who": "alice"}),
        ("delete", {"who": "alice", "where": 2}),
        ("put", {"who": "alice", "where": 2}),
        ("delete_and_lose_the_reply", {"who": "alice", "where": 2}),
        ("get", {"who": "bob", "where": 2}),
        ("delete_workspace", {"who": "bob", "where": 0}),
    )


class WholeMachine(LockRules, LockedStateRules, WorkspaceRules):
    """Locks, states and workspaces together."""

    looks = frozenset({"locks", "states", "workspaces"})
    tour: ClassVar[Tour] = (
        ("lock", {"who": "alice", "where": 0}),
        ("put_by_the_holder", {"where": 0}),
        ("put_by_the_holder", {"where": 0}),
        ("put_with_a_wrong_id", {"who": "alice", "where": 0}),
        ("put", {"who": "carol", "where": 0}),
        ("get", {"who": "carol", "where": 0}),
        ("unlock", {"where": 0}),
        ("put_by_a_former_holder", {"where": 0, "which": 0}),
        *LockMachine.tour,
        ("put_by_a_former_holder", {"where": 0, "which": 0}),
        ("delete", {"who": "bob", "where": 0}),
        *WorkspaceMachine.tour,
        ("lock", {"who": "alice", "where": 1}),
        ("unlock", {"where": 1}),
        ("delete_workspace", {"who": "bob", "where": 1}),
        ("lock", {"who": "bob", "where": 1}),
    )
