"""The state machines: they find what is broken, repeat it, and leave what is correct alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest

from lockproof.driver import Capabilities, Driver, DriverError, LockInfo, Snapshot
from lockproof.driver.api import Target
from lockproof.driver.memory import MemoryDriver
from lockproof.driver.registry import resolve
from lockproof.fakes.saboteurs.broken import BrokenClient
from lockproof.fakes.saboteurs.catalogue import CorrectVariant, correct_variants, saboteurs
from lockproof.fakes.saboteurs.lock_release import ReleaseIgnoresId
from lockproof.fakes.saboteurs.lock_variants import GenerationIds
from lockproof.spec.outcome import NotRun, Unknown
from lockproof.suites.concurrency.machines import (
    LockMachine,
    MachineRun,
    Profile,
    StateMachine,
    WholeMachine,
    WorkspaceMachine,
    profile,
    run_machine,
)
from lockproof.suites.concurrency.machines.base import Machine
from lockproof.suites.concurrency.machines.run import Ground, bind, example_folder, rules_of
from lockproof.suites.concurrency.machines.script import Found
from lockproof.suites.concurrency.machines.verdicts import MachineRuns

MACHINES = (LockMachine, StateMachine, WorkspaceMachine, WholeMachine)
QUICK = Profile(12, 12, shrink=False)
SHORT = Profile(1, 6, shrink=False, fresh=False)
SEEDS = range(int(os.environ.get("LOCKPROOF_MACHINE_SEEDS", "1")))
"""Seeds of the runs on correct variants; a slow run takes more."""

CAUGHT = {
    "no-lock": (LockMachine, "LOCK-EXCL-001"),
    "refusal-is-internal-error": (LockMachine, "LOCK-ERR-001"),
    "empty-id": (LockMachine, "LOCK-ID-001"),
    "names-the-requester": (LockMachine, "LOCK-HOLD-001"),
    "forgets-operation": (LockMachine, "LOCK-HOLD-002"),
    "leaves-tombstones": (LockMachine, "LOCK-REL-001"),
    "refuses-and-releases": (LockMachine, "LOCK-REL-002"),
    "accepts-old-ids": (LockMachine, "LOCK-REL-003"),
    "semaphore": (LockMachine, "LOCK-IDEM-001"),
    "renews-under-another-id": (LockMachine, "LOCK-IDEM-002"),
    "counts-requests": (LockMachine, "LOCK-IDEM-003"),
    "force-has-no-effect": (LockMachine, "LOCK-FORCE-001"),
    "loss-goes-unnoticed": (LockMachine, "LOCK-FORCE-002"),
    "lock-ends-with-connection": (LockMachine, "LOCK-CRASH-001"),
    "one-lock-for-all-workspaces": (LockMachine, "LOCK-SCOPE-001"),
    "delete-drops-lock": (WholeMachine, "LOCK-STATE-001"),
    "lock-blocks-readers": (WholeMachine, "LOCK-READ-001"),
    "one-write-per-lock": (WholeMachine, "LOCK-OWN-001"),
    "unfenced-writes": (WholeMachine, "LOCK-FENCE-001"),
    "fence-only-while-held": (WholeMachine, "LOCK-FENCE-002"),
    "keeps-lock": (WholeMachine, "WS-DEL-005"),
    "absent-is-document": (StateMachine, "STATE-ABS-001"),
    "loses-last-byte": (StateMachine, "STATE-RT-001"),
    "own-read-cache": (StateMachine, "STATE-VIS-001"),
    "negative-cache": (StateMachine, "STATE-VIS-002"),
    "dies-with-writer": (StateMachine, "STATE-DUR-001"),
    "deletes-for-itself": (StateMachine, "STATE-DEL-001"),
    "reuses-blocks": (StateMachine, "STATE-DEL-002"),
    "deletion-of-nothing": (StateMachine, "STATE-DEL-003"),
    "creates-on-read": (WorkspaceMachine, "STATE-READ-001"),
    "example-inside": (WorkspaceMachine, "WS-DEFAULT-001"),
    "refuses-too-late": (WorkspaceMachine, "WS-DEFAULT-002"),
    "forgets-default": (WorkspaceMachine, "WS-DEFAULT-003"),
    "second-write-counts": (WorkspaceMachine, "WS-CREATE-001"),
    "once-per-writer": (WorkspaceMachine, "WS-LIST-002"),
    "list-cache": (WorkspaceMachine, "WS-LIST-003"),
    "keeps-lock-objects": (WholeMachine, "WS-LIST-004"),
    "deletes-by-prefix": (WorkspaceMachine, "WS-ISO-001"),
    "stays-listed": (WorkspaceMachine, "WS-DEL-001"),
    "tombstone": (WorkspaceMachine, "WS-DEL-002"),
    "makes-by-deleting": (WorkspaceMachine, "WS-DEL-004"),
}
"""Which machine catches which saboteur, and for what."""


def run(
    machine: type[Machine],
    driver: Driver,
    folder: Path,
    *,
    seed: int = 7,
    size: Profile = QUICK,
    backend: str = "my:own",
) -> MachineRun:
    """A run of a machine on a driver, its examples kept in `folder`."""
    capabilities = Capabilities(driver.capabilities())
    return run_machine(
        machine, driver, backend=backend, capabilities=capabilities, seed=seed, examples=folder, size=size
    )


@pytest.mark.parametrize("name", CAUGHT)
def test_machine_catches_what_a_saboteur_breaks(name: str, tmp_path: Path) -> None:
    """Each of these saboteurs is caught, and blamed for what it breaks or cannot keep and nothing else."""
    machine, requirement = CAUGHT[name]
    saboteur = next(saboteur for saboteur in saboteurs() if saboteur.name == name)
    [spec] = resolve(saboteur.backend)
    found = run(machine, spec.factory()(spec.options), tmp_path).tally.found
    assert requirement == saboteur.breaks
    assert requirement in found
    assert found.keys() <= {saboteur.breaks, *saboteur.also}


@pytest.mark.parametrize("variant", correct_variants(), ids=lambda variant: variant.name)
def test_machines_find_nothing_in_a_correct_variant(
    variant: CorrectVariant, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No machine accuses a correct backend, however unusual, and each exercises all its rules on it."""
    [spec] = resolve(variant.backend, variant.options)
    with spec.provision() as provisioned:
        driver = spec.factory()({**spec.options, **provisioned})
        if "service.postgres" in driver.capabilities():
            place = {"postgres_dsn": request.getfixturevalue("postgres_database")}
            driver = spec.factory()({**spec.options, **provisioned, **place})
        slow = driver.info.target == "fake" or "service.postgres" in driver.capabilities()
        size = SHORT if slow else QUICK
        machines = [machine for machine in MACHINES if runs_on(driver, tmp_path).applies(machine)]
        for seed in SEEDS:
            for machine in machines:
                done = run(machine, driver, tmp_path, seed=seed, size=size)
                assert done.tally.found == {}
                assert done.idle == []
        assert machines


def test_bug_is_shrunk_to_a_few_rules(tmp_path: Path) -> None:
    """Who may unlock anybody's lock is caught by a sequence of at most four rules."""
    done = run(LockMachine, ReleaseIgnoresId.driver({}), tmp_path, size=Profile(25, 14))
    found = done.tally.found["LOCK-REL-002"]
    assert len(found.rules) <= 4, found.rules
    assert found.rules[-1] == "unlock_a_wrong_id"
    assert "alice.unlock(" in found.program[-1] or ".unlock, " in found.program[-1]


def test_repeated_request_of_a_released_lock_is_another_acquisition() -> None:
    """Where the backend chooses ids, a request that is repeated after a release gets another one."""
    machine = machine_on(GenerationIds.driver({}))
    machine.lock(who="alice", where=0)
    machine.unlock_and_lose_the_reply(where=0)
    machine.lock_again(where=0, which=0)
    machine.teardown()
    assert [call for call in machine.rules_so_far if call.startswith("lock")] == ["lock", "lock_again"]
    assert len(machine.places[0].released) == 1
    assert machine.places[0].holder is not machine.places[0].released[0]


def machine_on(driver: Driver) -> Any:
    """One example of a lock machine, its rules applied by hand."""
    capabilities = Capabilities(driver.capabilities())
    ground = Ground(driver, capabilities, QUICK, 30.0, {"backend": "sample"}, None)
    return bind(LockMachine, "sample", ground, [name for name, _ in rules_of(LockMachine)])()


class RememberingMachine(LockMachine):
    """Keeps the program of every example."""

    programs: ClassVar[list[Sequence[str]]] = []

    def teardown(self) -> None:
        self.programs.append(tuple(self.script.program))
        super().teardown()


def programs(folder: Path, seed: int) -> list[Sequence[str]]:
    """The programs of all examples of a run."""
    RememberingMachine.programs.clear()
    run(RememberingMachine, MemoryDriver({}), folder, seed=seed)
    return list(RememberingMachine.programs)


def test_seed_repeats_every_example(tmp_path: Path) -> None:
    """The same seed makes the same calls in the same order, another one makes others."""
    first = programs(tmp_path / "one", 7)
    assert len(first) > QUICK.examples
    assert programs(tmp_path / "two", 7) == first
    assert programs(tmp_path / "three", 8)[1:] != first[1:]


def test_what_failed_is_tried_first_in_the_next_run(tmp_path: Path) -> None:
    """A later run of the same machine on the same backend begins with the example that failed, whatever
    its seed; another backend has examples of its own."""
    driver = WithoutTour.driver({})
    assert run(Untoured, driver, tmp_path, size=Profile(60, 14, shrink=False)).tally.found
    nothing_new = Profile(1, 14, shrink=False)
    assert run(Untoured, driver, tmp_path, seed=8, size=nothing_new).tally.found
    assert not run(Untoured, driver, tmp_path, seed=8, size=nothing_new, backend="my-own").tally.found


class Untoured(LockMachine):
    """Has nothing but what Hypothesis chooses."""

    tour = ()


class WithoutTour(BrokenClient):
    """Grants every third request, held or not."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        with self.store.mutex:
            self.store.states["asked"] = self.store.states.get("asked", b"") + b"x"
            if len(self.store.states["asked"]) % 3 == 0:
                self.store.locks.pop(workspace, None)
        return super().lock(workspace, info)


def test_nothing_is_written_into_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hypothesis keeps examples where it is told to, and makes no folder of its own elsewhere."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    run(LockMachine, ReleaseIgnoresId.driver({}), tmp_path / "examples", size=Profile(25, 14))
    assert list(here.iterdir()) == []
    assert any((tmp_path / "examples").iterdir())


def test_examples_are_kept_beside_the_run_folders(tmp_path: Path) -> None:
    """Examples outlive a run: in `.lockproof`, or in the folder that the user chose."""
    assert example_folder(tmp_path / ".lockproof" / "run-1") == tmp_path / ".lockproof" / "examples"
    assert example_folder(tmp_path / "mine") == tmp_path / "mine" / "examples"


def runs_on(driver: Driver, folder: Path) -> MachineRuns:
    """All machines on a driver, as the suite runs them."""
    return MachineRuns(
        Capabilities(driver.capabilities()), lambda machine: run(machine, driver, folder, size=QUICK)
    )


class ThrottledUnlocks(BrokenClient):
    """Never gets to a release."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        raise DriverError("throttled", True, "too many requests")


class ThrottledLocks(BrokenClient):
    """Never gets to a lock."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        raise DriverError("throttled", True, "too many requests")


def test_rule_that_was_never_applied_is_unknown(tmp_path: Path) -> None:
    """Where a rule was never answered, every test of the machine is unknown and names it, and the reason."""
    runs = runs_on(ThrottledUnlocks.driver({}), tmp_path)
    with pytest.raises(Unknown, match=r"LockMachine never applied .*unlock.*too many requests"):
        runs.require("LOCK-EXCL-001", LockMachine)


def test_lock_that_was_never_refused_is_unknown(tmp_path: Path) -> None:
    """Without a refusal nothing is known of exclusion."""
    runs = runs_on(ThrottledLocks.driver({}), tmp_path)
    done = runs.of(LockMachine)
    done.tally.rules.update(done.applicable)
    done.tally.refusals = 0
    with pytest.raises(Unknown, match="LockMachine saw no refusal"):
        runs.require("LOCK-EXCL-001", LockMachine)


def test_requirement_that_was_never_checked_is_unknown(tmp_path: Path) -> None:
    """A machine says nothing of what it never looked at."""
    runs = runs_on(MemoryDriver({}), tmp_path)
    runs.require("LOCK-EXCL-001", LockMachine)
    with pytest.raises(Unknown, match="no sequence of calls came to a point that would show it"):
        runs.require("STATE-BIG-001", LockMachine)


def test_requirement_behind_a_violation_was_not_run(tmp_path: Path) -> None:
    """What cannot be reached without violating another requirement is not run; the other one is found."""
    runs = runs_on(NoAnswer.driver({}), tmp_path)
    with pytest.raises(Found, match="is refused get"):
        runs.require("STATE-ABS-001", StateMachine)
    with pytest.raises(NotRun, match="violates STATE-ABS-001 before"):
        runs.require("STATE-DEL-001", StateMachine)


class NoAnswer(BrokenClient):
    """A read is always an error."""

    def get(self, workspace: str) -> Snapshot | None:
        raise DriverError("internal", True, "no answer")


def test_backend_without_locks_has_no_lock_machine(tmp_path: Path) -> None:
    """Rules that the capabilities do not ask for are not missed."""

    class States(MemoryDriver):
        def capabilities(self) -> Capabilities:
            return Capabilities({"state"})

    done = run(StateMachine, States({}), tmp_path)
    assert done.idle == []
    assert "delete" not in done.applicable
    assert runs_on(States({}), tmp_path).applies(WholeMachine) is False


def test_profile_follows_target_and_tier() -> None:
    """Real targets get few examples and no shrinking, later tiers more of everything."""
    assert not profile("real", "default").shrink
    assert not profile("real", "full").shrink
    for target in get_args(Target):
        assert profile(target, "default").examples < profile(target, "full").examples
