"""`lockproof doctor`: whether this machine can run the suites, or a workspace be tested; what is missing."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, entry_points, version

import click

from lockproof.cli.aim import aimed, targets

BINARY_SECONDS = 20.0
NEEDED, WANTED = "needed", "optional"
MARKS = {"ok": "ok", "missing": "MISSING", "unknown": "?"}


@click.command()
@aimed
def doctor(backend: tuple[str, ...], real: bool, opt: tuple[str, ...]) -> int:
    """Say what is there and what is missing; exit code 1 when something needed is missing.

    Without options of this machine: starts and stops a Postgres, as a run does, and prints no setting.

    With --backend=databricks --backend-real and --backend-opt of a workspace: reads what a run there needs,
    changes nothing, and names the command or GRANT that repairs what is missing. Exit code 2 when nothing is
    missing, but something could not be looked at.
    """
    if backend or real or opt:
        return _workspaces(backend, real, opt)
    return _machine()


def _workspaces(backend: tuple[str, ...], real: bool, opt: tuple[str, ...]) -> int:
    from lockproof.workspace.checks import examine

    seen: set[str] = set()
    for name, target in targets(backend, real, opt):
        click.echo(f"{name} on a real workspace, {target.base.root}")
        for found in examine(target):
            seen.add(found.status)
            click.echo(f"{MARKS[found.status]:<8}{found.name:<12}{found.text}")
            if found.repair:
                click.echo(f"{'':<8}{'':<12}repair: {found.repair}")
    return 1 if "missing" in seen else 2 if "unknown" in seen else 0


def _machine() -> int:
    missing = False
    for name, need, look in CHECKS:
        try:
            found, good = look(), True
        except LookupError as reason:
            found, good = str(reason.args[0]), False
        missing |= need == NEEDED and not good
        mark = "ok" if good else "MISSING" if need == NEEDED else "-"
        click.echo(f"{mark:<8}{name:<12}{found}")
    return 1 if missing else 0


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        raise LookupError(f"not installed: pip install {name}") from None


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _plugin() -> str:
    if not any(point.name == "lockproof.plugin" for point in entry_points(group="pytest11")):
        raise LookupError("pytest does not see it: reinstall lockproof in this environment")
    return f"lockproof {_package('lockproof')}"


def _suites() -> str:
    from lockproof.plugin.collect import declared_tests

    if not declared_tests():
        raise LookupError("no test files are installed: reinstall lockproof")
    return f"{len(declared_tests())} tests"


def _drivers() -> str:
    from lockproof.driver.registry import GROUP, SpecError, load

    broken = []
    names = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            load(point.value)
            names.append(point.name)
        except SpecError as error:
            broken.append(str(error))
    if broken:
        raise LookupError("; ".join(broken))
    return ", ".join(names)


def _postgres() -> str:
    from lockproof.provision.postgres import ProvisionError, provide_postgres

    try:
        with provide_postgres() as server, server.connect() as connection:
            row = connection.execute("show server_version").fetchone()
    except ProvisionError as error:
        raise LookupError(str(error)) from None
    return f"{row[0] if row else '?'} ({server.source})"


def _docker() -> str:
    from lockproof.provision.docker import NoDocker, require_engine

    try:
        require_engine()
    except NoDocker as reason:
        raise LookupError(str(reason)) from None
    return "an engine answers"


def _binary(name: str) -> Callable[[], str]:
    def look() -> str:
        path = shutil.which(name)
        if path is None:
            raise LookupError(f"no {name} on PATH (the suite `clients` needs terraform or tofu)")
        try:
            command = [path, "version", "-json"]
            done = subprocess.run(command, capture_output=True, timeout=BINARY_SECONDS, check=True)
            return f"{json.loads(done.stdout)['terraform_version']} ({path})"
        except (OSError, subprocess.SubprocessError, ValueError, KeyError):
            raise LookupError(f"{path} does not answer `version -json`") from None

    return look


CHECKS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("python", NEEDED, _python),
    ("pytest", NEEDED, lambda: _package("pytest")),
    ("plugin", NEEDED, _plugin),
    ("suites", NEEDED, _suites),
    ("drivers", NEEDED, _drivers),
    ("postgres", NEEDED, _postgres),
    ("sdk", NEEDED, lambda: f"databricks-sdk {_package('databricks-sdk')}"),
    ("xdist", WANTED, lambda: _package("pytest-xdist")),
    ("docker", WANTED, _docker),
    ("terraform", WANTED, _binary("terraform")),
    ("tofu", WANTED, _binary("tofu")),
)
