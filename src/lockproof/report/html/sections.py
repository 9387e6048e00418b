"""What the page says of one backend: its verdict, failures, requirements and remarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from lockproof.checkers.verdict import Status, Verdict
from lockproof.history import HistoryError, read_history
from lockproof.report.card import clause_name, clause_url, repeat
from lockproof.report.html.measured import measured
from lockproof.report.markdown import counted, failed, told
from lockproof.report.status import STATUSES
from lockproof.report.timeline import picture
from lockproof.spec import Requirement, requirements

TONES = {
    **dict.fromkeys(("fail", "xpass", "error", "nonconformant"), "bad"),
    **dict.fromkeys(("unknown", "not-run", "flaky", "xfail", "inconclusive", "partial"), "doubt"),
    **dict.fromkeys(("pass", "conformant"), "good"),
    **dict.fromkeys(("skip", "disabled"), "idle"),
}
GLYPHS = {
    "pass": "✔",
    "fail": "✘",
    "xpass": "✘",
    "xfail": "✘",
    "error": "!",
    "unknown": "?",
    "not-run": "\N{EN DASH}",
    "flaky": "~",
    "skip": "\N{EN DASH}",
    "disabled": "\N{EN DASH}",
}
VERDICTS = {
    "conformant": ("✔", "Every MUST and SHOULD that applies was proved, and nothing was left undecided."),
    "partial": ("~", "No MUST is violated, but the backend falls short of the whole."),
    "inconclusive": ("?", "No MUST was seen violated, but this run does not settle the matter."),
    "nonconformant": ("✘", "At least one MUST is violated."),
}
TARGETS = {
    "fake": "a stand-in for the service on this machine; not a real workspace",
    "local": "a backend on the machine that ran the tests",
    "real": "the service itself",
}
AREAS = {
    "LOCK": "Locks",
    "STATE": "States",
    "WS": "Workspaces",
    "FAULT": "Faults",
    "PERF": "Performance",
    "HTTP": "HTTP protocol",
    "CLIENT": "Clients",
    "DBX": "Databricks",
}


class Backend:
    """One backend of a report; `key` begins the ids of its elements."""

    def __init__(
        self,
        backend: Mapping[str, Any],
        key: str,
        run: Mapping[str, Any],
        histories: Path | None,
        *,
        plotted: bool,
    ) -> None:
        self.backend = backend
        self.key = key
        self.run = run
        self.histories = histories
        self.plotted = plotted
        self.results = {result["id"]: result for result in backend["results"]}

    def view(self) -> Mapping[str, Any]:
        """All that the template names."""
        backend, found = self.backend, self.backend["verdict"]
        glyph, meaning = VERDICTS[found["result"]]
        levels = [(name, found[name.lower()]) for name in ("MUST", "SHOULD", "MAY")]
        url = backend["driver"]["url"]
        return {
            **backend,
            "key": self.key,
            "tone": TONES[found["result"]],
            "glyph": glyph,
            "meaning": meaning,
            "aim": TARGETS[backend["target"]],
            "levels": [(name, level) for name, level in levels if level["applicable"]],
            "idle": sum(level["inapplicable"] for _, level in levels),
            "counted": [(s, backend["counts"][s]) for s in STATUSES if backend["counts"][s]],
            "home": url if url.startswith(("https://", "http://")) else "",
            "failures": [self._failure(n, result) for n, result in enumerate(failed(backend), start=1)],
            "areas": self._areas(),
            "statuses": [s for s in STATUSES if any(r["status"] == s for r in backend["requirements"])],
            "remarks": self._remarks(),
            "machines": [
                [name, *(count[key] for key in ("examples", "steps", "refusals", "contention"))]
                for name, count in counted(backend, "machine")
            ],
            "programs": [
                [
                    *(count[key] for key in ("program", "strategy", "schedules", "pruned")),
                    "yes" if count["complete"] else "no",
                ]
                for _, count in counted(backend, "program")
            ],
            **measured(backend, self.key, plotted=self.plotted),
        }

    def _failure(self, number: int, result: Mapping[str, Any]) -> Mapping[str, Any]:
        failure = result["failure"]
        gist = next((line for line in (result["reason"], *failure["observed"].splitlines()) if line), "")
        kept = failure["history"].removesuffix(".jsonl")
        endings = [("timeline", "html"), ("history", "jsonl")] + [("program", "py")] * bool(
            failure["program"]
        )
        return {
            **result,
            "key": f"{self.key}-failure-{number}",
            "summary": result["summary"] or result["test"],
            "gist": gist,
            "demands": [(name, _demanded(name)) for name in result["requirements"]],
            "picture": self._picture(result, gist),
            "files": [(name, f"histories/{quote(kept)}.{end}") for name, end in endings] if kept else [],
            "repeat": repeat(self.run, self.backend, result["id"]),
        }

    def _picture(self, result: Mapping[str, Any], gist: str) -> Markup | str:
        """The timeline of the operations that the card tells; none where their history is not there."""
        failure = result["failure"]
        if self.histories is None or not failure["history"]:
            return ""
        numbers = (line[1:].split(" ", 1)[0] for line in failure["operations"] if line.startswith("#"))
        witness = tuple(int(number) for number in numbers if number.isdecimal())
        try:
            history = read_history(self.histories / failure["history"])
        except (FileNotFoundError, HistoryError):  # a crash may have left none
            return ""
        status: Status = "unknown" if result["status"] in {"unknown", "flaky"} else "violated"
        return Markup(picture(history, Verdict(status, gist, witness), inline=True)) if witness else ""

    def _areas(self) -> Sequence[Mapping[str, Any]]:
        rolled = self.backend["requirements"]
        areas = []
        for prefix, grouped in groupby(rolled, key=lambda row: row["id"].partition("-")[0]):
            rows = [self._row(row) for row in grouped]
            counts = Counter(row["status"] for row in rows)
            said = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
            areas.append({"name": AREAS.get(prefix, prefix), "said": said, "rows": rows})
        return areas

    def _row(self, rolled: Mapping[str, Any]) -> Mapping[str, Any]:
        tests = [self.results[name] for name in rolled["tests"]]
        counts = Counter(test["status"] for test in tests)
        parts = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
        said = f"{len(tests)} {'test' if len(tests) == 1 else 'tests'}"
        said += f": {', '.join(parts)}" if len(parts) > 1 or rolled["status"] not in counts else ""
        return {**rolled, "demanded": _demanded(rolled["id"]), "tests": tests, "said": said}

    def _remarks(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        """The tests that have a reason and no card, by status and reason."""
        shown = {result["id"] for result in failed(self.backend)}
        grouped: dict[tuple[str, str], list[str]] = {}
        for result in told(self.backend):
            if result["id"] not in shown:
                grouped.setdefault((result["status"], result["reason"]), []).append(result["test"])
        ordered = sorted(grouped.items(), key=lambda entry: (STATUSES.index(entry[0][0]), entry[0][1]))
        return [(status, reason, tests) for (status, reason), tests in ordered]


def _demanded(name: str) -> Mapping[str, Any]:
    requirement: Requirement = requirements()[name]
    return {
        "level": requirement.level,
        "text": requirement.text,
        "clauses": [(clause_name(clause), clause_url(clause)) for clause in requirement.clauses],
    }
