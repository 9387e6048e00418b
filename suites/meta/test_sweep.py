"""`lockproof sweep`: what runs have left in a workspace, listed and removed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from lockproof.cli import cli
from lockproof.driver import LockInfo
from lockproof.suites.meta.real_bed import ROBOT, RealBed
from lockproof.workspace.driver import RealDatabricksDriver

pytest_plugins = "lockproof.suites.meta.real_fixtures"

Sweep = Callable[..., tuple[int, str]]


@pytest.fixture
def sweep(real: RealBed, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Calls the command; answers exit code and text."""
    for name, value in real.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(real.folder)

    def call(*arguments: str, backend: str = "databricks:delta") -> tuple[int, str]:
        aimed = [f"--backend={backend}", "--backend-real", *real.given()]
        done = CliRunner().invoke(cli, ["sweep", *aimed, *arguments], standalone_mode=False)
        assert done.exception is None, done.output
        return int(done.return_value), done.output

    return call


def left_behind(bed: RealBed, run: str, lifetime: str, variant: str = "delta") -> None:
    """A run that ended without cleaning up, with a state and a lock."""
    options = {**bed.options, "variant": variant, "run": run, "lifetime": lifetime, "keep": "true"}
    with RealDatabricksDriver.provision(options) as added:
        driver = RealDatabricksDriver({**options, **added})
        client = driver.open_scope("lp-a").client("alice")
        client.put("default", b"{}")
        client.lock("default", LockInfo.new("alice"))
        client.close()


def test_sweep_removes_what_has_expired_and_nothing_else(real: RealBed, sweep: Sweep) -> None:
    """Listing removes nothing; --delete removes the expired run with its lock table, and no other."""
    left_behind(real, "old", "1ns")
    left_behind(real, "young", "1h")
    real.put("lockproof/run-theirs/theirs.tfstate")
    real.put("lockproof/notes.txt")
    before = real.files()
    code, text = sweep()
    assert code == 0
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert set(lines) == {"run-old", "run-young", "run-theirs"}
    assert f"of {ROBOT}" in lines["run-old"]
    assert "expired" in lines["run-old"]
    assert "until" in lines["run-young"]
    assert "no marker" in lines["run-theirs"]
    assert real.files() == before
    assert real.tables() == ["lockproof_old", "lockproof_young"]
    code, text = sweep("--delete")
    assert code == 0, text
    assert text.count("removed") == 1
    kept = {path for path in before if not path.startswith("lockproof/run-old/")}
    assert set(real.files()) == kept
    assert real.tables() == ["lockproof_young"]


def test_sweep_removes_a_run_that_is_named(real: RealBed, sweep: Sweep) -> None:
    """--run ID removes a run before it has expired; one without our marker is left even then."""
    left_behind(real, "young", "1h")
    real.put("lockproof/run-theirs/theirs.tfstate")
    assert sweep("--run", "theirs", "--delete")[0] == 0
    code, text = sweep("--run", "young", "--delete")
    assert code == 0, text
    assert list(real.files()) == ["lockproof/run-theirs/theirs.tfstate"]
    assert real.tables() == []
    code, text = sweep("--run", "young", "--delete")
    assert code == 1
    assert "no run young" in text


def test_sweep_leaves_a_run_whose_locks_it_cannot_reach(real: RealBed, sweep: Sweep) -> None:
    """Files go with their locks: a run on Lakebase is left by a sweep of Delta, and removed by its own."""
    left_behind(real, "old", "1ns", "lakebase")
    before = real.files()
    code, text = sweep("--delete")
    assert code == 1
    assert "--backend=databricks:lakebase" in text
    assert real.files() == before
    code, text = sweep("--delete", backend="databricks")
    assert code == 0, text
    assert real.files() == {}
