"""States under `fencing = "strict"`: no write of a holder that lost its lock is ever seen by a reader.

Files API 2.0 replaces a file under no condition, and an ETag (3.0) says nothing of the lock, which is of
another store: a holder may lose its lock between the look at it and a write that the tag still allows. So the
bytes of each write go into a new file, an object, and the write takes effect by one statement in the lock
store that moves the head to it, while the lock is held and the head is the one that was seen
(`HeadStore.move_head`). Readers follow the head; `tofu_databricks.published` keeps the copy at `{key}`.

What it costs, beside what `checked` does: a read takes one statement; a write takes two more, one request for
the object, and one that deletes the object that became too old. Readers need the lock store, too.

A write or a deletion without a lock is refused while somebody holds one: else anybody could undo what a
holder wrote. While nobody does, it is as good as any other. OpenTofu deletes a workspace after it has
released it: that asks for no lock, but for the version that was found to be empty, and by force for nothing.
"""

from __future__ import annotations

import datetime
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import NamedTuple

from tofu_databricks.errors import (
    BackendError,
    LockMismatch,
    LockNotHeld,
    MalformedReply,
    StaleWrite,
    StateLocked,
    Unavailable,
    definite,
)
from tofu_databricks.heads import KEPT, Version, Versions
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.lockrecord import LockStoreRecord
from tofu_databricks.locks import HeadStore
from tofu_databricks.published import Copies
from tofu_databricks.seams import Checkpoint, Clock
from tofu_databricks.volume import Volume

ROUNDS = 10
"""How often others may move the head first, or its object be gone, before we give up."""
FIRST_WAIT = 0.05
LONGEST_WAIT = 1.0

Require = Callable[["Seen"], None]
"""Says, by raising a `BackendError`, that what was seen may not be changed."""

log = logging.getLogger("tofu_databricks.fencing")


class Seen(NamedTuple):
    """The head as it was seen: who held the lock then, its text, and the versions that it names."""

    holder: LockInfo | None
    text: str | None
    versions: Versions


class Move(Enum):
    """What became of a statement that moves the head."""

    MADE = "by this very delivery"
    FOUND = "made by an earlier one, as a look shows"
    PENDING = "not made, but the head is still the one it waits for: a delivery may yet arrive"
    OVERTAKEN = "never made: the head is another, and texts of heads do not come again"


@dataclass(frozen=True)
class FencedState:
    """The state of one workspace: `path` is the key of its lock and where its copy lies, `objects` the
    directory of its objects. Safe to use from several threads; every method raises `BackendError`s."""

    volume: Volume
    locks: HeadStore
    record: LockStoreRecord
    copies: Copies
    path: str
    objects: str
    clock: Clock
    checkpoint: Checkpoint

    def get(self) -> bytes | None:
        """The state; one statement and one request. `None` when it was deleted or never written."""
        return self.current()[1]

    def current(self) -> tuple[Version | None, bytes | None]:
        """The state and its version; without a version it is what lies at `path`."""
        if self.record.agreed() is None:  # nobody has ever written here under a head
            return None, self.volume.read(self.path)
        return self._current()

    def put(self, data: bytes, lock_id: str | None = None) -> None:
        """Replaces the state, under the lock that `lock_id` holds to the very moment of effect.

        Raises `LockMismatch` or `LockNotHeld`, without `lock_id` `StateLocked` while somebody holds the lock;
        nothing is changed then. `definite` is false only when the head may have been moved.
        """
        self._change(data, lock_id, lambda seen: require_holder(seen.holder, lock_id))

    def delete(self, lock_id: str | None = None) -> None:
        """Removes the state and its objects, under the conditions of `put`."""
        self._change(None, lock_id, lambda seen: require_holder(seen.holder, lock_id))

    def delete_version(self, version: Version | None) -> None:
        """Removes the state if it still is the one that `current` gave, whoever holds the lock.

        Raises `StaleWrite` when somebody has written since; nothing is changed then.
        """

        def require(seen: Seen) -> None:
            if seen.versions.latest != version:
                raise StaleWrite(
                    f"{self.path} was written since it was looked at; look again, then delete it"
                )

        self._change(None, None, require)

    def delete_by_force(self) -> None:
        """Removes the state and its objects, whatever it is and whoever holds the lock."""
        self._change(None, None, lambda seen: None)

    def copy_is_current(self) -> bool:
        """Whether what lies at `path` is the state."""
        return self.volume.read(self.path) == self.get()

    # --- reading

    def _look(self, *, confirmed: bool = False) -> Seen:
        with definite():
            agreed = self.record.agreed()
            holder, text = self.locks.head(self.path, confirmed=confirmed)
            versions = Versions.parse(text, agreed.era if agreed else "")
            if text is not None and not versions.all:  # of another era: or is that us?
                agreed = self.record.agreed(anew=True)
                versions = Versions.parse(text, agreed.era if agreed else "")
            return Seen(holder, text, versions)

    def _current(self) -> tuple[Version | None, bytes | None]:
        """The newest version and its bytes. Without a head that is what lies at `path`: a state of `checked`
        clients, or put there by hand."""
        gone = None
        for turn in range(ROUNDS):
            versions = self._look().versions
            latest = versions.latest
            if latest is None:
                return None, self.volume.read(self.path)
            if latest.object is None:
                return latest, None
            data = self.volume.read(self._object(latest.object))
            if data is not None:
                if len(data) != latest.size:
                    place = self._object(latest.object)
                    raise self._lost(f"{place} has {len(data)} bytes, {latest.size} were written", versions)
                return latest, data
            if latest == gone:
                self._wait(turn)
            gone = latest  # collected meanwhile, as the head will tell; else it is lost
        raise self._lost(f"its object {gone.object if gone else ''} is not there", versions)

    def _lost(self, reason: str, versions: Versions) -> MalformedReply:
        """The newest version is not what was written: what is left of it, and the way back."""
        newest, *older = versions.all
        good = next((v for v in older if v.object and self._is_whole(self._object(v.object), v)), None)
        if self._is_whole(self.path, newest):
            way = f"leave the copy at {self.path} as it is (it has the size of what is lost)"
        elif good and good.object:
            way = f"put the newest good object, {self._object(good.object)}, at {self.path}"
        else:
            way = f"put the newest backup that you have at {self.path}, since no older object is good"
        return MalformedReply(
            f"the state of {self.path} is lost: {reason}; stop all clients of it, {way}, then delete "
            f"{self.record.path} while nobody holds a lock"
        )

    def _is_whole(self, place: str, version: Version) -> bool:
        data = self.volume.read(place)
        return data is not None and len(data) == version.size

    def _newer(self, version: Version) -> tuple[Version, bytes | None] | None:
        if self._look().versions.latest == version:
            return None
        latest, data = self._current()
        return None if latest is None or latest == version else (latest, data)

    # --- writing

    def _change(self, data: bytes | None, lock_id: str | None, require: Require) -> None:
        """Makes `data` the newest version (`None`: a deletion), while `require` raises nothing."""
        self.record.require()
        written: Version | None = None
        pending: Seen | None = None  # the head that a statement to move it to `written` still waits for
        try:
            for turn in range(ROUNDS):
                seen = self._look(confirmed=pending is not None)
                if pending and written:
                    if self._has(seen, written):  # it arrived since we looked
                        outdated = pending.versions.objects() - pending.versions.then(written).objects()
                        self._finish(written, data, outdated)
                        return
                    if seen.text != pending.text:
                        self._discard(written)  # who moved the head may have taken it for a stray
                        written = pending = None
                require(seen)
                written = written or self._stored(data, seen, lock_id)
                strays = self._strays(seen, thorough=data is None)
                after = seen.versions.then(written)
                written = after.all[0]
                move = self._moved(seen, after, lock_id)
                if move in (Move.MADE, Move.FOUND):
                    found = seen.versions.objects() | (strays if move is Move.MADE else set())
                    self._finish(written, data, found - after.objects())
                    return
                if move is Move.PENDING:
                    pending = seen
                else:
                    self._discard(written)
                    written = pending = None
                self._wait(turn)
            raise Unavailable(f"{self.path} is written by so many that no write got through")
        except BackendError as error:
            # A statement that is still under way finds the lock gone as we did, unless its id is taken again.
            if pending:
                error.definite = False
            if error.definite:
                self._discard(written)
            raise

    def _stored(self, data: bytes | None, seen: Seen, lock_id: str | None) -> Version:
        """The next version, its bytes in an object; as long as no head names that, nothing has happened."""
        latest = seen.versions.latest
        number = latest.number + 1 if latest else 1
        now = datetime.datetime.fromtimestamp(self.clock.now(), datetime.UTC).isoformat()
        if data is None:
            return Version(number, None, 0, now, lock_id or "")
        name = f"{number:06d}-{uuid.uuid4().hex}"
        self.checkpoint("state.put")
        guard = None if lock_id is None else partial(self._require_lock, lock_id)
        with definite():
            self.volume.write(self._object(name), data, guard=guard)
        return Version(number, name, len(data), now, lock_id or "")

    def _moved(self, seen: Seen, after: Versions, lock_id: str | None) -> Move:
        """Moves the head from what was seen. Raises `Unavailable` when nobody can tell what came of it."""
        lost = ""
        try:
            if self.locks.move_head(self.path, lock_id, seen.text, after.text()):
                return Move.MADE
        except BackendError as error:
            if error.definite:
                raise
            lost = str(error)
        try:
            now = self._look(confirmed=True)
        except BackendError as error:
            unknown = f"{lost or error}; whether the write took effect is unknown"
            raise Unavailable(unknown, definite=False) from error
        if self._has(now, after.all[0]):
            return Move.FOUND
        return Move.PENDING if now.text == seen.text else Move.OVERTAKEN

    def _has(self, seen: Seen, version: Version) -> bool:
        """Whether `version` took effect. Raises `Unavailable` when the head does not tell any more."""
        lacks = seen.versions.lacks(version)
        if lacks is None:
            raise Unavailable("whether the write took effect is unknown: many came after it", definite=False)
        return not lacks

    def _require_lock(self, lock_id: str) -> None:
        require_holder(self._look().holder, lock_id)

    # --- what comes after a write, and cannot fail it

    def _finish(self, version: Version, data: bytes | None, outdated: Iterable[str]) -> None:
        self._publish(version, data)
        self._collect(outdated)

    def _publish(self, version: Version, data: bytes | None) -> None:
        self.checkpoint("state.publish")
        try:
            self.copies.publish(self.path, version, data, self._newer)
        except BackendError as error:
            log.warning(
                "the state is written, but its copy at %s is an older one until the next write: %s",
                self.path,
                error,
            )

    def _strays(self, seen: Seen, *, thorough: bool) -> set[str]:
        """Objects that writers left who were killed or refused. Looked for now and then.

        They may be deleted once the move that comes after this look is made, by itself: then they were there
        while the head was what we saw. It does not name them, and nobody ever will, since whoever has written
        one and not moved the head yet will find it moved. After a move that is only found to have been made,
        perhaps before we looked, one of them may be of who has seen it made, and moves the head next.
        """
        latest = seen.versions.latest
        if not thorough and (latest is None or latest.number % KEPT):
            return set()
        try:
            return {e.name for e in self.volume.entries(self.objects) if not e.is_directory}
        except BackendError as error:
            log.warning("%s cannot be cleaned up: %s", self.objects, error)
            return set()

    def _discard(self, version: Version | None) -> None:
        if version is not None and version.object is not None:
            self._collect([version.object])

    def _collect(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            with suppress(BackendError):  # it is found again by `_strays`
                self.volume.delete(self._object(name))

    def _object(self, name: str) -> str:
        return f"{self.objects}/{name}"

    def _wait(self, turn: int) -> None:
        self.clock.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2.0**turn))


def require_holder(holder: LockInfo | None, lock_id: str | None) -> None:
    """Raises `LockMismatch` or `LockNotHeld` unless `lock_id` holds the lock, without one `StateLocked` when
    anybody does."""
    if lock_id is None:
        if holder is not None:
            raise StateLocked(
                f"the write was refused: {holder.Who or 'another'} holds the lock (lock ID {holder.ID}), and "
                "under strict fencing only who holds it writes",
                holder=holder,
            )
        return
    if holder is None:
        raise LockNotHeld(f"the write was refused: the lock {lock_id} was lost, nobody holds it now")
    if holder.ID != lock_id:
        raise LockMismatch(
            f"the write was refused: {holder.Who or 'another'} holds the lock now (lock ID {holder.ID})",
            holder=holder,
        )


def states_by_head(locks: HeadStore, record: LockStoreRecord, directory: str) -> Mapping[str, bool]:
    """The file names in `directory` (it ends in a slash) of states that have a head, and whether they are
    there or were deleted. One statement."""
    agreed = record.agreed()
    if agreed is None:
        return {}
    found: dict[str, bool] = {}
    for key, text in locks.heads(directory).items():
        latest = Versions.parse(text, agreed.era).latest
        if latest is not None:
            found[key.removeprefix(directory)] = latest.object is not None
    return found
