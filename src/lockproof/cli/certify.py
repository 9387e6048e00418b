"""`lockproof certify`: a certificate, or the reason why there is none."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from lockproof.cli.teeth import Line

EXIT = {"violated": 1, "undecided": 2, "broke": 3}
# The options of a run that decide what it tells. The profile and the arguments have them.
NARROWING = (
    *("suite", "req", "tier", "without", "expect", "schedule", "faults", "clients"),
    *("seed", "duration", "report"),
)


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--backend", "spec", required=True, metavar="SPEC", help="The backend, as for pytest; one.")
@click.option("--backend-opt", "opts", multiple=True, metavar="KEY=VALUE", help="An option for its driver.")
@click.option(
    "--profile",
    "profile_name",
    default="production",
    show_default=True,
    metavar="NAME",
    help="What is demanded.",
)
@click.option(
    "--seeds",
    metavar="N,N,…",
    help="The seeds of the runs (fresh ones else, as many as the profile demands).",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Where the certificate goes.")
@click.option(
    "-n", "--workers", type=click.IntRange(min=1), metavar="N", help="Run tests in N processes (extra xdist)."
)
@click.option("--backend-timeout", metavar="SECONDS", help="Deadline of one call.")
@click.option("--backend-postgres", metavar="DSN", help="A Postgres to use instead of starting one.")
@click.option("--backend-real", is_flag=True, help="On the real workspace that the options name.")
@click.option("--backend-allow-destructive", is_flag=True, help="Hurt services of a real target too.")
@click.pass_context
def certify(
    context: click.Context,
    spec: str,
    opts: Sequence[str],
    profile_name: str,
    seeds: str | None,
    out: Path | None,
    workers: int | None,
    backend_timeout: str | None,
    backend_postgres: str | None,
    backend_real: bool,
    backend_allow_destructive: bool,
) -> int:
    """Certify a backend: all suites of a profile, with several seeds, each in a process of its own.

    Nothing can be left out or expected to fail. FOLDER (else certificate-BACKEND-TIME) then holds
    certificate.json, CERTIFICATE.md and what the runs left; `lockproof verify FOLDER` tells whether it still
    says what they said.

    Exit code 0: certified, every run is conformant. 1: something was violated. 2: nothing was, but something
    is unknown, or was not run. 3: a test or the bench broke. 4: usage. 130: interrupted. Unless it is 0,
    there is no certificate, and the run folders stay.
    """
    from lockproof.certificate.issue import Order, Refused
    from lockproof.certificate.issue import certify as issue
    from lockproof.certificate.profile import profiles
    from lockproof.certificate.runs import RunError

    _refuse(context.args)
    if profile_name not in profiles():
        raise click.UsageError(f"no profile named {profile_name!r}; there are: {', '.join(profiles())}")
    profile = profiles()[profile_name]
    words = [f"--backend-opt={opt}" for opt in opts]
    words += [f"-n{workers}"] if workers else []
    words += [f"--backend-timeout={backend_timeout}"] if backend_timeout else []
    words += [f"--backend-postgres={backend_postgres}"] if backend_postgres else []
    words += ["--backend-real"] if backend_real else []
    words += ["--backend-allow-destructive"] if backend_allow_destructive else []
    order = Order(spec, profile, _seeds(seeds, profile.seeds), words, _place(out, _one(spec)))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is as Ctrl-C
    try:
        digest = issue(order, click.echo, Line().show)
    except Refused as refused:
        for objection in refused.objections:
            click.echo(f"  {objection.kind}: {objection.text}", err=True)
        click.echo(f"lockproof: no certificate: {refused.objections[0].text}", err=True)
        return EXIT[refused.objections[0].kind]
    except RunError as error:
        if error.usage:
            raise click.UsageError(str(error)) from None
        click.echo(f"lockproof: no certificate: {error}", err=True)
        return EXIT["broke"]
    except OSError as error:
        raise click.UsageError(f"cannot write {error.filename}: {error.strerror}") from None
    except KeyboardInterrupt:
        click.echo("lockproof: no certificate: interrupted", err=True)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    click.echo(f"certified with profile {profile.name}: {digest}")
    click.echo(f"lockproof certificate: {order.out}/CERTIFICATE.md")
    return 0


def _refuse(extra: Sequence[str]) -> None:
    """Raises for whatever would leave something out or tell a test what to answer, wherever it stands."""
    if extra:
        name = extra[0].partition("=")[0]
        raise click.UsageError(
            f"certify leaves nothing out, so it takes no {name}; `lockproof run` does, and gives a report"
        )
    for where in _standing():
        raise click.UsageError(f"certify leaves nothing out: take away {where}")


def _standing() -> Iterator[str]:
    """The settings outside of the command line that decide what a run tells."""
    import tomllib

    from lockproof.plugin.options import ENVIRONMENT, FILE

    for name in NARROWING:
        if os.environ.get(variable := f"{ENVIRONMENT}{name.upper()}"):
            yield variable
    file = Path.cwd() / FILE
    if file.is_file():
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except (ValueError, OSError) as failure:
            raise click.UsageError(f"{FILE}: {failure}") from None
        yield from (f"`{name}` from {FILE}" for name in NARROWING if name in document)


def _one(spec: str) -> str:
    """How reports name the backend, when it is one. Raises for a name of none or of several."""
    from lockproof.driver.registry import SpecError, resolve

    try:
        found = resolve(spec)
    except SpecError as error:
        raise click.UsageError(str(error)) from None
    if len(found) > 1:
        names = ", ".join(one.id for one in found)
        raise click.UsageError(f"--backend={spec} stands for {names}: a certificate is about one")
    return found[0].id


def _seeds(given: str | None, demanded: int) -> list[int]:
    if given is None:
        fresh: set[int] = set()
        while len(fresh) < demanded:
            fresh.add(secrets.randbelow(1 << 31))
        return sorted(fresh)
    try:
        seeds = [int(word) for word in given.split(",")]
    except ValueError:
        raise click.UsageError(f"--seeds must be whole numbers with commas between, not {given!r}") from None
    if len(set(seeds)) < max(demanded, len(seeds)):
        raise click.UsageError(f"--seeds: the profile demands {demanded} different ones")
    return seeds


def _place(out: Path | None, backend: str) -> Path:
    """Where the certificate goes. Raises when there is something already."""
    if out is None:
        name = "-".join("".join(c if c.isalnum() or c in ".-" else " " for c in backend).split())
        out = Path(f"certificate-{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise click.UsageError(f"--out: {out} is there already; a certificate is never written over")
    return out
