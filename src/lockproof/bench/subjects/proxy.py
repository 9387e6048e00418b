"""What the fault proxy costs where it strikes nothing, beside no proxy and a relay that knows only bytes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import psycopg

from lockproof.bench.benchmark import Benchmark, Broken, Case, Lane, Unavailable, latency, rate, size_name
from lockproof.bench.crowd import crowd, raise_files
from lockproof.bench.ratio import Aim
from lockproof.bench.servers import SMALL, served
from lockproof.bench.subjects.locks import POSTGRES
from lockproof.chaos.proxy import FaultProxy
from lockproof.driver import Address
from lockproof.provision.postgres import ProvisionError, provide_postgres

CHUNK = 1 << 16
BACKLOG = 2048
ADDED = Aim("added", under=1)
BIG = 1_000_000  # bytes from which a reply is measured by its rate


@contextmanager
def plain_relay(upstream: Address) -> Iterator[Address]:
    """The peer: asyncio's streams, both ways, in a thread of its own as the proxy is."""
    loop = asyncio.new_event_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(upstream.host, upstream.port)
        with contextlib.suppress(asyncio.CancelledError):  # the streams would report it as an error
            await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    async def stop() -> None:
        running.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    start = asyncio.start_server(relay, "127.0.0.1", 0, backlog=BACKLOG)
    running = asyncio.run_coroutine_threadsafe(start, loop).result()
    try:
        yield Address(*running.sockets[0].getsockname())
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def http_upstream(stack: ExitStack) -> Address:
    """uvicorn in a process of its own."""
    at = stack.enter_context(served("plain"))
    return Address(at["host"], at["port"], protocol="http")


def over_http(sizes: Sequence[int]) -> Iterator[Case]:
    """Replies of each size: small ones by their latency, large ones by their rate."""
    with ExitStack() as stack:
        upstream = http_upstream(stack)
        proxy = stack.enter_context(FaultProxy())
        relay = stack.enter_context(plain_relay(upstream))
        for size in sizes:
            for link in ("http", "tcp"):
                place = proxy.stand_before(upstream, "http" if link == "http" else "tcp").address
                call = {
                    name: asking(at, size, stack)
                    for name, at in ((f"{link} link", place), ("direct", upstream), ("plain relay", relay))
                }
                subject, direct, plain = call
                if size < BIG:
                    yield Case(
                        f"{link}, reply of {size_name(size)}",
                        Lane(subject, latency(call[subject])),
                        [Lane(direct, latency(call[direct]), ADDED), Lane(plain, latency(call[plain]))],
                    )
                else:
                    yield Case(
                        f"{link}, reply of {size_name(size)}",
                        Lane(subject, rate(call[subject], size / 1_000_000)),
                        [Lane(name, rate(call[name], size / 1_000_000)) for name in (direct, plain)],
                        "MB/s",
                        "higher",
                    )


def asking(place: Address, size: int, stack: ExitStack) -> Callable[[], object]:
    """A request with a body of 1 kB for so many bytes, over a connection of its own."""
    connection = http.client.HTTPConnection(place.host, place.port, timeout=60)
    stack.callback(connection.close)

    def ask() -> None:
        connection.request("PUT", f"/bytes/{size}", SMALL)
        reply, got = connection.getresponse(), 0
        while part := reply.read(CHUNK):
            got += len(part)
        if got != size:
            raise Broken(f"{got} of {size} bytes came back")

    return ask


def over_sql(_: Sequence[int]) -> Iterator[Case]:
    """A statement in a real Postgres, over a session of each place's own."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(provide_postgres())
        except ProvisionError as error:
            raise Unavailable(str(error)) from None
        upstream = Address(server.host, server.port, protocol="postgres")
        proxy = stack.enter_context(FaultProxy())
        relay = stack.enter_context(plain_relay(upstream))

        def selecting(place: Address) -> Callable[[], object]:
            login = {**server.keywords(), "host": place.host, "port": place.port}
            connection = stack.enter_context(psycopg.connect(**login, autocommit=True))
            return lambda: connection.execute("SELECT %s::int + 1", [41]).fetchone()

        links = {
            "postgres link": proxy.stand_before(upstream).address,
            "tcp link": proxy.stand_before(upstream, "tcp").address,
        }
        for name, place in links.items():
            yield Case(
                f"SELECT, {name}",
                Lane(name, latency(selecting(place))),
                [
                    Lane("direct", latency(selecting(upstream)), ADDED),
                    Lane("plain relay", latency(selecting(relay))),
                ],
            )


def crowds(sizes: Sequence[int]) -> Iterator[Case]:
    """Connections that are all open before the first asks; a sample is one crowd, whatever the seconds."""
    raise_files()
    with ExitStack() as stack:
        upstream = http_upstream(stack)
        relay = stack.enter_context(plain_relay(upstream))
        proxy = stack.enter_context(FaultProxy())
        for size in sizes:
            for link in ("http", "tcp"):
                place = proxy.stand_before(upstream, "http" if link == "http" else "tcp").address
                yield Case(
                    f"{link}, {size} connections at once",
                    Lane(f"{link} link", crowding(place, size)),
                    [Lane("direct", crowding(upstream, size)), Lane("plain relay", crowding(relay, size))],
                )


def crowding(place: Address, size: int) -> Callable[[float], float]:
    """Samples in how many ms a crowd is answered."""
    return lambda _: 1000 * crowd(place.port, size, len(SMALL))


PROXY_HTTP = Benchmark(
    "proxy-http",
    "HTTP through a link of the fault proxy that strikes nothing.",
    "a link of the fault proxy",
    "no proxy; a relay of asyncio's streams",
    "ms, of large replies MB/s",
    over_http,
    (),
    "bytes of a reply",
    (1_000, 100_000_000),
    (1_000, 10_000_000),
    ("uvicorn",),
)
PROXY_SQL = Benchmark(
    "proxy-sql",
    "A statement in Postgres through a link of the fault proxy that strikes nothing.",
    "a link of the fault proxy",
    "no proxy; a relay of asyncio's streams",
    "ms",
    over_sql,
    (POSTGRES,),
    packages=("psycopg",),
)
PROXY_CROWD = Benchmark(
    "proxy-crowd",
    "Many connections at once, all open before the first asks, until all are answered.",
    "a link of the fault proxy",
    "no proxy; a relay of asyncio's streams",
    "ms",
    crowds,
    (),
    "connections",
    (1_000,),
    (200,),
    ("uvicorn",),
)
