"""Which saboteurs and correct variants there are.

A saboteur proves that the suite has teeth: it must be failed by a test that cites the requirement it
breaks, and by no test that cites only requirements it does not break. A correct variant proves the
absence of false alarms: it must fail nothing.

To register, a module of this package defines module-level sequences:

    SABOTEURS = (
        Saboteur(
            name="no-lock",
            breaks="LOCK-EXCL-001",
            story="Every lock request is granted, held or not.",
            backend="py:lockproof.fakes.saboteurs.lock_exclusion:NoLock",
            suites=("locks",),
            also=("LOCK-ERR-001",),
        ),
    )
    VARIANTS = (CorrectVariant(name=..., story=..., backend=..., suites=...),)
"""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType

from lockproof.fakes import saboteurs as package
from lockproof.spec import requirements


@dataclass(frozen=True)
class Saboteur:
    """A backend that breaks one requirement.

    `name` is unique and kebab-case; `breaks` the requirement id; `story` one sentence on what the
    backend does wrong; `backend` what stands after `--backend=`, different for every entry; `suites`
    the suite folders that are run against it; `also` further requirements that cannot hold when
    `breaks` does not; `options` become `--backend-opt`; `only`, where given, are patterns of the
    requirements whose tests are run; of `programs`, where given, one must be on PATH; `timing`: the bug
    needs an interleaving, so that an explored schedule must kill it.
    """

    name: str
    breaks: str
    story: str
    backend: str
    suites: tuple[str, ...]
    also: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    timing: bool = False

    def can_run(self) -> bool:
        """Whether this machine has what the saboteur's tests need."""
        return not self.programs or any(shutil.which(program) for program in self.programs)


@dataclass(frozen=True)
class CorrectVariant:
    """A backend that keeps every requirement in an unusual but legal way; fields as `Saboteur`'s."""

    name: str
    story: str
    backend: str
    suites: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()


@cache
def saboteurs() -> Sequence[Saboteur]:
    """Every saboteur, by the id of the requirement that it breaks, then by name.

    Raises `ValueError` for a name or backend given twice and for a requirement that is not registered.
    """
    found = sorted(
        (entry for module in _modules() for entry in getattr(module, "SABOTEURS", ())),
        key=lambda entry: (entry.breaks, entry.name),
    )
    _require_unique([*found, *correct_variants()])
    for saboteur in found:
        for name in (saboteur.breaks, *saboteur.also):
            if name not in requirements():
                raise ValueError(f"saboteur {saboteur.name}: no requirement {name}")
    return tuple(found)


@cache
def correct_variants() -> Sequence[CorrectVariant]:
    """Every correct variant, by name."""
    found = (entry for module in _modules() for entry in getattr(module, "VARIANTS", ()))
    return tuple(sorted(found, key=lambda entry: entry.name))


def _modules() -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "catalogue":
            yield importlib.import_module(f"{package.__name__}.{module.name}")


def _require_unique(entries: Sequence[Saboteur | CorrectVariant]) -> None:
    for what in ("name", "backend"):
        seen: set[str] = set()
        for entry in entries:
            value = getattr(entry, what)
            if value in seen:
                raise ValueError(f"saboteur {what} {value!r} is registered twice")
            seen.add(value)
