"""A pytest run with `--backend`, in the controller and, under xdist, in each worker."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver.api import Capabilities, Driver
from lockproof.history.writer import HistoryWriter
from lockproof.plugin import fixtures, gating, options
from lockproof.plugin.collect import (
    DEFAULT_SUITES,
    SUITES,
    SuiteModule,
    canonical,
    chosen_files,
    narrowings,
    schedule_test,
    suite_root,
)
from lockproof.plugin.expectations import Expectation, load_json, unmatched
from lockproof.plugin.fixtures import Backend
from lockproof.plugin.judge import failure, judge
from lockproof.plugin.options import Settings
from lockproof.plugin.services import Service
from lockproof.report.card import card
from lockproof.report.faults import counted
from lockproof.report.folder import HISTORIES
from lockproof.report.redact import Redactor
from lockproof.spec.outcome import NotRun

MANIFEST = "manifest.json"
COUNTS = "lockproof.counts"
"""The user property in which a test tells what it has counted, for the report."""
REMARK = "lockproof.remark"
"""The user property in which a test that passes tells what is to be known of that, as its reason."""
FAILED = frozenset({"fail", "error", "xpass", "unknown", "xfail", "flaky"})


def begin(config: pytest.Config, received: Mapping[str, Any] | None) -> None:
    """Registers what a run with `--backend` needs; in a worker with the data of the controller."""
    pytest.register_assert_rewrite(*(f"lockproof.suites.{name}" for name in SUITES))
    if received is None:
        from lockproof.plugin.controller import Controller
        from lockproof.plugin.progress import Progress

        settings = options.read(config)
        if settings is None:
            return
        run = Session(config, settings)
        controller = Controller(config, run)
        config.pluginmanager.register(controller, "lockproof.controller")
        config.pluginmanager.register(Progress(config, controller), "lockproof.progress")
    else:
        run = Session(config, Settings.from_json(received["settings"]))
        run.receive(received)
    config.pluginmanager.register(fixtures, "lockproof.fixtures")
    config.pluginmanager.register(run, "lockproof.session")


def _faults_of(item: pytest.Item) -> list[dict[str, Any]] | None:
    """What the faults that a test injected did, as its history tells."""
    history = getattr(item, "funcargs", {}).get("history")
    marked = item.get_closest_marker("faults") is not None
    return (counted(history.history()) or None) if marked and isinstance(history, HistoryWriter) else None


def said(backend: Backend | None, name: str) -> str:
    """What a driver with a budget of requests says of it: `exhausted` (no test may begin any more) or
    `overdrawn` (calls were refused); empty when nothing is amiss."""
    ask = getattr(backend.driver, name, None) if backend is not None else None
    return str(ask()) if ask is not None else ""


class Session:
    """Collects the chosen suites, gates the tests and judges their outcome. The same in every process."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.redactor = Redactor()
        self.backends: list[Backend] = []
        self.expectations: Sequence[Expectation] = ()
        self.run: Mapping[str, Any] = {}
        self.described: dict[str, Mapping[str, Any]] = {}
        self.folder = Path()
        self.shown_folder = ""
        self.entries: dict[str, gating.Entry] = {}
        self.out_of_scope = 0
        config.option.continue_on_collection_errors = True
        paths = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
        suites = settings.suite or DEFAULT_SUITES
        config.args = chosen_files(paths, suites)
        self.narrowed = "; ".join(narrowings(paths, suites, settings.req, settings.tier))
        if settings.schedule is not None:
            from lockproof.explore import Schedule

            config.args = [schedule_test(Schedule.load(Path(settings.schedule)).program)]
            self.narrowed = "only one schedule was replayed"

    def receive(self, data: Mapping[str, Any], drivers: Sequence[Driver] = ()) -> None:
        """Takes over what the controller found out; in the controller's own process with its drivers."""
        services = [Service.from_json(service) for service in data["services"]]
        self.folder = Path(data["folder"])
        self.shown_folder = data["shown_folder"]
        self.run = data["run"]
        self.described = {described["id"]: described for described in data["described"]}
        self.expectations = load_json(data["expectations"])
        self.redactor.values.update(data["secrets"])
        if data["directory"] not in sys.path and any(s.id.startswith("py:") for s in services):
            sys.path.insert(0, data["directory"])  # as `resolve` does in the controller
        ready = dict(zip((service.id for service in services), drivers, strict=False))
        self.backends = [self.backend(service, ready.get(service.id)) for service in services]

    def backend(self, service: Service, driver: Driver | None) -> Backend:
        return Backend(
            id=service.id,
            declared=Capabilities(service.declared),
            capabilities=service.effective,
            target=service.info.target,
            faults=tuple(self.settings.faults),
            duration=self.settings.duration,
            allow_destructive=self.settings.allow_destructive,
            timeout=self.settings.timeout,
            seed=self.settings.seed,
            clients=self.settings.clients,
            keep=self.settings.keep,
            histories=self.folder / HISTORIES,
            spec=service.spec,
            connect=service.connect,
            ready=driver,
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: Any) -> pytest.Collector | None:
        """The suites' folders are no packages to pytest, which would import them under another name."""
        return pytest.Dir.from_parent(parent, path=path) if path.is_relative_to(suite_root()) else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makemodule(self, module_path: Path, parent: Any) -> pytest.Module | None:
        nodeid = canonical(module_path)
        return SuiteModule.from_parent(parent, path=module_path, nodeid=nodeid) if nodeid else None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if metafunc.definition.getparent(SuiteModule) is not None and "backend" not in metafunc.fixturenames:
            metafunc.fixturenames.append("backend")  # every test of a suite runs on every backend
        if "backend" in metafunc.fixturenames:
            metafunc.parametrize("backend", self.backends, ids=[b.id for b in self.backends], scope="session")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        kept, dropped = [], []
        for item in items:
            backend = gating.backend_of(item)
            if backend is None:
                kept.append(item)
            elif gating.in_scope(item, self.settings):
                kept.append(item)
                self.entries[item.nodeid] = gating.entry(item, backend, self.settings)
            else:
                dropped.append(item)
        self.out_of_scope = len(dropped)
        for lost in gating.missing(items, self.config.args, self.backends, self.settings):
            self.entries[lost["id"]] = lost
        if dropped:
            items[:] = kept
            self.config.hook.pytest_deselected(items=dropped)
        yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        remaining = {item.nodeid for item in session.items}
        for name, entry in self.entries.items():
            if name not in remaining and entry["state"] != "error":
                entry["state"], entry["reason"] = "not-run", "deselected"
        manifest = {
            "tests": list(self.entries.values()),
            "out_of_scope": self.out_of_scope,
            "narrowed": self.narrowed,
            "unmatched": unmatched(
                self.expectations,
                list(self.entries.values()),
                [backend.id for backend in self.backends],
                every_parameter=not any("[" in arg.partition("::")[2] for arg in self.config.args),
            ),
        }
        if hasattr(self.config, "workerinput"):
            written = self.folder / f"{MANIFEST}.{os.getpid()}"
            written.write_text(json.dumps(manifest), encoding="utf-8")
            written.replace(self.folder / MANIFEST)  # the same from every worker; whole at any time
        else:
            self.config.pluginmanager.getplugin("lockproof.controller").expect(manifest)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        entry = self.entries.get(item.nodeid)
        if entry is None:
            return
        if entry["state"] == "run":
            if reason := said(gating.backend_of(item), "exhausted"):
                raise NotRun(reason)
            return
        if entry["state"] == "broken":
            raise LookupError(entry["reason"])
        raise pytest.skip.Exception(entry["reason"], _use_item_location=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        entry, backend = self.entries.get(item.nodeid), gating.backend_of(item)
        if entry is None or backend is None:
            return report
        raised = call.excinfo.value if call.excinfo is not None else None
        expected = [
            e
            for e in self.expectations
            if e.covers(entry["test"], entry["id"], entry["requirements"], entry["backend"])
        ]
        broke = report.failed
        called = report.when == "call" or (report.failed and not isinstance(raised, NotRun))
        refused = said(backend, "overdrawn") if called and entry["state"] == "run" else ""
        if refused and report.when != "teardown":
            status, reason = "unknown", refused  # calls failed that the backend never saw
            report.outcome = "failed"
        else:
            status, reason = judge(report, raised, entry, expected)
        told = dict(item.user_properties)
        if status == "pass":
            reason = str(told.get(REMARK, reason))
        reason = self.redactor.text(reason)
        counts = told.get(COUNTS) or (_faults_of(item) if report.when == "call" else None)
        result: dict[str, Any] = {"status": status, "reason": reason, "failure": None, "counts": counts}
        if broke and status in FAILED:
            given = self.described[backend.id]["given"]
            result["failure"] = failure(item, report, raised, entry, backend, given, self.redactor)
        report.lockproof = result  # type: ignore[attr-defined]
        self.show(item, report, entry, result)
        return report

    def show(
        self, item: pytest.Item, report: pytest.TestReport, entry: gating.Entry, result: dict[str, Any]
    ) -> None:
        """What pytest prints of the report: a card for a suite's test, nothing secret for any test."""
        report.sections = [(title, self.redactor.text(text)) for title, text in report.sections]
        if result["status"] in {"xfail", "not-run"}:
            line = f"{result['status']}: {result['reason']}"
            report.longrepr = (str(item.path), (item.location[1] or 0) + 1, line)
            if result["status"] == "xfail":
                report.wasxfail = result["reason"]
        elif result["failure"] is not None and report.failed:
            lines = card({**entry, **result}, self.run, self.described[entry["backend"]], self.shown_folder)
            short = item.getparent(SuiteModule) is not None and self.config.getoption("tbstyle") == "auto"
            trace = [] if short else ["", self.redactor.text(report.longreprtext)]
            report.longrepr = "\n".join([*lines, *trace])
        elif result["status"] in {"xpass", "unknown"}:
            report.longrepr = result["reason"]
        elif report.failed and report.longrepr is not None:
            report.longrepr = self.redactor.text(report.longreprtext)
