"""Links with TLS: ended with a certificate of the proxy's own, and begun anew with the server."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from lockproof.chaos.proxy import Answer, DropReply, DropRequest, FaultProxy, Reset, Which
from lockproof.chaos.proxy.certificates import Authority
from lockproof.driver import Address, DriverError
from lockproof.driver.databricks import authority_of
from lockproof.driver.http import HttpDriver
from lockproof.provision.postgres import PostgresServer
from lockproof.suites.meta.lakebase_bed import LakebaseBed, lakebase_bed
from lockproof.suites.meta.proxied_server import WAIT_SECONDS, StateServer, serve

NAME = "state.example.internal"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the server's clients must trust; the proxy has another one."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def served(authority: Authority) -> Iterator[tuple[StateServer, Address]]:
    certificate = authority.ca_file.with_name("server.pem")
    certificate.write_bytes(authority.issue(NAME))
    with serve(ssl_certfile=str(certificate)) as (server, address):
        yield server, Address(address.host, address.port, True, NAME, "http", str(authority.ca_file))


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running


def put(address: Address, path: str, **options: object) -> requests.Response:
    """A PUT by a client that trusts whom the address says, and nobody else."""
    with requests.Session() as session:
        session.trust_env = False
        url = f"https://{address.host}:{address.port}{path}"
        return session.put(url, data=b"state", verify=address.ca_file, timeout=WAIT_SECONDS, **options)  # type: ignore[arg-type]


def test_https_link_is_trusted_by_who_is_told_its_authority(
    served: tuple[StateServer, Address], proxy: FaultProxy
) -> None:
    """The client trusts the proxy, the proxy the server; the server reads its own name in Host."""
    server, upstream = served
    link = proxy.stand_before(upstream)
    assert link.address.tls
    assert link.address.ca_file == str(proxy.ca_file)
    assert put(link.address, "/tls").status_code == 201
    assert server.states["/tls"] == b"state"
    assert server.seen.hosts[-1] == f"{NAME}:{upstream.port}"


def test_faults_strike_within_tls(served: tuple[StateServer, Address], proxy: FaultProxy) -> None:
    """What TLS carries is struck as what is sent in the clear."""
    server, upstream = served
    link = proxy.stand_before(upstream)
    link.arm(Answer(503), Which(path="/struck/answer"))
    assert put(link.address, "/struck/answer").status_code == 503
    for fault in (DropRequest(), DropReply(), Reset(), Reset(side="request")):
        armed = link.arm(fault, Which(path="/struck/*"))
        with pytest.raises(requests.ConnectionError):
            put(link.address, f"/struck/{fault}")
        assert armed.hits == 1
    assert [path for _, path, _ in server.seen.whole if path.startswith("/struck/")] == [
        f"/struck/{DropReply()}",
        f"/struck/{Reset()}",
    ]


def test_end_of_a_connection_that_is_closing_is_no_error(
    served: tuple[StateServer, Address], proxy: FaultProxy
) -> None:
    """TLS: told to close twice, a connection still hears that the other side has ended."""
    link = proxy.stand_before(served[1])
    context = ssl.create_default_context(cafile=link.address.ca_file)
    with (
        socket.create_connection(("127.0.0.1", link.address.port), WAIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"GET /closing HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(1)

        def close_twice() -> list[bool]:
            wires = [wire for connection in link.open for wire in (connection.client, connection.server)]
            for wire in (*wires, *wires):
                wire.close()
            return [wire.eof_received() for wire in wires]

        assert proxy.call(close_twice) == [False, False]


def test_client_that_does_not_trust_the_proxy_sends_nothing(
    served: tuple[StateServer, Address], proxy: FaultProxy, authority: Authority
) -> None:
    """The server's own authority does not vouch for the proxy."""
    server, upstream = served
    link = proxy.stand_before(upstream)
    with pytest.raises(requests.exceptions.SSLError):
        put(Address("127.0.0.1", link.address.port, True, ca_file=str(authority.ca_file)), "/distrust")
    assert (link.exchanges, server.seen.methods("/distrust")) == (0, [])


def test_server_that_the_proxy_does_not_trust_gets_nothing(
    served: tuple[StateServer, Address], proxy: FaultProxy
) -> None:
    """Without the server's authority, or under another name, the proxy refuses as a client would."""
    server, upstream = served
    for wrong in (
        Address(upstream.host, upstream.port, True, NAME, "http", None),
        Address(upstream.host, upstream.port, True, "other.example", "http", upstream.ca_file),
    ):
        with pytest.raises(requests.ConnectionError):
            put(proxy.stand_before(wrong).address, "/wrong")
    assert server.seen.methods("/wrong") == []


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", NAME])
def test_certificate_is_valid_by_the_strict_rules(
    served: tuple[StateServer, Address], proxy: FaultProxy, name: str
) -> None:
    """The proxy is known by this machine's names and by the server's, also to verifiers of RFC 5280."""
    link = proxy.stand_before(served[1])
    context = ssl.create_default_context(cafile=link.address.ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", link.address.port), WAIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        assert connection.version() in ("TLSv1.2", "TLSv1.3")


def test_authority_is_removed_with_the_proxy_and_its_key_never_written(tmp_path: Path) -> None:
    """The PEM file holds a certificate alone, and is gone when the proxy is."""
    with FaultProxy() as running:
        ca_file = running.ca_file
        assert ca_file.read_text().count("BEGIN") == 1
        assert "CERTIFICATE" in ca_file.read_text()
        assert [path.name for path in ca_file.parent.iterdir()] == [ca_file.name]
    assert not ca_file.parent.exists()


def test_http_driver_goes_through_a_link_with_tls(
    served: tuple[StateServer, Address], proxy: FaultProxy
) -> None:
    """The driver's link has TLS and names its authority; a scope behind the proxy trusts the proxy's."""
    server, upstream = served
    address = f"https://127.0.0.1:{upstream.port}/{{scope}}"
    driver = HttpDriver({"address": address, "ca": str(upstream.ca_file)})
    assert driver.links() == {
        "http": Address("127.0.0.1", upstream.port, True, protocol="http", ca_file=upstream.ca_file)
    }
    link = proxy.stand_before(driver.links()["http"])
    client = driver.open_scope("driver", {"http": link.address}).client("test")
    client.put("default", b"through")
    link.arm(DropReply())
    with pytest.raises(DriverError) as lost:
        client.put("default", b"again")
    assert not lost.value.definite
    client.close()
    assert server.states["/driver"] == b"again"


def test_stock_clients_are_told_the_authority(tmp_path: Path) -> None:
    """A real tofu behind a TLS link gets the authority in the variable that its http backend reads."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("-----BEGIN CERTIFICATE-----", encoding="ascii")
    scope = HttpDriver({"address": "https://127.0.0.1:1/{scope}"}).open_scope(
        "s", {"http": Address("127.0.0.1", 2, True, ca_file=str(ca_file))}
    )
    environment = scope.command_line("default").environment
    assert environment["TF_HTTP_CLIENT_CA_CERTIFICATE_PEM"] == "-----BEGIN CERTIFICATE-----"
    assert environment["TF_HTTP_ADDRESS"] == "https://127.0.0.1:2/s"


def test_backend_trusts_one_authority() -> None:
    """Links with TLS decide the backend's `ca_certificate`; two authorities are refused, both named."""
    plain, one = Address("127.0.0.1", 1), Address("127.0.0.1", 2, True, ca_file="/one.pem")
    assert authority_of({"a": plain}) == ""
    assert authority_of({"a": plain, "b": one, "c": one}) == "/one.pem"
    with pytest.raises(ValueError, match=r"/one\.pem, /two\.pem"):
        authority_of({"b": one, "c": Address("127.0.0.1", 3, True, ca_file="/two.pem")})


@pytest.fixture(scope="module")
def lakebase(postgres_server: PostgresServer) -> Iterator[LakebaseBed]:
    with lakebase_bed(postgres_server) as bed:
        yield bed


def test_postgres_link_has_tls_where_the_server_has(lakebase: LakebaseBed, proxy: FaultProxy) -> None:
    """A client verifies the proxy in full, a real login passes, and statements are struck."""
    upstream = Address("127.0.0.1", lakebase.model.port, tls=True, protocol="postgres")
    link = proxy.stand_before(upstream)
    here = {"host": "127.0.0.1", "port": link.address.port}
    place: dict[str, Any] = {**here, "sslrootcert": link.address.ca_file}
    with lakebase.connect(**place, sslmode="verify-full") as client:
        assert client.pgconn.ssl_in_use
        assert client.execute("SELECT 1").fetchone() == (1,)
        armed = link.arm(DropReply(), Which(text="select 2"))
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 2")
    assert armed.hits == 1
    with pytest.raises(psycopg.OperationalError, match="connection is insecure"):
        lakebase.connect(**place, sslmode="disable")


def test_postgres_server_can_be_distrusted(
    lakebase: LakebaseBed, proxy: FaultProxy, authority: Authority
) -> None:
    """Where the address names an authority, a server that it does not vouch for gets no login."""
    upstream = Address(
        "127.0.0.1", lakebase.model.port, tls=True, protocol="postgres", ca_file=str(authority.ca_file)
    )
    link = proxy.stand_before(upstream)
    with pytest.raises(psycopg.OperationalError, match="closed the connection"):
        lakebase.connect(host="127.0.0.1", port=link.address.port, sslmode="require")
    assert link.exchanges == 0


def test_reference_backend_locks_through_a_link_with_tls(lakebase: LakebaseBed, proxy: FaultProxy) -> None:
    """`ca_certificate` is the proxy's authority: the backend's own connector reaches Lakebase through it."""
    upstream = Address("127.0.0.1", lakebase.model.port, tls=True, protocol="postgres")
    link = proxy.stand_before(upstream)
    backend = lakebase.backend(
        lakebase_host="127.0.0.1",
        lakebase_port=link.address.port,
        lakebase_sslmode="verify-full",
        ca_certificate=link.address.ca_file,
    )
    with backend.connector()() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert link.connections >= 1
