"""README.md is true: its commands exist and run, its tables are the code's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from lockproof.plugin.options import OPTIONS
from tofu_databricks.config import Config

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def commands() -> list[str]:
    """Every `$ …` line of the README's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def run(command: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / shlex.split(command)[0]), *shlex.split(command)[1:]],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_newcomers_commands_are_what_ci_runs() -> None:
    """CI calls the two set-up commands just as the README writes them."""
    ci = (TOP / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    promised = [command for command in commands() if command.startswith("./dev")]
    assert promised == ["./dev conformance", "./dev test"]
    assert [command for command in promised if command not in ci] == []


def test_quick_commands_run_from_an_empty_directory(tmp_path: Path) -> None:
    """`pytest --backend=memory` and `lockproof explain` do what the README shows."""
    certified = run("pytest --backend=memory -p no:cacheprovider", tmp_path)
    assert certified.returncode == 0, certified.stdout[-3000:]
    assert "memory (local): CONFORMANT" in certified.stdout
    explained = run("lockproof explain LOCK-EXCL-001", tmp_path)
    assert explained.returncode == 0, explained.stderr
    assert {"pytest --backend=memory", "lockproof explain LOCK-EXCL-001"} <= set(commands())


def test_every_command_of_ours_exists(tmp_path: Path) -> None:
    """Each `lockproof X` and `tofu-databricks X` that the README mentions answers to --help."""
    mentioned = set(re.findall(r"(?:^\$ |`)((?:lockproof|tofu-databricks) [a-z]+)", README, re.MULTILINE))
    assert len(mentioned) >= 5
    wrong = {command: run(f"{command} --help", tmp_path).returncode for command in mentioned}
    assert {command: code for command, code in wrong.items() if code} == {}


def test_benchmarks_are_there() -> None:
    """`lockproof bench` is the one way to measure: the README shows it, and no script stands beside it."""
    assert {command.partition(" --")[0] for command in commands() if "bench" in command} == {
        "lockproof bench"
    }
    assert list((TOP / "benchmarks").glob("*.py")) == []


def test_option_table_is_the_plugins() -> None:
    """Every option stands in the table once, with its help text."""
    rows = re.findall(r"^\| `(--backend-[\w-]+)[^`]*` \| (.+) \|$", README, re.MULTILINE)
    assert sorted(rows) == sorted((option.flag, option.help) for option in OPTIONS)


def test_settings_table_is_the_backends() -> None:
    """Every setting of the reference backend stands in the table, and nothing else."""
    table = README.split("| setting | meaning |")[1].split("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == {field.name for field in fields(Config)}


@pytest.fixture
def fake_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What `lockproof fake` prints, while it serves."""
    with subprocess.Popen(
        [BIN / "lockproof", "fake"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as fake:
        assert fake.stdout is not None
        exported = {}
        for line in fake.stdout:
            name, equals, value = line.strip().partition("=")
            if not equals:
                break
            exported[name] = shlex.split(value)[0] if value else ""
        yield exported
        fake.send_signal(signal.SIGINT)
        fake.wait(30)


RESOURCE = """
resource "terraform_data" "a" {
  input = "hello"
}
"""


@pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform on PATH")
def test_terraform_runs_on_the_fake_as_shown(tmp_path: Path, fake_environment: dict[str, str]) -> None:
    """`lockproof fake`, its variables, and `tofu-databricks exec -- terraform …` are all it takes."""
    work = tmp_path / "work"
    work.mkdir()
    block = re.search(r"```hcl\n(.*?)```", README, re.DOTALL)
    assert block is not None
    (work / "main.tf").write_text(block[1] + RESOURCE)
    assert "tofu-databricks exec -- terraform init" in commands()
    for command in ("init -input=false", "apply -auto-approve -input=false", "state list"):
        done = run(f"tofu-databricks exec -- terraform {command}", work, **fake_environment)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "terraform_data.a" in done.stdout
    assert not (work / "terraform.tfstate").exists()
