"""The real Postgres behind the fake Lakebase: which role and database a login gets there.

Each branch has databases of its own, so `current_database()` is not the name that the client asked for. A
role has the name of the identity; what it may do is what Postgres lets it do.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from lockproof.fakes.databricks.lakebase import Branch, Login, LoginRefused

PASSED_ON = ("application_name", "client_encoding")
"""Startup parameters that libpq takes as keywords; all others go as server settings."""


class Storage:
    """Opens sessions at the server that the psycopg keywords `postgres` name, as a user who may create
    roles and databases there; makes both when first needed; thread-safe."""

    def __init__(self, postgres: Mapping[str, Any]) -> None:
        self._postgres = dict(postgres)
        self._mutex = threading.Lock()
        self._roles: dict[str, bool] = {}
        self._databases: dict[tuple[str, str], str] = {}
        self._granted: set[tuple[str, str, str]] = set()

    def open(self, login: Login, startup: Mapping[str, str]) -> psycopg.Connection[Any]:
        """A session as `login` says, with the client's startup parameters. Raises `LoginRefused`."""
        with self._mutex:
            try:
                database = self._made(login)
            except psycopg.Error as error:
                text = " ".join(str(error).split())
                raise LoginRefused(f"the fake's own Postgres refuses: {text}", "58000") from error
        settings = {k: v for k, v in startup.items() if k not in PASSED_ON and k != "options"}
        if login.endpoint.read_only:
            settings["default_transaction_read_only"] = "on"
        options = [startup.get("options", "")]
        options += [f"-c {name}={_escaped(value)}" for name, value in settings.items()]
        keywords = {name: startup[name] for name in PASSED_ON if name in startup}
        conninfo = make_conninfo(
            **{
                **self._postgres,
                **keywords,
                "user": login.role.postgres_role,
                "password": self._password(login.role.postgres_role),
                "dbname": database,
                "options": " ".join(options).strip(),
                "sslmode": "disable",  # the relay takes over the bare socket
                "gssencmode": "disable",
                "connect_timeout": 10,
            }
        )
        try:
            return psycopg.connect(conninfo)
        except psycopg.OperationalError as error:
            raise LoginRefused(str(error).rpartition("FATAL:  ")[2], "08006") from None

    def remove(self) -> None:
        """Drops the databases and roles that were made here; a role that others use stays."""
        if not (self._databases or self._roles):
            return
        with psycopg.connect(**self._postgres, autocommit=True) as admin:
            for name in self._databases.values():
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            for name in (name for name, ours in self._roles.items() if ours):
                try:
                    admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
                except errors.DependentObjectsStillExist:
                    continue

    def _made(self, login: Login) -> str:
        """The real name of the database, with the role let into it. Call with the mutex held."""
        role = login.role.postgres_role
        key = (login.branch.uid, login.database)
        granted = not login.role.owner or (*key, role) in self._granted
        if role in self._roles and key in self._databases and granted:
            return self._databases[key]
        with psycopg.connect(**self._postgres, autocommit=True) as admin:
            if role not in self._roles:
                self._roles[role] = self._make_role(admin, role)
            if key not in self._databases:
                name = _real_name(login.branch, login.database)
                admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
                self._databases[key] = name
            if not granted:
                admin.execute(
                    sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(
                        sql.Identifier(self._databases[key]), sql.Identifier(role)
                    )
                )
                self._granted.add((*key, role))
        return self._databases[key]

    def _make_role(self, admin: psycopg.Connection[Any], name: str) -> bool:
        """Makes the role, or gives an existing one our password; whether it is ours to drop."""
        secret = sql.Literal(self._password(name))
        try:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), secret))
        except errors.DuplicateObject:  # of another fake on this server, which derives the same password
            admin.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), secret))
            return False
        return True

    def _password(self, role: str) -> str:
        key = str(self._postgres.get("password") or "lockproof").encode()
        return hmac.new(key, role.encode(), hashlib.sha256).hexdigest()


def _real_name(branch: Branch, database: str) -> str:
    return f"{database[:40]}-{branch.uid}"


def _escaped(value: str) -> str:
    """A value inside libpq's `options`, which splits at spaces (libpq-connect, "options")."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
