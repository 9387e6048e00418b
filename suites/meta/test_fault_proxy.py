"""Each fault, as the client and a real server see it, on links that know bytes and links that know HTTP."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from lockproof.chaos.proxy import (
    Answer,
    Delay,
    DropReply,
    DropRequest,
    Duplicate,
    FaultProxy,
    Link,
    LinkFault,
    Reset,
    SlowBody,
    StaleRead,
    Truncate,
    Which,
)
from lockproof.driver import Address
from lockproof.spec.outcome import Unknown
from lockproof.suites.meta.proxied_server import WAIT_SECONDS, StateServer, serve

BODY = b"0123456789" * 1000
PATHS = itertools.count()


@dataclass
class Bed:
    """A server, a link before it, a client that goes through the link, and a path of its own."""

    server: StateServer
    upstream: Address
    proxy: FaultProxy
    link: Link
    session: requests.Session
    path: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.link.address.port}{self.path}"

    @property
    def seen(self) -> list[str]:
        """The methods of the requests that reached the server whole."""
        return self.server.seen.methods(self.path)

    def send(self, method: str, body: bytes | None = None, **options: Any) -> requests.Response:
        return self.session.request(method, self.url, data=body, **{"timeout": WAIT_SECONDS, **options})

    def put(self, body: bytes = BODY) -> requests.Response:
        return self.send("PUT", body)

    def get(self) -> bytes:
        reply = self.send("GET")
        assert reply.status_code == 200
        return reply.content

    def later(self, call: Callable[[], Any]) -> Call:
        return Call(call)


class Call:
    """A call in a thread of its own; `result()` gives or raises what came of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._outcome: Any = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._outcome = call()
        except (requests.RequestException, AssertionError) as failure:
            self._failure = failure

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(WAIT_SECONDS)
        assert self.done, "the call does not end"
        if self._failure is not None:
            raise self._failure
        return self._outcome


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[StateServer, Address]]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running


def bed_of(protocol: str, served: tuple[StateServer, Address], proxy: FaultProxy) -> Iterator[Bed]:
    server, upstream = served
    link = proxy.stand_before(upstream, "tcp" if protocol == "tcp" else "http")
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", HTTPAdapter(pool_maxsize=1, max_retries=0))
        yield Bed(server, upstream, proxy, link, session, f"/states/{next(PATHS)}")
    link.heal()


@pytest.fixture(params=["tcp", "http"])
def bed(
    request: pytest.FixtureRequest, served: tuple[StateServer, Address], proxy: FaultProxy
) -> Iterator[Bed]:
    """Once with a link that knows bytes alone, once with one that knows HTTP."""
    yield from bed_of(request.param, served, proxy)


@pytest.fixture
def http_bed(served: tuple[StateServer, Address], proxy: FaultProxy) -> Iterator[Bed]:
    """With a link that knows HTTP."""
    yield from bed_of("http", served, proxy)


def test_without_faults_all_passes_and_is_counted(bed: Bed) -> None:
    """Requests and replies pass unchanged, over the client's one connection."""
    assert bed.put().status_code == 201
    assert bed.get() == BODY
    assert bed.send("DELETE").status_code == 204
    assert bed.send("GET").status_code == 404
    assert bed.send("HEAD").status_code == 404
    assert bed.seen == ["PUT", "GET", "DELETE", "GET", "HEAD"]
    assert (bed.link.exchanges, bed.link.connections) == (5, 1)


def test_dropped_request_never_reaches_the_server(bed: Bed) -> None:
    """DropRequest: the client loses its connection, and the server hears nothing."""
    armed = bed.link.arm(DropRequest())
    with pytest.raises(requests.ConnectionError):
        bed.put()
    assert armed.hits == 1
    assert bed.put(b"second").status_code == 201
    assert bed.server.seen.whole[-1][2] == b"second"
    assert bed.seen == ["PUT"]


def test_dropped_reply_leaves_the_effect(bed: Bed) -> None:
    """DropReply: the client loses its connection, and the request took effect once."""
    armed = bed.link.arm(DropReply())
    with pytest.raises(requests.ConnectionError):
        bed.put()
    armed.await_hits()
    assert bed.server.states[bed.path] == BODY
    assert bed.seen == ["PUT"]


def test_held_request_reaches_the_server_when_released(bed: Bed) -> None:
    """Delay of a request: nothing arrives before the release, all of it after."""
    armed = bed.link.arm(Delay(None))
    call = bed.later(bed.put)
    armed.await_held()
    assert bed.seen == []
    assert not call.done
    armed.release()
    assert call.result().status_code == 201
    assert (armed.hits, armed.held, bed.seen) == (1, 0, ["PUT"])


def test_held_request_arrives_late_although_its_client_has_left(bed: Bed) -> None:
    """Delay of a request: the network delivers it also when nobody waits for the reply any more."""
    armed = bed.link.arm(Delay(None))
    with pytest.raises(requests.Timeout):
        bed.send("PUT", BODY, timeout=0.3)
    bed.session.close()
    assert bed.seen == []
    armed.release()
    bed.server.seen.eventually(lambda seen: seen.methods(bed.path) == ["PUT"])
    assert bed.server.states[bed.path] == BODY


def test_held_reply_has_taken_effect(bed: Bed) -> None:
    """Delay of a reply: once it is held the effect is there, and the client still waits."""
    armed = bed.link.arm(Delay(None, side="reply"))
    call = bed.later(bed.put)
    armed.await_held()
    assert bed.server.states[bed.path] == BODY
    assert not call.done
    armed.release()
    assert call.result().status_code == 201


def test_delay_ends_by_itself(bed: Bed) -> None:
    """A delay in seconds needs no release."""
    armed = bed.link.arm(Delay(0.05), Which(times=2))
    assert bed.put().status_code == 201
    assert bed.get() == BODY
    assert armed.hits == 2


def test_slow_reply_trickles_until_released(bed: Bed) -> None:
    """SlowBody of a reply: a part arrives, the rest not before hours, or the release."""
    bed.put()
    armed = bed.link.arm(SlowBody(1.0))
    call = bed.later(bed.get)
    armed.await_held()
    assert not call.done
    armed.release()
    assert call.result() == BODY


def test_slow_request_trickles_until_released(bed: Bed) -> None:
    """SlowBody of a request: the server has not all of it before the release."""
    armed = bed.link.arm(SlowBody(1.0, side="request"))
    call = bed.later(bed.put)
    armed.await_held()
    assert bed.seen == []
    armed.release()
    assert call.result().status_code == 201
    assert bed.server.states[bed.path] == BODY


@pytest.mark.parametrize("after_bytes", [0, 5000])
def test_reset_request_is_never_whole(bed: Bed, after_bytes: int) -> None:
    """Reset of a request: both sides get a RST, and the server has not the whole body."""
    armed = bed.link.arm(Reset(after_bytes, side="request"))
    with pytest.raises(requests.ConnectionError):
        bed.put()
    assert armed.hits == 1
    if after_bytes:
        bed.server.seen.eventually(lambda seen: ("PUT", bed.path) in seen.broken)
    assert bed.seen == []
    assert bed.path not in bed.server.states


@pytest.mark.parametrize("after_bytes", [0, 5000])
def test_reset_reply_breaks_off(bed: Bed, after_bytes: int) -> None:
    """Reset of a reply: the server has served the request, and the client gets a RST in the middle."""
    bed.put()
    armed = bed.link.arm(Reset(after_bytes))
    with pytest.raises(requests.RequestException, match="reset by peer"):
        bed.get()
    assert armed.hits == 1
    assert bed.seen == ["PUT", "GET"]


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
def test_partition_keeps_bytes_back_and_heals(bed: Bed, direction: Any) -> None:
    """A partition, one way or both: the client waits, nothing is closed, and after healing all arrives."""
    bed.put(b"before")
    partition = bed.link.partition(direction)
    call = bed.later(bed.put)
    partition.await_held()
    if direction == "replies":
        assert bed.server.states[bed.path] == BODY
    else:
        assert bed.seen == ["PUT"]
    assert not call.done
    bed.link.heal()
    assert call.result().status_code == 201
    assert (bed.seen, bed.link.connections) == (["PUT", "PUT"], 1)


def test_connection_hangs_in_a_partition(bed: Bed) -> None:
    """A partition: a new connection does not come about, so that a client knows that it sent nothing."""
    partition = bed.link.partition()
    with pytest.raises(requests.ConnectTimeout):
        bed.send("PUT", BODY, timeout=0.3)
    partition.await_hits()
    bed.link.heal()
    assert bed.put().status_code == 201
    assert bed.seen == ["PUT"]


def test_request_kept_back_arrives_after_its_client_has_left(bed: Bed) -> None:
    """A partition keeps also the end of a connection back: what was sent before arrives."""
    bed.put(b"before")
    partition = bed.link.partition("requests")
    with pytest.raises(requests.ReadTimeout):
        bed.send("PUT", BODY, timeout=0.3)
    bed.session.close()
    assert partition.held == 1
    partition.release()
    bed.server.seen.eventually(lambda seen: seen.methods(bed.path) == ["PUT", "PUT"])
    assert bed.server.states[bed.path] == BODY


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


def test_redirect_ends_connections_and_leads_new_ones_elsewhere(bed: Bed) -> None:
    """redirect: as after a fail-over, old connections are gone and new ones reach the other server."""
    bed.put()
    with serve() as (other, address):
        bed.link.redirect(address)
        with contextlib.suppress(requests.ConnectionError):  # where it notices only when it writes
            bed.send("GET")
        assert bed.put(b"there").status_code == 201
        assert other.states[bed.path] == b"there"
    assert bed.server.states[bed.path] == BODY


def test_fault_strikes_the_exchanges_it_names(http_bed: Bed) -> None:
    """Which: method, path, text of the body, and a series of those that match."""
    which = Which(method="PUT", path="/states/*", text="*NEEDLE*", first=2, times=2)
    armed = http_bed.link.arm(Answer(503), which)
    assert http_bed.send("GET").status_code == 404
    assert http_bed.put(b"hay").status_code == 201
    statuses = [http_bed.put(b"a needle in hay").status_code for _ in range(4)]
    assert statuses == [201, 503, 503, 201]
    assert armed.hits == 2


def test_path_is_matched_decoded_and_without_its_query(http_bed: Bed) -> None:
    """Which: a path is what it means, not how it is written."""
    armed = http_bed.link.arm(Answer(503), Which(path="/states/a b"))
    http_bed.path = "/states/a%20c?x=/states/a%20b"
    assert http_bed.send("GET").status_code == 404
    http_bed.path = "/states/a%20b?token=secret"
    assert http_bed.send("GET").status_code == 503
    assert armed.hits == 1


def test_probability_is_drawn_from_the_seed(http_bed: Bed) -> None:
    """Which: some of the series are struck, the same ones with the same seed."""

    def struck(seed: int) -> list[int]:
        armed = http_bed.link.arm(Answer(503), Which(times=None, probability=0.5, seed=seed))
        statuses = [http_bed.send("GET").status_code for _ in range(20)]
        armed.disarm()
        return statuses

    first = struck(7)
    assert first == struck(7)
    assert first != struck(8)
    assert set(first) == {404, 503}


def test_faults_strike_one_after_the_other(http_bed: Bed) -> None:
    """The first armed acts alone; the next one's series begins where the first one's ends."""
    first, second = http_bed.link.arm(Answer(500)), http_bed.link.arm(Answer(502))
    assert [http_bed.send("GET").status_code for _ in range(3)] == [500, 502, 404]
    assert (first.hits, second.hits) == (1, 1)


def test_healed_link_strikes_no_more(bed: Bed) -> None:
    """heal: all faults are disarmed, and what was held goes on."""
    held = bed.link.arm(Delay(None))
    never = bed.link.arm(DropRequest(), Which(times=None))
    call = bed.later(bed.put)
    held.await_held()
    bed.link.heal()
    assert call.result().status_code == 201
    assert bed.get() == BODY
    assert never.hits == 0


def test_fault_that_hits_nothing_is_unknown(bed: Bed) -> None:
    """await_hits and await_held: what does not come is no verdict, and named."""
    armed = bed.link.arm(DropReply())
    with pytest.raises(Unknown, match=r"DropReply on link 127\.0\.0\.1:\d+ should have hit 1 times"):
        armed.await_hits(timeout=0.01)
    with pytest.raises(Unknown, match="held 1"):
        armed.await_held(timeout=0.01)


@pytest.mark.parametrize(
    ("protocol", "fault", "which", "message"),
    [
        ("tcp", Truncate(), Which(), "Truncate cannot strike a tcp link: a byte stream announces no length"),
        ("tcp", Duplicate(), Which(), "Duplicate cannot strike a tcp link: TCP delivers nothing twice"),
        ("postgres", Answer(503), Which(), "Answer cannot strike a postgres link: Postgres knows no HTTP"),
        ("postgres", StaleRead(), Which(), "StaleRead cannot strike a postgres link: Postgres has no GET"),
        ("postgres", DropReply(), Which(path="/x"), "a postgres link has no methods and no paths"),
        ("tcp", DropReply(), Which(text="x"), "a tcp link has no texts to match"),
        ("http", StaleRead(), Which(method="PUT"), "StaleRead strikes GET alone"),
        ("http", "drop", Which(), "'drop' is no fault of a link"),
    ],
)
def test_senseless_fault_is_refused_when_armed(
    proxy: FaultProxy, protocol: Any, fault: LinkFault, which: Which, message: str
) -> None:
    """A fault that cannot happen in the link's protocol is a ValueError of one line."""
    link = proxy.stand_before(Address("127.0.0.1", 9), protocol)
    with pytest.raises(ValueError, match=message) as refused:
        link.arm(fault, which)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Delay(-1), "seconds"),
        (lambda: Delay(1, side="reqest"), "side is request or reply"),  # type: ignore[arg-type]
        (lambda: SlowBody(0), "positive number of bytes"),
        (lambda: Reset(-1), "number of bytes"),
        (lambda: Truncate(1.0), "share"),
        (lambda: Answer(100), "final status"),
        (lambda: Answer(200, {"X": "a\r\nY: b"}), "one ASCII line"),
        (lambda: Which(first=0), "count from 1"),
        (lambda: Which(probability=0), "probability"),
    ],
)
def test_malformed_fault_is_refused(make: Callable[[], object], message: str) -> None:
    """A fault with impossible numbers is a ValueError that names them."""
    with pytest.raises(ValueError, match=message):
        make()
