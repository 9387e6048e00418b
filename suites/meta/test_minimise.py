"""Cutting a violated history: the same violation, as few operations as can be, and nothing made up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lockproof.checkers import Verdict, check
from lockproof.checkers.grounds import Grounds
from lockproof.checkers.minimise import Cut, NothingToCut, minimise
from lockproof.history import History, read_history
from lockproof.history.generate import Model, Workload, generate
from lockproof.history.generate_faults import FAULTS
from lockproof.history.lines import lines
from lockproof.suites.meta.agreement import prone
from lockproof.suites.meta.stories import Story, info, lock_id, two_holders


def identity(verdict: Verdict) -> tuple[object, ...]:
    return verdict.status, verdict.details.get("anomaly"), verdict.details.get("workspace")


def calls(cut: Cut) -> list[tuple[str, str, str]]:
    """Client, call and outcome of every operation that is left."""
    return [(cut.history.names[op.p], op.f, op.kind) for op in cut.history.operations()]


def saved(folder: Path, history: History, name: str = "story.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(lines(history)), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=sorted(FAULTS))
def faulty(request: pytest.FixtureRequest) -> History:
    """A history of 400 operations with one fault and, where the fault allows it, unknown outcomes."""
    model: Any = sorted(FAULTS[request.param].models)[0]
    workload = Workload(model=model, operations=400, clients=6, seed=11, unknown=0.05)
    return generate(prone(workload, request.param))


def test_every_kind_of_fault_is_cut_to_a_handful(faulty: History, tmp_path: Path) -> None:
    """The cut is a history file of at most ten operations with the same anomaly in the same workspace."""
    cut = minimise(faulty, check, source="whole.jsonl")
    assert identity(cut.verdict) == identity(check(faulty))
    assert len(cut.history.operations()) <= 10
    again = read_history(saved(tmp_path, cut.history))
    assert [event.i for event in again.events] == list(range(len(again.events)))
    assert again.header["minimised"] == {"from": "whole.jsonl", "operations": 400}
    assert identity(check(again)) == identity(cut.verdict)
    assert {again.names[op.p] for op in again.operations()} <= set(faulty.names.values())


def test_no_operation_of_a_cut_can_go(faulty: History) -> None:
    """Without any one operation, and what rests on it, the anomaly is another one or there is none."""
    cut = minimise(faulty, check)
    kept = {op.i: op for op in cut.history.operations()}
    grounds = Grounds(list(kept.values()), cut.verdict.details.get("workspace"))
    assert grounds.close(kept) == kept
    for number in kept:
        left = grounds.prune({i: op for i, op in kept.items() if i != number})
        events = {e.i for op in left.values() for e in (op.invoke, op.outcome) if e is not None}
        smaller = replace(cut.history, events=tuple(e for e in cut.history.events if e.i in events))
        assert identity(check(smaller)) != identity(cut.verdict)


def test_operations_are_those_of_the_whole_history(faulty: History) -> None:
    """Nothing is changed but the numbers of events: times, inputs, outcomes and their order stay."""

    def told(history: History) -> list[tuple[object, ...]]:
        return [(e.t, e.p, e.e, e.f, e.ws, json.dumps([e.given, e.out, e.err])) for e in history.events]

    whole = iter(told(faulty))
    assert all(event in whole for event in told(minimise(faulty, check).history))


MODELS: tuple[Model, ...] = ("lock", "register", "fenced", "workspaces")


@pytest.mark.parametrize("model", MODELS)
def test_honest_cut_of_a_valid_history_is_never_violated(model: Model) -> None:
    """Whatever is cut away at random: with what the rest rests on, no violation is made up.

    40 histories of each model, eight cuts of each.
    """
    cuts = 0
    for seed in range(40):
        random = Random(f"{model} {seed}")
        workload = Workload(
            model=model,
            operations=random.choice([16, 30, 60]),
            clients=random.choice([2, 3, 4]),
            seed=seed,
            unknown=random.choice([0.0, 0.1, 0.3]),
            backend_ids=random.random() < 0.3,
            bare=random.choice([0.0, 0.5]),
            resend=random.choice([0.0, 0.5]),
            force=random.choice([0.0, 0.2]),
            zombies=random.choice([0.0, 0.3]),
            deletes=random.choice([0.0, 0.2]),
        )
        history = generate(workload)
        operations = history.operations()
        spaces = sorted({op.ws for op in operations if op.ws is not None})
        for _ in range(8):
            workspace, share = random.choice(spaces), random.choice([0.3, 0.6, 0.9])
            grounds = Grounds(operations, workspace)
            some = {op.i: op for op in operations if random.random() < share}
            kept = random.choice([grounds.close, grounds.prune])(some)
            assert grounds.close(kept) == grounds.prune(kept) == kept
            events = {e.i for op in kept.values() for e in (op.invoke, op.outcome) if e is not None}
            cut = replace(history, events=tuple(e for e in history.events if e.i in events))
            verdict = check(cut)
            assert (verdict.status, verdict.details.get("workspace")) != ("violated", workspace), (
                workload,
                verdict,
            )
            cuts += len(kept) > 3
    assert cuts > 200


def test_two_holders_are_the_two_grants() -> None:
    """Who writes, reads, is refused or releases later does not matter."""
    cut = minimise(two_holders(), check)
    assert calls(cut) == [("alice", "lock", "ok"), ("bob", "lock", "ok")]
    assert cut.before == 7


def test_release_that_may_have_happened_is_not_cut_away() -> None:
    """Without the unknown release two grants would look like proof, which they are not: it stays, with
    the refusal that shows the lock was still held."""
    story = Story()
    story.lock("alice")
    story.call("alice", "unlock", given={"lock_id": lock_id("alice")})("info", kind="timeout", definite=False)
    story.lock("bob")
    story.refused("carol", "alice")
    cut = minimise(story.history(), check)
    assert calls(cut) == [
        ("alice", "lock", "ok"),
        ("alice", "unlock", "info"),
        ("bob", "lock", "ok"),
        ("carol", "lock", "fail"),
    ]


def test_write_of_a_torn_value_stays_with_its_read() -> None:
    """A read of other bytes is told with the write; alone it would be a value that nobody wrote."""
    story = Story()
    story.put("alice", "one")
    story.get("bob", "one")
    story.get("carol", "one", sha256="of other bytes")
    assert calls(minimise(story.history(), check)) == [("alice", "put", "ok"), ("carol", "get", "ok")]


def test_deletion_that_explains_a_read_of_nothing_goes_only_with_it() -> None:
    """A read of nothing after a deletion accuses nobody; the one before it does."""
    story = Story()
    story.put("alice", "one")
    story.get("bob", None)
    story.get("bob", "one")
    story.delete("alice")
    story.get("carol", None)
    cut = minimise(story.history(), check)
    assert ("carol", "get", "ok") not in calls(cut)
    assert cut.verdict.details["anomaly"] == check(story.history()).details["anomaly"]


def test_release_of_a_reused_id_stays_with_its_grant() -> None:
    """The same id granted twice: the release between them is no part that can be left out."""
    story = Story()
    for who in ("alice", "bob", "carol"):
        story.lock(who, granted="lock-7")
        story.call(who, "unlock", given={"lock_id": "lock-7"})()
    cut = minimise(story.history(), check)
    assert [f for _, f, _ in calls(cut)] == ["lock", "unlock", "lock"]


def test_lost_request_stays_with_the_refusal_that_tells_its_id() -> None:
    """An id that the backend chose is known by a refusal alone: without it its release would be odd."""
    story = Story()
    story.lost_lock("alice")
    holder = {**info("alice"), "ID": "backend-41"}
    end = story.call("bob", "lock", given={"info": info("bob-1", "bob")})
    end("fail", kind="locked", definite=True, holder=holder)
    story.call("alice", "unlock", given={"lock_id": "backend-41"})()
    end = story.call("bob", "lock", given={"info": info("bob-2", "bob")})
    end("fail", kind="locked", definite=True, holder=holder)
    verdict = check(story.history())
    assert verdict.details["anomaly"] == "seen after unlock"
    cut = minimise(story.history(), check)
    assert [(f, kind) for _, f, kind in calls(cut)] == [
        ("lock", "info"),
        ("lock", "fail"),
        ("unlock", "ok"),
        ("lock", "fail"),
    ]


def test_faults_around_the_cut_stay() -> None:
    """Windows that reach into the cut are kept whole, others go."""
    story = Story()
    story.append(-1, "fault", "early", given={"phase": "start"})
    story.append(-1, "fault", "early", given={"phase": "stop"})
    story.append(-1, "fault", "during", given={"phase": "start"})
    story.lock("alice")
    story.append(-1, "fault", "during", given={"phase": "stop"})
    story.lock("bob")
    story.append(-1, "fault", "late", given={"phase": "start"})
    cut = minimise(story.history(), check)
    assert [(e.f, e.given) for e in cut.history.events if e.e == "fault"] == [
        ("during", {"phase": "start"}),
        ("during", {"phase": "stop"}),
    ]


def test_poor_witness_costs_more_but_not_the_result() -> None:
    """Where the witness does not show the violation by itself, what happened around it is added."""
    story = Story()
    for n in range(60):
        story.get(f"reader-{n % 5}", None)
    story.lock("alice")
    for n in range(60):
        story.get(f"reader-{n % 5}", None)
    story.lock("bob")

    def vague(history: History) -> Verdict:
        found = check(history)
        return replace(found, witness=tuple(event.i for event in history.events[-3:]))

    assert calls(minimise(story.history(), vague)) == [("alice", "lock", "ok"), ("bob", "lock", "ok")]


def test_whole_history_is_judged_once() -> None:
    """The cost is one check of the whole history: all others are of a handful of operations."""
    workload = Workload(
        model="fenced", operations=3000, clients=20, seed=5, unknown=0.05, fault="double grant"
    )
    judged: list[int] = []

    def counting(history: History) -> Verdict:
        judged.append(len(history.operations()))
        return check(history)

    minimise(generate(workload), counting)
    assert judged[0] == 3000
    assert max(judged[1:]) <= 12
    assert len(judged) <= 60


def test_what_is_not_violated_is_not_cut() -> None:
    """A valid or undecided history is said to be so."""
    story = Story()
    story.lock("alice")
    for closed, status in ((True, "valid"), (False, "unknown")):
        with pytest.raises(NothingToCut) as nothing:
            minimise(story.history(closed=closed), check)
        assert nothing.value.verdict.status == status


def test_cut_of_a_history_without_footer_has_none() -> None:
    """A violation is certain however a history ended; the cut says that it was cut short."""
    history = replace(two_holders(), closed=False)
    cut = minimise(history, check)
    assert cut.verdict.status == "violated"
    assert not any("footer" in line for line in lines(cut.history))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lockproof", "minimise", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_command_writes_the_cut_and_tells_it(tmp_path: Path) -> None:
    """`lockproof minimise FILE` writes FILE.min.jsonl and tells the story in words, with code 0."""
    saved(tmp_path, two_holders())
    done = run(tmp_path, "story.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    first, sentence, *told = done.stdout.splitlines()
    assert first == "story.min.jsonl: 2 of 7 operations"
    assert sentence.startswith("two holders: alice's lock")
    assert [line.split()[1] for line in told] == ["alice", "bob"]
    cut = read_history(tmp_path / "story.min.jsonl")
    assert cut.header["minimised"] == {"from": "story.jsonl", "operations": 7}
    assert check(cut).status == "violated"


def test_command_says_in_one_line_why_it_cuts_nothing(tmp_path: Path) -> None:
    """Valid input is a usage error, 4; unknown is 2; neither writes a file."""
    story = Story()
    story.lock("alice")
    saved(tmp_path, story.history())
    saved(tmp_path, story.history(closed=False), "open.jsonl")
    expected = [
        ("story.jsonl", 4, "lockproof: story.jsonl is valid: there is nothing to cut\n"),
        ("open.jsonl", 2, "lockproof: open.jsonl is unknown, so nothing is cut: the history has no footer"),
        ("none.jsonl", 4, "lockproof: cannot read none.jsonl: No such file or directory\n"),
    ]
    for name, code, said in expected:
        done = run(tmp_path, name)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["open.jsonl", "story.jsonl"]
