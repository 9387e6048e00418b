"""The families of operations that every `FakeWorkspace` answers."""

from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes import files, grants, identity, presigned, storage, unity_catalog

CORE: tuple[Routes, ...] = (
    identity.routes,
    files.routes,
    presigned.routes,
    storage.routes,
    unity_catalog.routes,
    grants.routes,
)
"""What every `FakeWorkspace` answers; further parts install their own with `workspace.router.install`."""
