"""Clients that are processes of their own, so that they can be killed, stopped and continued."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from typing import Any, cast

from lockproof.chaos.process_nemeses import NEMESES as NEMESES
from lockproof.chaos.process_nursery import NURSERY, PATIENCE, Child, ProcessGone
from lockproof.chaos.process_steps import Halt, Steps
from lockproof.driver.api import Address, Client, Driver, LockInfo, Snapshot
from lockproof.driver.errors import DriverError, Locked, LockMismatch, NotLocked
from lockproof.driver.recorder import RecordedClient, RecordedScope, defect
from lockproof.history.faults import START, STOP
from lockproof.history.writer import HARNESS
from lockproof.spec.outcome import Unknown

REFUSALS: Mapping[str, Callable[..., DriverError]] = {
    refusal.__name__: refusal for refusal in (Locked, LockMismatch, NotLocked)
}
Reach = Callable[[str], None]
"""Called before each step of a call, with its name."""
Make = Callable[[Any, str, Reach], Client]
"""Makes a client of a scope, by its name, which calls back before each of its steps."""
FAREWELL = 5.0
"""Seconds that a client has to close before it is killed."""


@dataclass(frozen=True)
class Request:
    """One call that the process is to make; `halt` is what happens to it meanwhile, and with `watch` the
    steps of the call are told with its outcome."""

    f: str
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    watch: bool = False
    halt: Halt | None = None


@dataclass(frozen=True)
class Told:
    """What became of a call: what it returned, or the error that it raised; and its steps, if watched."""

    out: Any = None
    error: Mapping[str, Any] | None = None
    refusal: str = ""
    steps: Sequence[str] = ()


class ProcessClient:
    """A `lockproof.driver.Client` whose calls are made in another process, attached to the open scope
    `scope` by its name; for one thread at a time, as every client.

    `connect` makes the driver over there and must pickle; `links` are the addresses that it uses instead of
    the driver's own. `make`, which must pickle, makes the client over there; its steps count then, instead of
    calls into the operating system. A call whose process ends in it raises kind `unavailable`, not definite;
    a call after its end the same, definite. Raises `Unknown` when the process cannot be started and
    `DriverError` when it cannot attach.
    """

    def __init__(
        self,
        connect: Callable[[], Driver],
        scope: str,
        who: str,
        links: Mapping[str, Address] | None = None,
        make: Make | None = None,
    ) -> None:
        self.who = who
        self.steps: Sequence[str] = ()
        self._watch = False
        self._halt: Halt | None = None
        self._begun = threading.Event()
        try:
            self.child: Child = NURSERY.fork(serve_client, connect, scope, who, links, make)
        except ProcessGone as error:
            raise Unknown(f"a process for {who} cannot be started: {error}") from error
        if not self.child.connection.poll(PATIENCE):
            self.child.close()
            raise Unknown(f"the process of {who} did not answer within {PATIENCE:g} s")
        try:
            self._outcome()
        except DriverError:
            self.child.close()
            raise

    def get(self, workspace: str) -> Snapshot | None:
        return cast("Snapshot | None", self._call("get", workspace))

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        self._call("put", workspace, data, lock_id=lock_id)

    def delete(self, workspace: str) -> None:
        self._call("delete", workspace)

    def lock(self, workspace: str, info: LockInfo) -> str:
        return cast("str", self._call("lock", workspace, info))

    def unlock(self, workspace: str, lock_id: str) -> None:
        self._call("unlock", workspace, lock_id)

    def workspaces(self) -> Sequence[str]:
        return cast("Sequence[str]", self._call("workspaces"))

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        self._call("delete_workspace", workspace, force=force)

    def close(self) -> None:
        """Ends the process as a program ends, and kills one that does not end, or stands still."""
        try:
            if not self.child.ended and not self.child.stopped:
                self.child.connection.send(Request("close", (), {}))
                self.child.wait(FAREWELL)
        except OSError:
            return  # ended meanwhile
        finally:
            self.child.close()

    # --- what is done to the process

    def fork(self) -> None:
        """The process forks, as a program does that starts another one by hand; the fork, which has all that
        the process has open, ends at once as any Python does."""
        self._call("fork")

    def watch(self) -> None:
        """After the next call `steps` holds what it consisted of."""
        self._watch = True

    def halt(self, halt: Halt) -> None:
        """What happens to the process in its next call."""
        self._halt = halt

    def await_begun(self, timeout: float = PATIENCE) -> None:
        """Waits until the process was given the call that another thread makes. Raises `TimeoutError`."""
        if not self._begun.wait(timeout):
            raise TimeoutError(f"{self.who} made no call within {timeout:g} s")

    def signal(self, number: int) -> None:
        """Sends a signal to the process. Raises `ProcessGone` when it has ended."""
        self.child.signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone. Harmless when it has gone already."""
        if not self.child.ended:
            self.child.signal(SIGKILL)
            self.child.wait(PATIENCE)

    def pause(self) -> None:
        """SIGSTOP; returns when the process stands still. Raises `ProcessGone`."""
        self.child.signal(SIGSTOP)
        self.child.await_stopped()

    def await_paused(self, timeout: float = PATIENCE) -> None:
        """Waits until a `halt` has stopped the process. Raises `ProcessGone` and `TimeoutError`."""
        self.child.await_stopped(timeout)

    def resume(self) -> None:
        """SIGCONT. Raises `ProcessGone`."""
        self.child.signal(SIGCONT)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.child.ended

    def await_end(self, timeout: float = PATIENCE) -> None:
        """Waits until the process is gone. Raises `TimeoutError`."""
        if not self.child.wait(timeout):
            raise TimeoutError(f"the process of {self.who} did not end within {timeout:g} s")

    def _call(self, f: str, *args: Any, **keywords: Any) -> Any:
        request = Request(f, args, keywords, self._watch, self._halt)
        self._watch, self._halt = False, None
        if self.child.ended:
            raise DriverError("unavailable", True, f"the process of {self.who} has ended")
        try:
            self.child.connection.send(request)
            self._begun.set()
            return self._outcome()
        except (EOFError, OSError):
            self.child.wait(FAREWELL)
            raise DriverError("unavailable", False, f"the process of {self.who} ended in the call") from None
        finally:
            self._begun.clear()

    def _outcome(self) -> Any:
        told: Told = self.child.connection.recv()
        self.steps = told.steps
        if told.error is not None:
            raise _error(told)
        return told.out


class RecordedProcess(RecordedClient):
    """A `RecordedClient` whose calls are made by `process`; what is done to it stands in the history."""

    def __init__(self, process: ProcessClient, scope: RecordedScope) -> None:
        super().__init__(process, process.who, scope.history, scope.timeout)
        self.process = process

    @property
    def gone(self) -> bool:
        """Also when the process has ended."""
        return super().gone or self.process.ended

    def close(self) -> None:
        """The process ends, also one that is stuck in a call."""
        try:
            super().close()
        finally:
            self.process.child.close()

    def signal(self, number: Signals) -> None:
        """Sends a signal. Raises `ProcessGone`."""
        self._fault(f"process.{number.name.lower()}")
        self.process.signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self._fault("process.sigkill")
        self.process.kill()

    def halt(self, halt: Halt) -> None:
        """What happens to the process in its next call; see `Halt`."""
        given = {"step": halt.step, "seconds": halt.seconds}
        self._fault(f"process.{Signals(halt.number).name.lower()}", **given)
        self.process.halt(halt)

    def fork(self) -> None:
        """The process forks, and the fork ends at once."""
        self._fault("process.fork")
        self.process.fork()

    def pause(self) -> None:
        """SIGSTOP; returns when the process stands still. Raises `ProcessGone`."""
        self._fault("process.stopped", phase=START)
        self.process.pause()

    def resume(self) -> None:
        """SIGCONT. Raises `ProcessGone`."""
        self.process.resume()
        self._fault("process.stopped", phase=STOP)

    def _fault(self, name: str, **given: Any) -> None:
        self._history.append(HARNESS, "fault", name, given={**given, "on": self.who})


def start_process(
    connect: Callable[[], Driver],
    scope: RecordedScope,
    who: str,
    links: Mapping[str, Address] | None = None,
    make: Make | None = None,
) -> RecordedProcess:
    """A client of the open `scope` in a process of its own, recorded, and closed with the scope."""
    recorded = RecordedProcess(ProcessClient(connect, scope.name, who, links, make), scope)
    scope.clients.append(recorded)
    return recorded


# --- in the process


def serve_client(
    connection: Connection,
    connect: Callable[[], Driver],
    scope: str,
    who: str,
    links: Mapping[str, Address] | None,
    make: Make | None,
) -> None:
    """Makes the calls that come through `connection`, until a farewell comes or nobody is there any more."""
    steps = Steps(None)

    def reach(name: str) -> None:
        steps.reach(name)

    try:
        attached = connect().open_scope(scope, links, attach=True)
        attached.__enter__()
        client = attached.client(who) if make is None else make(attached, who, reach)
    except Exception as error:  # noqa: BLE001 - told to whoever wanted the client
        connection.send(_failed(error))
        return
    connection.send(Told())
    while True:
        try:
            request: Request = connection.recv()
        except EOFError:
            return
        steps = Steps(request.halt)
        try:
            call = fork_and_end if request.f == "fork" else getattr(client, request.f)
            if request.watch or request.halt is not None:
                with steps.watched(profiled=make is None):
                    out = call(*request.args, **request.keywords)
            else:
                out = call(*request.args, **request.keywords)
            told = Told(out, steps=steps.names)
        except Exception as error:  # noqa: BLE001 - told to the caller, as the driver raised it
            told = _failed(error)
        connection.send(told)
        if request.f == "close":
            os._exit(0)  # there is nothing to tear down that the end of a process does not


def fork_and_end() -> None:
    """Forks, lets the fork unwind and run its exit handlers, and waits for that."""
    pid = os.fork()
    if not pid:
        raise SystemExit
    os.waitpid(pid, 0)


def _failed(error: Exception) -> Told:
    if not isinstance(error, DriverError):
        error = defect(error)
    return Told(error=error.to_json(), refusal=type(error).__name__)


def _error(told: Told) -> DriverError:
    """The error as it was raised over there."""
    assert told.error is not None
    message = told.error.get("message", "")
    if told.refusal in REFUSALS:
        error = REFUSALS[told.refusal](message)
    else:
        error = DriverError(told.error["kind"], told.error["definite"], message)
    holder = told.error.get("holder")
    error.holder = None if holder is None else LockInfo.from_json(holder)
    return error
