"""Fixtures of the tests of HTTP links: a plugin of the modules that name it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from requests.adapters import HTTPAdapter

from lockproof.chaos.proxy import FaultProxy
from lockproof.driver import Address
from lockproof.suites.meta.proxied_bed import PATHS, Bed
from lockproof.suites.meta.proxied_server import StateServer, serve


@pytest.fixture(scope="module")
def proxied_server() -> Iterator[tuple[StateServer, Address]]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def fault_proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running


def bed_of(protocol: str, served: tuple[StateServer, Address], proxy: FaultProxy) -> Iterator[Bed]:
    server, upstream = served
    link = proxy.stand_before(upstream, "tcp" if protocol == "tcp" else "http")
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", HTTPAdapter(pool_maxsize=1, max_retries=0))
        yield Bed(server, upstream, proxy, link, session, f"/states/{next(PATHS)}")
    link.heal()


@pytest.fixture(params=["tcp", "http"])
def link_bed(
    request: pytest.FixtureRequest, proxied_server: tuple[StateServer, Address], fault_proxy: FaultProxy
) -> Iterator[Bed]:
    """Once with a link that knows bytes alone, once with one that knows HTTP."""
    yield from bed_of(request.param, proxied_server, fault_proxy)


@pytest.fixture
def http_bed(proxied_server: tuple[StateServer, Address], fault_proxy: FaultProxy) -> Iterator[Bed]:
    """With a link that knows HTTP."""
    yield from bed_of("http", proxied_server, fault_proxy)
