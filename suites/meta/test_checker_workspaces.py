"""The checker of the set of workspaces: every anomaly by hand, what is left open, agreement, memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockproof.checkers import Verdict, check, check_workspaces, workspaces, workspaces_listed
from lockproof.checkers.models import Part, WorkspaceSetModel
from lockproof.checkers.search import search
from lockproof.checkers.workspaces import WorkspacesMonitor
from lockproof.history import History, Operation, pair
from lockproof.history.generate import Workload, generate
from lockproof.history.generate_faults import FAULTS
from lockproof.suites.meta.tape import LOST, Tape, info, interleave

DEV = "dev"


class SetTape(Tape):
    """A tape on which workspaces are made, listed and deleted."""

    def make(self, ws: str = DEV, **outcome: Any) -> None:
        self.begin("put", ws, value=f"v{len(self.events)}", sha256=None, lock_id=None)(**outcome)

    def remove(self, ws: str = DEV, f: str = "delete_workspace", **outcome: Any) -> None:
        self.begin(f, ws)(**outcome)

    def list(self, *names: str) -> None:
        self.begin("workspaces", None)("ok", ["default", *names])

    def verdict(self) -> Verdict:
        return check_workspaces(self.history())


def expect(tape: SetTape, anomaly: str, *witness: int, workspace: str = DEV) -> None:
    verdict = check(tape.history())
    assert (verdict.status, verdict.details.get("anomaly")) == ("violated", anomaly), verdict
    assert verdict.details["workspace"] == workspace
    assert set(witness) <= set(verdict.witness)


def streamed(history: History) -> Verdict:
    monitor = WorkspacesMonitor()
    for op in pair(history.events):
        monitor.add(op)
    return monitor.verdict(history.closed)


def test_a_workspace_that_was_written_and_is_not_listed_is_lost() -> None:
    """What was made is listed until it is deleted; the witness is the write and the list."""
    tape = SetTape()
    tape.list()
    tape.make()
    tape.list(DEV)
    tape.make("prod")
    tape.list("prod")
    expect(tape, "lost workspace", 2, 3, 8, 9)


def test_a_workspace_that_nobody_made_is_a_phantom() -> None:
    """A listed name needs somebody who wrote it."""
    tape = SetTape()
    tape.make("prod")
    tape.list(DEV, "prod")
    expect(tape, "phantom workspace", 2, 3)


def test_a_workspace_that_is_listed_after_its_deletion_is_a_phantom() -> None:
    """Deleted is gone, until it is written again."""
    tape = SetTape()
    tape.make()
    tape.remove()
    tape.list()
    tape.make()
    tape.list(DEV)
    assert tape.verdict().status == "valid"
    tape.remove()
    tape.list(DEV)
    expect(tape, "phantom workspace", 10, 11, 12, 13)


def test_a_name_that_is_listed_twice_is_a_phantom() -> None:
    """Every workspace is listed once."""
    tape = SetTape()
    tape.make()
    tape.list(DEV, DEV)
    expect(tape, "phantom workspace", 2, 3)


def test_default_is_always_listed() -> None:
    """The default workspace needs no write, and no deletion removes it from the list."""
    tape = SetTape()
    tape.remove("default", "delete")
    tape.list()
    assert tape.verdict().status == "valid"
    tape.begin("workspaces", None)("ok", [])
    expect(tape, "lost workspace", 4, 5, workspace="default")


def test_default_cannot_be_deleted() -> None:
    """An acknowledged deletion of the default workspace is a violation, a refused one is not."""
    tape = SetTape()
    tape.remove("default", e="fail", kind="unsupported", definite=True)
    assert tape.verdict().status == "valid"
    tape.remove("default")
    expect(tape, "default deleted", 2, 3, workspace="default")


def test_refused_calls_make_and_remove_nothing() -> None:
    """A refused write makes no workspace, a refused deletion removes none."""
    refused: dict[str, Any] = {"e": "fail", "kind": "unauthorized", "definite": True}
    tape = SetTape()
    tape.make(**refused)
    tape.list()
    tape.make("prod")
    tape.remove("prod", **refused)
    tape.list("prod")
    assert tape.verdict().status == "valid"
    tape.list(DEV, "prod")
    expect(tape, "phantom workspace")


def test_calls_of_unknown_outcome_explain_one_change_each() -> None:
    """A lost write may have made the workspace, a lost deletion removed it, at any time, once."""
    tape = SetTape()
    tape.make(**LOST)
    tape.remove(**LOST)
    tape.list()
    tape.list(DEV)
    tape.list()
    assert tape.verdict().status == "valid"
    tape.list(DEV)
    expect(tape, "phantom workspace")


def test_a_lost_deletion_just_before_a_write_explains_a_list_in_flight() -> None:
    """The workspace may have been gone for an instant, which only a list that was in flight saw."""
    tape = SetTape()
    tape.make()
    end = tape.begin("workspaces", None)
    tape.remove(**LOST)
    tape.make()
    end("ok", ["default"])
    tape.list(DEV)
    assert tape.verdict().status == "valid"
    tape.list()
    expect(tape, "lost workspace")


def test_the_deletion_that_returns_first_is_used_first() -> None:
    """Of two deletions in flight the longer one is left for the workspace that is made again."""
    tape = SetTape()
    tape.make()
    longer, shorter = (tape.begin("delete_workspace", DEV) for _ in range(2))
    tape.list()
    shorter()
    tape.make()
    tape.list()
    longer()
    assert tape.verdict().status == "valid"


def test_a_lock_may_follow_a_write_and_a_deletion_that_return_after_it() -> None:
    """Written, deleted and locked within one overlap: open in the end, whatever was called first."""
    tape = SetTape()
    tape.make()
    removed = tape.begin("delete_workspace", DEV)
    made = tape.begin("put", DEV, value="v", size=9)
    tape.begin("lock", DEV, info=info("a"))("ok", "id-a")
    removed()
    made()
    tape.list(DEV)
    tape.list()
    tape.list(DEV)
    assert tape.verdict().status == "valid"


@pytest.mark.parametrize("listed", [True, False])
def test_deleting_the_state_alone_leaves_open_whether_the_workspace_stays(listed: bool) -> None:
    """After `delete` it may be listed or not, but not change by itself."""
    tape = SetTape()
    tape.make()
    tape.remove(f="delete")
    tape.list(*[DEV] * listed)
    assert tape.verdict().status == "valid"
    tape.list(*[DEV] * (not listed))
    expect(tape, "lost workspace" if listed else "phantom workspace")


def test_a_lock_leaves_open_whether_a_new_workspace_is_listed() -> None:
    """Some backends make a workspace when it is opened; a write settles it, a deletion too."""
    tape = SetTape()
    lock = tape.begin("lock", DEV, info=info("a"))
    lock("ok", "id-a")
    tape.list(DEV)
    tape.list()
    tape.make()
    tape.list(DEV)
    assert tape.verdict().status == "valid"
    tape.remove()
    tape.list(DEV)
    expect(tape, "phantom workspace")


def test_a_lock_takes_no_written_workspace_from_the_list() -> None:
    """Locking and unlocking what has a state changes nothing."""
    tape = SetTape()
    tape.make()
    tape.begin("lock", DEV, info=info("a"))("ok", "id-a")
    tape.begin("unlock", DEV, lock_id="id-a")()
    tape.list()
    expect(tape, "lost workspace", 0, 1, 6, 7)


def test_a_list_may_show_one_name_before_and_another_after_a_change() -> None:
    """Backends list page by page: names are seen at different instants of the call."""
    tape = SetTape()
    tape.make("a")
    end = tape.begin("workspaces", None)
    tape.remove("a")
    tape.make("b")
    end("ok", ["default", "a", "b"])
    assert tape.verdict().status == "valid"


def test_a_cut_history_is_unknown_unless_violated() -> None:
    """Without its footer nothing is valid."""
    tape = SetTape()
    tape.make()
    assert check_workspaces(tape.history(closed=False)).status == "unknown"
    tape.list()
    assert check_workspaces(tape.history(closed=False)).status == "violated"


Call = tuple[str, dict[str, Any], dict[str, Any]]


def random_calls(random: Random, size: int) -> Iterator[Call]:
    """Calls on one workspace and lists, in shares that differ from history to history."""
    shares = [random.random() for _ in range(5)]
    lost = random.choice([0, 0.1, 0.4])
    for n in range(size):
        outcome: dict[str, Any] = LOST if random.random() < lost else {"e": "ok"}
        f = random.choices(["put", "empty", "delete", "delete_workspace", "workspaces"], shares)[0]
        if f == "workspaces":
            names = ["default", DEV] if random.random() < 0.5 else ["default"]
            yield f, {"ws": None}, {"e": "ok", "out": names}
        elif f in {"put", "empty"}:
            yield "put", {"ws": DEV, "value": str(n), "size": 0 if f == "empty" else 9}, outcome
        else:
            yield f, {"ws": DEV}, outcome


@settings(max_examples=250, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_the_workspaces_checker_agrees_with_a_search(random: Random, size: int) -> None:
    """Any overlap of writes, deletions of both kinds, lost replies and lists is decided exactly."""
    history = interleave(random, list(random_calls(random, size)))
    expected = search(history.operations(), WorkspaceSetModel())
    for found in (check_workspaces(history), streamed(history)):
        assert found.status == expected.status, (found, expected, [e.to_json() for e in history.events])


class OpenSet:
    """The specification with locks, written down once more: `None` is a workspace that may be or not."""

    def parts(self, operations: Iterable[Operation]) -> Iterator[Part]:
        yield Part(DEV, False, list(operations), self.step, lambda op: op.f == "workspaces")

    def step(self, there: bool | None, op: Operation) -> Sequence[bool | None]:
        if op.f == "workspaces":
            return [there] if there in {None, DEV in op.out} else []
        if op.f == "lock":
            return [there or None]
        if op.f == "put":
            return [True] if op.given["size"] or there else [True, there]
        return [False] if op.f == "delete_workspace" or there is False else [False, there]


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 10))
def test_what_locks_leave_open_agrees_with_a_search(random: Random, size: int) -> None:
    """Locks among the calls make a new workspace's listing open, and nothing else."""
    calls = list(random_calls(random, size))
    for _ in range(random.randint(1, 3)):
        lock: Call = ("lock", {"ws": DEV, "info": info("a")}, random.choice([LOST, {"e": "ok", "out": "a"}]))
        calls.insert(random.randint(0, len(calls)), lock)
    history = interleave(random, calls)
    expected = search(history.operations(), OpenSet())
    found = check_workspaces(history)
    assert found.status == expected.status, (found, expected, [e.to_json() for e in history.events])


def test_judging_as_operations_come_changes_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A monitor that judges after every operation says what one that waits for the end says."""
    monkeypatch.setattr(workspaces, "SETTLED", 0)
    seen = set()
    for seed in range(200):
        random = Random(seed)
        history = interleave(random, list(random_calls(random, random.randint(8, 14))))
        whole, early = check_workspaces(history), streamed(history)
        assert whole.status == early.status, (seed, whole, early)
        seen.add(whole.status)
    assert seen == {"valid", "violated"}


def test_too_many_calls_in_flight_are_given_to_the_search_or_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where configurations run out the search decides; a long history is unknown with the reason."""
    monkeypatch.setattr(workspaces_listed, "CONFIGURATIONS", 1)
    tape = SetTape()
    ends = [tape.begin(f, DEV, value="v", size=9) for f in ("put", "delete_workspace", "put", "delete")]
    for end in ends:
        end()
    tape.list(DEV)
    assert tape.verdict().status == "valid"
    tape.remove()
    tape.list(DEV)
    assert tape.verdict().status == "violated"
    monkeypatch.setattr(workspaces, "SEARCHED", 3)
    verdict = tape.verdict()
    assert verdict.status == "unknown"
    assert DEV in verdict.headline


@pytest.mark.parametrize("fault", [None, *(n for n, f in FAULTS.items() if "workspaces" in f.models)])
def test_generated_histories_are_judged_as_they_were_made(fault: str | None) -> None:
    """Histories of many clients and names, valid or with one fault, lost replies among them."""
    workload = Workload(
        model="workspaces", operations=2500, clients=8, workspaces=6, unknown=0.05, seed=3, fault=fault
    )
    history = generate(workload)
    for verdict in (check_workspaces(history), streamed(history)):
        assert verdict.status == ("valid" if fault is None else "violated"), verdict


def test_a_stream_of_many_lists_is_judged_in_bounded_memory() -> None:
    """What is kept is a small part of the operations, however many there were."""
    tape = SetTape()
    monitor, most = WorkspacesMonitor(), 0
    for n in range(2 * workspaces.SETTLED):
        tape.make()
        tape.list(DEV)
        if n % 100 == 0:
            tape.remove()
    for op in pair(tape.events):
        monitor.add(op)
        most = max(most, monitor.kept)
    verdict = monitor.verdict(True)
    assert (verdict.status, verdict.details["lists"]) == ("valid", 2 * workspaces.SETTLED)
    assert most <= workspaces.SETTLED + 2
