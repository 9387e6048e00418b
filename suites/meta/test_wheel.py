"""What is installed from the wheel is what the checkout has: same ids, same results, anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from lockproof.plugin.collect import DEFAULT_SUITES, declared_tests
from lockproof.suites.meta.runs import Run, clean_environment, run_apart

TOP = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
HOSTILE = """
[pytest]
norecursedirs = *
python_files = *_spec.py
python_functions = check_*
python_classes = Check*
testpaths = specs
addopts = --import-mode=importlib --strict-markers
filterwarnings = error
"""
FOLDER = "--backend-report=run"
CHOSEN = ("--backend=memory", "--backend-suite=smoke,workspaces", FOLDER)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with hostile settings and the wheel in a virtual environment inside it.

    Nothing is downloaded: what lockproof depends on is taken from the environment of these tests.
    """
    source = tmp_path_factory.mktemp("source")
    for name in ("src", "suites", "fakes"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(TOP / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(TOP / name, source)
    call(source, sys.executable, "-c", BUILD, "dist")
    (wheel,) = (source / "dist").glob("*.whl")
    project = tmp_path_factory.mktemp("project")
    (project / "pytest.ini").write_text(HOSTILE, encoding="utf-8")
    (project / "specs").mkdir()
    venv.create(project / ".venv", with_pip=False)
    python = str(python_of(project))
    installing = (
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(wheel),
    )
    call(project, sys.executable, *installing)
    site = call(project, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return project


def python_of(project: Path) -> Path:
    return project / ".venv" / "bin" / "python"


def call(cwd: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ids(run: Run) -> list[str]:
    return [line for line in run.lines if line.startswith("suites/")]


@pytest.fixture(scope="module")
def from_checkout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The statuses of the chosen suites when run from the checkout's environment."""
    return run_apart(tmp_path_factory.mktemp("checkout"), *CHOSEN).statuses()


def test_wheel_is_what_runs(project: Path, tmp_path: Path) -> None:
    """Suites, fakes and harness all come from the wheel, and nothing is installed at top level."""
    modules = ["lockproof.suites.locks", "lockproof.fakes.databricks", "tofu_databricks"]
    script = f"import importlib; print(*(importlib.import_module(name).__file__ for name in {modules}))"
    places = call(tmp_path, str(python_of(project)), "-c", script).split()
    assert len(places) == 3
    assert [place for place in places if not place.startswith(str(project / ".venv"))] == []
    for name in ("suites", "fakes"):
        assert not list((project / ".venv").rglob(f"site-packages/{name}"))


def test_ids_are_the_same_everywhere(project: Path, tmp_path: Path) -> None:
    """Checkout, wheel from an empty directory, wheel in the hostile project: one list of ids."""
    asked = ("--backend=memory", "--collect-only", "-q", FOLDER)
    checkout = ids(run_apart(tmp_path, *asked))
    declared = {test.id for test in declared_tests(DEFAULT_SUITES) if test.tier in {"smoke", "default"}}
    assert {line.partition("[")[0] for line in checkout} == declared
    assert ids(run_apart(tmp_path, *asked, python=python_of(project))) == checkout
    assert ids(run_apart(project, *asked, python=python_of(project))) == checkout


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
@pytest.mark.parametrize("where", ["empty directory", "hostile project"])
def test_runs_are_the_same_everywhere(
    project: Path, from_checkout: dict[str, str], tmp_path: Path, where: str, workers: tuple[str, ...]
) -> None:
    """The same tests with the same results, also in xdist workers, also in spite of the project."""
    cwd = project if where == "hostile project" else tmp_path
    run = run_apart(cwd, *CHOSEN, *workers, python=python_of(project))
    assert run.code == 0, run.output
    assert len(run.statuses()) > 20
    assert run.statuses() == from_checkout


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_printed_id_can_be_pasted_anywhere(project: Path, workers: tuple[str, ...]) -> None:
    """An id from a report is a path that works in any directory."""
    test = next(t for t in declared_tests() if t.file == "suites/smoke/test_smoke.py")
    run = run_apart(
        project, f"{test.id}[memory]", "--backend=memory", FOLDER, *workers, python=python_of(project)
    )
    assert run.code == 0, run.output
    assert run.statuses() == {test.name: "pass"}


def test_own_tests_of_the_project_run_with_our_fixtures(project: Path) -> None:
    """Paths that the user gives keep their meaning: those tests, by the project's own rules."""
    (project / "lock_spec.py").write_text(
        "from lockproof.driver import LockInfo\n\n"
        "def check_lock(alice):\n    assert alice.lock('default', LockInfo.new('alice'))\n\n"
        "def test_not_collected_here():\n    raise AssertionError\n",
        encoding="utf-8",
    )
    run = run_apart(project, "lock_spec.py", "--backend=memory", FOLDER, python=python_of(project))
    assert run.code == 0, run.output
    assert run.statuses() == {"check_lock": "pass"}


def test_command_runs_the_suites_whatever_the_project_says(project: Path) -> None:
    """`lockproof run` uses neither the ini file nor the conftest above the environment it is in."""
    ini, conftest = project / "pytest.ini", project / "conftest.py"
    ini.write_text("[pytest]\naddopts = --no-such-option\n", encoding="utf-8")
    conftest.write_text("raise RuntimeError('do not load me')\n", encoding="utf-8")
    try:
        command = str(project / ".venv" / "bin" / "lockproof")
        output = call(project, command, "run", "memory", "--backend-suite=smoke", FOLDER)
    finally:
        ini.write_text(HOSTILE, encoding="utf-8")
        conftest.unlink()
    assert f"rootdir: {project}" in output
    assert " pass\n" in output


def test_fakes_and_postgres_work_from_the_wheel(project: Path, tmp_path: Path) -> None:
    """`pytest --backend=databricks` needs nothing from the checkout."""
    run = run_apart(
        tmp_path, "--backend=databricks", "--backend-suite=smoke", FOLDER, python=python_of(project)
    )
    assert run.code == 0, run.output
    assert run.report["backends"][0]["target"] == "fake"
    assert set(run.statuses().values()) == {"pass"}


def test_command_works_from_the_wheel(project: Path, tmp_path: Path) -> None:
    """The registry and the schema are in the wheel, and the command finds them."""
    command = str(project / ".venv" / "bin" / "lockproof")
    assert "LOCK-EXCL-001  MUST" in call(tmp_path, command, "explain", "LOCK-EXCL-001")
    script = "import lockproof.report; print(lockproof.report.schema()['title'])"
    assert "lockproof report" in call(tmp_path, str(python_of(project)), "-c", script)
