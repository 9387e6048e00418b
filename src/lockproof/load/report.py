"""What a load run leaves: `load.json` (schema: `load.schema.json`), `load.md`, and `.hgrm` percentiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from lockproof.checkers import Verdict
from lockproof.driver.api import DriverInfo
from lockproof.load.measure import Latencies, Measured
from lockproof.load.plan import Plan
from lockproof.load.scenarios import SCENARIOS

SCHEMA_VERSION = 1
COLUMNS = ("n", "mean", "p50", "p95", "p99", "p99_9", "max")


def schema() -> dict[str, Any]:
    """The JSON Schema (Draft 2020-12) of `load.json`."""
    text = files("lockproof.load").joinpath("load.schema.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def build(
    plan: Plan,
    info: DriverInfo,
    command: str,
    measured: Measured,
    verdict: Verdict,
    cost: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The report of a run, as `load.json` has it."""
    seconds = measured.seconds
    return {
        "schema": SCHEMA_VERSION,
        "backend": {"id": plan.backend, **asdict(info)},
        "command": command,
        "run": {
            "scenario": plan.scenario,
            "load": "open" if plan.rate else "closed",
            "rate": plan.rate,
            "users": plan.users,
            "processes": plan.workers,
            "duration": plan.duration,
            "seed": plan.seed,
            "retry_every": plan.retry_every,
        },
        "history": {
            "verdict": verdict.status,
            "headline": verdict.headline,
            "anomaly": verdict.details.get("anomaly"),
            "operations": measured.operations,
            "files": [path.name for path in sorted(plan.histories.glob("*.jsonl"))],
        },
        "throughput": {
            "seconds": round(seconds, 3),
            "jobs": measured.done,
            "jobs_per_second": round(measured.done / seconds, 3) if seconds else None,
            "operations_per_second": round(measured.operations / seconds, 3) if seconds else None,
            "jobs_each_second": _series(measured),
        },
        "jobs": [
            {
                "kind": kind,
                "outcomes": dict(sorted(measured.jobs[kind].items())),
                "response_ms": measured.response[kind].to_json(),
            }
            for kind in sorted({*measured.jobs, *measured.response})
        ],
        "response_ms": measured.responses().to_json(),
        "calls": [
            {
                "op": op,
                "outcomes": dict(sorted(measured.calls[op].items())),
                "service_ms": measured.service[op].to_json(),
            }
            for op in sorted(measured.calls)
        ],
        "not_begun": {"n": measured.unserved, "oldest_ms": _ms(measured.oldest)},
        "locking": _locking(measured),
        "cost": dict(cost) if cost else None,
    }


def write(folder: Path, document: Mapping[str, Any], measured: Measured) -> None:
    """Writes all files of the report into `folder`."""
    (folder / "load.json").write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", "utf-8")
    (folder / "load.md").write_text(markdown(document), "utf-8")
    percentiles = folder / "percentiles"
    percentiles.mkdir(exist_ok=True)
    for op, latencies in measured.service.items():
        _hgrm(percentiles / f"service-{op}.hgrm", latencies)
    _hgrm(percentiles / "response.hgrm", measured.responses())
    _hgrm(percentiles / "acquiring.hgrm", measured.acquiring)


def markdown(document: Mapping[str, Any]) -> str:
    """`load.md`: the target first, the verdict, then the figures."""
    backend, run, history = document["backend"], document["run"], document["history"]
    arriving = f"open load, {run['rate']:g} jobs/s arrive" if run["rate"] else "closed load"
    lines = [
        f"# Load on `{backend['id']}` ({backend['target']}): {history['verdict']}",
        "",
        f"{backend['implementation'] or backend['name']}, version {backend['version']}. "
        f"Scenario `{run['scenario']}`: {SCENARIOS[run['scenario']].text} {run['users']} users in "
        f"{run['processes']} process(es), {arriving}, seed {run['seed']}.",
        "",
        f"History of {history['operations']} calls: **{history['verdict']}**. {history['headline']}",
        "",
        f"{document['throughput']['jobs']} jobs done in {document['throughput']['seconds']:.1f} s "
        f"({_shown(document['throughput']['jobs_per_second'])}/s), "
        f"{_shown(document['throughput']['operations_per_second'])} calls/s.",
        "",
        "## Jobs: from when they were due to their end (ms)",
        "",
        *_table("job", [(j["kind"], j["outcomes"], j["response_ms"]) for j in document["jobs"]]),
    ]
    if document["not_begun"]["n"]:
        lines += [
            "",
            f"{document['not_begun']['n']} jobs were due and nobody was free to begin them, the oldest for "
            f"{document['not_begun']['oldest_ms']:.0f} ms; they count with what they had waited at the end.",
        ]
    lines += [
        "",
        "## Calls: service time (ms)",
        "",
        *_table("call", [(c["op"], c["outcomes"], c["service_ms"]) for c in document["calls"]]),
    ]
    if (locking := document["locking"]) is not None:
        lines += ["", "## Locks", "", *_told_locking(locking)]
    if (cost := document["cost"]) is not None:
        each = ", ".join(f"{n:g} of {name}" for name, n in cost["per_acquisition"].items())
        lines += ["", "## Cost", "", f"{cost['source']}: per lock granted {each}."]
    return "\n".join([*lines, "", "## Repeat", "", f"    {document['command']}", ""])


def _locking(measured: Measured) -> dict[str, Any] | None:
    fairness = measured.fairness()
    if fairness is None:
        return None
    granted, asked = measured.granted.total(), measured.calls["lock"].total()
    starved = max(measured.starved, default=(0, ""))
    longest, who = max(measured.longest, starved)
    return {
        "granted": granted,
        "attempts_per_grant": round(asked / granted, 3) if granted else None,
        "acquiring_ms": measured.acquiring.to_json(),
        "never_granted": len(measured.starved),
        "longest_wait_ms": _ms(longest),
        "longest_waiter": who,
        "longest_waiter_served": longest > starved[0],
        "fairness": fairness,
    }


def _told_locking(locking: Mapping[str, Any]) -> list[str]:
    fairness = locking["fairness"]
    served = "was served" if locking["longest_waiter_served"] else "was never served"
    return [
        *_table("time to acquire (ms)", [("lock", {}, locking["acquiring_ms"])]),
        "",
        f"{locking['granted']} locks granted, {_shown(locking['attempts_per_grant'])} attempts for each; "
        f"{locking['never_granted']} were still waited for at the end and count with the time until then. "
        f"Longest wait: {locking['longest_wait_ms']:.0f} ms ({locking['longest_waiter']}, who {served}).",
        "",
        f"Fairness over {fairness['users']} users (Jain's index, 1 is even): {_shown(fairness['jain'])}; "
        f"fewest {fairness['fewest']}, median {fairness['median']}, most {fairness['most']} locks for one.",
    ]


def _table(name: str, rows: Sequence[tuple[str, Mapping[str, int], Mapping[str, Any]]]) -> list[str]:
    lines = [f"| {name} | {' | '.join(COLUMNS)} | others |", f"|---|{'---:|' * len(COLUMNS)}---|"]
    for label, outcomes, figures in rows:
        others = ", ".join(f"{kind} {n}" for kind, n in outcomes.items() if kind not in {"ok", "done"})
        lines.append(f"| {label} | {' | '.join(_shown(figures[c]) for c in COLUMNS)} | {others} |")
    return lines


def _series(measured: Measured) -> list[int]:
    seconds = range(min(measured.ended, default=0), max(measured.ended, default=-1) + 1)
    return [measured.ended[second] for second in seconds]


def _hgrm(path: Path, latencies: Latencies) -> None:
    """The percentile distribution in the format of HdrHistogram's plotters, in milliseconds."""
    if latencies.histogram.get_total_count():
        with path.open("wb") as file:
            latencies.histogram.output_percentile_distribution(file, 1000.0)


def _ms(ns: float) -> float:
    return round(ns / 1e6, 3)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, int) or abs(value) < 1 else f"{value:.4g}"
