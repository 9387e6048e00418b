"""Wrong answers that no order of the operations explains.

A lie is asked for every call at the moment when it takes effect; it gives the wrong answer, which the
call then gets at once, or `None` as long as an excuse is left: only what has returned by then counts as
known. So the fault is certain, whatever happens before or after. `"later"` keeps the call waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lockproof.history.generate_objects import OK, Answer, Call, Directory, Place, Session, shown

if TYPE_CHECKING:
    from lockproof.history.generate import Simulation

Lie = Callable[["Simulation", Call], Answer | Literal["later"] | None]


@dataclass(frozen=True)
class Fault:
    """`models`: the workloads in which it can happen; `lie`: makes a fresh liar."""

    models: frozenset[str]
    lie: Callable[[], Lie]


def _told(lie: Callable[[Call, Place], Answer | None]) -> Callable[[], Lie]:
    """A lie told to one call on a workspace, by what is known of the workspace."""

    def tell(simulation: Simulation, call: Call) -> Answer | None:
        if isinstance(call.place, Directory):
            return None
        answer = lie(call, call.place)
        if answer is not None:
            simulation.note_fault(call)
        return answer

    return lambda: tell


def _listed(lie: Callable[[list[str], Mapping[str, Place], Call], list[str] | None]) -> Callable[[], Lie]:
    """A lie told to one listing."""

    def tell(simulation: Simulation, call: Call) -> Answer | None:
        if not isinstance(call.place, Directory):
            return None
        names = lie(call.place.names(), call.place.places, call)
        if names is None:
            return None
        simulation.note_fault(call)
        return "ok", names, None

    return lambda: tell


# --- locks ---------------------------------------------------------------------------------------


def double_grant(call: Call, place: Place) -> Answer | None:
    """The lock is granted though another has held it all the time."""
    if call.f != "lock":
        return None
    holder = place.surely_held(call)
    return None if holder is None or holder.request == call.request else ("ok", call.request[1], None)


def phantom_holder(call: Call, place: Place) -> Answer | None:
    """A refusal names somebody who never asked."""
    if call.f != "lock":
        return None
    return place.refuse({**call.given["info"], "ID": "nobody", "Info": "lockproof:nobody"})


def resurrected_lock(call: Call, place: Place) -> Answer | None:
    """A refusal names a holder that had released before the call."""
    over = _over(call, place) if call.f == "lock" else []
    return place.refuse(over[-1].info) if over else None


def old_release_accepted(call: Call, place: Place) -> Answer | None:
    """The id of an earlier acquisition releases while another holds."""
    if call.f != "unlock" or place.surely_held(call) is None:
        return None
    return OK if call.given["lock_id"] in {session.id for session in _over(call, place)} else None


def phantom_release(call: Call, place: Place) -> Answer | None:
    """An id that nobody was ever granted releases."""
    return OK if call.f == "unlock" and call.given["lock_id"] not in place.known_ids else None


def holder_refused(call: Call, place: Place) -> Answer | None:
    """The holder's release is refused: nobody holds, it is told."""
    session = place.holder
    if call.f != "unlock" or session is None or session.id != call.given["lock_id"]:
        return None
    sure = session.taken < call.i and place.releases[session.id] == 1
    return ("fail", None, {"kind": "not_locked", "definite": True}) if sure else None


def refused_while_free(call: Call, place: Place) -> Answer | None:
    """The lock is refused though nobody can hold it."""
    if call.f != "lock" or place.holder is not None or place.asking != {call}:
        return None
    return place.refuse(None) if all(session.over < call.i for session in place.past) else None


def id_granted_twice(call: Call, place: Place) -> Answer | None:
    """The lock is granted under an id that the backend chose for another before."""
    if call.f != "lock" or place.holder is not None or not place.backend_ids:
        return None
    over = [session for session in _over(call, place) if session.taken < call.i]
    return place.take(call, over[-1].id) if over else None


def _over(call: Call, place: Place) -> list[Session]:
    """Sessions that are certainly over and certainly never come back."""
    return [session for session in place.surely_over(call) if session.request not in place.repeated]


# --- states --------------------------------------------------------------------------------------


def stale_read(call: Call, place: Place) -> Answer | None:
    """A read shows a state that another had replaced before the call."""
    if call.f != "get":
        return None
    before = place.written_before(call)
    for newer in reversed(before):
        for old in before:
            if old.f == "put" and old.end < newer.i and place.written_once(old):
                return "ok", shown(old), None
    return None


def torn_value(call: Call, place: Place) -> Answer | None:
    """A read shows other bytes under the value's name."""
    if call.f != "get" or place.state is None:
        return None
    return "ok", {**place.state, "sha256": f"{0:064x}"}, None


def invented_value(call: Call, place: Place) -> Answer | None:
    """A read shows what nobody wrote."""
    return ("ok", {**(place.state or {}), "value": "nobody wrote this"}, None) if call.f == "get" else None


def resurrected_delete(call: Call, place: Place) -> Answer | None:
    """A read shows a state that had been deleted before the call."""
    if call.f != "get":
        return None
    before = place.written_before(call)
    for deletion in reversed([change for change in before if change.f != "put"]):
        for old in before:
            if old.f == "put" and old.end < deletion.i and place.written_once(old):
                return "ok", shown(old), None
    return None


def lost_state(call: Call, place: Place) -> Answer | None:
    """A read shows nothing though a state had been written, and no deletion was asked for since."""
    if call.f != "get" or not place.surely_there(call):
        return None
    return "ok", {"value": None}, None


class LostUpdate:
    """A write is acknowledged and never takes effect; the next read shows the state before it."""

    def __init__(self) -> None:
        self.lost: Call | None = None
        self.changed = 0

    def __call__(self, simulation: Simulation, call: Call) -> Answer | None:
        place = call.place
        if isinstance(place, Directory) or place.state is None:
            return None
        if call.f == "put" and (self.lost is None or self.changed != place.changed):
            value, lock_id = place.state["value"], call.given["lock_id"]
            current = [old for old in place.written_before(call) if old.given.get("value") == value]
            held = lock_id is None or (place.holder is not None and place.holder.id == lock_id)
            if current and held and place.written_once(current[0]):
                self.lost, self.changed = call, place.changed
                return OK
        elif call.f == "get" and self.lost is not None and self.lost.place is place:
            alone = place.state["value"] not in place.reused
            certain = alone and self.changed == place.changed and self.lost.end < call.i
            return _certain(simulation, call, place) if certain else None
        return None


def _certain(simulation: Simulation, call: Call, place: Place) -> Answer:
    """A read of what is there, which proves an earlier fault."""
    simulation.note_fault(call)
    return "ok", place.state, None


# --- locks and states ----------------------------------------------------------------------------


def zombie_write(call: Call, place: Place) -> Answer | None:
    """A write is accepted under a lock that had been released before the call."""
    if call.f != "put" or call.given["lock_id"] not in {session.id for session in _over(call, place)}:
        return None
    place.write(call)
    return OK


class StaleWrite:
    """A write waits until its lock was forced and a newer holder has written, then it takes effect and is
    read. Only a backend with strict fencing promises that this cannot happen."""

    def __init__(self) -> None:
        self.stalled: Call | None = None
        self.done = False
        self.changed = 0

    def __call__(self, simulation: Simulation, call: Call) -> Answer | Literal["later"] | None:
        place = call.place
        if isinstance(place, Directory):
            return None
        if self.done and call.f == "get" and self.stalled is not None and self.stalled.place is place:
            if self.changed != place.changed or not place.written_once(self.stalled):
                self.stalled, self.done = None, False
            elif self.stalled.end < call.i:
                return _certain(simulation, call, place)
            return None
        if call.f != "put" or self.done or call is not (self.stalled or call):
            return None
        lock_id = call.given["lock_id"]
        if place.holder is not None and place.holder.id == lock_id:
            self.stalled = call
            return "later"
        if self.stalled is None:
            return None
        over = min((session.over for session in place.past if session.id == lock_id), default=math.inf)
        if not any(write.f == "put" and write.i > over for write in place.written):
            return "later"
        place.write(call)
        self.done, self.changed = True, place.changed
        return OK


# --- workspaces ----------------------------------------------------------------------------------


def phantom_workspace(names: list[str], places: Mapping[str, Place], call: Call) -> list[str] | None:
    """A listing shows a workspace that nobody made."""
    return sorted([*names, "nobody-made-this"])


def lost_workspace(names: list[str], places: Mapping[str, Place], call: Call) -> list[str] | None:
    """A listing leaves out a workspace that had been made, and whose deletion nobody asked for since."""
    for name in names:
        if name in places and places[name].surely_there(call):
            return [other for other in names if other != name]
    return None


def resurrected_workspace(names: list[str], places: Mapping[str, Place], call: Call) -> list[str] | None:
    """A listing shows a workspace that had been deleted, and that nobody made since."""
    for name, place in places.items():
        if name not in names and place.surely_gone(call):
            return sorted([*names, name])
    return None


def listed_twice(names: list[str], places: Mapping[str, Place], call: Call) -> list[str] | None:
    """A listing shows a workspace twice."""
    return sorted([*names, names[-1]])


def default_missing(names: list[str], places: Mapping[str, Place], call: Call) -> list[str] | None:
    """A listing leaves out `default`."""
    return [name for name in names if name != "default"]


LOCKS = frozenset({"lock", "fenced"})
STATES = frozenset({"register", "fenced"})
FAULTS: Mapping[str, Fault] = {
    "double grant": Fault(LOCKS, _told(double_grant)),
    "phantom holder": Fault(LOCKS, _told(phantom_holder)),
    "resurrected lock": Fault(LOCKS, _told(resurrected_lock)),
    "old release accepted": Fault(LOCKS, _told(old_release_accepted)),
    "phantom release": Fault(LOCKS, _told(phantom_release)),
    "holder refused": Fault(LOCKS, _told(holder_refused)),
    "refused while free": Fault(LOCKS, _told(refused_while_free)),
    "id granted twice": Fault(LOCKS, _told(id_granted_twice)),
    "stale read": Fault(STATES, _told(stale_read)),
    "torn value": Fault(STATES, _told(torn_value)),
    "invented value": Fault(STATES, _told(invented_value)),
    "resurrected delete": Fault(frozenset({"register"}), _told(resurrected_delete)),
    "lost state": Fault(STATES, _told(lost_state)),
    "lost update": Fault(STATES, LostUpdate),
    "zombie write": Fault(frozenset({"fenced"}), _told(zombie_write)),
    "stale write": Fault(frozenset({"fenced"}), StaleWrite),
    "phantom workspace": Fault(frozenset({"workspaces"}), _listed(phantom_workspace)),
    "lost workspace": Fault(frozenset({"workspaces"}), _listed(lost_workspace)),
    "resurrected workspace": Fault(frozenset({"workspaces"}), _listed(resurrected_workspace)),
    "workspace listed twice": Fault(frozenset({"workspaces"}), _listed(listed_twice)),
    "default not listed": Fault(frozenset({"workspaces"}), _listed(default_missing)),
}
