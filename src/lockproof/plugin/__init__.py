"""The pytest plugin. Without `--backend` it registers five markers and does nothing else.

Nothing heavy is imported here: this module is loaded by every pytest run in an environment that has
lockproof installed.

The options are registered after the initial conftests were loaded, and only when one of them is
asked for: a project whose own conftest defines `--backend` keeps it.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

PREFIX = "--backend"
YIELDED = (
    "lockproof: --backend belongs to this project, so lockproof stands aside; "
    "`lockproof run SPEC` runs its suites, `-p no:lockproof.plugin` silences this line"
)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    ours = any(arg.split("=", 1)[0].startswith(PREFIX) for arg in args)
    if ours:
        from lockproof.plugin import options

        options.prepare(early_config.known_args_namespace, args)
    try:
        yield
    finally:
        if ours or "-h" in args or "--help" in args:
            from lockproof.plugin import options

            if options.taken(early_config, parser):
                early_config.pluginmanager.register(StandAside(), "lockproof.stand-aside")
            else:
                options.register(parser)
                args[:] = options.installed_paths(args)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requirement(*ids): lockproof requirements that the test proves")
    config.addinivalue_line("markers", "needs(*capabilities): backend capabilities that the test needs")
    config.addinivalue_line("markers", "faults(*families, destructive): faults that the test injects")
    config.addinivalue_line("markers", "reported(*names): bugs of real backends that the test would find")
    config.addinivalue_line("markers", "tier(name): first lockproof tier that the test runs in")
    received = getattr(config, "workerinput", {}).get("lockproof")
    if received is None and not hasattr(config.option, "lockproof_backend"):
        return
    from lockproof.plugin import session

    session.begin(config, received)


class StandAside:
    """Says in the header of a run with somebody else's `--backend` why lockproof does nothing."""

    def pytest_report_header(self) -> str:
        return YIELDED
