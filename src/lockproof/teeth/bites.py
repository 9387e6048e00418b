"""Judges a saboteur by what became of its tests.

A saboteur is caught when a test that cites the requirement it breaks fails; `unknown` and `error`
catch nothing. A test that does not pass although every requirement it cites is one that the saboteur
keeps is a stray: then saboteur or test is not about what it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lockproof.fakes.saboteurs.catalogue import Saboteur
from lockproof.spec import requirements
from lockproof.teeth.runs import Result
from lockproof.teeth.schedules import Kill

EXPLORED = "suites/concurrency/test_schedules.py"
"""The tests that choose the interleaving. State machines choose none: they draw calls, by the seed."""
GOOD = frozenset({"pass", "skip", "disabled", "not-run"})


@dataclass(frozen=True)
class Chance:
    """How many of so many runs, each with a seed of its own, caught a saboteur without choosing the
    interleaving."""

    kills: int
    seeds: int

    @property
    def certain(self) -> bool:
        return self.kills == self.seeds


@dataclass(frozen=True)
class Bite:
    """What became of one saboteur: `test` caught it after `seconds`, or is empty; `strays` failed
    though the saboteur breaks nothing of what they cite.

    `explored` is the schedule that kills a saboteur of timing, `None` for any other one and for one
    that survives; `chance` is `None` where nobody asked for seeds.
    """

    saboteur: str
    requirement: str
    test: str
    seconds: float
    strays: tuple[str, ...] = ()
    timing: bool = False
    explored: Kill | None = None
    chance: Chance | None = None

    @property
    def clean(self) -> bool:
        """Caught, by nothing else than what it breaks, and where it takes timing by a schedule that
        replays."""
        replays = self.explored is not None and self.explored.replays
        return bool(self.test) and not self.strays and (replays or not self.timing)


def bite(saboteur: Saboteur, observed: Iterable[Result]) -> Bite:
    """Judges one saboteur by the results of its tests. Where it takes timing, a test that chooses the
    interleaving counts before one that is lucky."""
    results = list(observed)
    broken = {saboteur.breaks, *saboteur.also}
    caught = catches(saboteur, results)
    if saboteur.timing:
        caught.sort(key=lambda result: not is_explored(result))
    strays = [r["test"] for r in results if r["status"] not in GOOD and not broken & set(r["requirements"])]
    test, seconds = (caught[0]["test"], caught[0]["duration"]) if caught else ("", 0.0)
    return Bite(saboteur.name, saboteur.breaks, test, seconds, tuple(strays), saboteur.timing)


def catches(saboteur: Saboteur, results: Iterable[Result]) -> list[Result]:
    """The failures of tests that cite what the saboteur breaks."""
    return [r for r in results if r["status"] == "fail" and saboteur.breaks in r["requirements"]]


def free_tests(saboteur: Saboteur, results: Iterable[Result]) -> list[str]:
    """The ids of the tests of what the saboteur breaks that apply and leave the interleaving to chance."""
    applied = (r for r in results if saboteur.breaks in r["requirements"] and r["status"] != "skip")
    return [result["test"] for result in applied if not is_explored(result)]


def is_explored(result: Result) -> bool:
    """Whether the test chooses the interleaving."""
    return bool(result["test"].partition("::")[0].endswith(EXPLORED))


def chance(saboteur: Saboteur, runs: Sequence[Iterable[Result]]) -> Chance:
    """In how many of the runs a test that leaves the interleaving to chance caught the saboteur."""
    kills = sum(not all(map(is_explored, catches(saboteur, results))) for results in runs)
    return Chance(kills, len(runs))


def without_saboteur(saboteurs: Iterable[Saboteur]) -> list[str]:
    """Every MUST that none of the saboteurs breaks."""
    broken = {saboteur.breaks for saboteur in saboteurs}
    return [name for name, r in requirements().items() if r.level == "MUST" and name not in broken]
