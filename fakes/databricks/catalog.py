"""Unity Catalog's objects: catalogs, schemas, volumes, tables, and who was granted what on them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.clock import VirtualClock
from lockproof.fakes.databricks.fidelity import Fidelity
from lockproof.fakes.databricks.filetree import FileTree
from lockproof.fakes.databricks.identity import Principal

EVERYBODY = "account users"
_ON_VOLUMES = frozenset(("READ_VOLUME", "WRITE_VOLUME", "MANAGE", "ALL_PRIVILEGES"))
_ON_TABLES = frozenset(("SELECT", "MODIFY", "MANAGE", "ALL_PRIVILEGES"))
_ON_SCHEMAS = (
    _ON_VOLUMES | _ON_TABLES | {"USE_SCHEMA", "CREATE_VOLUME", "CREATE_TABLE", "EXTERNAL_USE_SCHEMA"}
)
_ON_CATALOGS = _ON_SCHEMAS | {"USE_CATALOG", "CREATE_SCHEMA", "BROWSE"}
PRIVILEGES = {"catalog": _ON_CATALOGS, "schema": _ON_SCHEMAS, "volume": _ON_VOLUMES, "table": _ON_TABLES}
_BAD_NAME = re.compile(r"[. /\x00-\x1f\x7f]")


@dataclass
class Securable:
    """What all kinds share. Times are epoch milliseconds."""

    kind: str
    full_name: str
    owner: str
    created_at: int
    created_by: str
    comment: str | None = None
    updated_at: int = 0
    updated_by: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    grants: dict[str, set[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.full_name.rpartition(".")[2]

    @property
    def parent_name(self) -> str:
        return self.full_name.rpartition(".")[0]


@dataclass
class Volume(Securable):
    """`hidden_requests`: how many requests still do not see the new volume (eventual visibility)."""

    volume_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    volume_type: str = "MANAGED"
    storage_location: str = ""
    tree: FileTree = field(default_factory=lambda: FileTree(0.0))
    hidden_requests: int = 0


@dataclass
class Table(Securable):
    """A Delta table; what is in it lies at `storage_location`, kept by the SQL warehouses' engine."""

    table_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    table_type: str = "MANAGED"
    storage_location: str = ""


_CLASSES: dict[str, type[Securable]] = {"volume": Volume, "table": Table}


class Metastore:
    """All securables by kind and lower-cased full name. Errors are Unity Catalog's answers (`ApiError`)."""

    def __init__(self, clock: VirtualClock, fidelity: Fidelity) -> None:
        self.clock = clock
        self.fidelity = fidelity
        self.id = str(uuid.uuid4())
        self.objects: dict[str, dict[str, Securable]] = {kind: {} for kind in PRIVILEGES}

    # --- objects ---

    def create(
        self,
        kind: str,
        parent: str,
        name: str,
        owner: Principal,
        *,
        comment: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Securable:
        """A new catalog (`parent` is ""), schema, volume or table below an existing parent; lower-cased."""
        parent, name = parent.lower(), name.lower()
        _check_name(kind, name)
        full_name = f"{parent}.{name}" if parent else name
        if parent:
            self.get("catalog" if kind == "schema" else "schema", parent)
        if full_name in self.objects[kind]:
            raise errors.already_exists(kind, name, self.fidelity.conflict_status)
        now = int(self.clock.time() * 1000)
        made = _CLASSES.get(kind, Securable)
        item = made(kind, full_name, owner.name, now, owner.name, comment, now, owner.name, dict(extra or {}))
        if isinstance(item, Volume):
            item.tree = FileTree(now / 1000)
            item.hidden_requests = self.fidelity.hidden_volume_requests
            item.volume_type = str(item.extra.pop("volume_type", "MANAGED"))
            item.storage_location = str(
                item.extra.pop("storage_location", "")
                or f"s3://fake-metastore/{self.id}/volumes/{item.volume_id}"
            )
        self.objects[kind][full_name] = item
        return item

    def get(self, kind: str, full_name: str) -> Securable:
        """The object; the first missing one of catalog, schema, volume is what the 404 names."""
        full_name = full_name.lower()
        found = self.objects[kind].get(full_name)
        if found is not None:
            return found
        parts = full_name.split(".")
        for upper, count in (("catalog", 1), ("schema", 2)):
            ancestor = ".".join(parts[:count])
            if count < len(parts) and ancestor not in self.objects[upper]:
                raise errors.does_not_exist(upper, ancestor)
        raise errors.does_not_exist(kind, full_name)

    def volume(self, full_name: str) -> Volume:
        found = self.get("volume", full_name)
        assert isinstance(found, Volume)
        return found

    def table(self, full_name: str) -> Table:
        found = self.get("table", full_name)
        assert isinstance(found, Table)
        return found

    def table_by_id(self, table_id: str) -> Table | None:
        for item in self.objects["table"].values():
            if isinstance(item, Table) and item.table_id == table_id:
                return item
        return None

    def volume_by_id(self, volume_id: str) -> Volume | None:
        for item in self.objects["volume"].values():
            if isinstance(item, Volume) and item.volume_id == volume_id:
                return item
        return None

    def children(self, kind: str, parent: str) -> list[Securable]:
        """The objects of `kind` directly below `parent` ("" for catalogs), by name."""
        parent = parent.lower()
        return sorted(
            (item for item in self.objects[kind].values() if item.parent_name == parent),
            key=lambda item: item.full_name,
        )

    def rename(self, item: Securable, new_name: str) -> None:
        """Renames the object, and everything below it."""
        new_name = new_name.lower()
        _check_name(item.kind, new_name)
        parent = item.parent_name
        target = f"{parent}.{new_name}" if parent else new_name
        if target in self.objects[item.kind]:
            raise errors.already_exists(item.kind, new_name, self.fidelity.conflict_status)
        old = item.full_name
        for table in self.objects.values():
            for full_name, entry in list(table.items()):
                if full_name == old or full_name.startswith(old + "."):
                    del table[full_name]
                    entry.full_name = target + full_name[len(old) :]
                    table[entry.full_name] = entry

    def delete(self, kind: str, full_name: str, *, force: bool = False) -> None:
        """Deletes the object; one with children only with `force`."""
        item = self.get(kind, full_name)
        below = f"{item.full_name}."
        inside = [
            (table, name) for table in self.objects.values() for name in table if name.startswith(below)
        ]
        if inside and not force:
            raise errors.not_empty(kind, item.full_name)
        for table, name in inside:
            del table[name]
        del self.objects[kind][item.full_name]

    # --- grants ---

    def chain(self, item: Securable) -> Iterator[Securable]:
        """The object, then its schema, then its catalog: privileges are inherited downwards."""
        yield item
        parts = item.full_name.split(".")
        for kind, count in (("schema", 2), ("catalog", 1)):
            if count < len(parts):
                yield self.objects[kind][".".join(parts[:count])]

    def holds(self, principal: Principal, privilege: str, item: Securable) -> bool:
        """Whether the principal has the privilege: as admin, owner, by grant, or by a grant further up."""
        if principal.admin:
            return True
        for level in self.chain(item):
            if level.owner == principal.name:
                return True
            for grantee in (principal.name, EVERYBODY):
                granted = level.grants.get(grantee)
                if granted and (privilege in granted or "ALL_PRIVILEGES" in granted):
                    return True
        return False

    def require(self, principal: Principal, privilege: str, item: Securable) -> None:
        """Raises the 403 that names the first missing privilege: USE CATALOG, USE SCHEMA, then this one."""
        if principal.admin:
            return
        wanted = [(privilege, item)]
        for level in self.chain(item):
            use = {"catalog": "USE_CATALOG", "schema": "USE_SCHEMA"}.get(level.kind)
            if use and level is not item:
                wanted.append((use, level))
        for needed, level in reversed(wanted):
            if not self.holds(principal, needed, level):
                raise errors.lacks(needed, level.kind, level.full_name)

    def manages(self, principal: Principal, item: Securable) -> bool:
        """Whether the principal may change grants and the object itself."""
        return self.holds(principal, "MANAGE", item)

    def change_grants(self, item: Securable, principal: str, add: list[str], remove: list[str]) -> None:
        """Adds, then removes. Unknown privileges are a 400."""
        known = PRIVILEGES[item.kind]
        add, remove = ([_spelled(name) for name in names] for names in (add, remove))
        for name in (*add, *remove):
            if name not in known:
                raise errors.invalid_parameter(
                    f"Privilege {name.replace('_', ' ')} is not applicable to this entity "
                    f"[{item.full_name}:{item.kind.upper()}]."
                )
        granted = item.grants.setdefault(principal, set())
        granted.update(add)
        granted.difference_update(remove)
        if not granted:
            del item.grants[principal]


def _spelled(privilege: str) -> str:
    return privilege.upper().replace(" ", "_")


def _check_name(kind: str, name: str) -> None:
    if not name or len(name) > 255 or _BAD_NAME.search(name):
        raise errors.invalid_parameter(
            f"Invalid input: '{name}' is not a valid {kind} name. Names may have up to 255 characters "
            "and must not hold periods, spaces, slashes or control characters."
        )
