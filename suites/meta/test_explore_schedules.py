"""Schedules: kept as files, replayed step by step, shrunk to the smallest, and told to a reader."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from lockproof.checkers import Verdict
from lockproof.driver import LockInfo
from lockproof.driver.memory import MemoryClient
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import (
    CRASH,
    LOST_REPLY,
    Choice,
    Exhaustive,
    Exploration,
    RandomWalk,
    Schedule,
    ScheduleError,
    Shared,
    checkpoint,
    explore,
    replay,
)
from lockproof.history import History
from lockproof.suites.meta.explored_bed import (
    Bed,
    CheckThenSet,
    Collector,
    Retrying,
    calls,
    info,
    order_of_calls,
    program,
    take,
    take_and_release,
)


def busy(client: RecordedClient, shared: Shared) -> None:
    """The cycle between calls that have nothing to do with it."""
    for n in range(3):
        client.get(f"before {n}")
    take_and_release(client, shared)
    client.get("after")


RACE = program({"alice": busy, "bob": busy})


@pytest.fixture(scope="module")
def found() -> Exploration:
    return explore(RACE, Bed(CheckThenSet), RandomWalk(5), limit=200)


def events(exploration: Exploration) -> list[tuple[object, ...]]:
    assert exploration.history is not None
    return [(e.i, e.p, e.e, e.f, e.ws, e.given, e.out) for e in exploration.history.events]


def test_failing_schedule_replays_bit_by_bit_from_its_file(found: Exploration, tmp_path: Path) -> None:
    """The file of a failing schedule, read back, makes the same steps and the same history."""
    assert found.schedule is not None
    path = tmp_path / "schedules" / "race.json"
    found.schedule.save(path)
    loaded = Schedule.load(path)
    assert loaded == found.schedule
    for _ in range(5):
        again = replay(RACE, Bed(CheckThenSet), loaded)
        assert (again.status, again.schedule) == ("violated", found.schedule)
        assert events(again) == events(found)


def test_schedule_file_is_readable(found: Exploration, tmp_path: Path) -> None:
    """It names program, subject, strategy, finding and switches, and has one line for each step."""
    assert found.schedule is not None
    found.schedule.save(tmp_path / "s.json")
    text = (tmp_path / "s.json").read_text()
    record = json.loads(text)
    assert record["lockproof schedule"] == 1
    assert record["program"] == "p"
    assert record["subject"] == "CheckThenSet"
    assert record["strategy"] == "random walk, seed 5"
    assert record["finding"] == "two holders"
    assert record["switches"] == found.schedule.switches
    lines = [line.strip().rstrip(",") for line in text.splitlines() if '"client"' in line]
    assert [json.loads(line) for line in lines] == record["steps"]


def test_shrunk_schedule_has_the_fewest_switches_and_steps(found: Exploration) -> None:
    """The smallest story of check-then-set: one looks, the other takes the lock, the first takes it too."""
    assert found.schedule is not None
    assert found.schedule.minimal
    assert found.schedule.switches == 2
    assert found.schedule.choices[-3:-1] == (Choice("bob", "lock default"), Choice("bob", "set the lock"))
    steps = [choice.step for choice in found.schedule.choices]
    before = [f"get before {n}" for n in range(3)]
    assert steps == [*before, "lock default", *before, "lock default", "set the lock", "set the lock"]


def test_switches_are_fewest_among_all_schedules() -> None:
    """Of all schedules of two clients with two steps each, none with fewer switches fails."""
    p, bed = program({"alice": take, "bob": take}), Bed(CheckThenSet)
    fewest = 4
    for order in set(itertools.permutations(["alice", "alice", "bob", "bob"])):
        labels = {
            "alice": iter(["lock default", "set the lock"]),
            "bob": iter(["lock default", "set the lock"]),
        }
        schedule = Schedule("p", "", "", tuple(Choice(who, next(labels[who])) for who in order))
        if replay(p, bed, schedule).status == "violated":
            fewest = min(fewest, schedule.switches)
    small = explore(p, bed, RandomWalk(2))
    assert small.schedule is not None
    assert (small.schedule.switches, small.schedule.minimal) == (fewest, True)


def test_faults_that_the_finding_does_not_need_are_left_out() -> None:
    """Of the faults of a failing run only those stay without which it does not fail."""
    faults = frozenset({LOST_REPLY, CRASH})
    p = program({"alice": take_and_release, "bob": take_and_release}, faults=faults, max_faults=3)
    results = [explore(p, Bed(CheckThenSet), RandomWalk(seed), limit=200) for seed in range(5)]
    for result in results:
        assert result.schedule is not None
        assert result.schedule.faults == 0

    def release_and_take(client: RecordedClient, shared: Shared) -> None:
        client.unlock("default", "alice")
        client.lock("default", info("bob"))

    needed = program({"alice": take, "bob": release_and_take}, faults=faults, max_faults=3)
    result = explore(needed, Bed(Retrying), RandomWalk(1), limit=2000)
    assert result.schedule is not None
    assert [choice.fault for choice in result.schedule.choices if choice.fault] == [LOST_REPLY]


def test_shrinking_goes_far_before_it_has_run_everything() -> None:
    """With few runs to spend a schedule of many switches still becomes one of two, though unproved."""

    def switching(shrinking: int) -> Schedule:
        found = explore(RACE, Bed(CheckThenSet), RandomWalk(8), limit=200, shrinking=shrinking)
        assert found.schedule is not None
        return found.schedule

    assert switching(0).switches > 4
    assert (switching(40).switches, switching(40).minimal) == (2, False)


def test_shrinking_keeps_to_the_finding() -> None:
    """A schedule is not shrunk to a simpler one that shows something else."""
    for seed in range(6):
        first: list[str] = []

        def judge(history: History, first: list[str] = first) -> Verdict:
            order = "".join(who[0] for who in order_of_calls(history))
            anomaly = "begun by b" if order.startswith("b") else "broken into" if "ab" in order else ""
            first.extend([anomaly] if anomaly else [])
            return Verdict("violated" if anomaly else "valid", anomaly, details={"anomaly": anomaly})

        found = explore(program({"a": calls(3), "b": calls(3)}, judge=judge), Bed(), RandomWalk(seed))
        assert found.schedule is not None
        assert found.schedule.finding == first[0]
        assert found.schedule.switches == (1 if first[0] == "broken into" else 0)


def test_schedule_is_told_in_lanes() -> None:
    """The table has a line for each step and a column for each client, faults marked."""
    choices = (Choice("alice", "lock default"), Choice("bob", "get x", LOST_REPLY), Choice("alice", "put x"))
    assert Schedule("p", "s", "x", choices).table().splitlines() == [
        "step  alice         bob",
        "   1  lock default",
        "   2                get x !! lost reply",
        "   3  put x",
    ]


def test_replay_that_differs_names_the_first_step_that_does(found: Exploration) -> None:
    """A schedule that the program does not follow is unknown: another step, client, fault or length."""
    assert found.schedule is not None
    schedule = found.schedule
    choices = list(schedule.choices)

    def reason(changed: list[Choice]) -> str:
        again = replay(RACE, Bed(CheckThenSet), replace(schedule, choices=tuple(changed)))
        assert again.status == "unknown"
        return again.reason

    assert "step 3 was 'get elsewhere' of" in reason(
        [*choices[:2], choices[2]._replace(step="get elsewhere")]
    )
    assert "step 1 is of mallory" in reason([choices[0]._replace(client="mallory")])
    assert "step 1 was 'get before 0' of" in reason([choices[0]._replace(fault="crash")])
    shorter = replay(program({"alice": take, "bob": take}), Bed(CheckThenSet), schedule)
    assert shorter.status == "unknown"


def test_subject_that_does_not_repeat_itself_is_said() -> None:
    """A subject that goes by more than the schedule is detected, by its steps or by its findings."""
    runs = itertools.count()

    class Moody(MemoryClient):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.number = next(runs)

        def lock(self, workspace: str, info: LockInfo) -> str:
            checkpoint(f"lock of client {self.number}")
            return super().lock(workspace, info)

    named = explore(RACE, Bed(Moody), Exhaustive(1))
    assert named.status == "unknown"
    assert named.reason == (
        "not the same run again: step 5 was 'lock of client 3' of bob, and is now 'lock of client 5'"
    )

    first = itertools.count()

    class Once(MemoryClient):
        """Grants everybody the lock in the very first run only."""

        def lock(self, workspace: str, info: LockInfo) -> str:
            if next(first) < 2:
                return info.ID
            return super().lock(workspace, info)

    once = explore(program({"alice": take, "bob": take}), Bed(Once), Exhaustive(0))
    assert once.status == "violated"
    assert once.reason.startswith("does not repeat itself: two holders")


def test_replay_is_never_valid_for_a_beginning() -> None:
    """A run that shows nothing where its schedule ends goes on to the end of every client; that is judged."""
    steps = (("alice", "lock default"), ("bob", "lock default"), ("bob", "set the lock"))
    short = Schedule("p", "", "", tuple(Choice(*step) for step in steps), finding="two holders")
    race = program({"alice": take, "bob": take})
    assert replay(race, Bed(CheckThenSet), short).status == "violated"
    lost = "the replay did not show 'two holders': the run went on for more than 2000 steps"

    def polls(client: RecordedClient, shared: Shared) -> None:
        while True:
            client.get("x")

    beginning = replace(short, choices=(Choice("alice", "get x"),))
    endless = replay(program({"alice": polls}), Bed(), beginning)
    assert (endless.status, endless.reason) == ("unknown", lost)


def test_replay_says_when_the_finding_is_gone() -> None:
    """Every step was taken, the clients have ended, and nothing is wrong: the reason names the finding."""
    choices = (Choice("alice", "lock default"), Choice("bob", "lock default"))
    schedule = Schedule("p", "", "", choices, finding="two holders")
    judge = Collector(order_of_calls)
    p = program({"alice": take_and_release, "bob": take_and_release}, judge=judge)
    again = replay(p, Bed(), schedule)
    assert again.status == "valid"
    assert again.reason.startswith("no longer shows 'two holders': its 2 steps were taken")
    assert judge.seen[-1] == ("alice", "bob", "alice", "alice")
    assert replay(p, Bed(), replace(schedule, finding="")).reason == "seen"


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        (Choice("mallory", "lock default"), "step 2 is of 'mallory', who is no client of p: alice, bob"),
        (
            Choice("bob", "lock default", CRASH),
            "step 2 has the fault 'crash', which p does not have: lost reply",
        ),
    ],
)
def test_schedule_of_other_clients_or_faults_is_refused(choice: Choice, complaint: str) -> None:
    """Names that the program does not know are told with those that it does."""
    p = program({"alice": take, "bob": take}, faults=frozenset({LOST_REPLY}))
    alice = Choice("alice", "lock default", LOST_REPLY)
    Schedule("p", "", "", (alice,)).require_of(p)
    with pytest.raises(ScheduleError) as refusal:
        Schedule("p", "", "", (alice, choice)).require_of(p)
    assert str(refusal.value) == complaint


HEAD = '{"lockproof schedule": 1, "program": "", "subject": "", "strategy": "", "finding": ""'
STEP = '{"client": "a", "step": "s"}'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "not a schedule: Expecting property name"),
        ("[]", "not a lockproof schedule of version 1"),
        ('{"lockproof schedule": 2}', "not a lockproof schedule of version 1"),
        ('{"lockproof schedule": 1, "program": 3}', "'program' must be text"),
        (f"{HEAD}}}", "'steps' must be a list of at least one step"),
        (f'{HEAD}, "length": 0, "steps": []}}', "'steps' must be a list of at least one step"),
        (f'{HEAD}, "length": 2, "steps": [{STEP}]}}', "has 1 steps, and 'length' says 2: is it the whole"),
        (f'{HEAD}, "steps": [{STEP}]}}', "has 1 steps, and 'length' is missing: is it the whole"),
        (
            f'{HEAD}, "length": 2, "steps": [{STEP}, {{"client": "a"}}]}}',
            "step 2 must have 'client'",
        ),
    ],
)
def test_file_that_is_no_schedule_is_refused_in_one_line(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    """What is wrong with a schedule file is said in one line that names it."""
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ScheduleError) as refusal:
        Schedule.load(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)
