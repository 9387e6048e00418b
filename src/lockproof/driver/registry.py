"""From `--backend=SPEC` to a driver: entry points of group `lockproof.drivers`, and connectables."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, cast
from urllib.parse import urlsplit

from lockproof.driver.api import Driver

GROUP = "lockproof.drivers"
RESERVED = ("exec", "tofu")


class SpecError(ValueError):
    """A `--backend` that names nothing; the message is one line for the user."""


@dataclass(frozen=True)
class BackendSpec:
    """One backend of a run.

    `id` stands in test ids, histories and reports and holds no credentials; `options` is what the
    factory receives; both are plain text, so that a spec can be sent to another process.
    """

    id: str
    entry: str
    options: Mapping[str, str]

    def factory(self) -> Callable[[Mapping[str, str]], Driver]:
        """The driver's factory, imported now."""
        return load(self.entry)

    def connect(self) -> Driver:
        """A driver of this process, once what it needs was provisioned."""
        return self.factory()(self.options)

    def with_options(self, options: Mapping[str, str]) -> BackendSpec:
        """The same backend with further options, or others."""
        return BackendSpec(self.id, self.entry, {**self.options, **options})

    def real(self, *, keep: bool = False) -> BackendSpec:
        """The same backend on a service that exists; `keep`: what is made there is to stay.

        A factory has an attribute `real`, the entry of the factory for that. Raises `SpecError` without one.
        """
        entry = getattr(self.factory(), "real", None)
        if entry is None:
            raise SpecError(f"--backend-real: backend {self.id!r} has no other target than the one it names")
        return BackendSpec(self.id, entry, {**self.options, **({"keep": "true"} if keep else {})})

    def provision(self) -> AbstractContextManager[Mapping[str, str]]:
        """Starts what all processes of the run share (servers, databases); on exit stops it.

        Yields options to add to the spec's own. A factory takes part by an attribute
        `provision(options)` that returns such a context manager.
        """
        provision = getattr(self.factory(), "provision", None)
        if provision is None:
            return nullcontext({})
        return cast("AbstractContextManager[Mapping[str, str]]", provision(self.options))


def load(entry: str) -> Callable[[Mapping[str, str]], Driver]:
    """The object at `module:attribute`. Raises `SpecError` when it is not there."""
    module_name, _, attribute = entry.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as failure:
        raise SpecError(f"cannot load the driver factory {entry!r}: {failure}") from failure
    return cast("Callable[[Mapping[str, str]], Driver]", found)


def resolve(spec: str, options: Mapping[str, str] | None = None) -> Sequence[BackendSpec]:
    """The backends that `--backend=SPEC` stands for: one, or each variant of a driver that has variants.

    A driver that has `default_variants` besides is run with these alone unless one is named.

    Raises `SpecError` for a name, variant or connectable that is not there.
    """
    options = dict(options or {})
    kind, _, rest = spec.partition(":")
    if kind in RESERVED:
        raise SpecError(f"--backend={kind}:… is not available yet; use a named driver, py:, or http:")
    if kind == "py":
        if rest.count(":") != 1:
            raise SpecError(f"--backend={spec}: write py:MODULE:FACTORY, for example py:my_driver:make")
        if os.getcwd() not in sys.path and "" not in sys.path:
            sys.path.insert(0, os.getcwd())
        return [BackendSpec(spec, rest, options)]
    points = {point.name: point for point in entry_points(group=GROUP)}
    if kind == "http" and rest:
        return [
            BackendSpec(f"http:{public_address(rest)}", points["http"].value, {**options, "address": rest})
        ]
    if kind not in points:
        near = difflib.get_close_matches(kind, [*points, "py", "http"], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = ", ".join(sorted(points))
        raise SpecError(f"no backend driver named {kind!r}{hint} (installed: {known}; or py:MODULE:FACTORY)")
    entry = points[kind].value
    factory = load(entry)
    variants: Sequence[str] = getattr(factory, "variants", ())
    if rest and rest not in variants:
        have = f"its variants are {', '.join(variants)}" if variants else "it has no variants"
        raise SpecError(f"backend {kind!r} has no variant {rest!r}: {have}")
    if not variants:
        return [BackendSpec(kind, entry, options)]
    chosen = [rest] if rest else list(getattr(factory, "default_variants", variants))
    return [BackendSpec(f"{kind}:{name}", entry, {**options, "variant": name}) for name in chosen]


def nameable() -> Sequence[str]:
    """The ids that backends can have that are named by an installed driver, running or not."""
    ids: list[str] = []
    for name in sorted({point.name for point in entry_points(group=GROUP)}):
        try:
            ids += [spec.id for spec in resolve(name)]
        except SpecError:  # cannot be loaded here: its variants are not known
            ids.append(name)
    return ids


def public_address(url: str) -> str:
    """`url` without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as failure:  # says what, not the address, which may hold a secret
        raise SpecError(f"--backend=http:URL: the address is malformed: {failure}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SpecError("--backend=http:URL needs a full http:// or https:// address")
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
