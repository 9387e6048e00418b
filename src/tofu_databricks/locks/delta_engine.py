"""The engine of direct Delta locks, `deltalake` (delta-rs): how it is had, and what its errors mean."""

from __future__ import annotations

import re
from typing import Any

from tofu_databricks.errors import BackendError, ConfigError, LockTableMissing, PermissionDenied, Unavailable
from tofu_databricks.reply import one_line

_DECORATION = re.compile(r"\x1b\[[0-9;]*m|↳")
_REFUSED = re.compile(r"AccessDenied|InvalidAccessKeyId|\b40[13] (Forbidden|Unauthorized)|Permission denied")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist")


def engine() -> Any:
    """`deltalake`, which takes a while to import and which only these locks need.

    Raises `ConfigError` where it is not installed.
    """
    try:
        import deltalake
        import deltalake.exceptions
    except ImportError as error:
        raise ConfigError(
            f'lock_backend = "delta-direct" needs the package deltalake: pip install "deltalake>=1.6,<2" '
            f"({one_line(str(error))})"
        ) from error
    return deltalake


def refusal_of(error: Exception, table: str) -> BackendError:
    """What an error of the engine, or of the system beneath it, says of the lock table `table`."""
    from deltalake.exceptions import TableNotFoundError

    text = one_line(_DECORATION.sub(" ", str(error)))
    name = f"the lock table {table}"
    if isinstance(error, TableNotFoundError):
        return LockTableMissing(f"{name} is missing")
    if "catalog-managed" in text:
        return ConfigError(
            f"{name} is catalog-managed, which only Databricks may write: name an external table as "
            'lock_table, or use lock_backend = "delta"'
        )
    if _NO_BUCKET.search(str(error)):
        return ConfigError(f"{name}: there is no such bucket or container: {text}")
    if _REFUSED.search(str(error)):
        return PermissionDenied(f"{name}: its storage refuses: {text}")
    return Unavailable(f"{name}: {text}")
