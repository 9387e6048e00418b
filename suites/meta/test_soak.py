"""A soak: windows that are judged one by one, counts that reach the report, and a verdict at the end."""

from __future__ import annotations

from pathlib import Path

from lockproof.suites.meta.runs import FOLDER, run_apart

SOAK = (
    "suites/faults/test_soak.py",
    "-kunder_random_faults",
    f"--backend-report={FOLDER}",
    "--backend-tier=soak",
    "--backend-duration=0.1",
    "--backend-faults=net",
)


def test_soak_tells_its_counts_and_keeps_no_valid_window(tmp_path: Path) -> None:
    """One window of a correct backend passes: its counts stand in the report, and its history is gone."""
    run = run_apart(tmp_path, "--backend=py:lockproof.fakes.drivers.served:Served", "--backend-seed=3", *SOAK)
    (result,) = [r for r in run.report["backends"][0]["results"] if r["status"] != "not-run"]
    assert result["status"] == "pass", run.output[-3000:]
    assert result["reason"].startswith("1 windows, ")
    assert sum(count["hits"] for count in result["counts"]) > 0
    assert "0 violations" in run.output
    assert list((tmp_path / FOLDER / "histories").glob("*.window-*")) == []


def test_soak_of_a_broken_backend_ends_at_the_window_that_shows_it(tmp_path: Path) -> None:
    """A backend that reads what it remembers once it was cut off fails, with the history of that window."""
    backend = "py:lockproof.fakes.saboteurs.fault_network_load:GoesOnOffline"
    run = run_apart(tmp_path, f"--backend={backend}", "--backend-seed=3", *SOAK)
    (result,) = [r for r in run.report["backends"][0]["results"] if r["status"] != "not-run"]
    assert result["status"] == "fail", run.output[-3000:]
    assert result["failure"]["history"].endswith(".window-00000.jsonl")
    assert (tmp_path / FOLDER / "histories" / result["failure"]["history"]).exists()
