"""Shows how a stale holder overwrites under `fencing = "checked"`, and that none does under `strict`.

Files API 2.0 replaces a file under no condition: whoever looked at the lock and then stood still writes all
the same. The explorer finds the schedule of two clients that shows it, and shrinks it, into `docs/fencing/`.
The same program, and those that add lost replies, a second write, readers and a deletion, are then explored
under `strict`, on each lock store and by both Files APIs, for at most SECONDS (20) each:

    python docs/make_fencing_failure.py [SECONDS]
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from explored_failure import write_failure

from lockproof.driver.databricks import DatabricksDriver
from lockproof.explore import Exhaustive, Pct, Subject, explore
from lockproof.fakes.saboteurs.strict_clients import ClaimsStrictFencing
from lockproof.suites.concurrency.exploring import LARGE, Watched
from lockproof.suites.concurrency.programs import STALE_WRITE_IN_FLIGHT, Scenario
from lockproof.suites.concurrency.programs_of_fencing import (
    DELETION_AGAINST_STALE_WRITE,
    LOST_REPLY_OF_A_STALE_WRITE,
    OVERTAKEN_TWICE,
    READERS_OF_A_STALE_WRITE,
    STALE_WRITE_UNDER_A_NEW_LOCK,
)

FOLDER = Path(__file__).parent / "fencing"
CHECKED = "py:lockproof.fakes.saboteurs.strict_clients:ClaimsStrictFencing"
"""The reference backend under `checked`, which is made to claim what only `strict` keeps."""
SCENARIOS = (
    STALE_WRITE_IN_FLIGHT,
    STALE_WRITE_UNDER_A_NEW_LOCK,
    LOST_REPLY_OF_A_STALE_WRITE,
    OVERTAKEN_TWICE,
    READERS_OF_A_STALE_WRITE,
    DELETION_AGAINST_STALE_WRITE,
)
VARIANTS = ("lakebase", "delta", "delta-direct")
APIS: Mapping[str, Mapping[str, str]] = {
    "2.0": {"fencing": "strict"},
    "3.0": {"fencing": "strict", "files_api": "3.0"},
}
DRAWS = 1000
LEAST = 25
LONGEST = 60.0
"""So many schedules are run though it takes longer than SECONDS, up to so many seconds."""


@contextmanager
def subject(kind: type[DatabricksDriver], options: Mapping[str, str]) -> Iterator[Subject]:
    """The explored backend of a driver of that kind."""
    with kind.provision(options) as provisioned, kind({**provisioned, **options}).explored() as explored:
        yield explored


def tell_of_checked() -> None:
    """Finds the schedule that overwrites under `checked`. Raises `SystemExit` when there is none."""
    with subject(ClaimsStrictFencing, {"variant": "lakebase"}) as checked:
        found = explore(STALE_WRITE_IN_FLIGHT.program, checked, Exhaustive(), limit=1000)
    opening = [
        'fencing = "checked": a write looks at its lock, and is then sent. Alice stands still in between;',
        "Bob forces her lock, takes it, and writes. Then her write arrives.",
    ]
    write_failure(found, FOLDER, opening, CHECKED, story="checked.txt", timeline="checked.html")


def row_of(scenario: Scenario, strict: Subject, seconds: float) -> tuple[str, int]:
    """What was explored of one program, as cells of the table, and how many schedules that were.

    Raises `SystemExit` for a violation.
    """
    watched = Watched(scenario)
    few = len(scenario.program.clients) < LARGE
    found = explore(
        watched.program,
        strict,
        Exhaustive() if few else Pct(7),
        limit=10**6 if few else DRAWS,
        seconds=seconds,
        least=LEAST,
        longest=max(LONGEST, seconds),
    )
    if found.status == "violated" or found.judged_unknown:
        raise SystemExit(f"{scenario.program.name}: {found.status}, {found.reason}")
    extent = "all with up to 2 preemptions" if found.complete and few else "the first" if few else "drawn"
    cells = (
        scenario.program.name,
        extent,
        str(found.schedules),
        str(found.pruned),
        str(watched.reached),
        "0",
    )
    return " | ".join(cells), found.schedules


def tell_of_strict(seconds: float) -> None:
    """Explores the programs under `strict`."""
    rows, total = [], 0
    for variant in VARIANTS:
        for api, options in APIS.items():
            with subject(DatabricksDriver, {**options, "variant": variant}) as strict:
                for scenario in SCENARIOS:
                    cells, schedules = row_of(scenario, strict, seconds)
                    rows.append(f"| {variant} | {api} | {cells} |")
                    total += schedules
                    print(rows[-1])
    text = [
        "# Strict fencing under a controlled scheduler",
        "",
        f"{total} schedules, none in which a stale holder's write is seen after a newer holder's. `checked`",
        "fails the first program ([its story](checked.txt)). Written by `docs/make_fencing_failure.py`; the",
        "workspace is the fake, the Postgres a real one.",
        "",
        "`to the point`: schedules that show what the program is about, a stale write that is refused or a",
        "reply that is lost. `left early`: schedules that had become like an earlier one.",
        "",
        "| locks | Files API | program | schedules | run | left early | to the point | violations |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    (FOLDER / "strict.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def main() -> None:
    logging.disable(logging.WARNING)
    FOLDER.mkdir(exist_ok=True)
    tell_of_checked()
    tell_of_strict(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)


if __name__ == "__main__":
    main()
