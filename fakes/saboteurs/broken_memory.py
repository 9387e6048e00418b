"""The memory driver with another client, store or set of capabilities in it.

A saboteur or variant is a subclass of `BrokenClient` that overrides what it does differently; its
`driver` is the factory for `--backend=py:MODULE:CLASS.driver`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import ClassVar

from lockproof.driver.api import Address, Capabilities
from lockproof.driver.errors import DriverError
from lockproof.driver.memory import MemoryClient, MemoryDriver, MemoryScope, MemoryStore


class BrokenClient(MemoryClient):
    """A memory client to be overridden. `store_type` makes each scope's store; `lacks` are
    capabilities of the memory driver that this one does not claim."""

    store_type: ClassVar[type[MemoryStore]] = MemoryStore
    lacks: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def driver(cls, options: Mapping[str, str]) -> BrokenMemory:
        """The factory of a driver whose clients are of this class."""
        return BrokenMemory(cls, options)


class BrokenMemory(MemoryDriver):
    """A memory driver whose clients are of `client_type`."""

    def __init__(self, client_type: type[BrokenClient], options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.client_type = client_type

    def capabilities(self) -> Capabilities:
        claimed = super().capabilities()
        return Capabilities(name for name in claimed if not Capabilities([name]) & self.client_type.lacks)

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> BrokenScope:
        if attach:
            raise DriverError("unsupported", True, "memory is not shared between processes")
        return BrokenScope(self.client_type)


class BrokenScope(MemoryScope):
    """A scope whose store and clients are those of `client_type`."""

    def __init__(self, client_type: type[BrokenClient]) -> None:
        self.client_type = client_type
        self.store = client_type.store_type()

    def client(self, who: str) -> BrokenClient:
        return self.client_type(self.store, who)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.store.locks.clear()


def pause(seconds: float) -> None:
    """Lets other threads run: the window of a race, or a slow network."""
    threading.Event().wait(seconds)
