"""Small subjects and programs for tests of the explorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lockproof.checkers import Verdict
from lockproof.driver import Locked, LockInfo
from lockproof.driver.memory import MemoryClient, MemoryScope, MemoryStore
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import LOST_REPLY, Program, Shared, checkpoint
from lockproof.history import History

Body = Callable[[RecordedClient, Shared], object]


class Bed:
    """A subject whose scopes are a `store` with clients of `kind`; with `instrumented`, calls are no steps.

    `scopes` are those that were opened, in order.
    """

    def __init__(
        self,
        kind: type[MemoryClient] = MemoryClient,
        *,
        store: type[MemoryStore] = MemoryStore,
        instrumented: bool = False,
    ) -> None:
        self.store = store
        self.kind = kind
        self.name = kind.__name__
        self.instrumented = instrumented
        self.scopes: list[MemoryScope] = []

    def open(self, run: int) -> MemoryScope:
        kind = self.kind

        class Scope(MemoryScope):
            def client(self, who: str) -> MemoryClient:
                return kind(self.store, who)

        self.scopes.append(Scope())
        self.scopes[-1].store = self.store()
        return self.scopes[-1]


class CheckThenSet(MemoryClient):
    """Looks whether the lock is free, and then takes it."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        holder = self.store.locks.get(workspace)
        if holder is not None:
            raise Locked(holder=holder)
        checkpoint("set the lock")
        self.store.locks[workspace] = info
        return info.ID


class ReadThenDelete(MemoryClient):
    """Unlock looks whether the id holds the lock, and then deletes whatever lock there is."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        self.require_holder(workspace, lock_id)
        checkpoint("delete the lock")
        self.store.locks.pop(workspace, None)


class Retrying(MemoryClient):
    """Repeats a lock whose reply was lost, and takes the refusal that names itself for another's."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        fault = checkpoint("send the lock", faults={LOST_REPLY})
        lock_id = super().lock(workspace, info)
        if fault:
            checkpoint("send the lock again")
            self.store.locks.pop(workspace, None)
            lock_id = super().lock(workspace, replace(info, ID=f"{info.ID} again"))
        return lock_id


def info(who: str, lock_id: str | None = None) -> LockInfo:
    """A lock info whose id is the same in every run: the client's name, or `lock_id`."""
    return LockInfo(ID=lock_id or who, Who=who, Info=f"token of {lock_id or who}", Operation="apply")


def take(client: RecordedClient, shared: Shared) -> None:
    """One attempt to take the lock, for good."""
    client.lock("default", info(client.who))


def take_and_release(client: RecordedClient, shared: Shared) -> None:
    """The lock, held for a write."""
    lock_id = client.lock("default", info(client.who))
    client.put("default", client.who.encode(), lock_id=lock_id)
    client.unlock("default", lock_id)


def calls(number: int) -> Body:
    """A client that makes so many calls."""

    def body(client: RecordedClient, shared: Shared) -> None:
        for n in range(number):
            client.get(f"{client.who}-{n}")

    return body


def program(clients: Mapping[str, Body], **settings: Any) -> Program:
    """A program called `p`."""
    return Program("p", "a program of a test", clients, **settings)


class Collector:
    """A judge that finds nothing wrong and keeps what it saw: `look` of each history, in order."""

    def __init__(self, look: Callable[[History], Any]) -> None:
        self.look = look
        self.seen: list[Any] = []

    def __call__(self, history: History) -> Verdict:
        self.seen.append(self.look(history))
        return Verdict("valid", "seen")


def order_of_calls(history: History) -> tuple[str, ...]:
    """Who made a call, in the order of the calls."""
    return tuple(history.names[event.p] for event in history.events if event.e == "invoke")


def what_clients_saw(history: History) -> tuple[Any, ...]:
    """All that a judge may look at: every call with its outcome, and which ended before which began."""
    operations = list(history.operations())
    seen = sorted((history.names[op.p], op.ws or "", op.kind, str(op.out)) for op in operations)
    before: Sequence[Any] = sorted(
        ((history.names[one.p], one.ws), (history.names[other.p], other.ws))
        for one in operations
        for other in operations
        if one.end < other.i
    )
    return tuple(seen), tuple(before)
