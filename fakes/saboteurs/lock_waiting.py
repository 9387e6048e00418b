"""Saboteurs of waiting: a client that asks again is told wrongly why it must wait."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from lockproof.driver.api import LockInfo
from lockproof.driver.errors import DriverError, Locked
from lockproof.driver.memory import MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenClient, Register, pause
from lockproof.fakes.saboteurs.lock_groups import UNDER_LOAD

register = Register(__name__, "locks")
SABOTEURS = register.saboteurs


class CountsRefusals(BrokenClient):
    """Counts how often each request of this client was refused."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.refusals: Counter[str] = Counter()

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked:
            self.refusals[info.ID] += 1
            raise


@register.breaks("LOCK-WAIT-001", "LOCK-WAIT-002")
class RetryIsAnError(CountsRefusals):
    """A retry of a refused request is a conflict that nobody waits for (kubernetes)."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        if self.refusals[info.ID]:
            raise DriverError("internal", True, "the object has been modified")
        return super().lock(workspace, info)


@register.breaks("LOCK-WAIT-002", "LOCK-WAIT-001")
class WaiterIsNamed(CountsRefusals):
    """After three refusals of one request the waiter itself is named as the holder."""

    patience: ClassVar[int] = 3

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            if self.refusals[info.ID] > self.patience:
                raise Locked(refusal.message, holder=info) from refusal
            raise


@register.breaks("LOCK-WAIT-003", *UNDER_LOAD)
class VanishedHolderIsNotFound(BrokenClient):
    """When the holder is gone before its name was read, the refusal is a 'not found' error."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked:
            pause(0.0005)
            with self.store.mutex:
                holder = self.store.locks.get(workspace)
            if holder is None:
                raise DriverError("not_found", True, "no such lock") from None
            raise Locked(f"held by {holder.Who}", holder=holder) from None
