"""The proxy under load and bad manners, and what is left of it afterwards: nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from lockproof.chaos.proxy import Delay, Direction, Duplicate, FaultProxy, Link, Which
from lockproof.chaos.proxy.connection import Connection
from lockproof.driver import Address
from lockproof.suites.meta.proxied_server import WAIT_SECONDS, serve

MB = 1 << 20
MANY = 1000


@contextmanager
def relayed(proxy: FaultProxy) -> Iterator[tuple[Link, socket.socket, socket.socket]]:
    """A link that knows bytes alone, and the client's and the server's end of a connection through it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = proxy.stand_before(Address("127.0.0.1", listener.getsockname()[1]))
        with socket.create_connection(("127.0.0.1", link.address.port), WAIT_SECONDS) as client:
            listener.settimeout(WAIT_SECONDS)
            server, _ = listener.accept()
            with server:
                server.settimeout(WAIT_SECONDS)
                yield link, client, server


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running


@pytest.mark.parametrize("towards", ["server", "client"])
def test_slow_reader_slows_the_writer_down(proxy: FaultProxy, towards: str) -> None:
    """What one side does not read the other cannot send: the proxy buffers little, and loses nothing."""
    with relayed(proxy) as (_, client, server):
        writer, reader = (client, server) if towards == "server" else (server, client)
        writer.setblocking(False)
        sent = 0
        while sent < 64 * MB and select.select([], [writer], [], 1.0)[1]:
            sent += writer.send(b"x" * MB)
        assert sent < 32 * MB
        received = 0
        while received < sent:
            received += len(reader.recv(MB))
        assert received == sent


def test_small_messages_are_sent_at_once(proxy: FaultProxy) -> None:
    """Neither end waits for more to send (TCP_NODELAY): that would add 40 ms to every exchange."""
    with relayed(proxy) as (link, client, server):
        client.sendall(b"x")
        server.recv(1)
        wires = [wire for connection in link.open for wire in (connection.client, connection.server)]
        sockets = [wire.transport.get_extra_info("socket") for wire in wires]
        options = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock in sockets]
        assert len(options) == 2
        assert all(options)


def test_each_side_can_end_alone(proxy: FaultProxy) -> None:
    """A half-close passes on, and the other direction goes on."""
    with relayed(proxy) as (_, client, server):
        client.sendall(b"request")
        client.shutdown(socket.SHUT_WR)
        assert server.recv(100) == b"request"
        assert server.recv(100) == b""
        server.sendall(b"reply")
        assert client.recv(100) == b"reply"
        server.close()
        assert client.recv(100) == b""


@pytest.mark.parametrize("direction", ["requests", "replies"])
def test_end_of_a_connection_is_kept_back_by_a_partition(proxy: FaultProxy, direction: Direction) -> None:
    """Nothing is closed in a partition: a side that ends is heard of after healing."""
    with relayed(proxy) as (link, client, server):
        client.sendall(b"x")
        server.recv(1)
        server.sendall(b"y")
        client.recv(1)
        partition = link.partition(direction)
        ending, other = (client, server) if direction == "requests" else (server, client)
        ending.close()
        partition.await_held(timeout=WAIT_SECONDS)
        assert not select.select([other], [], [], 0)[0]
        link.heal()
        assert other.recv(1) == b""


def test_partition_that_is_about_to_be_lifted_holds_nobody(proxy: FaultProxy) -> None:
    """Between its release and the loop's turn to lift it a partition stops no relay, nor the loop."""
    with relayed(proxy) as (link, client, server):
        partition = link.partition()
        partition.on_release = lambda: None  # the loop's turn has not come
        partition.disarm()
        client.sendall(b"x")
        assert server.recv(1) == b"x"


@pytest.mark.parametrize("from_client", [True, False])
def test_reset_passes_on(proxy: FaultProxy, from_client: bool) -> None:
    """One side's RST ends the other side's connection too."""
    with relayed(proxy) as (_, client, server):
        client.sendall(b"x")
        server.recv(1)
        resetting, other = (client, server) if from_client else (server, client)
        resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        resetting.close()
        try:
            assert other.recv(1) == b""
        except ConnectionResetError:
            assert not from_client  # a client sees the server's RST as such


def test_server_that_is_not_there_ends_the_connection(proxy: FaultProxy) -> None:
    """With nobody behind the link the client is taken and let go at once."""
    link = proxy.stand_before(Address("127.0.0.1", 1))
    with socket.create_connection(("127.0.0.1", link.address.port), WAIT_SECONDS) as client:
        assert client.recv(1) == b""


@pytest.fixture
def many_files() -> Iterator[None]:
    """Leave to open four sockets per connection: this test holds both ends of everything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_connections_are_served_at_once(many_files: None) -> None:
    """While 1,000 connections are open each of them has its request answered."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def ask(port: int, number: int, all_open: asyncio.Barrier) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await all_open.wait()
        writer.write(b"%d\n" % number)
        answer = await reader.readline()
        writer.close()
        return answer

    async def run(proxy: FaultProxy) -> tuple[list[bytes], Link]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=MANY)
        link = proxy.stand_before(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
        all_open = asyncio.Barrier(MANY)
        answers = await asyncio.gather(*(ask(link.address.port, i, all_open) for i in range(MANY)))
        server.close()
        return answers, link

    with FaultProxy() as proxy:
        answers, link = asyncio.run(run(proxy))
        assert answers == [b"%d\n" % number for number in range(MANY)]
        assert (link.connections, link.exchanges) == (MANY, MANY)


def test_nothing_is_left_when_the_proxy_closes(caplog: pytest.LogCaptureFixture) -> None:
    """Connections idle, held, kept back and half said: no thread, no socket, no complaint remains."""
    with serve() as (server, upstream), ExitStack() as clients:
        gc.collect()
        files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        with caplog.at_level(logging.DEBUG), FaultProxy() as proxy:
            links = {name: proxy.stand_before(upstream, name=name) for name in ("held", "late", "cut")}

            def send(name: str, data: bytes) -> None:
                connection = socket.create_connection(("127.0.0.1", links[name].address.port), WAIT_SECONDS)
                clients.enter_context(connection).sendall(data)

            held = links["held"].arm(Delay(None), Which(method="PUT"))
            late = links["late"].arm(Duplicate(late=True))
            send("held", b"PUT /held-for-ever HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            send("held", b"PUT /half HTTP/1.1\r\nHo")
            send("late", b"PUT /late HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            held.await_held()
            late.await_held()
            send("cut", b"")
            partition = links["cut"].partition()
            assert proxy.ca_file.exists()
        for armed in (held, late, partition):
            armed.release()
            armed.disarm()
            assert armed.held == 0
        clients.close()
        gc.collect()
        server.seen.eventually(lambda seen: seen.methods("/late") == ["PUT"])
        assert server.seen.methods("/held-for-ever") == []
        settled = threading.Event()
        for _ in range(1000):  # the server closes its own ends when it hears of it
            if len(os.listdir("/proc/self/fd")) <= files:
                break
            settled.wait(0.01)
        assert len(os.listdir("/proc/self/fd")) <= files
        assert threading.active_count() <= threads
    ours = [record for record in caplog.records if record.name.startswith(("asyncio", "lockproof"))]
    assert [record.getMessage() for record in ours if record.levelno >= logging.WARNING] == []
    assert "PUT" not in caplog.text


def test_proxy_that_does_not_run_says_so() -> None:
    """A FaultProxy outside its with statement is a RuntimeError that says how it is used."""
    proxy = FaultProxy()
    with pytest.raises(RuntimeError, match="used in a with statement"):
        proxy.stand_before(Address("127.0.0.1", 1))
    with proxy:
        link = proxy.stand_before(Address("127.0.0.1", 1))
    with pytest.raises(RuntimeError, match="used in a with statement"):
        link.partition()


def test_defect_of_the_proxy_does_not_pass_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a relay is not taken for a fault of the network: leaving the proxy raises it."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("in a relay")

    monkeypatch.setattr(Connection, "to_server", broken)
    with ExitStack() as stack:
        proxy = FaultProxy()
        stack.callback(expect_defect, proxy.__enter__())
        with relayed(proxy) as (_, client, server):
            client.sendall(b"x")
            assert server.recv(1) == b""


def expect_defect(proxy: FaultProxy) -> None:
    """Leaves the proxy, which must say what is wrong with it."""
    with pytest.raises(RuntimeError, match="a defect of the fault proxy: ZeroDivisionError"):
        proxy.__exit__(None, None, None)


def test_unknown_protocol_is_refused(proxy: FaultProxy) -> None:
    """A link speaks one of three protocols."""
    with pytest.raises(ValueError, match="tcp, http, postgres, not 'udp'"):
        proxy.stand_before(Address("127.0.0.1", 1), "udp")  # type: ignore[arg-type]
