"""Saboteurs of the holder's name: a refusal tells another lock info than the holder's."""

from __future__ import annotations

from dataclasses import replace

from lockproof.driver.api import LockInfo
from lockproof.driver.errors import DriverError, Locked
from lockproof.driver.memory import MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenClient, Register
from lockproof.fakes.saboteurs.lock_groups import UNDER_LOAD

register = Register(__name__, "locks")
SABOTEURS = register.saboteurs


@register.breaks(
    "LOCK-HOLD-001",
    "LOCK-HOLD-002",
    "LOCK-HOLD-004",
    "LOCK-FORCE-001",
    "LOCK-CRASH-001",
    "LOCK-WAIT-002",
    *UNDER_LOAD,
)
class NamesTheRequester(BrokenClient):
    """A refusal carries the lock info of the refused client (OpenTofu issue 2004)."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            raise Locked(refusal.message, holder=info) from refusal


class StoreWithFirstHolders(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, LockInfo] = {}


@register.breaks("LOCK-HOLD-001", *UNDER_LOAD, "LOCK-WAIT-001")
class NamesTheFirstHolder(BrokenClient):
    """The holder's info is written at the first lock and never replaced."""

    store_type = StoreWithFirstHolders

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithFirstHolders)
        first = self.store.first.setdefault(workspace, info)
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            raise Locked(refusal.message, holder=first) from refusal


@register.breaks("LOCK-HOLD-002")
class ForgetsOperation(BrokenClient):
    """The operation of the holder is not stored."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock(workspace, replace(info, Operation=""))


@register.breaks("LOCK-HOLD-003")
class LocalTime(BrokenClient):
    """The holder's time is given in local words without a zone."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock(workspace, replace(info, Created=info.Created[:19].replace("T", " ")))


@register.breaks("LOCK-HOLD-004")
class AsciiOnly(BrokenClient):
    """Lock info is kept in an ASCII column."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        plain = {name: text.encode("ascii", "replace").decode() for name, text in info.to_json().items()}
        return super().lock(workspace, LockInfo(**plain))


@register.breaks("LOCK-HOLD-004")
class ShortColumn(BrokenClient):
    """Lock info is kept in a column of 255 characters."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock(workspace, replace(info, Info=info.Info[:255]))


@register.breaks("LOCK-INFO-001")
class DemandsWho(BrokenClient):
    """A request without `Who` is turned down as malformed."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        if not info.Who:
            raise DriverError("malformed", True, "lock info has no Who")
        return super().lock(workspace, info)
