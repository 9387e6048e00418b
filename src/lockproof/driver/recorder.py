"""The one wrapper that every call of every client passes through.

It writes the history, applies the deadline, classifies whatever the driver raises, and knows what
was created so that it can be removed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from lockproof.driver.api import Client, LockInfo, Scope, Snapshot
from lockproof.driver.errors import DriverError
from lockproof.history.writer import HistoryWriter
from lockproof.spec.statefile import describe

T = TypeVar("T")


def defect(error: BaseException) -> DriverError:
    """What a driver raised that is no `DriverError`, as the failure that it counts as."""
    message = f"driver defect: it raised {type(error).__name__} instead of DriverError: {error}"
    return DriverError("internal", False, message)


class Caller(Protocol):
    """How the calls of one client are made. `gone`: no further call can be made."""

    gone: bool

    def call(
        self, step: str, begin: Callable[[], object], act: Callable[[], T], late: Callable[[], object]
    ) -> T:
        """What `act` returns, or a `DriverError`. `begin` is called when the call begins, before `act`.

        `step` names the call for a person. A call given up raises kind `timeout`, not definite, and
        calls `late` if it returns after all.
        """

    def close(self, act: Callable[[], T]) -> None:
        """Makes the last call."""

    def join(self, timeout: float) -> None:
        """Waits up to `timeout` seconds until the last call is over."""


class OwnThread:
    """Makes calls in a thread of its own, and gives one up that overruns `timeout` seconds."""

    def __init__(self, who: str, timeout: float) -> None:
        self.gone = False
        self._timeout = timeout
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"client {who}", daemon=True)
        self._thread.start()

    def call(
        self, step: str, begin: Callable[[], object], act: Callable[[], T], late: Callable[[], object]
    ) -> T:
        begin()
        future: Future[T] = Future()
        self._calls.put((future, act))
        try:
            error = future.exception(self._timeout)
        except TimeoutError:
            self.gone = True
            self._calls.put(None)
            future.add_done_callback(lambda _: late())
            raise DriverError("timeout", False, f"no reply within {self._timeout:g} s") from None
        if error is None:
            return future.result()
        if isinstance(error, DriverError):
            raise error
        raise defect(error) from error

    def close(self, act: Callable[[], T]) -> None:
        try:
            self.call("close", _nothing, act, _nothing)
        finally:
            self.gone = True
            self._calls.put(None)

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _serve(self) -> None:
        while (job := self._calls.get()) is not None:
            future, act = job
            try:
                future.set_result(act())
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                future.set_exception(error)


def _nothing() -> None:
    """Closing is not an operation: it stands in no history."""


class RecordedClient:
    """A `Client` whose calls are recorded. Same contract, and every failure is a `DriverError`.

    `calls` makes the calls; a number stands for a thread of the client's own with that deadline in seconds.
    After a call that overran its deadline the process is gone: further calls raise kind `unavailable`.
    A reply that comes later is a note in the history, not an outcome.
    """

    def __init__(self, client: Client, who: str, history: HistoryWriter, calls: Caller | float) -> None:
        self.who = who
        self._own: list[tuple[str, str, str]] = []
        self._client = client
        self._history = history
        self._calls: Caller = OwnThread(who, calls) if isinstance(calls, int | float) else calls
        self._process = history.new_process(who)

    def get(self, workspace: str) -> Snapshot | None:
        def out(snapshot: Snapshot | None) -> Mapping[str, Any]:
            return {"value": None} if snapshot is None else describe(snapshot.data)

        return self._call("get", workspace, {}, lambda: self._client.get(workspace), out)

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        given = {**describe(data), "size": len(data), "lock_id": lock_id}
        self._call("put", workspace, given, lambda: self._client.put(workspace, data, lock_id=lock_id))

    def delete(self, workspace: str) -> None:
        self._call("delete", workspace, {}, lambda: self._client.delete(workspace))

    def lock(self, workspace: str, info: LockInfo) -> str:
        given = {"info": info.to_json()}
        asked = (workspace, info.Info, info.ID)
        try:
            lock_id: str = self._call(
                "lock", workspace, given, lambda: self._client.lock(workspace, info), lambda x: x
            )
        except DriverError as error:
            if not error.definite or (error.holder is not None and error.holder.Info == info.Info):
                self._own.append(asked)
            raise
        self._own.append((workspace, info.Info, lock_id))
        return lock_id

    def unlock(self, workspace: str, lock_id: str) -> None:
        given = {"lock_id": lock_id}
        self._call("unlock", workspace, given, lambda: self._client.unlock(workspace, lock_id))
        self._own = [own for own in self._own if (own[0], own[2]) != (workspace, lock_id)]

    def own_ids(self, workspace: str, holder: LockInfo | None) -> Sequence[str]:
        """The ids by which this client may release the lock of `workspace`: those that it was granted or has
        asked for without being told, and has not released; where `holder` is known, its id if it is one of
        them."""
        own = [(token, lock_id) for ws, token, lock_id in self._own if ws == workspace]
        if holder is None:
            return [lock_id for _, lock_id in own]
        return [holder.ID] if any(holder.Info == t or holder.ID == i for t, i in own) else []

    def workspaces(self) -> Sequence[str]:
        return self._call("workspaces", None, {}, lambda: self._client.workspaces(), list)

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        given = {"force": force}
        self._call(
            "delete_workspace",
            workspace,
            given,
            lambda: self._client.delete_workspace(workspace, force=force),
        )

    @property
    def gone(self) -> bool:
        """Whether no further call can be made: it was closed, or a call overran its deadline."""
        return self._calls.gone

    def close(self) -> None:
        """The process ends. A call that is stuck is left behind."""
        if not self._calls.gone:
            self._calls.close(self._client.close)

    def join(self, timeout: float) -> None:
        """Waits up to `timeout` seconds until a closed or stuck client's last call is over."""
        self._calls.join(timeout)

    def note(self, text: str) -> None:
        """Adds a remark to the history."""
        self._history.append(self._process, "note", "remark", given={"text": text})

    def _call(
        self,
        f: str,
        workspace: str | None,
        given: Mapping[str, Any],
        call: Callable[[], T],
        out: Callable[[T], Any] | None = None,
    ) -> T:
        if self._calls.gone:
            raise DriverError("unavailable", True, f"client {self.who} is closed or stuck in an earlier call")
        process, append = self._process, self._history.append
        try:
            result = self._calls.call(
                f if workspace is None else f"{f} {workspace}",
                lambda: append(process, "invoke", f, ws=workspace, given=given),
                call,
                lambda: append(process, "note", "late"),
            )
        except DriverError as error:
            self._failed(process, f, workspace, error)
            raise
        append(process, "ok", f, ws=workspace, out=None if out is None else out(result))
        return result

    def _failed(self, process: int, f: str, workspace: str | None, error: DriverError) -> None:
        self._history.append(
            process, "fail" if error.definite else "info", f, ws=workspace, err=error.to_json()
        )
        if not error.definite:  # after an unknown outcome the process number retires
            self._process = self._history.new_process(self.who)


class RecordedScope:
    """A `Scope` whose clients are recorded, and closed when it closes.

    Used as a context manager: enters the driver's scope and, on exit, closes every client and then
    the scope itself; what the first client raised that could not be closed is raised after that.
    `timeout` is each call's deadline in seconds; `name` is what other processes attach to the scope by.
    """

    def __init__(self, scope: Scope, history: HistoryWriter, timeout: float, name: str = "") -> None:
        self.scope = scope
        self.name = name
        self.history = history
        self.timeout = timeout
        self.clients: list[RecordedClient] = []

    def client(self, who: str) -> RecordedClient:
        """A new recorded client, as `Scope.client`."""
        return self.join(self.scope.client(who), who)

    def join(self, client: Client, who: str, timeout: float | None = None) -> RecordedClient:
        """A client of this key space that was opened elsewhere, recorded here and closed with the scope;
        `timeout` is another deadline for its calls."""
        recorded = RecordedClient(client, who, self.history, self.timeout if timeout is None else timeout)
        self.clients.append(recorded)
        return recorded

    def __enter__(self) -> Self:
        self.scope.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failures: list[Exception] = []
        try:
            for client in self.clients:
                try:
                    client.close()
                except Exception as failure:  # noqa: BLE001, raised below
                    failures.append(failure)
        finally:
            self.scope.__exit__(exc_type, exc, traceback)
        if failures:
            raise failures[0]
