"""Which exchanges a fault strikes, and which faults are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lockproof.chaos.proxy import (
    Answer,
    Delay,
    DropReply,
    DropRequest,
    Duplicate,
    FaultProxy,
    LinkFault,
    Reset,
    SlowBody,
    StaleRead,
    Truncate,
    Which,
)
from lockproof.chaos.proxy.connection import Budget
from lockproof.driver import Address
from lockproof.spec.outcome import Unknown
from lockproof.suites.meta.proxied_bed import BODY, Bed

pytest_plugins = ("lockproof.suites.meta.proxied_fixtures",)


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


def test_healed_link_strikes_no_more(link_bed: Bed) -> None:
    """heal: all faults are disarmed, and what was held goes on."""
    held = link_bed.link.arm(Delay(None))
    never = link_bed.link.arm(DropRequest(), Which(times=None))
    call = link_bed.later(link_bed.put)
    held.await_held()
    link_bed.link.heal()
    assert call.result().status_code == 201
    assert link_bed.get() == BODY
    assert never.hits == 0


def test_fault_that_hits_nothing_is_unknown(link_bed: Bed) -> None:
    """await_hits and await_held: what does not come is no verdict, and named."""
    armed = link_bed.link.arm(DropReply())
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
    fault_proxy: FaultProxy, protocol: Any, fault: LinkFault, which: Which, message: str
) -> None:
    """A fault that cannot happen in the link's protocol is a ValueError of one line."""
    link = fault_proxy.stand_before(Address("127.0.0.1", 9), protocol)
    with pytest.raises(ValueError, match=message) as refused:
        link.arm(fault, which)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("after_bytes", "passed"), [(0, b""), (2, b"ab"), (4, b"abcd"), (100, b"abcde")])
def test_what_passes_before_a_reset_is_the_beginning(after_bytes: int, passed: bytes) -> None:
    """Reset: in however many pieces a message comes, its beginning passes, its last byte never."""
    budget = Budget(after_bytes)
    assert b"".join(budget.take(piece) for piece in (b"a", b"bcd", b"ef")) == passed
    assert budget.spent == (after_bytes < 6)


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
