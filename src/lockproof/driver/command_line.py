"""How a real `tofu` or `terraform` is made to use a scope of a driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class CommandLine:
    """What goes in front of the client's own command, and the variables that its environment needs.

    The client's configuration has an empty `backend "http" {}` block, which both fill in.
    """

    prefix: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


@runtime_checkable
class HasCommandLine(Protocol):
    """A scope that stock clients can use directly, through their `http` backend."""

    def command_line(self, workspace: str) -> CommandLine:
        """How to run a client on the state of `workspace`."""
