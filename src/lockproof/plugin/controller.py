"""The process that the user started: it starts the backends, collects the results, writes the report."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import secrets
import signal
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lockproof
from lockproof.certificate.manifest import suite_files
from lockproof.driver.registry import BackendSpec
from lockproof.plugin import expectations, services, terminal
from lockproof.plugin.collect import suite_root
from lockproof.plugin.session import MANIFEST, Session
from lockproof.report import github, publish
from lockproof.report.events import VERSION, EventLog
from lockproof.report.folder import EVENTS, FolderError, create
from lockproof.report.status import BAD
from lockproof.spec import requirements_digest

CARDS = 10
CRASHED = "???"


class Controller:
    """Hooks of the controller. Without xdist it shares its process with the `Session`."""

    def __init__(self, config: pytest.Config, run: Session) -> None:
        self.config = config
        self.run = run
        self.specs: Sequence[BackendSpec] = services.specifications(run.settings)
        self.stack = ExitStack()
        config.add_cleanup(self.stack.close)
        self.log: EventLog | None = None
        self.sent: dict[str, Any] = {}
        self.remark = ""
        self.manifest: dict[str, Any] = {}
        self.expected: dict[str, Mapping[str, Any]] = {}
        self.phases: dict[str, dict[str, Any]] = {}
        self.statuses: dict[str, str] = {}
        self.cards = 0
        self.report: dict[str, Any] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self) -> Generator[None, None, None]:
        """Before the header is printed and before a worker starts."""
        self.begin()
        return (yield)

    def begin(self) -> None:
        run, settings = self.run, self.run.settings
        self.stop_on_termination()
        cwd = self.config.invocation_params.dir
        wanted: Sequence[expectations.Expectation] = ()
        if settings.expect is not None:
            wanted = expectations.load(cwd / settings.expect, datetime.date.today())
        started = datetime.datetime.now(datetime.UTC)
        run_id = secrets.token_hex(3)
        begun = []
        for spec in self.specs:
            service, driver = services.start(spec, settings, self.stack, run.redactor)
            begun.append((spec, service, driver))
        folder = self.make_folder(run_id, started, cwd)
        self.sent = {
            "settings": settings.to_json(),
            "services": [service.to_json() for _, service, _ in begun],
            "described": [self.describe(spec, service) for spec, service, _ in begun],
            "expectations": [asdict(entry) for entry in wanted],
            "secrets": sorted(run.redactor.values),
            "directory": str(cwd),
            "folder": str(folder),
            "shown_folder": str(folder.relative_to(cwd) if folder.is_relative_to(cwd) else folder),
            "run": self.facts(run_id, started),
        }
        run.receive(self.sent, [driver for _, _, driver in begun])
        self.log = self.stack.enter_context(EventLog(folder / EVENTS))
        self.log.append(
            "start",
            v=VERSION,
            suite={
                "name": "lockproof",
                "version": lockproof.__version__,
                "requirements": requirements_digest(),
                "files": dict(suite_files()),
            },
            run=self.sent["run"],
            backends=self.sent["described"],
        )

    def make_folder(self, run_id: str, started: datetime.datetime, cwd: Path) -> Path:
        if self.config.getoption("collectonly"):
            return Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            folder, self.remark = create(self.run.settings.report, run_id, started, cwd)
        except FolderError as failure:
            raise pytest.UsageError(str(failure)) from None
        return folder

    def describe(self, spec: BackendSpec, service: services.Service) -> dict[str, Any]:
        """A backend as the report names it. `given` are the user's options, `options` all of them."""
        info = asdict(service.info)
        target = info.pop("target")
        given = {name: value for name, value in spec.options.items() if name not in {"variant", "address"}}
        return {
            "id": service.id,
            "target": target,
            "driver": info,
            "capabilities": {"declared": list(service.declared), "disabled": list(service.disabled)},
            "given": self.run.redactor.options(given),
            "options": self.run.redactor.options(service.spec.options),
        }

    def facts(self, run_id: str, started: datetime.datetime) -> dict[str, Any]:
        settings = self.run.settings
        places = {str(suite_root()): "suites", str(self.config.invocation_params.dir): "."}
        arguments = ["pytest", *map(str, self.config.invocation_params.args)]
        for place, name in places.items():  # a report tells nobody where its author keeps things
            path = re.compile(rf"(?<![\w./-]){re.escape(place)}(?=/|$)")
            arguments = [path.sub(name, argument) for argument in arguments]
        return {
            "id": run_id,
            "started": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "argv": self.run.redactor.arguments(arguments),
            "seed": settings.seed,
            "tier": settings.tier,
            "suites": list(settings.suite),
            "clients": settings.clients,
            "faults": list(settings.faults),
            "duration": settings.duration,
            "allow_destructive": settings.allow_destructive,
            "timeout": settings.timeout,
            "own_postgres": settings.postgres is not None,
            "workers": len(getattr(self.config.option, "tx", None) or []),
            "python": platform.python_version(),
            "platform": platform.platform(),
        }

    def stop_on_termination(self) -> None:
        """A polite kill stops the run as Ctrl-C does, so that nothing that was started stays behind."""
        alone = threading.current_thread() is threading.main_thread()
        if alone and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            self.stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)

    def pytest_report_header(self) -> list[str]:
        lines = terminal.header(self.sent["described"], self.run.settings, self.sent["shown_folder"])
        return [*lines, f"lockproof: {self.remark}"] if self.remark else lines

    def pytest_report_collectionfinish(self) -> str:
        return terminal.applicable(self.manifest)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["lockproof"] = self.sent

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        if self.manifest:
            return
        self.expect(json.loads((self.run.folder / MANIFEST).read_text(encoding="utf-8")))
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and reporter.verbosity >= 0:
            reporter.ensure_newline()
            reporter.write_line(terminal.applicable(self.manifest))

    def expect(self, manifest: dict[str, Any]) -> None:
        """Takes the list of all tests that a complete run would have results of."""
        if manifest["unmatched"]:
            raise pytest.UsageError("; ".join(manifest["unmatched"]))
        self.manifest = manifest
        self.expected = {test["id"]: test for test in manifest["tests"]}
        assert self.log is not None
        self.log.append("manifest", **{k: manifest[k] for k in ("tests", "out_of_scope", "narrowed")})
        for test in manifest["tests"]:
            if test["state"] == "error":
                self.decide(test, {"status": "error", "reason": test["reason"], "failure": None}, 0.0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            report.longrepr = self.run.redactor.text(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = self.expected.get(report.nodeid)
        if test is None:
            return
        state = self.phases.setdefault(report.nodeid, {"duration": 0.0, "found": None})
        state["duration"] += report.duration
        phase = getattr(report, "lockproof", None)
        if report.when == CRASHED or phase is None:
            reason = self.run.redactor.text(report.longreprtext.strip())
            state["found"] = {"status": "error", "reason": reason, "failure": None}
        elif phase["status"]:
            state["found"] = combine(state["found"], phase)
        if report.failed and isinstance(report.longrepr, str):
            self.cards += 1
            if self.cards > CARDS:
                report.longrepr = report.longrepr.splitlines()[0] + "  (see report.md)"
            else:
                report.longrepr = Shown(report.longrepr)  # type: ignore[assignment]
        if report.when in {"teardown", CRASHED}:
            del self.phases[report.nodeid]
            found = state["found"] or {
                "status": "error",
                "reason": "no outcome was reported",
                "failure": None,
            }
            self.decide(test, found, state["duration"])

    def decide(self, test: Mapping[str, Any], found: Mapping[str, Any], duration: float) -> None:
        """Writes the one result of a test on a backend."""
        self.statuses[test["id"]] = found["status"]
        assert self.log is not None
        named = {key: test[key] for key in ("id", "test", "backend", "requirements", "sentence")}
        self.log.append("result", **named, **found, duration=round(duration, 6))

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        phase = getattr(report, "lockproof", None)
        return terminal.letter(phase["status"]) if phase is not None else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        self.finish(session)
        yield
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if self.report:
            shown, echo = self.sent["shown_folder"], getattr(reporter, "write_line", print)
            if reporter is not None:
                reporter.ensure_newline()
            github.tell(self.report, shown, self.config.rootpath, os.environ, echo)
            echo(f"lockproof report: {shown}/report.md")

    def finish(self, session: pytest.Session) -> None:
        """Settles the exit code and writes the reports."""
        if self.log is None or self.config.getoption("collectonly"):
            return
        ended = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        if ended and BAD.intersection(self.statuses.values()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.log.append("finish", time=finished, exit=int(session.exitstatus))
        self.log.close()
        (self.run.folder / MANIFEST).unlink(missing_ok=True)  # a worker's message; the events have it
        self.report = publish(self.log.events, Path(self.sent["folder"]), self.sent["shown_folder"])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.report:
            terminal.summary(terminalreporter, self.report, self.manifest, self.sent["shown_folder"])


def combine(earlier: dict[str, Any] | None, later: dict[str, Any]) -> dict[str, Any]:
    """The outcome of set-up and call together with that of tear-down. A violation that was seen stays
    one when tear-down breaks as well."""
    if earlier is None:
        return later
    if earlier["status"] in {"pass", "skip", "disabled", "not-run"}:
        return later
    reason = "; ".join(part for part in (earlier["reason"], later["reason"]) if part)
    return {**earlier, "reason": reason}


class Shown:
    """A failure card: whole where failures are shown, one line in pytest's short summary, which in CI
    would print all of it once more."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.reprcrash = SimpleNamespace(message=text.partition("\n")[0])

    def __str__(self) -> str:
        return self.text

    def toterminal(self, writer: Any) -> None:
        """As pytest asks a failure to write itself."""
        writer.line(self.text)
