"""From a `/Volumes/...` path to the volume and the path in it, with the caller's rights checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.catalog import Volume
from lockproof.fakes.databricks.identity import Principal

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace


@dataclass(frozen=True)
class Place:
    """A path in a volume. `inner` is relative to the volume's root, "" for the root itself."""

    volume: Volume
    inner: str

    @property
    def full(self) -> str:
        root = "/Volumes/" + self.volume.full_name.replace(".", "/")
        return f"{root}/{self.inner}" if self.inner else root


def locate(
    workspace: FakeWorkspace, path: str, caller: Principal, *, write: bool = False, directory: bool = False
) -> Place:
    """The place of `path`. Raises the Files API's 400, 403 and container 404 answers.

    Unity Catalog names are case-insensitive, the path below the volume is not. `directory`: the root of the
    volume is allowed.
    """
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or not parts[1]:
        raise errors.invalid_path("Invalid path: the path must be absolute")
    if parts[1] != "Volumes":
        raise errors.invalid_path(f"Invalid path: unsupported first path component: {parts[1]}")
    names = [part.lower() for part in parts[2:5]]
    inner = parts[5:]
    if inner and not inner[-1] and directory:
        inner.pop()
    if len(names) < 3 or not all(names):
        raise errors.invalid_path(f"Invalid path: {path} does not name a volume")
    if any(part in ("", ".", "..") for part in inner):
        raise errors.invalid_path(f"Invalid path: {path} has an empty, '.' or '..' component")
    if not inner and not directory:
        raise errors.invalid_path(f"Invalid path: {path} is the root of a volume, not a file")
    volume = visible_volume(workspace, names)
    workspace.metastore.require(caller, "READ_VOLUME", volume)
    if write:
        workspace.metastore.require(caller, "WRITE_VOLUME", volume)
    return Place(volume, "/".join(inner))


def visible_volume(workspace: FakeWorkspace, names: list[str]) -> Volume:
    """The volume, or the Files API's 404 that names the first missing container."""
    metastore = workspace.metastore
    for kind, count in (("catalog", 1), ("schema", 2), ("volume", 3)):
        full_name = ".".join(names[:count])
        if full_name not in metastore.objects[kind]:
            raise errors.files_container_missing(kind, full_name)
    volume = metastore.volume(".".join(names))
    if volume.hidden_requests > 0:
        volume.hidden_requests -= 1
        raise errors.files_container_missing("volume", volume.full_name)
    return volume
