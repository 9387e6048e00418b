"""The Statement Execution API, and the download of results behind links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks.errors import ApiError, invalid_parameter, storage_error
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.sql.statements import Statement
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("SQL statements", scope="sql")
downloads = Routes("SQL results behind links", scope=None, host="storage")
DOC = "docs.databricks.com/api/workspace/statementexecution"
STATEMENTS = "/api/2.0/sql/statements"
TEXT_BYTES = 16 * 1024 * 1024
_WAIT = re.compile(r"(\d+)s")


@routes(
    "POST",
    STATEMENTS,
    name="Execute a statement",
    source=f"{DOC}/executestatement; github.com/xo/dbimp testdata/databricks",
    notes="`wait_timeout` 0s or 5s to 50s (default 10s), on the fake's clock; `on_wait_timeout` CONTINUE or "
    "CANCEL. Every statement is a session of its own. A statement that fails is 200 with state FAILED. "
    "Unknown warehouse: 403. There is no idempotency key: a POST sent twice runs twice.",
    blocking=True,
)
def execute(workspace: FakeWorkspace, request: Request) -> Response:
    from lockproof.fakes.databricks.sql.parsing import Parameters
    from lockproof.fakes.databricks.sql.results import check_options
    from lockproof.fakes.databricks.sql.warehouses import violation

    body = request.json()
    warehouse = workspace.sql.warehouses.for_statement(body.get("warehouse_id"), request.caller)
    text = body.get("statement")
    if not isinstance(text, str) or not text.strip():
        raise ApiError(
            400,
            "BAD_REQUEST",
            "Required field is not specified: statement.",
            details=[violation("statement", "field is not specified")],
        )
    if len(text.encode()) > TEXT_BYTES:
        raise invalid_parameter(f"The statement text is larger than {TEXT_BYTES} bytes.")
    wait = _wait_seconds(body)
    cancels = body.get("on_wait_timeout") == "CANCEL"
    if cancels and wait == 0:
        raise invalid_parameter(
            "The on_wait_timeout field must be CONTINUE when the wait_timeout field is 0s."
        )
    statement = workspace.sql.statements.submit(
        text,
        request.caller,
        warehouse,
        Parameters(_parameters(body)),
        catalog=str(body.get("catalog") or ""),
        schema=str(body.get("schema") or ""),
        options=check_options(body),
    )
    clock = workspace.clock
    if warehouse.patience is not None:
        wait = min(wait, warehouse.patience)
    if wait and not statement.await_end(clock.time() + wait, clock) and cancels:
        statement.cancel()
    return _answer(workspace, statement)


@routes(
    "GET",
    f"{STATEMENTS}/{{id}}",
    name="Poll a statement",
    source=f"{DOC}/getstatement",
    notes="Members in the recorded order. Results are kept for one hour of the fake's clock.",
)
def poll(workspace: FakeWorkspace, request: Request) -> Response:
    return _answer(workspace, workspace.sql.statements.get(request.params["id"], request.caller))


@routes(
    "GET",
    f"{STATEMENTS}/{{id}}/result/chunks/{{index}}",
    name="Get a chunk of a result",
    source=f"{DOC}/getstatementresultchunkn",
    notes="Out of range: 400 (text inferred).",
)
def chunk(workspace: FakeWorkspace, request: Request) -> Response:
    statement = workspace.sql.statements.get(request.params["id"], request.caller)
    if statement.delivery is None:
        raise ApiError(404, "NOT_FOUND", f"The statement {statement.id} has no result.", details=[])
    try:
        index = int(request.params["index"])
    except ValueError:
        raise invalid_parameter("chunk_index must be an integer.") from None
    return Response.of_json(
        statement.delivery.chunk(index, statement.id, workspace.storage_url, workspace.clock.time())
    )


@routes(
    "POST",
    f"{STATEMENTS}/{{id}}/cancel",
    name="Cancel a statement",
    source=f"{DOC}/cancelexecution",
    notes="200 `{}` always, also for an unknown id. What has reached its commit is committed all the same.",
)
def cancel(workspace: FakeWorkspace, request: Request) -> Response:
    try:
        workspace.sql.statements.get(request.params["id"], request.caller).cancel()
    except ApiError:
        return Response.of_json({})
    return Response.of_json({})


@routes(
    "DELETE",
    f"{STATEMENTS}/{{id}}",
    name="Delete a statement",
    source="github.com/xo/dbimp docs/DATABRICKS.md",
    notes="200 `{}` without effect.",
)
def delete(workspace: FakeWorkspace, request: Request) -> Response:
    return Response.of_json({})


@downloads(
    "GET",
    "/sql-results/{id}/{index}",
    name="Download a chunk of a result",
    source=f"{DOC}: external_link",
    notes="No Authorization header is wanted; the link expires after 15 minutes of the fake's clock.",
)
def download(workspace: FakeWorkspace, request: Request) -> Response:
    statement = workspace.sql.statements.by_id.get(request.params["id"])
    chunks = statement.delivery.chunks if statement is not None and statement.delivery else []
    wanted = request.params["index"]
    found = next((item for item in chunks if str(item.index) == wanted), None)
    if found is None or found.token != request.query.get("token"):
        return storage_error(403, "AccessDenied", "Access Denied")
    if found.expires <= workspace.clock.time():
        return storage_error(403, "AccessDenied", "Request has expired")
    return Response(200, found.body, {"Content-Type": "application/octet-stream"})


def _answer(workspace: FakeWorkspace, statement: Statement) -> Response:
    from lockproof.fakes.databricks.sql.failures import SqlFailure
    from lockproof.fakes.databricks.sql.results import deliver

    with statement.mutex:
        if statement.state == "SUCCEEDED" and statement.delivery is None and statement.result is not None:
            try:
                statement.delivery = deliver(statement.result, statement.options)
            except SqlFailure as failure:
                statement.state, statement.failure = "FAILED", failure
        state, failed, delivery = statement.state, statement.failure, statement.delivery
        statement.told = statement.done.is_set()
    status: dict[str, Any] = {"state": state}
    if state == "FAILED" and failed is not None:
        status["error"] = {"error_code": "BAD_REQUEST", "message": str(failed)}
        status["sql_state"] = failed.sql_state
    shown: dict[str, Any] = {"statement_id": statement.id, "status": status}
    if state == "SUCCEEDED" and delivery is not None:
        shown["manifest"] = delivery.manifest()
        shown["result"] = delivery.chunk(0, statement.id, workspace.storage_url, workspace.clock.time())
    return Response.of_json(shown)


def _wait_seconds(body: dict[str, Any]) -> float:
    given = body.get("wait_timeout")
    found = _WAIT.fullmatch(str(given)) if given not in (None, "") else None
    seconds = 10 if given in (None, "") else int(found[1]) if found else -1
    if seconds != 0 and not 5 <= seconds <= 50:
        message = (
            "The wait_timeout field must be 0 seconds (disables wait), or between 5 seconds and 50 seconds."
        )
        from lockproof.fakes.databricks.sql.warehouses import violation

        raise ApiError(400, "INVALID_PARAMETER_VALUE", message, details=[violation("wait_timeout", message)])
    return seconds


def _parameters(body: dict[str, Any]) -> list[Any]:
    from lockproof.fakes.databricks.sql.parsing import Parameter

    found = []
    for item in body.get("parameters") or []:
        if not isinstance(item, dict):
            raise ApiError(400, "MALFORMED_REQUEST", "Could not parse request object: parameters.")
        value = item.get("value")
        found.append(
            Parameter(
                item.get("name") or None,
                None if value is None else str(value),
                str(item.get("type") or "STRING"),
            )
        )
    return found
