"""Strict fencing where the lock store has a standby that takes over: what was acknowledged is there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.inprocess import activate
from lockproof.provision.cluster import provide_cluster, until
from lockproof.suites.meta.lock_calls import info
from tofu_databricks.backend import Backend
from tofu_databricks.config import Config
from tofu_databricks.errors import BackendError

SETTINGS = {
    "catalog": "main",
    "schema": "default",
    "volume": "v",
    "key": "terraform.tfstate",
    "lock_backend": "lakebase",
    "lakebase_project": "p",
    "fencing": "strict",
}


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "without"])
def test_a_write_that_no_standby_has_is_not_acknowledged(locked: bool) -> None:
    """The session of a move ends before the standby has it: who looks again sees it made, and yet it is lost
    once the standby takes over. It is acknowledged only if it is there after that."""
    workspace = FakeWorkspace()
    workspace.create_volume("main.default.v")
    with activate(workspace), provide_cluster() as cluster:
        config = Config.load({"host": workspace.url, "token": workspace.token, **SETTINGS}, environ={})

        def connect() -> psycopg.Connection[Any]:
            return psycopg.connect(**{**cluster.primary.server.keywords(), "application_name": "ann"})

        with Backend(config, connect=connect) as ann, ThreadPoolExecutor(1) as pool:
            client = ann.client()
            lock_id = client.lock(info("ann")) if locked else None
            client.put(b"one", lock_id=lock_id)
            cluster.primary.rows("ANALYZE")  # now a second UPDATE looks at the head first
            standby = cluster.add_standby(synchronous=True)
            client.put(b"two", lock_id=lock_id)
            cluster.cut_off(standby)
            primary = cluster.primary
            told = pool.submit(outcome, lambda: client.put(b"three", lock_id=lock_id))
            until(lambda: primary.waiting("SyncRep") > 0, "the move is not committed")
            assert primary.end_sessions() > 0
            until(lambda: told.done() or primary.waiting("SyncRep") > 0, "nobody looks again")
            cluster.fail_over(standby)
            made = told.result(120)
        assert made in {"made", "unknown"}
        with Backend(config, connect=connect) as bob:
            assert bob.client().get() == (b"three" if made == "made" else b"two")
            assert (bob.client().lock_holder() is not None) == locked


def outcome(write: Callable[[], None]) -> str:
    """What a writer is told."""
    try:
        write()
    except BackendError as error:
        return "refused" if error.definite else "unknown"
    return "made"
