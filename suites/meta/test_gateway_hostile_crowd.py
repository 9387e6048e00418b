"""200 clients at once on a gateway process: all are answered, and exclusion holds."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from lockproof.checkers import require_valid
from lockproof.driver import Locked, LockInfo
from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.http import HttpDriver
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.meta.served_gateway import DEADLINE, served

CLIENTS = 200
WORKSPACES = 5


def session(client: RecordedClient, start: threading.Barrier, released: threading.Semaphore) -> None:
    """Takes the lock, waiting for others to release it, writes, reads what it wrote, and unlocks."""
    start.wait(DEADLINE)
    lock_id = None
    while lock_id is None:
        try:
            lock_id = client.lock("default", LockInfo.new(client.who))
        except Locked:
            assert released.acquire(timeout=DEADLINE), "nobody releases the lock"
    state = tofu_bytes(document())
    client.put("default", state, lock_id=lock_id)
    snapshot = client.get("default")
    assert snapshot is not None
    assert snapshot.data == state
    client.unlock("default", lock_id)
    released.release()


def test_a_crowd_is_answered_and_excluded(tmp_path: Path) -> None:
    """200 clients on 5 workspaces, each with its lock, write, read, unlock: every call has an answer, no
    two hold one lock, and what is read is what was written last."""
    start = threading.Barrier(CLIENTS)
    histories = [HistoryWriter({"test": f"crowd-{n}"}) for n in range(WORKSPACES)]
    with ExitStack() as stack:
        options = stack.enter_context(DatabricksDriver.provision({}))
        behind = stack.enter_context(DatabricksDriver(options).open_scope("crowd"))
        settings = behind.command_line("default").environment
        gateway = stack.enter_context(served(settings, tmp_path / "log"))
        driver = HttpDriver({"address": gateway.url + "/state/{scope}"})
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        sessions = []
        for history in histories:
            inner = driver.open_scope(str(history.header["test"]))
            scope = stack.enter_context(RecordedScope(inner, history, DEADLINE))
            released = threading.Semaphore(0)
            clients = [scope.client(f"client {n}") for n in range(CLIENTS // WORKSPACES)]
            sessions += [pool.submit(session, client, start, released) for client in clients]
        for running in sessions:
            running.result(2 * DEADLINE)
        assert "Traceback" not in gateway.logged()
    for history in histories:
        verdict = require_valid(history.history(), fencing=True)
        assert verdict.status == "valid"
        outcomes = Counter((op.f, op.kind) for op in history.history().operations() if op.f != "delete")
        share = CLIENTS // WORKSPACES
        refusals = outcomes.pop(("lock", "fail"))
        assert outcomes == dict.fromkeys([(f, "ok") for f in ("lock", "put", "get", "unlock")], share)
        assert refusals > share // 2, "they did not meet"
