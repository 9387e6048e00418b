"""Deletions under strict fencing: without force they take away nothing that a holder wrote."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from lockproof.suites.meta.lock_calls import info
from lockproof.suites.meta.strict_bed import StrictBed
from tofu_databricks.errors import StaleWrite, StateLocked
from tofu_databricks.gateway import Access, Gateway, GatewayApp

pytest_plugins = ("lockproof.suites.meta.strict_fixtures",)

EMPTY = b'{"version":4,"serial":1,"lineage":"x","resources":[]}'
FULL = b'{"version":4,"serial":2,"lineage":"x","resources":[{"mode":"managed","type":"a","name":"b"}]}'


def overtaken(strict: StrictBed, workspace: str) -> Callable[[str], None]:
    """A checkpoint: before the head is moved, bob takes the lock of the workspace and writes it."""
    bob = strict.backend().client(workspace)
    done: list[str] = []

    def step(name: str) -> None:
        if name == "lock.move" and not done:
            done.append(name)
            bob.put(FULL, lock_id=bob.lock(info("bob")))

    return step


def test_a_workspace_that_is_written_meanwhile_is_not_deleted(strict: StrictBed) -> None:
    """It was found empty, and then a holder wrote it: the deletion is refused, and by force it is made."""
    strict.backend().client("dev").put(EMPTY)
    deleter = strict.backend(overtaken(strict, "dev"))
    with pytest.raises(StaleWrite, match="was written since it was looked at") as refused:
        deleter.delete_workspace("dev")
    assert refused.value.definite
    assert (strict.backend().client("dev").get(), strict.backend().workspaces()) == (FULL, ["default", "dev"])
    deleter.delete_workspace("dev", force=True)
    assert (strict.backend().client("dev").get(), strict.backend().workspaces()) == (None, ["default"])


def test_an_empty_workspace_is_deleted_once_its_lock_is_released(strict: StrictBed) -> None:
    """As OpenTofu does it: lock, look, release, delete. One that nobody ever wrote is no error."""
    backend = strict.backend()
    client = backend.client("dev")
    lock_id = client.lock(info("ann"))
    client.put(EMPTY, lock_id=lock_id)
    client.unlock(lock_id)
    for _ in range(2):
        backend.delete_workspace("dev")
        assert (client.get(), backend.workspaces()) == (None, ["default"])
    backend.delete_workspace("never")


def test_a_deletion_without_a_lock_is_refused_while_somebody_holds_it(strict: StrictBed) -> None:
    """Also by one that takes the lock between the look at it and the deletion; nothing is changed."""
    strict.client().put(EMPTY)
    with pytest.raises(StateLocked, match="bob holds the lock") as refused:
        strict.client(overtaken(strict, "default")).delete()
    assert refused.value.definite
    with pytest.raises(StateLocked):
        strict.client().delete()
    assert strict.client().get() == strict.copy() == FULL


def test_the_gateway_deletes_nothing_that_a_holder_wrote(lakebase: StrictBed) -> None:
    """A DELETE without an id finds nobody, and before it is made bob holds the lock: 423."""
    lakebase.client().put(EMPTY)
    with Gateway(GatewayApp(lakebase.backend(overtaken(lakebase, "default")), Access(None, ""))) as gateway:
        address = urlsplit(gateway.state_url("default"))
        connection = http.client.HTTPConnection(address.netloc)
        connection.request("DELETE", address.path)
        assert connection.getresponse().status == 423
        connection.close()
    assert lakebase.client().get() == FULL
