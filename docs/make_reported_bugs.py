"""Writes `docs/reported-bugs.md`: each reported bug of a state backend, and the tests that would find it.

python docs/make_reported_bugs.py
"""

from __future__ import annotations

from pathlib import Path

from lockproof.plugin.collect import declared_tests
from lockproof.spec.bugs import Bug, bugs, url_of

FILE = Path(__file__).with_name("reported-bugs.md")
INTRODUCTION = """\
# Bugs that were reported, and the tests that would find them

What went wrong with real state backends and their clients, from the issue trackers of OpenTofu, Terraform and
others, and what was reproduced for this suite. On a backend with such a bug the tests named beside it fail;
`lockproof explain opentofu#4405` says more. Some bugs no state server can suffer: they are the client's.

This file is made by `python docs/make_reported_bugs.py`.
"""


def page() -> str:
    """The whole file."""
    heads = ["report", "what broke", "found by"]
    rows = [[names(bug), bug.broke, tests(bug)] for bug in bugs()]
    lines = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    covered = sum(bool(found(bug)) for bug in bugs())
    total = (
        f"{len(bugs())} bugs: {covered} are found by a test, {len(bugs()) - covered} are the client's alone."
    )
    return "\n".join([INTRODUCTION, *lines, "", total, ""])


def names(bug: Bug) -> str:
    """The names of a bug, with links to its issues."""
    return ", ".join(f"[{name}]({url})" if (url := url_of(name)) else name for name in bug.names)


def tests(bug: Bug) -> str:
    """The tests that would find a bug, or why there is none."""
    reason = [f"no state server can suffer it: {bug.client}"] if bug.client else []
    return "<br>".join([*found(bug), *reason])


def found(bug: Bug) -> list[str]:
    """The tests that name a bug."""
    citing = (test for test in declared_tests() if set(bug.names) & set(test.bugs))
    return [f"`{test.id.removeprefix('suites/')}`" for test in citing]


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
    print(FILE.relative_to(Path.cwd()) if FILE.is_relative_to(Path.cwd()) else FILE)
