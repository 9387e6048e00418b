"""Scripted faults of the fake: which requests they strike, what arrives, and what took effect."""

from __future__ import annotations

import io
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from databricks.sdk import errors
from urllib3.exceptions import ProtocolError

from lockproof.fakes.databricks import Fault
from lockproof.suites.meta.fake_bed import DIRECTORIES, FILES, ROOT, UC, VOLUME, Bed, reach


def put(bed: Bed, data: bytes, name: str = "f") -> int:
    return bed.http("PUT", f"{FILES}/{name}", data=data).status_code


def get(bed: Bed, name: str = "f") -> bytes:
    return bed.http("GET", f"{FILES}/{name}").content


@pytest.mark.parametrize("when", ["before", "after"])
def test_error_replaces_the_answer_before_or_after_the_effect(fake: Bed, when: str) -> None:
    """A scripted error on a write is what the client sees; the write happened, or not, as scripted."""
    put(fake, b"old")
    fake.control.add_fault(method="PUT", path="*/files/*", when=when, status=500, body="boom")
    answer = fake.http("PUT", f"{FILES}/f", data=b"new")
    assert (answer.status_code, answer.text) == (500, "boom")
    assert get(fake) == {"before": b"old", "after": b"new"}[when]


@pytest.mark.parametrize("when", ["before", "after"])
def test_dropped_connection_is_a_connection_error(fake: Bed, when: str) -> None:
    """A drop leaves the client without an answer, the log with status 0, and the effect as scripted."""
    put(fake, b"old")
    fake.control.add_fault(method="PUT", path="*/files/*", when=when, drop=True)
    with pytest.raises(requests.ConnectionError):
        fake.http("PUT", f"{FILES}/f", data=b"new")
    assert fake.control.requests(method="PUT")[-1].status == 0
    assert get(fake) == {"before": b"old", "after": b"new"}[when]


def test_truncated_body_breaks_off(fake: Bed) -> None:
    """A cut answer announces its whole length and ends early, which the client notices."""
    put(fake, b"0123456789")
    fake.control.add_fault(method="GET", path="*/files/*", truncate=4)
    with fake.http("GET", f"{FILES}/f", stream=True) as answer:
        assert answer.headers["Content-Length"] == "10"
        assert answer.raw.read(4) == b"0123"
        with pytest.raises(ProtocolError, match="6 more expected"):
            answer.raw.read(6)
    fake.control.add_fault(method="GET", path="*/files/*", truncate=4)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        get(fake)
    assert get(fake) == b"0123456789"


def test_fault_chooses_by_the_content_of_a_request(fake: Bed) -> None:
    """A pattern on the body strikes what holds it and passes by what does not."""
    fake.control.add_fault(method="PUT", content="*[b-d]ad*", status=500, times=None)
    assert [put(fake, data) for data in (b"good", b"a bad one", b"\xff\x00", b"sad")] == [204, 500, 204, 204]


def test_series_begins_and_ends_where_scripted(fake: Bed) -> None:
    """`first=2, times=2` strikes the second and the third matching request only."""
    fault = fake.control.add_fault(method="PUT", path="*/files/*", first=2, times=2, status=503)
    assert [put(fake, b"") for _ in range(4)] == [204, 503, 503, 204]
    assert get(fake) == b""
    state = fake.control.fault(fault)
    assert (state["seen"], state["hits"]) == (4, 2)


def test_fault_for_ever_ends_when_cleared(fake: Bed) -> None:
    """`times=None` strikes until it is cleared; clearing one leaves the others."""
    one = fake.control.add_fault(path="*/one", status=503, times=None)
    fake.control.add_fault(path="*/two", status=500, times=None)
    assert [put(fake, b"", name) for name in ("one", "one", "two")] == [503, 503, 500]
    assert fake.control.clear_faults(one) == 1
    assert [put(fake, b"", name) for name in ("one", "two")] == [204, 500]
    assert fake.control.clear_faults() == 1
    assert put(fake, b"", "two") == 204


def test_fault_chooses_its_requests(fake: Bed) -> None:
    """Method, path pattern, principal, query and host narrow a fault; other requests pass."""
    token = fake.control.create_principal("ada@example.com", admin=True)
    fake.control.add_fault(principal="ada@example.com", status=500, times=None)
    fake.control.add_fault(method="HEAD", path="*/files/*", status=502, times=None)
    fake.control.add_fault(query={"overwrite": "false"}, status=504, times=None)
    fake.control.add_fault(host="storage", status=400, times=None)
    assert put(fake, b"1") == 204
    assert fake.http("PUT", f"{FILES}/f", data=b"1", token=token).status_code == 500
    assert fake.http("HEAD", f"{FILES}/f").status_code == 502
    assert fake.http("PUT", f"{FILES}/f?overwrite=false", data=b"1").status_code == 504
    url = fake.http("POST", f"/api/2.0/fs/create-download-url?path={ROOT}/f").json()["url"]
    assert fake.session.get(url, timeout=30).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/databricks-config",
        "/oidc/v1/token",
        f"{UC}/catalogs",
        DIRECTORIES,
        "/api/2.0/preview/scim/v2/Me",
    ],
)
def test_any_route_can_fail(fake: Bed, path: str) -> None:
    """Discovery, OAuth, Unity Catalog and directories take faults, too."""
    fake.control.add_fault(path=path, status=418, body={"error_code": "TEAPOT"}, headers={"X-Spout": "short"})
    answer = fake.http("GET", path) if path != "/oidc/v1/token" else fake.http("POST", path)
    assert (answer.status_code, answer.json()) == (418, {"error_code": "TEAPOT"})
    assert answer.headers["X-Spout"] == "short"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "BAD_REQUEST"),
        (401, 401),
        (429, "REQUEST_LIMIT_EXCEEDED"),
        (500, "INTERNAL_ERROR"),
        (503, "TEMPORARILY_UNAVAILABLE"),
    ],
)
def test_error_without_a_body_brings_the_usual_one(fake: Bed, status: int, code: str | int) -> None:
    """A scripted status alone comes with the body that a workspace sends with it."""
    fake.control.add_fault(status=status)
    answer = fake.http("GET", f"{FILES}/f")
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)


def test_gateway_error_is_a_page_of_a_proxy(fake: Bed) -> None:
    """502 and 504 come as HTML, as from the proxy before a workspace."""
    fake.control.add_fault(status=502)
    answer = fake.http("GET", f"{FILES}/f")
    assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/html")
    assert "<title>502 Bad Gateway</title>" in answer.text


@pytest.mark.parametrize("retry_after", [True, False])
def test_sdk_waits_out_throttling(fake: Bed, retry_after: bool) -> None:
    """Two 429 with or without Retry-After are retried by the SDK, which then succeeds."""
    fake.control.fidelity(retry_after=retry_after)
    fake.control.add_fault(method="PUT", path="*/files/*", status=429, times=2)
    client = fake.client(disable_experimental_files_api_client=True)
    client.files.upload(f"{ROOT}/f", io.BytesIO(b"1"))
    assert get(fake) == b"1"
    assert [entry.status for entry in fake.control.requests(method="PUT")] == [429, 429, 204]
    assert len(fake.naps.slept) == 2
    fake.control.add_fault(method="GET", path="*/files/*", status=429)
    assert ("Retry-After" in fake.http("GET", f"{FILES}/f").headers) is retry_after


def test_sdk_obeys_a_scripted_retry_after(fake: Bed) -> None:
    """Retry-After: 7 makes the SDK sleep at least seven seconds."""
    fake.control.add_fault(path="*/files/*", status=429, headers={"Retry-After": "7"})
    fake.client(disable_experimental_files_api_client=True).files.upload(f"{ROOT}/f", io.BytesIO(b"1"))
    assert [7 <= nap <= 8.5 for nap in fake.naps.slept] == [True]


def test_sdk_gives_up_on_throttling_for_ever(fake: Bed) -> None:
    """429 for ever ends in the SDK's TimeoutError, caused by TooManyRequests."""
    fake.control.add_fault(path="*/files/*", status=429, times=None)
    client = fake.client(disable_experimental_files_api_client=True, retry_timeout_seconds=4)
    with pytest.raises(TimeoutError) as caught:
        client.files.upload(f"{ROOT}/f", io.BytesIO(b"1"))
    assert isinstance(caught.value.__cause__, errors.TooManyRequests)
    assert fake.control.files(VOLUME) == {}


def test_sdk_reports_its_own_create_as_a_conflict_after_a_lost_reply(fake: Bed) -> None:
    """overwrite=false, the reply lost, the SDK's retry: AlreadyExists, although the own write won."""
    fake.control.add_fault(method="PUT", path="*/files/*", when="after", drop=True)
    client = fake.client(disable_experimental_files_api_client=True)
    with pytest.raises(errors.AlreadyExists):
        client.files.upload(f"{ROOT}/f", io.BytesIO(b"mine"), overwrite=False)
    assert get(fake) == b"mine"
    assert [entry.status for entry in fake.control.requests(method="PUT")] == [0, 409]


@pytest.mark.parametrize("when", ["before", "after"])
def test_held_request_waits_until_released(fake: Bed, when: str) -> None:
    """`hold` stops a request before or after its effect until the test lets it go."""
    put(fake, b"old")
    fault = fake.control.add_fault(method="PUT", path="*/f", hold=True, when=when)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(
            requests.put, fake.workspace.url + f"{FILES}/f", data=b"new", headers=admin(fake)
        )
        fake.control.await_held(fault)
        assert get(fake) == {"before": b"old", "after": b"new"}[when]
        assert not pending.done()
        fake.control.release(fault)
        assert pending.result(30).status_code == 204
    assert get(fake) == b"new"
    assert fake.control.fault(fault)["held"] == 0


def test_clearing_faults_lets_held_requests_go(fake: Bed) -> None:
    """A held request goes on when its fault is removed."""
    fault = fake.control.add_fault(method="PUT", path="*/f", hold=True)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(
            requests.put, fake.workspace.url + f"{FILES}/f", data=b"new", headers=admin(fake)
        )
        fake.control.await_held(fault)
        fake.control.clear_faults()
        assert pending.result(30).status_code == 204


def test_other_requests_pass_a_delayed_one(fake: Bed) -> None:
    """A delay holds up its own request, not the workspace."""
    fault = fake.control.add_fault(method="PUT", path="*/slow", delay=0.3)
    order: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(requests.put, fake.workspace.url + f"{FILES}/slow", data=b"", headers=admin(fake))
        slow.add_done_callback(lambda _: order.append("slow"))
        fake.control.await_hits(fault)
        assert put(fake, b"", "fast") == 204
        order.append("fast")
        assert slow.result(30).status_code == 204
    assert order == ["fast", "slow"]


def test_stale_read_sees_what_was_there_before(fake: Bed) -> None:
    """A stale read returns the content before the last write, once; before the first write, nothing."""
    fake.control.add_fault(method="GET", path="*/files/*", stale=True)
    put(fake, b"1")
    assert fake.http("GET", f"{FILES}/f").status_code == 404
    put(fake, b"2")
    fake.control.add_fault(method="GET", path="*/files/*", stale=True)
    assert (get(fake), get(fake)) == (b"1", b"2")
    fake.http("DELETE", f"{FILES}/f")
    fake.control.add_fault(path="*/files/*", method="GET", stale=True)
    assert get(fake) == b"2"
    assert fake.http("GET", f"{FILES}/f").status_code == 404


def test_stale_listing_lacks_the_newest_file_and_keeps_the_deleted_one(fake: Bed) -> None:
    """A stale listing is that of before the last change of each file."""
    put(fake, b"1", "kept")
    put(fake, b"1", "kept")
    put(fake, b"1", "deleted")
    fake.http("DELETE", f"{FILES}/deleted")
    put(fake, b"1", "new")
    fake.control.add_fault(method="GET", path="*/directories/*", stale=True)
    files = fake.client().files
    assert [entry.name for entry in files.list_directory_contents(ROOT)] == ["deleted", "kept"]
    assert [entry.name for entry in files.list_directory_contents(ROOT)] == ["kept", "new"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({}, "the fault does nothing"),
        ({"when": "during", "status": 500}, "when is 'before' or 'after'"),
        ({"first": 0, "status": 500}, "count from 1"),
        ({"times": 0, "status": 500}, "count from 1"),
        ({"body": "x"}, "a fault with a body needs a status"),
        ({"stauts": 500}, "stauts"),
    ],
)
def test_bad_fault_is_refused_with_one_line(fake: Bed, fault: dict[str, Any], message: str) -> None:
    """A fault that makes no sense is a ValueError that says why, in process and over HTTP."""
    with pytest.raises(ValueError, match=message):
        fake.control.add_fault(**fault)
    assert put(fake, b"1") == 204


def test_fault_survives_the_wire_unchanged() -> None:
    """Every field of a fault has a JSON form from which the same fault comes back."""
    fault = Fault(method="PUT", path="/x", first=3, times=None, when="after", status=500, body={"a": 1})
    assert Fault(**fault.to_json()) == fault


def test_upload_that_breaks_off_has_no_effect() -> None:
    """When the client goes away in the middle of a PUT, the file stays as it was."""
    with reach("server") as fake:
        put(fake, b"whole")
        split = urlsplit(fake.workspace.url)
        with socket.create_connection((split.hostname or "", split.port or 0)) as raw:
            head = f"PUT {FILES}/f HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {fake.workspace.token}\r\n"
            raw.sendall(f"{head}Content-Length: 100\r\n\r\ntorn".encode())
        logged: list[int | None] = []
        for _ in range(500):
            logged = [entry.status for entry in fake.control.requests(method="PUT")]
            if len(logged) == 2:
                break
            threading.Event().wait(0.01)
        assert logged == [204, 0]
        assert get(fake) == b"whole"


def admin(bed: Bed) -> dict[str, str]:
    return {"Authorization": f"Bearer {bed.workspace.token}"}


@pytest.mark.parametrize("fault", [{"drop": True}, {"truncate": 1_000_000}, {"truncate": 0}])
def test_scripted_break_is_no_defect_of_the_server(
    fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A broken answer of any size ends the connection, and the server logs no error of its own."""
    with reach("server") as fake:
        put(fake, bytes(3_000_000))
        fake.control.add_fault(method="GET", path="*/files/*", **fault)
        broken = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
        with pytest.raises(broken):
            get(fake)
        assert len(get(fake)) == 3_000_000
    assert [record.getMessage() for record in caplog.records] == []
