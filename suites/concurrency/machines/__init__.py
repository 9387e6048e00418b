"""State machines: many sequences of calls of several clients, each answer compared with a model."""

from lockproof.suites.concurrency.machines.locks import LockMachine
from lockproof.suites.concurrency.machines.run import (
    MachineRun,
    Profile,
    example_folder,
    profile,
    run_machine,
)
from lockproof.suites.concurrency.machines.states import StateMachine
from lockproof.suites.concurrency.machines.workspaces import WholeMachine, WorkspaceMachine

__all__ = [
    "LockMachine",
    "MachineRun",
    "Profile",
    "StateMachine",
    "WholeMachine",
    "WorkspaceMachine",
    "example_folder",
    "profile",
    "run_machine",
]
