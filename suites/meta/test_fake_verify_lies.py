"""Each lie of the fake is found by `lockproof fake verify`, and nothing else is called a difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.exchanges import script_files, script_services
from lockproof.fakes.databricks.exchanges.player import Findings, Step, verify
from lockproof.fakes.databricks.exchanges.recording import Recording, shipped
from lockproof.fakes.databricks.exchanges.targets import Target, own_fake
from lockproof.fakes.databricks.routes import files, files_v3
from lockproof.fakes.databricks.wire import Request, Response

Change = Callable[[Request, Response], object]
Part = Callable[[], Iterator[Step]]


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """One fake for all lies: what a replay makes is gone after it."""
    with own_fake() as target:
        yield target


def part_of(recording: Recording, part: Part) -> Recording:
    """The exchanges of one part of the script."""
    names = {step.ask.name for step in part()}
    return replace(recording, exchanges=tuple(item for item in recording.exchanges if item.ask.name in names))


def told(found: Findings) -> dict[str, str]:
    """What differs, by the name of the exchange; several differences of one are joined."""
    lines: dict[str, str] = {}
    for difference in found.differences:
        name, mismatch = difference.exchange.ask.name, str(difference.mismatch)
        lines[name] = f"{lines[name]}; {mismatch}" if name in lines else mismatch
    return lines


@dataclass(frozen=True)
class Lie:
    """`part` of the script finds it; `finds`: by the name of each exchange that differs, how the line of the
    difference begins. `change` alters an answer, `patch` the fake."""

    name: str
    part: Part
    finds: dict[str, str]
    change: Change | None = None
    patch: Callable[[pytest.MonkeyPatch], None] | None = None


def on(method: str, path: str, change: Callable[[Response], object], **query: str) -> Change:
    """Changes the answers to requests whose path ends so and whose query holds these pairs."""

    def changed(request: Request, response: Response) -> None:
        if (
            request.method == method
            and request.path.endswith(path)
            and query.items() <= request.query.items()
        ):
            change(response)

    return changed


def status(code: int) -> Callable[[Response], None]:
    def changed(response: Response) -> None:
        response.status = code
        if code == 204:
            response.body = b""

    return changed


def without(header: str) -> Callable[[Response], object]:
    return lambda response: response.headers.pop(header)


def body(change: Callable[[dict[str, Any]], object]) -> Callable[[Response], None]:
    """Changes a JSON body in place."""

    def changed(response: Response) -> None:
        value = response.json()
        change(value)
        response.body = json.dumps(value).encode()

    return changed


def statement(text: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """Changes the answer to the execution of statements with that text."""

    def changed(request: Request, response: Response) -> None:
        if request.path == "/api/2.0/sql/statements" and text in request.body.decode():
            body(change)(response)

    return changed


def ignoring(query: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The fake does not look at that part of a query."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        real = FakeWorkspace.perform

        def perform(self: FakeWorkspace, route: Any, request: Request) -> Response:
            request.query.pop(query, None)
            return real(self, route, request)

        monkeypatch.setattr(FakeWorkspace, "perform", perform)

    return patch


def ignoring_header(method: str, header: str) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        real = FakeWorkspace.perform

        def perform(self: FakeWorkspace, route: Any, request: Request) -> Response:
            if request.method == method:
                request.headers.pop(header, None)
            return real(self, route, request)

        monkeypatch.setattr(FakeWorkspace, "perform", perform)

    return patch


def one_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_v3, "etag", lambda workspace, file: '"the-same"')


def repeats_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page begins with the last entry of the page before."""
    real = files._open_token

    def opened(token: str, *rest: Any) -> tuple[str, bool]:
        after, filled = real(token, *rest)
        return after[:-1] + chr(ord(after[-1]) - 1) if after else "", filled

    monkeypatch.setattr(files, "_open_token", opened)


def numbers(value: dict[str, Any]) -> None:
    value["result"]["data_array"] = [[7]]


files_2, directories, files_3 = script_files.files_2, script_files.directories, script_files.files_3
sql, identity, tables = script_services.statements, script_services.identity, script_services.tables
A = "/put/a.json"
RANGES = ("a range", "a range without an end", "the last bytes", "a range beyond the end is cut")
LIES = (
    Lie(
        "overwrite=false is ignored",
        files_2,
        {
            "overwrite=false on an existing file": "status 409 ALREADY_EXISTS recorded, 204",
            "the first writer's content stays": "header Content-Length 6 recorded, 5 answered; body winner",
        },
        patch=ignoring("overwrite"),
    ),
    Lie(
        "deleting what is not there is no error",
        files_2,
        {"deletion of what is not there": "status 404 NOT_FOUND recorded, 204"},
        on("DELETE", "/delete/f", lambda response: status(204)(response)),
    ),
    Lie(
        "a missing file is forbidden",
        files_2,
        {"a deleted file": "status 404 NOT_FOUND recorded, 403"},
        on("GET", "/delete/f", status(403)),
    ),
    Lie(
        "a missing file has another code",
        files_2,
        {"a deleted file": "error_code NOT_FOUND recorded, RESOURCE_DOES_NOT_EXIST answered"},
        on("GET", "/delete/f", body(lambda value: value.update(error_code="RESOURCE_DOES_NOT_EXIST"))),
    ),
    Lie(
        "a missing file has no reason",
        files_2,
        {"a deleted file": "details 2 items recorded, 1 items answered"},
        on("GET", "/delete/f", body(lambda value: value["details"].pop(0))),
    ),
    Lie(
        "metadata without Last-Modified",
        files_2,
        {"its metadata, without a tag": "header Last-Modified ${time} recorded, none answered"},
        on("HEAD", A, without("Last-Modified")),
    ),
    Lie(
        "2.0 has a tag",
        files_2,
        {"its metadata, without a tag": "header ETag none recorded, "},
        on("HEAD", A, lambda response: response.headers.update(ETag='"1"')),
    ),
    Lie(
        "ranges are ignored",
        files_2,
        {**dict.fromkeys(RANGES, "status 206 recorded, 200"), "a range outside of the file": "status 416"},
        patch=ignoring_header("GET", "range"),
    ),
    Lie(
        "a range does not say which",
        files_2,
        {"a range": "header Content-Range bytes 2-5/10 recorded, none answered"},
        lambda request, response: (
            request.headers.get("range") == "bytes=2-5" and response.headers.pop("Content-Range")
        ),
    ),
    Lie(
        "a wrong token is 401",
        files_2,
        {"a wrong token: 403 and a number as code": "status 403 recorded, 401"},
        lambda request, response: (
            "dapi0000" in request.headers.get("authorization", "") and status(401)(response)
        ),
    ),
    Lie(
        "a name is decoded twice",
        files_2,
        {"the content under that name": "status 200 recorded, 404"},
        on("GET", "/names/a b:100%ü.json", status(404)),
    ),
    Lie(
        "the first page has no token",
        directories,
        {"the first page": "next_page_token ${page-two} recorded, none answered"},
        on("GET", "/pages", body(lambda v: v.pop("next_page_token")), page_size="2"),
    ),
    Lie(
        "the last page has a token",
        directories,
        {"the last page": "next_page_token none recorded, "},
        on("GET", "/pages", body(lambda v: v.setdefault("next_page_token", "more")), page_size="2"),
    ),
    Lie(
        "a page repeats an entry",
        directories,
        {
            "the second page": "contents.0.path ${root}/pages/c recorded, ${root}/pages/b answered",
            "the last page": "contents 1 items recorded, 2 items answered",
        },
        patch=repeats_an_entry,
    ),
    Lie(
        "a listing has no sizes",
        directories,
        {"all entries in one page": "contents.0.file_size 3 recorded, none answered"},
        lambda request, response: (
            request.path.endswith("/pages")
            and request.method == "GET"
            and not request.query
            and request.principal is not None
            and response.status == 200
            and body(lambda value: value["contents"][0].pop("file_size"))(response)
        ),
    ),
    Lie(
        "a directory over a file is no error",
        directories,
        {"a directory over a file": "status 409 ALREADY_EXISTS recorded, 204"},
        on("PUT", "/made/deep/f", lambda response: response.status == 409 and status(204)(response)),
    ),
    Lie(
        "a full directory has another code",
        directories,
        {"deletion of one that is not empty": "error_code INVALID_PARAMETER_VALUE recorded, FULL answered"},
        on("DELETE", "/dirs/x", body(lambda value: value.update(error_code="FULL"))),
    ),
    Lie(
        "the tag stays when the content changes",
        files_3,
        {
            "If-Match with the tag replaces": "header ETag ${etag-two} recorded, ${etag-one} answered",
            "If-Match with the old tag": "status 412",
            "If-None-Match: * creates": "header ETag ${etag-1} recorded, ${etag-one} answered",
            "the content after a refused write (3.0)": "header Content-Length",
            "modified": "status 200 recorded, 304",
            "a read with the old tag": "status 412",
            "deletion with the old tag": "status 412",
        },
        patch=one_tag,
    ),
    Lie(
        "what has not changed is sent again",
        files_3,
        {"not modified": "status 304 recorded, 200"},
        patch=ignoring_header("GET", "if-none-match"),
    ),
    Lie(
        "an upload answers 204 as in 2.0",
        files_3,
        {"If-None-Match: * creates": "status 200 recorded, 204"},
        on("PUT", "/v3/new", status(204)),
    ),
    Lie(
        "deleting what is not there is an error as in 2.0",
        files_3,
        {"deletion of a missing file (3.0)": "status 204 recorded, 404"},
        lambda request, response: (
            (request.method, request.path[-5:], "if-match" in request.headers) == ("DELETE", "/v3/f", False)
            and status(404)(response)
        ),
    ),
    Lie(
        "a failed statement has no SQLSTATE",
        sql,
        {"a statement that cannot be parsed": "status.sql_state 42601 recorded, none answered"},
        statement("SELEC 1", lambda value: value["status"].pop("sql_state")),
    ),
    Lie(
        "a failed statement has another class",
        sql,
        {"a table that is not there": "status.error.message [TABLE_OR_VIEW_NOT_FOUND]"},
        statement(
            "no_such_table",
            lambda value: value["status"]["error"].update(message="[NOT_FOUND] no. SQLSTATE: 42P01"),
        ),
    ),
    Lie(
        "an unknown warehouse is 404",
        sql,
        {"an unknown warehouse": "status 403 PERMISSION_DENIED recorded, 404"},
        lambda request, response: b'"0000000000000000"' in request.body and status(404)(response),
    ),
    Lie(
        "cancelling what is unknown is an error",
        sql,
        {"a cancel of an unknown statement": "status 200 recorded, 404"},
        on("POST", "8000-000000000000/cancel", status(404)),
    ),
    Lie(
        "cells are numbers",
        script_services.results,
        {"a result to fetch": 'result.data_array.0.0 "7" recorded, 7 answered'},
        statement("AS seven", numbers),
    ),
    Lie(
        "an update counts a row that it did not change",
        tables,
        {"a conditional update that does not": "result.data_array.0.0 0 recorded, 1 answered"},
        statement(
            "UPDATE",
            lambda value: value["result"].update(data_array=[["1"]]),
        ),
    ),
    Lie(
        "a wrong client is a bad request",
        identity,
        {"a wrong client": "status 401 invalid_client recorded, 400"},
        lambda request, response: b"invalid_client" in bytes(response.body) and status(400)(response),
    ),
    Lie(
        "a login token may live for a day",
        script_services.lakebase,
        {"a login token of a day": "status 400 INVALID_PARAMETER_VALUE recorded, 200"},
        lambda request, response: b"86400s" in request.body and status(200)(response),
    ),
    Lie(
        "a throttled request does not say for how long",
        script_services.limits,
        {"a request over the limit": "header Retry-After 1 recorded, none answered"},
        lambda request, response: response.status == 429 and response.headers.pop("Retry-After"),
    ),
    Lie(
        "a volume without grants looks missing",
        script_services.unity_catalog,
        {"a volume without grants": "status 403 PERMISSION_DENIED recorded, 404"},
        lambda request, response: (
            "/unity-catalog/volumes/" in request.path and response.status == 403 and status(404)(response)
        ),
    ),
)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name.replace(" ", "-"))
def test_lie_is_named_with_its_exchange_alone(
    lie: Lie, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The differences are those of the exchanges that the lie touches, and say what it is."""
    recording = part_of(shipped(), lie.part)
    if lie.patch:
        lie.patch(monkeypatch)
    if lie.change:
        finish = FakeWorkspace._finish

        def lying(self: FakeWorkspace, request: Request, response: Response, started: float) -> None:
            finish(self, request, response, started)
            assert lie.change is not None
            lie.change(request, response)

        monkeypatch.setattr(FakeWorkspace, "_finish", lying)
    found = told(verify(target, recording))
    assert found.keys() == lie.finds.keys()
    assert [text for name, text in found.items() if not text.startswith(lie.finds[name])] == []


@pytest.mark.parametrize("part", [files_2, directories, files_3, sql, tables], ids=lambda part: part.__name__)
def test_truth_is_no_difference(part: Part, target: Target) -> None:
    """Without a lie the same replays find nothing, also on a fake that served many before."""
    found = verify(target, part_of(shipped(), part))
    assert (found.compared, told(found), found.left) == (len(list(part())), {}, ())
