"""Where faults happen: a scope whose clients each have links of their own through one fault proxy."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from lockproof.driver.api import Address, Capabilities, Driver, LockInfo
from lockproof.driver.errors import DriverError, Locked
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history.writer import HARNESS, HistoryWriter
from lockproof.spec.outcome import Unknown, Violation

if TYPE_CHECKING:
    from lockproof.chaos.nemesis import Nemesis
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

    def client(self, who: str) -> RecordedClient:
        """A client named `who`, on links of its own. The same name again shares them: the same machine."""
        addresses = self.addresses()
        if not addresses:
            return self.scope.client(who)
        links = self.links(who)
        detour = {name: link.address for name, link in links.items()}
        attached = self.backend.driver.open_scope(self.scope.name, detour, attach=True)
        return self.scope.join(self._stack.enter_context(attached).client(who), who)

    def links(self, who: str) -> Mapping[str, Link]:
        """The links of the client named `who`, made when first asked for; by the driver's names."""
        with self._mutex:
            if who not in self._links:
                self._links[who] = {
                    name: self.proxy.stand_before(address, address.protocol, name=f"{who}.{name}")
                    for name, address in self.addresses().items()
                }
            return self._links[who]

    def inject(self, nemesis: Nemesis) -> None:
        """Injects a nemesis and remembers it, so that `heal` ends it too."""
        with self._mutex:
            self.injected.append(nemesis)
        nemesis.inject(self, self.rng)

    def heal(self) -> None:
        """Ends every fault that was injected here."""
        with self._mutex:
            injected, self.injected = self.injected, []
        for nemesis in injected:
            nemesis.heal(self)

    def check_health(self) -> None:
        """Raises `Unknown` unless the backend answers on a clean link."""
        try:
            if "state" in self.backend.capabilities:
                self.observer.get(DEFAULT)
            else:
                self.take(DEFAULT, self.backend.timeout)
        except (DriverError, Violation) as error:
            raise Unknown(f"the backend does not answer on a clean link: {error}") from error

    def recover(self, ws: str = DEFAULT, within: float | None = None) -> None:
        """How a test of faults ends, after healing: the lock can be taken within so many seconds (the
        deadline of one call, when not given), by force where somebody died with it, and the state can be
        read. The lock is free afterwards. Raises `Violation`."""
        self.heal()
        within = self.backend.timeout if within is None else within
        if "locking" in self.backend.capabilities:
            self.take(ws, within)
        if "state" in self.backend.capabilities:
            try:
                self.observer.get(ws)
            except DriverError as error:
                raise Violation(f"after healing the state of {ws!r} is not readable: {error}") from error

    def take(self, ws: str, within: float) -> None:
        """Takes the lock of `ws` on a clean link and releases it. Nobody who lives may hold it."""
        ends = time.monotonic() + within
        while True:
            client, info = self.observer, LockInfo.new("observer")
            try:
                client.unlock(ws, client.lock(ws, info))
                return
            except Locked as refused:
                failure: DriverError = refused
                self._force(client, ws, refused)
            except DriverError as error:
                failure = error
            if time.monotonic() > ends:
                raise Violation(f"after healing the lock of {ws!r} cannot be taken: {failure}") from failure
            threading.Event().wait(PAUSE)

    def _force(self, client: RecordedClient, ws: str, refused: Locked) -> None:
        if refused.holder is None or "locking.force-unlock" not in self.backend.capabilities:
            raise Unknown("somebody died with the lock, and this backend cannot force it") from refused
        try:
            client.unlock(ws, refused.holder.ID)
        except DriverError as error:
            client.note(f"not forced: {error}")

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
