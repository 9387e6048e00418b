"""What saboteurs are made of: the memory backend with a client, or a store, of their own."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from lockproof.driver import Address, Capabilities, Driver, Locked, LockInfo
from lockproof.driver.memory import MemoryClient, MemoryDriver, MemoryScope, MemoryStore
from lockproof.fakes.saboteurs.catalogue import CorrectVariant, Saboteur

D = TypeVar("D", bound="Driver | BrokenClient")


class BrokenScope(MemoryScope):
    """A scope whose store and clients are of the given types."""

    def __init__(self, store: MemoryStore, client_type: type[MemoryClient]) -> None:
        super().__init__()
        self.store = store
        self.client_type = client_type

    def client(self, who: str) -> MemoryClient:
        return self.client_type(self.store, who)


class BrokenDriver(MemoryDriver):
    """The memory driver with `client_type` and `store_type` in the place of its own, without what it `lacks`.

    It claims no large states, whose test takes longer than all others together.
    """

    client_type: ClassVar[type[MemoryClient]] = MemoryClient
    store_type: ClassVar[type[MemoryStore]] = MemoryStore
    lacks: ClassVar[frozenset[str]] = frozenset()

    def capabilities(self) -> Capabilities:
        lacks = self.lacks | {"state.large"}
        return Capabilities(name for name in super().capabilities() if not Capabilities([name]) & lacks)

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> MemoryScope:
        return BrokenScope(self.store_type(), self.client_type)


class BrokenClient(MemoryClient):
    """A client that brings the rest with it: its `driver` is a factory, `py:MODULE:CLASS.driver`.

    `store_type` makes the store of each scope; `lacks` are capabilities that it does not claim.
    """

    store_type: ClassVar[type[MemoryStore]] = MemoryStore
    lacks: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def driver(cls, options: Mapping[str, str]) -> BrokenDriver:
        """A driver whose clients are of this class."""
        parts = {"client_type": cls, "store_type": cls.store_type, "lacks": cls.lacks}
        made: type[BrokenDriver] = type(f"{cls.__name__}Driver", (BrokenDriver,), parts)
        return made(options)


class SteppedClient(BrokenClient):
    """A client that looks at the store and changes it in steps, between which others may come in."""

    def require_free(self, workspace: str) -> None:
        """Raises `Locked` while somebody holds the lock."""
        holder = self.store.locks.get(workspace)
        if holder is not None:
            raise Locked(f"held by {holder.Who}", holder=holder)

    def take(self, workspace: str, info: LockInfo) -> str:
        """Writes the lock, whatever is there."""
        self.store.locks[workspace] = info
        return info.ID


class AlteringClient(MemoryClient):
    """Stores `alter(old, new)` in the place of the new bytes."""

    def alter(self, old: bytes | None, new: bytes) -> bytes:
        return new

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, self.alter(self.store.states.get(workspace), data), lock_id=lock_id)


def altering(alter: Callable[[bytes | None, bytes], bytes]) -> type[AlteringClient]:
    """A client that stores what `alter` makes of the old and the new bytes."""
    return type("Altering", (AlteringClient,), {"alter": lambda self, old, new: alter(old, new)})


class Register:
    """Collects the saboteurs and correct variants of one module, as `catalogue` wants them.

    The class decorated is the driver, or a client that brings its driver; its docstring is the story,
    its name the entry's.
    """

    def __init__(self, module: str, *suites: str, only: tuple[str, ...] = (), timing: bool = False) -> None:
        self.module = module
        self.suites = suites
        self.only = only
        self.timing = timing
        self.saboteurs: list[Saboteur] = []
        self.variants: list[CorrectVariant] = []

    def breaks(self, requirement: str, *also: str) -> Callable[[type[D]], type[D]]:
        """The driver breaks `requirement`; those of `also` cannot hold then either."""

        def register(driver: type[D]) -> type[D]:
            name, story, backend = self._described(driver)
            self.saboteurs.append(
                Saboteur(
                    name, requirement, story, backend, self.suites, also, only=self.only, timing=self.timing
                )
            )
            return driver

        return register

    def correct(self, driver: type[D]) -> type[D]:
        """The driver keeps every requirement, though in an unusual way, and in every schedule."""
        name, story, backend = self._described(driver)
        suites = tuple(dict.fromkeys((*self.suites, "concurrency")))
        self.variants.append(CorrectVariant(name, story, backend, suites, only=self.only))
        return driver

    def _described(self, driver: type[Any]) -> tuple[str, str, str]:
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", driver.__name__).lower()
        story = " ".join((driver.__doc__ or "").split())
        factory = ".driver" if issubclass(driver, BrokenClient) else ""
        return name, story, f"py:{self.module}:{driver.__name__}{factory}"


def pause(seconds: float) -> None:
    """Lets other threads run: the window of a race, or a slow network."""
    threading.Event().wait(seconds)
