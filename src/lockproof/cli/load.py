"""`lockproof load`: many clients at once, whose histories are judged."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import re
import secrets
import shlex
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lockproof.load.scenarios import SCENARIOS

if TYPE_CHECKING:
    from lockproof.load.plan import Plan
    from lockproof.load.run import Outcome

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
MASTERS = (
    "scenario",
    "users",
    "spawn_rate",
    "duration",
    "rate",
    "ramp",
    "seed",
    "timeout",
    "lock_timeout",
    "retry_every",
)


class Duration(click.ParamType[float]):
    """Seconds, as `90`, `90s`, `2m` or `1h`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if not found or not (seconds := float(found[1]) * UNITS[found[2]]):
            self.fail(f"{value!r} is no duration: write 90s, 2m or 1h", param, ctx)
        return seconds


class Rate(click.ParamType[float]):
    """Jobs per second, as `50` or `50/s`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/s)?", str(value))
        if not found or not (rate := float(found[1])):
            self.fail(f"{value!r} is no rate: write 50/s", param, ctx)
        return rate


@click.command()
@click.option("--backend", required=True, metavar="SPEC", help="The backend, as pytest's --backend.")
@click.option("--backend-opt", multiple=True, metavar="KEY=VALUE", help="Option for the driver; repeatable.")
@click.option("--scenario", type=click.Choice(list(SCENARIOS)), default="hot-lock", show_default=True)
@click.option("--users", type=click.IntRange(1), default=20, show_default=True, help="Clients at once.")
@click.option("--spawn-rate", type=click.FloatRange(0.1), default=20.0, help="Users that start per second.")
@click.option("--duration", type=Duration(), default="60s", show_default=True, help="For how long.")
@click.option("--rate", type=Rate(), help="Open load: so many jobs arrive per second.")
@click.option("--ramp", type=Rate(), help="Find the knee: open load from this rate on, --duration each.")
@click.option("--lock-timeout", type=Duration(), help="How long one asks for a lock.  [default: to the end]")
@click.option("--retry-every", type=Duration(), help="Ask again after that.  [default: OpenTofu's back-off]")
@click.option("--seed", type=int, help="Seed of everything random.  [default: a fresh one]")
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="Deadline of one call.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Of this machine.")
@click.option("--web", is_flag=True, help="Locust's own page, on 127.0.0.1, while it runs.")
@click.option("--web-port", type=click.IntRange(1, 65535), default=8089, show_default=True)
@click.option("--master", is_flag=True, help="Lead workers of other machines; drives no users itself.")
@click.option("--worker", is_flag=True, help="Drive users for a master, who tells what to do.")
@click.option("--master-host", default="127.0.0.1", show_default=True, help="Where the master is, listens.")
@click.option("--master-port", type=click.IntRange(1, 65535), default=5557, show_default=True)
@click.option("--expect-workers", type=click.IntRange(1), help="That a master waits for.  [default: 1]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: under .lockproof/]")
def load(**given: Any) -> int:
    """Drive a backend with many clients at once, and judge the history of it.

    Closed load: each user does one job after the other. Open load (--rate): jobs arrive at a fixed rate and
    their latency counts from when they were due. Exit code 0: the history is valid, 1: violated, 2: unknown,
    4: usage.
    """
    _require_extra()
    _refuse_contradictions(given)
    return _run(given)


def _run(given: dict[str, Any]) -> int:
    import pytest

    from lockproof.load.run import LoadError, Network, drive, started, worker
    from lockproof.plugin.options import Settings
    from lockproof.plugin.services import specifications, start
    from lockproof.report.redact import Redactor

    redactor = Redactor()
    settings = Settings((given["backend"],), opt=given["backend_opt"])
    with contextlib.ExitStack() as stack:
        try:
            specs = specifications(settings)
            if len(specs) > 1:
                named = ", ".join(spec.id for spec in specs)
                raise click.UsageError(f"--backend={given['backend']} is several backends; name one: {named}")
            service, _ = start(specs[0], settings, stack, redactor)
        except pytest.UsageError as error:
            raise click.UsageError(str(error)) from None
        plan = _plan(given, service)
        if given["master"] or given["worker"]:
            _require_common(service, specs[0].options)
        network = Network(
            given["master_host"], given["master_port"], given["web_port"] if given["web"] else None
        )
        try:
            if given["worker"]:
                worker(plan, network, redactor, click.echo)
                click.echo("the master judges the history")
                return 0
            command = shlex.join(["lockproof", *redactor.arguments(sys.argv[1:])])
            scope = started(stack, plan)

            def run(step: Plan) -> Outcome:
                return drive(step, service.info, scope, network, redactor, command, click.echo)

            if given["web"]:
                click.echo(f"locust's page, while it runs: http://127.0.0.1:{given['web_port']}/")
            if given["ramp"]:
                return _ramp(plan, given["ramp"], run)
            outcome = run(plan)
        except LoadError as error:
            raise click.ClickException(str(error)) from None
        _tell(outcome, Path(plan.folder))
        return _code(outcome)


def _ramp(plan: Plan, first: float, drive: Any) -> int:
    from lockproof.load.ramp import climb, write

    found = climb(plan, first, drive, click.echo)
    write(Path(plan.folder), found)
    click.echo(found.headline)
    click.echo(f"report: {plan.folder}/ramp.md")
    return max((_code(step.outcome) for step in found.steps), key=[0, 2, 1].index)


def _tell(outcome: Outcome, folder: Path) -> None:
    document = outcome.document
    response, throughput = document["response_ms"], document["throughput"]
    click.echo(
        f"{throughput['jobs']} jobs in {throughput['seconds']:.1f} s; response (ms): p50 {response['p50']}, "
        f"p95 {response['p95']}, p99 {response['p99']}, max {response['max']}"
    )
    if (locking := document["locking"]) is not None:
        click.echo(
            f"{locking['granted']} locks granted, {locking['never_granted']} never; longest wait "
            f"{locking['longest_wait_ms'] / 1000:.2f} s; fairness (Jain) {locking['fairness']['jain']}"
        )
    click.echo(
        f"history of {document['history']['operations']} calls: {outcome.verdict.status}: "
        f"{outcome.verdict.headline}"
    )
    click.echo(f"report: {folder}/load.md")


def _code(outcome: Outcome) -> int:
    from lockproof.load.run import EXIT

    return EXIT[outcome.verdict.status]


def _plan(given: dict[str, Any], service: Any) -> Plan:
    from lockproof.load.plan import Plan

    lacking = sorted(SCENARIOS[given["scenario"]].needs - service.effective)
    if lacking and not given["worker"]:
        raise click.UsageError(
            f"scenario {given['scenario']} needs {', '.join(lacking)}, which {service.id} does not claim"
        )
    attach = "clients.process" in service.effective
    if not attach and (given["processes"] > 1 or given["master"] or given["worker"]):
        raise click.UsageError(
            f"backend {service.id} does not claim clients.process: its clients must be in one process"
        )
    workers = (given["expect_workers"] or 1) if given["master"] else given["processes"]
    return Plan(
        backend=service.id,
        entry=service.spec.entry,
        options=dict(service.spec.options),
        capabilities=tuple(sorted(service.effective)),
        target=service.info.target,
        scope=f"lp-{uuid.uuid4().hex[:12]}",
        attach=attach,
        scenario=given["scenario"],
        users=given["users"],
        spawn_rate=given["spawn_rate"],
        duration=given["duration"],
        rate=given["rate"],
        seed=secrets.randbelow(1 << 31) if given["seed"] is None else given["seed"],
        timeout=given["timeout"],
        lock_timeout=given["lock_timeout"],
        retry_every=given["retry_every"],
        folder=str(_folder(given["out"])),
        role="master" if given["master"] else "worker" if given["worker"] else "local",
        workers=workers,
        processes=given["processes"],
    )


def _folder(chosen: Path | None) -> Path:
    now = datetime.datetime.now(datetime.UTC)
    folder = (chosen or Path(".lockproof", f"load-{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}")).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise click.UsageError(f"--out: {folder} is not empty; choose a new folder")
    except OSError as error:
        raise click.UsageError(f"--out: cannot use {folder}: {error.strerror}") from None
    return folder


def _require_common(service: Any, options: Any) -> None:
    """Several machines must mean one backend: what was started here others do not reach."""
    own = sorted(set(service.spec.options) - set(options))
    if own and service.info.target != "real":
        raise click.UsageError(
            f"backend {service.id} starts its own services on each machine; with --master and --worker say "
            f"by --backend-opt where the one is that all share ({', '.join(own)})"
        )


def _refuse_contradictions(given: dict[str, Any]) -> None:
    pairs: Sequence[tuple[str, str]] = [
        ("master", "worker"),
        ("rate", "ramp"),
        ("ramp", "master"),
        ("ramp", "web"),
        ("worker", "web"),
    ]
    for one, other in pairs:
        if given[one] and given[other]:
            raise click.UsageError(f"--{one} and --{other} do not go together")
    if given["master"] and given["processes"] > 1:
        raise click.UsageError("a --master drives no users: give --processes to its workers")
    if given["expect_workers"] and not given["master"]:
        raise click.UsageError("--expect-workers is for --master")
    if given["worker"]:
        source = click.get_current_context().get_parameter_source
        for name in MASTERS:
            if source(name) is not ParameterSource.DEFAULT:
                raise click.UsageError(f"--{name.replace('_', '-')} is the master's to say, not a worker's")
    if given["users"] < given["processes"]:
        raise click.UsageError(f"{given['processes']} processes need at least as many --users")


def _require_extra() -> None:
    if any(importlib.util.find_spec(name) is None for name in ("locust", "hdrh")):
        raise click.UsageError("load needs locust and HdrHistogram: pip install 'lockproof[load]'")
