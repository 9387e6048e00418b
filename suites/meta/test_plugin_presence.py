"""Somebody else's project: the plugin is not felt, and a `--backend` of the project's own stays its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lockproof.suites.meta.runs import clean_environment, run_apart

CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--backend", default="sqlite")
"""
TEST = """
def test_it(request):
    assert request.config.getoption("--backend") == "{expected}"
"""


@pytest.fixture(params=["at the top", "in tests", "in testpaths", "in an inner folder"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project whose conftest defines --backend, at each place where pytest looks for one."""
    folder = {"at the top": ".", "in tests": "tests", "in testpaths": "checks", "in an inner folder": "a/b"}
    where = tmp_path / folder[request.param]
    where.mkdir(parents=True, exist_ok=True)
    (where / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (where / "test_it.py").write_text(TEST.format(expected="postgres"), encoding="utf-8")
    if request.param == "in testpaths":
        (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = checks\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "how", [["--backend=postgres"], ["--backend", "postgres"], ["--backend=postgres", "-n2"]]
)
def test_project_keeps_its_own_backend_option(project: Path, how: list[str]) -> None:
    """The project's option works, and one line says that lockproof stands aside and what to do."""
    inner = ["a/b"] if (project / "a").exists() else []
    run = run_apart(project, *inner, *how)
    assert run.code == 0, run.output
    said = [line for line in run.lines if "lockproof:" in line]
    assert len(said) == 1
    assert "stands aside" in said[0]
    assert "`lockproof run SPEC`" in said[0]
    assert "-p no:lockproof.plugin" in said[0]


def test_run_without_backend_is_left_alone(project: Path) -> None:
    """Without the option on the command line nothing is registered and nothing is said."""
    for path in project.rglob("test_it.py"):
        expected = "def test_it():\n    assert True is not False\n"
        path.write_text(expected, encoding="utf-8")
    run = run_apart(project)
    assert run.code == 0, run.output
    assert [line for line in run.lines if "lockproof" in line and not line.startswith("plugins:")] == []


def test_idle_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    """Without --backend the plugin brings in one small module beyond pytest itself."""
    (tmp_path / "test_names.py").write_text(
        "import sys\n\ndef test_names():\n"
        "    print(sorted(name for name in sys.modules if name.startswith('lockproof')))\n",
        encoding="utf-8",
    )
    run = run_apart(tmp_path, "-s", "test_names.py")
    assert run.code == 0
    assert "['lockproof', 'lockproof.plugin']" in run.output


def test_plugin_can_be_loaded_by_name(tmp_path: Path) -> None:
    """Where plugins are not loaded by themselves, -p lockproof.plugin does it, once."""
    (tmp_path / "test_one.py").write_text("def test_one(backend): assert backend.id", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "lockproof.plugin", "--backend=memory", "test_one.py"]
    for autoload in ({}, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=clean_environment(**autoload),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 pass" in done.stdout
