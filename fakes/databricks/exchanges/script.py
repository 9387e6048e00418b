"""The declared operations that `lockproof fake record` sends: always the same, in the same order."""

from __future__ import annotations

from lockproof.fakes.databricks.exchanges import script_files, script_services
from lockproof.fakes.databricks.exchanges.player import Step


def script() -> tuple[Step, ...]:
    """All steps."""
    parts = (
        script_services.identity,
        script_files.files_2,
        script_files.directories,
        script_files.files_3,
        script_files.transfers,
        script_services.unity_catalog,
        script_services.statements,
        script_services.results,
        script_services.tables,
        script_services.lakebase,
        script_services.limits,
    )
    return tuple(step for part in parts for step in part())
