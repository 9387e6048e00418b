"""The reference backend under strict fencing, broken in one way each: copies, objects, lost replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.broken_databricks import Broken
from tofu_databricks.errors import BackendError, StaleWrite
from tofu_databricks.fenced import FencedState, Move, Seen
from tofu_databricks.heads import Version, Versions
from tofu_databricks.lockrecord import Agreement, LockStoreRecord
from tofu_databricks.published import Copies, Newer

register = Register(__name__, "databricks", only=("DBX-FENCE-*", "LOCK-FENCE-003"))
SABOTEURS = register.saboteurs


class StrictBroken(Broken):
    """The reference driver under strict fencing, with `parts` in the place of parts of its backend."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__({**options, "fencing": "strict"})


class BlindCopies(Copies):
    def publish(self, path: str, version: Version, data: bytes | None, newer: Newer) -> None:
        super().publish(path, version, data, lambda written: None)


@register.breaks("DBX-FENCE-003")
class PublishesBlindly(StrictBroken):
    """Who publishes does not look what was written meanwhile."""

    parts: ClassVar = {"copies_class": BlindCopies}


class HoardingState(FencedState):
    def _collect(self, names: Iterable[str]) -> None:
        return


@register.breaks("DBX-FENCE-004")
class KeepsEveryObject(StrictBroken):
    """No object is ever deleted."""

    parts: ClassVar = {"fenced_class": HoardingState}


class TrustingState(FencedState):
    def _moved(self, seen: Seen, after: Versions, lock_id: str | None) -> Move:
        try:
            moved = self.locks.move_head(self.path, lock_id, seen.text, after.text())
        except BackendError as error:
            error.definite = True
            raise
        if not moved:
            raise StaleWrite("the write was refused: the state moved on")
        return Move.MADE


@register.breaks("DBX-FENCE-005", "LOCK-FENCE-003")
class TakesALostReplyForARefusal(StrictBroken):
    """A statement that changes nothing when it is sent again is taken for a refusal."""

    parts: ClassVar = {"fenced_class": TrustingState}


class HopefulState(FencedState):
    def get(self) -> bytes | None:
        agreed = self.record.agreed()
        latest = self._look().versions.latest if agreed else None
        path = self.path if latest is None else self._object(str(latest.object))
        return self.volume.read(path)


@register.breaks("DBX-FENCE-006")
class TakesALostObjectForNoState(StrictBroken):
    """A state whose object is not there is no state yet."""

    parts: ClassVar = {"fenced_class": HopefulState}


class TolerantRecord(LockStoreRecord):
    def _agree(self, recorded: bytes) -> Agreement:
        try:
            return super()._agree(recorded)
        except BackendError:
            self._agreed = Agreement("2.0", "any")
            return self._agreed


@register.breaks("DBX-FENCE-007")
class FencesAnyhow(StrictBroken):
    """Nobody looks how others fence."""

    parts: ClassVar = {"record_class": TolerantRecord}
