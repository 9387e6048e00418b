"""The reference backend's gateway over a backend in memory, driven through the protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lockproof.driver.api import Capabilities
from lockproof.driver.http import HttpDriver
from lockproof.fakes.drivers.memory_backend import MemoryBackend
from tofu_databricks.gateway import Access, Gateway, GatewayApp

SECRET = "of-a-test-on-loopback"


class Served(HttpDriver):
    """`--backend=py:lockproof.fakes.drivers.served:Served`.

    One server for all processes of a run. A subclass changes what is served.
    """

    def capabilities(self) -> Capabilities:
        """Claims fencing, but no large states, whose test takes longer than all others together."""
        return Capabilities((super().capabilities() | {"locking.fencing"}) - {"state.large"})

    @classmethod
    def app(cls) -> GatewayApp:
        """What is served."""
        return GatewayApp(MemoryBackend(), Access(SECRET))

    @classmethod
    @contextmanager
    def provision(cls, options: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """Serves until the run is over."""
        with Gateway(cls.app()) as gateway:
            yield {
                "address": gateway.url + "/state/{scope}-{workspace}",
                "username": "tofu",
                "password": SECRET,
                "target": "fake",
                **options,
            }
