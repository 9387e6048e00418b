"""Crash consistency of the reference backend: kill -9 at every step, and what the next client finds."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest

from lockproof.chaos.process import RecordedProcess, start_process
from lockproof.chaos.process_steps import Halt
from lockproof.checkers import require_valid
from lockproof.driver import Locked
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.spec import faults, needs, requirement, tier
from lockproof.spec.outcome import Violation
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import require_absent, require_stored
from lockproof.suites.faults.crash_steps import effects_of, stepped_client
from lockproof.suites.faults.halted import killed_in, require_whole
from lockproof.suites.locks.asking import take

Act = Callable[[], object]
Prepare = Callable[[RecordedProcess, str, list[bytes]], Act]
"""Makes a client ready for the call in which it is going to be killed; notes the states that it writes."""
ALL = pytest.param(None, marks=tier("full"), id="every-step")


def write(client: RecordedProcess, workspace: str, written: list[bytes]) -> Act:
    lock_id = take(client, workspace)
    client.put(workspace, new_state(written), lock_id=lock_id)
    return partial(client.put, workspace, new_state(written), lock_id=lock_id)


def lock(client: RecordedProcess, workspace: str, written: list[bytes]) -> Act:
    client.unlock(workspace, take(client, workspace))
    client.put(workspace, new_state(written))
    return partial(take, client, workspace)


def unlock(client: RecordedProcess, workspace: str, written: list[bytes]) -> Act:
    lock_id = take(client, workspace)
    client.put(workspace, new_state(written), lock_id=lock_id)
    return partial(client.unlock, workspace, lock_id)


def delete(client: RecordedProcess, workspace: str, written: list[bytes]) -> Act:
    client.unlock(workspace, take(client, workspace))
    client.put(workspace, new_state(written))
    return partial(client.delete_workspace, workspace, force=True)


def first_lock(client: RecordedProcess, workspace: str, written: list[bytes]) -> Act:
    return partial(take, client, workspace)


def first_write(client: RecordedProcess, workspace: str, written: list[bytes]) -> Act:
    return partial(client.put, workspace, new_state(written))


@faults("kill")
@needs("clients.process")
@requirement("DBX-CRASH-001")
@pytest.mark.parametrize("count", [10, ALL])
@pytest.mark.parametrize("prepare", [write, lock, unlock])
def test_whoever_is_killed_in_a_call_leaves_what_the_next_client_can_use(
    backend: Backend,
    scope: RecordedScope,
    bob: RecordedClient,
    rng: random.Random,
    prepare: Prepare,
    count: int | None,
) -> None:
    """Killed at any step of a write, a lock or a release, a client leaves what the next one can use.

    That is a whole state, and no lock or one that is named with the way to free it.
    """
    for step in steps_of(prepare, started(backend, scope, "model"), count, rng):
        victim = started(backend, scope, f"victim-{step}")
        workspace, written = f"step-{step}", list[bytes]()
        killed_in(victim, Halt(step=step), prepare(victim, workspace, written))
        require_whole(bob, written, workspace)
        forced = lock_is_had(bob, victim, workspace, written)
        assert forced or prepare is not write, "the lock of a client that was killed in a write was gone"
    require_valid(scope.history.history())


@faults("kill")
@needs("clients.process", "workspaces")
@requirement("DBX-CRASH-002")
@pytest.mark.parametrize("count", [10, ALL])
def test_whoever_is_killed_in_a_deletion_leaves_a_workspace_or_none(
    backend: Backend, scope: RecordedScope, bob: RecordedClient, rng: random.Random, count: int | None
) -> None:
    """Killed at any step of the deletion of a workspace, a client leaves it whole or gone."""
    for step in steps_of(delete, started(backend, scope, "model"), count, rng):
        victim = started(backend, scope, f"victim-{step}")
        workspace, written = f"step-{step}", list[bytes]()
        killed_in(victim, Halt(step=step), delete(victim, workspace, written))
        if bob.get(workspace) is not None:
            require_whole(bob, written, workspace)
        bob.delete_workspace(workspace, force=True)
        require_absent(bob, workspace)
        assert workspace not in bob.workspaces()
        lock_is_had(bob, victim, workspace, written)
    require_valid(scope.history.history())


@faults("kill")
@needs("clients.process", "places")
@requirement("DBX-CRASH-003")
@pytest.mark.parametrize("count", [10, ALL])
@pytest.mark.parametrize("prepare", [first_lock, first_write])
def test_whoever_is_killed_in_the_first_call_of_all_is_followed_by_one_that_works(
    backend: Backend,
    history_beside: Callable[[], HistoryWriter],
    rng: random.Random,
    prepare: Prepare,
    count: int | None,
) -> None:
    """Killed at any step of the very first lock or write, a client leaves nothing that stops the next one.

    These make the directory, the record and the lock table; the next one makes the rest.
    """
    with fresh_place(backend, history_beside()) as place:
        steps = steps_of(prepare, started(backend, place, "model"), count, rng)
    for step in steps:
        with fresh_place(backend, history_beside()) as place:
            victim = started(backend, place, f"victim-{step}")
            written: list[bytes] = []
            killed_in(victim, Halt(step=step), prepare(victim, "default", written))
            bob = place.client("bob")
            if bob.get("default") is not None:
                require_whole(bob, written)
            lock_is_had(bob, victim, "default", written)
            require_valid(place.history.history())


@contextmanager
def fresh_place(backend: Backend, history: HistoryWriter) -> Iterator[RecordedScope]:
    """A key space that nobody has used."""
    name = f"lp-{uuid.uuid4().hex[:12]}"
    with RecordedScope(backend.driver.open_scope(name), history, backend.timeout, name) as place:
        yield place


def started(backend: Backend, place: RecordedScope, who: str) -> RecordedProcess:
    """A client in a process of its own, whose steps are all that it sends and all that is answered."""
    return start_process(backend.connect, place, who, make=stepped_client)


def steps_of(
    prepare: Prepare, model: RecordedProcess, count: int | None, rng: random.Random
) -> Sequence[int]:
    """Makes the call once, to learn its steps. `None`: all of them; else the first and up to `count` of those
    just after something took effect, since nothing has changed from there to the next."""
    act = prepare(model, "model", [])
    model.process.watch()
    act()
    names = model.process.steps
    model.note(f"the steps of the call: {', '.join(names)}")
    effects = effects_of(names)
    assert effects, f"a call that changes something has steps after which it did: {names}"
    if count is None:
        return range(len(names))
    return sorted({0, *rng.sample(effects, min(count, len(effects)))})


def lock_is_had(bob: RecordedClient, victim: RecordedProcess, workspace: str, written: list[bytes]) -> bool:
    """A fresh client takes the lock, by force where the victim left it; whether it did. Then it writes and
    releases."""
    forced = False
    try:
        lock_id = take(bob, workspace)
    except Locked as refused:
        bob.unlock(workspace, id_to_force(refused, victim))
        lock_id, forced = take(bob, workspace), True
    data = new_state(written)
    bob.put(workspace, data, lock_id=lock_id)
    require_stored(bob, data, workspace)
    bob.unlock(workspace, lock_id)
    return forced


def id_to_force(refused: Locked, victim: RecordedProcess) -> str:
    """The ID that the refusal names, and says what to do with: the victim's. Raises `Violation`."""
    holder, said = refused.holder, refused.message
    if holder is None or holder.Who != victim.who:
        raise Violation(f"the lock is held by nobody that we know: {said}")
    if f"lock ID {holder.ID}" not in said or f"force-unlock {holder.ID}" not in said:
        raise Violation(f"the refusal does not say what to do: {said}")
    return holder.ID


def new_state(written: list[bytes]) -> bytes:
    """A state like no other, noted among those that were written."""
    written.append(tofu_bytes(document(serial=len(written) + 1)))
    return written[-1]
