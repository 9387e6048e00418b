"""The reference backend with Delta locks under a controlled scheduler: snapshots, commits, conflicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lockproof.checkers import check
from lockproof.driver import Locked
from lockproof.driver.databricks_explored import DatabricksSubject
from lockproof.driver.databricks_explored_process import CONFLICT, EXPIRED
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import CRASH, LOST_REPLY, Schedule, Shared, replay
from lockproof.fakes.databricks.sql.parsing import Parameters
from lockproof.fakes.saboteurs.delta_locks import TrustsThePrimaryKey
from lockproof.provision.postgres import PostgresServer
from lockproof.suites.concurrency.programs import PROGRAMS, hold_once, take
from lockproof.suites.meta.stepped_runs import Script, ends, execute, explored_on

RECORD = "GET terraform.tfstate.tofu-workspaces/lock-store.json"
DOCUMENTED = Path(__file__).parents[2] / "docs" / "rfc-delta-design" / "schedule.json"


@pytest.fixture(scope="module")
def subject(postgres_server: PostgresServer) -> Iterator[DatabricksSubject]:
    with explored_on(postgres_server, "delta") as made:
        yield made


def hold(client: RecordedClient, shared: Shared) -> None:
    take(client)


def test_snapshot_and_commit_are_steps_apart(subject: DatabricksSubject) -> None:
    """An UPDATE reads in one step and commits in another; between them another's commit wins."""
    script = Script(("alice", "commit UPDATE"), ("bob", "sql SELECT"), ("alice", None), ("bob", None))
    outcome = execute(subject, script, {"alice": hold, "bob": hold})
    assert [(choice.client, choice.step) for choice in outcome.choices] == [
        ("alice", RECORD),
        ("alice", "sql UPDATE"),
        ("bob", RECORD),
        ("bob", "sql UPDATE"),
        ("bob", "commit UPDATE"),
        ("alice", "commit UPDATE"),
        ("alice", "sql SELECT"),
        ("bob", "sql SELECT"),
    ]
    assert (ends(outcome, "alice"), ends(outcome, "bob")) == (["lock fail locked"], ["lock ok"])


def test_conflict_is_a_lost_race(subject: DatabricksSubject) -> None:
    """A commit that the warehouse refuses changes nothing; the backend looks, waits and tries again."""
    script = Script(faults={("alice", "commit UPDATE"): CONFLICT})
    outcome = execute(subject, script, {"alice": hold_once})
    steps = [choice.step.partition(" 0")[0] for choice in outcome.choices]
    assert steps[:7] == [
        RECORD,
        "sql UPDATE",
        "commit UPDATE",
        "sql SELECT",
        "sleep",
        "sql UPDATE",
        "commit UPDATE",
    ]
    assert ends(outcome, "alice") == ["lock ok", "unlock ok"]


def test_statement_outlives_its_client(subject: DatabricksSubject) -> None:
    """A client that is killed while its statement runs has its statement committed all the same."""
    script = Script(("alice", None), ("bob", None), faults={("alice", "commit UPDATE"): CRASH})
    outcome = execute(subject, script, {"alice": hold, "bob": hold})
    assert (ends(outcome, "alice"), ends(outcome, "bob")) == (["lock info"], ["lock fail locked"])


def test_claim_that_was_not_read_back_is_uncertain(subject: DatabricksSubject) -> None:
    """When the token expires between claim and look, the lock may be held, and the error says so."""
    script = Script(("alice", None), ("bob", None), faults={("alice", "sql SELECT"): EXPIRED})
    outcome = execute(subject, script, {"alice": hold, "bob": hold})
    assert ends(outcome, "alice") == ["lock info unauthorized"]
    assert ends(outcome, "bob") == ["lock fail locked"]


def test_claim_that_was_forced_before_it_was_read_back_does_not_come_back(subject: DatabricksSubject) -> None:
    """A lock that is forced while it is being taken stays free: its claim is not sent again."""

    def force(client: RecordedClient, shared: Shared) -> None:
        with pytest.raises(Locked) as refusal:
            take(client)
        assert refusal.value.holder is not None
        client.unlock("default", refusal.value.holder.ID)

    script = Script(("alice", "sql SELECT"), ("bob", None), ("alice", None), ("carol", None))
    outcome = execute(subject, script, {"alice": hold, "bob": force, "carol": hold})
    assert ends(outcome, "bob") == ["lock fail locked", "unlock ok"]
    assert ends(outcome, "alice") == ["lock info unavailable"]
    assert ends(outcome, "carol") == ["lock ok"]
    assert check(outcome.history).status == "valid"


def test_every_run_begins_with_the_kept_table(subject: DatabricksSubject) -> None:
    """A lock that a run leaves is not there in the next one."""
    outcomes = [execute(subject, Script(), {"alice": hold}) for _ in range(2)]
    assert [ends(outcome, "alice") for outcome in outcomes] == [["lock ok"], ["lock ok"]]
    assert outcomes[0].choices == outcomes[1].choices


def test_rows_come_in_the_same_order_in_every_run(subject: DatabricksSubject) -> None:
    """Rows from several files, which the engine returns by the files' random names, come sorted."""
    workspace = subject.workspace
    warehouse = next(iter(workspace.sql.warehouses.by_id.values()))

    def run(text: str) -> Sequence[Sequence[object]]:
        done = workspace.sql.statements.submit(text, workspace.admin, warehouse, Parameters([]))
        assert done.result is not None, done.failure
        return done.result.rows

    with subject.open(1):
        run("CREATE TABLE lockproof.locks.numbers (n INT)")
        for n in range(6):
            run(f"INSERT INTO lockproof.locks.numbers VALUES ({n})")
        assert [row[0] for row in run("SELECT n FROM lockproof.locks.numbers")] == [0, 1, 2, 3, 4, 5]


def test_documented_schedule_of_the_rfcs_design_replays(postgres_server: PostgresServer) -> None:
    """The schedule in the documentation makes two holders of one lock by the RFC's own Delta lock."""
    schedule = Schedule.load(DOCUMENTED)
    program = next(program for program in PROGRAMS if program.name == schedule.program)
    with explored_on(postgres_server, "delta", TrustsThePrimaryKey) as broken:
        found = replay(program, broken, schedule)
    assert found.verdict is not None
    assert (found.status, found.verdict.details["anomaly"]) == ("violated", "two holders")
    assert found.schedule is not None
    assert found.schedule.choices == schedule.choices


def test_direct_commit_whose_reply_is_lost_is_made_good(postgres_server: PostgresServer) -> None:
    """The commit of a direct lock takes effect, its reply does not come; the log tells that it is ours."""
    with explored_on(postgres_server, "delta-direct") as direct:
        script = Script(faults={("alice", "lock.commit"): LOST_REPLY})
        lossy = execute(direct, script, {"alice": hold_once})
        plain = execute(direct, Script(), {"alice": hold_once})
    commits = [[choice.step for choice in run.choices].count("lock.commit") for run in (lossy, plain)]
    assert commits == [2, 2]
    assert len(lossy.choices) > len(plain.choices)
    assert ends(lossy, "alice") == ends(plain, "alice") == ["lock ok", "unlock ok"]
