"""Clients that lock, read, count up, release, delete, list and force, while a plan of faults is carried out.

What each client does is drawn by the seed; when a fault is injected is counted in operations of all clients
together. Two witnesses stand beside the history: how many counted-up states were acknowledged, and how many
clients were left in doubt, bound what the counter may show in the end.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lockproof.chaos.arena import Arena
from lockproof.chaos.nemesis import Nemesis
from lockproof.chaos.plan import Plan, Step
from lockproof.checkers import require_valid
from lockproof.driver import DriverError, Locked, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.history.writer import HARNESS
from lockproof.spec.outcome import Unknown, Violation
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import filler

T = TypeVar("T")

PATIENCE = 1.5
"""Seconds after which a fault is healed although the clients did not get so far: it may be what stops
them."""
PADDING = 400
"""Bytes that a state has at least, so that there is a body to cut."""
UNFAIR = ("net.stale_read", "net.duplicate")
"""Faults that no load of clients is judged under, as a history has no words for what follows them. What was
counted up after a stale read is rightly lost without strict fencing. A client whose request was delivered
twice is answered as to the repetition: a correct server refuses to release what it has just released, and
that reads as "not released"."""
TURNS = {"count": 6, "read": 2, "list": 1, "scratch": 1}
"""What a client does next, by weight."""


class Conductor:
    """Carries out a plan: faults begin and end as the operations go on, or time does."""

    def __init__(self, arena: Arena, plan: Plan, patience: float = PATIENCE) -> None:
        self.arena = arena
        self.patience = patience
        self.operations = 0
        self.hits: Counter[str] = Counter()
        self._waiting = list(plan.steps)
        self._active: list[tuple[Step, Nemesis, float]] = []
        self._healed: Nemesis | None = None
        self._changed = threading.Condition()
        self._over = False
        arena.history.append(HARNESS, "note", "plan", given=plan.to_json())

    def operation(self) -> None:
        """Somebody begins an operation: what is due happens before it."""
        with self._changed:
            self.operations += 1
            self._heal(lambda step, _: self.operations >= step.after + step.lasts)
            if self._healed is not None and not self._active:
                self._healed.check_health(self.arena)
                self._healed = None
            while self._waiting and self._waiting[0].after <= self.operations:
                self._inject(self._waiting.pop(0))
            self._changed.notify_all()

    def watch(self) -> None:
        """Heals what lasts too long, until `end`; in a thread of its own."""
        with self._changed:
            while not self._over:
                now = time.monotonic()
                self._heal(lambda _, until: until <= now)  # noqa: B023, called at once
                ends = min((until for _, _, until in self._active), default=now + self.patience)
                self._changed.wait(max(ends - now, 0.01))

    def end(self) -> None:
        """Heals everything."""
        with self._changed:
            self._over = True
            self._heal(lambda *_: True)
            self._changed.notify_all()

    def _inject(self, step: Step) -> None:
        nemesis = step.make()
        if nemesis.missing(self.arena):
            return
        if not self._active:
            nemesis.check_health(self.arena)
        self.arena.inject(nemesis)
        self._active.append((step, nemesis, time.monotonic() + self.patience))

    def _heal(self, due: Callable[[Step, float], bool]) -> None:
        for entry in [entry for entry in self._active if due(entry[0], entry[2])]:
            self._active.remove(entry)
            nemesis = entry[1]
            nemesis.heal(self.arena)
            self._healed = nemesis
            self.hits[nemesis.name] += nemesis.struck()


class Actor:
    """One client: what it does next, and what it may have left behind."""

    def __init__(self, load: Workload, who: str, seed: str) -> None:
        self.load = load
        self.who = who
        self.rng = random.Random(f"{seed}:{who}")
        self.client: RecordedClient = load.open(who)

    def act(self) -> None:
        """Does one thing; a client that hangs is left behind for a new one."""
        if self.client.gone:
            self.client = self.load.open(self.who)
        turns = self.load.turns
        getattr(self, self.rng.choices(list(turns), list(turns.values()))[0])()

    def count(self) -> None:
        """Counts the state up under the lock."""
        ws, load = self.rng.choice(self.load.workspaces), self.load
        lock_id = self.lock(ws)
        if lock_id is None:
            return
        snapshot = self.tried(lambda: self.client.get(ws))
        if not isinstance(snapshot, DriverError):
            if snapshot is None:
                raise Violation(f"{self.who} reads no state of {ws!r}, which nobody ever removed")
            data = counted(json.loads(snapshot.data)["serial"] + 1)
            told = self.tried(lambda: self.client.put(ws, data, lock_id=lock_id))
            load.tally(ws, "acknowledged" if told is None else "refused" if told.definite else "in doubt")
        self.unlock(ws, lock_id)

    def read(self) -> None:
        ws = self.rng.choice(self.load.workspaces)
        self.tried(lambda: self.client.get(ws))

    def list(self) -> None:
        self.tried(lambda: self.client.workspaces())

    def scratch(self) -> None:
        """Writes a state and removes it, under the lock."""
        ws = self.load.scratch_workspace
        lock_id = self.lock(ws)
        if lock_id is not None:
            self.tried(lambda: self.client.put(ws, counted(self.rng.randrange(1_000)), lock_id=lock_id))
            if "state.delete" in self.load.able:
                self.tried(lambda: self.client.delete(ws))
            self.unlock(ws, lock_id)

    def lock(self, ws: str) -> str | None:
        """The id of the lock if it is granted. Who is known to have died with it is forced; where nothing
        can be, a client releases what it finds to be its own."""
        info = LockInfo.new(self.who)
        told = self.tried(lambda: self.client.lock(ws, info))
        if isinstance(told, str):
            return told
        if isinstance(told, Locked):
            holder = told.holder
            forces = "locking.force-unlock" in self.load.able or bool(self.client.own_ids(ws, holder))
            if holder is not None and forces and self.load.is_dead(holder):
                self.tried(lambda: self.client.unlock(ws, holder.ID))
        elif isinstance(told, DriverError) and not told.definite:
            self.load.died(info.Info, info.ID)
        return None

    def unlock(self, ws: str, lock_id: str) -> None:
        told = self.tried(lambda: self.client.unlock(ws, lock_id))
        if told is not None:
            self.load.died(lock_id)

    def tried(self, call: Callable[[], T]) -> T | DriverError:
        """What the call returns, or the error that it raises."""
        if self.client.gone:
            return DriverError("unavailable", True, "the client is gone")
        self.load.conductor.operation()
        try:
            return call()
        except DriverError as error:
            return error


class Workload:
    """The clients and what they share. The states of `workspaces` are counters; the observer makes them.

    Made anew for each stretch of a long run: nothing here is kept beyond it. `late_writes`: a client may end
    while its write is on the way. Without strict fencing that write may land after its lock was forced, which
    only the history can judge: of such a workspace the counter may then show less.
    """

    def __init__(
        self,
        arena: Arena,
        plan: Plan,
        clients: Sequence[str],
        seed: int,
        *,
        workspaces: Sequence[str] = ("default",),
        open_client: Callable[[str], RecordedClient] | None = None,
        late_writes: bool = False,
    ) -> None:
        self.arena = arena
        self.plan = plan
        self.able = arena.backend.capabilities
        self.workspaces = workspaces
        self.scratch_workspace = f"{workspaces[0]}-scratch"
        self.open = open_client or arena.client
        absent = {"list"} - ({"list"} if "workspaces" in self.able else set())
        absent |= set() if "workspaces" in self.able else {"scratch"}
        self.turns = {name: weight for name, weight in TURNS.items() if name not in absent}
        self.late_writes = late_writes and "locking.fencing-strict" not in self.able
        self.overtaken: set[str] = set()
        self.tallies: Counter[tuple[str, str]] = Counter()
        self._dead: set[str] = set()
        self._mutex = threading.Lock()
        for ws in workspaces:
            arena.observer.put(ws, counted(0))
        self.conductor = Conductor(arena, plan)
        self.actors = [Actor(self, who, str(seed)) for who in clients]

    def prove(self, operations: int) -> None:
        """A whole test: the clients act so long under the plan, and history and witnesses are judged. Raises
        `Violation` with the plan, or `Unknown`."""
        try:
            self.run(operations)
            self.require_kept()
            require_valid(self.arena.history.history())
        except Violation as violation:
            raise Violation(f"{violation}\n{self.plan}", witness=violation.witness) from violation

    def run(self, operations: int) -> None:
        """Lets the clients act until so many operations were made, and heals all faults. Raises what a
        client raised."""

        def go_on(actor: Actor) -> None:
            while self.conductor.operations < operations:
                actor.act()

        with ThreadPoolExecutor(len(self.actors) + 1) as pool:
            watching = pool.submit(self.conductor.watch)
            acting = [pool.submit(go_on, actor) for actor in self.actors]
            try:
                for future in acting:
                    future.result()
            finally:
                self.conductor.end()
        watching.result()

    def require_kept(self) -> None:
        """How a workload ends: every workspace is usable, and its counter shows every acknowledged state and
        none that nobody wrote. Raises `Violation`, or `Unknown` when no fault hit anything."""
        self.arena.heal()
        for ws in self.workspaces:
            self.arena.require_usable(ws)
            snapshot = self.arena.observer.get(ws)
            if snapshot is None:
                raise Violation(f"the state of {ws!r} is gone")
            found = json.loads(snapshot.data)["serial"]
            least = self.tallies[ws, "acknowledged"] if ws not in self.overtaken else 0
            most = self.tallies[ws, "acknowledged"] + self.tallies[ws, "in doubt"]
            if not least <= found <= most:
                raise Violation(f"the counter of {ws!r} shows {found}; it must be {least} to {most}")
        if not self.conductor.hits.total():
            raise Unknown("no fault of the plan hit anything")

    def tally(self, ws: str, outcome: str) -> None:
        with self._mutex:
            self.tallies[ws, outcome] += 1
            if self.late_writes and outcome == "in doubt":
                self.overtaken.add(ws)

    def died(self, *names: str) -> None:
        """Whoever holds under one of these ids or tokens does not know that it does."""
        with self._mutex:
            self._dead.update(names)

    def is_dead(self, holder: LockInfo) -> bool:
        with self._mutex:
            return not self._dead.isdisjoint({holder.ID, holder.Info})


def counted(number: int) -> bytes:
    """A state whose serial is `number`; different from every other one."""
    return tofu_bytes(document(serial=number, padding=filler(PADDING)))
