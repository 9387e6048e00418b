"""`CERTIFICATE.md`: the certificate for a reader. Drawn from `certificate.json` alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lockproof.report.status import INAPPLICABLE

FENCE = "````"
ON = {
    "fake": "**On fakes**: what was tested ran against lockproof's own imitation of its services, on one "
    "machine. It says nothing of a real service.",
    "local": "On a local target: no service outside the machine took part.",
    "real": "On a real target.",
}


def page(certificate: Mapping[str, Any]) -> str:
    """The whole page; its first line says what was certified, and on what kind of target."""
    return "\n".join(_lines(certificate)) + "\n"


def _lines(certificate: Mapping[str, Any]) -> Iterator[str]:
    backend, profile, suite = certificate["backend"], certificate["profile"], certificate["suite"]
    driver, n = backend["driver"], certificate["numbers"]
    yield from (f"# {certificate['title']}", "", ON[certificate["target"]], "")
    about = [part for part in (driver["implementation"], driver["url"]) if part]
    named = f"driver {driver['name']} {driver['version']}"
    yield f"- Backend: {', '.join([backend['id'], named, *about])}"
    yield f"- Capabilities: {', '.join(backend['capabilities'])}"
    given = ", ".join(f"{name}={value}" for name, value in backend["given"].items())
    yield f"- Driver options: {given or 'none'}"
    yield f"- Suite: {suite['name']} {suite['version']}"
    yield f"  - SHA-256 of its files: `{suite['sha256']}`"
    yield f"  - SHA-256 of its requirements: `{suite['requirements']}`"
    yield f"- Profile {profile['name']}: {profile['purpose']}"
    yield f"  - demands tier {profile['tier']}, suites {', '.join(profile['suites'])}"
    yield f"  - demands different seeds: {profile['seeds']} or more"
    every = ", no MUST without a test" if profile["every_must"] else ""
    yield f"  - demands that nothing is left out, unknown, flaky or expected to fail{every}"
    yield f"- Verdict: **{certificate['verdict']['result']}**, {_levels(certificate['verdict'])}"
    yield f"- {n['tests']:,} tests, {n['passed']:,} passed, the others do not apply"
    yield f"- {n['operations']:,} operations in {n['histories']:,} histories, judged by the checkers"
    yield f"- {n['schedules']:,} explored schedules"
    yield f"- {n['faults']:,} faults, {n['hits']:,} hits, {n['unknown_outcomes']:,} calls of unknown outcome"
    yield from ("", "To certify again in the same way:", "", FENCE, certificate["reproduce"], FENCE, "")
    yield "To see whether this folder still says what its runs said: `lockproof verify FOLDER`."
    yield from (
        "",
        "## Runs",
        "",
        "| seed | started | finished | tests | passed | histories | operations | on |",
    )
    yield "|---|---|---|---|---|---|---|---|"
    for run in certificate["runs"]:
        cells = [
            f"[{run['seed']}]({run['folder']}/report.md)",
            run["started"],
            run["finished"],
            sum(run["tests"].values()),
            run["tests"].get("pass", 0),
            run["histories"],
            run["operations"],
            f"Python {run['python']}, {run['platform']}",
        ]
        yield f"| {' | '.join(map(str, cells))} |"
    yield from ("", "## Requirements", "", "| id | level | | tests | |", "|---|---|---|---|---|")
    for entry in certificate["requirements"]:
        state = "not applicable" if entry["status"] in INAPPLICABLE else entry["status"]
        cells = [entry["id"], entry["level"], state, entry["tests"], entry["reason"].replace("|", "\\|")]
        yield f"| {' | '.join(map(str, cells))} |"
    yield from ("", "## Files", "", "| file | SHA-256 |", "|---|---|")
    for name, sha256 in certificate["files"].items():
        yield f"| [{name}]({name}) | `{sha256}` |"


def _levels(verdict: Mapping[str, Any]) -> str:
    shown = (
        f"{verdict[level]['met']}/{verdict[level]['applicable']} {level.upper()}"
        for level in ("must", "should", "may")
        if verdict[level]["applicable"]
    )
    idle = sum(verdict[level]["inapplicable"] for level in ("must", "should", "may"))
    return ", ".join([*shown, *([f"{idle} not applicable"] if idle else [])])
