"""CONTRIBUTING.md is true: its driver runs and conforms, its capability table is the registry's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lockproof.spec import capabilities

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def page() -> str:
    return CONTRIBUTING.read_text(encoding="utf-8")


def test_driver_of_the_page_conforms(page: str, tmp_path: Path) -> None:
    """The complete driver on the page, copied as a reader would, is certified conformant."""
    found = re.search(r"<!-- driver: (\S+) -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    name, code = found.groups()
    (tmp_path / name).write_text(code, encoding="utf-8")
    command = re.search(r"\$ pytest (--backend=py:\S+)", page)
    assert command is not None
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", command[1]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert "CONFORMANT" in run.stdout
    assert "NONCONFORMANT" not in run.stdout


def test_driver_of_the_page_is_as_short_as_it_says(page: str) -> None:
    """The driver fits in 60 lines that are not blank."""
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 60


def test_capability_table_is_the_registry(page: str) -> None:
    """Every capability stands in the table with the registry's sentence."""
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, re.MULTILINE))
    assert rows == dict(capabilities())
