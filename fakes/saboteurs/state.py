"""Backends that store states wrongly, each in one way, and correct ones that look unusual."""

from __future__ import annotations

import json
import re
import unicodedata
import uuid

from lockproof.driver import Capabilities, DriverError, Snapshot
from lockproof.driver.memory import MemoryClient, MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenDriver, Register, altering

register = Register(__name__, "state")
SABOTEURS = register.saboteurs
VARIANTS = register.variants

ALL_BYTES = (
    "STATE-RT-002", "STATE-RT-003", "STATE-RT-004", "STATE-RT-005", "STATE-READ-001",
    "STATE-DEL-002", "STATE-SER-001", "STATE-LIN-001", "STATE-FORCE-001", "STATE-FORCE-002",
    "STATE-VIS-001", "STATE-VIS-002", "STATE-DUR-001", "STATE-SCOPE-001", "STATE-REPL-001",
    "STATE-REPL-002", "STATE-ATOM-001", "STATE-ORDER-001",
)  # fmt: skip
"""What cannot hold when states are changed on their way."""

UNWRITTEN = ("STATE-READ-001", "STATE-DEL-001", "STATE-DEL-003", "STATE-VIS-002", "STATE-SCOPE-001")
"""What cannot hold when a state that was never written reads as something else."""


# --- Bytes


@register.breaks("STATE-RT-001", *ALL_BYTES)
class LosesLastByte(BrokenDriver):
    """The last byte is lost."""

    client_type = altering(lambda old, new: new[:-1])


@register.breaks("STATE-RT-002")
class TextMode(BrokenDriver):
    """Line ends are changed, as a file in text mode does."""

    client_type = altering(lambda old, new: new.replace(b"\r\n", b"\n"))


def flatten(old: bytes | None, new: bytes) -> bytes:
    indented = re.match(rb"\s*\{\s*\n", new)
    return re.sub(rb"\n\s*", b"", new) + b"\n" if indented else new


@register.breaks("STATE-RT-002")
class Flattens(BrokenDriver):
    """An indented state is stored on one line."""

    client_type = altering(flatten)


class DemandsVersionClient(MemoryClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if b'"version":' not in data and b'"version": ' not in data:
            raise DriverError("malformed", True, "the state has no version")
        super().put(workspace, data, lock_id=lock_id)


@register.breaks("STATE-RT-003", "STATE-SER-001", "STATE-LIN-001", "STATE-FORCE-001", "STATE-FORCE-002")
class DemandsVersion(BrokenDriver):
    """A state without `version` is refused."""

    client_type = DemandsVersionClient


@register.breaks("STATE-RT-004")
class NormalisesText(BrokenDriver):
    """Text is stored in a normal form of Unicode."""

    client_type = altering(lambda old, new: unicodedata.normalize("NFC", new.decode()).encode())


@register.breaks("STATE-RT-004")
class AsciiColumn(BrokenDriver):
    """Letters outside ASCII become question marks."""

    client_type = altering(lambda old, new: new.decode().encode("ascii", "replace"))


def parse_and_write(old: bytes | None, new: bytes) -> bytes:
    if not new:
        return new
    text = json.dumps(json.loads(new), ensure_ascii=False, separators=(",", ":"))
    return text.encode() + new[len(new.rstrip()) :]


@register.breaks("STATE-RT-005", "STATE-RT-002")
class ParsesAndWrites(BrokenDriver):
    """The document is parsed and written anew."""

    client_type = altering(parse_and_write)


@register.breaks("STATE-BIG-001")
class Truncates(BrokenDriver):
    """What is beyond 8 MiB is cut off without a word."""

    client_type = altering(lambda old, new: new[: 8 << 20])

    def capabilities(self) -> Capabilities:
        return Capabilities({*super().capabilities(), "state.large"})


# --- Absence


class AbsentIsErrorClient(MemoryClient):
    def get(self, workspace: str) -> Snapshot | None:
        if not self.store.states:
            raise DriverError("not_found", True, "there is nothing here")
        return super().get(workspace)


@register.breaks("STATE-ABS-001", *UNWRITTEN)
class AbsentIsError(BrokenDriver):
    """A place without any state answers with an error."""

    client_type = AbsentIsErrorClient


class AbsentIsDocumentClient(MemoryClient):
    def get(self, workspace: str) -> Snapshot | None:
        return super().get(workspace) or Snapshot(b'{"version":4}\n')


@register.breaks("STATE-ABS-001", *UNWRITTEN)
class AbsentIsDocument(BrokenDriver):
    """No state reads as an empty document."""

    client_type = AbsentIsDocumentClient


@register.breaks("STATE-EMPTY-001")
class IgnoresEmpty(BrokenDriver):
    """A write of 0 bytes is acknowledged and dropped."""

    client_type = altering(lambda old, new: new or old or b"")


class EmptyIsErrorClient(MemoryClient):
    def get(self, workspace: str) -> Snapshot | None:
        snapshot = super().get(workspace)
        if snapshot is not None and not snapshot.data:
            raise DriverError("malformed", True, "unexpected end of JSON input")
        return snapshot


@register.breaks("STATE-EMPTY-001")
class EmptyIsError(BrokenDriver):
    """A state of 0 bytes cannot be read any more."""

    client_type = EmptyIsErrorClient


class LookedAtStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.looked_at: set[str] = set()


class CreatesOnReadClient(MemoryClient):
    store: LookedAtStore

    def get(self, workspace: str) -> Snapshot | None:
        self.store.looked_at.add(workspace)
        return super().get(workspace)

    def workspaces(self) -> list[str]:
        return sorted({*super().workspaces(), *self.store.looked_at})


@register.breaks("STATE-READ-001")
class CreatesOnRead(BrokenDriver):
    """Reading a workspace makes it."""

    client_type = CreatesOnReadClient
    store_type = LookedAtStore


# --- Deletion


class DeletesForItselfClient(MemoryClient):
    """A deletion that is only written into the deleter's own cache."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.gone: set[str] = set()

    def get(self, workspace: str) -> Snapshot | None:
        return None if workspace in self.gone else super().get(workspace)

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        self.gone.discard(workspace)
        super().put(workspace, data, lock_id=lock_id)

    def delete(self, workspace: str) -> None:
        self.gone.add(workspace)


@register.breaks("STATE-DEL-001")
class DeletesForItself(BrokenDriver):
    """Only the deleter sees that a state is gone."""

    client_type = DeletesForItselfClient


class TrashStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.trash: dict[str, bytes] = {}


class ReusesBlocksClient(MemoryClient):
    """A state written after a deletion goes over the old blocks, whose end shines through."""

    store: TrashStore

    def delete(self, workspace: str) -> None:
        self.store.trash[workspace] = self.store.states.get(workspace, b"")
        super().delete(workspace)

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data + self.store.trash.get(workspace, b"")[len(data) :], lock_id=lock_id)


@register.breaks("STATE-DEL-002")
class ReusesBlocks(BrokenDriver):
    """The end of a deleted state is behind the next one."""

    client_type = ReusesBlocksClient
    store_type = TrashStore


class DeletionOfNothingClient(MemoryClient):
    def delete(self, workspace: str) -> None:
        if workspace not in self.store.states:
            raise DriverError("not_found", True, "there is no such state")
        super().delete(workspace)


@register.breaks("STATE-DEL-003")
class DeletionOfNothing(BrokenDriver):
    """Deleting a state that is gone fails."""

    client_type = DeletionOfNothingClient


# --- Serial and lineage


def serial_of(data: bytes | None) -> int | None:
    found = re.search(rb'"serial":(\d+)', data or b"")
    return int(found.group(1)) if found else None


def lineage_of(data: bytes | None) -> bytes | None:
    found = re.search(rb'"lineage":"([^"]*)"', data or b"")
    return found.group(1) if found else None


def count_up(old: bytes | None, new: bytes) -> bytes:
    serial = serial_of(new)
    if serial is None or lineage_of(old) != lineage_of(new) or serial_of(old) != serial:
        return new
    return new.replace(b'"serial":%d' % serial, b'"serial":%d' % (serial + 1))


@register.breaks("STATE-SER-001")
class CountsUp(BrokenDriver):
    """A serial that is stored already is counted up."""

    client_type = altering(count_up)


@register.breaks("STATE-LIN-001")
class FillsLineage(BrokenDriver):
    """An empty lineage is filled in."""

    client_type = altering(
        lambda old, new: new.replace(b'"lineage":""', b'"lineage":"' + str(uuid.uuid4()).encode() + b'"')
    )


def keep_lineage(old: bytes | None, new: bytes) -> bytes:
    first, given = lineage_of(old), lineage_of(new)
    return new if not first or given is None else new.replace(given, first, 1) if given else new


@register.breaks("STATE-LIN-001", "STATE-FORCE-001", "STATE-FORCE-002", "STATE-REPL-001")
class KeepsLineage(BrokenDriver):
    """The first lineage is written into later states."""

    client_type = altering(keep_lineage)


def older(old: bytes | None, new: bytes) -> bool:
    before, now = serial_of(old), serial_of(new)
    return lineage_of(old) == lineage_of(new) and before is not None and now is not None and now < before


@register.breaks("STATE-FORCE-001", "STATE-FORCE-002", "STATE-REPL-002", "STATE-ORDER-001")
class DropsOlder(BrokenDriver):
    """A lower serial is acknowledged and dropped."""

    client_type = altering(lambda old, new: old if old and older(old, new) else new)


class RefusesOlderClient(MemoryClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if older(self.store.states.get(workspace), data):
            raise DriverError("stale", True, "a newer state is stored")
        super().put(workspace, data, lock_id=lock_id)


@register.breaks("STATE-FORCE-002")
class RefusesOlder(BrokenDriver):
    """A lower serial is refused."""

    client_type = RefusesOlderClient


# --- Correct, though unusual


class EmptyIsAbsentClient(MemoryClient):
    def get(self, workspace: str) -> Snapshot | None:
        snapshot = super().get(workspace)
        return snapshot if snapshot and snapshot.data else None


@register.correct
class EmptyIsAbsent(BrokenDriver):
    """A state of 0 bytes reads as absent."""

    client_type = EmptyIsAbsentClient


class RefusesEmptyClient(MemoryClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if not data:
            raise DriverError("malformed", True, "a state of 0 bytes is not stored")
        super().put(workspace, data, lock_id=lock_id)


@register.correct
class RefusesEmpty(BrokenDriver):
    """A write of 0 bytes is definitely refused."""

    client_type = RefusesEmptyClient


class FreshTagsClient(MemoryClient):
    def get(self, workspace: str) -> Snapshot | None:
        snapshot = super().get(workspace)
        return snapshot and Snapshot(snapshot.data, etag=uuid.uuid4().hex)


@register.correct
class FreshTags(BrokenDriver):
    """The version tag of a state is another one at each read."""

    client_type = FreshTagsClient


@register.correct
class LocklessStates(BrokenDriver):
    """The backend has states and nothing else."""

    def capabilities(self) -> Capabilities:
        return Capabilities({"state"})
