"""What the users of a load run do: which jobs, on which workspaces, with states of which sizes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

KB, MB = 1000, 1000 * 1000


@dataclass(frozen=True)
class Job:
    """One run of `tofu`: its `kind`, the workspace, and the bytes of the state that it would write."""

    kind: str
    workspace: str
    size: int


@dataclass(frozen=True)
class Scenario:
    """A mix of jobs.

    `mix` gives each kind a weight: `init` lists workspaces and reads the state, `output` reads it, `plan`
    reads it under the lock, `apply` reads and writes it under the lock. `spread` tells how many workspaces
    so many users share; the first is `default`. A state has one of `sizes`, in bytes, all equally likely.
    `needs` are the capabilities without which the scenario makes no sense.
    """

    text: str
    mix: Mapping[str, int]
    spread: Callable[[int], int]
    sizes: Sequence[int]
    needs: frozenset[str]

    def draw(self, rng: random.Random, users: int) -> Job:
        """The next job of one of `users`."""
        kind = rng.choices(list(self.mix), weights=list(self.mix.values()))[0]
        number = rng.randrange(max(1, self.spread(users)))
        return Job(kind, "default" if number == 0 else f"load-{number}", rng.choice(self.sizes))


LOCKED = frozenset({"state", "locking"})
NAMED = LOCKED | {"workspaces"}

SCENARIOS: Mapping[str, Scenario] = {
    "hot-lock": Scenario(
        "Everybody applies to one workspace.", {"apply": 1}, lambda users: 1, (10 * KB,), LOCKED
    ),
    "many-workspaces": Scenario(
        "Everybody applies, to as many workspaces as there are users.",
        {"apply": 1},
        lambda users: users,
        (10 * KB, 100 * KB),
        NAMED,
    ),
    "read-heavy": Scenario(
        "Nineteen of twenty jobs only read; four workspaces.",
        {"output": 19, "apply": 1},
        lambda users: 4,
        (10 * KB, 100 * KB),
        NAMED,
    ),
    "ci-fleet": Scenario(
        "Pipelines that init, plan, apply and read outputs; a workspace for every five users.",
        {"init": 20, "plan": 45, "apply": 20, "output": 15},
        lambda users: users // 5,
        (10 * KB, 100 * KB, MB),
        NAMED,
    ),
    "large-states": Scenario(
        "States of 1 to 25 MB, read twice as often as written; a workspace for every four users.",
        {"output": 2, "apply": 1},
        lambda users: users // 4,
        (MB, 5 * MB, 10 * MB, 25 * MB),
        NAMED | {"state.large"},
    ),
}
