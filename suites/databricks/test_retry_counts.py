"""How often a request is sent, of every kind of call that the backend makes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lockproof.driver import DriverError, LockInfo
from lockproof.driver.databricks_bed import SkippingClock
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import Polling, bed_of, counted, special_client

Call = Callable[[], object]
Kind = Callable[[RecordedScope, SkippingClock], tuple[dict[str, Any], Call]]
"""Makes ready one kind of call: which requests it sends, as fields of
`lockproof.fakes.databricks.faults.Fault`, and the call."""

STATEMENTS = "/api/2.0/sql/statements"
DATA = tofu_bytes(document())


def locking(client: RecordedClient) -> Call:
    """Takes a lock."""
    return lambda: client.lock("default", LockInfo.new(client.who))


def own_principal(scope: RecordedScope) -> tuple[str, str]:
    """An administrator of the test's own, whose requests are told from others': name and token."""
    bed = bed_of(scope)
    name = f"own@{bed.scope.volume}.example"
    return name, str(bed.control.create_principal(name, admin=True))


def put(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    client = special_client(scope, "alice", clock=clock)
    return {"method": "PUT", "path": bed_of(scope).files}, lambda: client.put("default", DATA)


def delete(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    client = special_client(scope, "alice", clock=clock)
    # Strictly fenced, files are deleted once the state is gone: what comes before is the record of fencing.
    method = "PUT" if bed_of(scope).strict else "DELETE"
    return {"method": method, "path": bed_of(scope).files}, lambda: client.delete("default")


def listing(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    client = special_client(scope, "alice", clock=clock)
    return {"method": "GET", "path": bed_of(scope).directories}, client.workspaces


def directory(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    """The storage says once that there is none."""
    client, bed = special_client(scope, "alice", clock=clock), bed_of(scope)
    reason = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "FILES_API_DIRECTORY_IS_NOT_FOUND",
    }
    missing = {"error_code": "NOT_FOUND", "message": "No such directory.", "details": [reason]}
    bed.control.add_fault(method="PUT", path=bed.files, status=404, body=missing)
    return {"method": "PUT", "path": bed.directories}, lambda: client.put("default", DATA)


def volume(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    client = special_client(scope, "alice", clock=clock)
    path = f"/api/2.1/unity-catalog/volumes/{bed_of(scope).volume}"
    return {"method": "GET", "path": path}, client.workspaces


def record_read(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    path = f"/api/2.0/fs/files{bed_of(scope).root}/*lock-store.json"
    return {"method": "GET", "path": path}, locking(special_client(scope, "alice", clock=clock))


def record_write(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    path = f"/api/2.0/fs/files{bed_of(scope).root}/*lock-store.json"
    return {"method": "PUT", "path": path}, locking(special_client(scope, "alice", clock=clock))


def used(scope: RecordedScope) -> None:
    """The lock was used before: its table is there."""
    early = special_client(scope, "early")
    early.unlock("default", early.lock("default", LockInfo.new("early")))


def statement(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    used(scope)
    text = f"*{bed_of(scope).scope.lock_schema}*"
    client = special_client(scope, "alice", clock=clock)
    return {"method": "POST", "path": STATEMENTS, "content": text}, locking(client)


def poll(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    used(scope)
    bed = bed_of(scope)
    name, token = own_principal(scope)
    own = bed.locks.own_compute()
    bed.control.call("set_warehouse", warehouse_id=own["warehouse_id"], patience=0)
    client = special_client(scope, "alice", clock=clock, token=token, **own)
    return {"method": "GET", "path": f"{STATEMENTS}/*", "principal": name}, locking(client)


def warehouses(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    used(scope)
    name, token = own_principal(scope)
    client = special_client(scope, "alice", clock=clock, token=token)
    return {"method": "GET", "path": "/api/2.0/sql/warehouses", "principal": name}, locking(client)


def login_token(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    own = bed_of(scope).locks.own_compute()
    client = special_client(scope, "alice", clock=clock, **own)
    text = f"*{own['lakebase_project']}/*"
    return {"path": "/api/2.0/postgres/credentials", "content": text}, locking(client)


def endpoint(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    own = bed_of(scope).locks.own_compute()
    client = special_client(scope, "alice", clock=clock, lakebase_host="", **own)
    path = f"/api/2.0/postgres/projects/{own['lakebase_project']}/*"
    return {"method": "GET", "path": path}, locking(client)


def oauth_token(scope: RecordedScope, clock: SkippingClock) -> tuple[dict[str, Any], Call]:
    name, _ = own_principal(scope)
    client_id, secret = bed_of(scope).control.create_oauth_client(name)
    client = special_client(
        scope, "alice", clock=clock, token=None, client_id=client_id, client_secret=secret
    )
    return {"path": "/oidc/v1/token", "client": client_id}, lambda: client.get("default")


WAREHOUSE, LAKEBASE = needs("service.warehouse"), needs("locking.expiring-login")
KINDS = [
    put,
    delete,
    listing,
    directory,
    volume,
    record_read,
    record_write,
    oauth_token,
    pytest.param(statement, marks=WAREHOUSE),
    pytest.param(poll, marks=WAREHOUSE),
    pytest.param(warehouses, marks=WAREHOUSE),
    pytest.param(login_token, marks=LAKEBASE),
    pytest.param(endpoint, marks=LAKEBASE),
]
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@needs("test-bed")
@requirement("DBX-RETRY-007")
def test_every_kind_of_request_is_sent_four_times_at_most(scope: RecordedScope, kind: Kind) -> None:
    """Connections are lost, then 503 has no end: one request and three retries, and it is unavailable."""
    clock = Polling()
    which, call = kind(scope, clock)
    control = bed_of(scope).control
    faults = [
        control.add_fault(**which, drop=True, times=2),
        control.add_fault(**which, status=503, first=3, times=None),
    ]
    before = len(clock.slept)
    with pytest.raises(DriverError) as failure:
        call()
    assert failure.value.kind == "unavailable"
    assert control.fault(faults[1])["seen"] == 4
    waited = clock.slept[before:]
    assert sorted(wait for wait in waited if wait != POLLING) == waited[-3:]
    for fault in faults:
        control.clear_faults(fault)


POLLING = 0.5
"""Seconds between two questions for a statement: no retry."""


@every_kind
@needs("test-bed")
@requirement("DBX-RETRY-007")
def test_every_kind_of_request_is_sent_once_when_it_is_not_authenticated(
    scope: RecordedScope, kind: Kind
) -> None:
    """401 ends the call with the first request of the kind."""
    which, call = kind(scope, Polling())
    control = bed_of(scope).control
    fault = control.add_fault(**which, status=401, times=None)
    with pytest.raises(DriverError) as failure:
        call()
    assert failure.value.kind == "unauthorized"
    assert control.fault(fault)["seen"] == 1
    control.clear_faults(fault)


@every_kind
@needs("test-bed")
@requirement("DBX-RETRY-007")
def test_every_kind_of_request_waits_when_it_is_throttled(scope: RecordedScope, kind: Kind) -> None:
    """429 four times, more than an outage is retried: each wait is as long as told, and the call succeeds."""
    clock = Polling()
    which, call = kind(scope, clock)
    control = bed_of(scope).control
    fault = control.add_fault(**which, status=429, headers={"Retry-After": "6"}, times=4)
    call()
    assert control.fault(fault)["hits"] == 4
    assert clock.slept.count(6) == 4


# --- Connections to Lakebase


@contextmanager
def nobody() -> Iterator[tuple[int, Callable[[], int]]]:
    """A port at which connections are taken and ended at once, and how many there were."""
    taken: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, (_, port) = server.accept()
                except OSError:
                    return
                taken.append(port)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], lambda: len(taken)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@needs("test-bed", "locking.expiring-login")
@requirement("DBX-RETRY-008")
def test_connection_that_is_ended_is_opened_four_times_at_most(scope: RecordedScope) -> None:
    """Where every connection to the database is lost at once, one and three more are opened."""
    clock = SkippingClock()
    with nobody() as (port, taken):
        alice = special_client(scope, "alice", clock=clock, lakebase_host="127.0.0.1", lakebase_port=port)
        with pytest.raises(DriverError) as failure:
            alice.lock("default", LockInfo.new("alice"))
        assert taken() == 4
    assert (failure.value.kind, failure.value.definite) == ("unavailable", True)
    assert len(clock.slept) == 3
    assert clock.slept == sorted(clock.slept)


@needs("test-bed", "locking.expiring-login")
@requirement("DBX-RETRY-008")
@pytest.mark.parametrize("loss", ["drop_request", "drop_reply"])
@pytest.mark.parametrize("what", ["lock", "unlock", "write"])
def test_statement_whose_connection_is_lost_is_sent_four_times_at_most(
    scope: RecordedScope, what: str, loss: str
) -> None:
    """Where every connection is lost with its statement, it is sent four times; the outcome is unknown."""
    bed, clock = bed_of(scope), SkippingClock()
    alice = special_client(scope, "alice", clock=clock)
    lock_id = alice.lock("default", LockInfo.new("alice"))
    if what == "lock":
        alice.unlock("default", lock_id)
    calls: dict[str, Call] = {
        "lock": locking(alice),
        "unlock": lambda: alice.unlock("default", lock_id),
        "write": lambda: alice.put("default", DATA, lock_id=lock_id),
    }
    fault = bed.control.call("lakebase_fault", what=loss, match=bed.scope.lock_schema, times=4)
    with pytest.raises(DriverError) as failure:
        calls[what]()
    assert bed.control.call("lakebase_fault_counts", fault_id=fault)["seen"] == 4
    assert len(clock.slept) == 3
    assert failure.value.kind == "unavailable"
    # A strictly fenced write begins with a look, which changes nothing.
    assert failure.value.definite == (what == "write" and bed.strict)
    if what == "write":
        assert "terraform.tfstate" not in bed.states()


@needs("test-bed", "locking.expiring-login")
@requirement("DBX-RETRY-008")
def test_login_that_is_refused_is_tried_once_more_with_another_token(scope: RecordedScope) -> None:
    """A login whose token the server does not accept is tried again with a fresh one, and then no more."""
    bed, clock = bed_of(scope), SkippingClock()
    own = bed.locks.own_compute()
    stranger = special_client(scope, "stranger", clock=clock, lakebase_user="nobody@elsewhere.example", **own)
    tokens = counted(bed, path="/api/2.0/postgres/credentials", content=f"*{own['lakebase_project']}/*")
    with pytest.raises(DriverError) as failure:
        stranger.lock("default", LockInfo.new("stranger"))
    assert (failure.value.kind, failure.value.definite) == ("unauthorized", True)
    assert tokens() == 2
    assert clock.slept == []
