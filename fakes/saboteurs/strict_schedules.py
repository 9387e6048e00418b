"""Strict fencing of the reference backend, broken where only another client in between shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.fenced_states import StrictBroken
from tofu_databricks.client import StateClient
from tofu_databricks.fenced import FencedState, Move, Seen
from tofu_databricks.files_v3 import FILES, ConditionalFiles
from tofu_databricks.heads import Versions
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.published import Copies
from tofu_databricks.volume import Volume, encode

writes = Register(__name__, "concurrency", only=("LOCK-FENCE-003",))
deletions = Register(__name__, "concurrency", only=("DBX-AUTH-001",))
copies = Register(__name__, "databricks", only=("DBX-FENCE-003",))


class UnheldState(FencedState):
    def _moved(self, seen: Seen, after: Versions, lock_id: str | None) -> Move:
        return super()._moved(seen, after, None)


@writes.breaks("LOCK-FENCE-003")
class MovesAnyHead(StrictBroken):
    """The head is moved if it is the one that was seen, whoever holds the lock by then."""

    parts: ClassVar = {"fenced_class": UnheldState}


class NumberedState(FencedState):
    def _object(self, name: str) -> str:
        return super()._object(name.partition("-")[0])


class NamesObjectsByNumber(StrictBroken):
    """An object's name is the number of its version: two writers of the same number share the file.

    Not in the catalogue: the first schedules of a program, which are all that is certain on a slow machine,
    just miss it; `suites/meta/test_explored_strict.py` kills it.
    """

    parts: ClassVar = {"fenced_class": NumberedState}


class EagerClient(StateClient):
    early: ClassVar[WeakKeyDictionary[Volume, dict[str, bytes | None]]] = WeakKeyDictionary()

    def lock(self, info: LockInfo) -> str:
        read = self.get()
        lock_id = super().lock(info)
        self.early.setdefault(self.volume, {})[self.path] = read
        return lock_id

    def get(self) -> bytes | None:
        read = self.early.get(self.volume, {})
        return read.pop(self.path) if self.path in read else super().get()


class ReadsTheHeadBeforeTheLock(StrictBroken):
    """The head is looked at before the lock is asked for, and the first read under the lock rests on it.

    Not in the catalogue: all programs of LOCK-EXCL-002 take minutes, `suites/meta/test_explored_strict.py`
    kills it by the one that shows it.
    """

    parts: ClassVar = {"client_class": EagerClient}


class ForgetfulState(FencedState):
    def get(self) -> bytes | None:
        found = super().get()
        return self.volume.read(self.path) if found is None else found


@deletions.breaks("WS-DEL-001", "DBX-AUTH-001")
class ForgetsDeletions(StrictBroken):
    """Where the head says that the state was deleted, the published copy is read."""

    parts: ClassVar = {"fenced_class": ForgetfulState}


class CarelessFiles(ConditionalFiles):
    def _changed(self, method: str, path: str, etag: str | None, data: bytes | None) -> bool:
        kind = {} if data is None else {"Content-Type": "application/octet-stream"}
        what = f"{method} {path}"
        self.transport.request(method, FILES + encode(path), data=data, headers=kind, what=what)
        return True


class CarelessCopies(Copies):
    def __init__(self, volume: Volume, conditional: ConditionalFiles | None, *more: Any) -> None:
        super().__init__(volume, conditional and CarelessFiles(conditional.transport), *more)


@copies.breaks("DBX-FENCE-003")
class PublishesWithoutCondition(StrictBroken):
    """By Files API 3.0 the copy is written without the condition that it still is the one that was seen."""

    parts: ClassVar = {"copies_class": CarelessCopies}

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__({**options, "files_api": "3.0"})


SABOTEURS = (*writes.saboteurs, *deletions.saboteurs, *copies.saboteurs)
