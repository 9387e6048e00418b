"""The decorators that tie a test to the registry and to the options of a run."""

from __future__ import annotations

from typing import Literal

import pytest

Tier = Literal["smoke", "default", "full", "soak"]
TIERS: tuple[Tier, ...] = ("smoke", "default", "full", "soak")


def requirement(*ids: str) -> pytest.MarkDecorator:
    """The requirements that a test proves or refutes. Their capabilities gate it."""
    return pytest.mark.requirement(*ids)


def needs(*names: str) -> pytest.MarkDecorator:
    """Capabilities that a test needs beyond those of its requirements."""
    return pytest.mark.needs(*names)


def faults(*families: str, destructive: bool = False) -> pytest.MarkDecorator:
    """The families of faults that a test injects (`lockproof.chaos.nemesis.FAMILIES`), which
    `--backend-faults` restricts. `destructive`: it hurts a service, and not only its own link or process;
    on a real target that needs `--backend-allow-destructive`."""
    return pytest.mark.faults(*families, destructive=destructive)


def tier(name: Tier) -> pytest.MarkDecorator:
    """The first tier that a test runs in (`default` where not given); later tiers run it too."""
    return pytest.mark.tier(name)
