"""One call, one fault on its way: is what the client is told of it true?

A call that succeeded took effect; one that was definitely refused did not and never will; of all others the
client must be told that it cannot know. What happened is read by an observer on a clean link.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lockproof.chaos.arena import Arena
from lockproof.chaos.nemesis import nemeses
from lockproof.chaos.network import LinkNemesis
from lockproof.checkers import require_valid
from lockproof.driver import DriverError, Locked, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.spec.outcome import Unknown, Violation
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import filler

PADDING = 600
"""Bytes that a state has at least, so that there is a body to cut."""


@dataclass
class Place:
    """A workspace, the client whose call is struck, and one on a clean link. `twice`: the network delivers
    requests twice, so that the client may be answered as to a repetition, which has no effect; `repetitions`
    are the answers that were of that kind."""

    arena: Arena
    ws: str
    victim: RecordedClient
    observer: RecordedClient
    twice: bool = False
    repetitions: int = 0

    def may_be_repetition(self, *, of_own: bool) -> bool:
        """Whether a refusal that is about the client's own request may be that of its repetition."""
        self.repetitions += self.twice and of_own
        return self.twice and of_own


@dataclass(frozen=True)
class Message:
    """One exchange of a call: the `number`th on that link since the call began."""

    link: str
    number: int


class Call(ABC):
    """One method of a client, made ready, called, judged and cleared away. One object for one call."""

    name: str
    needs: tuple[str, ...]

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    def prepare(self) -> None:
        """Before the fault: what the call needs."""

    @abstractmethod
    def act(self) -> object:
        """The call."""

    @abstractmethod
    def judge(self, told: object) -> None:
        """`told` is what `act` returned, or the `DriverError` that it raised. Raises `Violation`."""

    def clear(self) -> None:  # noqa: B027, most leave nothing behind
        """After judging, the network is whole again: the client gives back what it still holds."""


def state(serial: int) -> bytes:
    """A state that differs from every other one."""
    return tofu_bytes(document(serial=serial, padding=filler(PADDING)))


def seen(place: Place) -> bytes | None:
    """What is stored, as the observer reads it."""
    snapshot = place.observer.get(place.ws)
    return None if snapshot is None else snapshot.data


def outcomes(told: object, old: bytes | None, new: bytes | None) -> Sequence[bytes | None]:
    """What may be stored after a call that was to make `new` of `old`, and whose client was told so."""
    if not isinstance(told, DriverError):
        return [new]
    return [old] if told.definite else [old, new]


def require_one_of(place: Place, told: object, allowed: Sequence[bytes | None]) -> None:
    """Raises `Violation` unless the observer reads one of the states allowed after such an answer."""
    found = seen(place)
    if found not in allowed:
        names = " or ".join("no state" if a is None else f"a state of {len(a)} bytes" for a in allowed)
        shown = "no state" if found is None else f"another state of {len(found)} bytes"
        raise Violation(f"{place.victim.who} was told {said(told)}, but {names} is not what is read: {shown}")


def said(told: object) -> str:
    """What a client was told, in words."""
    if isinstance(told, DriverError):
        return f"{'a definite' if told.definite else 'an unknown'} outcome ({told})"
    return "success"


class Get(Call):
    """A read gives what is stored, or an error; never less, and never nothing."""

    name = "get"
    needs = ("state",)

    def prepare(self) -> None:
        self.stored = state(1)
        self.place.observer.put(self.place.ws, self.stored)

    def act(self) -> object:
        snapshot = self.place.victim.get(self.place.ws)
        return None if snapshot is None else snapshot.data

    def judge(self, told: object) -> None:
        if isinstance(told, DriverError):
            return
        if told != self.stored:
            what = "no state" if told is None else f"another state, of {len(told)} bytes"  # type: ignore[arg-type]
            raise Violation(f"{self.place.victim.who} read {what}, where {len(self.stored)} bytes are stored")


class Put(Call):
    """A write under the lock is stored, or not, as its writer is told."""

    name = "put"
    needs = ("state",)
    held: str | None = None

    def prepare(self) -> None:
        place = self.place
        self.old, self.new = state(1), state(2)
        place.observer.put(place.ws, self.old)
        if "locking" in place.arena.backend.capabilities:
            self.held = place.victim.lock(place.ws, LockInfo.new(place.victim.who))

    def act(self) -> object:
        self.place.victim.put(self.place.ws, self.new, lock_id=self.held)
        return None

    def judge(self, told: object) -> None:
        require_one_of(self.place, told, outcomes(told, self.old, self.new))

    def clear(self) -> None:
        if self.held is not None:
            attempt(lambda: self.place.victim.unlock(self.place.ws, self.held or ""))


class Delete(Call):
    """A state is removed, or not, as its remover is told."""

    name = "delete"
    needs = ("state.delete",)

    def prepare(self) -> None:
        self.old = state(1)
        self.place.observer.put(self.place.ws, self.old)

    def act(self) -> object:
        self.place.victim.delete(self.place.ws)
        return None

    def judge(self, told: object) -> None:
        require_one_of(self.place, told, outcomes(told, self.old, None))


def is_held(place: Place, info: LockInfo) -> bool:
    """Whether the observer is refused the lock by that request; a lock that it gets it gives back. Raises
    `Violation` when somebody else is named."""
    try:
        granted = place.observer.lock(place.ws, LockInfo.new(place.observer.who))
    except Locked as refused:
        holder = refused.holder
        if holder is not None and holder.Info != info.Info and holder.ID != info.ID:
            raise Violation(f"the lock is held by {holder.Who}, who never asked for it") from refused
        return True
    place.observer.unlock(place.ws, granted)
    return False


class Lock(Call):
    """A lock is held, or not, as its asker is told; who was left in doubt is named as its holder."""

    name = "lock"
    needs = ("locking",)
    lock_id = ""

    def prepare(self) -> None:
        self.info = LockInfo.new(self.place.victim.who)

    def act(self) -> object:
        self.lock_id = self.place.victim.lock(self.place.ws, self.info)
        return self.lock_id

    def judge(self, told: object) -> None:
        held = is_held(self.place, self.info)
        if isinstance(told, DriverError):
            holder = told.holder
            owns_up = holder is not None and (holder.Info, holder.ID) == (self.info.Info, self.info.ID)
            if held and told.definite and not self.place.may_be_repetition(of_own=owns_up):
                raise Violation(f"{self.place.victim.who} was told {said(told)}, and holds the lock")
        elif not held:
            raise Violation(f"{self.place.victim.who} was granted the lock, and does not hold it")

    def clear(self) -> None:
        if self.lock_id:
            attempt(lambda: self.place.victim.unlock(self.place.ws, self.lock_id))


class Unlock(Call):
    """A lock is released, or not, as its holder is told."""

    name = "unlock"
    needs = ("locking",)

    def prepare(self) -> None:
        self.info = LockInfo.new(self.place.victim.who)
        self.lock_id = self.place.victim.lock(self.place.ws, self.info)

    def act(self) -> object:
        self.place.victim.unlock(self.place.ws, self.lock_id)
        return None

    def judge(self, told: object) -> None:
        held = is_held(self.place, self.info)
        if isinstance(told, DriverError):
            about = told.kind in {"not_locked", "lock_mismatch"}
            if told.definite and not held and not self.place.may_be_repetition(of_own=about):
                raise Violation(f"{self.place.victim.who} was told {said(told)}, and the lock is released")
        elif held:
            raise Violation(f"{self.place.victim.who} was told that the lock is released, and it is held")


class List(Call):
    """A listing names what there is, or is an error; never less."""

    name = "list"
    needs = ("workspaces",)

    def prepare(self) -> None:
        if self.place.ws not in self.place.observer.workspaces():
            self.place.observer.put(self.place.ws, state(1))

    def act(self) -> object:
        return self.place.victim.workspaces()

    def judge(self, told: object) -> None:
        if isinstance(told, DriverError):
            return
        missing = {"default", self.place.ws} - set(told)  # type: ignore[call-overload]
        if missing:
            raise Violation(f"{self.place.victim.who} was told of workspaces, but not of {sorted(missing)}")


CALLS: Mapping[str, type[Call]] = {call.name: call for call in (Get, Put, Lock, Unlock, Delete, List)}


def attempt(call: Callable[[], object]) -> object:
    """What `call` returns, or the `DriverError` that it raises."""
    try:
        return call()
    except DriverError as error:
        return error


@dataclass(frozen=True, eq=False)
class Strike:
    """A nemesis of the family `net` by its name, and what it takes."""

    nemesis: str
    parameters: Mapping[str, object] = field(default_factory=dict)

    def at(self, who: str, message: Message | None = None) -> LinkNemesis:
        """The fault, aimed at one message of a client, or at all."""
        aimed: dict[str, object] = {"on": who}
        if message is not None:
            aimed |= {"link": message.link, "first": message.number, "times": 1}
        made = nemeses()[self.nemesis](**self.parameters, **aimed)
        assert isinstance(made, LinkNemesis)
        return made

    def __str__(self) -> str:
        return " ".join([self.nemesis, *(f"{key}={value}" for key, value in self.parameters.items())])


class Striking:
    """Strikes the calls of one arena with faults, one at a time, and judges what their clients are told.

    `every`: every message of every call is struck with each, else one of each, drawn by the arena's `rng`.
    Calls of different workspaces run at the same time, where the backend has workspaces.
    """

    def __init__(self, arena: Arena, strikes: Sequence[Strike], *, every: bool) -> None:
        self.arena = arena
        self.strikes = strikes
        self.every = every
        self.hits: Counter[Strike] = Counter()
        self.missed: list[str] = []
        self.places: list[Place] = []

    def judge_all(self, names: Sequence[str] = tuple(CALLS)) -> None:
        """Raises `Violation`, or `Unknown` when one of the faults hit nothing at all."""
        arena = self.arena
        able = arena.backend.capabilities
        names = [name for name in names if set(CALLS[name].needs) <= able]
        seeds = {name: arena.rng.random() for name in names}
        arena.check_health()
        if "workspaces" in able:
            with ThreadPoolExecutor(len(names)) as pool:
                futures = [pool.submit(self.strike_call, n, f"struck-{n}", seeds[n]) for n in names]
            for future in futures:
                future.result()
        else:
            for name in names:
                self.strike_call(name, "default", seeds[name])
        if not any(place.repetitions for place in self.places):  # no history has words for such an answer
            require_valid(arena.history.history())
        for strike in self.strikes:
            if not self.hits[strike]:
                raise Unknown(f"{strike} hit nothing: {'; '.join(self.missed) or 'no call has a message'}")

    def strike_call(self, name: str, ws: str, seed: float) -> None:
        """Strikes messages of one method with each fault, each in a call of its own."""
        arena = self.arena
        place = Place(arena, ws, arena.client(f"victim-{name}"), arena.scope.client(f"observer-{name}"))
        self.places.append(place)
        passed = self.rehearse(CALLS[name], place)
        rng = random.Random(seed)
        for strike in self.strikes:
            fitting = dict(strike.at(place.victim.who).aims(arena))
            messages = [message for message in passed if message.link in fitting]
            for message in messages if self.every or not messages else [rng.choice(messages)]:
                if place.victim.gone:
                    place.victim = arena.client(place.victim.who)
                place.twice = strike.nemesis == "net.duplicate"
                self.strike_one(CALLS[name](place), strike, message)

    def rehearse(self, kind: type[Call], place: Place) -> list[Message]:
        """The messages of a call that nothing strikes. The first call opens what later ones find open."""
        links = self.arena.links(place.victim.who)
        for _ in range(2):
            call = kind(place)
            call.prepare()
            before = {name: link.exchanges for name, link in links.items()}
            told = attempt(call.act)
            after = {name: link.exchanges for name, link in links.items()}
            if isinstance(told, DriverError):
                raise Violation(f"{kind.name} fails without any fault: {told}")
            call.clear()
        return [Message(name, n + 1) for name in links for n in range(after[name] - before[name])]

    def strike_one(self, call: Call, strike: Strike, message: Message) -> None:
        """Strikes one message of one call, and judges what the client says of it."""
        place, since = call.place, self.arena.history.size
        call.prepare()
        fault = strike.at(place.victim.who, message)
        self.arena.inject(fault)
        try:
            told = attempt(call.act)
        finally:
            fault.heal(self.arena)
        self.hits[strike] += fault.struck()
        where = f"message {message.number} of {call.name} on link {message.link}"
        if not fault.struck():
            self.missed.append(where)
        try:
            call.judge(told)
            call.clear()
            if isinstance(told, DriverError):
                self.arena.require_usable(place.ws, place.observer)
        except Violation as violation:
            events = self.arena.history.history().events
            witness = [event.i for event in events[since:] if event.ws == place.ws]
            raise Violation(f"{strike} on {where}: {violation}", witness=witness) from violation
