"""Data flows one way, and tests keep the house rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

# package -> packages that it must know nothing of
FORBIDDEN = {
    "src/tofu_databricks": ("lockproof",),
    "src/lockproof/spec": ("lockproof.driver", "lockproof.plugin", "lockproof.report", "lockproof.suites"),
    "src/lockproof/history": (
        "lockproof.plugin",
        "lockproof.report",
        "lockproof.checkers",
        "lockproof.suites",
    ),
    "src/lockproof/driver": (
        "lockproof.plugin",
        "lockproof.report",
        "lockproof.checkers",
        "lockproof.suites",
    ),
    "src/lockproof/checkers": (
        "lockproof.plugin",
        "lockproof.report",
        "lockproof.suites",
        "lockproof.fakes",
        "lockproof.driver",
    ),
    "src/lockproof/explore": (
        "lockproof.plugin",
        "lockproof.report",
        "lockproof.suites",
        "lockproof.fakes",
        "tofu_databricks",
    ),
    "src/lockproof/provision": ("lockproof.plugin", "lockproof.report", "lockproof.suites"),
    "src/lockproof/report": ("lockproof.suites", "lockproof.fakes"),
    "fakes/databricks": (
        "lockproof.plugin",
        "lockproof.report",
        "lockproof.suites",
        "tofu_databricks",
        "pytest",
    ),
}


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, at top level or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_package_knows_nothing_downstream(folder: str) -> None:
    """A package imports none of those that come after it."""
    files = sorted((TOP / folder).rglob("*.py"))
    assert files
    offences = [
        f"{path.relative_to(TOP)} imports {module}"
        for path in files
        for module in imports(path)
        for banned in FORBIDDEN[folder]
        if module == banned or module.startswith(f"{banned}.")
    ]
    assert offences == []


def calls(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every call in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_suites_neither_sleep_nor_skip_from_a_body() -> None:
    """Tests wait for conditions, and what does not apply is gated by capability."""
    banned = {"time.sleep", "sleep", "pytest.skip", "pytest.xfail", "pytest.importorskip"}
    offences = [
        f"{path.relative_to(TOP)}:{line} calls {name}"
        for path in sorted((TOP / "suites").rglob("*.py"))
        for line, name in calls(path)
        if name in banned
    ]
    assert offences == []


def test_every_test_asserts_or_expects_an_error() -> None:
    """No test passes by doing nothing: each holds an assert, `raises`, or a helper that fails the test."""
    judges = (
        "assert",
        "raises",
        "check",
        "judge",
        "expect",
        "refused",
        "require",
        "take(",
        "eventually(",
        "connect(",
        "prove(",
    )
    offences = []
    for path in sorted((TOP / "suites").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                text = ast.unparse(ast.Module(body=node.body[1:], type_ignores=[]))
                if not any(word in text for word in judges):
                    offences.append(f"{path.relative_to(TOP)}::{node.name}")
    assert offences == []


def test_every_test_says_what_it_shows() -> None:
    """The first line of a test's docstring is the sentence that reports print."""
    offences = [
        f"{path.relative_to(TOP)}::{node.name}"
        for path in sorted((TOP / "suites").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert offences == []
