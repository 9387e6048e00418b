"""Which test files a run collects, under ids that are the same everywhere, and what they declare.

The ids are `suites/locks/test_x.py::test_y[databricks:lakebase]` in a checkout, from a wheel, in an
xdist worker, inside a project with hostile ini settings and with the environment inside the project.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

DEFAULT_SUITES = (
    "smoke",
    "state",
    "locks",
    "workspaces",
    "concurrency",
    "faults",
    "databricks",
    "performance",
)
SUITES = (*DEFAULT_SUITES, "clients")
PACKAGE = "lockproof.suites"


@cache
def suite_root() -> Path:
    """The folder that the suites are installed in."""
    return Path(str(files(PACKAGE)))


def suite_files(names: Sequence[str]) -> list[Path]:
    """The test files of the named suites, in order. Files, not folders: a host project's
    `python_files` and `norecursedirs` do not apply to files that are named."""
    return [path for name in names for path in sorted((suite_root() / name).glob("test_*.py"))]


def canonical(path: Path) -> str | None:
    """`suites/locks/test_x.py` for a file of the conformance suites, `None` for any other file
    (the project's own tests in `suites/meta` are ordinary tests)."""
    if not path.is_relative_to(suite_root()):
        return None
    relative = path.relative_to(suite_root())
    return f"suites/{relative.as_posix()}" if relative.parts[0] in SUITES else None


def chosen_files(paths: Sequence[str], suites: Sequence[str]) -> list[str]:
    """What pytest is to collect: the files of the chosen suites, or the paths that the user gave. Of
    these a folder of the suites stands for its files, so that the project's ini settings do not apply."""
    chosen: list[str] = []
    for path in paths or [str(suite_root())]:
        folder = Path(path).resolve()
        if folder == suite_root():
            chosen += map(str, suite_files(suites))
        elif folder.is_dir() and folder.parent == suite_root():
            chosen += map(str, suite_files([folder.name]))
        else:
            chosen.append(path)
    return chosen


def schedule_test(program: str) -> str:
    """What pytest is to collect to replay a schedule of `program`. Raises `LookupError` for a strange one."""
    file = suite_root() / "concurrency" / "test_schedules.py"
    known = [test.name.removeprefix("test_") for test in declared_tests() if test.file == canonical(file)]
    if program not in known:
        raise LookupError(f"no test explores a program {program!r}; known: {', '.join(known)}")
    return f"{file}::test_{program}"


def narrowings(
    paths: Sequence[str], suites: Sequence[str], requirements: Sequence[str], tier: str
) -> Iterator[str]:
    """Why a run is about less than all of the default suites; nothing when it is not."""
    if not set(map(str, suite_files(suites))) <= set(chosen_files(paths, suites)):
        shown = (path.partition("::") for path in paths)
        names = [f"{canonical(Path(file).resolve()) or file}{sep}{rest}" for file, sep, rest in shown]
        yield f"only {', '.join(names)} was run"
    if not set(DEFAULT_SUITES) <= set(suites):
        yield f"only suite {', '.join(suites)} was run"
    if requirements:
        yield f"only requirements {', '.join(requirements)} were run"
    if tier == "smoke":
        yield "only tier smoke was run"


class SuiteModule(pytest.Module):
    """A module of a conformance suite. Imported under its installed name, so that there is one copy
    of it in the process and its assertions are rewritten; collects `test_*` functions only. What it names
    in `pytest_plugins` has its fixtures."""

    def _getobj(self) -> object:
        relative = self.path.relative_to(suite_root()).with_suffix("")
        try:
            module = importlib.import_module(".".join((PACKAGE, *relative.parts)))
            self.config.pluginmanager.consider_module(module)
        except Exception as failure:
            where = f"{self.nodeid} cannot be imported: {type(failure).__name__}: {failure}"
            raise self.CollectError(where) from failure
        return module

    def funcnamefilter(self, name: str) -> bool:
        return name.startswith("test_")

    def classnamefilter(self, name: str) -> bool:
        return False


@dataclass(frozen=True)
class DeclaredTest:
    """A test as its source declares it, read without importing the file."""

    file: str
    name: str
    line: int
    sentence: str
    requirements: Sequence[str]
    needs: Sequence[str]
    tier: str
    bugs: Sequence[str]

    @property
    def id(self) -> str:
        return f"{self.file}::{self.name}"


@cache
def declared_tests(names: Sequence[str] = SUITES) -> Sequence[DeclaredTest]:
    """Every test that the files of the named suites declare: what a run is expected to collect."""
    return tuple(test for path in suite_files(names) for test in _declared_in(path))


def _declared_in(path: Path) -> Iterator[DeclaredTest]:
    file = canonical(path) or path.as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    assigned = {name: s.value for s in tree.body if isinstance(s, ast.Assign) for name in _names(s)}
    shared = [assigned[name] for name in ("pytestmark",) if name in assigned]
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        marks = [*shared, *node.decorator_list]
        whole = [mark for mark in marks if not _is_of_parameters(mark)]
        doc = (ast.get_docstring(node) or "").strip().splitlines()
        yield DeclaredTest(
            file,
            node.name,
            node.lineno,
            doc[0] if doc else "",
            _arguments([*marks, *_meant(marks, assigned)], "requirement"),
            _arguments(marks, "needs"),
            next(iter(_arguments(whole, "tier")), "default"),
            _arguments(marks, "reported"),
        )


def _is_of_parameters(mark: ast.expr) -> bool:
    """Whether it is `parametrize`, whose marks are each of one parameter and not of the whole test."""
    return isinstance(mark, ast.Call) and getattr(mark.func, "attr", None) == "parametrize"


def _names(statement: ast.Assign) -> list[str]:
    return [target.id for target in statement.targets if isinstance(target, ast.Name)]


def _meant(expressions: Sequence[ast.expr], assigned: Mapping[str, ast.expr]) -> list[ast.expr]:
    """What the names in the expressions stand for, such as a list of parameters that bring marks."""
    names = [node.id for e in expressions for node in ast.walk(e) if isinstance(node, ast.Name)]
    return [assigned[name] for name in dict.fromkeys(names) if name in assigned]


def _arguments(expressions: Sequence[ast.expr], function: str) -> tuple[str, ...]:
    """The text arguments of every call of `function` inside the expressions, each once."""
    calls = [node for e in expressions for node in ast.walk(e) if isinstance(node, ast.Call)]
    found = [
        argument.value
        for call in calls
        if function == getattr(call.func, "id", getattr(call.func, "attr", None))
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    return tuple(dict.fromkeys(found))
