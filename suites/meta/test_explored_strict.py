"""Strict fencing under a controlled scheduler: what holds in every schedule, and what finds its saboteurs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from lockproof.checkers import Verdict, check
from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.databricks_explored import DatabricksSubject
from lockproof.driver.databricks_explored_process import KEY
from lockproof.explore import Exhaustive, Program, explore, replay
from lockproof.explore.execution import Outcome
from lockproof.fakes.saboteurs import strict_schedules
from lockproof.history import History
from lockproof.provision.postgres import PostgresServer
from lockproof.suites.concurrency.programs import (
    LOCK_AGAINST_LOCK,
    STALE_WRITE_IN_FLIGHT,
    Scenario,
    first_state,
    force_and_write,
    hold_and_tell,
    update,
)
from lockproof.suites.concurrency.programs_of_fencing import (
    DELETION_THAT_EXPIRES,
    SCENARIOS,
    STALE_WRITE_UNDER_A_NEW_LOCK,
)
from lockproof.suites.meta.stepped_runs import Script, ends, execute, explored_on

STRICT = {"fencing": "strict"}
APIS: Mapping[str, Mapping[str, str]] = {"2.0": STRICT, "3.0": {**STRICT, "files_api": "3.0"}}
OBJECTS = "terraform.tfstate.tofu-workspaces/objects/default.tfstate"


def test_objects_heads_and_conditions_are_steps(postgres_server: PostgresServer) -> None:
    """A strictly fenced update takes a step for each object, head and conditional request, under names that
    are the same in every run."""
    with explored_on(postgres_server, "lakebase", given=APIS["3.0"]) as subject:
        runs = [execute(subject, Script(), {"alice": update}, first_state) for _ in range(2)]
    steps = [[choice.step for choice in run.choices] for run in runs]
    assert steps[0][1:] == [
        "sql INSERT",
        *("sql SELECT", f"GET {OBJECTS}/000001"),
        *("sql SELECT", f"PUT {OBJECTS}/000002", "sql UPDATE"),
        *(f"HEAD 3.0 {KEY}", "sql SELECT", f"PUT 3.0 {KEY}"),
        "sql DELETE",
    ]
    assert steps[0] == steps[1]
    assert ends(runs[1], "alice") == ["lock ok", "get ok", "put ok", "unlock ok"]


def overtake(subject: DatabricksSubject, step: str) -> Outcome:
    """Alice stands still before `step` of her write, Bob forces her lock and writes, and she goes on."""
    script = Script(("alice", step), ("bob", None))
    return execute(subject, script, dict(STALE_WRITE_IN_FLIGHT.program.clients), first_state)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("variant", ["lakebase", "delta", "delta-direct"])
def test_a_holder_that_stands_still_between_look_and_write_is_refused(
    postgres_server: PostgresServer, variant: str, api: str
) -> None:
    """On each lock store and by both Files APIs its write is refused, and the newer one stands."""
    with explored_on(postgres_server, variant, given=APIS[api]) as subject:
        outcome = overtake(subject, f"PUT {OBJECTS}/000002")
        stored = {path.lstrip("/"): file.data for path, file in subject.volume().tree.files()}
    assert ends(outcome, "alice") == ["lock ok", "put fail not_locked"]
    assert ends(outcome, "bob") == ["unlock ok", "lock ok", "put ok", "get ok", "unlock ok"]
    assert json.loads(stored[KEY])["serial"] == 3
    assert check(outcome.history).status == "valid"


def test_a_checked_write_that_stands_still_overwrites_the_newer_one(postgres_server: PostgresServer) -> None:
    """The negative control: the same course under `checked`, which promises no more, undoes what is newer."""
    with explored_on(postgres_server, "lakebase") as subject:
        outcome = overtake(subject, f"PUT {KEY}")
        stored = {path.lstrip("/"): file.data for path, file in subject.volume().tree.files()}
    assert ends(outcome, "alice")[:2] == ["lock ok", "put ok"]
    assert json.loads(stored[KEY])["serial"] == 2
    assert check(outcome.history).status == "valid"


@pytest.mark.parametrize("api", APIS)
def test_no_schedule_of_other_programs_shows_one(postgres_server: PostgresServer, api: str) -> None:
    """Nor do the first schedules of the other programs of fencing, by both Files APIs."""
    with explored_on(postgres_server, "lakebase", given=APIS[api]) as subject:
        for scenario in SCENARIOS:
            found = explore(scenario.program, subject, Exhaustive(), limit=10)
            assert found.schedule is None, f"{scenario.program.name}: {found.reason}"
            assert found.judged_unknown == 0
            assert found.schedules > 5


KILLED = {
    strict_schedules.MovesAnyHead: STALE_WRITE_UNDER_A_NEW_LOCK,
    strict_schedules.NamesObjectsByNumber: STALE_WRITE_IN_FLIGHT,
    strict_schedules.ReadsTheHeadBeforeTheLock: LOCK_AGAINST_LOCK,
    strict_schedules.ForgetsDeletions: DELETION_THAT_EXPIRES,
}


@pytest.mark.parametrize(
    ("saboteur", "scenario"), KILLED.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_a_saboteur_is_killed_by_a_schedule_that_replays(
    postgres_server: PostgresServer, saboteur: type[DatabricksDriver], scenario: Scenario
) -> None:
    """A schedule finds what is wrong, and fails again when it is replayed."""
    with explored_on(postgres_server, "lakebase", saboteur) as subject:
        require_killed(subject, scenario.program)


def test_a_copy_without_condition_is_killed_by_a_schedule(postgres_server: PostgresServer) -> None:
    """Who publishes without the condition leaves an older copy at the key for good; with it nobody does."""
    clients = {"alice": hold_and_tell, "bob": force_and_write}
    program = Program("copies", "A publisher is overtaken.", clients, prepare=first_state)
    with explored_on(postgres_server, "lakebase", strict_schedules.PublishesWithoutCondition) as broken:
        require_killed(broken, replace(program, judge=published(broken)))
    with explored_on(postgres_server, "lakebase", given=APIS["3.0"]) as sound:
        found = explore(replace(program, judge=published(sound)), sound, Exhaustive(), limit=30)
    assert found.schedule is None, found.reason
    assert found.schedules > 10


def require_killed(subject: DatabricksSubject, program: Program) -> None:
    """A schedule of the program is violated, not only in the order of one client after the other, and is so
    again in a replay."""
    found = explore(program, subject, Exhaustive(), limit=1000, seconds=30.0, shrinking=40)
    assert found.status == "violated", found
    assert found.schedule is not None
    again = replay(program, subject, found.schedule)
    assert again.status == "violated", again.reason


def published(subject: DatabricksSubject) -> Callable[[History], Verdict]:
    """A judge: what lies at the key in the end is the newest object."""

    def judge(history: History) -> Verdict:
        files = {path.lstrip("/"): file.data for path, file in subject.volume().tree.files()}
        newest = max(path for path in files if path.startswith(OBJECTS))
        if files[KEY] != files[newest]:
            return Verdict("violated", f"the copy is older than {newest[:-33]}", (), {"anomaly": "old copy"})
        return check(history)

    return judge
