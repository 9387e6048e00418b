"""What a certificate demands of the runs it rests on: named, and data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Self

from lockproof.plugin.collect import DEFAULT_SUITES


@dataclass(frozen=True)
class Profile:
    """The demands of `spec/profiles.toml`; `suites` are all that are run, the default ones included."""

    name: str
    purpose: str
    tier: str
    seeds: int
    suites: Sequence[str]
    every_must: bool

    @classmethod
    def of(cls, name: str, entry: Mapping[str, Any]) -> Self:
        """The profile of an entry of the file, which names further suites only."""
        return cls(**{**entry, "name": name, "suites": [*DEFAULT_SUITES, *entry["suites"]]})


@cache
def profiles() -> Mapping[str, Profile]:
    """Every shipped profile by its name."""
    text = files("lockproof.spec").joinpath("profiles.toml").read_text(encoding="utf-8")
    return {name: Profile.of(name, entry) for name, entry in tomllib.loads(text).items()}
