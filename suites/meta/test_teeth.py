"""What `lockproof teeth` makes of runs, seeds and schedules."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lockproof import teeth
from lockproof.driver import Locked, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import Program, Shared
from lockproof.fakes.saboteurs.catalogue import CorrectVariant, Saboteur
from lockproof.teeth.bites import Bite, Chance, chance, free_tests
from lockproof.teeth.schedules import Kill, kill
from lockproof.teeth.table import saboteur_table
from lockproof.teeth.variants import judge_variant

HERE = "py:lockproof.suites.meta.teeth_backends"
RACE = Saboteur("race", "LOCK-EXCL-001", "", f"{HERE}:LooksThenTakes.driver", ("locks",), timing=True)
HELD = "suites/locks/test_exclusion.py::test_a_held_lock_is_refused_to_others"
MACHINE = "suites/concurrency/test_state_machines.py::test_the_lock_is_a_mutex[LOCK-EXCL-001]"
KILL = Kill("lock-lock", 7, 0.02, "two holders", replays=True)


def result(status: str, *requirements: str, test: str = "suites/locks/test_x.py::test_it") -> dict[str, Any]:
    return {"test": test, "status": status, "requirements": requirements, "duration": 0.5, "reason": "so"}


def lock_and_unlock(client: RecordedClient, shared: Shared) -> None:
    """Asks once, and releases what it was granted."""
    try:
        lock_id = client.lock("default", LockInfo.new(client.who))
    except Locked:
        return
    client.unlock("default", lock_id)


def lock_and_stay(client: RecordedClient, shared: Shared) -> None:
    """Asks once, and ends without a release."""
    client.lock("default", LockInfo.new(client.who))


def read(client: RecordedClient, shared: Shared) -> None:
    """Reads."""
    client.get("default")


def read_for_ever(client: RecordedClient, shared: Shared) -> None:
    """Never comes to an end."""
    while True:
        client.get("default")


LOCKS = Program("two lock", "", {"alice": lock_and_unlock, "bob": lock_and_unlock})
STAYS = Program("two stay", "", {"alice": lock_and_stay, "bob": lock_and_stay})
ENDLESS = Program("one reads", "", {"alice": read_for_ever})
READS = Program("two read", "", {"alice": read, "bob": read})


# --- Seeds


def test_every_seed_is_a_run_of_its_own_in_one_process() -> None:
    """A backend that is broken in every second run of a process is caught in every second run."""
    saboteur = Saboteur("every-second", "LOCK-EXCL-001", "", f"{HERE}:BreaksEverySecondRun", ("locks",))
    tests = [f"{HELD}[default]", f"{HELD}[staging]"]
    runs = teeth.run_seeds([saboteur], range(4), {"every-second": tests})
    kills = [bool(teeth.bite(saboteur, results["every-second"]).test) for results in runs]
    assert kills == [False, True, False, True]
    assert {r["test"] for results in runs for r in results["every-second"]} == set(tests)


def test_seeds_reach_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is asked for with its seed, and for the tests that it is given, each on its own backend."""
    asked: list[list[str]] = []

    def remember(entries: Any, runs: list[list[str]]) -> list[Any]:
        asked.extend(runs)
        return []

    monkeypatch.setattr("lockproof.teeth.runs._run", remember)
    memory = replace(RACE, name="memory", backend="memory")
    teeth.run_seeds([RACE, memory], (3, 8), {"race": [f"{HELD}[default]"], "memory": ["suites/a.py::test_b"]})
    assert [[word for word in run if "--backend-seed" in word] for run in asked] == [
        ["--backend-seed=3"],
        ["--backend-seed=8"],
    ]
    for run in asked:
        first, second = run[run.index("--") + 1 :]
        assert first.endswith(f"/{HELD}[{RACE.backend}-default]")
        assert second.endswith("/suites/a.py::test_b[memory]")


def test_tests_that_choose_no_schedule_are_those_to_repeat() -> None:
    """Of what a saboteur breaks, state machines too; not what was skipped, and not what explores."""
    results = [
        result("pass", "LOCK-EXCL-001", test="one"),
        result("fail", "LOCK-EXCL-001", test="two"),
        result("skip", "LOCK-EXCL-001", test="three"),
        result("fail", "LOCK-EXCL-001", test="suites/concurrency/test_schedules.py::test_it"),
        result("fail", "LOCK-REL-001", test="five"),
        result("fail", "LOCK-EXCL-001", test=MACHINE),
    ]
    assert free_tests(RACE, results) == ["one", "two", MACHINE]


def test_a_saboteur_without_such_tests_is_never_caught_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not run, and counted as missed with every seed; the others are counted."""
    explored = result("fail", "LOCK-EXCL-001", test="suites/concurrency/test_schedules.py::test_it")
    free = replace(RACE, name="free", timing=False)
    caught = {"race": [explored], "free": [result("fail", "LOCK-EXCL-001")]}
    seeded: list[str] = []

    def run_seeds(entries: Any, seeds: Any, tests: Any) -> list[Any]:
        seeded.extend(entry.name for entry in entries)
        return [{"free": [result("fail", "LOCK-EXCL-001")]} for _ in seeds]

    monkeypatch.setattr(teeth, "run_batch", lambda batch, narrow: {e.name: caught[e.name] for e in batch})
    monkeypatch.setattr(teeth, "run_seeds", run_seeds)
    chances = [bite.chance for bite in teeth.bites([RACE, free], seeds=3)]
    assert chances == [Chance(0, 3), Chance(3, 3)]
    assert seeded == ["free"]


def test_a_kill_by_chance_is_one_without_a_chosen_schedule() -> None:
    """A failure under explored schedules is no kill by chance, nor is one of another requirement; one of a
    state machine is: it draws the calls, and chooses no interleaving."""
    explored = result("fail", "LOCK-EXCL-001", test="suites/concurrency/test_schedules.py::test_it")
    runs = [
        [result("fail", "LOCK-EXCL-001"), explored],
        [result("pass", "LOCK-EXCL-001"), explored],
        [result("unknown", "LOCK-EXCL-001"), result("fail", "LOCK-REL-001")],
        [result("fail", "LOCK-EXCL-001", test=MACHINE), explored],
    ]
    assert chance(RACE, runs) == Chance(kills=2, seeds=4)


def test_a_saboteur_of_timing_is_caught_by_the_test_that_chooses_the_schedule() -> None:
    """A lucky test comes second; where no interleaving is needed the first to fail is named."""
    lucky = result("fail", "LOCK-EXCL-001")
    explored = result("fail", "LOCK-EXCL-001", test="suites/concurrency/test_schedules.py::test_it")
    assert teeth.bite(RACE, [lucky, explored]).test == explored["test"]
    assert teeth.bite(replace(RACE, timing=False), [lucky, explored]).test == lucky["test"]


# --- Schedules


def test_a_saboteur_of_timing_is_killed_by_the_first_program_that_finds_it() -> None:
    """Programs that find nothing are passed over; the schedule is saved, loaded, and fails again."""
    found = kill(RACE, [READS, LOCKS])
    assert found is not None
    assert (found.program, found.replays) == ("two lock", True)
    assert found.schedules > 1, "the first schedule runs one client after the other, and finds nothing"
    assert found.finding.startswith("two holders")


def test_a_saboteur_that_no_program_finds_survives() -> None:
    """Without a program that shows its bug there is no kill; one that cannot be judged shows nothing."""
    assert kill(RACE, [READS]) is None
    assert kill(RACE, [ENDLESS]) is None
    assert kill(replace(RACE, backend="memory"), [LOCKS]) is None


def test_a_schedule_that_does_not_fail_again_does_not_replay() -> None:
    """A backend that was broken only the first time is found, and its schedule is no proof."""
    found = kill(replace(RACE, backend=f"{HERE}:MendsItself"), [STAYS])
    assert found is not None
    assert not found.replays


@pytest.mark.parametrize(
    ("explored", "clean"), [(KILL, True), (replace(KILL, replays=False), False), (None, False)]
)
def test_a_saboteur_of_timing_needs_a_schedule_that_replays(explored: Kill | None, clean: bool) -> None:
    """A failing test alone may be luck where the bug needs an interleaving."""
    caught = teeth.bite(RACE, [result("fail", "LOCK-EXCL-001")])
    assert caught.timing
    assert replace(caught, explored=explored).clean is clean
    assert replace(caught, timing=False).clean, "a bug of logic needs no schedule"


# --- Tables


@pytest.fixture
def rows() -> list[Bite]:
    """A saboteur of logic that is always caught, and two of timing: one killed, one missed."""
    return [
        Bite("no-lock", "LOCK-EXCL-001", "suites/locks/a.py::b", 0.25, chance=Chance(20, 20)),
        Bite("race", "LOCK-EXCL-002", "suites/concurrency/c.py::d", 0.5, (), True, KILL, Chance(3, 20)),
        Bite("shy", "LOCK-EXCL-002", "", 0.0, (), True, None, Chance(0, 20)),
    ]


def test_the_table_names_whoever_is_caught_by_chance_only(rows: list[Bite]) -> None:
    """Kills out of all seeds stand in the row; what is below the number of seeds is named once more."""
    text = saboteur_table("text", rows, ["STATE-RT-001"], ["far was not run"])
    head, one, two, three, *remarks = text.splitlines()
    assert head.split("  ")[0] == "saboteur"
    assert one.split() == ["no-lock", "LOCK-EXCL-001", "locks/a.py::b", "0.250", "20/20"]
    assert two.split()[-4:] == ["3/20", "lock-lock", "7", "yes"]
    assert "NOT CAUGHT" in three
    assert remarks == [
        "",
        "STATE-RT-001 has no saboteur",
        "far was not run",
        "race is caught by chance only: 3 of 20 times",
        "shy is caught by chance only: 0 of 20 times",
        "1 of 2 saboteurs of timing killed by an explored schedule that replays",
        "2 of 3 saboteurs caught, 2 requirements broken",
    ]


def test_the_table_shows_only_columns_that_were_asked_for(rows: list[Bite]) -> None:
    """Without seeds and without saboteurs of timing there is nothing to show of either."""
    plain = saboteur_table("text", [replace(rows[0], chance=None)], [], [])
    assert "by chance" not in plain
    assert "schedule" not in plain


def test_the_table_can_be_markdown(rows: list[Bite]) -> None:
    """Every line of the table has as many cells as the head; the remarks follow."""
    lines = saboteur_table("markdown", rows, [], []).splitlines()
    table = lines[: lines.index("")]
    assert len(table) == 5
    assert {line.count("|") for line in table} == {9}
    assert set(table[1]) == {"|", "-"}


def test_the_table_can_be_json(rows: list[Bite]) -> None:
    """JSON holds everything, with the judgement on each."""
    document = json.loads(saboteur_table("json", rows, ["STATE-RT-001"], []))
    assert [row["clean"] for row in document["saboteurs"]] == [True, True, False]
    assert document["saboteurs"][1]["explored"]["schedules"] == 7
    assert document["saboteurs"][1]["chance"] == {"kills": 3, "seeds": 20}
    assert document["without"] == ["STATE-RT-001"]


# --- Correct variants


@pytest.mark.parametrize("status", ["fail", "unknown", "error", "xpass"])
def test_whatever_does_not_pass_on_a_correct_variant_is_a_false_alarm(status: str) -> None:
    """The alarm says in which run which test said what."""
    variant = CorrectVariant("odd", "", "memory", ("locks",))
    judged = judge_variant(variant, [[result("pass"), result("skip")], [result("pass"), result(status)]])
    assert (judged.runs, judged.passed) == (2, 2)
    assert judged.alarms == (f"run 2: suites/locks/test_x.py::test_it is {status} so",)


def test_a_false_alarm_makes_the_exit_code_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant that is not correct after all is shown with the test that it fails."""
    wrong = CorrectVariant("wrong", "", f"{HERE}:GrantsAll.driver", ("smoke",))
    right = CorrectVariant("right", "", "memory", ("smoke",))
    monkeypatch.setattr(teeth, "correct_variants", lambda: (wrong, right))
    shown: list[str] = []
    steps: list[tuple[str, int, int]] = []
    assert teeth.run_variants(echo=shown.append, progress=lambda *step: steps.append(step)) == 1
    assert "1 of 2 correct variants pass" in shown[0]
    assert "wrong: run 1: suites/smoke/" in shown[0]
    assert steps == [("run with 1 seeds", 2, 2)]
    assert teeth.run_variants(["right"], echo=shown.append) == 0


def test_an_unknown_variant_is_one_line_with_the_nearest() -> None:
    """A name that is none of a variant is refused with a proposal."""
    with pytest.raises(ValueError, match=r"no correct variant named unsrted; did you mean unsorted\?"):
        teeth.run_variants(["unsrted"])
