"""The reference backend with calls that a crash leaves half done."""

from __future__ import annotations

from typing import Any, ClassVar

import psycopg

from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.broken_databricks import Broken
from tofu_databricks.errors import StateLocked
from tofu_databricks.locks.lakebase import Creation, LakebaseLocks
from tofu_databricks.transport import Guard
from tofu_databricks.volume import Volume

register = Register(__name__, "faults", only=("DBX-CRASH-*",))
SABOTEURS = register.saboteurs


class DeletesFirst(Volume):
    def write(self, path: str, data: bytes, guard: Guard | None = None) -> None:
        self.delete(path)
        super().write(path, data, guard)


@register.breaks("DBX-CRASH-001", "DBX-CRASH-003")
class DeletesBeforeWriting(Broken):
    """A state is deleted and then written anew: killed in between, it is gone."""

    parts: ClassVar = {"volume_class": DeletesFirst}


class EmptiesFirst(Volume):
    def delete(self, path: str) -> None:
        self.write(path, b"")
        super().delete(path)


@register.breaks("DBX-CRASH-002")
class EmptiesBeforeDeleting(Broken):
    """A state is emptied before it is deleted: killed in between, the workspace has an empty state."""

    parts: ClassVar = {"volume_class": EmptiesFirst}


class KeyComesLater(LakebaseLocks):
    """The table, which others must not use before it has its key, is made in two transactions."""

    def _create_table(self, connection: psycopg.Connection[Any], making: Creation) -> None:
        schema, table = connection.execute(making.look).fetchone() or (None, None)
        if table:
            return
        if not schema:
            connection.execute(making.create_schema.encode())
        connection.execute(making.create_table.replace(" PRIMARY KEY", "", 1).encode())
        name = making.create_table.removeprefix("CREATE TABLE ").partition(" (")[0]
        connection.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (key)".encode())


@register.breaks("DBX-CRASH-003")
class AddsTheKeyLater(Broken):
    """The lock table's key is added by a second statement: killed in between, nobody can lock any more."""

    parts: ClassVar = {
        "open_locks": lambda self: KeyComesLater(
            self.connect or self.connector(), schema=self.config.lock_schema, table=self.config.lock_table
        )
    }


class SilentLocks(LakebaseLocks):
    def acquire(self, key: str, info: Any) -> str:
        try:
            return super().acquire(key, info)
        except StateLocked as refused:
            raise StateLocked("the state is already locked", holder=refused.holder) from None


@register.breaks("DBX-CRASH-001", "DBX-CRASH-002", "DBX-CRASH-003")
class SaysNoWayOut(Broken):
    """A refusal says that there is a lock, and neither its ID nor what to do about it."""

    parts: ClassVar = {
        "open_locks": lambda self: SilentLocks(
            self.connect or self.connector(), schema=self.config.lock_schema, table=self.config.lock_table
        )
    }
