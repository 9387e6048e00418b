"""Clients of the reference backend with other settings, clocks or connections, recorded like all others."""

from __future__ import annotations

from typing import Any

from lockproof.driver import Client
from lockproof.driver.databricks_bed import SkippingClock, TestBed
from lockproof.driver.databricks_locks import Statements
from lockproof.driver.recorder import RecordedClient, RecordedScope


def bed_of(scope: RecordedScope) -> TestBed:
    """The test bed behind a scope."""
    bed = scope.scope.test_bed()  # type: ignore[attr-defined]
    assert isinstance(bed, TestBed)
    return bed


def special_client(scope: RecordedScope, who: str, **settings: Any) -> RecordedClient:
    """A client of the scope, `settings` as of `TestBed.client`; its waiting takes no time."""
    settings.setdefault("clock", SkippingClock())
    return recorded(scope, who, bed_of(scope).client(who, **settings))


def counted_client(scope: RecordedScope, who: str) -> tuple[RecordedClient, Statements]:
    """A client of the scope, and the statements that it sends to the lock store."""
    client = bed_of(scope).client(who)
    return recorded(scope, who, client), bed_of(scope).locks.counted(client)


def recorded(scope: RecordedScope, who: str, client: Client) -> RecordedClient:
    """The client with its calls in the history of the test."""
    found = RecordedClient(client, who, scope.history, scope.timeout)
    scope.clients.append(found)
    return found
