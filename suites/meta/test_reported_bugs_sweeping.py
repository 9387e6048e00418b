"""Every exchange of a call is broken in turn, and a fault that hits nothing proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import requests

from lockproof.chaos.proxy import Answer, FaultProxy, Link
from lockproof.driver import Address
from lockproof.history import HistoryWriter
from lockproof.history.faults import faults
from lockproof.spec.outcome import Unknown
from lockproof.suites.faults.sweeping import Turn, every_exchange


class Ok(BaseHTTPRequestHandler):
    """Answers everything with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def link() -> Iterator[Link]:
    """A link to a server that answers everything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Ok) as server, FaultProxy() as proxy:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield proxy.stand_before(Address("127.0.0.1", server.server_address[1]), "http", name="there")
        server.shutdown()
        thread.join()


def call(link: Link, exchanges: int) -> list[int]:
    """A call of so many exchanges: their statuses."""
    url = f"http://127.0.0.1:{link.address.port}/"
    return [requests.get(url, timeout=30).status_code for _ in range(exchanges)]


def test_every_exchange_is_broken_once(link: Link) -> None:
    """A call of three requests has a turn for each, and one that finds no fourth; the history tells each."""
    history = HistoryWriter({})
    seen = []
    for turn in every_exchange({"there": link}, lambda _: Answer(503), history):
        assert call(link, 1) == [200], "nothing is broken outside of a turn"
        with turn:
            seen.append(call(link, 3))
    assert seen == [[503, 200, 200], [200, 503, 200], [200, 200, 503], [200, 200, 200]]
    told = faults(history.history().events)
    assert [fault.given["exchange"] for fault in told] == [1, 2, 3, 4]
    assert {fault.name for fault in told} == {"net.error_before"}
    assert [fault.stop.out["hits"] for fault in told if fault.stop] == [1, 1, 1, 0]


def test_a_fault_that_hits_nothing_is_unknown(link: Link) -> None:
    """A call that uses no link, and a link on which the fault is impossible, prove nothing."""
    possible = every_exchange({"there": link}, lambda _: Answer(503), HistoryWriter({}))
    impossible = every_exchange({"there": link}, lambda _: None, HistoryWriter({}))
    for turns in (possible, impossible):
        with pytest.raises(Unknown, match="hit nothing"):
            make_no_call(turns)


def test_a_call_that_never_ends_is_unknown(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last turn that there may be still broke something, not all exchanges were broken."""
    monkeypatch.setattr("lockproof.suites.faults.sweeping.MOST", 3)
    turns = every_exchange({"there": link}, lambda _: Answer(503), HistoryWriter({}))
    with pytest.raises(Unknown, match="after 2 exchanges"):
        go_in_circles(link, turns)


def go_in_circles(link: Link, turns: Iterator[Turn]) -> None:
    for turn in turns:
        with turn:
            assert 503 in call(link, 3)


def make_no_call(turns: Iterator[Turn]) -> None:
    for turn in turns:
        with turn:
            assert turn.hits == 0
