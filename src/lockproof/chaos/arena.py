"""Where faults happen: a scope whose clients each have links of their own through one fault proxy."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from lockproof.chaos.nemesis import family_of, nemeses
from lockproof.driver.api import Address, Capabilities, Driver, LockInfo
from lockproof.driver.errors import DriverError, Locked
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history.writer import HARNESS, HistoryWriter
from lockproof.spec.outcome import Unknown, Violation

if TYPE_CHECKING:
    from lockproof.chaos.nemesis import Nemesis
    from lockproof.chaos.process import RecordedProcess
    from lockproof.chaos.proxy import FaultProxy, Link

DEFAULT = "default"
PAUSE = 0.05
"""Seconds between two looks at a backend that recovers."""


class BackendUnderTest(Protocol):
    """What an arena asks of the fixture `backend`."""

    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def target(self) -> str: ...
    @property
    def timeout(self) -> float: ...
    @property
    def connect(self) -> Callable[[], Driver]: ...
    @property
    def driver(self) -> Driver: ...
    @property
    def faults(self) -> Sequence[str]: ...
    @property
    def allow_destructive(self) -> bool: ...


class Arena:
    """A scope that faults are injected into. A context manager that on exit heals what is left.

    Every client made by `client` reaches the backend through links of its own, so that a fault on one
    hurts nobody else, no other test either; `observer` reaches it as the driver says. Without links all
    clients are like the observer. The proxy runs from the first link on.
    """

    def __init__(
        self, backend: BackendUnderTest, scope: RecordedScope, history: HistoryWriter, rng: random.Random
    ) -> None:
        self.backend = backend
        self.scope = scope
        self.history = history
        self.rng = rng
        self.injected: list[Nemesis] = []
        self.was_hurt = False
        """Whether a fault was ever injected, here or before this arena was made."""
        self._links: dict[str, dict[str, Link]] = {}
        self._proxy: FaultProxy | None = None
        self._observer: RecordedClient | None = None
        self._stack = ExitStack()
        self._mutex = threading.RLock()

    @property
    def proxy(self) -> FaultProxy:
        """The proxy that serves all links, started when first asked for."""
        from lockproof.chaos.proxy import FaultProxy

        with self._mutex:
            if self._proxy is None:
                self._proxy = self._stack.enter_context(FaultProxy())
            return self._proxy

    @property
    def observer(self) -> RecordedClient:
        """A client on a clean link, for one thread at a time; the same one until it is gone."""
        with self._mutex:
            if self._observer is None or self._observer.gone:
                self._observer = self.scope.client("observer")
            return self._observer

    def addresses(self) -> Mapping[str, Address]:
        """Where the driver's links end; empty for a backend that is not reached over a network."""
        return self.backend.driver.links()

    def client(self, who: str, timeout: float | None = None) -> RecordedClient:
        """A client named `who`, on links of its own; `timeout` is another deadline for its calls. The same
        name again shares the links: the same machine."""
        detour = {name: link.address for name, link in self.links(who).items()}
        if not detour:
            return self.scope.client(who)
        attached = self.backend.driver.open_scope(self.scope.name, detour, attach=True)
        return self.scope.join(self._stack.enter_context(attached).client(who), who, timeout)

    def process(self, who: str) -> RecordedProcess:
        """As `client`, in a process of its own, which can be killed, stopped and continued."""
        from lockproof.chaos.process import start_process

        detour = {name: link.address for name, link in self.links(who).items()}
        return start_process(self.backend.connect, self.scope, who, detour or None)

    def links(self, who: str) -> Mapping[str, Link]:
        """The links of the client named `who`, made when first asked for; by the driver's names."""
        with self._mutex:
            if who not in self._links:
                self._links[who] = {
                    name: self.proxy.stand_before(address, address.protocol, name=f"{who}.{name}")
                    for name, address in self.addresses().items()
                }
            return self._links[who]

    def all_links(self) -> Sequence[Mapping[str, Link]]:
        """The links of every client so far, in the order of their making."""
        with self._mutex:
            return tuple(self._links.values())

    def possible(self, families: Collection[str], besides: Collection[str] = ()) -> Sequence[str]:
        """The names of the nemeses of these families, but for those of `besides`, that can be injected here:
        whose precondition is met, that `--backend-faults` does not leave out, and that on a real target hurt
        no service unless that was allowed."""
        backend = self.backend
        return [
            name
            for name, kind in nemeses().items()
            if family_of(name) in families
            and name not in besides
            and (not backend.faults or family_of(name) in backend.faults)
            and (not kind.destructive or backend.target != "real" or backend.allow_destructive)
            and not kind().missing(self)
        ]

    def inject(self, nemesis: Nemesis) -> None:
        """Injects a nemesis and remembers it, so that `heal` ends it too."""
        with self._mutex:
            self.injected.append(nemesis)
            self.was_hurt = True
        nemesis.inject(self, self.rng)

    def heal(self) -> None:
        """Ends every fault that was injected here. Raises what the first of them raised that could not be
        ended, after all others were."""
        with self._mutex:
            injected, self.injected = self.injected, []
        failures: list[Exception] = []
        for nemesis in injected:
            try:
                nemesis.heal(self)
            except Exception as failure:  # noqa: BLE001, raised below
                failures.append(failure)
        if failures:
            raise failures[0]

    def check_health(self) -> None:
        """Raises unless the backend answers on a clean link: `Unknown` where it may never have, or as long as
        a fault lasts; `Violation` where it does not within the deadline of one call after all faults were
        healed (FAULT-NET-011)."""
        ends = time.monotonic() + self.backend.timeout
        while (failure := self._look()) is not None:
            what = f"the backend does not answer on a clean link: {failure}"
            if not self.was_hurt or not all(nemesis.healed for nemesis in self.injected):
                raise Unknown(what) from failure
            if time.monotonic() > ends:
                raise Violation(f"after healing {what}") from failure
            threading.Event().wait(PAUSE)

    def _look(self) -> DriverError | None:
        """How the backend fails the observer, if it does."""
        try:
            if "state" in self.backend.capabilities:
                self.observer.get(DEFAULT)
            else:
                self.observer.unlock(DEFAULT, self.observer.lock(DEFAULT, LockInfo.new("observer")))
        except Locked:
            return None
        except DriverError as error:
            return error
        return None

    def recover(self, ws: str = DEFAULT, within: float | None = None) -> None:
        """How a test of faults ends: all faults are healed, and then the workspace is usable. Raises
        `Violation`."""
        self.heal()
        self.require_usable(ws, within=within)

    def require_usable(
        self, ws: str = DEFAULT, client: RecordedClient | None = None, within: float | None = None
    ) -> None:
        """Raises `Violation` unless `client` (the observer, when not given) can take the lock within so many
        seconds (the deadline of one call, when not given), by force where an unknown outcome left it held,
        and reads the state. The lock is free afterwards. Where nothing can force it, whoever lives releases
        what is its own; a lock that nobody is left to release is beyond the backend, and only remarked."""
        if "locking" in self.backend.capabilities:
            self._take(ws, client, self.backend.timeout if within is None else within)
        if "state" in self.backend.capabilities:
            try:
                (client or self.observer).get(ws)
            except DriverError as error:
                raise Violation(f"after healing the state of {ws!r} is not readable: {error}") from error

    def _take(self, ws: str, client: RecordedClient | None, within: float) -> None:
        ends = time.monotonic() + within
        while True:
            asker = client or self.observer
            try:
                asker.unlock(ws, asker.lock(ws, LockInfo.new(asker.who)))
                return
            except Locked as refused:
                failure: DriverError = refused
                if not (self._force(asker, ws, refused) or self._let_release(ws, refused)):
                    self.remark(f"the lock of {ws!r} is left held: nobody who lives knows its id")
                    return
            except DriverError as error:
                failure = error
            if time.monotonic() > ends:
                raise Violation(f"after healing the lock of {ws!r} cannot be taken: {failure}") from failure
            threading.Event().wait(PAUSE)

    def _force(self, client: RecordedClient, ws: str, refused: Locked) -> bool:
        """Whether the lock could be forced here; that it was, the next look tells."""
        if refused.holder is None or "locking.force-unlock" not in self.backend.capabilities:
            return False
        try:
            client.unlock(ws, refused.holder.ID)
        except DriverError as error:
            client.note(f"not forced: {error}")
        return True

    def _let_release(self, ws: str, refused: Locked) -> bool:
        """Whether somebody who lives has released the lock by an id of its own, or may have."""
        for client in [client for client in self.scope.clients if not client.gone]:
            for lock_id in client.own_ids(ws, refused.holder):
                try:
                    client.unlock(ws, lock_id)
                except DriverError as error:
                    if error.kind in {"not_locked", "lock_mismatch"}:
                        continue
                return True
        return False

    def remark(self, text: str) -> None:
        """Adds a remark of the harness to the history."""
        self.history.append(HARNESS, "note", "remark", given={"text": text})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.heal()
        finally:
            self._stack.close()
