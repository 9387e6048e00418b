"""The register checker: every anomaly by hand, what a register permits, and what only a search decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lockproof.checkers import Verdict, check_register
from lockproof.checkers.register import EMPTY, SEARCHED
from lockproof.suites.meta.tape import LOST, Tape


class StateTape(Tape):
    """A tape with serials, deletions and reads that overlap."""

    def begin_put(self, value: str, serial: int | None = None, lineage: str = "L") -> Callable[..., None]:
        document: dict[str, Any] = {"serial": serial, "lineage": None if serial is None else lineage}
        return self.begin("put", value=value, sha256=f"sha-{value}", lock_id=None, **document)

    def write(self, value: str, serial: int, lineage: str = "L") -> None:
        self.begin_put(value, serial, lineage)()

    def delete(self, f: str = "delete") -> None:
        self.begin(f)()

    def empty(self) -> None:
        self.begin("put", value=EMPTY, sha256=EMPTY, size=0, lock_id=None)()

    def verdict(self) -> Verdict:
        return check_register(self.history())


def expect(tape: StateTape, anomaly: str, *witness: int) -> Verdict:
    verdict = tape.verdict()
    assert (verdict.status, verdict.details.get("anomaly")) == ("violated", anomaly), verdict
    assert set(witness) <= set(verdict.witness)
    assert len(verdict.witness) <= 12, "a witness is a handful of operations"
    return verdict


def test_an_older_serial_of_the_lineage_read_after_a_newer_one_is_a_serial_regression() -> None:
    """A read that falls back within a lineage tells both serials."""
    tape = StateTape()
    tape.write("five", 5)
    tape.write("six", 6)
    tape.get("six")
    tape.get("five")
    verdict = expect(tape, "serial regression", 4, 5, 6, 7)
    assert "serial 5" in verdict.headline
    assert "serial 6" in verdict.headline


@pytest.mark.parametrize(("serial", "lineage"), [(4, "L"), (6, "M")])
def test_falling_back_to_a_higher_serial_or_another_lineage_is_a_stale_read(
    serial: int, lineage: str
) -> None:
    """Serials name a stale read only within one lineage, and only when they fall."""
    tape = StateTape()
    tape.write("five", 5)
    tape.write("other", serial, lineage)
    tape.get("other")
    tape.get("five")
    expect(tape, "stale read", 4, 5, 6, 7)


def test_a_lower_serial_that_a_client_wrote_itself_is_legal() -> None:
    """`state push -force` may write any serial; reading it is no regression."""
    tape = StateTape()
    tape.write("six", 6)
    tape.get("six")
    tape.write("five", 5)
    tape.get("five")
    assert tape.verdict().status == "valid"


def test_two_states_with_one_serial_that_readers_see_in_turn_are_a_fork() -> None:
    """Two writers start from the same parent, and clients then see now one state, now the other."""
    tape = StateTape()
    tape.write("parent", 5)
    ends = [tape.begin_put(value, 6) for value in ("mine", "yours")]
    for end in ends:
        end()
    for value in ("mine", "yours", "mine"):
        tape.get(value)
    expect(tape, "fork", 10, 11)


def test_the_same_serial_written_later_is_a_stale_read_and_no_fork() -> None:
    """A writer that could know the other state did not fork from its parent."""
    tape = StateTape()
    tape.write("mine", 6)
    tape.get("mine")
    tape.write("yours", 6)
    tape.get("yours")
    tape.get("mine")
    expect(tape, "stale read")


def test_two_writers_with_one_parent_are_legal_where_writes_are_unconditional() -> None:
    """Both acknowledged, one overwritten: a register permits that."""
    tape = StateTape()
    tape.write("parent", 5)
    tape.get("parent")
    tape.get("parent")
    tape.write("mine", 6)
    tape.write("yours", 6)
    tape.get("yours")
    assert tape.verdict().status == "valid"


def test_an_acknowledged_update_that_is_gone_is_a_lost_update() -> None:
    """The next serial was acknowledged, and the state before it is still there."""
    tape = StateTape()
    tape.write("five", 5)
    tape.get("five")
    tape.write("six", 6)
    tape.get("five")
    expect(tape, "lost update", 4, 5, 6, 7)


@pytest.mark.parametrize("f", ["delete", "delete_workspace"])
def test_a_value_that_is_read_after_its_deletion_is_a_resurrected_delete(f: str) -> None:
    """What was deleted stays deleted."""
    tape = StateTape()
    tape.put("one")
    tape.get("one")
    tape.delete(f)
    tape.get("one")
    expect(tape, "resurrected delete", 4, 5, 6, 7)


def test_nothing_read_after_a_write_is_a_lost_write() -> None:
    """An acknowledged first state cannot be absent."""
    tape = StateTape()
    tape.put("one")
    tape.get(None)
    expect(tape, "lost write", 0, 1, 2, 3)


def test_absence_is_explained_by_a_deletion_of_unknown_outcome_at_any_later_time() -> None:
    """A deletion without a reply may take effect long afterwards, once."""
    tape = StateTape()
    tape.begin("delete")(**LOST)
    for value in ("one", "two"):
        tape.put(value)
        tape.get(value)
    tape.get(None)
    assert tape.verdict().status == "valid"
    tape.put("three")
    tape.get("three")
    tape.get(None)
    verdict = expect(tape, "lost write")
    assert {0, 10, 16} <= set(verdict.witness), "the deletion, what it explains, and what is left"


@pytest.mark.parametrize("long", [True, False])
def test_one_deletion_explains_absence_once(long: bool) -> None:
    """Two absences with a write between need two deletions, also when the one returns between them."""
    tape = StateTape()
    end = tape.begin("delete")
    tape.put("one")
    tape.get(None)
    tape.put("two")
    if not long:
        end()
    tape.get(None)
    if long:
        end()
    expect(tape, "lost write")


def test_the_deletion_that_returns_first_is_used_first() -> None:
    """Of two deletions in flight the longer one is left for the later absence."""
    tape = StateTape()
    longer = tape.begin("delete")
    tape.put("one")
    shorter = tape.begin("delete")
    tape.get(None)
    shorter()
    tape.put("two")
    tape.get(None)
    longer()
    assert tape.verdict().status == "valid"


def test_a_write_beside_a_deletion_hides_no_absence() -> None:
    """A write that overlaps the deletion may have gone before it."""
    tape = StateTape()
    end = tape.begin("delete")
    tape.put("one")
    end()
    tape.get(None)
    tape.get(None)
    assert tape.verdict().status == "valid"


def test_absence_before_the_deletion_was_called_is_a_lost_write() -> None:
    """No deletion takes effect before its call."""
    tape = StateTape()
    tape.put("one")
    tape.get(None)
    tape.delete()
    expect(tape, "lost write", 0, 1, 2, 3)


def test_two_reads_of_one_token_with_different_bytes_are_torn() -> None:
    """Whoever wrote them, one value has one content, also while its write is in flight."""
    tape = StateTape()
    end = tape.begin_put("one")
    tape.get("one", "half")
    tape.get("one", "sha-one")
    end()
    expect(tape, "torn value")


def test_a_state_of_no_bytes_may_read_as_none() -> None:
    """Empty and absent need not be told apart, but neither shows what was there before."""
    tape = StateTape()
    tape.put("one")
    tape.empty()
    tape.get(None)
    tape.get(EMPTY, EMPTY)
    assert tape.verdict().status == "valid"
    tape.get("one")
    expect(tape, "resurrected delete")


def test_no_bytes_that_nobody_wrote_are_torn() -> None:
    """An emptied state is not absence."""
    tape = StateTape()
    tape.put("one")
    tape.delete()
    tape.get(EMPTY, EMPTY)
    expect(tape, "torn value", 4, 5)


def test_no_bytes_after_a_deletion_are_found_by_the_search() -> None:
    """Where an empty state was written and deleted since, its bytes cannot come back."""
    tape = StateTape()
    tape.empty()
    tape.get(EMPTY, EMPTY)
    tape.delete()
    assert tape.verdict().status == "valid"
    tape.get(EMPTY, EMPTY)
    assert tape.verdict().status == "violated"


def test_a_value_written_twice_is_decided_by_the_search() -> None:
    """Equal values: legal when the order allows it, a violation when it does not."""
    tape = StateTape()
    for value in ("one", "two", "one"):
        tape.put(value)
        tape.get(value)
    assert tape.verdict().status == "valid"
    tape.get("two")
    assert tape.verdict().status == "violated"


def test_a_value_written_twice_in_a_long_history_is_unknown_with_the_reason() -> None:
    """Beyond the search's reach the answer is unknown, and violations of other values stay certain."""
    tape = StateTape()
    for n in range(SEARCHED):
        tape.put(str(n))
    tape.put("0")
    verdict = tape.verdict()
    assert verdict.status == "unknown"
    assert "'0' was written twice" in verdict.headline
    tape.get("1")
    tape.get("2")
    tape.get("1")
    assert tape.verdict().status == "violated"


def test_workspaces_are_judged_apart() -> None:
    """A violation names its workspace, and the others' values are no business of it."""
    tape = StateTape()
    other: dict[str, Any] = {"value": "one", "sha256": "sha-one", "lock_id": None}
    tape.begin("put", "dev", **other)()
    tape.begin("get", "prod")("ok", {"value": None})
    assert tape.verdict().status == "valid"
    tape.begin("get", "prod")("ok", {"value": "one", "sha256": "sha-one"})
    assert expect(tape, "torn value").details["workspace"] == "prod"


def test_a_cut_history_is_unknown_unless_violated() -> None:
    """Without its footer nothing is valid."""
    tape = StateTape()
    tape.put("one")
    assert check_register(tape.history(closed=False)).status == "unknown"
    tape.get(None)
    assert check_register(tape.history(closed=False)).status == "violated"
