"""Where a Delta table lies that is written without a warehouse, and with which credentials.

Mutual exclusion rests on one promise of the store: a file is put only where none is. S3, ADLS, Google Cloud
Storage and local disks keep it; settings and places that do not are refused here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from tofu_databricks.errors import (
    ConfigError,
    LockTableMissing,
    MalformedReply,
    NotFound,
    PermissionDenied,
)
from tofu_databricks.reply import Reply
from tofu_databricks.seams import Clock, SystemClock
from tofu_databricks.transport import decode_object

TABLES = "/api/2.1/unity-catalog/tables"
CREDENTIALS = "/api/2.0/unity-catalog/temporary-table-credentials"
REFRESH_BEFORE = 120.0
"""Seconds before their end from which credentials are not used any more."""
NEVER = float("inf")
SCHEMES = ("file", "s3", "s3a", "abfs", "abfss", "gs")
BOUNDS = {"max_retries": "3", "retry_timeout": "30s", "timeout": "15s", "connect_timeout": "5s"}
"""How long an object store may keep a call waiting; the engine's own bounds are minutes."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_MOUNTS = ("/Volumes", "/dbfs")
_FALSE = ("", "false", "0", "no", "off")


class Request(Protocol):
    """One REST call with its retries: `Transport.request`."""

    def __call__(
        self, method: str, path: str, *, json: Any = None, what: str = "", read_only: bool | None = None
    ) -> Reply: ...


@dataclass(frozen=True)
class Access:
    """A way to the table. `options` are the engine's storage options, secrets among them; `expires` is on
    the monotonic clock."""

    location: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    expires: float = NEVER


class Storage(Protocol):
    """Knows the way to one table; `creates` tells whether a missing table can be made at its location."""

    creates: bool

    def access(self) -> Access:
        """A way that is good for now. Raises `BackendError`s; `LockTableMissing` when nobody knows the
        table."""


class GivenStorage:
    """A location that was given, with given credentials or those that the engine finds in the environment
    (`AWS_*`, `AZURE_*`, `GOOGLE_*`, instance profiles)."""

    creates = True

    def __init__(self, location: str, options: Mapping[str, str]) -> None:
        self._access = Access(normal_location(location), checked_options(options))

    def access(self) -> Access:
        return self._access


class CatalogStorage:
    """An external table of Unity Catalog: its location, and credentials that are minted when needed.

    Sources: `GET /api/2.1/unity-catalog/tables/{name}` and `POST …/temporary-table-credentials`, which needs
    EXTERNAL USE SCHEMA and external access to the metastore. Call under a lock of your own.
    """

    creates = False

    def __init__(
        self,
        request: Request,
        table: str,
        options: Mapping[str, str],
        clock: Clock | None = None,
    ) -> None:
        self.request = request
        self.table = table
        self.clock = clock or SystemClock()
        self._options = checked_options(options)
        self._access: Access | None = None

    def access(self) -> Access:
        if self._access is None or self.clock.monotonic() >= self._access.expires - REFRESH_BEFORE:
            self._access = self._minted()
        return self._access

    def _minted(self) -> Access:
        what = f"looking up the lock table {self.table}"
        try:
            reply = self.request("GET", f"{TABLES}/{quote(self.table, safe='')}", what=what)
        except NotFound as error:
            raise LockTableMissing(f"the lock table {self.table} is missing ({error})") from error
        found = decode_object(reply, what)
        self._check(found)
        location = normal_location(str(found.get("storage_location") or ""))
        body = {"table_id": found.get("table_id"), "operation": "READ_WRITE"}
        what = f"credentials for the storage of the lock table {self.table}"
        try:
            reply = self.request("POST", CREDENTIALS, json=body, what=what, read_only=True)
        except PermissionDenied as error:
            raise PermissionDenied(
                f"{error}; direct locks need SELECT, MODIFY and EXTERNAL USE SCHEMA, "
                "and a metastore that allows external access"
            ) from error
        minted = decode_object(reply, what)
        left = reply.seconds_until(_expiry(minted), self.clock.now())
        options = {**self._credentials(minted), **self._options}
        return Access(location, options, self.clock.monotonic() + left)

    def _check(self, found: Mapping[str, Any]) -> None:
        properties = found.get("properties") or {}
        managed = any(
            str(name).startswith(("delta.feature.catalogManaged", "delta.feature.catalogOwned"))
            for name in properties
        )
        kind = str(found.get("table_type") or "")
        if managed or kind == "MANAGED":
            raise ConfigError(
                f"the lock table {self.table} is {'catalog-managed' if managed else 'a managed table'}, "
                "which only Databricks may write: name an external table as lock_table, or use "
                'lock_backend = "delta"'
            )
        if kind != "EXTERNAL" or found.get("data_source_format") != "DELTA":
            raise ConfigError(f"the lock table {self.table} is not an external Delta table")

    def _credentials(self, minted: Mapping[str, Any]) -> dict[str, str]:
        """The answer's credentials by the names that the engine knows."""
        try:
            if aws := minted.get("aws_temp_credentials"):
                return {
                    "AWS_ACCESS_KEY_ID": str(aws["access_key_id"]),
                    "AWS_SECRET_ACCESS_KEY": str(aws["secret_access_key"]),
                    "AWS_SESSION_TOKEN": str(aws["session_token"]),
                }
            if sas := minted.get("azure_user_delegation_sas"):
                return {"AZURE_STORAGE_SAS_TOKEN": str(sas["sas_token"])}
            if aad := minted.get("azure_aad"):
                return {"AZURE_STORAGE_TOKEN": str(aad["aad_token"])}
        except (KeyError, TypeError):
            raise MalformedReply(f"the credentials for the lock table {self.table} are incomplete") from None
        raise ConfigError(
            f"the credentials that Unity Catalog gives for the lock table {self.table} are of a cloud whose "
            "tokens direct locks cannot use: set lock_location, and credentials in the environment"
        )


def parse_options(text: str) -> dict[str, str]:
    """`NAME=VALUE,NAME=VALUE` as a mapping. Raises `ConfigError`, which shows no value."""
    options: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = item.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]*", name.strip()):
            raise ConfigError(
                "lock_storage_options: write NAME=VALUE pairs with commas between them, for example "
                "AWS_REGION=eu-west-1"
            )
        options[name.strip()] = value.strip()
    return options


def normal_location(text: str) -> str:
    """The location as a URL without a slash at its end. Raises `ConfigError` for one that cannot exclude."""
    scheme = _SCHEME.match(text)
    kind = scheme[1].lower() if scheme else ""
    path = text.split(":", 1)[1] if scheme else text
    local = "/" + path.lstrip("/")
    if kind == "dbfs" or (kind in ("", "file") and local.startswith(tuple(f"{m}/" for m in _MOUNTS))):
        raise ConfigError(
            f"lock_location: {text} is a mount, which does not promise to put a file only where none is: "
            "write the address of the storage itself, for example s3://bucket/path"
        )
    if not kind and text.startswith("/"):
        return Path(text).as_uri().rstrip("/")
    if kind == "file" and path.startswith("/") and path.strip("/"):
        return f"file://{local.rstrip('/')}"
    if kind in SCHEMES and kind != "file" and re.fullmatch(r"//[^/\s?#]+(/[^\s?#]*)?", path):
        return f"{kind}:{path.rstrip('/')}"
    raise ConfigError(
        f"lock_location: {text!r} must be an absolute path, or an address that begins with "
        f"{', '.join(f'{name}://' for name in SCHEMES)}: other stores do not promise to put a file only "
        "where none is"
    )


def checked_options(options: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The options, and the bounds of each call. Raises `ConfigError` for one, here or in the environment,
    that takes the conditional put away."""
    given = {**{name: environ[name] for name in environ if name.isupper()}, **options}
    for name, value in given.items():
        plain, setting = name.upper(), value.strip().lower()
        if (
            (plain.endswith("ALLOW_UNSAFE_RENAME") and setting not in _FALSE)
            or (plain in ("CONDITIONAL_PUT", "AWS_CONDITIONAL_PUT") and setting != "etag")
            or (plain in ("S3_LOCKING_PROVIDER", "AWS_S3_LOCKING_PROVIDER") and setting)
        ):
            raise ConfigError(
                f"{name} is set: with it two clients may write the same version, and both hold the lock; "
                "unset it"
            )
    return {**BOUNDS, **options}


def _expiry(minted: Mapping[str, Any]) -> float:
    try:
        return float(minted["expiration_time"]) / 1000
    except (KeyError, TypeError, ValueError):
        raise MalformedReply("the workspace answered credentials without their end") from None
