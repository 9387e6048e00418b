"""Clients of the reference backend with other settings, clocks or connections, recorded like all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from lockproof.driver.databricks_bed import SkippingClock, TestBed
from lockproof.driver.recorder import RecordedClient, RecordedScope


def bed_of(scope: RecordedScope) -> TestBed:
    """The test bed behind a scope."""
    bed = scope.scope.test_bed()  # type: ignore[attr-defined]
    assert isinstance(bed, TestBed)
    return bed


def special_client(scope: RecordedScope, who: str, **settings: Any) -> RecordedClient:
    """A client of the scope, `settings` as of `TestBed.client`; it waits on a clock that does not wait."""
    settings.setdefault("clock", SkippingClock())
    client = RecordedClient(bed_of(scope).client(who, **settings), who, scope.history, scope.timeout)
    scope.clients.append(client)
    return client


@dataclass
class LostReply:
    """Connections on which the reply to a statement that begins with `verb` is lost, the first time.

    The statement takes effect; then the connection is gone.
    """

    connect: Callable[[], psycopg.Connection[Any]]
    verb: str
    lost: int = 0

    def __call__(self) -> psycopg.Connection[Any]:
        connection = self.connect()
        bed = self

        class LosingCursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, *args: Any, **keywords: Any) -> Any:
                text = query.decode() if isinstance(query, bytes) else str(query)
                result = super().execute(query, *args, **keywords)
                if text.startswith(bed.verb) and not bed.lost:
                    bed.lost += 1
                    self.connection.close()
                    raise psycopg.OperationalError("server closed the connection unexpectedly")
                return result

        connection.cursor_factory = LosingCursor
        return connection
