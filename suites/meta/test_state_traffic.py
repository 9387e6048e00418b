"""What the state suite says of a history of concurrent readers and writers, judged on made-up ones."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lockproof.driver.memory import MemoryScope
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import History, HistoryWriter
from lockproof.history.event import Event, EventKind
from lockproof.spec.outcome import Unknown, Violation
from lockproof.spec.statefile import describe
from lockproof.suites import documents
from lockproof.suites.state import traffic

Step = tuple[int, str, str | None]
"""Process, what happens (a call, `put` or `get`, or its outcome), and the digest."""

OUTCOMES: dict[str, EventKind] = {"ok": "ok", "info": "info", "fail": "fail"}


def history(steps: Iterable[Step]) -> History:
    """The steps as a history, one nanosecond apart."""
    events: list[Event] = []
    calls: dict[int, str] = {}
    for i, (p, what, digest) in enumerate(steps):
        kind: EventKind = "invoke"
        given, out = None, None
        if what in OUTCOMES:
            kind = OUTCOMES[what]
            out = {"sha256": digest} if calls[p] == "get" and digest else None
        else:
            calls[p] = what
            given = {"sha256": digest} if what == "put" else {}
        events.append(Event(i, i, p, kind, calls[p], "default", given, out))
    return History({}, events, closed=True)


WRITE_1 = [(0, "put", "one"), (0, "ok", None)]
WRITE_2 = [(0, "put", "two"), (0, "ok", None)]


def read(seen: str | None, p: int = 1) -> list[Step]:
    return [(p, "get", None), (p, "ok", seen)]


def during(write: list[Step], reading: list[Step]) -> list[Step]:
    return [write[0], *reading, write[1]]


@pytest.mark.parametrize(
    "steps",
    [
        [*WRITE_1, *read("one"), *WRITE_2, *read("two")],
        [*WRITE_1, *during(WRITE_2, read("one"))],
        [*WRITE_1, *during(WRITE_2, read("two"))],
        [*WRITE_1, *during(WRITE_2, [*read("two"), *read("one", 2)])],
        [*read(None), *WRITE_1],
        [*during(WRITE_1, read(None)), *read("one")],
    ],
    ids=["one-by-one", "old", "new", "new-then-old-beside-it", "none-before", "none-beside-the-first"],
)
def test_whole_and_fresh_reads_are_no_violation(steps: list[Step]) -> None:
    """Old or new beside a write, and nothing before the first one, are all sound."""
    traffic.require_whole(history(steps))
    traffic.require_fresh(history(steps))


def test_a_state_that_nobody_wrote_is_a_violation() -> None:
    """A mixture is neither state, and no older one; the witness is the read and the write beside it."""
    mixed = history([*WRITE_1, *during(WRITE_2, read("half"))])
    with pytest.raises(Violation, match="nobody wrote") as found:
        traffic.require_whole(mixed)
    traffic.require_fresh(mixed)
    assert found.value.witness == (2, 3, 4, 5)


def test_a_refused_write_that_is_read_is_a_violation() -> None:
    """What was definitely refused has no effect, so nobody may read it."""
    refusal: list[Step] = [(0, "put", "two"), (0, "fail", None)]
    traffic.require_whole(history([*WRITE_1, *refusal, *read("one")]))
    traffic.require_fresh(history([*WRITE_1, *refusal, *read("one")]))
    with pytest.raises(Violation, match="nobody wrote"):
        traffic.require_whole(history([*WRITE_1, *refusal, *read("two")]))


def test_absence_after_the_first_write_is_a_violation() -> None:
    """Once there is a state, a reader never finds none."""
    with pytest.raises(Violation, match="no state while it was replaced"):
        traffic.require_whole(history([*WRITE_1, *during(WRITE_2, read(None))]))


@pytest.mark.parametrize(("seen", "shown"), [("one", "write 1"), (None, "no state")], ids=["older", "none"])
def test_a_read_behind_a_returned_write_is_a_violation(seen: str | None, shown: str) -> None:
    """A read that began after a write had returned shows that write or a later one; the witness has both."""
    with pytest.raises(Violation, match=f"showed {shown}, although write 2 had returned") as found:
        traffic.require_fresh(history([*WRITE_1, *WRITE_2, *read(seen)]))
    assert found.value.witness == (2, 3, 4, 5)


def test_a_read_of_unknown_outcome_proves_nothing() -> None:
    """A read that got no answer saw nothing, which is not the same as absence."""
    steps = [*WRITE_1, *WRITE_2, (1, "get", None), (1, "info", None)]
    traffic.require_whole(history(steps))
    traffic.require_fresh(history(steps))


def test_only_what_nothing_follows_may_be_left() -> None:
    """Of four writes, those that returned before the last one began cannot be what is left."""
    steps: list[Step] = [
        *WRITE_1,
        (1, "put", "beside"),
        (0, "put", "two"),
        (0, "ok", None),
        (0, "put", "three"),
        (0, "ok", None),
        (1, "ok", None),
    ]
    assert traffic.last_states(history(steps)) == {"three", "beside"}


def test_reads_that_met_a_write_are_counted() -> None:
    """A read beside a write counts, one between two writes does not."""
    assert traffic.overlapping(history([*WRITE_1, *read("one"), *WRITE_2])) == 0
    assert traffic.overlapping(history([*WRITE_1, *during(WRITE_2, read("one"))])) == 1


def test_too_few_meetings_are_unknown_after_three_tries_with_more_load() -> None:
    """A run in which no read ever met a write is no pass; the load was doubled twice before."""
    loads: list[int] = []
    quiet = history([*WRITE_1, *read("one")])
    with pytest.raises(Unknown, match="only 0 reads ran beside a write after 3 tries; the test needs 5"):
        traffic.until_it_counts(loads.append, lambda: quiet, at_least=5)
    assert loads == [1, 2, 4]


def test_enough_meetings_end_the_tries() -> None:
    """The first try that counts is the last."""
    loads: list[int] = []
    busy = history([*WRITE_1, *during(WRITE_2, read("one"))])
    assert traffic.until_it_counts(loads.append, lambda: busy, at_least=1) is busy
    assert loads == [1]


def test_traffic_writes_and_reads_as_asked() -> None:
    """Every writer writes its share of unique states, and readers read until the last is written."""
    with (
        HistoryWriter({"test": "traffic"}) as writer,
        RecordedScope(MemoryScope(), writer, 10.0) as scope,
    ):
        traffic.run(scope, traffic.alternating(300), writers=3, readers=2, states=4)
        operations = list(writer.history().operations())
    puts = [op.invoke.given["sha256"] for op in operations if op.f == "put" and op.invoke.given]
    assert len(puts) == len(set(puts)) == 13
    assert {op.kind for op in operations} == {"ok"}
    assert len({op.invoke.p for op in operations if op.f == "get"}) == 2


@pytest.fixture
def client() -> RecordedClient:
    scope = RecordedScope(MemoryScope(), HistoryWriter({"test": "documents"}), 10.0)
    return scope.client("alice")


def test_a_difference_is_told_in_one_short_line(client: RecordedClient) -> None:
    """Two large states that differ in one byte are not printed, only the place is."""
    data = documents.filler(1_000_000).encode()
    client.put("default", data)
    changed = data[:700_000] + b"!" + data[700_001:]
    with pytest.raises(
        Violation, match=r"alice reads another state of 'default': .* from byte 700000 on"
    ) as found:
        documents.require_stored(client, changed)
    assert len(str(found.value)) < 250


@pytest.mark.parametrize(
    ("expected", "observed", "place"),
    [(b"abc", b"abd", 2), (b"abc", b"ab", 2), (b"ab", b"abc", 2), (b"", b"x", 0), (b"xbc", b"abc", 0)],
)
def test_the_first_difference_is_found(expected: bytes, observed: bytes, place: int) -> None:
    """Also at the very beginning, and where one state is the beginning of the other."""
    assert f"from byte {place} on" in documents.unlike(expected, observed)


def test_absence_and_presence_are_told_apart(client: RecordedClient) -> None:
    """A missing state where one is expected, and one where none is, are violations."""
    with pytest.raises(Violation, match="alice reads no state of 'default'; expected 3 bytes"):
        documents.require_stored(client, b"abc")
    documents.require_absent(client)
    client.put("default", b"abc")
    with pytest.raises(Violation, match="reads a state of 3 bytes"):
        documents.require_absent(client)


def test_successive_states_share_a_lineage_and_never_a_text() -> None:
    """Serials rise by one; no two states are alike; the padding is of the size asked for."""
    described = [describe(data) for data in documents.successive(5, paddings=[100])]
    assert [entry["serial"] for entry in described] == [1, 2, 3, 4, 5]
    assert len({entry["lineage"] for entry in described}) == 1
    assert len({entry["value"] for entry in described}) == 5
    assert [len(documents.filler(n)) for n in (0, 1, 2, 3, 1000)] == [0, 1, 2, 3, 1000]
