"""The transport: how often a request is sent, how long is waited between, and what each failure is called."""

from __future__ import annotations

import email.utils
import gc
import io
import json
import re
import socket
import ssl
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter

from lockproof.fakes.databricks.lakebase_tls import certificate, server_context
from tofu_databricks.errors import (
    BackendError,
    InvalidRequest,
    MalformedReply,
    NotFound,
    PermissionDenied,
    StaleWrite,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from tofu_databricks.reply import one_line
from tofu_databricks.transport import Transport, decode_object

HOST = "https://workspace.example"
TOKEN = "dapi0123456789abcdef"
Step = Exception | tuple[int, bytes, dict[str, str]]


class Script(BaseAdapter):
    """Answers the n-th request with the n-th step, the last one for ever; `sent` holds the requests."""

    def __init__(self, *steps: Step) -> None:
        super().__init__()
        self.steps = list(steps)
        self.sent: list[requests.PreparedRequest] = []
        self.settings: list[Mapping[str, Any]] = []

    def send(  # type: ignore[override]  # the settings are looked at as they come
        self, request: requests.PreparedRequest, **settings: Any
    ) -> requests.Response:
        self.sent.append(request)
        self.settings.append(settings)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        status, body, headers = step
        response = requests.Response()
        response.request = request
        response.status_code = status
        response.headers.update(headers)
        response.raw = urllib3.HTTPResponse(io.BytesIO(body), headers, status, preload_content=False)
        return response

    def close(self) -> None:
        """Nothing to close."""


class HandClock:
    """Starts at a known second; sleeping moves it."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def ok(body: bytes = b"state") -> Step:
    return 200, body, {}


def failing(status: int, body: Any = b"", **headers: str) -> Step:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status, raw, {name.replace("_", "-"): value for name, value in headers.items()}


def transport(script: Script, **settings: Any) -> Transport:
    authenticate = lambda: {"Authorization": f"Bearer {TOKEN}"}  # noqa: E731
    return Transport(lambda: HOST, authenticate, adapter=script, clock=HandClock(), **settings)


def slept(subject: Transport) -> list[float]:
    assert isinstance(subject.clock, HandClock)
    return subject.clock.slept


def failure_of(call: Callable[[], object]) -> BackendError:
    with pytest.raises(BackendError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert TOKEN not in text
    return caught.value


def test_success_is_one_authenticated_request() -> None:
    """One request, with the credentials, ours as the user agent, no redirect followed."""
    script = Script(ok())
    reply = transport(script).request("GET", "/p%20q", query={"a": "b"})
    assert (reply.status, reply.content) == (200, b"state")
    assert [r.url for r in script.sent] == [f"{HOST}/p%20q?a=b"]
    assert script.sent[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert script.sent[0].headers["User-Agent"].startswith("tofu-databricks/")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_server_errors_are_tried_four_times(status: int) -> None:
    """500, 502, 503 and 504: three retries with growing waits, then Unavailable."""
    script = Script(failing(status))
    subject = transport(script)
    error = failure_of(lambda: subject.request("GET", "/x"))
    assert isinstance(error, Unavailable)
    assert str(status) in str(error)
    assert "tried 4 times" in str(error)
    assert len(script.sent) == 4
    waits = slept(subject)
    assert [0.375, 0.75, 1.5] <= waits <= [0.625, 1.25, 2.5]
    assert waits == sorted(waits)
    assert error.definite


def test_connection_errors_are_tried_four_times() -> None:
    """A connection that breaks is tried again three times."""
    script = Script(requests.ConnectionError(ConnectionResetError(104, "Connection reset by peer")))
    error = failure_of(lambda: transport(script).request("GET", "/x"))
    assert isinstance(error, Unavailable)
    assert "Connection reset by peer" in str(error)
    assert HOST in str(error)
    assert len(script.sent) == 4


def test_recovery_within_the_retries_is_success() -> None:
    """Three failures and then an answer are an answer."""
    broken = requests.ReadTimeout("slow")
    script = Script(failing(500), broken, failing(503), ok(b"x"))
    assert transport(script).request("PUT", "/x", data=b"1").content == b"x"
    assert [request.body for request in script.sent] == [b"1"] * 4


@pytest.mark.parametrize(
    "steps",
    [
        (failing(500),),
        (requests.ReadTimeout("slow"),),
        (requests.ConnectionError(ConnectionResetError(104, "reset")),),
        (requests.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")),),
        (failing(502), failing(403, {"error_code": "PERMISSION_DENIED", "message": "no"})),
        (failing(500), failing(429, b"", Retry_After="1000")),
        (failing(500), failing(409, {"error_code": "ALREADY_EXISTS", "message": "there"})),
    ],
)
def test_write_that_may_have_happened_says_so(steps: tuple[Step, ...]) -> None:
    """A write of which one attempt went unanswered is not definite, whatever came after."""
    assert not failure_of(lambda: transport(Script(*steps)).request("PUT", "/x", data=b"")).definite


def never_sent(reason: str) -> requests.ConnectionError:
    pool = urllib3.HTTPSConnectionPool("workspace.example")
    new = urllib3.exceptions.NewConnectionError(None, reason)  # type: ignore[arg-type]
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/x", new))


@pytest.mark.parametrize(
    "step",
    [
        never_sent("Failed to establish a new connection"),
        requests.ConnectTimeout("no route"),
        failing(429),
        failing(403, {"error_code": 403, "message": "Invalid access token."}),
        failing(404, {"error_code": "NOT_FOUND", "message": "no"}),
    ],
)
def test_write_that_cannot_have_happened_is_definite(step: Step) -> None:
    """A request that was never sent, or was refused, had no effect."""
    assert failure_of(lambda: transport(Script(step)).request("PUT", "/x", data=b"")).definite


def test_read_only_post_is_definite_when_lost() -> None:
    """A lost read is nothing to worry about, whatever its method."""
    error = failure_of(lambda: transport(Script(failing(500))).request("POST", "/x", read_only=True))
    assert error.definite


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (failing(401, {"error_code": 401, "message": "Credential was not sent."}), Unauthenticated),
        (failing(403, {"error_code": 403, "message": "Invalid access token. [ReqId: 2]"}), Unauthenticated),
        (failing(403, b"Invalid access token."), Unauthenticated),
        (failing(403, {"error_code": "PERMISSION_DENIED", "message": "User does not have READ VOLUME"}),
         PermissionDenied),
        (failing(404, {"error_code": "NOT_FOUND", "message": "gone"}), NotFound),
        (failing(400, {"error_code": "BAD_REQUEST", "message": "Invalid path"}), InvalidRequest),
        (failing(409, {"error_code": "ALREADY_EXISTS", "message": "there"}), InvalidRequest),
        (failing(413), InvalidRequest),
        (failing(501), InvalidRequest),
        (failing(302, b"", Location="https://login.example/?secret=1"), InvalidRequest),
    ],
)  # fmt: skip
def test_refusal_is_never_sent_again(step: Step, kind: type[BackendError]) -> None:
    """401, 403 and every other refusal is one request and one class of error."""
    script = Script(step)
    subject = transport(script)
    error = failure_of(lambda: subject.request("GET", "/x", what="GET state"))
    assert type(error) is kind
    assert (len(script.sent), slept(subject)) == (1, [])


def test_refusal_keeps_code_and_reason() -> None:
    """`error_code` and the reason of ErrorInfo can be told apart by the caller."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "FILES_API_FILE_NOT_FOUND"}
    body = {"error_code": "NOT_FOUND", "message": "no file", "details": [{"@type": "other"}, info, 7]}
    error = failure_of(lambda: transport(Script(failing(404, body))).request("GET", "/x"))
    assert isinstance(error, NotFound)
    assert (error.code, error.reason, error.status) == ("NOT_FOUND", "FILES_API_FILE_NOT_FOUND", 404)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", "HTTP 400"),
        (b"<html><title>400 Bad &amp; Worse</title></html>", "400 Bad & Worse"),
        (b"plain words", "plain words"),
        (b"\xff\xfe", "�"),
        (b'{"error": "from API 1.2"}', "from API 1.2"),
        (b'{"detail": "from SCIM"}', "from SCIM"),
        (b'{"error_code": "ONLY_A_CODE"}', "ONLY_A_CODE"),
        (b"[1]", "[1]"),
        (b'{"error_code": "X", "message": "two\\nlines"}', "two lines"),
        (b'{"message": "' + b"x" * 1000 + b'"}', "x…"),
    ],
)
def test_every_error_body_becomes_one_line(body: bytes, shown: str) -> None:
    """JSON, HTML, text, nothing: the message is one line, with the request id."""
    error = failure_of(
        lambda: transport(Script(failing(400, body, X_Request_Id="r-17"))).request("GET", "/x")
    )
    assert shown in str(error)
    assert "request id r-17" in str(error)


def test_throttling_waits_the_seconds_that_are_asked() -> None:
    """429 with Retry-After in seconds waits just that long, more than four times if need be."""
    script = Script(*[failing(429, b"", Retry_After="11")] * 6, ok())
    subject = transport(script)
    subject.request("GET", "/x")
    assert slept(subject) == [11] * 6


def test_throttling_waits_until_the_date_that_is_asked() -> None:
    """429 with Retry-After as an HTTP date waits until then."""
    date = email.utils.formatdate(1_700_000_030, usegmt=True)
    subject = transport(Script(failing(429, b"", Retry_After=date), ok()))
    subject.request("GET", "/x")
    assert slept(subject) == [30]


@pytest.mark.parametrize("value", ["soon", "-5", "", "1.5x", "²"])
def test_throttling_without_usable_retry_after_backs_off(value: str) -> None:
    """429 that does not say when backs off by itself."""
    subject = transport(Script(*[failing(429, b"", Retry_After=value)] * 2, ok()))
    subject.request("GET", "/x")
    assert [0.375, 0.75] <= slept(subject) <= [0.625, 1.25]


@pytest.mark.parametrize("status", [429, 503])
def test_date_in_the_past_backs_off(status: int) -> None:
    """A Retry-After that is over already leaves the wait to the back-off."""
    date = email.utils.formatdate(1_600_000_000, usegmt=True)
    subject = transport(Script(*[failing(status, b"", Retry_After=date)] * 2, ok()))
    subject.request("GET", "/x")
    assert [0.375, 0.75] <= slept(subject) <= [0.625, 1.25]


@pytest.mark.parametrize("value", ["0", "1"])
def test_service_that_asks_for_no_wait_is_not_flooded(value: str) -> None:
    """Throttled for ever with a Retry-After shorter than the back-off: the attempts stay few."""
    script = Script(failing(429, b"", Retry_After=value))
    subject = transport(script)
    assert type(failure_of(lambda: subject.request("GET", "/x"))) is Throttled
    assert 10 < len(script.sent) < 30
    assert 100 < sum(slept(subject)) <= 120


def test_many_attempts_do_not_overflow() -> None:
    """A retry_deadline of days is kept to, however many attempts it takes."""
    script = Script(failing(429))
    subject = transport(script, retry_deadline=86_400.0)
    assert type(failure_of(lambda: subject.request("GET", "/x"))) is Throttled
    assert len(script.sent) > 1_100  # 2.0 ** 1024 is no float


def test_throttling_ends_at_the_deadline() -> None:
    """Throttled for ever: given up within retry_deadline, with words of its own."""
    script = Script(failing(429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}))
    subject = transport(script, retry_deadline=60.0)
    error = failure_of(lambda: subject.request("PUT", "/x", data=b"", what="PUT state"))
    assert type(error) is Throttled
    assert "slow down" in str(error)
    assert f"gave up after {len(script.sent)} attempts" in str(error)
    assert 45 < sum(slept(subject)) <= 60
    assert error.definite


def test_wait_beyond_the_deadline_is_not_begun() -> None:
    """A Retry-After that goes past the deadline ends the call at once, also for 503."""
    for status, kind in ((429, Throttled), (503, Unavailable)):
        script = Script(failing(status, b"", Retry_After="3600"))
        subject = transport(script)
        assert type(failure_of(lambda s=subject: s.request("GET", "/x"))) is kind  # type: ignore[misc]
        assert (len(script.sent), slept(subject)) == (1, [])


def test_busy_server_is_asked_again_when_it_says() -> None:
    """503 with Retry-After waits that long, and still at most three times."""
    script = Script(failing(503, b"", Retry_After="5"))
    subject = transport(script)
    failure_of(lambda: subject.request("GET", "/x"))
    assert (len(script.sent), slept(subject)) == (4, [5, 5, 5])


def test_throttling_does_not_use_up_the_retries() -> None:
    """429s in between do not count as connection errors or server errors."""
    limited = failing(429, b"", Retry_After="1")
    script = Script(failing(500), limited, failing(500), limited, limited, failing(500), ok())
    assert transport(script).request("GET", "/x").status == 200


def test_untrusted_certificate_is_said_at_once() -> None:
    """A TLS certificate that is not trusted is not tried again, and the cure is named."""
    script = Script(requests.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed certificate")))
    error = failure_of(lambda: transport(script).request("PUT", "/x", data=b""))
    assert "cannot trust the TLS certificate" in str(error)
    assert "ca_certificate" in str(error)
    assert len(script.sent) == 1


def test_no_network_is_said_with_the_systems_words() -> None:
    """Nobody listens: real sockets, the refused address in the message, definite."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        subject = Transport(lambda: address, dict, clock=HandClock())
        error = failure_of(lambda: subject.request("PUT", "/x", data=b"1"))
    assert isinstance(error, Unavailable)
    assert "Connection refused" in str(error)
    assert address in str(error)
    assert error.definite
    assert len(slept(subject)) == 3


def test_impossible_address_is_not_tried_again() -> None:
    """A host that is no address is told apart from an outage."""
    subject = Transport(lambda: "http://[bad", dict, clock=HandClock())
    assert "is not an address" in str(failure_of(lambda: subject.request("GET", "/x")))
    assert slept(subject) == []


@pytest.mark.parametrize("own", [True, False])
def test_header_that_cannot_be_sent_is_not_shown(own: bool) -> None:
    """Neither the library that looks at our headers nor the one that writes them all is quoted."""
    unsendable = {"X-Other": "very-secret\r\n"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        subject = Transport(lambda: address, lambda: {} if own else unsendable, clock=HandClock())
        error = failure_of(lambda: subject.request("GET", "/x", headers=unsendable if own else {}))
    assert "cannot be sent" in str(error)
    assert "secret" not in str(error)
    assert slept(subject) == []


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:very/secret@127.0.0.1:1",
        "http://me:very[secret@127.0.0.1:1",
        "http://me:very-secret@127.0.0.1:x",
        "secret://me:very-secret@127.0.0.1:1",
        "socks9://me:very-secret@127.0.0.1:1",
    ],
)
def test_proxy_that_is_no_address_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """A password that was not percent-encoded: the proxy is what is wrong, and no part of it is shown."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("https_proxy", proxy)
    subject = Transport(lambda: HOST, dict, clock=HandClock())
    error = failure_of(lambda: subject.request("GET", "/x"))
    assert "HTTPS_PROXY" in str(error)
    assert not re.search("very|secret|me:", str(error))
    assert slept(subject) == []


def test_truncated_answer_is_read_again() -> None:
    """A body shorter than announced is a broken connection, not a state."""
    script = Script((200, b"half", {"Content-Length": "8"}), ok(b"complete"))
    assert transport(script).request("GET", "/x").content == b"complete"
    assert len(script.sent) == 2


def test_payload_is_let_go_when_the_call_ends() -> None:
    """A state that was written does not stay in memory until a collection."""

    class Payload(bytearray):
        """Bytes that can be watched."""

    gc.disable()
    try:
        script = Script(failing(503), ok())
        payload = Payload(b"x")
        watched = weakref.ref(payload)
        transport(script).request("PUT", "/x", data=payload)  # type: ignore[arg-type]
        script.sent.clear()
        del payload
        assert watched() is None
    finally:
        gc.enable()


def test_netrc_does_not_replace_the_credentials(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry in ~/.netrc for the workspace is not sent in place of the token."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine workspace.example login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    script = Script(ok())
    transport(script).request("GET", "/x")
    assert script.sent[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_verification_settings_reach_the_connection() -> None:
    """The CA file, or no verification, is what the connection is made with."""
    for verify in (False, "/etc/ca.pem"):
        script = Script(ok())
        transport(script, verify=verify).request("GET", "/x")
        assert script.settings[0]["verify"] == verify


@pytest.mark.parametrize("host", ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"])
def test_no_proxy_stands_before_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is used for the workspace, and not for a loopback address."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    near, far = Script(ok()), Script(ok())
    Transport(lambda: host, dict, adapter=near).request("GET", "/x")
    transport(far).request("GET", "/x")
    assert not near.settings[0]["proxies"]
    assert far.settings[0]["proxies"]["https"] == "http://proxy.example:3128"


def test_guard_stands_before_every_attempt_but_the_first() -> None:
    """It is asked once per retry; what it raises ends the call, with an open outcome where there is one."""
    asked: list[int] = []
    script = Script(failing(429, b"", Retry_After="1"), failing(429, b"", Retry_After="1"), ok())
    transport(script).request("PUT", "/x", data=b"", guard=lambda: asked.append(len(script.sent)))
    assert asked == [1, 2]

    def forbid() -> None:
        raise StaleWrite("no longer")

    for step, definite in ((failing(429, b"", Retry_After="1"), True), (failing(500), False)):
        script = Script(step)
        error = failure_of(
            lambda s=script: transport(s).request("PUT", "/x", data=b"", guard=forbid)  # type: ignore[misc]
        )
        assert (type(error), error.definite, len(script.sent)) == (StaleWrite, definite, 1)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of an HTTPS server, and the file with the only authority that vouches for it."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *arguments: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.socket = server_context().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    authority = tmp_path / "authority.pem"
    authority.write_bytes(certificate()[0])
    yield f"https://127.0.0.1:{server.server_address[1]}", str(authority)
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_certificates_are_verified_as_configured(tls_server: tuple[str, str]) -> None:
    """Untrusted is an error at once; with its authority, or without verification, the server is reached."""
    address, authority = tls_server
    clock = HandClock()
    error = failure_of(lambda: Transport(lambda: address, dict, clock=clock).request("GET", "/x"))
    assert "cannot trust the TLS certificate" in str(error)
    assert clock.slept == []
    for verify in (authority, False):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Transport(lambda: address, dict, verify=verify).request("GET", "/x").content == b"ok"


def test_json_goes_out_and_comes_back() -> None:
    """A JSON body says what it is; the answer is read as an object, an empty one as an empty object."""
    script = Script(ok(b'{"token": "t"}'), ok(b""))
    subject = transport(script)
    assert decode_object(subject.request("POST", "/x", json={"a": 1}), "minting") == {"token": "t"}
    assert decode_object(subject.request("GET", "/x"), "listing") == {}
    assert (script.sent[0].body, script.sent[0].headers["Content-Type"]) == (b'{"a":1}', "application/json")


@pytest.mark.parametrize("body", [b"[1]", b"{", b"<html>", b"[" * 100_000])
def test_answer_that_is_no_json_object_is_malformed(body: bytes) -> None:
    """A proxy's page in place of JSON is its own error."""
    reply = transport(Script(ok(body))).request("GET", "/x")
    error = failure_of(lambda: decode_object(reply, "listing"))
    assert type(error) is MalformedReply
    assert str(error).startswith("listing was answered with")


def test_checkpoint_is_called_before_each_attempt() -> None:
    """A schedule can stop the transport before every request."""
    steps: list[str] = []
    subject = transport(Script(failing(500), ok()), checkpoint=steps.append)
    subject.request("DELETE", "/x")
    assert steps == ["http.delete", "http.delete"]


@pytest.mark.parametrize(
    "secret",
    ["Bearer abc.def", "dapi0123456789abcdef", "eyJhbGciOiJIUzI1NiJ9.e30.x", "dose0123456789"],
)
def test_what_looks_like_a_secret_is_removed(secret: str) -> None:
    """A service that repeats credentials in its message does not put them into ours."""
    assert one_line(f"bad {secret} given") == "bad [redacted] given"
    assert "f00" not in one_line("see https://s.example/x?X-Amz-Signature=f00&sig=f00")
