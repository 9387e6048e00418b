"""What the gateway remembers so that a client that repeats a request after a lost reply succeeds.

A client repeats every request after a lost reply or a 5xx. The repeated lock is answered by the
backend, which knows its holder. A repeated unlock finds nothing locked, and a repeated write may find
its lock gone, though both took effect the first time: only the memory of the first time tells those
from requests that must be refused. It lasts as long as the process; after a restart the repeat is
refused, which is safe.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

REMEMBERED_IDS = 64
REMEMBERED_WORKSPACES = 4096
ANY_ID = ""


@dataclass
class WorkspaceMemory:
    """One workspace: ids granted here, ids released here with the digest of the request that did it,
    both oldest first, the last write accepted as lock id and MD5, the last holder that was told."""

    granted: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    released: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    write: tuple[str, bytes] | None = None
    holder: str = ""


class Memory:
    """Thread-safe and bounded in size."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.workspaces: OrderedDict[str, WorkspaceMemory] = OrderedDict()

    def lock_granted(self, workspace: str, lock_id: str) -> None:
        """`lock_id` holds the lock of `workspace` now."""
        with self.mutex:
            memory = self._of(workspace)
            memory.released.pop(lock_id, None)
            memory.released.pop(ANY_ID, None)
            remember(memory.granted, lock_id, b"")

    def lock_released(self, workspace: str, lock_id: str, body: bytes) -> None:
        """The unlock request with this body released `lock_id` (`ANY_ID` when it named none)."""
        with self.mutex:
            remember(self._of(workspace).released, lock_id, hashlib.sha256(body).digest())

    def is_granted(self, workspace: str, lock_id: str) -> bool:
        """Whether `lock_id` was granted here, ever."""
        with self.mutex:
            return lock_id in self._of(workspace).granted

    def is_repeated_unlock(self, workspace: str, lock_id: str, body: bytes) -> bool:
        """Whether the very same request released `lock_id` before.

        Another request for the same id is none: a holder whose lock was released by force must learn
        that it lost it. Source: opentofu internal/states/statemgr/locker.go:60-66.
        """
        with self.mutex:
            return self._of(workspace).released.get(lock_id) == hashlib.sha256(body).digest()

    def is_news(self, workspace: str, holder: str) -> bool:
        """Whether another holder, or none, was told before."""
        with self.mutex:
            memory = self._of(workspace)
            news = memory.holder != holder
            memory.holder = holder
            return news

    def written(self, workspace: str, lock_id: str | None, md5: bytes) -> None:
        """A write was accepted, or may have been."""
        with self.mutex:
            self._of(workspace).write = None if lock_id is None else (lock_id, md5)

    def is_repeated_write(self, workspace: str, lock_id: str, md5: bytes) -> bool:
        """Whether the last write accepted here was the same content under the same lock."""
        with self.mutex:
            return self._of(workspace).write == (lock_id, md5)

    def _of(self, workspace: str) -> WorkspaceMemory:
        memory = self.workspaces.setdefault(workspace, WorkspaceMemory())
        self.workspaces.move_to_end(workspace)
        if len(self.workspaces) > REMEMBERED_WORKSPACES:
            self.workspaces.popitem(last=False)
        return memory


def remember(ids: OrderedDict[str, bytes], lock_id: str, value: bytes) -> None:
    """Adds `lock_id` as the newest and forgets the oldest beyond `REMEMBERED_IDS`."""
    ids[lock_id] = value
    ids.move_to_end(lock_id)
    if len(ids) > REMEMBERED_IDS:
        ids.popitem(last=False)
