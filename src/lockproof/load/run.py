"""One load run from its start to its verdict."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lockproof.checkers import Verdict, check_merged
from lockproof.driver.api import Capabilities, DriverInfo, Scope
from lockproof.history import HistoryError
from lockproof.load import report
from lockproof.load.cost import counting
from lockproof.load.measure import Measured, measure
from lockproof.load.plan import Plan
from lockproof.report.redact import Redactor

EXIT: Mapping[str, int] = {"valid": 0, "violated": 1, "unknown": 2}
PREFIX = "lockproof: "
LOCUST_ENVIRONMENT = "LOCUST_"


class LoadError(ValueError):
    """A run that cannot be made; the message is one line for the user."""


@dataclass(frozen=True)
class Network:
    """Where a distributed run meets, and locust's page (`web_port`; `None`: headless)."""

    host: str = "127.0.0.1"
    port: int = 5557
    web_port: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a run: its report, and what that was made of."""

    document: Mapping[str, Any]
    measured: Measured
    verdict: Verdict


def drive(
    plan: Plan,
    info: DriverInfo,
    scope: Scope | None,
    network: Network,
    redactor: Redactor,
    command: str,
    echo: Callable[[str], None],
) -> Outcome:
    """Runs the users, waits for their end (Ctrl-C ends them earlier), judges the histories and writes the
    report into `plan.folder`. `scope` is the one that the users attach to, where this process has it open."""
    plan.histories.mkdir(parents=True, exist_ok=True)
    count = counting(scope, Capabilities(plan.capabilities))
    with tempfile.TemporaryDirectory(prefix="lockproof-load-") as private:
        path = Path(private) / "plan.json"
        plan.write(path)
        _locust(plan, path, network, redactor, echo)
    outcome = judge(plan, info, command, lambda n: count.per_acquisition(n) if count else None)
    report.write(Path(plan.folder), outcome.document, outcome.measured)
    return outcome


def judge(
    plan: Plan, info: DriverInfo, command: str, cost: Callable[[int], Mapping[str, Any] | None]
) -> Outcome:
    """The verdict and the figures of the histories in `plan.folder`."""
    paths = sorted(plan.histories.glob("*.jsonl"))
    try:
        verdict = _verdict(plan, paths)
        measured = measure(paths)
    except HistoryError as error:
        verdict, measured = Verdict("unknown", f"the histories cannot be judged: {error}"), Measured()
    made = cost(measured.granted.total())
    return Outcome(report.build(plan, info, command, measured, verdict, made), measured, verdict)


def worker(plan: Plan, network: Network, redactor: Redactor, echo: Callable[[str], None]) -> None:
    """Drives users for a master elsewhere, who judges their histories."""
    plan.histories.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lockproof-load-") as private:
        path = Path(private) / "plan.json"
        plan.write(path)
        _locust(plan, path, network, redactor, echo)


def _verdict(plan: Plan, paths: Sequence[Path]) -> Verdict:
    if not paths:
        return Verdict("unknown", "nothing to judge: no history was written")
    stream, verdict = check_merged(paths)
    if not stream.counted:
        return Verdict("unknown", "nothing to judge: no operation was recorded")
    if verdict.status == "valid" and len(paths) < plan.workers:
        missing = plan.workers - len(paths)
        return replace(
            verdict, status="unknown", headline=f"{missing} of {plan.workers} histories are missing"
        )
    return verdict


def _locust(
    plan: Plan, path: Path, network: Network, redactor: Redactor, echo: Callable[[str], None]
) -> None:
    """Runs locust to its end. Its own output goes to `locust.log`; raises `LoadError` where it fails."""
    command = [sys.executable, "-m", "lockproof.load.process", str(path), *_arguments(plan, network)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(LOCUST_ENVIRONMENT)}
    with (
        (Path(plan.folder) / "locust.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,  # Ctrl-C is ours: we end the users in order
        ) as process,
        _interruptible(process, echo),
    ):
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            shown = redactor.text(line.rstrip("\n"))
            if shown.startswith(PREFIX):
                echo(shown.removeprefix(PREFIX))
            else:
                log.write(shown + "\n")
                last = shown.strip() or last
        code = process.wait()
    if code not in {0, -signal.SIGTERM}:
        raise LoadError(f"locust ended with code {code}: {last}; see {plan.folder}/locust.log")


@contextmanager
def _interruptible(process: subprocess.Popen[str], echo: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C ends the run, the second one kills its processes."""

    def interrupt(*_: object) -> None:
        if interrupted:
            os.killpg(process.pid, signal.SIGKILL)
            return
        interrupted.append(True)
        echo("stopping: jobs in progress are finished, and what was recorded is judged (Ctrl-C again kills)")
        process.terminate()

    interrupted: list[bool] = []
    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _arguments(plan: Plan, network: Network) -> list[str]:
    arguments = ["--stop-timeout=1", "--only-summary", "--loglevel=WARNING", "--exit-code-on-error=0"]
    if plan.role == "worker":
        arguments += ["--worker", f"--master-host={network.host}", f"--master-port={network.port}"]
        return [*arguments, *([f"--processes={plan.processes}"] if plan.processes > 1 else [])]
    arguments += [f"--users={plan.users}", f"--spawn-rate={plan.spawn_rate:g}"]
    if network.web_port is None:
        arguments += ["--headless"]
    else:
        arguments += ["--autostart", "--web-host=127.0.0.1", f"--web-port={network.web_port}"]
    if plan.role == "master":
        arguments += ["--master", f"--master-bind-host={network.host}", f"--master-bind-port={network.port}"]
        return [*arguments, f"--expect-workers={plan.workers}"]
    if plan.processes > 1:
        port = _free_port()
        arguments += [
            f"--processes={plan.processes}",
            "--master-bind-host=127.0.0.1",
            "--master-host=127.0.0.1",
        ]
        arguments += [f"--master-bind-port={port}", f"--master-port={port}"]
    return arguments


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def started(stack: ExitStack, plan: Plan) -> Scope | None:
    """The key space of the run, opened here where other processes can attach to it."""
    if not plan.attach:
        return None
    return stack.enter_context(plan.spec.connect().open_scope(plan.scope))
