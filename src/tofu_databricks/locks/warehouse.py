"""SQL statements on a Databricks SQL warehouse, by the Statement Execution API.

Source: docs.databricks.com/api/workspace/statementexecution. HTTP 200 says only that the statement was
accepted: whether it succeeded is in `status.state`, and why not in the `[CLASS]` and the SQLSTATE of the
message. No idempotency key exists, so a POST that is sent again may run twice.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from tofu_databricks.errors import BackendError, ConfigError, MalformedReply, PermissionDenied, Unavailable
from tofu_databricks.reply import Reply, one_line
from tofu_databricks.seams import Clock, SystemClock
from tofu_databricks.transport import Guard, decode_object, dump

STATEMENTS = "/api/2.0/sql/statements"
WAREHOUSES = "/api/2.0/sql/warehouses"
WAIT_SECONDS = 30
POLL_SECONDS = 0.5
DEADLINE_SECONDS = 300.0
"""How long a statement may take, the cold start of a classic warehouse included."""
CANCEL_SECONDS = 10.0
"""How long a cancelled statement may take to end; a cancellation "might silently fail"."""
_RUNNING = ("PENDING", "RUNNING")
_CLASS = re.compile(r"\[([A-Z0-9_.]+)\]")
_SQL_STATE = re.compile(r"SQLSTATE: ([0-9A-Z]{5})")


class SqlError(Exception):
    """The engine refused the statement, which then had no effect.

    `resent`: it was sent more than once, and what an earlier delivery did is not known.
    """

    def __init__(self, message: str, sql_state: str, *, resent: bool = False) -> None:
        super().__init__(one_line(message))
        self.sql_state = sql_state
        self.resent = resent
        found = _CLASS.match(message)
        self.error_class = found[1] if found else ""


@dataclass(frozen=True)
class Rows:
    """The result of a statement: text cells by row. `resent`: the statement may have run more than once."""

    columns: tuple[str, ...]
    cells: tuple[tuple[str | None, ...], ...]
    resent: bool = False

    def number(self, column: str) -> int:
        """The whole number in the one row. Raises `MalformedReply`."""
        try:
            return int(self.cells[0][self.columns.index(column)] or "")
        except (ValueError, IndexError):
            raise MalformedReply(f"a SQL statement was answered without {column}") from None


class Requests(Protocol):
    """What is needed of `tofu_databricks.transport.Transport`."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        what: str = "",
        read_only: bool | None = None,
        guard: Guard | None = None,
    ) -> Reply: ...


class Warehouse:
    """One SQL warehouse: `warehouse_id`, or the first running one that the caller may use. Thread-safe."""

    def __init__(self, transport: Requests, warehouse_id: str = "", *, clock: Clock | None = None) -> None:
        self.transport = transport
        self.clock = clock or SystemClock()
        self._id = warehouse_id
        self._given = bool(warehouse_id)
        self._refused: set[str] = set()
        self._mutex = threading.Lock()

    @property
    def id(self) -> str:
        """The warehouse's id. Raises `ConfigError` when none is set and none that may be used is running."""
        with self._mutex:
            if not self._id:
                self._id = self._first_running()
            return self._id

    def run(
        self,
        statement: str,
        parameters: Mapping[str, str | None] | None = None,
        *,
        read_only: bool,
        what: str,
    ) -> Rows:
        """Runs the statement with text parameters and waits for its end.

        Raises `SqlError` when the engine refuses it, and a `BackendError` otherwise, whose `definite` is
        false when a statement that is not `read_only` may have taken effect.
        """
        resent = False

        def again() -> None:
            nonlocal resent
            resent = True

        body: dict[str, Any] = {
            "statement": statement,
            "wait_timeout": f"{WAIT_SECONDS}s",
            "parameters": [
                {"name": name, "type": "STRING", **({} if value is None else {"value": value})}
                for name, value in (parameters or {}).items()
            ],
        }
        reply = self._submit(body, read_only, what, again)
        try:
            return self._result(self._ended(decode_object(reply, what), what), what, resent)
        except BackendError as error:
            if not read_only:
                error.definite = False
            raise

    def _submit(self, body: dict[str, Any], read_only: bool, what: str, guard: Guard) -> Reply:
        """The reply to the statement; a warehouse of our choice that may only be looked at is passed over."""
        while True:
            chosen = self.id
            try:
                return self.transport.request(
                    "POST",
                    STATEMENTS,
                    data=dump({"warehouse_id": chosen, **body}),
                    headers={"Content-Type": "application/json"},
                    what=what,
                    read_only=read_only,
                    guard=guard,
                )
            except PermissionDenied:
                if self._given:
                    raise
            with self._mutex:
                self._refused.add(chosen)
                self._id = "" if self._id == chosen else self._id

    def _ended(self, answer: dict[str, Any], what: str) -> dict[str, Any]:
        """The answer that tells the end of the statement, which is cancelled when it does not come in time.

        A cancelled one may have come to another end all the same, so that is asked for, too (source:
        databricks-sdk service/sql.py, `StatementExecutionAPI`, "Limits and limitations").
        """
        deadline = self.clock.monotonic() + DEADLINE_SECONDS
        path = f"{STATEMENTS}/{quote(str(answer.get('statement_id', '')), safe='')}"
        cancelled = False
        while _state(answer, what) in _RUNNING:
            if self.clock.monotonic() > deadline:
                if cancelled:
                    raise Unavailable(f"{_late(what)}; it was to be cancelled, and may still run")
                self._cancel(path, what)
                cancelled, deadline = True, self.clock.monotonic() + CANCEL_SECONDS
            self.clock.sleep(POLL_SECONDS)
            answer = decode_object(self.transport.request("GET", path, what=what), what)
        if cancelled and _state(answer, what) == "CANCELED":
            raise Unavailable(f"{_late(what)} and was cancelled")
        return answer

    def _cancel(self, path: str, what: str) -> None:
        try:
            self.transport.request("POST", f"{path}/cancel", what="cancelling it", read_only=True)
        except BackendError as error:
            raise Unavailable(f"{_late(what)}, and may still run: {error}") from error

    def _result(self, answer: dict[str, Any], what: str, resent: bool) -> Rows:
        state = _state(answer, what)
        if state == "FAILED":
            status = answer["status"]
            message = str((status.get("error") or {}).get("message", ""))
            found = _SQL_STATE.search(message)
            raise SqlError(
                message, str(status.get("sql_state") or (found[1] if found else "")), resent=resent
            )
        if state != "SUCCEEDED":
            raise Unavailable(f"{what}: the statement ended as {state}")
        try:
            columns = answer["manifest"]["schema"].get("columns", [])
            names = tuple(column["name"] for column in columns)
            cells = tuple(tuple(row) for row in (answer.get("result") or {}).get("data_array") or [])
        except (KeyError, TypeError, AttributeError):
            raise MalformedReply(f"{what} was answered without a result") from None
        return Rows(names, cells, resent)

    def _first_running(self) -> str:
        what = "listing SQL warehouses"
        page, seen = "", []
        while True:
            query = {"page_token": page} if page else None
            reply = self.transport.request("GET", WAREHOUSES, query=query, what=what)
            answer = decode_object(reply, what)
            for item in answer.get("warehouses") or []:
                usable = item.get("id") not in self._refused
                if item.get("state") == "RUNNING" and item.get("id") and usable:
                    return str(item["id"])
                seen.append(f"{item.get('name')} ({item.get('state') if usable else 'not yours to use'})")
            page = str(answer.get("next_page_token") or "")
            if not page:
                break
        listed = f"there are {', '.join(seen)}" if seen else "you may use none"
        raise ConfigError(
            f"no SQL warehouse that you may use is running: {one_line(listed)}; start one, or set "
            'warehouse_id to one that may be started for each lock, or lock_backend = "lakebase"'
        )


def _late(what: str) -> str:
    return f"{what}: the statement did not end within {DEADLINE_SECONDS:.0f} s"


def _state(answer: dict[str, Any], what: str) -> str:
    status = answer.get("status")
    state = status.get("state") if isinstance(status, dict) else None
    if not isinstance(state, str):
        raise MalformedReply(f"{what} was answered without a state")
    return state
