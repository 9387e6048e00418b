"""What the fault proxy costs where it strikes nothing, beside a relay that knows nothing but bytes.

    python benchmarks/fault_proxy.py [--rounds N] [--json FILE]

Latency: one client's small HTTP requests to uvicorn, and its statements to a real Postgres, directly, through
each kind of link, and through a relay of asyncio's streams, by turns in one run: what each adds at p50 and
p95. Throughput: 100 MB through each, by turns. Load: 1,000 connections open at once, each with its request.
uvicorn, and the clients of the last, run in processes of their own. Target: p50 + 1 ms at most.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import multiprocessing
import os
import platform
import resource
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import uvicorn

from lockproof.chaos.proxy import FaultProxy
from lockproof.driver import Address
from lockproof.provision.postgres import provide_postgres

SMALL = b'{"version":4,"serial":1}' + b" " * 1000
LARGE_MB = 100
CONNECTIONS = 1000
CHUNK = 1 << 16
TARGET_MS = 1.0
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def application(scope: dict[str, object], receive: object, send: Callable[..., object]) -> None:
    """Answers everything with a small body, `/large` with a large one."""
    parts = [b"x" * (1 << 20)] * LARGE_MB if scope["path"] == "/large" else [SMALL]
    length = str(sum(map(len, parts))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})  # type: ignore[misc]
    for at, body in enumerate(parts, 1):
        await send({"type": "http.response.body", "body": body, "more_body": at < len(parts)})  # type: ignore[misc]


def serve(listener: socket.socket) -> None:
    raise_files()
    config = uvicorn.Config(application, log_level="critical", lifespan="off", timeout_keep_alive=120)  # type: ignore[arg-type]
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def server() -> Iterator[Address]:
    """uvicorn in a process of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * CONNECTIONS) as listener:
        process = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
        process.start()
        try:
            yield Address(*listener.getsockname(), protocol="http")
        finally:
            process.terminate()
            process.join()


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
    start = asyncio.start_server(relay, "127.0.0.1", 0, backlog=2 * CONNECTIONS)
    running = asyncio.run_coroutine_threadsafe(start, loop).result()
    try:
        yield Address(*running.sockets[0].getsockname())
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def by_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The milliseconds of each call, one of each per round, so that the machine's noise meets all alike."""
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            found[name].append(1000 * (time.perf_counter() - start))
    return found


def requests_to(places: dict[str, Address], stack: ExitStack) -> dict[str, Callable[[], object]]:
    """A small request over a connection of each place's own."""

    def call(place: Address) -> Callable[[], object]:
        connection = http.client.HTTPConnection(place.host, place.port, timeout=60)
        stack.callback(connection.close)

        def ask() -> None:
            connection.request("PUT", "/", SMALL)
            if len(connection.getresponse().read()) != len(SMALL):
                raise SystemExit("a reply came back changed")

        return ask

    return {name: call(place) for name, place in places.items()}


def statements_to(
    places: dict[str, Address], keywords: dict[str, str], stack: ExitStack
) -> dict[str, Callable[[], object]]:
    """A statement over a session of each place's own."""

    def call(place: Address) -> Callable[[], object]:
        login = {**keywords, "host": place.host, "port": str(place.port)}
        connection = stack.enter_context(psycopg.connect(**login, autocommit=True))  # type: ignore[arg-type]
        return lambda: connection.execute("SELECT %s::int + 1", [41]).fetchone()

    return {name: call(place) for name, place in places.items()}


def downloads(places: dict[str, Address]) -> dict[str, Callable[[], object]]:
    """100 MB from each place."""

    def call(place: Address) -> None:
        connection = http.client.HTTPConnection(place.host, place.port, timeout=120)
        connection.request("GET", "/large")
        reply, got = connection.getresponse(), 0
        while part := reply.read(CHUNK):
            got += len(part)
        connection.close()
        if got != LARGE_MB << 20:
            raise SystemExit("the large reply came back cut")

    return {name: lambda place=place: call(place) for name, place in places.items()}  # type: ignore[misc]


async def crowd(port: int) -> tuple[int, float]:
    """1,000 connections, all open before the first asks: how many were answered, in how many seconds."""
    all_open = asyncio.Barrier(CONNECTIONS + 1)

    async def ask() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await all_open.wait()
        writer.write(HEAD)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(SMALL))
        writer.close()
        return head.startswith(b"HTTP/1.1 200") and body == SMALL

    asking = [asyncio.create_task(ask()) for _ in range(CONNECTIONS)]
    await all_open.wait()
    start = time.perf_counter()
    answered = await asyncio.gather(*asking)
    return sum(answered), time.perf_counter() - start


def crowd_in_process(port: int, outcome: multiprocessing.SimpleQueue[tuple[int, float]]) -> None:
    raise_files()
    outcome.put(asyncio.run(crowd(port)))


def raise_files() -> None:
    """As many open files as this user may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def crowds(places: dict[str, Address]) -> dict[str, tuple[int, float]]:
    """`crowd` at each place, from a process of its own."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for name, place in places.items():
        outcome: multiprocessing.SimpleQueue[tuple[int, float]] = context.SimpleQueue()
        process = context.Process(target=crowd_in_process, args=(place.port, outcome))
        process.start()
        found[name] = outcome.get()
        process.join()
    return found


def summary(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """p50 and p95 of each, and what each adds to the direct way."""
    rows = {
        name: {"p50": statistics.median(values), "p95": statistics.quantiles(values, n=20)[18]}
        for name, values in times.items()
    }
    direct = rows["direct"]
    return {
        name: {**row, "added_p50": row["p50"] - direct["p50"], "added_p95": row["p95"] - direct["p95"]}
        for name, row in rows.items()
    }


def show(what: str, rows: dict[str, dict[str, float]], judged: str) -> None:
    print(f"{what:<22}{'p50 ms':>9}{'p95 ms':>9}{'added p50':>11}{'added p95':>11}")
    for name, row in rows.items():
        print(f"  {name:<20}" + "".join(f"{row[key]:>{width}.3f}" for key, width in COLUMNS.items()))
    added = rows[judged]["added_p50"]
    verdict = "met" if added < TARGET_MS else "MISSED"
    print(f"  {judged} adds {added:.3f} ms at p50 (target < {TARGET_MS:g} ms) {verdict}")


COLUMNS = {"p50": 9, "p95": 9, "added_p50": 11, "added_p95": 11}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    raise_files()
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        upstream = stack.enter_context(server())
        postgres = stack.enter_context(provide_postgres(None))
        proxy = stack.enter_context(FaultProxy())
        keywords = {name: str(value) for name, value in postgres.keywords().items()}
        database = Address(keywords["host"], int(keywords["port"]), protocol="postgres")
        web = {
            "direct": upstream,
            "plain relay": stack.enter_context(plain_relay(upstream)),
            "tcp link": proxy.stand_before(upstream, "tcp").address,
            "http link": proxy.stand_before(upstream, "http").address,
        }
        sql = {
            "direct": database,
            "plain relay": stack.enter_context(plain_relay(database)),
            "tcp link": proxy.stand_before(database, "tcp").address,
            "postgres link": proxy.stand_before(database).address,
        }
        requests = summary(by_turns(requests_to(web, stack), options.rounds))
        statements = summary(by_turns(statements_to(sql, keywords, stack), options.rounds))
        rates = {
            name: LARGE_MB / (statistics.median(values) / 1000)
            for name, values in by_turns(downloads(web), 5).items()
        }
        answered = crowds(web)
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(f"{machine}, load {load:.1f}; {options.rounds} rounds by turns")
    show("1 kB PUT to uvicorn", requests, "http link")
    show("SELECT in Postgres", statements, "postgres link")
    print(f"{LARGE_MB} MB reply, MB/s:    " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()))
    for name, (count, seconds) in answered.items():
        print(f"{CONNECTIONS} connections at once, {name:<12} {count} answered in {seconds:.2f} s")
    if options.json:
        result = {"load": load, "requests": requests, "statements": statements, "mb_per_s": rates}
        options.json.write_text(json.dumps({**result, "crowd": answered}, indent=2) + "\n")


if __name__ == "__main__":
    main()
