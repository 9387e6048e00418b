"""A gateway process under attack: broken off, slow, oversized, malformed, too many."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockproof.driver.databricks import DatabricksDriver, DatabricksScope
from lockproof.suites.meta.gateway_bed import lock_body
from lockproof.suites.meta.served_gateway import DEADLINE, Raw, Served, head, served, until

PATIENCE = 1.5
LIMIT_MB = 128
STATE = b'{"version":4,"serial":1}\n'
DEFAULT = "/state/default"


@pytest.fixture(scope="module")
def scope() -> Iterator[DatabricksScope]:
    with (
        DatabricksDriver.provision({}) as provided,
        DatabricksDriver(provided).open_scope("hostile") as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def server(scope: DatabricksScope, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = scope.command_line("default").environment
    log = tmp_path_factory.mktemp("gateway") / "log"
    options = ("--client-timeout", str(PATIENCE), "--max-state-mb", str(LIMIT_MB))
    with served(settings, log, *options) as running:
        yield running


@pytest.fixture
def gateway(server: Served) -> Iterator[Served]:
    """The server with a state in `default`; whatever a test did, it serves on and has logged no crash."""
    assert server.connect().request("POST", DEFAULT, STATE).status == 200
    before = len(server.logged())
    yield server
    assert read(server) == STATE
    assert "Traceback" not in server.logged()[before:]
    assert "internal error" not in server.logged()[before:]


def read(server: Served, path: str = DEFAULT) -> bytes | None:
    """The state as a client reads it now, within the usual deadline."""
    reply = server.connect().request("GET", path)
    assert reply.status in {200, 204}
    return reply.text.encode() if reply.status == 200 else None


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize(
    "upload",
    [
        head("POST", DEFAULT, "Content-Length: 1000") + b"half",
        head("POST", DEFAULT, "Transfer-Encoding: chunked") + b"4\r\nhalf\r\n",
        head("POST", DEFAULT, "Content-Length: 1000", "Expect: 100-continue"),
    ],
    ids=["length", "chunks", "expect"],
)
def test_an_upload_that_breaks_off_writes_nothing(
    gateway: Served, scope: DatabricksScope, upload: bytes, ending: str
) -> None:
    """A client that leaves in mid-upload leaves the old state, and one line in the log."""
    mark, seen = scope.control.mark(), gateway.logged().count("the client left before its request")
    getattr(gateway.connect().send(upload), ending)()
    until(
        lambda: gateway.logged().count("the client left before its request") == seen + 1, "a line in the log"
    )
    assert [r for r in scope.test_bed().requests(mark) if r.method == "PUT"] == []


def test_a_head_that_trickles_is_given_up(gateway: Served) -> None:
    """Who sends a head byte by byte is answered 400 and gone in time; others are served meanwhile."""
    slow = [gateway.connect().send(b"GET /state/default HTTP/1.1\r\nX: ") for _ in range(50)]
    assert read(gateway) == STATE
    slow[0].trickle(b"x")
    for client in slow:
        rest = client.rest()
        assert rest.startswith(b"HTTP/1.1 400 "), rest
        assert b"was not complete after 1.5 s" in rest


@pytest.mark.parametrize("first", [b"", b"\r\n", b"\0"], ids=["nothing", "lines", "nul"])
def test_a_connection_without_a_request_is_ended(gateway: Served, first: bytes) -> None:
    """Who connects and sends nothing, or nothing but line ends, is disconnected in time."""
    client = gateway.connect().send(first)
    client.trickle(b"\r\n" if first else b"")
    assert not client.rest().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (head("POST", DEFAULT, "Content-Length: 1000"), b"x"),
        (head("POST", DEFAULT, "Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
        (head("LOCK", DEFAULT, "Content-Length: 1000"), b"{"),
    ],
    ids=["length", "chunks", "lock"],
)
def test_a_body_that_trickles_is_408(gateway: Served, start: bytes, piece: bytes) -> None:
    """A body that comes byte by byte is 408 in time and is not stored; others are served meanwhile."""
    client = gateway.connect().send(start + piece)
    assert read(gateway) == STATE
    client.trickle(piece)
    reply = client.reply()
    assert reply.status == 408
    assert "was not complete after 1.5 s" in reply.text
    client.trickle(piece)
    assert client.rest() == b"", "the rest of a refused body is not taken for ever"


def test_an_upload_that_goes_on_may_take_longer(gateway: Served) -> None:
    """A body of 64 KiB in pieces, longer under way than the deadline of a silent one, is stored."""
    body = b"y" * (64 << 10)
    client = gateway.connect().send(head("POST", "/state/slow", f"Content-Length: {len(body)}"))
    pieces = [body[at : at + 4096] for at in range(0, len(body), 4096)]
    for piece in pieces[:-1]:
        client.send(piece)
        assert not client.answered(2 * PATIENCE / len(pieces))
    assert client.send(pieces[-1]).reply().status == 200
    assert read(gateway, "/state/slow") == body


def test_a_reply_that_nobody_reads_is_given_up(gateway: Served) -> None:
    """Clients that ask for a large state and do not read it hold no connection for ever."""
    large = b"z" * (24 << 20)
    assert gateway.connect().request("POST", "/state/large", large).status == 200
    until(lambda: gateway.connections() == 0, "the end of earlier connections")
    deaf = [gateway.connect().send(head("GET", "/state/large")) for _ in range(3)]
    for client in deaf:
        assert client.answered(DEADLINE)
    assert gateway.connections() == len(deaf)
    until(lambda: gateway.connections() == 0, "the end of the connections")
    for client in deaf:
        assert len(client.rest()) < len(large)


def test_a_state_of_100_mb_passes(gateway: Served) -> None:
    """A state of 100 MB is stored and read back."""
    body = os.urandom(1 << 10) * (100 << 10)
    assert gateway.connect().request("POST", "/state/large", body).status == 200
    client = gateway.connect().send(head("GET", "/state/large", "Connection: close"))
    assert client.rest().endswith(b"\r\n\r\n" + body)


def test_a_body_above_the_limit_is_refused_by_its_length(gateway: Served) -> None:
    """An announced length above the limit is 413 before the body comes, with the limit and the option."""
    client = gateway.connect().send(head("POST", DEFAULT, f"Content-Length: {(LIMIT_MB << 20) + 1}"))
    reply = client.reply()
    assert reply.status == 413
    assert str(LIMIT_MB << 20) in reply.text
    assert "--max-state-mb" in reply.text


@pytest.mark.parametrize("method", ["LOCK", "UNLOCK"])
def test_a_body_without_end_is_refused(gateway: Served, method: str) -> None:
    """Chunks without end are 413 at the limit, and the connection is ended when they still go on."""
    client = gateway.connect().send(head(method, DEFAULT, "Transfer-Encoding: chunked"))
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    client.trickle(chunk, every=0.001)
    assert client.reply().status == 413
    client.trickle(chunk)
    assert client.rest() == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\xff\xfe\r\n\r\n",
        b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03" + bytes(range(240)),
        b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /state/default\r\n\r\n",
        b"GET /state/default HTTP/9.9.9\r\n\r\n",
        b"GET  /state/default HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /state/default HTTP/1.1\r\n\r\n",
        b"GET /state/default HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /state/a\x00b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /state/\u00fc HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        b"GET /state/default HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        b"GET /state/default HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        head("POST", DEFAULT, "Content-Length: -5") + b"hello",
        head("POST", DEFAULT, "Content-Length: +5") + b"hello",
        head("POST", DEFAULT, "Content-Length: 5", "Content-Length: 6") + b"hello!",
        head("POST", DEFAULT, "Content-Length: " + "9" * 5000) + b"hello",
        head("POST", DEFAULT, "Transfer-Encoding: chunked") + b"ZZ\r\nhello\r\n",
        head("POST", DEFAULT, "Transfer-Encoding: chunked") + b"-5\r\nhello\r\n",
        head("POST", "/elsewhere", "Transfer-Encoding: chunked") + b"ZZ\r\nhello\r\n",
        head("POST", DEFAULT, "Transfer-Encoding: gzip") + b"hello",
        head("POST", DEFAULT, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\nX",
    ],
)
def test_bytes_that_are_no_http_are_400(gateway: Served, scope: DatabricksScope, garbage: bytes) -> None:
    """What is not HTTP is refused, the connection ended, and the workspace hears of nothing."""
    mark = scope.control.mark()
    rest = gateway.connect().send(garbage).rest()
    assert rest.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), rest
    assert rest.count(b"HTTP/1.1") == 1
    assert scope.test_bed().requests(mark) == []


def test_garbage_after_a_request_does_not_take_its_answer(gateway: Served) -> None:
    """Pipelined requests are answered in their order; garbage behind them is 400, and the end."""
    requests = b"".join(head("GET", path) for path in (DEFAULT, "/state/none", "/healthz", DEFAULT))
    rest = gateway.connect().send(requests + b"\x00garbage\r\n\r\n" + head("DELETE", DEFAULT)).rest()
    statuses = [part[:3] for part in rest.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"204", b"200", b"200", b"400"]


def test_garbage_after_a_refusal_ends_the_connection(gateway: Served) -> None:
    """Malformed chunks behind a request that was refused are the end, without a second answer."""
    client = gateway.connect().send(head("POST", "/elsewhere", "Transfer-Encoding: chunked"))
    assert client.reply().status == 400
    assert client.send(b"ZZ\r\nhello\r\n").rest() == b""


def test_a_wish_for_another_protocol_is_ignored(gateway: Served) -> None:
    """Upgrades to websocket and h2c are answered in HTTP/1.1, as if they had not been asked for."""
    for protocol in ("websocket", "h2c"):
        upgrade = (
            "Connection: Upgrade",
            f"Upgrade: {protocol}",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        assert gateway.connect().send(head("GET", DEFAULT, *upgrade)).reply().status == 200
    assert "websocket" not in gateway.logged()


@pytest.mark.parametrize(
    "method", ["PUT", "HEAD", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "lock", "L", "M" * 200]
)
def test_another_method_is_405(gateway: Served, scope: DatabricksScope, method: str) -> None:
    """A method that the protocol does not have is 405 with those it has, whatever its letters."""
    mark = scope.control.mark()
    reply = gateway.connect().request(method, DEFAULT)
    assert reply.status == 405
    assert reply.headers["Allow"] == "GET, POST, DELETE, LOCK, UNLOCK"
    assert scope.test_bed().requests(mark) == []


@pytest.mark.parametrize(
    "path",
    [
        "/state/..",
        "/state/../default",
        "/state/default/..",
        "/state/%2e%2e",
        "/state/.%2E",
        "/state/%2e%2e%2fdefault",
        "/state/..%2f..%2f..%2fetc%2fpasswd",
        "/state/..%5c..%5cwindows",
        "/state/a%2fb",
        "/state/a%00",
        "/state/%00",
        "/state/%0d%0aX:y",
        "/state/%c0%ae%c0%ae",
        "/state/%e0%80%af",
        "/state/%ed%a0%80",
        "/state/a%zz",
        "/state/a%",
        "/state/;/../default",
        "/state//default",
        "//localhost/state/default",
        "/../state/default",
        "/healthz/../state/default",
        "*",
        "localhost:1",
        "/state/" + "x" * 300,
        "/state/" + "x" * 10000,
        "/state/" + "%2e" * 3000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "LOCK"])
def test_a_path_trick_is_400(gateway: Served, scope: DatabricksScope, method: str, path: str) -> None:
    """An address that names no workspace, or nobody's, is 400 and the workspace hears of nothing."""
    mark = scope.control.mark()
    reply = gateway.connect().request(method, path, lock_body("a") if method != "GET" else b"")
    assert reply.status == 400
    assert scope.test_bed().requests(mark) == []


@pytest.mark.parametrize(
    "path", ["/state/%252e%252e%252fdefault", "/state/..default", "/state/default%20", "/state/DEFAULT"]
)
def test_a_name_that_resembles_another_is_its_own(gateway: Served, path: str) -> None:
    """An address is decoded once; what is odd after that is a workspace of its own, and not `default`."""
    assert read(gateway, path) is None
    assert gateway.connect().request("POST", path, b"its own").status == 200
    assert read(gateway, path) == b"its own"
    assert gateway.connect().request("DELETE", path).status == 200


def test_an_address_in_absolute_form_is_taken(gateway: Served) -> None:
    """`GET http://host/path` is what every server must take: RFC 9112, section 3.2.2."""
    assert read(gateway, "http://localhost/state/default") == STATE


@pytest.mark.parametrize(
    "bomb",
    [
        b"GET /state/default HTTP/1.1\r\nHost: localhost\r\n" + b"a:b\r\n" * 5_000 + b"\r\n",
        b"GET /state/default HTTP/1.1\r\nHost: localhost\r\n" + b"a:b\r\n" * 50_000 + b"\r\n",
        b"GET /state/default HTTP/1.1\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n",
        b"GET /state/default?" + b"x" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G" * (1 << 20),
        head("POST", DEFAULT, "Transfer-Encoding: chunked") + b"5;" + b"x" * (1 << 20),
        head("POST", DEFAULT, "Transfer-Encoding: chunked") + b"0\r\n" + b"a: b\r\n" * 20_000,
    ],
    ids=["above", "count", "size", "query", "method", "chunk extension", "trailers"],
)
def test_a_header_bomb_is_cut_short(gateway: Served, bomb: bytes) -> None:
    """A head, chunk header or trailer beyond 16 KiB ends the connection, the state unread and unchanged."""
    client = gateway.connect().send(bomb)
    assert not client.rest().startswith(b"HTTP/1.1 2")


def test_a_head_without_end_is_cut_short(gateway: Served) -> None:
    """Headers without end are taken for a few hundred KiB at most, those on the way included."""
    client = gateway.connect().send(b"GET /state/default HTTP/1.1\r\n")
    assert client.trickle(b"a: " + b"b" * 1000 + b"\r\n", every=0.0005) < 1000


def test_a_long_path_is_logged_in_short(gateway: Served) -> None:
    """A client does not choose how much is logged."""
    before = len(gateway.logged())
    gateway.connect().request("GET", "/state/" + "%20" * 4000)
    assert len(gateway.logged()) - before < 1000


def test_a_flood_of_idle_connections_keeps_nobody_out(scope: DatabricksScope, tmp_path: Path) -> None:
    """The usual limit on open files is raised as far as allowed, so that 500 idle clients leave room."""
    settings = scope.command_line("default").environment
    low = ("sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh")
    with served(settings, tmp_path / "log", prefix=low) as gateway:
        soft, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
        assert soft == min(hard, 1 << 16)
        idle: list[Raw] = [gateway.connect() for _ in range(500)]
        assert gateway.connect().request("POST", "/state/busy", STATE).status == 200
        assert read(gateway, "/state/busy") == STATE
        for client in idle:
            client.close()
