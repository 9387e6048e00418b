"""Backends that the tests of `lockproof teeth` judge: broken in some runs only, or in some schedules."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from lockproof.driver import Address, LockInfo
from lockproof.driver.memory import MemoryScope, MemoryStore
from lockproof.explore import checkpoint
from lockproof.fakes.saboteurs.broken import BrokenDriver, BrokenScope, SteppedClient


class GrantsAll(SteppedClient):
    """Grants every request."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        return self.take(workspace, info)


class LooksThenTakes(SteppedClient):
    """Looks, and takes the lock later."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        self.require_free(workspace)
        checkpoint("take the lock")
        return self.take(workspace, info)


class BreaksEverySecondRun(BrokenDriver):
    """Every second driver that is made in a process grants everything."""

    made = itertools.count()

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        if next(self.made) % 2:
            self.client_type = GrantsAll  # type: ignore[misc]


class MendsItself(BrokenDriver):
    """Only the first scope of a driver is broken: what was seen there is not seen again."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.opened = 0

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> MemoryScope:
        self.opened += 1
        broken = self.opened == 1
        return BrokenScope(MemoryStore(), GrantsAll if broken else self.client_type)
