"""From what pytest saw of a test to one of the ten statuses, with a failure that can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lockproof.driver.errors import DriverError
from lockproof.history.writer import HistoryWriter
from lockproof.plugin.expectations import Expectation
from lockproof.plugin.fixtures import Backend
from lockproof.plugin.gating import Entry
from lockproof.report.operations import relevant
from lockproof.report.program import program
from lockproof.report.redact import Redactor
from lockproof.spec.outcome import NotRun, Unknown

LONGEST = 4000


def judge(
    report: pytest.TestReport,
    raised: BaseException | None,
    entry: Entry,
    expected: Sequence[Expectation],
) -> tuple[str, str]:
    """Status and reason of one phase (set-up, call, tear-down) of a test; status `""` when the phase
    decides nothing. Makes the report's outcome agree with the status, so that pytest counts alike."""
    if report.when == "setup" and entry["state"] in {"skip", "disabled"} and report.skipped:
        return entry["state"], entry["reason"]
    if report.skipped:
        marked = getattr(report, "wasxfail", None)
        return ("skip", _skip_reason(report)) if marked is None else ("xfail", marked)
    if report.when == "teardown":
        return ("error", "tear-down failed") if report.failed else ("", "")
    if report.failed:
        status, reason = _failed(report, raised)
    elif report.when == "setup":
        return "", ""
    else:
        status, reason = ("xpass", report.wasxfail) if hasattr(report, "wasxfail") else ("pass", "")
    status, reason = _against(expected, status, reason)
    report.outcome = _outcome(status)
    return status, reason


def _failed(report: pytest.TestReport, raised: BaseException | None) -> tuple[str, str]:
    if isinstance(raised, NotRun):
        return "not-run", str(raised)
    leaves = _leaves(raised)
    if report.when == "setup":
        only_unknown = bool(leaves) and all(isinstance(leaf, Unknown) for leaf in leaves)
        return ("unknown", str(raised)) if only_unknown else ("error", "set-up failed")
    if any(_speaks_of_the_backend(leaf) for leaf in leaves):
        return "fail", ""
    if leaves and all(isinstance(leaf, Unknown) for leaf in leaves):
        return "unknown", "; ".join(str(leaf) for leaf in leaves)
    if raised is None:  # a strict xfail mark that passed: pytest fails the report without an exception
        return "xpass", str(report.longrepr)
    return "error", f"the test itself broke: {type(raised).__name__}"


def _speaks_of_the_backend(error: BaseException) -> bool:
    """An assertion, a driver's error, or the backend's own error (it says whether it is `definite`).
    Anything else means that the test or the infrastructure broke: that accuses no backend."""
    return isinstance(error, AssertionError | pytest.fail.Exception | DriverError) or isinstance(
        getattr(error, "definite", None), bool
    )


def _against(expected: Sequence[Expectation], status: str, reason: str) -> tuple[str, str]:
    for entry in expected:
        if entry.kind == "flaky" and status in {"pass", "fail", "unknown"}:
            return "flaky", f"{entry.text()}; this time: {status}"
        if entry.kind == "fail" and status == "fail":
            return "xfail", entry.text()
        if entry.kind == "fail" and status == "pass":
            return "xpass", f"passes, but {entry.where} expects it to fail: {entry.text()}; remove the entry"
    return status, reason


def _outcome(status: str) -> Any:
    if status in {"pass", "flaky"}:
        return "passed"
    return "skipped" if status in {"xfail", "not-run", "skip"} else "failed"


def _leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [] if error is None else [error]


def _skip_reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr or "skipped")


def failure(
    item: pytest.Item,
    report: pytest.TestReport,
    raised: BaseException | None,
    entry: Entry,
    backend: Backend,
    given: Mapping[str, str],
    redactor: Redactor,
) -> dict[str, Any]:
    """What a reader needs to understand a failure: plain data, without secrets. `given` are the options of
    the backend as the report shows them."""
    leaves = _leaves(raised)
    own = next((leaf.history for leaf in leaves if hasattr(leaf, "history")), None)
    writer = own or (getattr(item, "funcargs", None) and item.funcargs.get("history"))  # type: ignore[attr-defined]
    recorded = writer if isinstance(writer, HistoryWriter) else None
    calls = next((leaf.program for leaf in leaves if hasattr(leaf, "program")), ())
    title = f"{', '.join(entry['requirements'])}: {raised}"
    witness = next(filter(None, (getattr(leaf, "witness", ()) for leaf in leaves)), ())
    crash = getattr(report.longrepr, "reprcrash", None)
    observed = crash.message if crash is not None else str(report.longrepr or "")
    place = f"{item.nodeid.partition('::')[0]}:{_line_in(item, raised)}"
    return {
        "phase": report.when,
        "expected": entry["sentence"],
        "observed": redactor.text(observed)[:LONGEST],
        "where": place,
        "operations": [redactor.text(line) for line in relevant(recorded.history(), witness)]
        if recorded
        else [],
        "history": recorded.path.name if recorded and recorded.path else "",
        "program": redactor.text(program(title, backend.id, given, calls)) if calls else "",
        "traceback": redactor.text(report.longreprtext)[-4 * LONGEST :],
    }


def _line_in(item: pytest.Item, raised: BaseException | None) -> int:
    """The last line of the test's own file that the exception came through."""
    line = (item.location[1] or 0) + 1
    trace = raised.__traceback__ if raised is not None else None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(item.path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
