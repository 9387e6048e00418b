"""The gateway as a server: many clients, large states, an orderly end."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lockproof.driver import DriverError
from lockproof.driver.http import HttpDriver
from lockproof.fakes.databricks.lakebase_tls import certificate
from lockproof.fakes.drivers.memory_backend import MemoryBackend
from lockproof.suites.meta.gateway_bed import SECRET, Bed, Wire, lock_body, running
from tofu_databricks.errors import ConfigError
from tofu_databricks.gateway import Access, Gateway, GatewayApp

CLIENTS = 200
DEADLINE = 20.0


def many(bed: Bed, action: object) -> list[int]:
    """The statuses of `action(wire, n)` for `CLIENTS` clients at once, each with a connection of its own."""

    def one(n: int) -> int:
        wire = Wire(bed.wire.url)
        start.wait(DEADLINE)
        try:
            status: int = action(wire, n)  # type: ignore[operator]
        finally:
            wire.session.close()
        return status

    start = threading.Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, range(CLIENTS)))


def test_one_of_many_clients_gets_the_lock() -> None:
    """Of 200 clients at once one gets 200 and the others 423."""
    with running() as bed:
        statuses = many(bed, lambda wire, n: wire.lock(f"id-{n}").status_code)
    assert sorted(statuses) == [200] + [423] * (CLIENTS - 1)


def test_many_clients_use_workspaces_of_their_own() -> None:
    """200 clients lock, write, read and unlock 200 workspaces at once, and each finds its own."""

    def session(wire: Wire, n: int) -> int:
        workspace, body = f"ws-{n}", f"state {n}".encode()
        wire.send("LOCK", lock_body(f"id-{n}"), workspace=workspace)
        wire.send("POST", body, workspace=workspace, lock_id=f"id-{n}")
        assert wire.send("GET", workspace=workspace).content == body
        return wire.send("UNLOCK", lock_body(f"id-{n}"), workspace=workspace).status_code

    with running() as bed:
        assert set(many(bed, session)) == {200}
        assert len(bed.backend.states) == CLIENTS
        assert not bed.backend.locks


def test_a_slow_write_holds_up_its_own_unlock_and_nobody_else() -> None:
    """While a write is under way an UNLOCK waits for it; reads, other workspaces and LOCK do not."""
    entered, go = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        assert go.wait(DEADLINE)

    with running() as bed, ThreadPoolExecutor(2) as pool:
        bed.wire.lock("a")
        bed.backend.before["put"] = block
        try:
            write = pool.submit(Wire(bed.wire.url).send, "POST", b"state", lock_id="a")
            assert entered.wait(DEADLINE)
            unlock = pool.submit(Wire(bed.wire.url).unlock, "a")
            assert bed.wire.send("GET").status_code == 204
            assert bed.wire.lock("b").status_code == 423
            assert bed.wire.send("LOCK", lock_body("b"), workspace="other").status_code == 200
            assert "unlock" not in bed.backend.calls
        finally:
            go.set()
        assert write.result(DEADLINE).status_code == 200
        assert unlock.result(DEADLINE).status_code == 200
        assert bed.backend.calls.index("unlock") > bed.backend.calls.index("put")
        assert bed.backend.states["default"] == b"state"


def test_a_write_in_flight_completes_when_the_server_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping waits for the write under way, however long it takes, and its client gets the answer."""
    entered, go = threading.Event(), threading.Event()
    wait_for = asyncio.wait_for

    async def fast(awaitable: Awaitable[None], timeout: float | None) -> None:
        """Every deadline of a stopping server is over at once."""
        await wait_for(awaitable, timeout if timeout is None else 0.0)

    monkeypatch.setattr(asyncio, "wait_for", fast)

    def block() -> None:
        entered.set()
        assert go.wait(DEADLINE)

    backend = MemoryBackend()
    backend.before["put"] = block
    with ThreadPoolExecutor(2) as pool:
        gateway = Gateway(GatewayApp(backend, Access(SECRET)))
        gateway.__enter__()
        write = pool.submit(Wire(gateway.url).send, "POST", b"state")
        assert entered.wait(DEADLINE)
        stop = pool.submit(gateway.stop)
        refuses(gateway)
        gateway.thread.join(0.5)  # a server that does not wait for its requests has ended by then
        assert gateway.thread.is_alive()
        go.set()
        assert write.result(DEADLINE).status_code == 200
        stop.result(DEADLINE)
    assert backend.states["default"] == b"state"


def refuses(gateway: Gateway) -> None:
    """Returns once the gateway takes no more connections: it is about to stop."""
    for _ in range(int(DEADLINE / 0.02)):
        try:
            socket.create_connection((gateway.host, gateway.port), 1).close()
        except ConnectionRefusedError:
            return
        threading.Event().wait(0.02)
    raise AssertionError("the gateway goes on taking connections")


def test_a_body_that_breaks_off_is_not_stored() -> None:
    """A client that dies while it sends its state leaves the old one."""
    with running() as bed:
        bed.wire.send("POST", b"old")
        address = urlsplit(bed.wire.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=DEADLINE)
        connection.putrequest("POST", "/state/default")
        connection.putheader("Authorization", f"Bearer {SECRET}")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        connection.send(b"half")
        connection.close()
    assert bed.backend.states["default"] == b"old"
    assert bed.backend.calls.count("put") == 1


def test_a_gateway_listens_on_loopback_alone() -> None:
    """The default address is 127.0.0.1 and no other interface answers on its port."""
    with running() as bed:
        assert bed.gateway.host == "127.0.0.1"
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", bed.gateway.port), 1)


def test_an_address_that_cannot_be_had_is_one_clear_error() -> None:
    """A taken port and a foreign address are ConfigErrors that name them."""
    with (
        running() as bed,
        pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {bed.gateway.port}"),
    ):
        Gateway(bed.gateway.app, port=bed.gateway.port)
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1 port 0"):
        Gateway(GatewayApp(MemoryBackend(), Access(SECRET)), "192.0.2.1")


def test_a_gateway_serves_tls(tmp_path: Path) -> None:
    """With certificate and key it serves HTTPS, which the http driver trusts by the authority it is given."""
    for name, pem in zip(("cert.pem", "key.pem"), certificate(), strict=True):
        (tmp_path / name).write_bytes(pem)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    app = GatewayApp(MemoryBackend(), Access(SECRET))
    with Gateway(app, tls_cert=cert, tls_key=key) as gateway:
        assert gateway.url.startswith("https://127.0.0.1:")
        options = {"address": gateway.url + "/state/{scope}", "username": "tofu", "password": SECRET}
        trusting = HttpDriver({**options, "ca": str(cert)}).open_scope("sc").client("a")
        trusting.put("default", b"state")
        snapshot = trusting.get("default")
        trusting.close()
        assert snapshot is not None
        assert snapshot.data == b"state"
        doubting = HttpDriver(options).open_scope("sc").client("b")
        with pytest.raises(DriverError, match="unavailable"):
            doubting.get("default")
        doubting.close()
    with pytest.raises(ConfigError, match="cannot use the TLS certificate"):
        Gateway(app, tls_cert=key, tls_key=key)


def test_an_address_names_its_workspace_safely() -> None:
    """The address of a workspace is percent-encoded."""
    gateway = Gateway(GatewayApp(MemoryBackend(), Access(SECRET)))
    gateway.socket.close()
    assert gateway.state_url("a b/ü").endswith("/state/a%20b%2F%C3%BC")
