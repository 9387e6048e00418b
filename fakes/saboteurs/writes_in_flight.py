"""A backend that looks at the lock before it writes, and claims that this is enough."""

from __future__ import annotations

from lockproof.explore import checkpoint
from lockproof.fakes.saboteurs.broken import Register, SteppedClient

register = Register(__name__, "concurrency", timing=True)
SABOTEURS = register.saboteurs


@register.breaks("LOCK-FENCE-003")
class WritesAfterItLooked(SteppedClient):
    """A write looks at its lock, and arrives however late after that."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        with self.store.mutex:
            if lock_id is not None:
                self.require_holder(workspace, lock_id)
        checkpoint("write the state")
        with self.store.mutex:
            self.store.states[workspace] = bytes(data)
