"""Runs of the suites against saboteurs and correct variants: in batches, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from lockproof.driver.registry import resolve
from lockproof.fakes.saboteurs.catalogue import CorrectVariant, Saboteur
from lockproof.plugin.collect import suite_root

Entry = Saboteur | CorrectVariant
Result = Mapping[str, Any]
"""One of `results` of a backend in `report.json`."""
Results = dict[str, list[Result]]
"""The results of one run by the names of its entries."""
T = TypeVar("T")

BATCH = 8  # pytest's start is paid once for so many
JOBS = max(2, os.cpu_count() or 2)
RUN_SECONDS = 600  # for one run of one batch
QUIET = ("-q", "--tb=no", "-pno:cacheprovider")


class TeethError(Exception):
    """A batch could not be run; the message says what pytest said."""


def batches(entries: Iterable[Entry], size: int = BATCH) -> list[list[Entry]]:
    """Entries that may share a process: same suites and requirements, and no options of their own."""
    alike: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        alike[entry.suites, entry.only, entry.name if entry.options else ""].append(entry)
    return [same[at : at + size] for same in alike.values() for at in range(0, len(same), size)]


def in_parallel(run: Callable[[Sequence[Entry]], T], parts: Sequence[Sequence[Entry]]) -> Iterator[T]:
    """What `run` makes of each batch, in their order."""
    with ThreadPoolExecutor(JOBS) as pool:
        yield from pool.map(run, parts)


def run_batch(entries: Sequence[Entry], *, narrow: bool = False, options: Sequence[str] = ()) -> Results:
    """Runs every entry's suites against its backend, in one pytest process: the results of its tests
    by the entry's name. `narrow` leaves out tests that cite nothing of what the entries break; `options` are
    further ones for pytest.

    Raises `TeethError` when the run ends without a report, or without one of its backends.
    """
    broken = {entry.breaks: None for entry in entries if isinstance(entry, Saboteur)}
    only = broken if narrow else entries[0].only
    words = [*_words(entries), *(f"--backend-req={name}" for name in only), *options]
    return _run(entries, [words])[0]


def run_seeds(
    entries: Sequence[Entry], seeds: Iterable[int], tests: Mapping[str, Sequence[str]] | None = None
) -> list[Results]:
    """As `run_batch`, once with each seed, in one process, so that Python's start is paid once.

    `tests` are the ids, without the backend, of those that are run against the entries of these names.
    """
    words = _words(entries)
    if tests is None:
        words += [f"--backend-req={name}" for name in entries[0].only]
    runs = [[*words, f"--backend-seed={seed}"] for seed in seeds]
    if tests is not None:
        ids = [path for entry in entries for test in tests[entry.name] for path in _paths(entry, test)]
        runs = [[*run, "--", *ids] for run in runs]
    return _run(entries, runs)


def _paths(entry: Entry, test: str) -> Iterator[str]:
    """What pytest is to be given to run the test against the entry's backend, or its variants."""
    file, _, name = test.partition("::")
    name, _, parameters = name.partition("[")
    for spec in resolve(entry.backend, entry.options):
        inside = f"{spec.id}-{parameters}" if parameters else f"{spec.id}]"
        yield f"{suite_root().parent / file}::{name}[{inside}"


def _run(entries: Sequence[Entry], runs: Sequence[list[str]]) -> list[Results]:
    with tempfile.TemporaryDirectory(prefix="lockproof-teeth-") as folder:
        reports = [Path(folder, f"run-{n}") for n in range(len(runs))]
        n = len(entries)  # backends come first, then options
        orders = [
            [*words[:n], f"--backend-report={report}", *words[n:]]
            for words, report in zip(runs, reports, strict=True)
        ]
        command = [sys.executable, "-m", "lockproof.teeth.repeat"]
        seconds = RUN_SECONDS * len(runs)
        try:
            process = subprocess.run(
                command,
                input=json.dumps(orders),
                cwd=folder,
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=seconds,
            )
            documents = [json.loads((at / "report.json").read_text(encoding="utf-8")) for at in reports]
        except subprocess.TimeoutExpired:
            raise TeethError(f"no end within {seconds} s: {_names(entries)}") from None
        except FileNotFoundError:
            said = " ".join((process.stderr or process.stdout).split()[-60:])
            raise TeethError(f"no report of {_names(entries)}: {said}") from None
    return [_by_entry(entries, document) for document in documents]


def _by_entry(entries: Sequence[Entry], document: Mapping[str, Any]) -> Results:
    by_backend = {backend["id"]: backend["results"] for backend in document["backends"]}
    found: Results = {}
    for entry in entries:
        own = [r for spec in resolve(entry.backend, entry.options) for r in by_backend.get(spec.id, [])]
        if not own:
            raise TeethError(f"no test ran against {entry.name} ({entry.backend})")
        found[entry.name] = own
    return found


def _words(entries: Sequence[Entry]) -> list[str]:
    """What stands behind `lockproof run`, without requirements and the folder of the report."""
    return [
        *(entry.backend for entry in entries),
        f"--backend-suite={','.join(entries[0].suites)}",
        *(f"--backend-opt={key}={value}" for key, value in entries[0].options.items()),
        *QUIET,
    ]


def _environment() -> dict[str, str]:
    """Ours without what would change a pytest run."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("LOCKPROOF_", "PYTEST_"))}


def _names(entries: Sequence[Entry]) -> str:
    return ", ".join(entry.name for entry in entries)
