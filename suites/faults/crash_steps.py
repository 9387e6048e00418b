"""Clients of the reference backend that can be killed before and after each request and each statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import requests
from requests.adapters import HTTPAdapter

from lockproof.chaos.process import Reach
from lockproof.driver.databricks import DatabricksClient, DatabricksScope
from tofu_databricks.backend import Backend

READS = ("GET", "HEAD", "SELECT")
EFFECT = (" answered", ".committed")


def effects_of(names: Sequence[str]) -> list[int]:
    """The steps just after something took effect: from there to the next one nothing has changed."""
    return [at for at, name in enumerate(names) if name.endswith(EFFECT) and not name.startswith(READS)]


class SteppedAdapter(HTTPAdapter):
    """An answered request is a step: it has taken effect and nobody has been told."""

    def __init__(self, reach: Reach) -> None:
        super().__init__()
        self.reach = reach

    def send(self, request: requests.PreparedRequest, *args: Any, **keywords: Any) -> requests.Response:
        response = super().send(request, *args, **keywords)
        self.reach(f"{request.method} answered")
        return response


def stepped_connections(
    connect: Callable[[], psycopg.Connection[Any]], reach: Reach
) -> Callable[[], psycopg.Connection[Any]]:
    """Connections by `connect`; a login, and an answered statement, is a step."""

    class SteppedCursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, *args: Any, **keywords: Any) -> Any:
            cursor = super().execute(query, *args, **keywords)
            reach(f"{text_of(query).split()[0]} answered")
            return cursor

    def open_connection() -> psycopg.Connection[Any]:
        reach("login")
        connection = connect()
        connection.cursor_factory = SteppedCursor
        return connection

    return open_connection


def text_of(query: Any) -> str:
    return query.decode() if isinstance(query, bytes) else str(query)


def step_by_step(backend: Backend, reach: Reach) -> None:
    """From now on the steps of `backend` are all that it sends and all that is answered; those before a
    request or a statement are its checkpoints."""
    for scheme in ("http://", "https://"):
        backend.transport.session.mount(scheme, SteppedAdapter(reach))
    if backend.config.lock_backend == "lakebase":
        backend.connect = stepped_connections(backend.connect or backend.connector(), reach)


def stepped_client(scope: DatabricksScope, who: str, reach: Reach) -> DatabricksClient:
    """A client of the scope whose steps are counted."""
    before = scope.locks.checkpoint

    def checkpoint(step: str) -> None:
        before(step)
        reach(step)

    scope.locks.checkpoint = checkpoint  # type: ignore[method-assign]
    client = scope.client(who)
    step_by_step(client.backend, reach)
    return client
