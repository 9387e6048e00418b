"""Sequences of calls that nobody has thought of: state machines, each answer compared with a model.

The clients take turns, so that a failure repeats; what only happens when they run at the same time is for
explored schedules and for races. Each machine runs once for all its tests.
"""

from collections.abc import Callable

import pytest

from lockproof.plugin.fixtures import Backend, history_name
from lockproof.plugin.session import COUNTS
from lockproof.spec import needs, requirement
from lockproof.suites.concurrency.machines import (
    LockMachine,
    MachineRun,
    StateMachine,
    WholeMachine,
    WorkspaceMachine,
    example_folder,
    profile,
    run_machine,
)
from lockproof.suites.concurrency.machines.base import Machine
from lockproof.suites.concurrency.machines.script import Found
from lockproof.suites.concurrency.machines.verdicts import MachineRuns

Require = Callable[..., None]


@pytest.fixture(scope="session")
def machines(backend: Backend, request: pytest.FixtureRequest) -> MachineRuns:
    """The machines on this backend."""
    session = request.config.pluginmanager.getplugin("lockproof.session")

    def run(machine: type[Machine]) -> MachineRun:
        return run_machine(
            machine,
            backend.driver,
            backend=backend.id,
            capabilities=backend.capabilities,
            seed=backend.seed,
            examples=example_folder(backend.histories.parent),
            size=profile(backend.driver.info.target, session.settings.tier),
            timeout=backend.timeout,
            redact=session.redactor.text,
        )

    return MachineRuns(backend.capabilities, run)


@pytest.fixture
def require(backend: Backend, machines: MachineRuns, request: pytest.FixtureRequest) -> Require:
    """`require(requirement, *machines)` raises what the machines say against the requirement."""

    def require(requirement: str, *wanted: type[Machine]) -> None:
        try:
            machines.require(requirement, *wanted)
        except Found as found:
            found.save(backend.histories / history_name(request.node.nodeid))
            raise
        finally:
            if machines.new:
                request.node.user_properties.append((COUNTS, list(machines.new)))
                machines.new.clear()

    return require


@needs("locking")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("LOCK-EXCL-001", marks=requirement("LOCK-EXCL-001")),
        pytest.param("LOCK-ERR-001", marks=requirement("LOCK-ERR-001")),
        pytest.param("LOCK-SCOPE-001", marks=requirement("LOCK-SCOPE-001")),
        pytest.param("LOCK-ID-001", marks=requirement("LOCK-ID-001")),
        pytest.param("LOCK-ID-002", marks=requirement("LOCK-ID-002")),
        pytest.param("LOCK-HOLD-001", marks=requirement("LOCK-HOLD-001")),
        pytest.param("LOCK-HOLD-002", marks=requirement("LOCK-HOLD-002")),
        pytest.param("LOCK-REL-001", marks=requirement("LOCK-REL-001")),
        pytest.param("LOCK-REL-002", marks=requirement("LOCK-REL-002")),
        pytest.param("LOCK-REL-003", marks=requirement("LOCK-REL-003")),
        pytest.param("LOCK-REL-004", marks=requirement("LOCK-REL-004")),
        pytest.param("LOCK-IDEM-001", marks=requirement("LOCK-IDEM-001")),
        pytest.param("LOCK-IDEM-002", marks=requirement("LOCK-IDEM-002")),
        pytest.param("LOCK-IDEM-003", marks=requirement("LOCK-IDEM-003")),
        pytest.param("LOCK-FORCE-001", marks=requirement("LOCK-FORCE-001")),
        pytest.param("LOCK-FORCE-002", marks=[requirement("LOCK-FORCE-002"), needs("locking.release-nonce")]),
        pytest.param("LOCK-CRASH-001", marks=requirement("LOCK-CRASH-001")),
    ],
)
def test_no_sequence_of_lock_calls_violates(name: str, require: Require) -> None:
    """Whatever clients lock, repeat, release, force and lose replies of, the requirement is met."""
    require(name, LockMachine, WholeMachine)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("STATE-ABS-001", marks=requirement("STATE-ABS-001")),
        pytest.param("STATE-RT-001", marks=requirement("STATE-RT-001")),
        pytest.param("STATE-READ-001", marks=requirement("STATE-READ-001")),
        pytest.param("STATE-VIS-001", marks=requirement("STATE-VIS-001")),
        pytest.param("STATE-VIS-002", marks=requirement("STATE-VIS-002")),
        pytest.param("STATE-DUR-001", marks=requirement("STATE-DUR-001")),
        pytest.param("STATE-DEL-001", marks=requirement("STATE-DEL-001")),
        pytest.param("STATE-DEL-002", marks=requirement("STATE-DEL-002")),
        pytest.param("STATE-DEL-003", marks=requirement("STATE-DEL-003")),
    ],
)
def test_no_sequence_of_state_calls_violates(name: str, require: Require) -> None:
    """Whatever clients write, read, delete and lose replies of, the requirement is met."""
    require(name, StateMachine, WorkspaceMachine, WholeMachine)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("WS-DEFAULT-001", marks=requirement("WS-DEFAULT-001")),
        pytest.param("WS-DEFAULT-002", marks=requirement("WS-DEFAULT-002")),
        pytest.param("WS-DEFAULT-003", marks=requirement("WS-DEFAULT-003")),
        pytest.param("WS-CREATE-001", marks=requirement("WS-CREATE-001")),
        pytest.param("WS-LIST-001", marks=requirement("WS-LIST-001")),
        pytest.param("WS-LIST-002", marks=requirement("WS-LIST-002")),
        pytest.param("WS-LIST-003", marks=requirement("WS-LIST-003")),
        pytest.param("WS-LIST-004", marks=requirement("WS-LIST-004")),
        pytest.param("WS-ISO-001", marks=requirement("WS-ISO-001")),
        pytest.param("WS-DEL-001", marks=requirement("WS-DEL-001")),
        pytest.param("WS-DEL-002", marks=requirement("WS-DEL-002")),
        pytest.param("WS-DEL-003", marks=requirement("WS-DEL-003")),
        pytest.param("WS-DEL-004", marks=requirement("WS-DEL-004")),
    ],
)
def test_no_sequence_of_workspace_calls_violates(name: str, require: Require) -> None:
    """Whatever workspaces clients make, list and delete, the requirement is met."""
    require(name, WorkspaceMachine, WholeMachine)


@needs("locking", "state")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("LOCK-EXCL-002", marks=requirement("LOCK-EXCL-002")),
        pytest.param("LOCK-STATE-001", marks=[requirement("LOCK-STATE-001"), needs("state")]),
        pytest.param("LOCK-READ-001", marks=[requirement("LOCK-READ-001"), needs("state")]),
        pytest.param("LOCK-OWN-001", marks=[requirement("LOCK-OWN-001"), needs("state")]),
        pytest.param("LOCK-FENCE-001", marks=requirement("LOCK-FENCE-001")),
        pytest.param("LOCK-FENCE-002", marks=requirement("LOCK-FENCE-002")),
        pytest.param("WS-DEL-005", marks=requirement("WS-DEL-005")),
    ],
)
def test_no_sequence_of_all_calls_violates(name: str, require: Require) -> None:
    """Whatever clients do to locks, states and workspaces by turns, the requirement is met."""
    require(name, WholeMachine)
