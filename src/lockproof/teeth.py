"""Do the suites have teeth? Runs every saboteur and says which test caught it.

A saboteur is caught when a test that cites the requirement it breaks fails; `unknown` and `error`
catch nothing. A test that does not pass although every requirement it cites is one that the saboteur
keeps is a stray: then saboteur or test is not about what it says. Saboteurs run in batches, each in a
pytest process of its own, and are judged by the `report.json` of that run. The table runs the tests
of the requirements that a batch breaks; the project's own tests run every test of the suites.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lockproof.cli.run import arguments
from lockproof.driver.registry import resolve
from lockproof.fakes.saboteurs.catalogue import CorrectVariant, Saboteur, saboteurs
from lockproof.spec import requirements

Entry = Saboteur | CorrectVariant
Result = Mapping[str, Any]
"""One of `results` of a backend in `report.json`."""

BATCH = 8  # pytest's start is paid once for so many
JOBS = max(2, os.cpu_count() or 2)
RUN_SECONDS = 600
GOOD = frozenset({"pass", "skip", "disabled", "not-run"})


class TeethError(Exception):
    """A batch could not be run; the message says what pytest said."""


@dataclass(frozen=True)
class Bite:
    """What became of one saboteur: `test` caught it after `seconds`, or is empty; `strays` failed
    though the saboteur breaks nothing of what they cite."""

    saboteur: str
    requirement: str
    test: str
    seconds: float
    strays: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Caught, and by nothing else than what it breaks."""
        return bool(self.test) and not self.strays


def run(
    names: Sequence[str] = (),
    *,
    as_json: bool = False,
    echo: Callable[[str], object] = print,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> int:
    """Runs the named saboteurs (all when none is named) and prints the table; `progress` is told how
    many of how many have been run.

    The exit code: 0 when each that this machine can run was caught for the right requirement and, with
    no names given, every MUST has one; else 1. Raises `ValueError` for a name that is not there,
    `TeethError` when pytest did not get to the end.
    """
    chosen = [_named(name) for name in names] or list(saboteurs())
    unable = [saboteur for saboteur in chosen if not saboteur.can_run()]
    found = bites([saboteur for saboteur in chosen if saboteur.can_run()], progress)
    bare = [] if names else without_saboteur()
    if as_json:
        document = {"saboteurs": [asdict(bite) for bite in found], "without": bare}
        echo(json.dumps({**document, "not_run": [saboteur.name for saboteur in unable]}, indent=2))
    else:
        for line in table(found, bare):
            echo(line)
        for saboteur in unable:
            echo(f"{saboteur.name} was not run: it needs {' or '.join(saboteur.programs)} on PATH")
    return 0 if all(bite.clean for bite in found) and not bare else 1


def without_saboteur() -> list[str]:
    """Every MUST that no saboteur breaks."""
    broken = {saboteur.breaks for saboteur in saboteurs()}
    return [name for name, r in requirements().items() if r.level == "MUST" and name not in broken]


def bites(
    chosen: Sequence[Saboteur], progress: Callable[[int, int], object] = lambda done, of: None
) -> list[Bite]:
    """What became of each saboteur, in the order given. Raises `TeethError`."""
    found: dict[str, list[Result]] = {}
    with ThreadPoolExecutor(JOBS) as pool:
        for part in pool.map(partial(run_batch, narrow=True), batches(chosen)):
            found |= part
            progress(len(found), len(chosen))
    return [bite(saboteur, found[saboteur.name]) for saboteur in chosen]


def bite(saboteur: Saboteur, observed: Iterable[Result]) -> Bite:
    """Judges one saboteur by the results of its tests."""
    broken = {saboteur.breaks, *saboteur.also}
    caught: Result | None = None
    strays = []
    for result in observed:
        cited = set(result["requirements"])
        if result["status"] == "fail" and saboteur.breaks in cited:
            caught = caught or result
        if result["status"] not in GOOD and not cited & broken:
            strays.append(result["test"])
    test, seconds = (caught["test"], caught["duration"]) if caught else ("", 0.0)
    return Bite(saboteur.name, saboteur.breaks, test, seconds, tuple(strays))


def table(found: Sequence[Bite], bare: Sequence[str]) -> list[str]:
    """The saboteur table as lines of text: saboteur, requirement, test, seconds, and what is amiss."""
    rows = [("saboteur", "requirement", "test that caught it", "seconds")]
    for item in found:
        test = item.test.removeprefix("suites/") or "NOT CAUGHT"
        rows.append((item.saboteur, item.requirement, test, f"{item.seconds:.3f}" if item.test else ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    for item in found:
        lines += [
            f"{item.saboteur} also fails {stray}, which cites nothing it breaks" for stray in item.strays
        ]
    lines += [f"{name} has no saboteur" for name in bare]
    caught = sum(bool(item.test) for item in found)
    broken = len({item.requirement for item in found})
    return [*lines, f"{caught} of {len(found)} saboteurs caught, {broken} requirements broken"]


def batches(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries that may share a process: same suites and requirements, and no options of their own."""
    alike: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        alike[entry.suites, _only(entry), entry.name if entry.options else ""].append(entry)
    return [same[at : at + BATCH] for same in alike.values() for at in range(0, len(same), BATCH)]


def run_batch(entries: Sequence[Entry], *, narrow: bool = False) -> dict[str, list[Result]]:
    """Runs every entry's suites against its backend, in one pytest process: the results of its tests
    by the entry's name. `narrow` leaves out tests that cite nothing of what the entries break.

    Raises `TeethError` when the run ends without a report, or without one of its backends.
    """
    words = [entry.backend for entry in entries]
    words += [f"--backend-suite={','.join(entries[0].suites)}"]
    words += [f"--backend-opt={key}={value}" for key, value in entries[0].options.items()]
    broken = {entry.breaks: None for entry in entries if isinstance(entry, Saboteur)}
    words += [f"--backend-req={name}" for name in (broken if narrow else _only(entries[0]))]
    words += ["-q", "--tb=no", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory(prefix="lockproof-teeth-") as folder:
        report = Path(folder, "report")
        command = [sys.executable, "-m", "pytest", *arguments((*words, f"--backend-report={report}"))]
        try:
            process = subprocess.run(
                command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=RUN_SECONDS
            )
            document = json.loads((report / "report.json").read_text(encoding="utf-8"))
        except subprocess.TimeoutExpired:
            raise TeethError(f"no end within {RUN_SECONDS} s: {_names(entries)}") from None
        except FileNotFoundError:
            said = " ".join((process.stderr or process.stdout).split()[-60:])
            raise TeethError(f"no report of {_names(entries)}: {said}") from None
    by_backend = {backend["id"]: backend["results"] for backend in document["backends"]}
    found = {}
    for entry in entries:
        own = [r for spec in resolve(entry.backend, entry.options) for r in by_backend.get(spec.id, [])]
        if not own:
            raise TeethError(f"no test ran against {entry.name} ({entry.backend})")
        found[entry.name] = own
    return found


def _environment() -> dict[str, str]:
    """Ours without what would change a pytest run."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("LOCKPROOF_", "PYTEST_"))}


def _only(entry: Entry) -> tuple[str, ...]:
    return entry.only if isinstance(entry, Saboteur) else ()


def _names(entries: Sequence[Entry]) -> str:
    return ", ".join(entry.name for entry in entries)


def _named(name: str) -> Saboteur:
    known = {saboteur.name: saboteur for saboteur in saboteurs()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"no saboteur named {name}{hint}")
    return known[name]
