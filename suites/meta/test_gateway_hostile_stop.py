"""What a gateway process loses when it is told to stop, or its client is gone: nothing that was promised."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from lockproof.driver import Locked, LockInfo
from lockproof.driver.databricks import DatabricksDriver, DatabricksScope
from lockproof.suites.meta.gateway_bed import lock_body, running
from lockproof.suites.meta.served_gateway import DEADLINE, Raw, Served, head, served, until
from tofu_databricks.gateway import Access

OLD, NEW = b'{"version":4,"serial":1}\n', b'{"version":4,"serial":2}\n'
DEFAULT = "/state/default"


@pytest.fixture(scope="module")
def driver() -> Iterator[DatabricksDriver]:
    with DatabricksDriver.provision({}) as provided:
        yield DatabricksDriver(provided)


@pytest.fixture
def scope(driver: DatabricksDriver, request: pytest.FixtureRequest) -> Iterator[DatabricksScope]:
    with driver.open_scope(f"stop-{request.node.name[5:35]}") as opened:
        yield opened


@pytest.fixture
def gateway(scope: DatabricksScope, tmp_path: Path) -> Iterator[Served]:
    """A gateway with the state `OLD`, its lock held by `a`; it must not end in a traceback."""
    with served(scope.command_line("default").environment, tmp_path / "log") as started:
        assert started.connect().request("POST", DEFAULT, OLD).status == 200
        assert started.connect().request("LOCK", DEFAULT, lock_body("a")).status == 200
        yield started
    assert "Traceback" not in started.logged()


@contextmanager
def held_write(scope: DatabricksScope) -> Iterator[int]:
    """The fault that keeps the next write on its way into the volume."""
    fault = scope.control.add_fault(method="PUT", path=scope.test_bed().files, hold=True)
    try:
        yield fault
    finally:
        scope.control.clear_faults(fault)


def stored(scope: DatabricksScope) -> bytes:
    """The state as it lies in the volume."""
    client = scope.client("direct")
    snapshot = client.get("default")
    client.close()
    assert snapshot is not None
    return snapshot.data


def holder(scope: DatabricksScope) -> str:
    """The id of the lock that is held."""
    client = scope.client("asker")
    with pytest.raises(Locked) as refused:
        client.lock("default", LockInfo.new("asker"))
    client.close()
    assert refused.value.holder is not None
    return refused.value.holder.ID


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_completes_and_answers_the_write_in_flight(
    scope: DatabricksScope, gateway: Served, number: signal.Signals
) -> None:
    """SIGTERM or SIGINT in mid-write: no new connections, the write ends and is answered, exit code 0."""
    idle = gateway.connect()
    with held_write(scope) as fault, ThreadPoolExecutor(1) as pool:
        write = pool.submit(gateway.connect().request, "POST", f"{DEFAULT}?ID=a", NEW)
        scope.control.await_held(fault)
        gateway.process.send_signal(number)
        until(gateway.refuses, "the end of the listening")
        assert idle.rest() == b""
        assert gateway.process.poll() is None
        assert not write.done()
        scope.control.release(fault)
        assert write.result(DEADLINE).status == 200
    assert gateway.end() == 0
    assert stored(scope) == NEW
    assert holder(scope) == "a", "the lock is its holder's, whatever becomes of the gateway"


def test_a_stop_waits_for_an_upload_that_has_begun(scope: DatabricksScope, gateway: Served) -> None:
    """SIGTERM while a state is being uploaded: it may be sent to its end, is stored and answered."""
    client = gateway.connect().send(head("POST", f"{DEFAULT}?ID=a", f"Content-Length: {len(NEW)}") + NEW[:5])
    later = gateway.connect().request("GET", "/healthz")
    assert later.status == 200, "what came later is answered: so the upload has begun"
    gateway.process.send_signal(signal.SIGTERM)
    until(gateway.refuses, "the end of the listening")
    assert client.send(NEW[5:]).reply().status == 200
    assert gateway.end() == 0
    assert stored(scope) == NEW


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(
    scope: DatabricksScope, gateway: Served, second: signal.Signals
) -> None:
    """SIGTERM and another signal in mid-write: the process ends, and its client is told of no success."""
    with held_write(scope) as fault, ThreadPoolExecutor(1) as pool:
        client = gateway.connect().send(head("POST", f"{DEFAULT}?ID=a", f"Content-Length: {len(NEW)}") + NEW)
        answer = pool.submit(client.rest)
        scope.control.await_held(fault)
        gateway.process.send_signal(signal.SIGTERM)
        until(gateway.refuses, "the end of the listening")
        gateway.process.send_signal(second)
        assert gateway.end() == -second
        assert answer.result(DEADLINE) == b""
    assert stored(scope) in {OLD, NEW}
    assert holder(scope) == "a"


def test_a_killed_gateway_loses_no_lock_and_no_state(
    scope: DatabricksScope, gateway: Served, tmp_path: Path
) -> None:
    """SIGKILL, and the next gateway serves the same state to the same holder."""
    gateway.process.kill()
    assert gateway.end() == -signal.SIGKILL
    with served(scope.command_line("default").environment, tmp_path / "next") as successor:
        assert successor.connect().request("LOCK", DEFAULT, lock_body("b")).status == 423
        assert successor.connect().request("POST", f"{DEFAULT}?ID=a", NEW).status == 200
        assert successor.connect().request("UNLOCK", DEFAULT, lock_body("a")).status == 200
    assert stored(scope) == NEW


@pytest.mark.parametrize("leave", [Raw.close, Raw.reset], ids=["close", "reset"])
def test_a_client_that_leaves_while_it_locks_leaves_no_riddle(
    gateway: Served, leave: Callable[[Raw], None]
) -> None:
    """Its client left before the answer: the log says whether the lock was taken, and so it is."""
    path = "/state/orphan"
    leave(gateway.connect().send(_lock(path, "orphan", Who="alice@gone")))
    dropped, taken = f"LOCK {path}: the client left", f"LOCK {path} 200"
    until(lambda: dropped in gateway.logged() or taken in gateway.logged(), "a line in the log")
    answer = gateway.connect().request("LOCK", path, lock_body("next"))
    if dropped in gateway.logged():
        assert answer.status == 200
    else:
        assert answer.status == 423
        assert "alice@gone" in answer.text


def test_a_lock_that_nobody_heard_of_is_told_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """A client that left while its lock was being taken: it is held, which the log and a refusal tell; the
    repeat of the request finds its lock, and it can be released."""
    entered, go = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        assert go.wait(DEADLINE)

    with running(access=Access()) as bed, caplog.at_level(logging.INFO, "tofu_databricks.gateway"):
        bed.backend.before["lock"] = block
        client = Raw(socket.create_connection((bed.gateway.host, bed.gateway.port), DEADLINE))
        client.send(_lock(DEFAULT, "orphan"))
        assert entered.wait(DEADLINE)
        client.close()
        until(lambda: not bed.gateway.server.server_state.connections, "the end of the connection")
        go.set()
        until(lambda: "orphan" in {info.ID for info in bed.backend.locks.values()}, "the lock")
        refused = bed.wire.lock("next")
        assert (refused.status_code, refused.json()["ID"]) == (423, "orphan")
        assert bed.wire.lock("orphan").status_code == 200
        assert bed.wire.unlock("orphan").status_code == 200
        assert bed.wire.lock("next").status_code == 200
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, line in lines if "the client left before it was told" in line] == ["WARNING"]


def _lock(path: str, lock_id: str, **fields: str) -> bytes:
    body = lock_body(lock_id, **fields)
    return head("LOCK", path, f"Content-Length: {len(body)}") + body
