"""Switches for undocumented behaviour, the clock, the request log and the control API of the fake."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.clock import VirtualClock
from lockproof.fakes.databricks.control import FakeControl, operate
from lockproof.fakes.databricks.requestlog import RequestLog
from lockproof.fakes.databricks.server import FakeServer
from lockproof.suites.meta.fake_bed import DIRECTORIES, FILES, UC, Bed, reach


def put(bed: Bed, path: str, data: bytes = b"", query: str = "") -> int:
    return bed.http("PUT", f"{FILES}/{path}{query}", data=data).status_code


def test_missing_parents_are_an_error_when_switched(fake: Bed) -> None:
    """Without `parents_auto_created` an upload needs its directory: 404 with the directory's reason."""
    fake.control.fidelity(parents_auto_created=False)
    refused = fake.http("PUT", f"{FILES}/d/f", data=b"1")
    assert refused.status_code == 404
    assert refused.json()["details"][0]["reason"] == "FILES_API_DIRECTORY_IS_NOT_FOUND"
    assert put(fake, "f") == 204
    fake.http("PUT", f"{DIRECTORIES}/d")
    assert put(fake, "d/f") == 204


@pytest.mark.parametrize("switched", [True, False])
def test_emptied_volume_loses_its_root_when_switched(fake: Bed, switched: bool) -> None:
    """With `emptied_root_is_missing` a volume lists as 404 after its last file went, but not when new."""
    fake.control.fidelity(emptied_root_is_missing=switched)
    assert fake.http("GET", DIRECTORIES).status_code == 200
    put(fake, "f")
    fake.http("DELETE", f"{FILES}/f")
    assert fake.http("GET", DIRECTORIES).status_code == (404 if switched else 200)
    put(fake, "f")
    assert fake.http("GET", DIRECTORIES).status_code == 200


@pytest.mark.parametrize("switched", [True, False])
def test_directory_vanishes_with_its_last_child_when_switched(fake: Bed, switched: bool) -> None:
    """With `directories_vanish` the emptied directories go, up to the first that still holds something."""
    fake.control.fidelity(directories_vanish=switched)
    put(fake, "a/b/c/f")
    put(fake, "a/g")
    fake.http("DELETE", f"{FILES}/a/b/c/f")
    found = [fake.http("HEAD", f"{DIRECTORIES}/{path}").status_code for path in ("a/b/c", "a/b", "a")]
    assert found == ([404, 404, 200] if switched else [200, 200, 200])


@pytest.mark.parametrize("atomic", [True, False])
def test_overlapping_creates_may_both_win_when_switched(fake: Bed, atomic: bool) -> None:
    """Without `atomic_create` two overlapping create-only uploads both succeed; one after another never."""
    fake.control.fidelity(atomic_create=atomic)
    slow = fake.control.add_fault(method="PUT", path="*/f", hold=True)
    url = f"{fake.workspace.url}{FILES}/f?overwrite=false"
    headers = {"Authorization": f"Bearer {fake.workspace.token}"}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(requests.put, url, data=b"first", headers=headers)
        fake.control.await_held(slow)
        assert put(fake, "f", b"second", "?overwrite=false") == 204
        fake.control.release(slow)
        assert first.result(30).status_code == (409 if atomic else 204)
    assert fake.http("GET", f"{FILES}/f").content == (b"second" if atomic else b"first")
    assert put(fake, "f", b"third", "?overwrite=false") == 409


def test_new_volume_is_seen_late_when_switched(fake: Bed) -> None:
    """With `hidden_volume_requests` a new volume is missing for the Files API that many times."""
    fake.control.fidelity(hidden_volume_requests=2)
    body = {"catalog_name": "main", "schema_name": "default", "name": "late", "volume_type": "MANAGED"}
    assert fake.http("POST", f"{UC}/volumes", json=body).status_code == 200
    path = "/api/2.0/fs/files/Volumes/main/default/late/f"
    answers = [fake.http("PUT", path, data=b"1") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [404, 404, 204]
    assert answers[0].json()["message"] == "Volume 'main.default.late' does not exist."


def test_reads_are_stale_when_switched(fake: Bed) -> None:
    """With `stale_reads=1` the first read after each write or delete sees what was there before."""
    fake.control.fidelity(stale_reads=1)
    put(fake, "f", b"1")
    assert [fake.http("GET", f"{FILES}/f").status_code for _ in range(2)] == [404, 200]
    put(fake, "f", b"2")
    assert [fake.http("GET", f"{FILES}/f").content for _ in range(2)] == [b"1", b"2"]
    fake.http("DELETE", f"{FILES}/f")
    assert [fake.http("GET", f"{FILES}/f").status_code for _ in range(2)] == [200, 404]


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"colour": 1}, "no fidelity switch 'colour'; known: atomic_create"),
        ({"max_page": "3"}, "is of type int"),
        ({"cloud": "sky"}, "is one of"),
    ],
)
def test_bad_switch_is_refused(fake: Bed, switches: dict[str, Any], message: str) -> None:
    """An unknown switch or a value of another type is refused, and no switch is changed."""
    before = fake.control.fidelity()
    with pytest.raises(ValueError, match=message):
        fake.control.fidelity(stale_reads=5, **switches)
    assert fake.control.fidelity() == before


def test_clock_stands_still_moves_on_and_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen clock moves by steps only; resumed, it goes on from there; it never goes back."""
    real = 1_000_000.0
    monkeypatch.setattr("lockproof.fakes.databricks.clock.time.time", lambda: real)
    clock = VirtualClock()
    assert clock.time() == 1_000_000
    assert clock.freeze() == 1_000_000
    real += 500
    assert clock.freeze() == clock.time() == 1_000_000
    assert clock.advance(3600) == 1_003_600 == clock.time()
    assert clock.resume() == 1_003_600
    real += 10
    assert clock.resume() == clock.time() == 1_003_610
    with pytest.raises(ValueError, match="only moves forward"):
        clock.advance(-1)


def test_file_times_follow_the_clock(fake: Bed) -> None:
    """A file written after the clock moved a day carries the new day."""
    now = fake.control.freeze_clock()
    fake.control.advance_clock(86400)
    put(fake, "f")
    (entry,) = fake.http("GET", DIRECTORIES).json()["contents"]
    assert entry["last_modified"] == int((now + 86400) * 1000)
    assert fake.control.resume_clock() >= now + 86400


def test_log_tells_who_asked_what(fake: Bed) -> None:
    """An entry has sequence, caller, operation, sizes and status; selections narrow by path and mark."""
    put(fake, "f", b"12345")
    mark = fake.control.mark()
    fake.http("GET", f"{FILES}/f")
    fake.http("GET", DIRECTORIES)
    (entry,) = fake.control.requests(since=mark, path="*/files/*")
    assert (entry.method, entry.path, entry.status, entry.bytes_out) == ("GET", f"{FILES}/f", 200, 5)
    assert (entry.principal, entry.operation, entry.i) == ("admin@example.com", "Download a file", mark + 1)
    (upload,) = fake.control.requests(operation="Upload a file")
    assert (upload.bytes_in, upload.fault) == (5, None)
    fault = fake.control.add_fault(method="PUT", path="*", status=503)
    put(fake, "g")
    assert fake.control.requests(method="PUT")[-1].fault == fault


def test_log_holds_no_secret(fake: Bed) -> None:
    """Bearer tokens, and secrets in a query, are not in the log; page tokens are."""
    fake.http(
        "GET", f"{DIRECTORIES}?page_token=abc&session_token=s3cret&X-Amz-Signature=s1g&password=p4ss&sig=s2g"
    )
    log = repr(fake.control.requests())
    assert [
        secret for secret in ("s3cret", "s1g", "p4ss", "s2g", fake.workspace.token) if secret in log
    ] == []
    assert fake.control.requests()[0].query["page_token"] == "abc"


def test_log_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full log forgets its oldest entries and goes on counting."""
    monkeypatch.setattr("lockproof.fakes.databricks.requestlog.CAPACITY", 3)
    log = RequestLog()
    for _ in range(5):
        log.open(0.0, "GET", "/", {}, "workspace", 0)
    assert [entry.i for entry in log.select()] == [3, 4, 5]


def test_control_refuses_with_one_line(fake: Bed) -> None:
    """Unknown operations, bad arguments and the fake's own errors are a ValueError of one line."""
    for call, message in (
        (lambda: fake.control.call("explode"), "no control operation 'explode'"),
        (lambda: fake.control.create_schema("no.s"), "Catalog 'no' does not exist"),
        (lambda: fake.control.fault(99), "no fault with id 99"),
        (lambda: fake.control.advance_clock(-5), "only moves forward"),
        (lambda: fake.control.create_principal("admin@example.com"), "exists already"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_control_creates_catalogs_and_schemas(fake: Bed) -> None:
    """Objects made by the control are there for clients."""
    assert fake.control.create_catalog("Tf") == "tf"
    assert fake.control.create_schema("tf.Prod") == "tf.prod"
    assert fake.control.create_volume("tf.prod.V") == "tf.prod.v"
    assert fake.client().volumes.read("tf.prod.v").name == "v"


def test_every_control_method_has_its_operation() -> None:
    """Each public method of FakeControl calls an operation that exists, and no operation lacks a method."""
    from lockproof.fakes.databricks.control import OPERATIONS

    public = {name for name, _ in inspect.getmembers(FakeControl, inspect.isfunction) if name[0] != "_"}
    core = {name for name, function in OPERATIONS.items() if function.__module__.endswith(".control")}
    assert public - {"call", "await_held", "await_hits"} == core


def test_control_at_a_wrong_address_says_so() -> None:
    """A control at an address without control API is one clear line."""
    with FakeServer() as server:
        with pytest.raises(ValueError, match=f"no control API of a fake at {server.storage_url}"):
            FakeControl(server.storage_url).mark()
        answer = requests.get(f"{server.url}/__fake/mark", timeout=30)
        assert (answer.status_code, answer.json()) == (400, {"error": "the control API takes POST only"})
        assert server.workspace.log.count == 1


def test_control_is_not_served_beyond_the_loopback() -> None:
    """A fake bound to all interfaces has no control API."""
    with FakeServer(host="0.0.0.0") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        answer = requests.post(f"{url}/__fake/mark", data="{}", timeout=30)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


def test_waiting_for_a_fault_ends() -> None:
    """await_held raises TimeoutError that names what did not come."""
    control = FakeControl(FakeWorkspace())
    fault = control.add_fault(hold=True)
    with pytest.raises(TimeoutError, match=r"no 1 held requests within 0\.02 s"):
        control.await_held(fault, timeout=0.02)


def test_server_frees_its_ports_and_threads() -> None:
    """After closing, nothing listens any more and held requests are gone."""
    with ThreadPoolExecutor(1) as pool:
        with reach("server", strict=False) as fake:
            held = fake.control.add_fault(path="*/held", hold=True)
            url = f"{fake.workspace.url}{FILES}/held"
            pending = pool.submit(requests.get, url, timeout=30)
            fake.control.await_held(held)
        assert pending.exception(30) is not None or pending.result().status_code == 401
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=30)


def test_unknown_operation_lists_the_known_ones() -> None:
    """The refusal of an unknown control operation helps."""
    with pytest.raises(ValueError, match="known: add_fault, advance_clock"):
        operate(FakeWorkspace(), "add_faults", {})


def test_grants_on_creation_are_checked(fake: Bed) -> None:
    """A principal with a grant on an object that does not exist is refused."""
    with pytest.raises(ValueError, match="does not exist"):
        fake.control.create_principal("ada@example.com", grants={"main.default.no": ["READ_VOLUME"]})
    assert fake.control.create_principal("ada@example.com").startswith("dapi")


@pytest.mark.parametrize("storage", [True, False])
def test_taken_port_is_an_error_at_once(storage: bool) -> None:
    """A port in use is an OSError before anything is served."""
    with FakeServer() as server:
        taken = int(server.url.rpartition(":")[2])
        with pytest.raises(OSError, match="Address already in use"):
            FakeServer(port=0 if storage else taken, storage_port=taken if storage else 0)
