"""The options of a run: command line, then environment (`LOCKPROOF_*`), then `lockproof.toml`."""

from __future__ import annotations

import argparse
import difflib
import os
import secrets
import shlex
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest

from lockproof.chaos.nemesis import FAMILIES, require_families
from lockproof.plugin.collect import SUITES, schedule_test, suite_root

TIERS = ("smoke", "default", "full", "soak")
FILE = "lockproof.toml"
ENVIRONMENT = "LOCKPROOF_"


@dataclass(frozen=True)
class Option:
    """One option: `--backend-NAME` (with hyphens), `LOCKPROOF_NAME`, and key `NAME` of `lockproof.toml`.

    `kind`: `text`, `integer`, `seconds`, `flag`, `list` (repeatable, comma-separated) or
    `pairs` (repeatable `KEY=VALUE`; a table in the file). `typed`: it stands on the command line or nowhere,
    since what was forgotten in an environment must not aim a run at somebody's workspace.
    """

    name: str
    help: str
    metavar: str = "TEXT"
    kind: str = "text"
    typed: bool = False

    @property
    def flag(self) -> str:
        return f"--backend-{self.name.replace('_', '-')}"

    @property
    def dest(self) -> str:
        return f"lockproof_{self.name}"


OPTIONS = (
    Option("opt", "option for the driver; with several backends NAME.KEY=VALUE", "KEY=VALUE", "pairs"),
    Option("suite", f"suites to run, comma-separated ({', '.join(SUITES)})", "NAMES", "list"),
    Option("req", "run only tests of these requirements, for example 'LOCK-*'", "PATTERN", "list"),
    Option("tier", f"how much to run: {', '.join(TIERS)} (default: default)", "TIER"),
    Option("without", "treat a declared capability as switched off; its tests are `disabled`", "CAP", "list"),
    Option("expect", "TOML file of expected failures", "FILE"),
    Option("seed", "seed of everything random in the tests (default: a fresh one)", "N", "integer"),
    Option("clients", "how many clients the concurrent tests use", "N", "integer"),
    Option("schedule", "replay this schedule of an explored program, and run nothing else", "FILE"),
    Option("faults", f"families of faults to inject ({', '.join(FAMILIES)}; default: all)", "NAMES", "list"),
    Option("duration", "how long a test of tier soak goes on (default: 60)", "SECONDS", "seconds"),
    Option("real", "test on the real workspace that --backend-opt names", kind="flag", typed=True),
    Option("allow_destructive", "hurt services of a real target too, not only our own links", kind="flag"),
    Option("report", "run folder (default: a new one under .lockproof/)", "DIR"),
    Option("postgres", "a Postgres to use instead of starting one", "DSN"),
    Option("timeout", "deadline of one call (default: 30)", "SECONDS", "seconds"),
    Option("keep", "leave what the tests made in the backend", kind="flag"),
)


@dataclass(frozen=True)
class Settings:
    """The options of a run after precedence; plain data, so that it can be sent to a worker."""

    backends: Sequence[str]
    opt: Sequence[str] = ()
    suite: Sequence[str] = ()
    req: Sequence[str] = ()
    tier: str = "default"
    without: Sequence[str] = ()
    expect: str | None = None
    seed: int = 0
    clients: int | None = None
    schedule: str | None = None
    faults: Sequence[str] = ()
    duration: float = 60.0
    real: bool = False
    allow_destructive: bool = False
    report: str | None = None
    postgres: str | None = None
    timeout: float = 30.0
    keep: bool = False
    unknown_variables: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**{field.name: document[field.name] for field in fields(cls)})


def prepare(namespace: argparse.Namespace, args: Sequence[str]) -> None:
    """Corrects the paths that the initial conftests are looked for beside, while our options are not
    registered: the value of a separate `--backend VALUE` is no path, and a pasted id is one."""
    names = {"--backend", *(option.flag for option in OPTIONS if option.kind != "flag")}
    values = {value for name, value in pairwise(args) if name in names}
    namespace.file_or_dir = installed_paths([p for p in namespace.file_or_dir if p not in values])


def taken(config: pytest.Config, parser: pytest.Parser) -> bool:
    """Whether somebody else has defined one of our options.

    pytest keeps the names in the parser since 9, in the config before; neither shows them otherwise.
    """
    names = {*getattr(parser, "_opt2dest", ()), *getattr(config, "_opt2dest", ())}
    return not names.isdisjoint({"--backend", *(option.flag for option in OPTIONS)})


def register(parser: pytest.Parser) -> None:
    """Adds the options to the command line. Defaults are left out: a worker's come with its input."""
    group = parser.getgroup("lockproof", "state backend conformance (lockproof)")
    group.addoption(
        "--backend",
        action="append",
        dest="lockproof_backend",
        metavar="SPEC",
        default=[],
        help="state backend to certify: a name, py:MODULE:FACTORY or http:URL; repeatable",
    )
    for option in OPTIONS:
        name = option.flag
        if option.kind == "flag":
            group.addoption(name, action="store_true", default=None, dest=option.dest, help=option.help)
        else:
            action = "append" if option.kind in {"list", "pairs"} else "store"
            group.addoption(
                name, action=action, dest=option.dest, metavar=option.metavar, default=None, help=option.help
            )


def installed_paths(args: Sequence[str]) -> list[str]:
    """`args` with every printed id (`suites/locks/test_x.py::test_y[…]`) that is no path of the
    working directory replaced by the path of the installed file, so that ids can be pasted anywhere."""
    mapped = []
    for arg in args:
        path, found, rest = arg.partition("::")
        if path.startswith("suites/") and not Path(path).exists():
            installed = suite_root() / path.removeprefix("suites/")
            if installed.exists():
                arg = f"{installed}{found}{rest}"
        mapped.append(arg)
    return mapped


def read(config: pytest.Config) -> Settings | None:
    """The settings of this run, `None` without `--backend`. Raises `pytest.UsageError`."""
    given = {option: getattr(config.option, option.dest, None) for option in OPTIONS}
    backends = tuple(config.option.lockproof_backend)
    if not backends:
        for option, value in given.items():
            if value is not None:
                raise pytest.UsageError(f"{option.flag} does nothing without --backend=SPEC")
        return None
    values: dict[str, Any] = {}
    values.update(_from_file(config.invocation_params.dir / FILE))
    values.update(_from_environment(os.environ))
    values.update(_from_command_line(given))
    values.setdefault("seed", secrets.randbelow(1 << 31))
    if values.get("tier", "default") not in TIERS:
        raise pytest.UsageError(f"no tier named {values['tier']!r}: choose one of {', '.join(TIERS)}")
    if values.get("clients") is not None and values["clients"] < 2:
        raise pytest.UsageError("--backend-clients needs at least 2")
    if not 0 < values.get("timeout", 1.0) <= threading.TIMEOUT_MAX:  # refuses NaN as well
        raise pytest.UsageError("--backend-timeout needs a positive, finite number of seconds")
    if not 0 < values.get("duration", 1.0) <= threading.TIMEOUT_MAX:
        raise pytest.UsageError("--backend-duration needs a positive, finite number of seconds")
    if config.option.lockproof_duration is not None and values.get("tier") != "soak":
        raise pytest.UsageError("--backend-duration is for tests of tier soak: add --backend-tier=soak")
    try:
        require_families(values.get("faults", ()))
    except LookupError as error:
        raise pytest.UsageError(f"--backend-faults: {error.args[0]}") from None
    if values.get("schedule"):
        values["schedule"] = _schedule(config.invocation_params.dir / values["schedule"])
    for name in values.get("suite", ()):
        if name not in SUITES:
            raise pytest.UsageError(f"no suite named {name!r}{_near(name, SUITES)}: {', '.join(SUITES)}")
    return Settings(backends, unknown_variables=unknown_variables(os.environ), **values)


def driver_options(typed: Sequence[str], directory: Path, environ: Mapping[str, str]) -> Sequence[str]:
    """The `KEY=VALUE` of `--backend-opt` for a command that is no run, by the same precedence: as typed, else
    from the environment, else from `lockproof.toml` in `directory`. Raises `pytest.UsageError`."""
    found = {**_from_file(directory / FILE), **_from_environment(environ)}
    return tuple(typed) or tuple(found.get("opt", ()))


def _schedule(path: Path) -> str:
    """The whole path of a schedule that some test can replay."""
    from lockproof.explore import Schedule, ScheduleError
    from lockproof.suites.concurrency.catalogue import PROGRAMS

    try:
        schedule = Schedule.load(path)
    except ScheduleError as error:
        raise pytest.UsageError(f"--backend-schedule {error}") from None
    try:
        schedule_test(schedule.program)
        schedule.require_of(PROGRAMS[schedule.program])
    except (LookupError, ScheduleError) as error:
        raise pytest.UsageError(f"--backend-schedule {path}: {error.args[0]}") from None
    return str(path)


def unknown_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Variables that look like ours and are not: a typo must not pass unseen."""
    known = {ENVIRONMENT + option.name.upper() for option in OPTIONS}
    return tuple(sorted(name for name in environ if name.startswith(ENVIRONMENT) and name not in known))


def _from_command_line(given: Mapping[Option, Any]) -> dict[str, Any]:
    values = {}
    for option, value in given.items():
        if value is None:
            continue
        where = option.flag
        if option.kind == "list":
            value = ",".join(value)
        values[option.name] = tuple(value) if option.kind == "pairs" else _convert(option, value, where)
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for option in OPTIONS:
        name = ENVIRONMENT + option.name.upper()
        if environ.get(name):
            if option.typed:
                raise pytest.UsageError(f"{name} is set: {option.flag} is given on the command line only")
            values[option.name] = _convert(option, environ[name], name)
    return values


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as failure:
        raise pytest.UsageError(f"{path.name}: {failure}") from None
    known = {option.name: option for option in OPTIONS}
    values = {}
    for name, value in document.items():
        if name == "backend":
            raise pytest.UsageError(f"{path.name}: `backend` is given on the command line only")
        if name not in known:
            hint = _near(name, known)
            raise pytest.UsageError(f"{path.name}: unknown key {name!r}{hint}; known: {', '.join(known)}")
        if known[name].typed:
            raise pytest.UsageError(f"{path.name}: `{name}` is given on the command line only")
        values[name] = _convert_toml(known[name], value, f"{path.name}: {name}")
    return values


def _convert_toml(option: Option, value: Any, where: str) -> Any:
    if option.kind == "pairs":
        if not isinstance(value, dict):
            raise pytest.UsageError(f"{where} must be a table of driver options")
        return tuple(_pairs(value))
    if option.kind == "list":
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in items):
            raise pytest.UsageError(f"{where} must be text or a list of text")
        return tuple(items)
    kinds: dict[str, Any] = {"integer": int, "seconds": (int, float), "flag": bool, "text": str}
    if not isinstance(value, kinds[option.kind]) or (isinstance(value, bool) and option.kind != "flag"):
        raise pytest.UsageError(f"{where} must be of kind {option.kind}, not {value!r}")
    try:
        return float(value) if option.kind == "seconds" else value
    except OverflowError:
        raise pytest.UsageError(f"{where} is too large") from None


def _pairs(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    pairs = []
    for name, value in table.items():
        if isinstance(value, dict):
            pairs += _pairs(value, f"{prefix}{name}.")
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            pairs.append(f"{prefix}{name}={text}")
    return pairs


def _convert(option: Option, text: Any, where: str) -> Any:
    if option.kind == "flag":
        if text is True:
            return True
        if str(text).lower() not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
            raise pytest.UsageError(f"{where} must be true or false, not {text!r}")
        return str(text).lower() in {"1", "true", "yes", "on"}
    if option.kind == "list":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if option.kind == "pairs":
        try:
            return tuple(shlex.split(text))
        except ValueError as failure:
            message = f"{where} must be KEY=VALUE words, quoted as in a shell: {failure}"
            raise pytest.UsageError(message) from None
    try:
        return {"integer": int, "seconds": float, "text": str}[option.kind](text)
    except ValueError:
        raise pytest.UsageError(f"{where} must be a number, not {text!r}") from None


def _near(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
