"""A pytest run with `--backend`: which suite files are collected, and on which backends they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver.registry import BackendSpec, SpecError, resolve
from lockproof.plugin.fixtures import Backend
from lockproof.spec import requirements

DEFAULT_SUITES = ("smoke", "state", "locks", "workspaces", "databricks")


class SuiteModule(pytest.Module):
    """A module of the suite: its ids are the same in a checkout, a wheel and a worker."""

    def funcnamefilter(self, name: str) -> bool:
        return name.startswith("test_")


class Session:
    """Hooks that exist only in a run with `--backend`."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.stack = ExitStack()
        options = dict(item.split("=", 1) for item in config.getoption("--backend-opt"))
        try:
            self.specs = [s for spec in config.getoption("--backend") for s in resolve(spec, options)]
        except SpecError as error:
            raise pytest.UsageError(str(error)) from None
        self.root = Path(str(files("lockproof.suites")))
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            names = (config.getoption("--backend-suite") or ",".join(DEFAULT_SUITES)).split(",")
            config.args = [str(p) for n in names for p in sorted((self.root / n).glob("test_*.py"))]
        from lockproof.plugin import fixtures

        config.pluginmanager.register(fixtures, "lockproof.fixtures")
        self.backends = [self.start(spec) for spec in self.specs]

    def start(self, spec: BackendSpec) -> Backend:
        extra = self.stack.enter_context(spec.provision())
        driver = spec.factory()({**spec.options, **extra})
        return Backend(spec.id, driver, driver.capabilities(), self.config.getoption("--backend-timeout"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makemodule(self, module_path: Path, parent: Any) -> pytest.Module | None:
        if self.root not in module_path.parents:
            return None
        nodeid = f"suites/{module_path.relative_to(self.root).as_posix()}"
        return SuiteModule.from_parent(parent, path=module_path, nodeid=nodeid)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "backend" in metafunc.fixturenames:
            metafunc.parametrize("backend", self.backends, ids=[b.id for b in self.backends], scope="session")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            backend = getattr(item, "callspec", None) and item.callspec.params.get("backend")  # type: ignore[attr-defined]
            if not backend:
                continue
            cited = [name for mark in item.iter_markers("requirement") for name in mark.args]
            wanted = {requirements()[name].capability for name in cited}
            wanted |= {name for mark in item.iter_markers("needs") for name in mark.args}
            missing = sorted(wanted - backend.capabilities)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"not declared: {', '.join(missing)}"))

    def pytest_unconfigure(self) -> Iterator[None] | None:
        self.stack.close()
        return None
