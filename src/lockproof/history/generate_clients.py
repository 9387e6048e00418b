"""How the clients of generated histories behave.

A behaviour yields calls, and is sent their answers; a number that it yields is a pause in nanoseconds.
After a lost reply it does what a careful client does: it releases what it may hold, or asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from lockproof.history.generate_objects import Answer, Call, Place, described

if TYPE_CHECKING:
    from lockproof.history.generate import Simulation

Behaviour = Generator[Call | int, Answer, None]
Part = Generator[Call | int, Answer, Any]
THINK = 500_000
HOLD = 1_000_000
ATTEMPTS = 6


def locker(simulation: Simulation) -> Behaviour:
    """Takes the lock, holds it for a while, releases it."""
    while True:
        place = _any_place(simulation)
        yield _pause(simulation, THINK)
        lock_id = yield from _acquire(simulation, place)
        if lock_id is not None:
            yield _pause(simulation, HOLD)
            yield from _release(simulation, place, lock_id)


def writer(simulation: Simulation) -> Behaviour:
    """Takes the lock, reads the state, writes it once or twice under the lock, releases it."""
    while True:
        place = _any_place(simulation)
        yield _pause(simulation, THINK)
        lock_id = yield from _acquire(simulation, place)
        if lock_id is None:
            continue
        yield Call(place, "get", place.name, {})
        for _ in range(simulation.random.randrange(1, 3)):
            yield _put(simulation, place, lock_id)
        yield from _release(simulation, place, lock_id)
        if simulation.random.random() < simulation.workload.zombies:
            yield _put(simulation, place, lock_id)


def reader(simulation: Simulation) -> Behaviour:
    """Reads and writes the state without a lock, as often the one as the other."""
    random, load = simulation.random, simulation.workload
    while True:
        place = _any_place(simulation)
        yield _pause(simulation, THINK)
        if random.random() < 0.5:
            yield Call(place, "get", place.name, {})
        elif random.random() < load.deletes:
            yield Call(place, "delete", place.name, {})
        else:
            yield _put(simulation, place, None)


def keeper(simulation: Simulation) -> Behaviour:
    """Makes, lists and deletes workspaces."""
    random = simulation.random
    while True:
        yield _pause(simulation, THINK)
        chance = random.random()
        place = simulation.place(f"ws-{random.randrange(2 * simulation.workload.clients)}")
        if chance < 0.4:
            yield Call(simulation.directory, "workspaces", None, {})
        elif chance < 0.7:
            yield _put(simulation, place, None)
        else:
            yield Call(place, "delete_workspace", place.name, {"force": True})


BEHAVIOURS: Mapping[str, Callable[[Simulation], Behaviour]] = {
    "lock": locker,
    "register": reader,
    "fenced": writer,
    "workspaces": keeper,
}


def _acquire(simulation: Simulation, place: Place) -> Part:
    """The id of the lock taken; `None` after some refusals, or when nobody can tell."""
    random, load = simulation.random, simulation.workload
    for _ in range(ATTEMPTS):
        info = _lock_info(simulation)
        kind, out, err = yield Call(place, "lock", place.name, {"info": info})
        while kind == "info" and random.random() < load.resend:
            place.repeated.add((info["Info"], info["ID"]))
            kind, out, err = yield Call(place, "lock", place.name, {"info": info})
        if kind == "ok":
            return out
        if kind == "info":
            place.abandoned.add(info["Info"])
            yield Call(place, "unlock", place.name, {"lock_id": info["ID"]})
            return None
        holder = (err or {}).get("holder")
        if holder and (holder["Info"] in place.abandoned or random.random() < load.force):
            yield Call(place, "unlock", place.name, {"lock_id": holder["ID"]})
        yield _pause(simulation, THINK)
    return None


def _release(simulation: Simulation, place: Place, lock_id: str) -> Part:
    """Releases, mostly asks again when the reply is lost, and sometimes releases what is no more held."""
    random = simulation.random
    kind, _, _ = yield Call(place, "unlock", place.name, {"lock_id": lock_id})
    while kind == "info" and random.random() < 0.5:
        kind, _, _ = yield Call(place, "unlock", place.name, {"lock_id": lock_id})
    if place.holder is not None and place.holder.id == lock_id:
        place.abandoned.add(place.holder.info["Info"])
    if random.random() < simulation.workload.zombies:
        yield _pause(simulation, THINK)
        other = lock_id if random.random() < 0.5 else _unique(simulation)
        yield Call(place, "unlock", place.name, {"lock_id": other})


def _put(simulation: Simulation, place: Place, lock_id: str | None) -> Call:
    place.serial += 1
    value = _unique(simulation)
    if place.written and simulation.random.random() < simulation.workload.equal:
        value = simulation.random.choice(place.written).given.get("value", value)
        place.reused.add(value)
    given = {**described(value, place.serial), "size": 180, "lock_id": lock_id}
    return Call(place, "put", place.name, given)


def _lock_info(simulation: Simulation) -> Mapping[str, str]:
    return {
        "ID": _unique(simulation),
        "Operation": "OperationTypeApply",
        "Info": f"lockproof:{_unique(simulation)}",
        "Who": "generated",
        "Version": "1.12.6",
        "Created": "2026-01-01T00:00:00Z",
        "Path": "",
    }


def _unique(simulation: Simulation) -> str:
    return f"{simulation.random.getrandbits(128):032x}"


def _any_place(simulation: Simulation) -> Place:
    number = simulation.random.randrange(simulation.workload.workspaces)
    return simulation.place("default" if number == 0 else f"ws-{number}")


def _pause(simulation: Simulation, mean: int) -> int:
    return 1 + int(simulation.random.expovariate(1) * mean)
