"""One user of a load run: a person or a pipeline that runs `tofu`, again and again."""

from __future__ import annotations

import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar, cast

from lockproof.driver.api import Client, LockInfo
from lockproof.driver.errors import DriverError, Locked
from lockproof.driver.recorder import RecordedClient
from lockproof.driver.waiting import WallClock, lock_with_backoff
from lockproof.history.writer import HARNESS, HistoryWriter
from lockproof.load.plan import Plan
from lockproof.load.scenarios import SCENARIOS, Job
from lockproof.spec.statefile import document, tofu_bytes

T = TypeVar("T")

AFTER_FAILURE = 1.0
HEAD = re.compile(rb'"serial":(\d+),"lineage":"([^"]+)"')


class Stopped(Exception):
    """The run ends while somebody waits for a lock."""


@dataclass(frozen=True)
class Sample:
    """One call, or a whole `job`, as locust counts it: milliseconds, and what went wrong with it."""

    kind: str
    name: str
    ms: float
    error: DriverError | None = None


class StoppableClock(WallClock):
    """Real time whose pauses end when the run does: then they raise `Stopped`.

    A pause is at most `longest` seconds, where that is given.
    """

    def __init__(self, stop: threading.Event, longest: float | None) -> None:
        self._stop = stop
        self._longest = longest

    def pause(self, seconds: float) -> None:
        if self._stop.wait(min(seconds, self._longest or math.inf)):
            raise Stopped


class Operator:
    """Does one job after the other with a client of its own; a new one after a call that overran.

    Whatever a job's outcome, its lock is released, at the latest at the start of the next job. `open_client`
    makes a client of this name; `stop` ends waiting.
    """

    def __init__(
        self,
        who: str,
        plan: Plan,
        open_client: Callable[[str], RecordedClient],
        history: HistoryWriter,
        stop: threading.Event,
    ) -> None:
        self.who = who
        self._plan = plan
        self._open = open_client
        self._history = history
        self._stop = stop
        self._clock = StoppableClock(stop, plan.retry_every)
        self._rng = random.Random(f"{plan.seed}:{who}")
        self._client: RecordedClient | None = None
        self._left: list[tuple[str, str, str]] = []
        self._samples: list[Sample] = []

    def work(self, due: int | None) -> list[Sample]:
        """Does the next job, which was due at `due` of the monotonic clock (closed load: `None`, now)."""
        self._samples = []
        began = time.monotonic_ns()
        due = began if due is None else due
        job = SCENARIOS[self._plan.scenario].draw(self._rng, self._plan.users)
        outcome, error = "done", None
        try:
            self._do(job)
        except Stopped:
            outcome = "stopped"
        except DriverError as failure:
            outcome, error = ("refused" if isinstance(failure, Locked) else "failed"), failure
        start = self._history.header["start"]
        given = {
            "who": self.who,
            "kind": job.kind,
            "due": due - start,
            "began": began - start,
            "outcome": outcome,
        }
        self._history.append(HARNESS, "note", "job", ws=job.workspace, given=given)
        if outcome != "stopped":
            self._samples.append(Sample("job", job.kind, (time.monotonic_ns() - due) / 1e6, error))
        if outcome == "failed":
            self._stop.wait(AFTER_FAILURE)  # a backend that is down is not asked in a busy loop
        return self._samples

    def _do(self, job: Job) -> None:
        client = self._ready()
        self._release_left(client)
        if job.kind == "init":
            self._call("workspaces", client.workspaces)
        if job.kind in {"init", "output"}:
            self._call("get", lambda: client.get(job.workspace))
            return
        with self._locked(client, job) as lock_id:
            snapshot = self._call("get", lambda: client.get(job.workspace))
            if job.kind == "apply":
                data = following(snapshot.data if snapshot else b"", job.size)
                self._call("put", lambda: client.put(job.workspace, data, lock_id=lock_id))

    def _ready(self) -> RecordedClient:
        if self._client is None or self._client.gone:
            try:
                self._client = self._open(self.who)
            except DriverError:
                raise
            except Exception as error:
                message = f"no client could be opened: {type(error).__name__}: {error}"
                raise DriverError("internal", True, message) from error
        return self._client

    @contextmanager
    def _locked(self, client: RecordedClient, job: Job) -> Iterator[str]:
        lock_id = self._take(client, job)
        try:
            yield lock_id
        except DriverError:
            with suppress(DriverError):
                self._release(client, job.workspace, lock_id)
            raise
        self._release(client, job.workspace, lock_id)

    def _take(self, client: RecordedClient, job: Job) -> str:
        operation = "OperationTypeApply" if job.kind == "apply" else "OperationTypePlan"
        info = LockInfo.new(self.who, operation, job.workspace)
        patience = math.inf if self._plan.lock_timeout is None else self._plan.lock_timeout
        asking = cast("Client", _Asking(client, self._call))
        try:
            return lock_with_backoff(asking, job.workspace, info, timeout=patience, clock=self._clock)
        except DriverError as error:
            if not error.definite or (error.holder is not None and error.holder.Info == info.Info):
                self._left.append((job.workspace, info.ID, info.Info))
            raise

    def _release(self, client: RecordedClient, workspace: str, lock_id: str) -> None:
        try:
            self._call("unlock", lambda: client.unlock(workspace, lock_id))
        except DriverError as error:
            if not error.definite or client.gone:
                self._left.append((workspace, lock_id, ""))
            raise

    def _release_left(self, client: RecordedClient) -> None:
        """Releases what earlier jobs may have left locked, as its owner does by force-unlock."""
        for left in list(self._left):
            workspace, lock_id, token = left
            try:
                client.unlock(workspace, lock_id)
            except DriverError as error:
                holder = error.holder
                if holder is not None and token and holder.Info == token and holder.ID != lock_id:
                    client.unlock(workspace, holder.ID)
                elif not error.definite or client.gone:
                    raise
            self._left.remove(left)

    def _call(self, name: str, call: Callable[[], T]) -> T:
        began, error = time.perf_counter(), None
        try:
            return call()
        except DriverError as failure:
            error = failure
            raise
        finally:
            refused = error is not None and error.kind == "locked"
            ms = (time.perf_counter() - began) * 1000
            self._samples.append(
                Sample("call", f"{name} (held)" if refused else name, ms, None if refused else error)
            )


class _Asking:
    """Of a client what `lock_with_backoff` uses, its attempts counted."""

    def __init__(self, client: RecordedClient, call: Callable[[str, Callable[[], str]], str]) -> None:
        self._client = client
        self._call = call

    def lock(self, workspace: str, info: LockInfo) -> str:
        """One attempt."""
        return self._call("lock", lambda: self._client.lock(workspace, info))


def following(data: bytes, size: int) -> bytes:
    """A state of about `size` bytes that follows the one in `data`: next serial, same lineage."""
    head = HEAD.search(data[:500])
    serial, lineage = (int(head[1]) + 1, head[2].decode()) if head else (1, None)
    bare = len(tofu_bytes(document(padding="")))
    padding = "x" * max(0, size - bare)
    return tofu_bytes(document(serial=serial, lineage=lineage, padding=padding))
