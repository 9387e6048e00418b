"""Real `tofu` or `terraform` processes on a scope of the backend under test."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lockproof.driver import Locked, LockInfo
from lockproof.driver.command_line import HasCommandLine
from lockproof.driver.recorder import RecordedScope
from lockproof.spec.outcome import NotRun
from lockproof.suites.clients.adapter import Adapter

DEADLINE = 60.0
"""Seconds after which a client counts as stuck."""

RESOURCES = """
variable "v" { default = "0" }
variable "hold" { default = "" }
resource "terraform_data" "a" { input = var.v }
resource "terraform_data" "h" {
  depends_on       = [terraform_data.a]
  triggers_replace = var.hold
  provisioner "local-exec" {
    command = var.hold == "" ? "true" : "echo > ${var.hold}.in; read _ < ${var.hold}"
  }
}
output "v" { value = terraform_data.a.output }
"""
APPLY = ("-auto-approve", "-input=false")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
HTTP_BACKEND = 'terraform {\n  backend "http" {}\n}\n'


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code, and what it printed to either stream."""

    code: int
    text: str
    output: str

    def document(self) -> dict[str, Any]:
        """Standard output as JSON. Fails when there is none."""
        assert self.output.strip(), f"nothing on standard output:\n{self.text}"
        parsed: dict[str, Any] = json.loads(self.output)
        return parsed


class Workshop:
    """Clients of one state: each has a directory and an environment of its own.

    A scope that stock clients can use directly is used so, which takes the reference backend through
    its own gateway; any other through an `Adapter`. Raises `NotRun` without a binary.
    """

    def __init__(self, scope: RecordedScope, directory: Path) -> None:
        self.binary = find_binary()
        self.scope = scope
        self.directory = directory
        self.stack = ExitStack()
        self.probe = scope.client("probe")

    def __enter__(self) -> Self:
        inner = self.scope.scope
        with self.stack:
            if isinstance(inner, HasCommandLine):
                self.line = inner.command_line("default")
            else:
                adapter = self.stack.enter_context(Adapter(self.scope.client("adapter")))
                self.line = adapter.command_line("default")
            self.stack = self.stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stack.close()

    def client(self, name: str, *, init: bool = True) -> Stock:
        """A client with the usual configuration, initialised unless told otherwise."""
        client = Stock(self, name)
        (client.directory / "main.tf").write_text(RESOURCES)
        if init:
            client.use_backend()
            client.succeed("init", "-input=false")
        return client

    def holder(self) -> LockInfo | None:
        """Who holds the lock, as the driver learns it by trying."""
        try:
            lock_id = self.probe.lock("default", LockInfo.new("probe"))
        except Locked as refused:
            return refused.holder
        self.probe.unlock("default", lock_id)
        return None


class Stock:
    """One client: a directory, and the commands run in it."""

    def __init__(self, workshop: Workshop, name: str) -> None:
        self.workshop = workshop
        self.directory = workshop.directory / name
        self.directory.mkdir()

    def use_backend(self) -> None:
        """Configures the `http` backend, whose settings are in the environment."""
        (self.directory / "backend.tf").write_text(HTTP_BACKEND)

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Starts a command in a process group of its own, as a shell does."""
        path = os.pathsep.join([str(Path(self.workshop.binary).parent), "/usr/bin", "/bin"])
        environment = {
            "PATH": path,
            "HOME": str(self.directory),
            "TF_CLI_CONFIG_FILE": os.devnull,
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            **self.workshop.line.environment,
        }
        return subprocess.Popen(
            [*self.workshop.line.prefix, self.workshop.binary, *arguments],
            cwd=self.directory,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def run(self, *arguments: str) -> Outcome:
        """Runs a command to its end."""
        return finish(self.start(*arguments))

    def succeed(self, *arguments: str) -> Outcome:
        """Runs a command that must succeed."""
        outcome = self.run(*arguments)
        assert outcome.code == 0, f"{arguments[0]} exited with {outcome.code}:\n{outcome.text}"
        return outcome

    def apply(self, v: str, *arguments: str) -> Outcome:
        """`apply` with the value `v`."""
        return self.run("apply", *APPLY, f"-var=v={v}", *arguments)

    def pull(self) -> dict[str, Any]:
        """The state as `state pull` prints it."""
        return self.succeed("state", "pull").document()

    @contextmanager
    def held_apply(self, v: str) -> Iterator[HeldApply]:
        """An `apply` that has taken the lock and waits in a provisioner. Ended, however the test ends."""
        gate = self.directory / "gate"
        for path in (gate, Path(f"{gate}.in")):
            os.mkfifo(path)
        reader = os.open(f"{gate}.in", os.O_RDONLY | os.O_NONBLOCK)
        opener = os.open(gate, os.O_RDWR)
        process = self.start("apply", *APPLY, f"-var=v={v}", f"-var=hold={gate}")
        held = HeldApply(process, opener)
        try:
            ended = os.pidfd_open(process.pid)
            try:
                ready, _, _ = select.select([reader, ended], [], [], DEADLINE)
            finally:
                os.close(ended)
            assert reader in ready, f"apply did not reach its provisioner:\n{held.abort().text}"
            yield held
        finally:
            held.abort()
            for descriptor in (reader, opener):
                os.close(descriptor)
            for path in (gate, Path(f"{gate}.in")):
                path.unlink()


class HeldApply:
    """An `apply` in mid-course that holds the lock."""

    def __init__(self, process: subprocess.Popen[str], gate: int) -> None:
        self.process = process
        self.gate = gate

    def release(self) -> Outcome:
        """Lets it go on, to its end."""
        self.let_go()
        return self.finish()

    def let_go(self) -> None:
        """Lets it go on."""
        os.write(self.gate, b"\n")

    def finish(self) -> Outcome:
        """Waits for its end."""
        return finish(self.process)

    def interrupt(self) -> Outcome:
        """Ctrl-C, once, to the whole process group, and then its end."""
        os.killpg(self.process.pid, signal.SIGINT)
        return finish(self.process)

    def kill(self) -> None:
        """SIGKILL to the client and all that it started, as when the machine dies."""
        for pid in family(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        finish(self.process)

    def abort(self) -> Outcome:
        """Kills what is left of it."""
        if self.process.poll() is None:
            self.kill()
        return finish(self.process)


def find_binary() -> str:
    """The client on PATH. Raises `NotRun` when there is none."""
    found = shutil.which("tofu") or shutil.which("terraform")
    if found is None:
        raise NotRun("neither tofu nor terraform is on PATH")
    return found


def finish(process: subprocess.Popen[str], seen: str = "") -> Outcome:
    """Waits for the end; `seen` is output that was read already."""
    output, errors = process.communicate(timeout=DEADLINE)
    plain = [ESCAPES.sub("", text) for text in (seen + output, errors)]
    return Outcome(process.returncode, "\n".join(plain), plain[0])


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What the process prints until `text` has come. Fails when it ends or takes too long."""
    assert process.stdout is not None
    seen = ""
    while text not in seen:
        ready, _, _ = select.select([process.stdout], [], [], DEADLINE)
        piece = os.read(process.stdout.fileno(), 1 << 16).decode() if ready else ""
        assert piece, f"no {text!r} in:\n{finish(process, seen).text}"
        seen += piece
    return seen


def family(pid: int) -> list[int]:
    """The process and its descendants, parents first: a client killed after its provisioner would still
    have time to clean up."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found
