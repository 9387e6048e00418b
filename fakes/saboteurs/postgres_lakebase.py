"""Backends on Lakebase that take its connections for more than they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import psycopg

from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.databricks_locks import LockBroken
from tofu_databricks.errors import Unavailable
from tofu_databricks.locks.lakebase import LakebaseLocks, _Interrupted

T = TypeVar("T")

register = Register(__name__, "faults", only=("FAULT-PG-008",))
SABOTEURS = register.saboteurs


class HastyLocks(LakebaseLocks):
    def _retried(self, attempt: Callable[[psycopg.Connection[Any], bool], T]) -> T:
        """One try: no login and no statement is repeated."""
        try:
            with self._connections.borrow() as connection:
                return attempt(connection, False)
        except psycopg.Error as error:
            raise self._refusal(error, "nobody") from error
        except _Interrupted as error:
            raise Unavailable(f"the lock store did not answer: {error}") from error


@register.breaks("FAULT-PG-008")
class GivesUpAtOnce(LockBroken):
    """A compute that wakes up refuses a login, and that is the end of the call."""

    locks: ClassVar[type[LakebaseLocks]] = HastyLocks
