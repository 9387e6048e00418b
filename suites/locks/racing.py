"""Many clients at once, and the witnesses that tell whether they excluded each other.

Two witnesses stand beside the history: `CriticalSection` sees two holders inside at once, and a
counter in the state itself, read and written without any other protection, loses an update.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

from lockproof.driver import Locked, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.spec.outcome import Unknown, Violation
from lockproof.spec.statefile import document, tofu_bytes

TRIES = 3


@dataclass
class CriticalSection:
    """Who is inside now, and every time that somebody entered while another was inside."""

    inside: set[str] = field(default_factory=set)
    overlaps: list[str] = field(default_factory=list)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def entered_by(self, who: str) -> Iterator[None]:
        with self._mutex:
            if self.inside:
                self.overlaps.append(f"{who} entered while {', '.join(sorted(self.inside))} was inside")
            self.inside.add(who)
        try:
            yield
        finally:
            with self._mutex:
                self.inside.discard(who)


def together(
    clients: Sequence[RecordedClient], act: Callable[[RecordedClient], object], rng: random.Random
) -> None:
    """Runs `act` for every client in a thread of its own, all let go at once; `rng` draws their order.

    Returns when all have ended; raises what was raised first.
    """
    start = threading.Barrier(len(clients))
    failures: list[BaseException] = []

    def run(client: RecordedClient) -> None:
        start.wait()
        try:
            act(client)
        except BaseException as failure:
            failures.append(failure)
            raise

    with ThreadPoolExecutor(len(clients)) as pool:
        wait([pool.submit(run, client) for client in rng.sample(clients, len(clients))])
    if failures:
        raise failures[0]


def race(
    clients: Sequence[RecordedClient],
    workspace: str,
    section: CriticalSection,
    rounds: int,
    rng: random.Random,
) -> Counter[str]:
    """In each round every client asks once for the lock; who gets it counts up in the state.

    Returns how many attempts were `won` and `refused`. The state must hold a counted document.
    """
    tally: Counter[str] = Counter()
    mutex = threading.Lock()

    def ask(client: RecordedClient) -> None:
        try:
            lock_id = client.lock(workspace, LockInfo.new(client.who))
        except Locked:
            outcome = "refused"
        else:
            with section.entered_by(client.who):
                client.put(workspace, counted(count(client, workspace) + 1), lock_id=lock_id)
            client.unlock(workspace, lock_id)
            outcome = "won"
        with mutex:
            tally[outcome] += 1

    for _ in range(rounds):
        together(clients, ask, rng)
    return tally


def lock_in_loops(
    clients: Sequence[RecordedClient], loops: int, rng: random.Random, workspace: str = "default"
) -> Counter[str]:
    """Every client asks `loops` times, without pause, and releases at once whatever it is granted.

    Returns how many attempts were `won` and `refused`; raises any other outcome.
    """
    tally: Counter[str] = Counter()
    mutex = threading.Lock()

    def loop(client: RecordedClient) -> None:
        for _ in range(loops):
            try:
                lock_id = client.lock(workspace, LockInfo.new(client.who))
            except Locked:
                outcome = "refused"
            else:
                client.unlock(workspace, lock_id)
                outcome = "won"
            with mutex:
                tally[outcome] += 1

    together(clients, loop, rng)
    return tally


class Turns:
    """Turns that end one after the other, one for each of so many `clients`.

    Who waits for the end of a turn gets it, or a `Violation` when it cannot come: a turn failed, or
    all whose turn has not ended wait.
    """

    def __init__(self, clients: int) -> None:
        self.ended = 0
        self._left = clients
        self._waiting = 0
        self._hopeless = False
        self._changed = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[None]:
        """A turn: what happens inside, up to its end."""
        try:
            yield
        except BaseException:
            self._hopeless = True
            raise
        finally:
            with self._changed:
                self.ended += 1
                self._left -= 1
                self._waiting = 0  # whoever waits now has got what it waits for
                self._changed.notify_all()

    def wait_past(self, seen: int) -> int:
        """Waits until more than `seen` turns have ended; how many have."""
        with self._changed:
            if self.ended <= seen:
                self._waiting += 1
                self._hopeless = self._hopeless or self._waiting >= self._left
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._hopeless or self.ended > seen)
            if self._hopeless:
                raise Violation("nobody gives the lock away: all clients wait for it in vain")
            return self.ended


class TurnClock:
    """A waiter's time: each of its pauses lasts until somebody's turn has ended since its last one."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.seen = turns.ended
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.seen = self.turns.wait_past(self.seen)


def counted(number: int) -> bytes:
    """A state whose serial is `number`; different from every other one."""
    return tofu_bytes(document(serial=number))


def count(client: RecordedClient, workspace: str) -> int:
    """The number in the state as `client` reads it."""
    snapshot = client.get(workspace)
    assert snapshot is not None, f"the counter of {workspace!r} is gone"
    serial: int = json.loads(snapshot.data)["serial"]
    return serial


def until_contended(attempt: Callable[[int], Counter[str]], *, refused: int) -> Counter[str]:
    """Calls `attempt(load)` with load 1, 2 and 4 until that many attempts were refused; their sum.

    Raises `Unknown` when the clients never met: then nothing was proved.
    """
    tally: Counter[str] = Counter()
    for n in range(TRIES):
        tally += attempt(2**n)
        if tally["refused"] >= refused:
            return tally
    raise Unknown(f"the clients hardly met: {tally['refused']} refusals in {TRIES} tries, {refused} needed")
