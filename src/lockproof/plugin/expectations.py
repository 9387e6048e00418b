"""Expected failures: a TOML file that a backend's own repository keeps.

```
[[expect.fail]]                              # every test it covers runs and must fail
test = "suites/locks/test_expiry.py::*"      # or: requirement = "LOCK-TTL-*"
reason = "lease expiry is not implemented"
issue = "https://example.org/issues/123"     # optional
until = 2027-01-01                           # optional; afterwards the entry is an error
backend = "databricks:*"                     # optional

[[expect.flaky]]                             # runs; its outcome decides nothing, and bars `conformant`
```
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from lockproof.driver.registry import nameable
from lockproof.plugin.collect import declared_tests
from lockproof.spec import requirements

UNBOUNDED = ("http:", "py:")
"""What the ids of backends begin with that no list can hold."""
KEYS = ("test", "requirement", "backend", "reason", "issue", "until")


@dataclass(frozen=True)
class Expectation:
    """One entry. `test`, `requirement` and `backend` are patterns where `*` stands for any text."""

    kind: Literal["fail", "flaky"]
    test: str
    requirement: str
    backend: str
    reason: str
    issue: str
    where: str

    def covers(self, test: str, node: str, cited: Iterable[str], backend: str) -> bool:
        """Whether the entry speaks of this test (`test` without, `node` with the backend in its id)."""
        return (
            (not self.test or matches(self.test, test) or matches(self.test, node))
            and (not self.requirement or any(matches(self.requirement, name) for name in cited))
            and matches(self.backend, backend)
        )

    def known(self) -> bool:
        """Whether a test of the suites or a requirement of the registry is meant, run today or not."""
        if self.requirement and not any(matches(self.requirement, name) for name in requirements()):
            return False
        return any(
            (not self.test or matches(self.parts()[0], test.id))
            and (not self.requirement or any(matches(self.requirement, r) for r in test.requirements))
            for test in declared_tests()
        )

    def parts(self) -> tuple[str, str | None]:
        """The pattern of the test's function and, where it has one, that of what stands in brackets."""
        if not self.test.endswith("]"):
            return self.test, None
        head, _, parameters = self.test.partition("[")
        return head, parameters.removesuffix("]")

    def text(self) -> str:
        return f"{self.reason} ({self.issue})" if self.issue else self.reason


def matches(pattern: str, text: str) -> bool:
    """Whether `text` is like `pattern`; `*` is the only special character, `[` is itself."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text, re.S) is not None


def load(path: Path, today: datetime.date) -> Sequence[Expectation]:
    """The entries of a file. Raises `pytest.UsageError` with the entry that is wrong or expired."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as failure:
        raise pytest.UsageError(f"--backend-expect: cannot read {path}: {failure}") from None
    except tomllib.TOMLDecodeError as failure:
        raise pytest.UsageError(f"{path}: {failure}") from None
    expect = document.pop("expect", None)
    if document or not isinstance(expect, dict):
        raise pytest.UsageError(f"{path}: write [[expect.fail]] or [[expect.flaky]] entries, nothing else")
    found = []
    for kind, entries in expect.items():
        if kind not in {"fail", "flaky"} or not isinstance(entries, list):
            raise pytest.UsageError(f"{path}: write [[expect.fail]] or [[expect.flaky]], not expect.{kind}")
        for number, entry in enumerate(entries, start=1):
            found.append(_entry(kind, entry, f"{path}: expect.{kind} entry {number}", today))
    return found


def load_json(documents: Iterable[Mapping[str, Any]]) -> Sequence[Expectation]:
    """The entries that another process has loaded, as `dataclasses.asdict` gave them."""
    return tuple(Expectation(**document) for document in documents)


def unmatched(
    entries: Sequence[Expectation],
    tests: Sequence[Mapping[str, Any]],
    backends: Sequence[str],
    *,
    every_parameter: bool,
) -> list[str]:
    """What is wrong with each entry that can match nothing: a complaint a line.

    An entry may speak of a test or a backend that is not part of this run, as long as there is one of that
    name. `every_parameter`: of the tests collected none is left out by an id with brackets.
    """
    return [
        f"{entry.where} {wrong}"
        for entry in entries
        if not any(entry.covers(t["test"], t["id"], t["requirements"], t["backend"]) for t in tests)
        and (wrong := _mistake(entry, tests, backends, every_parameter))
    ]


def _mistake(
    entry: Expectation, tests: Sequence[Mapping[str, Any]], backends: Sequence[str], every_parameter: bool
) -> str:
    """Why an entry that covers no collected test covers no other one; empty when it may."""
    head, inside = entry.parts()
    named = [t["test"].partition("[") for t in tests if matches(head, t["test"].partition("[")[0])]
    if not (named and not entry.requirement) and not entry.known():
        return f"matches no test: {entry.test or entry.requirement}"
    ids = [*backends, *nameable()]
    if not entry.backend.startswith(UNBOUNDED) and not any(matches(entry.backend, name) for name in ids):
        return f"matches no backend: {entry.backend} (known: {', '.join(dict.fromkeys(ids))})"
    if not named or not every_parameter or (inside or "").startswith(UNBOUNDED):
        return ""
    parameters = {rest.removesuffix("]") for _, _, rest in named}
    if inside is None and "" in parameters:
        return ""
    possible = {*parameters, *("-".join(filter(None, (name, p))) for name in ids for p in parameters)}
    if inside is not None and any(matches(inside, brackets) for brackets in possible):
        return ""
    have = ", ".join(sorted(filter(None, parameters))) or "none"
    return f"matches no test: {entry.test} (its parameters: {have})"


def _entry(kind: Any, entry: Mapping[str, Any], where: str, today: datetime.date) -> Expectation:
    for name, value in entry.items():
        if name not in KEYS:
            raise pytest.UsageError(f"{where}: unknown key {name!r}; known: {', '.join(KEYS)}")
        if name != "until" and not isinstance(value, str):
            raise pytest.UsageError(f"{where}: {name} must be text")
    if not entry.get("reason"):
        raise pytest.UsageError(f"{where}: give a reason")
    if not entry.get("test") and not entry.get("requirement"):
        raise pytest.UsageError(f"{where}: give a test or a requirement")
    if "until" in entry and _date(entry["until"], where) < today:
        raise pytest.UsageError(f"{where} expired on {entry['until']}: fix the backend or renew the entry")
    return Expectation(
        kind,
        entry.get("test", ""),
        entry.get("requirement", ""),
        entry.get("backend", "*"),
        entry["reason"],
        entry.get("issue", ""),
        where,
    )


def _date(value: Any, where: str) -> datetime.date:
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise pytest.UsageError(f"{where}: until must be a date such as 2027-01-31") from None
