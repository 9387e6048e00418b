"""The families of operations that every `FakeWorkspace` answers."""

from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes import (
    files,
    files_v3,
    grants,
    identity,
    presigned,
    statements,
    storage,
    tables,
    unity_catalog,
    warehouses,
)

CORE: tuple[Routes, ...] = (
    identity.routes,
    files.routes,
    files_v3.routes,
    presigned.routes,
    statements.downloads,
    storage.routes,
    unity_catalog.routes,
    grants.routes,
    tables.routes,
    warehouses.routes,
    statements.routes,
)
"""What every `FakeWorkspace` answers; further parts install their own with `workspace.router.install`."""
