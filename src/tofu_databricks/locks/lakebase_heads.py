"""Locks and heads in Postgres.

Heads are a table beside the locks, since a lock's row is gone with the lock. The statement that moves a head
also holds on to the lock's row (`FOR KEY SHARE`) until it commits: a release, which deletes that row, comes
before it or after it, and never in between. A condition alone (`EXISTS`) would be judged by the statement's
snapshot, which may be older than the release (Postgres documentation, 13.2.1 "Read Committed").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from tofu_databricks.locks import Head
from tofu_databricks.locks.lakebase import CONFIRM, Connect, Creation, LakebaseLocks, holder_of, identifier

HEAD_COLUMNS = (
    "key text PRIMARY KEY, head text NOT NULL,"
    " moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),"
    " moved_by text NOT NULL DEFAULT session_user"
)


class LakebaseHeads(LakebaseLocks):
    """The `HeadStore` on Postgres: `LakebaseLocks`, and the table of heads `{table}_heads`.

    Takes the arguments of `LakebaseLocks`.
    """

    def __init__(self, connect: Connect, *, schema: str, table: str, **options: Any) -> None:
        super().__init__(connect, schema=schema, table=table, **options)
        heads = heads_table(table)
        self._tables = [*self._tables, Creation.of(schema, heads, HEAD_COLUMNS)]
        self._statements = self._statements._replace(
            insert=_insert(schema, table, heads), grant=_grant(schema, table, heads)
        )
        self._moves = _Moves.on(schema, table, heads)

    def head(self, key: str, *, confirmed: bool = False) -> Head:
        """See `HeadStore.head`. The commit is asked of the server that showed the head, by each try anew."""

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> Head:
            ((lock_id, info, text),) = self._execute(connection, "lock.head", self._moves.read, (key,))
            if confirmed:
                self._execute(connection, "lock.confirm", CONFIRM, ())
            return Head(None if lock_id is None else holder_of(lock_id, info), text)

        return self._run(attempt)

    def heads(self, prefix: str) -> Mapping[str, str]:
        """See `HeadStore.heads`."""
        return self._run(
            lambda connection, _: dict(
                self._execute(connection, "lock.heads", self._moves.read_all, (prefix,))
            )
        )

    def move_head(self, key: str, lock_id: str | None, old: str | None, new: str) -> bool:
        """See `HeadStore.move_head`."""
        moves = self._moves
        if lock_id is None:
            statement, values = (moves.create, [key, new]) if old is None else (moves.move, [new, key, old])
        elif old is None:
            statement, values = moves.create_held, [new, key, lock_id]
        else:
            statement, values = moves.move_held, [new, key, lock_id, old]
        return self._run(
            lambda connection, _: bool(self._execute(connection, "lock.move", statement, values))
        )


class _Moves(NamedTuple):
    read: bytes
    read_all: bytes
    create: bytes
    create_held: bytes
    move: bytes
    move_held: bytes

    @classmethod
    def on(cls, schema: str, table: str, heads: str) -> _Moves:
        names = {"locks": identifier(schema, table), "heads": identifier(schema, heads)}

        def text(template: str) -> bytes:
            return sql.SQL(template).format(**names).as_string().encode()

        held = "(SELECT key FROM {locks} WHERE key = %s AND id = %s FOR KEY SHARE) held"
        moved = "UPDATE {heads} h SET head = %s, moved_at = clock_timestamp(), moved_by = session_user"
        once = "ON CONFLICT (key) DO NOTHING RETURNING key"
        return cls(
            read=text(
                "SELECT l.id, l.info, h.head FROM (SELECT %s::text AS key) k"
                " LEFT JOIN {locks} l ON l.key = k.key LEFT JOIN {heads} h ON h.key = k.key"
            ),
            read_all=text("SELECT key, head FROM {heads} WHERE starts_with(key, %s)"),
            create=text(f"INSERT INTO {{heads}} (key, head) VALUES (%s, %s) {once}"),
            create_held=text(f"INSERT INTO {{heads}} (key, head) SELECT held.key, %s FROM {held} {once}"),
            move=text(f"{moved} WHERE h.key = %s AND h.head = %s RETURNING h.key"),
            move_held=text(f"{moved} FROM {held} WHERE h.key = held.key AND h.head = %s RETURNING h.key"),
        )


def heads_table(table: str) -> str:
    """The name of the table of heads beside the lock table."""
    return f"{table}_heads"


def _insert(schema: str, table: str, heads: str) -> bytes:
    """Takes a lock, for whoever may move the head under it: else the refusal would come with the write, when
    what the state tells of has been done. The subquery reads nothing; Postgres asks for its rights all the
    same."""
    statement = (
        "INSERT INTO {locks} (key, id, info) SELECT %s, %s, %s"
        " WHERE NOT EXISTS (SELECT FROM {locks} l, {heads} h WHERE false FOR UPDATE)"
        " ON CONFLICT (key) DO NOTHING RETURNING id"
    )
    names = {"locks": identifier(schema, table), "heads": identifier(schema, heads)}
    return sql.SQL(statement).format(**names).as_string().encode()


def _grant(schema: str, table: str, heads: str) -> str:
    """What a role needs, up to its name. Postgres lets only who may update a row hold on to it."""
    return (
        sql.SQL(
            "GRANT USAGE ON SCHEMA {schema} TO PUBLIC;"
            " GRANT SELECT, INSERT, UPDATE, DELETE ON {table}, {heads} TO"
        )
        .format(
            schema=sql.Identifier(schema),
            table=sql.Identifier(schema, table),
            heads=sql.Identifier(schema, heads),
        )
        .as_string()
    )
