"""The reference backend with its locks, and its rule of deletion, broken in one way each."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import psycopg

from lockproof.driver.databricks import DatabricksDriver
from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.broken_databricks import Broken
from tofu_databricks.backend import Backend
from tofu_databricks.client import StateClient
from tofu_databricks.errors import (
    LockNotHeld,
    StateLocked,
    WorkspaceError,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore
from tofu_databricks.locks.connector import LakebaseConnector
from tofu_databricks.locks.lakebase import LakebaseLocks

register = Register(__name__, "databricks")
SABOTEURS = register.saboteurs


# --- Locks in Lakebase


class LockingBackend(Backend):
    """A backend whose lock store is `lakebase_locks`."""

    lakebase_locks: type[LakebaseLocks] = LakebaseLocks

    def open_locks(self) -> LockStore:
        found = super().open_locks()
        if isinstance(found, LakebaseLocks):
            found.__class__ = self.lakebase_locks  # the same store, with other methods
        return found


class LockBroken(DatabricksDriver):
    """The reference driver with `locks` in the place of its lock store's class."""

    locks: ClassVar[type[LakebaseLocks]] = LakebaseLocks

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.backend_class = type("BrokenBackend", (LockingBackend,), {"lakebase_locks": self.locks})


class CreatingBackend(Backend):
    def open_locks(self) -> LockStore:
        self.config = dataclasses.replace(self.config, create_lock_table=True)
        return super().open_locks()


@register.breaks("DBX-LOCK-001")
class CreatesAnyway(DatabricksDriver):
    """The lock table is created where it may not be."""

    backend_class = CreatingBackend


TOGETHER = threading.Barrier(8)


class RacyLocks(LakebaseLocks):
    def _create(self, connection: psycopg.Connection[Any]) -> None:
        if not self.create_table:
            return super()._create(connection)
        making = self._tables[0]
        schema, table = connection.execute(making.look).fetchone() or (None, None)
        try:
            TOGETHER.wait(0.2)  # whoever looks at the same moment sees the same
        except threading.BrokenBarrierError:
            TOGETHER.reset()
        if not schema:
            connection.execute(making.create_schema.encode())
        if not table:
            connection.execute(making.create_table.encode())
        return None


@register.breaks("DBX-LOCK-002", "DBX-LOCK-001", "DBX-LOCK-009")
class CreatesWithoutCare(LockBroken):
    """Who creates the lock table at the same time as another fails."""

    locks = RacyLocks


class ForgetfulLocks(LakebaseLocks):
    def acquire(self, key: str, info: LockInfo) -> str:
        row = (key, info.ID, info.to_json())

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> str:
            if self._execute(connection, "lock.acquire", self._statements.insert, row):
                return info.ID
            raise StateLocked(holder=self._read(connection, key))

        return self._run(attempt)


@register.breaks("DBX-LOCK-003")
class RefusesItself(LockBroken):
    """A lock that was taken by a lost reply is refused to its own holder."""

    locks = ForgetfulLocks


class SessionLocks(LakebaseLocks):
    """Advisory locks of one session, as OpenTofu's pg backend holds them."""

    def acquire(self, key: str, info: LockInfo) -> str:
        statement = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> str:
            taken = connection.execute(statement.encode(), [f"{self.schema} {key}"]).fetchone()
            if taken and taken[0]:
                return info.ID
            raise StateLocked(holder=None)

        return self._retried(attempt)

    def release(self, key: str, lock_id: str) -> None:
        statement = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> None:
            freed = connection.execute(statement.encode(), [f"{self.schema} {key}"]).fetchone()
            if not (freed and freed[0]):
                raise LockNotHeld("nobody holds the lock")

        self._retried(attempt)

    def holder(self, key: str) -> LockInfo | None:
        return None


@register.breaks(
    "DBX-LOCK-004",
    *(
        "DBX-COST-002",
        "DBX-LOCK-001",
        "DBX-LOCK-003",
        "DBX-LOCK-005",
        "DBX-LOCK-006",
        "DBX-LOCK-008",
        "DBX-LOCK-009",
        "DBX-COST-004",
        "DBX-FENCE-001",
        "DBX-FENCE-002",
    ),
)
class LocksBySession(LockBroken):
    """The lock belongs to a session and ends with it."""

    locks = SessionLocks


class KeylessLocks(LakebaseLocks):
    def _create(self, connection: psycopg.Connection[Any]) -> None:
        (making,) = self._tables
        self._tables = [making._replace(create_table=making.create_table.replace("PRIMARY KEY", "NOT NULL"))]
        super()._create(connection)

    def acquire(self, key: str, info: LockInfo) -> str:
        insert = (
            f'INSERT INTO "{self.schema}"."{self.table}" (key, id, info) SELECT %s, %s, %s'
            f' WHERE NOT EXISTS (SELECT 1 FROM "{self.schema}"."{self.table}" WHERE key = %s) RETURNING id'
        )
        row = (key, info.ID, info.to_json(), key)

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> str:
            if connection.execute(insert.encode(), row).fetchall():
                self._granted.add((key, info.ID))
                return info.ID
            holder = self._read(connection, key)
            if holder is not None and holder.ID == info.ID:
                return info.ID
            raise StateLocked(holder=holder)

        return self._run(attempt)


@register.breaks("DBX-LOCK-005", "DBX-LOCK-001")
class LocksWithoutKey(LockBroken):
    """The lock table has no enforced key, and a lock is inserted where none is seen."""

    locks = KeylessLocks


class HoardingConnector(LakebaseConnector):
    first: Any = None

    def _fresh_token(self) -> Any:
        self.first = self.first or super()._fresh_token()
        return self.first


class HoardingBackend(Backend):
    def connector(self) -> LakebaseConnector:
        return HoardingConnector(self.config, self.transport.request, self.clock)


@register.breaks("DBX-LOCK-006")
class KeepsToken(DatabricksDriver):
    """The first token is used for every login."""

    backend_class = HoardingBackend


class CarelessClient(StateClient):
    def lock(self, info: LockInfo) -> str:
        return self.locks.acquire(self.path, info)


@register.breaks("DBX-LOCK-007")
class LocksAnywhere(Broken):
    """Nobody looks where others keep their locks."""

    parts: ClassVar = {"client_class": CarelessClient}


class UnfencedClient(StateClient):
    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        self.volume.write(self.path, data)


@register.breaks("DBX-FENCE-001", "DBX-FENCE-002", "DBX-COST-002")
class WritesUnfenced(Broken):
    """A write does not look at the lock."""

    parts: ClassVar = {"client_class": UnfencedClient}


class LateFenceClient(StateClient):
    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        self.volume.write(self.path, data)
        if lock_id is not None:
            self.require_lock(lock_id)


@register.breaks("DBX-FENCE-001", "DBX-FENCE-002")
class LooksTooLate(Broken):
    """A write looks at the lock when it is done."""

    parts: ClassVar = {"client_class": LateFenceClient}


class OnceFencedClient(StateClient):
    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None:
            self.require_lock(lock_id)
        self.volume.write(self.path, data)


@register.breaks("DBX-FENCE-002")
class LooksOnce(Broken):
    """A write looks at the lock before it is sent, and not before it is sent again."""

    parts: ClassVar = {"client_class": OnceFencedClient}


# --- Deleting a workspace


class ForcingBackend(Backend):
    def delete_workspace(self, name: str, force: bool = False) -> None:
        super().delete_workspace(name, force=True)


@register.breaks("DBX-DELETE-001")
class DeletesTracked(DatabricksDriver):
    """A workspace that tracks resources is deleted without a question."""

    backend_class = ForcingBackend


class RefusingBackend(Backend):
    def delete_workspace(self, name: str, force: bool = False) -> None:
        if not force and self.client(name).get() is not None:
            raise WorkspaceError(f"workspace {name!r} has a state")
        super().delete_workspace(name, force)


@register.breaks("DBX-DELETE-002")
class DeletesOnlyByForce(DatabricksDriver):
    """A workspace that tracks nothing is not deleted without force."""

    backend_class = RefusingBackend
