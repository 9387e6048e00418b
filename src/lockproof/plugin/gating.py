"""Which of the collected tests run, and why the others do not. Nothing leaves the list silently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lockproof.plugin.collect import SuiteModule, canonical, declared_tests
from lockproof.plugin.expectations import matches
from lockproof.plugin.fixtures import Backend
from lockproof.plugin.options import TIERS, Settings
from lockproof.spec import requirements

Entry = dict[str, Any]


def backend_of(item: pytest.Item) -> Backend | None:
    """The backend that a test runs on; `None` for a test that has nothing to do with us."""
    callspec = getattr(item, "callspec", None)
    found = callspec.params.get("backend") if callspec is not None else None
    return found if isinstance(found, Backend) else None


def cited(item: pytest.Item) -> list[str]:
    """The requirements that a test cites, each once."""
    return list(dict.fromkeys(name for mark in item.iter_markers("requirement") for name in mark.args))


def entry(item: pytest.Item, backend: Backend, settings: Settings) -> Entry:
    """What the manifest says of a test: plain data. `state` is `run`, `skip`, `disabled` or `broken`
    (it cites what is not in the registry)."""
    names = [name for name in cited(item) if name in requirements()]
    strange = [name for name in cited(item) if name not in requirements()]
    wanted = {requirements()[name].capability for name in names}
    wanted |= {name for mark in item.iter_markers("needs") for name in mark.args}
    absent = sorted(wanted - backend.declared)
    disabled = sorted(wanted - backend.capabilities - set(absent))
    state, reason = "run", ""
    if strange:
        state, reason = "broken", f"cites {', '.join(strange)}, which is not in the registry"
    elif absent:
        state, reason = "skip", f"not declared: {', '.join(absent)}"
    elif disabled:
        state, reason = "disabled", f"switched off by --backend-without: {', '.join(disabled)}"
    elif unwanted := _unwanted_faults(item, backend, settings):
        state, reason = "disabled", unwanted
    documentation = (getattr(getattr(item, "function", None), "__doc__", None) or "").strip()
    return {
        "id": item.nodeid,
        "test": without_backend(item, backend),
        "backend": backend.id,
        "requirements": names,
        "sentence": documentation.splitlines()[0] if documentation else "",
        "state": state,
        "reason": reason,
    }


def _unwanted_faults(item: pytest.Item, backend: Backend, settings: Settings) -> str:
    """Why the faults that a test injects are not wanted; empty when they are."""
    marks = list(item.iter_markers("faults"))
    families = dict.fromkeys(name for mark in marks for name in mark.args)
    left_out = [name for name in families if settings.faults and name not in settings.faults]
    if left_out:
        return f"left out by --backend-faults: {', '.join(left_out)}"
    destructive = any(mark.kwargs.get("destructive") for mark in marks)
    if destructive and backend.target == "real" and not settings.allow_destructive:
        return "hurts a service of a real target: needs --backend-allow-destructive"
    return ""


def without_backend(item: pytest.Item, backend: Backend) -> str:
    """The test's id without the backend, the same for all backends."""
    callspec: Any = getattr(item, "callspec", None)
    rest = callspec.id.removeprefix(backend.id).removeprefix("-") if callspec is not None else ""
    head = item.nodeid.removesuffix(f"[{callspec.id}]") if callspec is not None else item.nodeid
    return f"{head}[{rest}]" if rest else head


def in_scope(item: pytest.Item, settings: Settings) -> bool:
    """Whether the chosen tier and requirements ask for the test."""
    mark = item.get_closest_marker("tier")
    return chosen(mark.args[0] if mark else "default", cited(item), settings)


def chosen(tier: str, names: Sequence[str], settings: Settings) -> bool:
    """Whether a test of that tier that cites those requirements is asked for."""
    if TIERS.index(tier) > TIERS.index(settings.tier):
        return False
    return not settings.req or any(matches(pattern, name) for pattern in settings.req for name in names)


def missing(
    items: Sequence[pytest.Item], args: Sequence[str], backends: Sequence[Backend], settings: Settings
) -> list[Entry]:
    """Tests that the chosen suite files declare and that were not collected, as errors.

    Looks at files that were asked for as a whole; a file that fails to import is one of them.
    """
    whole = {name for arg in args if "::" not in arg and (name := _canonical(arg)) is not None}
    seen = {
        f"{item.nodeid.partition('::')[0]}::{getattr(item, 'originalname', item.name)}"
        for item in items
        if item.getparent(SuiteModule) is not None
    }
    return [
        {
            "id": f"{test.id}[{backend.id}]",
            "test": test.id,
            "backend": backend.id,
            "requirements": [name for name in test.requirements if name in requirements()],
            "sentence": test.sentence,
            "state": "error",
            "reason": f"{test.file} declares it, but it was not collected",
        }
        for test in declared_tests()
        if test.file in whole and test.id not in seen and chosen(test.tier, test.requirements, settings)
        for backend in backends
    ]


def _canonical(arg: str) -> str | None:
    return canonical(Path(arg).resolve())
