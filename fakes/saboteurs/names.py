"""Backends that keep the names of workspaces wrongly, each in one way, and one that refuses some."""

from __future__ import annotations

from urllib.parse import parse_qsl

from lockproof.driver import DriverError, Snapshot
from lockproof.driver.memory import DEFAULT, MemoryClient
from lockproof.fakes.saboteurs.broken import BrokenDriver, Register

register = Register(__name__, "workspaces")
SABOTEURS = register.saboteurs
VARIANTS = register.variants

LONGEST = 255


class RenamingClient(MemoryClient):
    """Every workspace is kept under `rename` of its name."""

    def rename(self, name: str) -> str:
        return name

    def get(self, workspace: str) -> Snapshot | None:
        return super().get(self.rename(workspace))

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(self.rename(workspace), data, lock_id=lock_id)

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        super().delete_workspace(self.rename(workspace), force=force)


class QueryStringClient(RenamingClient):
    def rename(self, name: str) -> str:
        return "".join(parse_qsl(f"={name.replace('+', '%2B')}", keep_blank_values=True)[0]) or name


@register.breaks("WS-NAME-001")
class QueryString(BrokenDriver):
    """Names travel in a query string and end at an `&`."""

    client_type = QueryStringClient


class FoldsCaseClient(RenamingClient):
    def rename(self, name: str) -> str:
        return name.lower()


@register.breaks("WS-NAME-002", "WS-NAME-001")
class FoldsCase(BrokenDriver):
    """Names that differ in case are the same workspace."""

    client_type = FoldsCaseClient


class CutsNamesClient(RenamingClient):
    def rename(self, name: str) -> str:
        return name[:LONGEST]


@register.breaks("WS-NAME-002")
class CutsNames(BrokenDriver):
    """Names are cut off after 255 characters."""

    client_type = CutsNamesClient


class ResolvesDotsClient(RenamingClient):
    def rename(self, name: str) -> str:
        return DEFAULT if name in {".", ".."} else name


@register.breaks("WS-NAME-003")
class ResolvesDots(BrokenDriver):
    """A name is joined to a path, and `..` leads to the default workspace."""

    client_type = ResolvesDotsClient


class StrictNamesClient(MemoryClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if not workspace.replace("-", "").isalnum() or not workspace.islower():
            raise DriverError("unsupported", True, f"{workspace!r} is no DNS label")
        super().put(workspace, data, lock_id=lock_id)


@register.breaks("WS-NAME-004")
class StrictNames(BrokenDriver):
    """Only names that are DNS labels are accepted."""

    client_type = StrictNamesClient


# --- Correct, though unusual


class RefusesLongClient(MemoryClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if len(workspace) > 100 or set(workspace) <= {"."}:
            raise DriverError("unsupported", True, "the name cannot be kept")
        super().put(workspace, data, lock_id=lock_id)


@register.correct
class RefusesLong(BrokenDriver):
    """Very long names and names of nothing but dots are definitely refused."""

    client_type = RefusesLongClient
