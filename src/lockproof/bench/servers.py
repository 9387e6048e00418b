"""Servers in processes of their own, so that what is measured shares no interpreter with who measures.

Run as a module it is such a process: `python -m lockproof.bench.servers NAME` reads what it needs as one JSON
line, writes as one JSON line where it serves, and serves until its input ends. Secrets go this way only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from lockproof.bench.benchmark import Broken

SMALL = b'{"version":4,"serial":1}' + b" " * 1000
VOLUME = "main.default.v"
Facts = dict[str, Any]


@contextmanager
def served(name: str, **given: Any) -> Iterator[Facts]:
    """The server of that name; yields what it says of itself. Raises `Broken` when it does not start."""
    command = [sys.executable, "-m", __name__, name]
    with (
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                process.wait()
                told.seek(0)
                said = told.read().strip().splitlines() or ["it said nothing"]
                raise Broken(f"the server {name!r} did not start: {said[-1]}")
            yield {**json.loads(line), "pid": process.pid}
        finally:
            process.stdin.close()


@contextmanager
def fake() -> Iterator[Facts]:
    """The fake Databricks with one volume."""
    from lockproof.fakes.databricks.server import FakeServer

    with FakeServer() as server:
        server.workspace.create_volume(VOLUME)
        yield {"url": server.url, "token": server.token}


@contextmanager
def moto() -> Iterator[Facts]:
    """moto's server as its documentation starts it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield {"url": f"http://{host}:{port}"}
    finally:
        server.stop()


@contextmanager
def gateway(environment: Mapping[str, str], secret: str) -> Iterator[Facts]:
    """The gateway over a backend with the settings of `environment`."""
    from tofu_databricks.backend import Backend
    from tofu_databricks.config import Config
    from tofu_databricks.gateway import Access, Gateway, GatewayApp

    with (
        Backend(Config.load(environ=environment)) as backend,
        Gateway(GatewayApp(backend, Access(secret))) as serving,
    ):
        yield {"url": serving.state_url("default")}


@contextmanager
def login_proxy(**keywords: Any) -> Iterator[Facts]:
    """The fake's login to Lakebase before a Postgres; without TLS, which the wheel's pgbench has not."""
    from lockproof.fakes.databricks import FakeWorkspace
    from lockproof.fakes.databricks.lakebase_service import serve_lakebase

    workspace = FakeWorkspace()
    with serve_lakebase(workspace, keywords, tls=False) as proxy:
        token = proxy.lakebase.mint(workspace.admin, proxy.lakebase.endpoints()[0].name).token
        yield {
            "host": "127.0.0.1",
            "port": proxy.lakebase.port,
            "user": workspace.admin.name,
            "password": token,
            "dbname": "databricks_postgres",
        }


class Floor(asyncio.Protocol):
    """Answers without looking: what the client alone costs. The header x-size asks for so many bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.wanted, self.reply = transport, 0, b""

    def data_received(self, data: bytes) -> None:
        if not self.wanted:
            head, _, data = data.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            self.wanted = int(fields.get(b"content-length", 0))
            size = int(fields.get(b"x-size", 0))
            self.reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size)
        self.wanted -= len(data)
        if self.wanted <= 0:
            self.wanted = 0
            self.transport.write(self.reply)


@contextmanager
def floor() -> Iterator[Facts]:
    """`Floor`, in a thread of its own."""
    import threading

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    start = loop.create_server(Floor, "127.0.0.1", 0)
    serving = asyncio.run_coroutine_threadsafe(start, loop).result()
    try:
        yield {"url": f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"}
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def plain_application(scope: Any, receive: Any, send: Any) -> None:
    """Keeps the body of a POST and gives it back; `/bytes/N` answers anything with so many bytes."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    path = scope["path"]
    if path.startswith("/bytes/"):
        answer = bytes(int(path.rpartition("/")[2]))
    else:
        if scope["method"] == "POST":
            KEPT[path] = body
        answer = b"" if scope["method"] == "POST" else KEPT.get(path, b"")
    length = str(len(answer)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": answer})


KEPT: dict[str, bytes] = {}


@contextmanager
def plain(backlog: int = 2048) -> Iterator[Facts]:
    """uvicorn with a dozen lines of application: HTTP and nothing else."""
    import socket
    import threading

    import uvicorn

    from lockproof.bench.crowd import raise_files

    raise_files()
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as listener:
        config = uvicorn.Config(
            plain_application, log_level="critical", lifespan="off", timeout_keep_alive=120, ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            host, port = listener.getsockname()
            yield {"url": f"http://{host}:{port}", "host": host, "port": port}
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


SERVERS: Mapping[str, Callable[..., AbstractContextManager[Facts]]] = {
    "fake": fake,
    "moto": moto,
    "gateway": gateway,
    "login-proxy": login_proxy,
    "floor": floor,
    "plain": plain,
}


def main() -> None:
    """Serves until the standard input ends."""
    given = json.loads(sys.stdin.readline())
    with SERVERS[sys.argv[1]](**given) as facts:
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
