"""The suite of stock clients: what it says without one, and that a correct backend passes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.memory import MemoryDriver
from lockproof.suites.clients.adapter import Adapter
from lockproof.suites.clients.protocol_requests import ABSENT, id_only, is_final, is_time, wire_to

CLIENT = shutil.which("tofu") or shutil.which("terraform")


def certify(directory: Path, path: str) -> dict[str, Any]:
    """The report of the suite `clients` on the memory backend, with `path` as PATH."""
    report = directory / "report"
    command = [sys.executable, "-m", "pytest", "--backend=memory", "--backend-suite=clients", "-q"]
    subprocess.run(
        [*command, f"--backend-report={report}", "-p", "no:cacheprovider"],
        cwd=directory,
        env={**os.environ, "PATH": path},
        capture_output=True,
        timeout=240,
        check=False,
    )
    found: dict[str, Any] = json.loads((report / "report.json").read_text())["backends"][0]
    return found


def test_without_a_client_the_suite_is_not_run(tmp_path: Path) -> None:
    """Neither tofu nor terraform on PATH: every test of theirs is not-run and says so; nothing passes."""
    found = certify(tmp_path, str(tmp_path))
    of_clients = [r for r in found["results"] if any(name.startswith("CLI-") for name in r["requirements"])]
    assert len(of_clients) >= 16
    assert {(r["status"], r["reason"]) for r in of_clients if r["status"] != "skip"} == {
        ("not-run", "neither tofu nor terraform is on PATH")
    }
    assert found["verdict"]["result"] == "inconclusive"


@pytest.mark.skipif(CLIENT is None, reason="needs tofu or terraform on PATH")
def test_a_correct_backend_passes_with_a_real_client(tmp_path: Path) -> None:
    """A real client over the memory backend: every test that applies passes."""
    found = certify(tmp_path, os.environ["PATH"])
    amiss = {r["test"]: r["reason"] for r in found["results"] if r["status"] not in {"pass", "skip"}}
    assert amiss == {}
    assert sum(r["status"] == "pass" for r in found["results"]) >= 16


def test_the_adapter_says_what_the_driver_says() -> None:
    """Over a correct driver the adapter grants, refuses with the holder, forces, and reads back."""
    with (
        MemoryDriver({}).open_scope("x") as scope,
        Adapter(scope.client("adapter")) as adapter,
        wire_to(adapter.command_line("default")) as wire,
    ):
        assert wire.read() == ABSENT
        alice = LockInfo.new("alice")
        assert wire.lock(alice).status_code == 200
        assert wire.held_by() == alice
        assert wire.write(b"state", alice.ID) == 200
        assert is_final(wire.write(b"other", "stranger"))
        assert is_final(wire.unlock(id_only("stranger")))
        assert wire.unlock(None) == 200
        assert is_final(wire.unlock(None))
        assert wire.read() == b"state"
        assert wire.purge() == 200
        assert wire.read() == ABSENT


@pytest.mark.parametrize(
    ("status", "final"),
    [(200, False), (400, True), (409, True), (423, True), (429, False), (500, False), (501, True)],
)
def test_what_a_client_sends_again(status: int, final: bool) -> None:
    """429 and 5xx but 501 are tried again, so they refuse nothing for good."""
    assert is_final(status) is final


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("2026-01-02T03:04:05.6Z", True),
        ("2026-01-02T03:04:05+02:00", True),
        ("0001-01-01T00:00:00Z", True),
        ("2026-01-02T03:04:05", False),
        ("2026-01-02 03:04:05Z", False),
        ("Tue Nov 24 06:00:00 2026", False),
        ("", False),
    ],
)
def test_what_time_a_client_can_read(text: str, readable: bool) -> None:
    """RFC 3339 alone, with its zone."""
    assert is_time(text) is readable
