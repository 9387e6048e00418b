"""Statements: submitted, run in threads of their own, polled, cancelled; and the log of them.

Source: docs.databricks.com/api/workspace/statementexecution; recorded answers in github.com/xo/dbimp.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks.clock import VirtualClock
from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.identity import Principal
from lockproof.fakes.databricks.sql.cells import Result
from lockproof.fakes.databricks.sql.checkpoints import Checkpoints
from lockproof.fakes.databricks.sql.failures import SqlFailure, internal
from lockproof.fakes.databricks.sql.parsing import Parameters
from lockproof.fakes.databricks.sql.warehouses import Warehouse

if TYPE_CHECKING:
    from lockproof.fakes.databricks.sql.service import SqlService

LOG = logging.getLogger("lockproof.fakes.databricks.sql")
KEPT_SECONDS = 3600.0
POLL_SECONDS = 0.05
TERMINAL = ("SUCCEEDED", "FAILED", "CANCELED", "CLOSED")


@dataclass
class Record:
    """A statement in the log, without the values of its parameters.

    Real seconds: `engine_seconds` inside of the Delta engine, `held_seconds` at checkpoints and waiting for
    the warehouse, `total_seconds` from its acceptance to its end. `versions`: the snapshot of each table that
    it read, `committed`: the versions that it wrote.
    """

    i: int
    id: str
    text: str
    principal: str
    warehouse: str
    state: str = "PENDING"
    sql_state: str | None = None
    error_class: str | None = None
    engine_seconds: float = 0.0
    held_seconds: float = 0.0
    total_seconds: float = 0.0
    versions: dict[str, int] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)

    @property
    def overhead_seconds(self) -> float:
        """Our own share."""
        return self.total_seconds - self.engine_seconds - self.held_seconds

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "overhead_seconds": self.overhead_seconds}


@dataclass
class Options:
    """How a result is to be delivered."""

    disposition: str = "INLINE"
    format: str = "JSON_ARRAY"
    row_limit: int | None = None
    byte_limit: int | None = None


class Canceled(Exception):
    """The statement was cancelled before it committed anything."""


@dataclass
class Statement:
    """One statement. `state` moves PENDING, RUNNING, then one of `TERMINAL`; `told`: an answer said which."""

    record: Record
    principal: Principal
    warehouse: Warehouse
    parameters: Parameters
    catalog: str
    schema: str
    options: Options
    accepted_at: float
    state: str = "PENDING"
    result: Result | None = None
    failure: SqlFailure | None = None
    canceled: bool = False
    told: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    delivery: Any = None
    mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def id(self) -> str:
        return self.record.id

    def outlived(self, now: float) -> bool:
        """Whether its result is gone. One that its caller was not told of stays, however far somebody else,
        who shares this fake, has moved the clock meanwhile."""
        return self.told and now - self.accepted_at > KEPT_SECONDS

    def await_end(self, deadline: float, clock: VirtualClock) -> bool:
        """Whether it ended before `deadline` on the fake's clock."""
        while clock.time() < deadline:
            if self.done.wait(POLL_SECONDS):
                return True
        return self.done.is_set()

    def cancel(self) -> None:
        """CANCELED at once for whoever asks; work under way stops before its commit, never after it."""
        with self.mutex:
            if self.state not in TERMINAL:
                self.canceled = True
                self.state = "CANCELED"
                self.done.set()


@dataclass
class Lag:
    """Statements whose snapshot is `versions` commits old: a replica that did not see the newest ones."""

    contains: str
    versions: int
    times: int | None


class Statements:
    """All statements by id, the newest records, and where to hold them.

    `inline`, once set, is called with each point that a statement reaches, and then statements run in the
    thread that submits them: so that a scheduler that controls this thread controls them.
    """

    def __init__(self, service: SqlService) -> None:
        self.service = service
        self.by_id: dict[str, Statement] = {}
        self.log: deque[Record] = deque(maxlen=100_000)
        self.count = 0
        self.checkpoints = Checkpoints()
        self.lags: list[Lag] = []
        self.inline: Callable[[str, Record], None] | None = None
        self.mutex = threading.Lock()

    def submit(
        self,
        text: str,
        principal: Principal,
        warehouse: Warehouse,
        parameters: Parameters,
        *,
        catalog: str = "",
        schema: str = "",
        options: Options | None = None,
    ) -> Statement:
        """Accepts the statement and starts it, in a thread of its own unless statements are `inline`."""
        now = self.service.workspace.clock.time()
        with self.mutex:
            self.count += 1
            record = Record(self.count, _new_id(), text, principal.name, warehouse.id)
            self.log.append(record)
            statement = Statement(
                record,
                principal,
                warehouse,
                parameters,
                catalog or "main",
                schema or "default",
                options or Options(),
                now,
            )
            self.by_id[statement.id] = statement
            self._forget(now)
        if self.inline is not None:
            self._run(statement)
            return statement
        name = f"statement {statement.id}"
        threading.Thread(target=self._run, args=(statement,), name=name, daemon=True).start()
        return statement

    def get(self, statement_id: str, principal: Principal) -> Statement:
        """Raises 404 for an unknown one, also for one of somebody else and one that is too old."""
        found = self.by_id.get(statement_id)
        if (
            found is None
            or found.outlived(self.service.workspace.clock.time())
            or (found.principal is not principal and not principal.admin)
        ):
            raise ApiError(404, "NOT_FOUND", f"The statement {statement_id} was not found.", details=[])
        return found

    def select(self, since: int = 0, contains: str = "") -> list[Record]:
        """Records with `i > since` whose text holds `contains`."""
        with self.mutex:
            return [item for item in self.log if item.i > since and contains in item.text]

    def lag(self, versions: int, *, contains: str = "", times: int | None = 1) -> None:
        """The next `times` statements whose text holds `contains` read a snapshot `versions` commits old."""
        if versions < 0:
            raise ValueError("versions counts from 0")
        with self.mutex:
            self.lags.append(Lag(contains, versions, times))

    def cancel_all(self, warehouse: Warehouse) -> None:
        """Cancels the statements of a warehouse that is gone."""
        with self.mutex:
            its = [statement for statement in self.by_id.values() if statement.warehouse is warehouse]
        for statement in its:
            statement.cancel()

    def lagging(self, contains: str) -> int:
        """How many statements are still to lag, of those that `contains` chose."""
        with self.mutex:
            return sum(lag.times or 0 for lag in self.lags if lag.contains == contains)

    def stop_lagging(self, contains: str) -> None:
        """No statement that `contains` chose lags any more."""
        with self.mutex:
            self.lags = [lag for lag in self.lags if lag.contains != contains]

    def _run(self, statement: Statement) -> None:
        started = time.perf_counter()
        record = statement.record
        session = self.service.session(statement, self._reacher(statement))
        session.lag = self._lag_of(record.text)
        statement.warehouse.running += 1
        state, result, failure = "SUCCEEDED", None, None
        try:
            session.reach("queued")
            self._await_warehouse(statement)
            with statement.mutex:
                if statement.canceled:
                    raise Canceled
                statement.state = record.state = "RUNNING"
            result = self.service.run(session, record.text, statement.parameters)
            if statement.options.format == "JSON_ARRAY":
                result = replace(result, source=None)  # the engine's buffers, of ten times what it holds
        except SqlFailure as error:
            state, failure = "FAILED", error
        except Canceled:
            state = "CANCELED"
        except Exception as error:  # a defect of the fake must not hang the caller
            LOG.exception("the fake warehouse failed on a statement")
            state, failure = "FAILED", internal(f"{type(error).__name__}: {error}")
        record.versions = {snapshot.full_name: snapshot.version for snapshot in session.snapshots.values()}
        record.committed = dict(session.committed)
        record.engine_seconds = session.watch.seconds
        record.total_seconds = time.perf_counter() - started
        if failure is not None:
            record.error_class, record.sql_state = failure.error_class, failure.sql_state
        statement.warehouse.running -= 1
        statement.warehouse.used_at = self.service.workspace.clock.time()
        with statement.mutex:
            if statement.state not in TERMINAL:
                statement.result, statement.failure, statement.state = result, failure, state
            record.state = state if statement.canceled and session.committed else statement.state
            statement.done.set()

    def _reacher(self, statement: Statement) -> Callable[[str], None]:
        def reach(point: str) -> None:
            record = statement.record
            if self.inline is not None:
                self.inline(point, record)
            if self.checkpoints.holds:
                began = time.perf_counter()
                self.checkpoints.reach(point, record.id, record.text, record.principal)
                record.held_seconds += time.perf_counter() - began
            if statement.canceled and point != "committed":
                raise Canceled

        return reach

    def _await_warehouse(self, statement: Statement) -> None:
        if statement.warehouse.state != "RUNNING":
            began = time.perf_counter()
            self.service.warehouses.wait_ready(statement.warehouse, statement.done)
            statement.record.held_seconds += time.perf_counter() - began

    def _lag_of(self, text: str) -> int:
        if not self.lags:
            return 0
        with self.mutex:
            for lag in self.lags:
                if lag.contains in text:
                    if lag.times is not None:
                        lag.times -= 1
                        if lag.times == 0:
                            self.lags.remove(lag)
                    return lag.versions
        return 0

    def _forget(self, now: float) -> None:
        """Drops results that nobody can read any more."""
        if self.count % 256 == 0:
            for key, item in list(self.by_id.items()):
                if item.outlived(now):
                    del self.by_id[key]


def _new_id() -> str:
    """As the service makes them: a time-ordered UUID that begins with 01f."""
    text = uuid.uuid1().hex
    return f"01f{text[1:6]}-{text[8:12]}-1{text[13:16]}-{uuid.uuid4().hex[:4]}-{uuid.uuid4().hex[:12]}"
