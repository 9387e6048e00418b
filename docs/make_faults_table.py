"""Writes reports/faults.md: what each fault did to each backend, summed over finished runs.

    python docs/make_faults_table.py RUN…

Each RUN is the folder of a run with `--backend`. Runs of one backend are summed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lockproof.report.faults import summary, table

TABLE = Path(__file__).parents[1] / "reports" / "faults.md"
HEAD = """# Faults, by lock backend

What was injected into the network, processes, services and clocks of the reference backend on the fakes, what
it hit, the calls made meanwhile, those whose outcome is unknown to the caller (and told so), and violations.
Made by `python docs/make_faults_table.py RUN…` from these runs:

"""


def documents(folders: Sequence[str]) -> list[dict[str, Any]]:
    """The reports of these runs."""
    return [json.loads(Path(folder, "report.json").read_text(encoding="utf-8")) for folder in folders]


def run_line(report: Mapping[str, Any]) -> str:
    """One run: what was run, and what its tests said."""
    told = [
        f"  - `{result['id'].rpartition('::')[2]}`: {result['status']}, {result['reason']}"
        for backend in report["backends"]
        for result in backend["results"]
        if result["reason"] and result["counts"]
    ]
    names = ", ".join(f"`{backend['id']}`" for backend in report["backends"])
    run = report["run"]
    return "\n".join([f"- {names}, seed {run['seed']}, tier {run['tier']}", *told])


def main(folders: Sequence[str]) -> None:
    reports = documents(folders)
    results: dict[str, list[Any]] = {}
    for report in reports:
        for backend in report["backends"]:
            results.setdefault(backend["id"], []).extend(backend["results"])
    head, *rows = table([{"id": name, "faults": summary(found)} for name, found in sorted(results.items())])
    cells = [head, ["---"] * len(head), *rows]
    lines = [*map(run_line, reports), "", *(f"| {' | '.join(row)} |" for row in cells)]
    TABLE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
