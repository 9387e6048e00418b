"""Connections to Lakebase: where the endpoint is, a token to log in with, and a socket that cannot hang.

Sources: Databricks REST API `/api/2.0/postgres` (Autoscaling projects) and `/api/2.0/database` (provisioned
instances); "Authentication" in the Lakebase documentation: the user is the caller's name, the password a
token that lives up to an hour and is looked at when a connection is opened, and only then.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import psycopg
import requests.utils

from tofu_databricks.config import Config
from tofu_databricks.errors import (
    BackendError,
    ConfigError,
    MalformedReply,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from tofu_databricks.reply import Reply
from tofu_databricks.seams import Clock, SystemClock
from tofu_databricks.transport import decode_object

R = TypeVar("R")

REFRESH_BEFORE = 60.0
"""Seconds of life below which a token is not used for another login."""
CONNECT_SECONDS = 10
REPLY_SECONDS = 15.0
"""How long a statement may go unanswered before its connection is given up."""
SERVER_SETTINGS = "-c statement_timeout=10s -c lock_timeout=5s"
"""Shorter than `REPLY_SECONDS`: what we gave up on, the server has given up before."""

_NOT_ACCEPTED = frozenset({"28000", "28P01"})
"""The SQLSTATEs of a refused login: invalid_authorization_specification and invalid_password."""
# What a server says while a connection is opened mostly reaches us as text, without its SQLSTATE.
_LOGIN_REFUSED = re.compile(r"authentication failed|token", re.IGNORECASE)
_NO_ROLE = re.compile(r'role ".*" does not exist|permission denied for database|not permitted to log in')
_NO_DATABASE = re.compile(r'database ".*" does not exist')
_TLS = re.compile(r"certificate|does not support SSL|no pg_hba\.conf entry|root\.crt|sslmode")
_NO_SETTINGS = re.compile(r"unsupported startup parameter", re.IGNORECASE)


class Request(Protocol):
    """One REST call with its retries: `Transport.request`."""

    def __call__(
        self, method: str, path: str, *, json: Any = None, what: str = "", read_only: bool | None = None
    ) -> Reply: ...


@dataclass(frozen=True)
class _Token:
    """`expires` is on the monotonic clock: a wrong or moving clock of this machine changes nothing."""

    value: str = field(repr=False)
    expires: float


class LakebaseConnector:
    """Opens connections to the Lakebase database of `config`, as the workspace's caller; thread-safe.

    Calling it returns a `psycopg.Connection`. It raises `psycopg.OperationalError` when another try may
    succeed, `ConfigError`, `PermissionDenied` or `Unauthenticated` when it cannot, and what `request`
    raises. A token is minted when the first login needs one, used again until it is about to expire, and once
    more when the server refuses it.
    """

    def __init__(self, config: Config, request: Request, clock: Clock | None = None) -> None:
        self.config = config
        self.request = request
        self.clock = clock or SystemClock()
        self._mutex = threading.Lock()
        self._host = config.lakebase_host
        self._user = config.lakebase_user
        self._token: _Token | None = None
        self._settings = SERVER_SETTINGS

    def __call__(self) -> psycopg.Connection[Any]:
        with self._mutex:
            host = self._host = self._host or self._find_host()
            user = self._user = self._user or self._find_user()
            token = self._fresh_token()
        try:
            return self._open(host, user, token)
        except psycopg.OperationalError as error:
            if not _login_refused(error, self._said(error, host, user)):
                self._explain(error, host, user)
                raise
        with self._mutex:
            if self._token is token:
                self._token = None
            token = self._fresh_token()
        try:
            return self._open(host, user, token)
        except psycopg.OperationalError as error:
            self._explain(error, host, user)
            raise

    def host(self) -> str:
        """Where the read-write compute is. Raises as a call does, but for what a login may be refused for."""
        with self._mutex:
            self._host = self._host or self._find_host()
            return self._host

    @property
    def _resource(self) -> str:
        config = self.config
        return (
            f"projects/{quote(config.lakebase_project, safe='')}"
            f"/branches/{quote(config.lakebase_branch, safe='')}"
            f"/endpoints/{quote(config.lakebase_endpoint, safe='')}"
        )

    def _find_host(self) -> str:
        """The read-write host; a compute that is still being made has none yet."""
        if self.config.lakebase_instance:
            name = quote(self.config.lakebase_instance, safe="")
            found = self._look_up(f"/api/2.0/database/instances/{name}")
            if found.get("state") == "STOPPED":
                raise ConfigError(f"Lakebase instance {self.config.lakebase_instance} is stopped: start it")
            host = found.get("read_write_dns")
        else:
            found = self._look_up(f"/api/2.0/postgres/{self._resource}")
            host = ((found.get("status") or {}).get("hosts") or {}).get("host")
        if not host:
            raise psycopg.OperationalError("the Lakebase compute has no host yet")
        return str(host)

    def _find_user(self) -> str:
        """The caller's e-mail, or a service principal's application id."""
        found = self._look_up("/api/2.0/preview/scim/v2/Me")
        name = found.get("userName")
        if not isinstance(name, str) or not name:
            raise MalformedReply("the workspace does not say who the caller is; set lakebase_user")
        return name

    def _fresh_token(self) -> _Token:
        """A token with more than `REFRESH_BEFORE` to live. Call with the mutex held."""
        if self._token is None or self.clock.monotonic() >= self._token.expires - REFRESH_BEFORE:
            if self.config.lakebase_instance:
                body = {"instance_names": [self.config.lakebase_instance], "request_id": str(uuid.uuid4())}
                reply = self._ask("POST", "/api/2.0/database/credentials", body)
                name = "expiration_time"
            else:
                reply = self._ask("POST", "/api/2.0/postgres/credentials", {"endpoint": self._resource})
                name = "expire_time"
            found = decode_object(reply, "Lakebase credentials")
            try:
                end = datetime.fromisoformat(str(found.get(name))).timestamp()
                left = reply.seconds_until(end, self.clock.now())
                self._token = _Token(found["token"], self.clock.monotonic() + left)
            except (KeyError, ValueError):
                raise MalformedReply("the workspace answered no Lakebase token, or no expiry of it") from None
        return self._token

    def _look_up(self, path: str) -> dict[str, Any]:
        return decode_object(self._ask("GET", path), f"Lakebase GET {path}")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Reply:
        what = f"Lakebase {method} {path}"
        try:
            return self.request(method, path, json=body, what=what, read_only=True)
        except NotFound as error:
            name = self.config.lakebase_instance or self._resource
            raise ConfigError(f"Lakebase has no {name}, or you may not see it ({error})") from error

    def _open(self, host: str, user: str, token: _Token) -> psycopg.Connection[Any]:
        settings = self._settings
        try:
            return self._connect(host, user, token, settings)
        except psycopg.OperationalError as error:
            if not settings or not _NO_SETTINGS.search(str(error)):
                raise
        # A transaction pooler takes no settings; there `REPLY_SECONDS` is the only bound.
        self._settings = ""
        return self._connect(host, user, token, "")

    def _connect(self, host: str, user: str, token: _Token, settings: str) -> psycopg.Connection[Any]:
        config = self.config
        authorities: dict[str, Any] = {}
        if config.ca_certificate:
            authorities["sslrootcert"] = config.ca_certificate
        elif config.lakebase_sslmode in {"verify-ca", "verify-full"}:
            # The same authorities as for the workspace; libpq's "system" depends on how it was built.
            authorities["sslrootcert"] = requests.utils.DEFAULT_CA_BUNDLE_PATH
        return BoundedConnection.connect(
            host=host,
            port=config.lakebase_port,
            user=user,
            password=token.value,
            dbname=config.lakebase_database,
            sslmode=config.lakebase_sslmode,
            gssencmode="disable",
            options=settings,
            application_name="tofu-databricks",
            connect_timeout=CONNECT_SECONDS,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            autocommit=True,
            prepare_threshold=None,
            **authorities,
        )

    def _said(self, error: psycopg.OperationalError, host: str, user: str) -> str:
        """What the error says, without the names in it: a host called `token-db` refuses no token."""
        text = " ".join(str(error).split())
        names = [host, user, self.config.lakebase_database, self.config.ca_certificate]
        for name in sorted(filter(None, names), key=len, reverse=True):
            text = text.replace(f'"{name}"', '""').replace(f"'{name}'", "''")
        return text

    def _explain(self, error: psycopg.OperationalError, host: str, user: str) -> None:
        """Raises the `BackendError` of a refusal that another try would not change."""
        text = " ".join(str(error).split())
        said = self._said(error, host, user)
        config = self.config
        explained: BackendError
        if _NO_ROLE.search(said):
            explained = PermissionDenied(f"{user} has no role in the Lakebase database; create one ({text})")
        elif _NO_DATABASE.search(said):
            explained = ConfigError(f"lakebase_database: there is no {config.lakebase_database} ({text})")
        elif _TLS.search(said):
            explained = ConfigError(f"lakebase_sslmode = {config.lakebase_sslmode} does not work: {text}")
        elif _login_refused(error, said):
            explained = Unauthenticated(f"Lakebase does not accept a fresh token of {user}: {text}")
        else:
            # The endpoint may have been made anew elsewhere: look again before the next try.
            with self._mutex:
                self._host = config.lakebase_host
            return
        raise explained from error


def _login_refused(error: psycopg.OperationalError, said: str) -> bool:
    """Whether the server does not accept the password."""
    if error.sqlstate is not None:
        return error.sqlstate in _NOT_ACCEPTED
    return _LOGIN_REFUSED.search(said) is not None


class BoundedConnection(psycopg.Connection[Any]):
    """A connection on which nothing waits longer than `REPLY_SECONDS` for the server.

    Then it is closed and `psycopg.OperationalError` raised: whether the statement took effect is unknown.
    """

    def wait(self, gen: Generator[Any, Any, R], *args: Any, **keywords: Any) -> R:
        return super().wait(self._bounded(gen), *args, **keywords)

    def _bounded(self, gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        deadline = time.monotonic() + REPLY_SECONDS
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.close()
                    raise psycopg.OperationalError(f"no reply within {REPLY_SECONDS:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: R = end.value
            return result
