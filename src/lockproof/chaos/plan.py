"""Plans: which faults are injected when, as data that a seed repeats."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from lockproof.chaos.nemesis import Nemesis, nemeses

LONGEST = 12
"""Operations after which a fault is healed at the latest."""


@dataclass(frozen=True)
class Step:
    """One fault: injected after so many operations of all clients together, healed so many later."""

    after: int
    nemesis: str
    lasts: int
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Nemesis:
        """The fault, ready to be injected. Raises `LookupError` for a name that is no nemesis."""
        known = nemeses()
        if self.nemesis not in known:
            raise LookupError(f"no nemesis named {self.nemesis!r}: {', '.join(known)}")
        return known[self.nemesis](**self.parameters)

    def __str__(self) -> str:
        shown = "".join(f" {key}={value}" for key, value in self.parameters.items())
        return f"after {self.after} operations, for {self.lasts}: {self.nemesis}{shown}"


@dataclass(frozen=True)
class Plan:
    """The faults of one run, in the order of their beginnings. Equal seeds and arguments give equal plans."""

    seed: int
    steps: Sequence[Step]

    @classmethod
    def draw(
        cls, seed: int, names: Sequence[str], operations: int, clients: Sequence[str] = (), every: int = 8
    ) -> Self:
        """A plan for so many operations, with a fault about every `every` of them: each nemesis of `names`
        once in drawn order, then again, as far as the operations go. Those that strike a client's own
        links or process strike one of `clients`."""
        rng = random.Random(f"plan:{seed}")
        steps: list[Step] = []
        waiting: list[str] = []
        after = rng.randint(2, every)
        while names and after < operations:
            if not waiting:
                waiting = rng.sample(list(names), len(names))
            name = waiting.pop()
            parameters = nemeses()[name].draw(rng)
            if nemeses()[name].on_a_client and clients:
                parameters["on"] = rng.choice(list(clients))
            steps.append(Step(after, name, rng.randint(2, LONGEST), parameters))
            after += rng.randint(every // 2 + 1, every + every // 2)
        return cls(seed, tuple(steps))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"seed": self.seed, "steps": [asdict(step) for step in self.steps]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The plan that `to_json` described. Raises `ValueError`, one line, for anything else."""
        try:
            steps = tuple(
                Step(int(s["after"]), str(s["nemesis"]), int(s["lasts"]), dict(s.get("parameters", {})))
                for s in document["steps"]
            )
            return cls(int(document["seed"]), steps)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a plan of faults: {type(error).__name__}: {error}") from None

    def __str__(self) -> str:
        return "\n".join([f"plan of faults, seed {self.seed}:", *(f"  {step}" for step in self.steps)])
