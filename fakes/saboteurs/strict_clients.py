"""Strict fencing that a real client shows to be none."""

from __future__ import annotations

from lockproof.driver import Capabilities
from lockproof.driver.databricks import DatabricksDriver
from lockproof.fakes.saboteurs.broken_gateway import CLIENTS
from lockproof.fakes.saboteurs.catalogue import Saboteur


class ClaimsStrictFencing(DatabricksDriver):
    """Looks at the lock before each write, and takes that for strict fencing."""

    def capabilities(self) -> Capabilities:
        return Capabilities({*super().capabilities(), "locking.fencing-strict"})


SABOTEURS = (
    Saboteur(
        "claims-strict-fencing",
        "CLI-FENCE-002",
        "Looks at the lock before each write, and takes that for strict fencing.",
        f"py:{__name__}:ClaimsStrictFencing",
        ("clients",),
        only=("CLI-FENCE-002",),
        programs=CLIENTS,
    ),
)
