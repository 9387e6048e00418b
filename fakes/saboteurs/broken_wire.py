"""What saboteurs of networks are made of: clients of the HTTP backend protocol that are broken in one way."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

from lockproof.driver.api import Address
from lockproof.driver.http import HTTP_LINK, HttpClient, HttpScope
from lockproof.fakes.drivers.served import Served
from lockproof.fakes.saboteurs.broken_gateway import BrokenServer
from lockproof.fakes.saboteurs.catalogue import CorrectVariant, Saboteur

W = TypeVar("W", bound="type[Served]")


class BrokenWireScope(HttpScope):
    """A key space whose clients are of type `client_type`."""

    client_type: type[HttpClient] = HttpClient

    def client(self, who: str) -> HttpClient:
        return self.client_type(self, who)


class BrokenWire(BrokenServer):
    """Reaches its server by clients of type `Client`; a subclass brings that, or a server of its own."""

    Client: ClassVar[type[HttpClient]] = HttpClient

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> BrokenWireScope:
        settings = self.settings.placed(name, (links or {}).get(HTTP_LINK))
        scope = BrokenWireScope(settings, shared="{scope}" not in self.settings.address, attached=attach)
        scope.client_type = self.Client
        return scope


class Register:
    """Collects the saboteurs and correct variants of one module, as `catalogue` wants them.

    The class decorated is the driver; its docstring is the story, its name the entry's. They are run
    against the tests of the requirements `only`.
    """

    def __init__(self, module: str, *only: str) -> None:
        self.module = module
        self.only = only
        self.saboteurs: list[Saboteur] = []
        self.variants: list[CorrectVariant] = []

    def breaks(self, requirement: str, *also: str) -> Callable[[W], W]:
        """The driver breaks `requirement`; those of `also` cannot hold then either."""

        def register(driver: W) -> W:
            name, story, backend = self._described(driver)
            self.saboteurs.append(
                Saboteur(name, requirement, story, backend, ("faults",), also, only=self.only)
            )
            return driver

        return register

    def correct(self, driver: W) -> W:
        """The driver keeps every requirement, though in an unusual way."""
        name, story, backend = self._described(driver)
        self.variants.append(CorrectVariant(name, story, backend, ("faults",), only=self.only))
        return driver

    def _described(self, driver: type[Served]) -> tuple[str, str, str]:
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", driver.__name__).lower()
        return name, " ".join((driver.__doc__ or "").split()), f"py:{self.module}:{driver.__name__}"
