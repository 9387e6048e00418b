"""Replacing a state: as a whole, in one step, and with one winner."""

import hashlib

import pytest

from lockproof.checkers import check_register
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.spec import requirement
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Unknown, Violation
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import filler, require_stored
from lockproof.suites.state import traffic

SIZE = 60_000
MET = 20
SIZES = {"shorter": (200_000, 10), "longer": (10, 200_000), "step-by-step": (3000, 2999, 2998, 1, 0)}


@requirement("STATE-REPL-001")
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_write_replaces_the_whole_state(
    sizes: tuple[int, ...], alice: RecordedClient, bob: RecordedClient
) -> None:
    """A shorter state leaves no tail of a longer one, and a longer one is not cut to a shorter."""
    for size in sizes:
        data = tofu_bytes(document(padding=filler(size)))
        alice.put("default", data)
        require_stored(bob, data)


@reported("terraform#34266", "terraform#17066")
@requirement("STATE-ATOM-001")
def test_reader_sees_old_or_new_state(scope: RecordedScope) -> None:
    """Readers beside two writers see whole states that were written, never none and never a mixture."""
    source = traffic.alternating(SIZE)
    recorded = traffic.until_it_counts(
        lambda load: traffic.run(scope, source, writers=2, readers=3, states=10 * load),
        scope.history.history,
        at_least=MET,
    )
    traffic.require_whole(recorded)


@requirement("STATE-ATOM-002")
def test_reader_never_falls_behind_a_returned_write(scope: RecordedScope) -> None:
    """Beside one writer, a read never shows an older state than the last write that had returned."""
    source = traffic.alternating(SIZE)
    recorded = traffic.until_it_counts(
        lambda load: traffic.run(scope, source, writers=1, readers=3, states=20 * load),
        scope.history.history,
        at_least=MET,
    )
    traffic.require_fresh(recorded)


@requirement("STATE-ORDER-001")
def test_reads_and_writes_fit_one_order(scope: RecordedScope) -> None:
    """The reads and writes of three writers and two readers could have happened one after another."""
    source = traffic.alternating(SIZE)
    recorded = traffic.until_it_counts(
        lambda load: traffic.run(scope, source, writers=3, readers=2, states=8 * load),
        scope.history.history,
        at_least=MET,
    )
    verdict = check_register(recorded)
    if verdict.status == "unknown":
        raise Unknown(verdict.headline)
    if verdict.status == "violated":
        raise Violation(verdict.headline, witness=verdict.witness)


@requirement("STATE-REPL-002")
def test_concurrent_writes_leave_one_state(
    scope: RecordedScope, alice: RecordedClient, bob: RecordedClient
) -> None:
    """After concurrent writes all clients read one whole state that some writer wrote last."""
    traffic.run(scope, traffic.alternating(SIZE), writers=4, readers=0, states=6)
    snapshots = [client.get("default") for client in (alice, bob, alice)]
    left = {hashlib.sha256(snapshot.data).hexdigest() if snapshot else None for snapshot in snapshots}
    assert len(left) == 1, "clients read different states although nobody writes any more"
    (digest,) = left
    assert digest in traffic.last_states(scope.history.history()), (
        "what is left is no writer's last acknowledged state"
    )
