"""Clients of the reference backend with other settings, clocks or connections, recorded like all others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from lockproof.driver import Client
from lockproof.driver.databricks_bed import SkippingClock, TestBed
from lockproof.driver.databricks_locks import Statements
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter


class Polling(SkippingClock):
    """Its waiting takes a moment: whoever asks again and again for a statement gives it time to end."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        threading.Event().wait(0.005)


def bed_of(scope: RecordedScope) -> TestBed:
    """The test bed behind a scope."""
    bed = scope.scope.test_bed()  # type: ignore[attr-defined]
    assert isinstance(bed, TestBed)
    return bed


def special_client(
    scope: RecordedScope, who: str, history: HistoryWriter | None = None, /, **settings: Any
) -> RecordedClient:
    """A client of the scope, `settings` as of `TestBed.client`; its waiting takes no time.

    With settings that make it a client of another place it needs that place's `history`.
    """
    settings.setdefault("clock", SkippingClock())
    return recorded(scope, who, bed_of(scope).client(who, **settings), history)


def counted_client(scope: RecordedScope, who: str) -> tuple[RecordedClient, Statements]:
    """A client of the scope, and the statements that it sends to the lock store."""
    client = bed_of(scope).client(who)
    return recorded(scope, who, client), bed_of(scope).locks.counted(client)


def counted(bed: TestBed, **requests: Any) -> Callable[[], int]:
    """Counts the requests from now on that these fields of `lockproof.fakes.databricks.faults.Fault` choose,
    among all that anybody sends: narrow them to your own. Of several faults the first one armed acts."""
    fault = bed.control.add_fault(**requests, headers={"X-Counted": "yes"}, times=None)
    return lambda: int(bed.control.fault(fault)["seen"])


def recorded(
    scope: RecordedScope, who: str, client: Client, history: HistoryWriter | None = None
) -> RecordedClient:
    """The client with its calls in a history, the scope's when none is given."""
    found = RecordedClient(client, who, history or scope.history, scope.timeout)
    scope.clients.append(found)
    return found
