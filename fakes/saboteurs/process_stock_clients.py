"""Saboteurs that only a stock client in trouble meets: refused uploads, interrupts, hang-ups."""

from __future__ import annotations

import json

from lockproof.driver.api import LockInfo
from lockproof.driver.errors import DriverError, Locked
from lockproof.fakes.saboteurs.broken import BrokenClient
from lockproof.fakes.saboteurs.catalogue import Saboteur


class RefusesSerialGaps(BrokenClient):
    """Takes a state only when its serial is the next one."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        before = self.store.states.get(workspace)
        if before is not None and json.loads(data)["serial"] != json.loads(before)["serial"] + 1:
            raise DriverError("stale", True, "this is not the next serial")
        super().put(workspace, data, lock_id=lock_id)


class ReleasesOnlyWhatWasWritten(BrokenClient):
    """A release before anything was written under the lock is taken for a mistake, and ignored."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        self.written = lock_id

    def unlock(self, workspace: str, lock_id: str) -> None:
        holder = self.store.locks.get(workspace)
        if holder is None or holder.Who == self.who or getattr(self, "written", None) == lock_id:
            super().unlock(workspace, lock_id)


class NamesTheAsker(BrokenClient):
    """A refusal names whoever asked as the holder."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked:
            raise Locked("held", holder=info) from None


def saboteur(client: type[BrokenClient], name: str, breaks: str) -> Saboteur:
    """The client as a saboteur whose tests need a stock client."""
    story = " ".join((client.__doc__ or "").split())
    backend = f"py:{__name__}:{client.__name__}.driver"
    programs = ("tofu", "terraform")
    return Saboteur(name, breaks, story, backend, ("clients",), only=(breaks,), programs=programs)


SABOTEURS = (
    saboteur(RefusesSerialGaps, "refuses-serial-gaps", "CLI-DISK-001"),
    saboteur(ReleasesOnlyWhatWasWritten, "releases-only-what-was-written", "CLI-INT-002"),
    saboteur(NamesTheAsker, "names-the-asker", "CLI-CRASH-002"),
)
