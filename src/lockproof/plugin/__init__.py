"""The pytest plugin. Without `--backend` it registers its options and does nothing else.

Nothing heavy is imported here: this module is loaded by every pytest run in an environment that has
lockproof installed.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lockproof", "state backend conformance (lockproof)")
    group.addoption(
        "--backend", action="append", default=[], metavar="SPEC", help="state backend to certify; repeatable"
    )
    group.addoption(
        "--backend-opt", action="append", default=[], metavar="KEY=VALUE", help="option for the driver"
    )
    group.addoption("--backend-suite", default=None, metavar="NAMES", help="suites to run, comma-separated")
    group.addoption("--backend-tier", default="default", help="smoke, default, full or soak")
    group.addoption(
        "--backend-timeout", type=float, default=30.0, metavar="SECONDS", help="deadline of a call"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requirement(*ids): lockproof requirements that the test proves")
    config.addinivalue_line("markers", "needs(*capabilities): backend capabilities that the test needs")
    config.addinivalue_line("markers", "tier(name): first lockproof tier that the test runs in")
    if config.getoption("--backend"):
        from lockproof.plugin import session

        config.pluginmanager.register(session.Session(config), "lockproof.session")
