"""Do the suites have teeth? Runs every saboteur and says which test caught it.

Three questions, each with an answer of its own in the table:

- Is it caught in a run as anybody starts it? `runs` runs the suites in batches, each in a pytest
  process of its own; `bites` judges their `report.json`.
- Where the bug needs an interleaving: which explored schedule kills it, and does it kill it again
  when it is replayed? `schedules`.
- How often is it caught when nobody chooses the interleaving? The free-running tests of its
  requirement, once with each of so many seeds; anything that is not caught every time is named.

`run_variants` asks the opposite of the correct variants: whatever fails on one is a false alarm.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from lockproof.fakes.saboteurs.catalogue import CorrectVariant, Saboteur, correct_variants, saboteurs
from lockproof.teeth.bites import Bite, bite, catches, chance, free_tests, without_saboteur
from lockproof.teeth.runs import (
    Entry,
    Result,
    Results,
    TeethError,
    batches,
    in_parallel,
    run_batch,
    run_seeds,
)
from lockproof.teeth.schedules import kill, programs_of
from lockproof.teeth.table import Form, saboteur_table, variant_table
from lockproof.teeth.variants import judge_variant

__all__ = [
    "Entry",
    "TeethError",
    "batches",
    "bite",
    "bites",
    "run",
    "run_batch",
    "run_seeds",
    "run_variants",
    "without_saboteur",
]

SEEDED_BATCH = 24  # only a few tests of each are run
Progress = Callable[[str, int, int], object]
E = TypeVar("E", Saboteur, CorrectVariant)


def no_progress(what: str, done: int, of: int) -> None:
    """Tells nobody how far the runs are."""


def run(
    names: Sequence[str] = (),
    *,
    seeds: int = 0,
    form: Form = "text",
    echo: Callable[[str], object] = print,
    progress: Progress = no_progress,
) -> int:
    """Runs the named saboteurs (all when none is named) and prints the table; with `seeds`, also how
    many of so many free-running runs catch each. `progress` is told what is being done, how many are
    done and how many there are.

    The exit code: 0 when each that this machine can run was caught for the right requirement, those of
    timing by a schedule that replays, and, with no names given, every MUST has one; else 1.

    Raises `ValueError` for a name that is not there, `TeethError` when pytest did not get to the end.
    """
    chosen = _named(names, saboteurs(), "saboteur")
    able = [saboteur for saboteur in chosen if saboteur.can_run()]
    found = bites(able, seeds=seeds, progress=progress)
    bare = [] if names else without_saboteur(saboteurs())
    unable = [
        f"{saboteur.name} was not run: it needs {' or '.join(saboteur.programs)} on PATH"
        for saboteur in chosen
        if saboteur not in able
    ]
    echo(saboteur_table(form, found, bare, unable))
    return 0 if all(item.clean for item in found) and not bare else 1


def bites(chosen: Sequence[Saboteur], *, seeds: int = 0, progress: Progress = no_progress) -> list[Bite]:
    """What became of each saboteur, in the order given. Raises `TeethError`."""
    caught: Results = {}
    for part in in_parallel(partial(run_batch, narrow=True), batches(chosen)):
        caught |= part
        progress("saboteurs run", len(caught), len(chosen))
    found = [bite(saboteur, caught[saboteur.name]) for saboteur in chosen]
    timing = [n for n, saboteur in enumerate(chosen) if saboteur.timing]
    for done, n in enumerate(timing, 1):
        tests = [r["test"] for r in catches(chosen[n], caught[chosen[n].name])]
        found[n] = replace(found[n], explored=kill(chosen[n], programs_of(tests)))
        progress("saboteurs of timing explored", done, len(timing))
    if seeds:
        free = {s.name: free_tests(s, caught[s.name]) for s in chosen}
        parts = batches([s for s in chosen if free[s.name]], SEEDED_BATCH)
        runs = _with_seeds(parts, seeds, progress, free)
        found = [
            replace(b, chance=chance(s, runs.get(s.name, [()] * seeds)))
            for b, s in zip(found, chosen, strict=True)
        ]
    return found


def run_variants(
    names: Sequence[str] = (),
    *,
    seeds: int = 0,
    form: Form = "text",
    echo: Callable[[str], object] = print,
    progress: Progress = no_progress,
) -> int:
    """Runs the named correct variants (all when none is named), once or with so many seeds, and prints
    what the suites made of them. The exit code is 0 when nothing failed. Raises as `run` does."""
    chosen = _named(names, correct_variants(), "correct variant")
    runs = _with_seeds(batches(chosen), max(seeds, 1), progress)
    found = [judge_variant(variant, runs[variant.name]) for variant in chosen]
    echo(variant_table(form, found))
    return 1 if any(item.alarms for item in found) else 0


def _with_seeds(
    parts: Sequence[Sequence[Entry]],
    seeds: int,
    progress: Progress,
    tests: Mapping[str, Sequence[str]] | None = None,
) -> Mapping[str, Sequence[Sequence[Result]]]:
    """The results of so many runs by the entries' names, run with the seeds 1, 2, 3, …"""
    found: dict[str, list[list[Result]]] = {}
    for runs in in_parallel(partial(run_seeds, seeds=range(1, seeds + 1), tests=tests), parts):
        found |= {name: [results[name] for results in runs] for name in runs[0]}
        progress(f"run with {seeds} seeds", len(found), sum(map(len, parts)))
    return found


def _named(names: Sequence[str], entries: Sequence[E], what: str) -> list[E]:
    """The entries of these names, or of their classes as reports show them; all when none is named."""
    known = {_plain(entry.name): entry for entry in entries}
    for name in names:
        if _plain(name) not in known:
            near = difflib.get_close_matches(name, [entry.name for entry in entries], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"no {what} named {name}{hint}")
    return [known[_plain(name)] for name in names] or list(entries)


def _plain(name: str) -> str:
    return name.replace("-", "").lower()
