"""What passes through an HTTP link is what was sent, in every way that HTTP/1.1 has of sending it."""

from __future__ import annotations

import gc
import hashlib
import http.client
import http.server
import socket
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lockproof.chaos.proxy import Answer, Delay, DropReply, FaultProxy, Link, StaleRead, Truncate, Which
from lockproof.driver import Address
from lockproof.suites.meta.proxied_server import WAIT_SECONDS, StateServer, serve


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[StateServer, Address]]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def server(served: tuple[StateServer, Address]) -> StateServer:
    return served[0]


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running


@pytest.fixture
def link(served: tuple[StateServer, Address], proxy: FaultProxy) -> Iterator[Link]:
    link = proxy.stand_before(served[1])
    yield link
    link.heal()


@contextmanager
def raw(link: Link) -> Iterator[socket.socket]:
    """A client's bare connection."""
    with socket.create_connection(("127.0.0.1", link.address.port), WAIT_SECONDS) as connection:
        yield connection


class Unbuffered:
    """What the standard library takes for a socket; it reads no byte too many."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def makefile(self, mode: str) -> object:
        return self.connection.makefile("rb", buffering=0)


def everything_on(connection: socket.socket) -> bytes:
    """What arrives until the other side ends."""
    return b"".join(iter(lambda: connection.recv(1000), b""))


def reply_on(connection: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    """The next reply, as the standard library reads it, and not a byte more."""
    reply = http.client.HTTPResponse(Unbuffered(connection), method=method)  # type: ignore[arg-type]
    reply.begin()
    return reply.status, reply.read()


def test_pipelined_requests_are_answered_in_order(link: Link, server: StateServer) -> None:
    """Requests sent at once get their replies in order, also the one that the proxy answers itself."""
    link.arm(Answer(418, body=b"own"), Which(path="/p/2"))
    put = "PUT /p/{0} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{0}"
    get = "GET /p/{0} HTTP/1.1\r\nHost: x\r\n\r\n"
    with raw(link) as connection:
        sent = "".join([put.format(1), get.format(1), put.format(2), put.format(3), get.format(3)])
        connection.sendall(sent.encode())
        replies = [reply_on(connection) for _ in range(5)]
    assert replies == [(201, b""), (200, b"1"), (418, b"own"), (201, b""), (200, b"3")]
    assert server.seen.methods("/p/2") == []
    assert link.exchanges == 5


def test_pipelined_requests_wait_behind_a_held_one(link: Link, server: StateServer) -> None:
    """A delayed request keeps those behind it back, as their order is theirs."""
    armed = link.arm(Delay(None))
    with raw(link) as connection:
        connection.sendall(b"GET /q/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /q/2 HTTP/1.1\r\nHost: x\r\n\r\n")
        armed.await_held()
        assert server.seen.methods("/q/2") == []
        armed.release()
        assert [reply_on(connection)[0] for _ in range(2)] == [404, 404]


@pytest.mark.parametrize("text", ["*", "*needle*"])
def test_chunked_request_passes(link: Link, server: StateServer, text: str) -> None:
    """A body in chunks arrives as it was meant, also when its text must be known first."""
    armed = link.arm(Delay(0), Which(text=text))
    with raw(link) as connection:
        connection.sendall(b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"6\r\nnee")
        connection.sendall(b"dle\r\n4;ext=1\r\nhays\r\n0\r\nX-Trailer: y\r\n\r\n")
        assert reply_on(connection)[0] == 201
    assert server.states["/c"] == b"needlehays"
    assert armed.hits == 1


@pytest.mark.parametrize("text", ["*", "*body*"])
def test_client_that_expects_to_be_told_sends_its_body_then(
    link: Link, server: StateServer, text: str
) -> None:
    """Expect: 100-continue: the client is told once to go on, by the server or, where the text must be known
    first, by the proxy."""
    link.arm(Delay(0), Which(text=text))
    with raw(link) as connection:
        connection.sendall(b"PUT /e HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        told = connection.recv(100)
        assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert reply_on(connection)[0] == 201
    assert server.states["/e"] == b"body"


def test_client_that_is_told_no_need_not_send_its_body(link: Link, server: StateServer) -> None:
    """Expect: 100-continue: an answer in the server's place ends the connection: is there a body?"""
    link.arm(Answer(503))
    with raw(link) as connection:
        connection.sendall(b"PUT /n HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        received = everything_on(connection)
    assert received == b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert server.seen.methods("/n") == []


def test_replies_without_a_body_leave_the_connection_usable(link: Link, server: StateServer) -> None:
    """HEAD, 204 and 304 have no body whatever they announce, and the next reply is read right."""
    server.states["/h"] = b"state"
    tag = hashlib.sha256(b"state").hexdigest().encode()
    with raw(link) as connection:
        connection.sendall(b"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reply_on(connection, "HEAD") == (200, b"")
        connection.sendall(b"GET /h HTTP/1.1\r\nHost: x\r\nIf-None-Match: " + tag + b"\r\n\r\n")
        assert reply_on(connection) == (304, b"")
        connection.sendall(b"DELETE /h HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reply_on(connection) == (204, b"")
        connection.sendall(b"GET /h HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reply_on(connection)[0] == 404
    assert link.connections == 1


def test_connection_ends_when_either_side_says_so(link: Link, server: StateServer) -> None:
    """Connection: close: the server ends the connection after its reply, and so does the proxy."""
    with raw(link) as connection:
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = everything_on(connection)
    assert received.startswith(b"HTTP/1.1 404")
    assert received.endswith(b"nothing here")


class OldServer(http.server.BaseHTTPRequestHandler):
    """Speaks HTTP/1.0: its replies end with the connection."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"old " * 1000)

    def log_message(self, *_: object) -> None:
        return


def test_reply_that_ends_with_the_connection_passes_and_cannot_be_cut(proxy: FaultProxy) -> None:
    """HTTP/1.0: the reply has no length; Truncate is not hit, as nobody could see it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OldServer) as old:
        thread = threading.Thread(target=old.serve_forever, daemon=True)
        thread.start()
        link = proxy.stand_before(Address("127.0.0.1", old.server_port, protocol="http"))
        armed = link.arm(Truncate())
        with raw(link) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert reply_on(connection) == (200, b"old " * 1000)
        old.shutdown()
        thread.join()
    assert armed.hits == 0


def test_what_is_not_http_passes_as_it_is(proxy: FaultProxy) -> None:
    """A link that expects HTTP lets another protocol through, both ways."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = proxy.stand_before(Address("127.0.0.1", listener.getsockname()[1], protocol="http"))
        with raw(link) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"\x16\x03\x01 hello\r\n")
                assert server.recv(100) == b"\x16\x03\x01 hello\r\n"
                server.sendall(b"\x15\x03\x01 no\r\n")
                assert client.recv(100) == b"\x15\x03\x01 no\r\n"
                client.shutdown(socket.SHUT_WR)
                assert server.recv(100) == b""


def test_host_names_the_server_and_nothing_else_is_touched(proxy: FaultProxy) -> None:
    """The server reads its own address in Host; every other byte is the client's."""
    head = b"PUT /a?b=%2F HTTP/1.1\r\nhOsT: elsewhere:1\r\nX-Odd:  two  words\r\nContent-Length: 2\r\n\r\nhi"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        link = proxy.stand_before(Address("127.0.0.1", port, protocol="http"))
        with raw(link) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(head)
                got = b""
                while not got.endswith(b"hi"):
                    got += server.recv(1000)
    assert got == head.replace(b"hOsT: elsewhere:1", f"Host: 127.0.0.1:{port}".encode())


def test_early_reply_passes_while_the_request_is_still_sent(proxy: FaultProxy) -> None:
    """A server that refuses before it has read the body is heard at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = proxy.stand_before(Address("127.0.0.1", listener.getsockname()[1], protocol="http"))
        with raw(link) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"PUT /big HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegin")
                server.recv(1000)
                server.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                assert reply_on(client) == (413, b"")


def test_server_that_breaks_off_is_seen_to_break_off(proxy: FaultProxy) -> None:
    """A reply that the server itself cut is passed on cut, and its end is passed on as well."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = proxy.stand_before(Address("127.0.0.1", listener.getsockname()[1], protocol="http"))
        armed = link.arm(DropReply())
        for _ in range(2):
            with raw(link) as client:
                server, _ = listener.accept()
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                server.recv(1000)
                server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                server.close()
                received = everything_on(client)
                assert received in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        assert armed.hits == 0
        assert received == b""  # each time the reply was to be dropped, and never was there to its end


def test_nothing_of_a_request_is_kept(link: Link, server: StateServer) -> None:
    """After their exchange neither headers nor bodies nor queries are found in the proxy."""
    link.arm(StaleRead(), Which(path="/kept"))
    link.arm(Delay(0), Which(text="*secret*", times=None))
    with raw(link) as connection:
        connection.sendall(
            b"PUT /s?sig=secret-query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret-token\r\n"
            b"Content-Length: 11\r\n\r\nsecret-body"
        )
        assert reply_on(connection)[0] == 201
        kept = reachable(link)
    assert "/kept" in kept
    assert "secret-" not in kept


def reachable(root: object) -> str:
    """All text that can be reached from an object, through the frames of its waiting tasks as well."""
    found: list[str] = []
    seen: set[int] = set()
    queue = [root]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, types.FunctionType | types.ModuleType | type):
            continue
        seen.add(id(item))
        if isinstance(item, str | bytes | bytearray):
            found.append(str(item))
        else:
            queue += gc.get_referents(item)
    return "\n".join(found)


def test_what_was_under_way_when_a_fault_was_disarmed_counts(link: Link, server: StateServer) -> None:
    """Whether a reply is dropped is known when the server gives it; until then the hits are not final."""
    armed = link.arm(DropReply())
    with raw(link) as client:
        client.sendall(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        server.seen.eventually(lambda seen: "GET" in seen.methods("/held"))
        armed.disarm()
        assert not armed.await_settled(0)
        assert armed.hits == 0
        server.let_go.set()
        assert everything_on(client) == b""
    assert armed.await_settled()
    assert armed.hits == 1
