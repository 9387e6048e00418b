"""Whether runs earn a certificate, and if not, why: the same when it is issued and when it is verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lockproof.certificate.profile import Profile
from lockproof.report.status import STATUSES, verdict
from lockproof.spec import requirements, requirements_digest

Kind = Literal["violated", "broke", "undecided"]
Report = Mapping[str, Any]

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("fail", "xpass", "xfail"), "violated"),
    "error": "broke",
    **dict.fromkeys(("unknown", "not-run", "flaky", "disabled"), "undecided"),
}
SAME = ("id", "target", "driver", "capabilities", "given")


@dataclass(frozen=True)
class Objection:
    """Why runs earn no certificate. `violated`: the backend did what it must not, or not what it should;
    `broke`: a test or the bench did not work; `undecided`: something was not shown."""

    kind: Kind
    text: str


def objections(report: Report, profile: Profile) -> list[Objection]:
    """What stands between one run of one backend and a certificate; empty when nothing does."""
    return [*_of_run(report["run"], profile), *_of_backend(report, profile)]


def levels_of(report: Report) -> dict[str, str]:
    """The levels of the requirements as the report has them."""
    return {r["id"]: r["level"] for backend in report["backends"] for r in backend["requirements"]}


def between(reports: Sequence[Report], profile: Profile) -> list[Objection]:
    """What stands between runs that are all well and one certificate for all of them."""
    found = []
    seeds = [report["run"]["seed"] for report in reports]
    if len(set(seeds)) < max(profile.seeds, len(seeds)):
        had = ", ".join(map(str, seeds))
        found.append(f"profile {profile.name} wants {profile.seeds} runs with different seeds, not {had}")
    first = reports[0]
    for report in reports[1:]:
        names = f"the runs with seeds {first['run']['seed']} and {report['run']['seed']}"
        backend, other = first["backends"][0], report["backends"][0]
        found += [f"{names} differ in the backend's {key}" for key in SAME if backend[key] != other[key]]
        if report["suite"] != first["suite"]:
            found.append(f"the suite was changed between {names}")
        if _cited(backend) != _cited(other):
            found.append(f"{names} did not run the same tests")
    return [Objection("undecided", text) for text in found]


def _of_run(run: Mapping[str, Any], profile: Profile) -> Iterator[Objection]:
    if not run["complete"]:
        yield Objection("broke", "the run did not finish")
    if run["tier"] != profile.tier:
        yield Objection(
            "undecided", f"tier {run['tier']} was run, profile {profile.name} wants {profile.tier}"
        )
    left = [name for name in profile.suites if name not in run["suites"]]
    if left:
        yield Objection("undecided", f"suite {', '.join(left)} was not run")
    if run["faults"]:
        yield Objection("undecided", f"only faults of {', '.join(run['faults'])} were injected")


def _of_backend(report: Report, profile: Profile) -> Iterator[Objection]:
    if len(report["backends"]) != 1:
        yield Objection(
            "undecided", f"{len(report['backends'])} backends were run, a certificate is about one"
        )
        return
    backend = report["backends"][0]
    spoiled = False
    for status in STATUSES:
        results = [result for result in backend["results"] if result["status"] == status]
        if results and status in KINDS:
            spoiled = True
            yield Objection(KINDS[status], _told(status, results))
    for status in STATUSES:
        unmet = [rolled["id"] for rolled in backend["requirements"] if rolled["status"] == status]
        if unmet and status in KINDS and not spoiled:  # what was measured, and no test failed
            spoiled = True
            yield Objection(KINDS[status], f"{status}: {', '.join(unmet)}")
    found = verdict(backend["results"], backend["requirements"], report["run"]["narrowed"])
    if found["result"] != "conformant" and not spoiled:
        kind: Kind = "violated" if found["result"] in {"nonconformant", "partial"} else "undecided"
        yield Objection(kind, f"{found['result']}: {'; '.join(found['reasons'])}")
    if profile.every_must and report["suite"]["requirements"] == requirements_digest():
        tested = {rolled["id"] for rolled in backend["requirements"]}
        lacking = [r.id for r in requirements().values() if r.level == "MUST" and r.id not in tested]
        if lacking:
            yield Objection("undecided", f"no test was about MUST {', '.join(lacking)}")


def _told(status: str, results: Sequence[Mapping[str, Any]]) -> str:
    first = results[0]
    more = f" and {len(results) - 1} more" if len(results) > 1 else ""
    cited = f" ({', '.join(first['requirements'])})" if first["requirements"] else ""
    reason = f": {' '.join(first['reason'].split())}" if first["reason"] else ""
    return f"{status}: {first['test']}{cited}{more}{reason}"


def _cited(backend: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {result["test"]: tuple(result["requirements"]) for result in backend["results"]}
