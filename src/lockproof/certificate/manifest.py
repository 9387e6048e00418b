"""Which suite it was: hashes of the files that the verdict of a run rests on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

# What lies beside these (caches, what an editor left, the documents of a checkout) decides nothing.
DECIDING = frozenset({".py", ".toml", ".json", ".j2", ".css", ".js"})
ELSEWHERE = (
    "suites",
    "fakes",
)  # folders of their own in a checkout; in a wheel they are where they are named
OWN_TESTS = "meta"


@cache
def suite_files() -> Mapping[str, str]:
    """As `read_suite_files`, once in a process: how the files were when it began."""
    return read_suite_files()


def read_suite_files() -> Mapping[str, str]:
    """SHA-256 (hex) of each part of the installed suite, by name: every subpackage of `lockproof`, and
    `lockproof` for the modules beside them. The same from a checkout and from its wheel.

    The project's own tests (`suites/meta`), which judge no backend, are left out. `tofu_databricks` is: it is
    what is judged.
    """
    root = Path(str(files("lockproof")))
    packages = [path.name for path in root.iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    places = {name: Path(str(files(f"lockproof.{name}"))) for name in {*packages, *ELSEWHERE}}
    found = {name: files_digest(place, place.rglob("*")) for name, place in sorted(places.items())}
    return {"lockproof": files_digest(root, root.glob("*")), **found}


def files_digest(root: Path, paths: Iterator[Path]) -> str:
    """SHA-256 (hex) over the names and contents of those of `paths` that decide something."""
    names = {path.relative_to(root).as_posix(): path for path in paths if path.suffix in DECIDING}
    digest = hashlib.sha256()
    for name in sorted(names):
        if name.split("/")[0] != OWN_TESTS:
            digest.update(f"{name}\0{hashlib.sha256(names[name].read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
