"""Each fault, as the client and a real server see it, on links that know bytes and links that know HTTP."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import requests

from lockproof.chaos.proxy import (
    Answer,
    Delay,
    DropReply,
    DropRequest,
    Duplicate,
    Reset,
    SlowBody,
    StaleRead,
    Truncate,
    Which,
)
from lockproof.suites.meta.proxied_bed import BODY, PATHS, Bed
from lockproof.suites.meta.proxied_server import WAIT_SECONDS, serve

pytest_plugins = ("lockproof.suites.meta.proxied_fixtures",)


def test_without_faults_all_passes_and_is_counted(link_bed: Bed) -> None:
    """Requests and replies pass unchanged, over the client's one connection."""
    assert link_bed.put().status_code == 201
    assert link_bed.get() == BODY
    assert link_bed.send("DELETE").status_code == 204
    assert link_bed.send("GET").status_code == 404
    assert link_bed.send("HEAD").status_code == 404
    assert link_bed.seen == ["PUT", "GET", "DELETE", "GET", "HEAD"]
    assert (link_bed.link.exchanges, link_bed.link.connections) == (5, 1)


def test_dropped_request_never_reaches_the_server(link_bed: Bed) -> None:
    """DropRequest: the client loses its connection, and the server hears nothing."""
    armed = link_bed.link.arm(DropRequest())
    with pytest.raises(requests.ConnectionError):
        link_bed.put()
    assert armed.hits == 1
    assert link_bed.put(b"second").status_code == 201
    assert link_bed.server.seen.whole[-1][2] == b"second"
    assert link_bed.seen == ["PUT"]


def test_dropped_reply_leaves_the_effect(link_bed: Bed) -> None:
    """DropReply: the client loses its connection, and the request took effect once."""
    armed = link_bed.link.arm(DropReply())
    with pytest.raises(requests.ConnectionError):
        link_bed.put()
    armed.await_hits()
    assert link_bed.server.states[link_bed.path] == BODY
    assert link_bed.seen == ["PUT"]


def test_held_request_reaches_the_server_when_released(link_bed: Bed) -> None:
    """Delay of a request: nothing arrives before the release, all of it after."""
    armed = link_bed.link.arm(Delay(None))
    call = link_bed.later(link_bed.put)
    armed.await_held()
    assert link_bed.seen == []
    assert not call.done
    armed.release()
    assert call.result().status_code == 201
    assert (armed.hits, armed.held, link_bed.seen) == (1, 0, ["PUT"])


def test_held_request_arrives_late_although_its_client_has_left(link_bed: Bed) -> None:
    """Delay of a request: the network delivers it also when nobody waits for the reply any more."""
    armed = link_bed.link.arm(Delay(None))
    with pytest.raises(requests.Timeout):
        link_bed.send("PUT", BODY, timeout=0.3)
    link_bed.session.close()
    assert link_bed.seen == []
    armed.release()
    link_bed.server.seen.eventually(lambda seen: seen.methods(link_bed.path) == ["PUT"])
    assert link_bed.server.states[link_bed.path] == BODY


def test_held_reply_has_taken_effect(link_bed: Bed) -> None:
    """Delay of a reply: once it is held the effect is there, and the client still waits."""
    armed = link_bed.link.arm(Delay(None, side="reply"))
    call = link_bed.later(link_bed.put)
    armed.await_held()
    assert link_bed.server.states[link_bed.path] == BODY
    assert not call.done
    armed.release()
    assert call.result().status_code == 201


def test_delay_ends_by_itself(link_bed: Bed) -> None:
    """A delay in seconds needs no release."""
    armed = link_bed.link.arm(Delay(0.05), Which(times=2))
    assert link_bed.put().status_code == 201
    assert link_bed.get() == BODY
    assert armed.hits == 2


def test_slow_reply_trickles_until_released(link_bed: Bed) -> None:
    """SlowBody of a reply: a part arrives, the rest not before hours, or the release."""
    link_bed.put()
    armed = link_bed.link.arm(SlowBody(1.0))
    call = link_bed.later(link_bed.get)
    armed.await_held()
    assert not call.done
    armed.release()
    assert call.result() == BODY


def test_slow_request_trickles_until_released(link_bed: Bed) -> None:
    """SlowBody of a request: the server has not all of it before the release."""
    armed = link_bed.link.arm(SlowBody(1.0, side="request"))
    call = link_bed.later(link_bed.put)
    armed.await_held()
    assert link_bed.seen == []
    armed.release()
    assert call.result().status_code == 201
    assert link_bed.server.states[link_bed.path] == BODY


@pytest.mark.parametrize("after_bytes", [0, 5000])
def test_reset_request_is_never_whole(link_bed: Bed, after_bytes: int) -> None:
    """Reset of a request: both sides get a RST, and the server has not the whole body."""
    armed = link_bed.link.arm(Reset(after_bytes, side="request"))
    with pytest.raises(requests.ConnectionError):
        link_bed.put()
    assert armed.hits == 1
    if after_bytes:
        link_bed.server.seen.eventually(lambda seen: ("PUT", link_bed.path) in seen.broken)
    assert link_bed.seen == []
    assert link_bed.path not in link_bed.server.states


@pytest.mark.parametrize("after_bytes", [0, 5000])
def test_reset_reply_breaks_off(link_bed: Bed, after_bytes: int) -> None:
    """Reset of a reply: the server has served the request, and the client gets a RST in the middle."""
    link_bed.put()
    armed = link_bed.link.arm(Reset(after_bytes))
    with pytest.raises(requests.RequestException, match="reset by peer"):
        link_bed.get()
    assert armed.hits == 1
    assert link_bed.seen == ["PUT", "GET"]


@pytest.mark.parametrize("path", ["/states/{}", "/chunked/{}"])
def test_truncated_reply_is_shorter_than_announced(http_bed: Bed, path: str) -> None:
    """Truncate: the announced length stays and the body ends early, in chunks as well."""
    http_bed.path = path.format(next(PATHS))
    http_bed.put()
    armed = http_bed.link.arm(Truncate(0.5), Which(method="GET"))
    reply = http_bed.session.get(http_bed.url, stream=True, timeout=WAIT_SECONDS)
    assert reply.status_code == 200
    parts: list[bytes] = []
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        parts.extend(reply.iter_content(100))
    got = b"".join(parts)
    assert armed.hits == 1
    assert 0.4 * len(BODY) < len(got) <= 0.5 * len(BODY)
    assert BODY.startswith(got)


def test_reply_without_a_body_cannot_be_cut(http_bed: Bed) -> None:
    """Truncate: what has no body passes and is not hit; the series waits for one that has."""
    http_bed.put()
    armed = http_bed.link.arm(Truncate(0.5))
    assert http_bed.send("HEAD").headers["Content-Length"] == str(len(BODY))
    assert http_bed.put().status_code == 201
    assert armed.hits == 0
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        http_bed.get()
    assert armed.hits == 1


def test_duplicate_is_delivered_twice_and_answered_by_the_second(http_bed: Bed) -> None:
    """Duplicate: the server sees the request twice and the client one reply."""
    armed = http_bed.link.arm(Duplicate())
    assert http_bed.put().status_code == 201
    assert (armed.hits, http_bed.seen) == (1, ["PUT", "PUT"])
    assert http_bed.get() == BODY


def test_late_duplicate_arrives_after_what_came_later(http_bed: Bed) -> None:
    """Duplicate, late: the second copy overwrites what was written meanwhile."""
    armed = http_bed.link.arm(Duplicate(late=True))
    assert http_bed.put(b"one").status_code == 201
    armed.await_held()
    assert http_bed.put(b"two").status_code == 201
    assert (armed.hits, http_bed.get()) == (0, b"two")
    armed.release()
    armed.await_hits()
    assert http_bed.get() == b"one"
    assert http_bed.seen == ["PUT", "PUT", "GET", "PUT", "GET"]


@pytest.mark.parametrize("effect", [False, True])
def test_answer_comes_before_or_after_the_effect(http_bed: Bed, effect: bool) -> None:
    """Answer: the client gets it either way; only with `effect` does the server get the request."""
    armed = http_bed.link.arm(Answer(429, {"Retry-After": "7"}, b"slow down", effect))
    reply = http_bed.put()
    assert (reply.status_code, reply.headers["Retry-After"], reply.content) == (429, "7", b"slow down")
    assert armed.hits == 1
    assert http_bed.seen == (["PUT"] if effect else [])
    assert http_bed.put().status_code == 201
    assert http_bed.link.connections == 1


def test_answer_without_a_body_has_none(http_bed: Bed) -> None:
    """Answer: a 204, and a reply to HEAD, end with their head, and the connection goes on."""
    http_bed.link.arm(Answer(204))
    http_bed.link.arm(Answer(503, body=b"not for a HEAD"))
    assert http_bed.send("GET").status_code == 204
    assert http_bed.send("HEAD").status_code == 503
    assert http_bed.put().status_code == 201
    assert http_bed.link.connections == 1


def test_stale_read_shows_what_was_written_before_the_last_write(http_bed: Bed) -> None:
    """StaleRead: a GET shows the state before the last write, whether it was read or only written."""
    armed = http_bed.link.arm(StaleRead(), Which(times=2))
    http_bed.put(b"one")
    assert http_bed.get() == b"one"  # there is nothing older
    assert armed.hits == 0
    http_bed.put(b"two")
    http_bed.put(b"three")
    assert http_bed.get() == b"two"
    http_bed.send("DELETE")
    assert http_bed.get() == b"three"
    assert armed.hits == 2
    assert http_bed.send("GET").status_code == 404
    assert http_bed.seen == ["PUT", "GET", "PUT", "PUT", "DELETE", "GET"]


def test_stale_read_repeats_a_reply_as_it_was(http_bed: Bed) -> None:
    """StaleRead: what was read is shown again with its headers."""
    http_bed.put(b"one")
    http_bed.link.arm(StaleRead())
    fresh = http_bed.send("GET")
    http_bed.send("LOCK", b"no write of the state")
    http_bed.server.states[http_bed.path] = b"one"
    http_bed.put(b"twenty")
    stale = http_bed.send("GET")
    assert (stale.content, stale.headers) == (b"one", fresh.headers)
    assert http_bed.get() == b"twenty"


@pytest.mark.parametrize("direction", ["both", "requests", "replies"])
def test_partition_keeps_bytes_back_and_heals(link_bed: Bed, direction: Any) -> None:
    """A partition, one way or both: the client waits, nothing is closed, and after healing all arrives."""
    link_bed.put(b"before")
    partition = link_bed.link.partition(direction)
    call = link_bed.later(link_bed.put)
    partition.await_held()
    if direction == "replies":
        assert link_bed.server.states[link_bed.path] == BODY
    else:
        assert link_bed.seen == ["PUT"]
    assert not call.done
    link_bed.link.heal()
    assert call.result().status_code == 201
    assert (link_bed.seen, link_bed.link.connections) == (["PUT", "PUT"], 1)


def test_connection_hangs_in_a_partition(link_bed: Bed) -> None:
    """A partition: a new connection does not come about, so that a client knows that it sent nothing."""
    partition = link_bed.link.partition()
    with pytest.raises(requests.ConnectTimeout):
        link_bed.send("PUT", BODY, timeout=0.3)
    partition.await_hits()
    link_bed.link.heal()
    assert link_bed.put().status_code == 201
    assert link_bed.seen == ["PUT"]


def test_request_kept_back_arrives_after_its_client_has_left(link_bed: Bed) -> None:
    """A partition keeps also the end of a connection back: what was sent before arrives."""
    link_bed.put(b"before")
    partition = link_bed.link.partition("requests")
    with pytest.raises(requests.ReadTimeout):
        link_bed.send("PUT", BODY, timeout=0.3)
    link_bed.session.close()
    assert partition.held == 1
    partition.release()
    link_bed.server.seen.eventually(lambda seen: seen.methods(link_bed.path) == ["PUT", "PUT"])
    assert link_bed.server.states[link_bed.path] == BODY


def test_idle_connections_are_closed_and_busy_ones_stay(http_bed: Bed) -> None:
    """close_idle ends the connections without an exchange, and says how many."""
    armed = http_bed.link.arm(Delay(None), Which(method="PUT"))
    call = http_bed.later(http_bed.put)
    armed.await_held()
    with requests.Session() as other:
        other.trust_env = False
        other.get(http_bed.url, timeout=WAIT_SECONDS)
        assert http_bed.link.close_idle() == 1
    armed.release()
    assert call.result().status_code == 201
    assert http_bed.link.connections == 2


def test_redirect_ends_connections_and_leads_new_ones_elsewhere(link_bed: Bed) -> None:
    """redirect: as after a fail-over, old connections are gone and new ones reach the other server."""
    link_bed.put()
    with serve() as (other, address):
        link_bed.link.redirect(address)
        with contextlib.suppress(requests.ConnectionError):  # where it notices only when it writes
            link_bed.send("GET")
        assert link_bed.put(b"there").status_code == 201
        assert other.states[link_bed.path] == b"there"
    assert link_bed.server.states[link_bed.path] == BODY
