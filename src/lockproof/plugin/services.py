"""What all processes of a run share: the backends, started once, and the facts about them.

Only the controller starts anything. A worker receives plain data and connects; what it collects
depends on that data alone, so that every worker collects the same tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Self

import pytest

from lockproof.driver.api import Capabilities, Driver, DriverInfo
from lockproof.driver.registry import BackendSpec, SpecError, resolve
from lockproof.plugin.options import Settings
from lockproof.report.redact import Redactor
from lockproof.spec import capabilities


@dataclass(frozen=True)
class Service:
    """One backend of a run as it was found by the controller. Plain data.

    `declared` are the driver's capabilities, `disabled` those that `--backend-without` switched off.
    """

    spec: BackendSpec
    info: DriverInfo
    declared: Sequence[str]
    disabled: Sequence[str]

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def effective(self) -> Capabilities:
        """What the tests may rely on: declared and not switched off."""
        return Capabilities(set(self.declared) - set(self.disabled))

    def connect(self) -> Driver:
        """A driver of this process."""
        return self.spec.connect()

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": {"id": self.spec.id, "entry": self.spec.entry, "options": dict(self.spec.options)},
            "info": asdict(self.info),
            "declared": list(self.declared),
            "disabled": list(self.disabled),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        spec, info = BackendSpec(**document["spec"]), DriverInfo(**document["info"])
        return cls(spec, info, tuple(document["declared"]), tuple(document["disabled"]))


def specifications(settings: Settings) -> Sequence[BackendSpec]:
    """The backends that the command line names, each with its own options.

    Raises `pytest.UsageError` for a name that is not there, an option that is nobody's, or a backend
    that is named twice.
    """
    specs: list[BackendSpec] = []
    for spec in settings.backends:
        own = _own_options(spec, settings)
        try:
            found = resolve(spec, own)
            specs += [one.real(keep=settings.keep) for one in found] if settings.real else found
        except SpecError as error:
            raise pytest.UsageError(str(error)) from None
    ids = [spec.id for spec in specs]
    for name in ids:
        if ids.count(name) > 1:
            raise pytest.UsageError(f"backend {name} is named twice")
    unknown = [name for name in settings.without if name not in capabilities()]
    if unknown:
        known = ", ".join(capabilities())
        raise pytest.UsageError(f"--backend-without: no capability named {unknown[0]!r}; known: {known}")
    return specs


def start(
    spec: BackendSpec, settings: Settings, stack: ExitStack, redactor: Redactor
) -> tuple[Service, Driver]:
    """Starts what the backend shares between processes (stopped when `stack` closes) and asks the
    driver what it is. Raises `pytest.UsageError`, one line without secrets, for options that the
    driver refuses and for whatever cannot be started or reached: then nothing can be collected."""
    redactor.learn(spec.options)
    try:
        factory = spec.factory()
        if settings.postgres and getattr(factory, "takes_postgres", hasattr(factory, "provision")):
            spec = spec.with_options({"postgres_dsn": settings.postgres})
            redactor.learn(spec.options)
        shared: AbstractContextManager[Mapping[str, str]] = spec.provision()
        added = stack.enter_context(shared)
        redactor.learn(added)
        spec = spec.with_options(added)
        driver = spec.connect()
        declared = Capabilities({*driver.capabilities(), *_by_nature(spec, driver)})
        info = driver.info
    except (ValueError, SpecError) as error:
        raise pytest.UsageError(f"backend {spec.id}: {redactor.text(_line(error))}") from error
    except Exception as error:
        reason = redactor.text(_line(error))
        raise pytest.UsageError(f"backend {spec.id} could not be started: {reason}") from error
    unknown = sorted(declared - set(capabilities()))
    if unknown:
        raise pytest.UsageError(f"backend {spec.id} declares unknown capabilities: {', '.join(unknown)}")
    off = {name for name in declared if any(covers(gone, name) for gone in settings.without)}
    return Service(spec, info, tuple(sorted(declared)), tuple(sorted(off))), driver


def _by_nature(spec: BackendSpec, driver: Driver) -> set[str]:
    """What a backend is capable of whatever its driver says: a `py:` driver's clients are in this process,
    and links that a driver has can fail."""
    nature = {"in-process"} if spec.id.startswith("py:") else set()
    protocols = {address.protocol for address in driver.links().values()}
    return nature | {"links" for _ in protocols} | {"links.http" for name in protocols if name == "http"}


def covers(switched_off: str, name: str) -> bool:
    """Whether switching a capability off takes `name` with it, as `locking` takes `locking.fencing`."""
    return switched_off in Capabilities([name])


def _own_options(spec: str, settings: Settings) -> dict[str, str]:
    prefixes = {name: (name, name.partition(":")[0]) for name in settings.backends}
    own: dict[str, str] = {}
    for item in settings.opt:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise pytest.UsageError(f"--backend-opt {key or item}: write KEY=VALUE")
        owners = [name for name, starts in prefixes.items() if any(key.startswith(f"{s}.") for s in starts)]
        if not owners and len(settings.backends) > 1:
            one = settings.backends[0].partition(":")[0]
            message = f"--backend-opt {key}: several backends are tested; say whose it is: {one}.{key}=…"
            raise pytest.UsageError(message)
        if not owners:
            own[key] = value
        elif spec in owners:
            start = max((s for s in prefixes[spec] if key.startswith(f"{s}.")), key=len)
            own[key.removeprefix(f"{start}.")] = value
    return own


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())
