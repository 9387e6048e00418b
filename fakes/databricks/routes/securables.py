"""Who sees and who manages an object of Unity Catalog, and what its requests have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.catalog import EVERYBODY, Metastore, Securable
from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.identity import Principal

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

UC = "/api/2.1/unity-catalog"
_VIEWING = {"catalog": "USE_CATALOG", "schema": "USE_SCHEMA", "volume": "READ_VOLUME", "table": "SELECT"}


def sees(metastore: Metastore, caller: Principal, item: Securable) -> bool:
    """Whether the caller has anything on the object, on what is above it, or below it."""
    if caller.admin:
        return True
    levels = [*metastore.chain(item)]
    below = f"{item.full_name}."
    levels += [
        entry
        for table in metastore.objects.values()
        for name, entry in table.items()
        if name.startswith(below)
    ]
    return any(
        level.owner == caller.name or level.grants.get(caller.name) or level.grants.get(EVERYBODY)
        for level in levels
    )


def require_view(metastore: Metastore, caller: Principal, item: Securable) -> None:
    """Raises the 403 that names what is missing, for a caller who sees nothing of the object."""
    if not sees(metastore, caller, item):
        metastore.require(caller, _VIEWING[item.kind], item)


def require_manage(metastore: Metastore, caller: Principal, item: Securable) -> None:
    """Raises the 403 unless the caller owns the object, has MANAGE on it, or is an admin."""
    if not metastore.manages(caller, item):
        raise errors.lacks("MANAGE", item.kind, item.full_name)


def known_principal(workspace: FakeWorkspace, name: str) -> str:
    """The name of somebody to whom something can be granted. Raises the 404 of an unknown principal."""
    if name not in workspace.directory.principals and name != EVERYBODY:
        raise ApiError(404, "PRINCIPAL_DOES_NOT_EXIST", f"Could not find principal with name {name}.")
    return name


def required(body: dict[str, Any], key: str) -> str:
    """A text member of a body or a query. Raises the 400 of a missing one."""
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise errors.invalid_parameter(f"Missing required field: {key}")
    return value
