"""The reference backend with Lakebase locks under a controlled scheduler: what is a step, and each fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lockproof.checkers import check
from lockproof.driver import Locked
from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.databricks_explored import DatabricksSubject
from lockproof.driver.databricks_explored_process import DUPLICATE, EXPIRED
from lockproof.driver.databricks_explored_sql import SteppedSession
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import CRASH, LOST_REPLY, Exhaustive, Shared, checkpoint, explore
from lockproof.explore.scheduler import Ending
from lockproof.fakes.saboteurs.databricks_locks import LockingBackend, LocksBySession
from lockproof.provision.postgres import PostgresServer
from lockproof.suites.concurrency.programs import (
    FIRST_LOCK_AGAINST_FIRST_LOCK,
    LOCK_AGAINST_LOCK,
    STALE_WRITE_IN_FLIGHT,
    first_state,
    hold_once,
    take,
    update,
    write_once,
)
from lockproof.suites.locks.asking import holder_seen_by
from lockproof.suites.meta.stepped_runs import Script, ends, execute, explored_on
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks.lakebase import LakebaseLocks

RECORD = "GET terraform.tfstate.tofu-workspaces/lock-store.json"
STATE = "terraform.tfstate"


@pytest.fixture(scope="module")
def subject(postgres_server: PostgresServer) -> Iterator[DatabricksSubject]:
    with explored_on(postgres_server, "lakebase") as made:
        yield made


def hold(client: RecordedClient, shared: Shared) -> None:
    take(client)


def see_holder(client: RecordedClient, shared: Shared) -> None:
    shared["holder"] = holder_seen_by(client).Who


def test_requests_and_statements_are_the_steps(subject: DatabricksSubject) -> None:
    """A client that locks, reads, writes and unlocks takes one step for each request and each statement."""
    outcome = execute(subject, Script(), {"alice": update}, first_state)
    assert [choice.step for choice in outcome.choices] == [
        RECORD,
        "sql INSERT",
        f"GET {STATE}",
        "sql SELECT",
        f"PUT {STATE}",
        "sql DELETE",
    ]
    assert ends(outcome, "alice") == ["lock ok", "get ok", "put ok", "unlock ok"]


def test_lost_reply_of_a_statement_leaves_its_effect(subject: DatabricksSubject) -> None:
    """The statement takes effect, its connection is gone, and the backend makes it good in virtual time."""
    script = Script(faults={("alice", "sql INSERT"): LOST_REPLY})
    outcome = execute(subject, script, {"alice": hold_once})
    steps = [choice.step for choice in outcome.choices]
    assert outcome.ending == Ending("done")
    assert steps[:2] == [RECORD, "sql INSERT"]
    assert steps[2].startswith("sleep ")
    assert steps[3:] == ["sql INSERT", "sql SELECT", "sql SELECT", "sql DELETE"]  # it is seen, and confirmed
    assert subject.clock.time > 0
    assert ends(outcome, "alice") == ["lock ok", "unlock ok"]


def test_lost_reply_of_a_request_leaves_its_effect(subject: DatabricksSubject) -> None:
    """A write whose reply is lost is sent again; the fake has received both."""
    before = subject.workspace.log.count
    script = Script(faults={("alice", f"PUT {STATE}"): LOST_REPLY})
    outcome = execute(subject, script, {"alice": write_once})
    written = subject.workspace.log.select(since=before, method="PUT")
    assert [entry.status for entry in written] == [204, 204]
    assert ends(outcome, "alice") == ["lock ok", "put ok", "unlock ok"]


def test_duplicate_delivery_reaches_the_fake_twice(subject: DatabricksSubject) -> None:
    """A write that is delivered twice is one step of the client's and two requests to the fake."""
    before = subject.workspace.log.count
    script = Script(faults={("alice", f"PUT {STATE}"): DUPLICATE})
    outcome = execute(subject, script, {"alice": write_once})
    assert len(subject.workspace.log.select(since=before, method="PUT")) == 2
    assert [choice.step for choice in outcome.choices].count(f"PUT {STATE}") == 1


def test_expired_token_is_the_end_of_one_process(subject: DatabricksSubject) -> None:
    """From that request on a process is refused; the token of another is not touched."""
    script = Script(("alice", None), faults={("alice", f"PUT {STATE}"): EXPIRED})
    outcome = execute(subject, script, {"alice": write_once, "bob": see_holder})
    assert ends(outcome, "alice") == ["lock ok", "put fail unauthorized"]
    assert ends(outcome, "bob") == ["lock fail locked"]
    assert outcome.ending == Ending("done")


def test_crash_leaves_the_lock(subject: DatabricksSubject) -> None:
    """A process that is killed before it writes holds its lock on, and says nothing more."""
    script = Script(("alice", None), faults={("alice", f"PUT {STATE}"): CRASH})
    outcome = execute(subject, script, {"alice": write_once, "bob": see_holder})
    assert ends(outcome, "alice") == ["lock ok", "put info"]
    assert ends(outcome, "bob") == ["lock fail locked"]


def test_crash_ends_the_sessions_of_the_process(postgres_server: PostgresServer) -> None:
    """What a session holds, such as an advisory lock, is gone with the process that is killed."""
    with explored_on(postgres_server, "lakebase", LocksBySession) as broken:
        script = Script(("alice", None), faults={("alice", f"GET {STATE}"): CRASH})

        def look(client: RecordedClient, shared: Shared) -> None:
            take(client)
            client.get("default")

        outcome = execute(broken, script, {"alice": look, "bob": hold})
    assert ends(outcome, "bob") == ["lock ok"]


def test_session_is_lent_again_as_a_fresh_one(subject: DatabricksSubject) -> None:
    """An advisory lock that a process left in its session is not there for the session's next process."""
    pool = subject.world.pool
    question = "SELECT pg_try_advisory_lock(815)"

    def answer(session: SteppedSession) -> object:
        return session.execute(question).fetchone()

    first = pool.lend(checkpoint)
    assert answer(first) == (True,)
    first.close()
    again, other = pool.lend(checkpoint), pool.lend(checkpoint)
    assert [answer(other), answer(again)] == [(True,), (False,)]
    for session in (again, other):
        session.close()


def test_every_run_begins_with_an_empty_table(subject: DatabricksSubject) -> None:
    """A lock that a run leaves is not there in the next one, and the record of the table is."""
    first, second = (execute(subject, Script(), {"alice": hold}) for _ in range(2))
    assert ends(first, "alice") == ends(second, "alice") == ["lock ok"]
    assert [c.step for c in first.choices] == [c.step for c in second.choices] == [RECORD, "sql INSERT"]


def test_pristine_run_begins_with_nothing(postgres_server: PostgresServer) -> None:
    """Schema and table are made in every run anew, by whoever comes first; no order of that fails."""
    with explored_on(postgres_server, "lakebase", pristine=True) as pristine:
        outcomes = [execute(pristine, Script(), {"alice": hold}) for _ in range(2)]
        found = explore(FIRST_LOCK_AGAINST_FIRST_LOCK.program, pristine, Exhaustive(1), limit=1000)
    for outcome in outcomes:
        assert "sql CREATE" in [choice.step for choice in outcome.choices]
    assert (found.status, found.complete) == ("valid", True)
    assert found.schedules > 15


def test_every_schedule_of_two_updates_is_valid(subject: DatabricksSubject) -> None:
    """All schedules with up to two preemptions of two clients that count one state up."""
    found = explore(LOCK_AGAINST_LOCK.program, subject, Exhaustive(2), limit=1000)
    assert (found.status, found.complete, found.reason) == ("valid", True, "")
    assert found.schedules > 25


def test_explorer_finds_the_write_that_looked_too_early(subject: DatabricksSubject) -> None:
    """`checked` fencing looks before it writes: the schedule in which that is too early is found."""
    found = explore(STALE_WRITE_IN_FLIGHT.program, subject, Exhaustive(2), limit=1000)
    assert found.status == "violated"
    assert found.schedule is not None
    assert found.schedule.switches == 3
    steps = [(choice.client, choice.step) for choice in found.schedule.choices]
    assert steps.index(("alice", "sql SELECT")) < steps.index(("bob", "sql DELETE"))
    assert steps.index(("bob", f"PUT {STATE}")) < steps.index(("alice", f"PUT {STATE}"))


class WaitingLocks(LakebaseLocks):
    """Waits inside of Postgres for whoever holds the lock."""

    def acquire(self, key: str, info: LockInfo) -> str:
        self.session: psycopg.Connection[Any] = self._connections._open()
        self.session.execute(b"SELECT pg_advisory_lock(4711)")
        return super().acquire(key, info)

    def release(self, key: str, lock_id: str) -> None:
        super().release(key, lock_id)
        self.session.execute(b"SELECT pg_advisory_unlock(4711)")


class WaitingBackend(LockingBackend):
    lakebase_locks = WaitingLocks


class WaitingDriver(DatabricksDriver):
    backend_class = WaitingBackend


def test_statement_that_waits_in_postgres_lets_others_go_on(postgres_server: PostgresServer) -> None:
    """A client that the database makes wait is no deadlock: the holder goes on, and then it does."""
    with explored_on(postgres_server, "lakebase", WaitingDriver) as waiting:
        script = Script(("alice", "sql DELETE"), ("bob", None))
        outcome = execute(waiting, script, {"alice": hold_once, "bob": hold_once})
    assert outcome.ending == Ending("done")
    assert ends(outcome, "alice") == ends(outcome, "bob") == ["lock ok", "unlock ok"]
    waited = [choice for choice in outcome.choices if choice.step.endswith(", let go")]
    assert [choice.client for choice in waited] == ["bob"]
    assert check(outcome.history).status == "valid"


def test_refused_client_sees_the_holder(subject: DatabricksSubject) -> None:
    """A client that comes between a lock and its release is refused by the holder's name."""

    def ask(client: RecordedClient, shared: Shared) -> None:
        with pytest.raises(Locked) as refusal:
            take(client)
        assert refusal.value.holder is not None
        assert refusal.value.holder.Who == "alice"

    script = Script(("alice", "sql DELETE"), ("bob", None))
    outcome = execute(subject, script, {"alice": hold_once, "bob": ask})
    assert ends(outcome, "bob") == ["lock fail locked"]
