"""Settings of the backend: from a mapping (an HCL block), the environment and keywords.

Source: RFC "Backend Configuration". Precedence is keywords, then the mapping, then `TOFU_DATABRICKS_*`.
What is left open (host, credentials) is resolved by the SDK's unified authentication.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from tofu_databricks.errors import ConfigError
from tofu_databricks.locks.delta_storage import checked_options, normal_location, parse_options

ENV_PREFIX = "TOFU_DATABRICKS_"
LOCK_BACKENDS = ("delta", "delta-direct", "lakebase")
WORKSPACES_SUFFIX = ".tofu-workspaces"
"""Ends the directory of a key's named workspaces; no segment of a key may end in it."""

_REFERENCE = re.compile(r"\$\{env:([^}]*)\}")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_DURATION = 9_223_372_036.0
"""Seconds: Go counts nanoseconds in 64 bits, and the client of `lock_timeout` is written in Go."""
_UC_NAME = re.compile(r"[^./\x00-\x20\x7f]{1,255}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_WAREHOUSE = re.compile(r"[0-9a-f]{16}")
FENCING = ("checked", "strict")
FILES_APIS = ("auto", "2.0", "3.0")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def duration(text: str) -> float:
    """Seconds of a Go duration such as `10m`, `1h30m` or `500ms`; a bare `0` is zero.

    Raises `ValueError` for anything else. Source: Go's time.ParseDuration; negative ones are refused.
    """
    if text == "0":
        return 0.0
    end = 0
    total = 0.0
    while match := _DURATION.match(text, end):
        total += float(match[1]) * _UNITS[match[2]]
        end = match.end()
    if end == 0 or end != len(text):
        near = f'"{text}s"' if text.isascii() and text.isdigit() else '"10m", "90s" or "1h30m"'
        raise ValueError(f"{text!r} is not a duration; write for example {near}")
    if total > LONGEST_DURATION:
        raise ValueError(f"{text!r} is longer than a duration can be, 292 years")
    return total


@dataclass(frozen=True, kw_only=True)
class Config:
    """Checked settings of one backend; the names are those of the `backend "databricks"` block.

    Durations are in seconds; a source may give a number of seconds or the text of a Go duration. Secrets
    are not in `repr()`.
    """

    host: str = ""
    """Address of the workspace; empty: `DATABRICKS_HOST` or the profile decides."""
    catalog: str
    schema: str
    volume: str
    key: str
    """Path of the default workspace's state below the volume, for example `terraform.tfstate`."""
    lock_backend: str = "delta"
    """`delta` (a table, by a SQL warehouse), `delta-direct` (the same table, by its storage alone) or
    `lakebase`."""
    lock_timeout: float = 0.0
    """How long a `StateManager` waits for a held lock (`-lock-timeout`); not a lease."""
    token: str = field(default="", repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    profile: str = ""
    warehouse_id: str = ""
    """SQL warehouse for `delta` locks; empty: the first running one that the caller may use."""
    lakebase_project: str = ""
    """Lakebase project id; with `lakebase_branch` and `lakebase_endpoint` it names the compute."""
    lakebase_branch: str = "production"
    lakebase_endpoint: str = "primary"
    lakebase_instance: str = ""
    """Name of a provisioned database instance, instead of a project."""
    lakebase_database: str = "databricks_postgres"
    lakebase_host: str = ""
    """Where to connect, instead of what the API says of the endpoint or instance."""
    lakebase_port: int = 5432
    lakebase_user: str = ""
    """Postgres role; empty: the workspace's own name for the caller."""
    lakebase_sslmode: str = "require"
    lock_schema: str = ""
    """Empty: for `lakebase` the Postgres schema `tofu_databricks`, for the others the state's own schema."""
    lock_table: str = "state_locks"
    lock_location: str = ""
    """Where the table of `delta-direct` locks lies, such as `s3://bucket/path`; empty: where Unity Catalog
    says that `catalog.lock_schema.lock_table` lies, with credentials that it gives. Leave it empty when
    others lock the same states by a warehouse."""
    lock_storage_options: str = field(default="", repr=False)
    """Options of that storage as `NAME=VALUE,…`, by the names of its environment variables, such as
    `AWS_REGION=eu-west-1`; they come before the environment and before Unity Catalog's credentials."""
    create_lock_table: bool = True
    retry_deadline: float = 120.0
    """How long a call goes on while the service answers 429."""
    ca_certificate: str = ""
    """Path of a PEM file with the authorities to trust for the workspace and for Lakebase."""
    skip_cert_verification: bool = False
    fencing: str = "checked"
    """`checked`: a write is refused when the lock was lost before it. `strict`: also when it is lost while
    the write is under way; see `tofu_databricks.fenced` for what that takes. One for all users of a key."""
    files_api: str = "auto"
    """How strict writes publish the copy at `key`: by Files API `2.0`, `3.0` (which needs `files_host`), or
    `auto`, which is 3.0 where `files_host` is set and serves it."""
    files_host: str = ""
    """Address of Files API 3.0, `https://WORKSPACE-ID.storage.REGION.DOMAIN`."""

    def __post_init__(self) -> None:
        for name in ("catalog", "schema", "volume"):
            # Unity Catalog names are case-insensitive: two spellings must not be two locks.
            object.__setattr__(self, name, getattr(self, name).lower())
        for name in ("host", "files_host"):
            object.__setattr__(self, name, normal_host(getattr(self, name), name))
        if not self.lock_schema:
            chosen = "tofu_databricks" if self.lock_backend == "lakebase" else self.schema
            object.__setattr__(self, "lock_schema", chosen)
        _check_location(self)
        _check_authentication(self)
        _check_locking(self)
        if self.ca_certificate and not os.path.isfile(self.ca_certificate):
            raise ConfigError(f"ca_certificate: there is no file {self.ca_certificate}")
        if self.ca_certificate and self.skip_cert_verification:
            raise ConfigError("ca_certificate and skip_cert_verification exclude each other: set one of them")
        _check_fencing(self)

    @property
    def root(self) -> str:
        """The volume's path, `/Volumes/catalog/schema/volume`."""
        return f"/Volumes/{self.catalog}/{self.schema}/{self.volume}"

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Settings of an HCL-like block alone. Raises `ConfigError`."""
        return cls.load(mapping, environ={})

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Settings of `TOFU_DATABRICKS_*` alone. Raises `ConfigError`."""
        return cls.load(environ=environ)

    @classmethod
    def load(
        cls,
        mapping: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] = os.environ,
        **keywords: Any,
    ) -> Self:
        """Settings merged from all three sources, `"${env:NAME}"` resolved from `environ` or the process.

        Raises `ConfigError`, one line that names the setting, for one that is unknown, missing,
        malformed or contradicts another. A `None` counts as not given.
        """
        known = {option.name for option in fields(cls)}
        given: dict[str, Any] = {}
        for name in known:
            value = environ.get(ENV_PREFIX + name.upper())
            if value:
                given[name] = value
        _check_variables(environ, known)
        for source in (mapping or {}, keywords):
            for name, value in source.items():
                if name not in known:
                    near = difflib.get_close_matches(name, known, n=1)
                    hint = f"; did you mean {near[0]}?" if near else ""
                    raise ConfigError(f"unknown setting {name!r}{hint}")
                if value is not None:
                    given[name] = value
        variables = {**os.environ, **environ}
        checked = {name: _convert(cls, name, value, variables) for name, value in given.items()}
        missing = [n for n in ("catalog", "schema", "volume", "key") if not checked.get(n)]
        if missing:
            names = ", ".join(missing)
            variable = ENV_PREFIX + missing[0].upper()
            raise ConfigError(f"missing setting{'s' * (len(missing) > 1)} {names} (or {variable} and so on)")
        return cls(**checked)


def _check_variables(environ: Mapping[str, str], known: set[str]) -> None:
    """A misspelt variable is an error; one that is like no setting may be another program's."""
    for variable in environ:
        name = variable.removeprefix(ENV_PREFIX).lower()
        if variable.startswith(ENV_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            if near:
                raise ConfigError(f"unknown variable {variable}; did you mean {ENV_PREFIX}{near[0].upper()}?")


def _convert(cls: type[Config], name: str, value: Any, variables: Mapping[str, str]) -> Any:
    kind = {option.name: option.type for option in fields(cls)}[name]
    if isinstance(value, str):
        value = _REFERENCE.sub(lambda match: _variable(name, match[1], variables), value)
    try:
        if kind == "bool":
            return _boolean(value)
        if kind == "int":
            return _port(value)
        if kind == "float":
            return _seconds(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
    if not isinstance(value, str):
        raise ConfigError(f"{name}: must be text, not {type(value).__name__}")
    return value


def _variable(option: str, name: str, variables: Mapping[str, str]) -> str:
    value = variables.get(name)
    if not value:
        raise ConfigError(f"{option}: the environment variable {name!r} that it refers to is not set")
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "1", "false", "0"}:
        return value.lower() in {"true", "1"}
    raise ValueError(f"must be true or false, not {value!r}")


def _port(value: Any) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"must be a port number, not {value!r}")
    return int(text)


def _seconds(value: Any) -> float:
    if isinstance(value, str):
        return duration(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= LONGEST_DURATION:
        raise ValueError(f'must be a duration such as "10m", or a number of seconds, not {value!r}')
    return float(value)


def normal_host(host: str, setting: str = "host") -> str:
    """`host` with a scheme and without a slash at its end. Raises `ConfigError`, which names the `setting`,
    when there is more to it, such as a user name and password."""
    if not host:
        return ""
    if "://" not in host:
        host = f"https://{host}"
    host = host.rstrip("/")
    if not re.fullmatch(r"https?://[^/?#@\s]+", host):
        raise ConfigError(
            f"{setting}: write the workspace's address alone, for example https://workspace.example"
        )
    return host


def _check_location(config: Config) -> None:
    for name in ("catalog", "schema", "volume"):
        if not _UC_NAME.fullmatch(getattr(config, name)):
            raise ConfigError(
                f"{name}: {getattr(config, name)!r} is not a Unity Catalog name "
                "(1 to 255 characters without dot, slash, space or control character)"
            )
    segments = config.key.split("/")
    if any(segment in {"", ".", ".."} for segment in segments):
        raise ConfigError(
            f"key: {config.key!r} must be a relative path without empty, '.' or '..' segments, "
            "for example terraform.tfstate"
        )
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in config.key):
        raise ConfigError("key: must not hold control characters")
    if any(segment.casefold().endswith(WORKSPACES_SUFFIX) for segment in segments):
        raise ConfigError(f"key: no segment may end in {WORKSPACES_SUFFIX}, where named workspaces are kept")


def _check_authentication(config: Config) -> None:
    if config.token and (config.client_id or config.client_secret):
        raise ConfigError("token and client_id/client_secret exclude each other: set one of them")
    if bool(config.client_id) != bool(config.client_secret):
        absent = "client_secret" if config.client_id else "client_id"
        raise ConfigError(f"client_id and client_secret come together: {absent} is missing")
    if re.search(r"[^\x21-\x7e]", config.token):
        raise ConfigError("token: holds characters that cannot be part of a token")


def _check_locking(config: Config) -> None:
    if config.lock_backend not in LOCK_BACKENDS:
        known = ", ".join(f'"{name}"' for name in LOCK_BACKENDS)
        raise ConfigError(f"lock_backend: {config.lock_backend!r} is not one of {known}")
    named = _IDENTIFIER if config.lock_backend == "lakebase" else _UC_NAME
    for name, pattern in (("lock_schema", named), ("lock_table", _IDENTIFIER)):
        if not pattern.fullmatch(getattr(config, name)):
            raise ConfigError(f"{name}: {getattr(config, name)!r} must be letters, digits and underscores")
    if config.lock_backend == "delta":
        _check_warehouse(config)
    elif config.lock_backend == "delta-direct":
        _check_storage(config)
    else:
        _check_lakebase(config)


def _check_fencing(config: Config) -> None:
    for name, choices in (("fencing", FENCING), ("files_api", FILES_APIS)):
        if getattr(config, name) not in choices:
            known = ", ".join(f'"{choice}"' for choice in choices)
            raise ConfigError(f"{name}: {getattr(config, name)!r} is not one of {known}")
    if config.files_api == "3.0" and not config.files_host:
        raise ConfigError(
            'files_api = "3.0" needs files_host, the address of that API: '
            "https://WORKSPACE-ID.storage.REGION.DOMAIN"
        )
    if config.fencing == "strict" and config.lock_backend == "lakebase" and len(config.lock_table) > 57:
        raise ConfigError("lock_table: at most 57 characters under strict fencing, which adds a table to it")


def _check_warehouse(config: Config) -> None:
    if config.warehouse_id and not _WAREHOUSE.fullmatch(config.warehouse_id):
        raise ConfigError(
            f"warehouse_id: {config.warehouse_id!r} is not the id of a SQL warehouse (16 hex digits)"
        )


def _check_storage(config: Config) -> None:
    if config.lock_location:
        object.__setattr__(config, "lock_location", normal_location(config.lock_location))
    checked_options(parse_options(config.lock_storage_options))


def _check_lakebase(config: Config) -> None:
    if config.lakebase_project and config.lakebase_instance:
        raise ConfigError("lakebase_project and lakebase_instance exclude each other: set one of them")
    if not (config.lakebase_project or config.lakebase_instance):
        raise ConfigError('lock_backend = "lakebase" needs lakebase_project (or lakebase_instance)')
    if config.lakebase_sslmode not in _SSL_MODES:
        raise ConfigError(f"lakebase_sslmode: {config.lakebase_sslmode!r} is not {', '.join(_SSL_MODES)}")
