"""What saboteurs of the reference backend are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lockproof.driver.api import Address
from lockproof.driver.databricks import DatabricksDriver, DatabricksScope
from tofu_databricks.backend import Backend


class Broken(DatabricksDriver):
    """The reference driver with `parts` in the place of parts of its backend."""

    parts: ClassVar[Mapping[str, Any]] = {}
    scope_class: ClassVar[type[DatabricksScope]] = DatabricksScope

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.backend_class = type("BrokenBackend", (Backend,), dict(self.parts))

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> DatabricksScope:
        return self.scope_class(self, name, links or {}, attach=attach)
