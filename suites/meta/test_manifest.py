"""Nothing vanishes: every test that the suites declare is collected, and a lost one is an error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lockproof.plugin.collect import DEFAULT_SUITES, SUITES, canonical, declared_tests, suite_root
from lockproof.spec import requirements
from lockproof.suites.meta.runs import clean_environment, run_apart, run_here

pytest_plugins = ["pytester"]


def names(output: str) -> set[str]:
    """Test ids without parameters, from `--collect-only -q`."""
    return {line.partition("[")[0] for line in output.splitlines() if "::" in line}


def test_every_declared_test_is_collected(pytester: pytest.Pytester) -> None:
    """What the files declare and what pytest collects from them are the same, in all suites."""
    suites = ",".join(SUITES)
    run = run_here(pytester, "--collect-only", "-q", "--backend-tier=soak", f"--backend-suite={suites}")
    assert run.code == 0
    declared = {test.id for test in declared_tests()}
    assert len(declared) > 50
    assert names(run.output) == declared


def test_every_declared_test_cites_a_requirement_and_says_what_it_proves() -> None:
    """Each test of the conformance suites cites registered requirements and has a sentence."""
    silent = [test.id for test in declared_tests() if not test.sentence.endswith(".")]
    uncited = [test.id for test in declared_tests() if not test.requirements]
    strange = [test.id for test in declared_tests() if not set(test.requirements) <= set(requirements())]
    assert (silent, uncited, strange) == ([], [], [])


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package with its suites, to break files in; found first on the path."""
    import lockproof

    source = Path(lockproof.__file__).parent
    top = tmp_path / "site"
    shutil.copytree(
        source, top / "lockproof", ignore=shutil.ignore_patterns("suites", "fakes", "__pycache__")
    )
    shutil.copytree(
        suite_root(), top / "lockproof" / "suites", ignore=shutil.ignore_patterns("meta", "__pycache__")
    )
    return top


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_file_that_fails_to_import_is_an_error_of_its_tests(
    copied: Path, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    """A suite file that cannot be imported makes errors of all its tests; the rest runs; code 1."""
    broken = copied / "lockproof" / "suites" / "smoke" / "test_smoke.py"
    broken.write_text(f"import no_such_module\n{broken.read_text(encoding='utf-8')}", encoding="utf-8")
    extra = copied / "lockproof" / "suites" / "smoke" / "test_well.py"
    extra.write_text('def test_well(backend):\n    """Is well."""\n    assert backend.id\n', encoding="utf-8")
    code, output = run_copy(copied, tmp_path, "--backend-suite=smoke", *workers)
    assert code == 1, output
    declared = [test for test in declared_tests() if test.file == "suites/smoke/test_smoke.py"]
    assert f"memory: {len(declared) + 1} tests: 1 pass, {len(declared)} error" in output
    assert "no_such_module" in output


def test_file_that_skips_itself_is_an_error_of_its_tests(copied: Path, tmp_path: Path) -> None:
    """A suite file cannot leave the run by skipping itself as a whole."""
    broken = copied / "lockproof" / "suites" / "smoke" / "test_smoke.py"
    head = "import pytest\npytest.importorskip('no_such_module')\n"
    broken.write_text(f"{head}{broken.read_text(encoding='utf-8')}", encoding="utf-8")
    code, output = run_copy(copied, tmp_path, "--backend-suite=smoke,locks", "--backend-tier=smoke")
    assert code == 1, output
    assert "was not collected" in output


def run_copy(site: Path, cwd: Path, *args: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-pno:cacheprovider", "--backend=memory", *args]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_own_tests_are_not_part_of_the_suites() -> None:
    """`suites/meta` proves the harness; it is never run against a backend."""
    assert canonical(suite_root() / "meta" / "test_manifest.py") is None
    assert canonical(suite_root() / "locks" / "test_x.py") == "suites/locks/test_x.py"
    assert not {"meta", "clients"} & set(DEFAULT_SUITES)


def test_suites_are_imported_under_their_installed_name_alone(tmp_path: Path) -> None:
    """pytest makes no second copy of the suites under a top-level name that may be the project's own."""
    (tmp_path / "test_names.py").write_text(
        "import sys\n\ndef test_names():\n"
        "    assert 'lockproof.suites.smoke.test_smoke' in sys.modules\n"
        "    assert not {'suites', 'smoke', 'test_smoke'} & {name.split('.')[0] for name in sys.modules}\n",
        encoding="utf-8",
    )
    run = run_apart(tmp_path, "--backend=memory", "suites/smoke/test_smoke.py", "test_names.py")
    assert run.code == 0, run.output
