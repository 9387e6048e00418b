"""The checkout needs its own plugin installed: `pip install -e '.[dev]'`."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin("lockproof.plugin"):
        raise pytest.UsageError("the lockproof plugin is not installed: run pip install -e '.[dev]' first")
