"""`--backend=http:URL`: what the driver sends, and what it makes of the answers."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver import Address, DriverError, Locked, LockInfo, LockMismatch, NotLocked
from lockproof.driver.command_line import HasCommandLine
from lockproof.driver.http import HttpClient, HttpDriver
from lockproof.driver.memory import MemoryDriver
from lockproof.suites.clients.adapter import Adapter

DROP = 0
"""The status of a server that takes a request and hangs up without an answer."""
HOLDER = LockInfo("held", "OperationTypeApply", "", "alice", "1.11.4", "2026-01-02T03:04:05Z", "")
OPERATIONS: Mapping[str, Callable[[HttpClient], object]] = {
    "get": lambda client: client.get("default"),
    "put": lambda client: client.put("default", b"state", lock_id="mine"),
    "delete": lambda client: client.delete("default"),
    "lock": lambda client: client.lock("default", LockInfo(ID="mine")),
    "unlock": lambda client: client.unlock("default", "mine"),
}
PROVED = ("STATE-RT-001", "LOCK-EXCL-*", "LOCK-HOLD-*", "LOCK-REL-*", "LOCK-FORCE-*")
WRITES = ("put", "delete", "lock", "unlock")


@dataclass
class Scripted:
    """A server that answers every request alike and keeps what it was sent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Scripted]:
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            script.seen.append((self.command, self.path, dict(self.headers), body))
            if script.status == DROP:
                return
            self.send_response(script.status)
            for name, value in {"Content-Length": str(len(script.body)), **script.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(script.body)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        script.url = f"http://127.0.0.1:{http.server_address[1]}"
        yield script
        http.shutdown()
        thread.join()


def client_of(url: str, **options: str) -> HttpClient:
    """A client of a scope named `sc`."""
    return HttpDriver({"address": url, **options}).open_scope("sc").client("test")


def failure(operation: str, client: HttpClient) -> DriverError:
    """The error that an operation raises."""
    with pytest.raises(DriverError) as caught:
        OPERATIONS[operation](client)
    client.close()
    return caught.value


def test_a_write_is_sent_as_opentofu_sends_it(server: Scripted) -> None:
    """POST with the lock's ID in the query, a JSON content type and the body's digest."""
    client = client_of(server.url + "/s?b=2&ID=old&a=1")
    client.put("default", b'{"x":1}', lock_id="a b")
    client.close()
    (method, path, headers, body) = server.seen[0]
    assert (method, path, body) == ("POST", "/s?ID=a+b&a=1&b=2", b'{"x":1}')
    assert headers["Content-Type"] == "application/json"
    assert headers["Content-MD5"] == base64.b64encode(hashlib.md5(body).digest()).decode()


def test_a_lock_is_released_with_the_info_that_took_it_and_another_by_its_id(server: Scripted) -> None:
    """Its own lock by the whole lock info; somebody else's, as in force-unlock, by the ID alone."""
    client = client_of(server.url)
    info = LockInfo.new("me")
    assert client.lock("default", info) == info.ID
    client.unlock("default", "stranger")
    client.unlock("default", info.ID)
    client.unlock("default", info.ID)
    client.close()
    bodies = [json.loads(body) for method, _, _, body in server.seen if method == "UNLOCK"]
    assert bodies[0] == {**LockInfo(ID="stranger").to_json(), "Created": "0001-01-01T00:00:00Z"}
    assert bodies[1] == info.to_json()
    assert bodies[2]["Who"] == ""


def test_methods_and_addresses_can_be_others(server: Scripted) -> None:
    """Addresses and methods of lock, unlock and update are options, as in OpenTofu."""
    client = client_of(
        server.url + "/state",
        lock_address=server.url + "/lock",
        unlock_address=server.url + "/unlock",
        update_method="put",
        lock_method="POST",
        unlock_method="DELETE",
    )
    client.put("default", b"x")
    client.lock("default", LockInfo(ID="a"))
    client.unlock("default", "a")
    client.close()
    assert [(m, p) for m, p, _, _ in server.seen] == [
        ("PUT", "/state"),
        ("POST", "/lock"),
        ("DELETE", "/unlock"),
    ]


def test_placeholders_are_filled_in(server: Scripted) -> None:
    """`{scope}` and `{workspace}` become parts of the address, percent-encoded."""
    client = client_of(server.url + "/{scope}/{workspace}")
    client.get("default")
    client.get("a/b ü")
    client.close()
    assert [path for _, path, _, _ in server.seen] == ["/sc/default", "/sc/a%2Fb%20%C3%BC"]


@pytest.mark.parametrize(
    ("address", "workspace"), [("/s", "other"), ("/{workspace}", ".."), ("/{workspace}", ".")]
)
def test_a_workspace_without_an_address_is_unsupported(
    server: Scripted, address: str, workspace: str
) -> None:
    """Without `{workspace}` there is default alone; a name that paths swallow is not sent."""
    client = client_of(server.url + address)
    with pytest.raises(DriverError) as caught:
        client.get(workspace)
    client.close()
    assert (caught.value.kind, caught.value.definite) == ("unsupported", True)
    assert server.seen == []


@pytest.mark.parametrize("status", [204, 404])
def test_no_state_is_none(server: Scripted, status: int) -> None:
    """204 and 404 say that there is no state, 200 without a body is an empty one."""
    client = client_of(server.url)
    server.status = status
    assert client.get("default") is None
    server.status = 200
    snapshot = client.get("default")
    assert snapshot is not None
    assert snapshot.data == b""
    client.close()


def test_a_state_with_another_digest_is_malformed(server: Scripted) -> None:
    """A body that is not what the server's Content-MD5 says is no state."""
    server.body, server.headers = b"state", {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    assert failure("get", client_of(server.url)).kind == "malformed"


@pytest.mark.parametrize("status", [201, 202, 204, 302, 307, 400, 404, 412, 501])
def test_a_lock_is_granted_by_200_alone(server: Scripted, status: int) -> None:
    """Any other status but 409 and 423 is an error; one that says that something was done leaves it open."""
    server.status = status
    error = failure("lock", client_of(server.url))
    assert not isinstance(error, Locked)
    assert error.definite is (status >= 300)


@pytest.mark.parametrize(
    ("operation", "good"), [("put", {200, 201, 204}), ("delete", {200, 204, 404}), ("unlock", {200})]
)
def test_what_acknowledges_a_change(server: Scripted, operation: str, good: set[int]) -> None:
    """The statuses that OpenTofu takes for done; any other 2xx leaves the change open."""
    for status in (200, 201, 202, 204, 206, 404):
        server.status = status
        client = client_of(server.url)
        if status in good:
            OPERATIONS[operation](client)
            client.close()
        else:
            error = failure(operation, client)
            assert error.definite is (status == 404)


@pytest.mark.parametrize("status", [409, 423])
def test_a_refused_lock_names_its_holder(server: Scripted, status: int) -> None:
    """The lock info in the refusal is the holder."""
    server.status, server.body = status, json.dumps(HOLDER.to_json()).encode()
    error = failure("lock", client_of(server.url))
    assert isinstance(error, Locked)
    assert error.holder == HOLDER


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"locked", b'{"ID":""}', b'{"ID":5}', b"\xff"])
def test_a_refusal_without_a_holder_has_none(server: Scripted, body: bytes) -> None:
    """423 whose body is no lock info: refused, by nobody knows whom."""
    server.status, server.body = 423, body
    error = failure("lock", client_of(server.url))
    assert isinstance(error, Locked)
    assert error.holder is None


def test_a_refused_write_says_why(server: Scripted) -> None:
    """409 with a lock info is a mismatch with the holder, without one stale; without an ID it is locked."""
    server.status, server.body = 409, json.dumps(HOLDER.to_json()).encode()
    error = failure("put", client_of(server.url))
    assert isinstance(error, LockMismatch)
    assert error.holder == HOLDER
    server.body = b""
    assert failure("put", client_of(server.url)).kind == "stale"
    client = client_of(server.url)
    with pytest.raises(Locked):
        client.put("default", b"x")
    client.close()


def test_a_refused_unlock_says_why(server: Scripted) -> None:
    """A refusal with a lock info is a mismatch, one without is "not locked"."""
    server.status, server.body = 409, json.dumps(HOLDER.to_json()).encode()
    assert isinstance(failure("unlock", client_of(server.url)), LockMismatch)
    server.status, server.body = 404, b"nothing here"
    assert isinstance(failure("unlock", client_of(server.url)), NotLocked)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "unauthorized"), (403, "unauthorized"), (429, "throttled"), (501, "unsupported")],
)
def test_a_refusal_is_definite(server: Scripted, operation: str, status: int, kind: str) -> None:
    """401, 403, 429 and 501 say that nothing was done."""
    server.status, server.body = status, b"a reason\nin two lines"
    error = failure(operation, client_of(server.url))
    assert (error.kind, error.definite) == (kind, True)
    assert "a reason in two lines" in str(error)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_leaves_a_write_open(server: Scripted, operation: str, status: int) -> None:
    """After 5xx a write may have happened; a read has no effect to wonder about."""
    server.status = status
    error = failure(operation, client_of(server.url))
    assert (error.kind, error.definite) == ("unavailable", operation not in WRITES)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lost_answer_leaves_a_write_open(server: Scripted, operation: str) -> None:
    """A connection that ends after the request was sent leaves a write open, and is not tried again."""
    server.status = DROP
    error = failure(operation, client_of(server.url))
    assert (error.kind, error.definite) == ("unavailable", operation not in WRITES)
    assert len(server.seen) == 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_refused_connection_is_definite(operation: str) -> None:
    """Where nobody listens nothing was done."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        error = failure(operation, client_of(url))
    assert (error.kind, error.definite) == ("unavailable", True)
    assert "refused" in str(error)


def test_no_answer_in_time_is_a_timeout_in_doubt() -> None:
    """A server that takes a write and says nothing leaves it open."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        error = failure("put", client_of(url, timeout="0.2"))
    assert (error.kind, error.definite) == ("timeout", False)


def test_a_redirect_is_not_followed(server: Scripted) -> None:
    """302 would turn a LOCK into a GET: the final address must be given."""
    server.status, server.headers = 302, {"Location": server.url + "/elsewhere"}
    error = failure("lock", client_of(server.url))
    assert (error.kind, error.definite) == ("unsupported", True)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"username": "u", "password": "p"}, "Basic dTpw"),
        ({"bearer": "t0ken"}, "Bearer t0ken"),
        ({}, None),
    ],
)
def test_credentials_are_sent(server: Scripted, options: dict[str, str], header: str | None) -> None:
    """Basic auth, a bearer token, or nothing: never what ~/.netrc has."""
    client = client_of(server.url, **options)
    client.get("default")
    client.close()
    assert server.seen[0][2].get("Authorization") == header


def test_no_proxy_of_the_environment_is_asked(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under test is reached directly, whatever proxy the environment names."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{unused.getsockname()[1]}")
        client = client_of(server.url)
        client.get("default")
        client.close()
    assert len(server.seen) == 1


def test_a_password_can_come_from_a_file(server: Scripted, tmp_path: Path) -> None:
    """`password_file` keeps the password out of the command line; no repr shows it."""
    (tmp_path / "secret").write_text("p\n")
    options = {"username": "u", "password_file": str(tmp_path / "secret")}
    client = client_of(server.url, **options)
    client.get("default")
    client.close()
    assert server.seen[0][2]["Authorization"] == "Basic dTpw"
    assert "dTpw" not in repr(client.settings)
    assert "'p'" not in repr(client.settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "ftp://x"}, "http:// or https://"),
        ({"address": "http://u:p@x/"}, "no credentials in the address"),
        ({"address": "http://x/{name}"}, "and no others"),
        ({"address": "http://x/{scope}", "lock_address": "http://x/lock"}, "the same placeholders"),
        ({"address": "http://x", "frob": "1"}, "no option frob"),
        ({"address": "http://x", "username": "u"}, "come together"),
        ({"address": "http://x", "username": "u", "password": "p", "bearer": "b"}, "exclude each other"),
        ({"address": "http://x", "bearer": "a", "bearer_file": "b"}, "exclude each other"),
        ({"address": "http://x", "bearer_file": "/nonexistent"}, "/nonexistent"),
        ({"address": "http://x", "ca": "/nonexistent"}, "there is no file"),
        ({"address": "http://x", "timeout": "soon"}, "'soon'"),
        ({"address": "http://x", "target": "moon"}, "'moon'"),
        ({}, "http:// or https://"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, str], message: str) -> None:
    """Each mistake is a ValueError that names it."""
    with pytest.raises(ValueError, match=message) as caught:
        HttpDriver(options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "given", "target"),
    [
        ("http://127.0.0.1:1", None, "local"),
        ("http://[::1]:1", None, "local"),
        ("http://localhost", None, "local"),
        ("https://state.example", None, "real"),
        ("https://state.example", "fake", "fake"),
    ],
)
def test_the_target_is_real_unless_on_loopback(address: str, given: str | None, target: str) -> None:
    """A run against another machine never reads as a local one."""
    options = {"address": address} | ({"target": given} if given else {})
    assert HttpDriver(options).info.target == target


def test_a_link_can_be_led_elsewhere(server: Scripted) -> None:
    """The server's address is a link: a scope opened with another goes there."""
    driver = HttpDriver({"address": "http://192.0.2.1:8080/{scope}"})
    assert driver.links() == {"http": Address("192.0.2.1", 8080, protocol="http")}
    port = int(server.url.rpartition(":")[2])
    client = driver.open_scope("sc", {"http": Address("127.0.0.1", port)}).client("test")
    client.get("default")
    client.close()
    assert server.seen[0][1] == "/sc"
    assert HttpDriver({"address": "https://x"}).links() == {"http": Address("x", 443, True, protocol="http")}
    assert HttpDriver({"address": "http://x", "lock_address": "https://x"}).links() == {}


@contextmanager
def minimal_server() -> Iterator[str]:
    """The address of the least correct server that there is: a dictionary under a mutex."""
    with MemoryDriver({}).open_scope("served") as scope, Adapter(scope.client("adapter")) as adapter:
        yield adapter.command_line("x").environment["TF_HTTP_ADDRESS"].removesuffix("/x")


def test_a_scope_leaves_no_state_and_no_lock() -> None:
    """What a scope's clients left behind, a forgotten lock among it, is gone when it closes."""
    with minimal_server() as url:
        driver = HttpDriver({"address": url + "/{scope}-{workspace}"})
        with driver.open_scope("one") as scope:
            client = scope.client("a")
            for workspace in ("default", "other"):
                client.put(workspace, b"left")
                client.lock(workspace, LockInfo.new("gone"))
            client.close()
        with driver.open_scope("one", attach=True) as scope:
            client = scope.client("b")
            for workspace in ("default", "other"):
                assert client.get(workspace) is None
                client.unlock(workspace, client.lock(workspace, LockInfo.new("b")))
            client.close()


def test_an_attached_scope_removes_nothing() -> None:
    """Another process that joined a scope leaves it as it is."""
    with minimal_server() as url:
        driver = HttpDriver({"address": url + "/{scope}-{workspace}"})
        with driver.open_scope("one") as scope:
            client = scope.client("a")
            with driver.open_scope("one", attach=True) as attached:
                joined = attached.client("b")
                joined.put("default", b"kept")
                joined.close()
            snapshot = client.get("default")
            assert snapshot is not None
            assert snapshot.data == b"kept"
            client.close()


def test_a_server_with_one_state_is_emptied_first_and_used_by_one_scope() -> None:
    """Without `{scope}` leftovers are removed before a test, and a second scope at once is refused."""
    with minimal_server() as url:
        driver = HttpDriver({"address": url + "/the-state"})
        stray = driver.open_scope("x", attach=True).client("stray")
        stray.put("default", b"left")
        stray.lock("default", LockInfo.new("stray"))
        with driver.open_scope("one") as scope:
            client = scope.client("a")
            assert client.get("default") is None
            client.unlock("default", client.lock("default", LockInfo.new("a")))
            with pytest.raises(DriverError, match="one scope at a time"):
                driver.open_scope("two").__enter__()
            client.close()
        with driver.open_scope("three"):
            stray.close()


def test_stock_clients_are_told_the_address() -> None:
    """A scope hands a stock client its settings, and refuses where there is only a bearer token."""
    address = {"address": "http://127.0.0.1:1/{scope}"}
    scope = HttpDriver({**address, "username": "u", "password": "p"}).open_scope("sc")
    assert isinstance(scope, HasCommandLine)
    line = scope.command_line("default")
    assert line.prefix == ()
    assert line.environment["TF_HTTP_UNLOCK_ADDRESS"] == "http://127.0.0.1:1/sc"
    assert line.environment["TF_HTTP_PASSWORD"] == "p"
    bearer = HttpDriver({**address, "bearer": "t"}).open_scope("sc")
    with pytest.raises(DriverError, match="send no bearer token"):
        bearer.command_line("default")


def certify(directory: Path, backend: str, *options: str) -> dict[str, Any]:
    """The results of a run of the suites from an empty directory, as its report has them."""
    command = [sys.executable, "-m", "pytest", f"--backend={backend}", "-q", "-p", "no:cacheprovider"]
    subprocess.run(
        [*command, f"--backend-report={directory / 'report'}", *options],
        cwd=directory,
        capture_output=True,
        timeout=120,
        check=False,
    )
    report = json.loads((directory / "report" / "report.json").read_text())
    found: dict[str, Any] = report["backends"][0]
    return found


def test_a_minimal_correct_server_conforms(tmp_path: Path) -> None:
    """A correct server that is not the gateway passes every test of states and locks that applies."""
    with minimal_server() as url:
        address = f"http:{url}/{{scope}}-{{workspace}}"
        found = certify(tmp_path, address, *(f"--backend-req={name}" for name in PROVED))
    must = found["verdict"]["must"]
    assert must["met"] == must["applicable"] >= 8, found["verdict"]
    statuses = [result["status"] for result in found["results"]]
    assert set(statuses) <= {"pass", "skip", "not-run"}
    assert statuses.count("pass") >= 12


def test_a_server_that_hides_the_holder_is_caught(tmp_path: Path) -> None:
    """A server whose 423 has no body fails the requirement on the holder's lock info."""
    backend = "py:lockproof.fakes.saboteurs.http_protocol:RefusalWithoutHolder"
    found = certify(tmp_path, backend, "--backend-req=LOCK-HOLD-001")
    assert found["verdict"]["result"] == "nonconformant"
    cited = [r["status"] for r in found["results"] if "LOCK-HOLD-001" in r["requirements"]]
    assert "fail" in cited
    assert "pass" not in cited
