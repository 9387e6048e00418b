"""Makes histories from a seed: as many clients of a true lock, state or set of workspaces would record.

A discrete-event simulation. Each client makes one call after the other; a call takes effect some time
after it was made and is answered some time after that, so that calls overlap. A share of the replies is
lost: the client gives up, half of those calls never have an effect, some have it long afterwards. What
comes out is valid by construction, or has exactly one injected fault that no order of the operations
explains. Events are like the recorder's. Equal workloads make equal histories.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lockproof.history.event import Event, EventKind, History
from lockproof.history.generate_clients import BEHAVIOURS
from lockproof.history.generate_faults import FAULTS
from lockproof.history.generate_objects import Answer, Call, Directory, Place
from lockproof.history.writer import HARNESS, VERSION

Model = Literal["lock", "register", "fenced", "workspaces"]
HALF_MILLISECOND = 500_000
PATIENCE = 5_000_000
"""Nanoseconds after which a client whose reply is lost gives up."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What to simulate. Shares are between 0 and 1.

    `unknown`: calls whose reply is lost. `fault`: a name in `FAULTS`, injected once after the first third.
    `backend_ids`: the backend chooses lock ids. `bare`: refusals that name no holder. `resend`: lost lock
    requests that are sent again as they are. `force`: refused clients that force the lock of a live
    holder. `zombies`: sessions after whose end the client goes on for a moment. `deletes`: of the
    changes, those that delete. `equal`: writes of a value that was written before. `slow`: a write looks
    at the lock at one moment and takes effect at a later one, a listing is read in two pages.
    """

    model: Model
    operations: int
    clients: int = 5
    seed: int = 0
    unknown: float = 0.0
    fault: str | None = None
    workspaces: int = 1
    backend_ids: bool = False
    bare: float = 0.0
    resend: float = 0.0
    force: float = 0.002
    zombies: float = 0.02
    deletes: float = 0.0
    equal: float = 0.0
    slow: bool = False


class NoOpportunity(ValueError):
    """The fault found no place in a history so short."""


def generate(workload: Workload) -> History:
    """The history of `workload`. Raises `NoOpportunity` when its fault found no place."""
    simulation = Simulation(workload)
    events = tuple(simulation.events())
    return History(header(workload), events, closed=True, names=dict(simulation.names))


def write(workload: Workload, path: Path) -> None:
    """Writes the history of `workload` as a recorder does, holding little of it in memory."""
    calls = 0
    with path.open("w", encoding="utf-8") as file:
        for record in _records(workload):
            calls += record.get("e") == "invoke"
            file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
        footer = {"footer": {"ops": calls, "closed": True}}
        file.write(json.dumps(footer, separators=(",", ":")) + "\n")


def header(workload: Workload) -> Mapping[str, Any]:
    """The header of the history of `workload`."""
    fenced = ["locking.fencing"] if workload.slow else ["locking.fencing", "locking.fencing-strict"]
    return {
        "v": VERSION,
        "clock": "monotonic_ns",
        "test": f"generated {workload.model}",
        "backend": "generated",
        "capabilities": fenced if workload.model == "fenced" else [],
        "workload": asdict(workload),
        "seed": workload.seed,
        "clients": workload.clients,
    }


def _records(workload: Workload) -> Iterator[dict[str, Any]]:
    yield {"header": header(workload)}
    for event in Simulation(workload).events():
        yield event.to_json()


@dataclass(slots=True)
class _Client:
    """One client: its behaviour, and the process number it has just now."""

    name: str
    behaviour: Generator[Call | int, Any, None]
    process: int = field(default=HARNESS)


class Simulation:
    """The events of one workload. `places` are the true objects, by workspace."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.random = random.Random(f"{workload.seed} {workload.model} {workload.operations}")
        self.places: dict[str, Place] = {}
        self.directory = Directory(self.places)
        self.names: dict[int, str] = {}
        self.calls = 0
        self.count = 0
        self.injected = workload.fault is None
        self.fault = None if workload.fault is None else FAULTS[workload.fault].lie()
        self._written: deque[Event] = deque()
        self._agenda: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._now = 0
        self._last = -1
        self._order = 0

    def events(self) -> Iterator[Event]:
        """All events in order. Raises `NoOpportunity` at the end when the fault found no place."""
        for number in range(self.workload.clients):
            client = _Client(f"client-{number}", BEHAVIOURS[self.workload.model](self))
            self._new_process(client)
            self._at(self._soon(), self._resume, client, None)
        while self._agenda:
            self._now, _, action, arguments = heapq.heappop(self._agenda)
            action(*arguments)
            while self._written:
                yield self._written.popleft()
        if not self.injected:
            raise NoOpportunity(f"no place for {self.workload.fault!r} in {self.calls} operations")

    def place(self, workspace: str) -> Place:
        """The true objects of `workspace`."""
        if workspace not in self.places:
            load = self.workload
            self.places[workspace] = Place(workspace, self.random, load.bare, load.backend_ids)
        return self.places[workspace]

    def note_fault(self, call: Call) -> None:
        """The fault is in: the answer that `call` gets now makes it certain."""
        self.injected = True
        self._append(HARNESS, "note", "injected", given={"fault": self.workload.fault, "call": call.i})

    def _resume(self, client: _Client, answer: Answer | None) -> None:
        """The client goes on with `answer` until its next call or pause."""
        try:
            step = client.behaviour.send(answer)
        except StopIteration:
            return
        if isinstance(step, int):
            self._at(step, self._resume, client, None)
        elif self.calls < self.workload.operations:
            self._call(client, step)

    def _call(self, client: _Client, call: Call) -> None:
        self.calls += 1
        call.i = self._append(client.process, "invoke", call.f, ws=call.ws, given=call.given).i
        call.place.called(call)
        lost = self.random.random() < self.workload.unknown
        if not lost:
            self._at(self._soon(), self._effect, client, call)
            return
        call.lost = True
        fate = self.random.random()
        if fate < 0.5:
            late = PATIENCE if fate < 0.05 else 0
            self._at(late + self._soon(), self._silent_effect, call)
        self._at(PATIENCE, self._give_up, client, call)

    def _effect(self, client: _Client, call: Call) -> None:
        """The call takes effect, unless the fault lies in its place."""
        if not self.injected and self.fault is not None and 3 * self.calls >= self.workload.operations:
            lie = self.fault(self, call)
            if lie == "later":
                if self.calls < self.workload.operations:
                    self._at(4 * self._soon(), self._effect, client, call)
                    return
            elif lie is not None:
                self._return(client, call, lie)
                return
        answer = call.place.apply(call, self.count)
        twice = call.f == "workspaces" or (call.f == "put" and call.given["lock_id"] and answer[0] == "ok")
        if self.workload.slow and twice:
            self._at(self._soon(), self._settle, client, call, answer)
        else:
            self._at(self._soon(), self._return, client, call, answer)

    def _settle(self, client: _Client, call: Call, answer: Answer) -> None:
        self._at(self._soon(), self._return, client, call, call.place.settle(call, answer))

    def _silent_effect(self, call: Call) -> None:
        call.place.apply(call, self.count)

    def _return(self, client: _Client, call: Call, answer: Answer) -> None:
        kind, out, err = answer
        call.end = self._append(client.process, kind, call.f, ws=call.ws, out=out, err=err).i
        call.place.returned(call, answer)
        self._resume(client, answer)

    def _give_up(self, client: _Client, call: Call) -> None:
        err = {"kind": "timeout", "definite": False}
        self._append(client.process, "info", call.f, ws=call.ws, err=err)
        self._new_process(client)
        self._resume(client, ("info", None, err))

    def _new_process(self, client: _Client) -> None:
        client.process = len(self.names)
        self.names[client.process] = client.name
        self._append(client.process, "note", "process", given={"who": client.name})

    def _append(
        self,
        p: int,
        e: EventKind,
        f: str,
        *,
        ws: str | None = None,
        given: Mapping[str, Any] | None = None,
        out: Any = None,
        err: Mapping[str, Any] | None = None,
    ) -> Event:
        self._last = max(self._now, self._last + 1)
        event = Event(self.count, self._last, p, e, f, ws, given, out, err)
        self.count += 1
        self._written.append(event)
        return event

    def _at(self, delay: int, action: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (self._now + delay, self._order, action, arguments))

    def _soon(self) -> int:
        return 1 + int(self.random.expovariate(1) * HALF_MILLISECOND)
