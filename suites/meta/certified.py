"""A certificate that all tests of a session share, and what a forger would do to it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lockproof.certificate.issue import CERTIFICATE, PAGE, sha256
from lockproof.certificate.page import page
from lockproof.certificate.statement import digest
from lockproof.suites.meta.runs import clean_environment

SEED = 5
RUN = f"seed-{SEED}"
DRIVER = '''
from lockproof.driver import Capabilities, DriverInfo
from lockproof.driver.memory import MemoryClient, MemoryDriver, MemoryScope


class Small(MemoryDriver):
    """Keeps the little that it promises."""

    def __init__(self, options):
        self.info = DriverInfo("small", "1.2", "a few promises", target=options.get("target", "local"))

    def capabilities(self):
        return Capabilities({"state.delete"})


class Lossy(Small):
    """Forgets each second state."""

    def open_scope(self, name, links=None, *, attach=False):
        return LossyScope()


class LossyScope(MemoryScope):
    written = 0

    def client(self, who):
        return LossyClient(self.store, who)


class LossyClient(MemoryClient):
    def put(self, workspace, data, *, lock_id=None):
        LossyScope.written += 1
        if LossyScope.written % 2:
            super().put(workspace, data, lock_id=lock_id)
'''


def command(*words: str) -> list[str]:
    """`lockproof certify` of a run without pytest plugins of others."""
    return [sys.executable, "-m", "lockproof", "certify", "--profile=nightly", *words]


def certify(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Certifies in a folder that has the driver."""
    (folder / "small.py").write_text(DRIVER, encoding="utf-8")
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=300,
    )


def shared_certificate(temporary: pytest.TempPathFactory) -> Path:
    """The folder of a certificate of `Small`, made by the first worker that asks for it."""
    own = temporary.getbasetemp()
    home = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "certified"
    home.mkdir(exist_ok=True)
    with (home / "guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (home / "certificate").exists():
            words = ("--backend=py:small:Small", "--backend-opt=target=fake", f"--seeds={SEED}")
            done = certify(home, *words, "--out=certificate")
            assert done.returncode == 0, done.stdout + done.stderr
            (home / "said.txt").write_text(done.stdout, encoding="utf-8")
    return home / "certificate"


def read(folder: Path, name: str = CERTIFICATE) -> Any:
    """A JSON file of a certificate."""
    return json.loads((folder / name).read_text(encoding="utf-8"))


def write(folder: Path, document: Any, name: str = CERTIFICATE) -> None:
    """Writes a JSON file of a certificate."""
    (folder / name).write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def forge(
    folder: Path, change: Callable[[dict[str, Any]], None] | None = None, *, redraw: bool = False
) -> None:
    """Makes all hashes and the digest agree again with what is in the folder after `change` to the statement,
    and the page when `redraw`: what a forger does who knows how it is made."""
    document = read(folder)
    if change is not None:
        change(document)
    there = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    hashes = {name: sha256(path) for name, path in there.items() if name not in {CERTIFICATE, PAGE}}
    document["files"] = hashes
    if redraw:
        (folder / PAGE).write_text(page(document), encoding="utf-8")
    seal(folder, {**document, "files": {PAGE: sha256(folder / PAGE), **hashes}})


def seal(folder: Path, document: dict[str, Any]) -> None:
    """Writes the certificate with the digest of its content."""
    content = {name: value for name, value in document.items() if name != "digest"}
    write(folder, {**content, "digest": digest(content)})


def copied(folder: Path, to: Path) -> Path:
    """A certificate to tamper with."""
    shutil.copytree(folder, to)
    return to


def content_hash(folder: Path) -> str:
    """One hash of all that is in a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path.relative_to(folder)}\0{sha256(path) if path.is_file() else ''}\n".encode())
    return found.hexdigest()
