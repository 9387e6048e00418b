"""The tables of saboteurs and of correct variants: as text, as Markdown, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Literal

from lockproof.teeth.bites import Bite
from lockproof.teeth.variants import VariantRuns

Form = Literal["text", "markdown", "json"]
Rows = Sequence[Sequence[str]]
NOT_CAUGHT = "NOT CAUGHT"


def saboteur_table(form: Form, found: Sequence[Bite], bare: Sequence[str], unable: Sequence[str]) -> str:
    """The table of saboteurs. `bare` are the MUSTs without one, `unable` says which could not run."""
    if form == "json":
        rows = [{**asdict(item), "clean": item.clean} for item in found]
        return json.dumps({"saboteurs": rows, "without": list(bare), "not_run": list(unable)}, indent=2)
    return "\n".join([_table(form, _rows(found)), "", *_remarks(found, bare, unable)])


def variant_table(form: Form, found: Sequence[VariantRuns]) -> str:
    """The table of correct variants."""
    if form == "json":
        return json.dumps({"variants": [asdict(item) for item in found]}, indent=2)
    rows = [("correct variant", "runs", "tests passed", "false alarms")]
    rows += [(a.variant, str(a.runs), str(a.passed), str(len(a.alarms))) for a in found]
    alarms = [f"{a.variant}: {alarm}" for a in found for alarm in a.alarms]
    quiet = sum(not a.alarms for a in found)
    return "\n".join([_table(form, rows), "", *alarms, f"{quiet} of {len(found)} correct variants pass"])


def _rows(found: Sequence[Bite]) -> Rows:
    """One row each; the columns that nothing was asked or found for are left out."""
    columns = {
        "saboteur": [item.saboteur for item in found],
        "requirement": [item.requirement for item in found],
        "test that caught it": [item.test.removeprefix("suites/") or NOT_CAUGHT for item in found],
        "seconds": [f"{item.seconds:.3f}" if item.test else "" for item in found],
        "by chance": [f"{i.chance.kills}/{i.chance.seeds}" if i.chance else "" for i in found],
        "explored program": [_program(item) for item in found],
        "schedules": [str(item.explored.schedules) if item.explored else "" for item in found],
        "replays": [_replays(item) for item in found],
    }
    shown = {title: cells for title, cells in columns.items() if any(cells)}
    return [tuple(shown), *zip(*shown.values(), strict=True)]


def _program(item: Bite) -> str:
    return item.explored.program if item.explored else NOT_CAUGHT if item.timing else ""


def _replays(item: Bite) -> str:
    return "" if item.explored is None else "yes" if item.explored.replays else "NO"


def _remarks(found: Sequence[Bite], bare: Sequence[str], unable: Sequence[str]) -> Iterator[str]:
    """What is amiss, and the sums."""
    for item in found:
        for stray in item.strays:
            yield f"{item.saboteur} also fails {stray}, which cites nothing it breaks"
    yield from (f"{name} has no saboteur" for name in bare)
    yield from unable
    for item in found:
        if item.chance is not None and not item.chance.certain:
            times = f"{item.chance.kills} of {item.chance.seeds}"
            yield f"{item.saboteur} is caught by chance only: {times} times"
    timing = [item for item in found if item.timing]
    if timing:
        killed = sum(item.explored is not None and item.explored.replays for item in timing)
        yield f"{killed} of {len(timing)} saboteurs of timing killed by an explored schedule that replays"
    caught, broken = sum(bool(item.test) for item in found), len({item.requirement for item in found})
    yield f"{caught} of {len(found)} saboteurs caught, {broken} requirements broken"


def _table(form: Form, rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows]
    if form == "text":
        return "\n".join("  ".join(row).rstrip() for row in padded)
    head, *body = [f"| {' | '.join(row)} |" for row in padded]
    return "\n".join([head, f"|{'|'.join('-' * (w + 2) for w in widths)}|", *body])
