"""`lockproof list` and `lockproof explain`: what there is, and what a requirement demands and why."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import entry_points

import click

from lockproof.driver.registry import GROUP, load
from lockproof.plugin.collect import SUITES, DeclaredTest, declared_tests
from lockproof.report.card import clause_name, clause_url
from lockproof.spec import capabilities, requirements

WHAT = ("drivers", "suites", "tests", "requirements", "capabilities")


@click.command("list")
@click.argument("what", type=click.Choice(WHAT), required=False)
def list_(what: str | None) -> None:
    """List the installed drivers, the suites, their tests, the requirements or the capabilities.

    Without an argument: drivers and suites.
    """
    for name in [what] if what else ["drivers", "suites"]:
        if not what:
            click.echo(f"{name}:")
        for line in _lines(name):
            click.echo(line if what else f"  {line}")


def _lines(what: str) -> Iterable[str]:
    if what == "drivers":
        for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
            variants = getattr(load(point.value), "variants", ())
            yield f"{point.name:<12}{', '.join(f'{point.name}:{name}' for name in variants)}".rstrip()
        yield f"{'py:…':<12}py:MODULE:FACTORY, a driver of your own"
    elif what == "suites":
        for suite in SUITES:
            count = sum(test.file.startswith(f"suites/{suite}/") for test in declared_tests())
            yield f"{suite:<12}{count:>4} tests{'  (when named)' if suite == 'clients' else ''}"
    elif what == "tests":
        for test in declared_tests():
            yield f"{test.id}  {' '.join(test.requirements)}  {test.sentence}"
    elif what == "requirements":
        for requirement in requirements().values():
            yield f"{requirement.id:<18}{requirement.level:<8}{requirement.text}"
    else:
        for name, sentence in capabilities().items():
            yield f"{name:<24}{sentence}"


@click.command()
@click.argument("name", metavar="ID")
def explain(name: str) -> None:
    """Show a requirement: its text, where it comes from, its tests and its saboteurs."""
    requirement = requirements().get(name.upper())
    if requirement is None:
        near = difflib.get_close_matches(name.upper(), list(requirements()), n=3, cutoff=0.5)
        hint = f"; close: {', '.join(near)}" if near else "; `lockproof list requirements` shows all"
        raise click.UsageError(f"no requirement {name}{hint}")
    click.echo(f"{requirement.id}  {requirement.level}\n\n{requirement.text}\n")
    click.echo(
        f"Applies to backends with `{requirement.capability}`: {capabilities()[requirement.capability]}"
    )
    click.echo("\nBecause:")
    for clause in requirement.clauses:
        click.echo(f"  {clause_name(clause)}\n    “{' '.join(clause.quote.split())}”")
        if url := clause_url(clause):
            click.echo(f"    {url}")
    click.echo("\nTests:")
    citing = [test for test in declared_tests() if requirement.id in test.requirements]
    for test in citing:
        click.echo(f"  {test.id}{_when(test)}\n    {test.sentence}")
    if not citing:
        click.echo("  none")
    click.echo("\nSaboteurs that show whether the tests have teeth:")
    saboteurs = _saboteurs(requirement.id)
    for line in saboteurs or ["none"]:
        click.echo(f"  {line}")


def _when(test: DeclaredTest) -> str:
    return f"  (tier {test.tier})" if test.tier not in {"default", "smoke"} else ""


def _saboteurs(requirement: str) -> list[str]:
    from lockproof.fakes.saboteurs.catalogue import saboteurs

    found = [s for s in saboteurs() if requirement == s.breaks or requirement in s.also]
    return [f"{s.name}{'' if s.breaks == requirement else f' (breaks {s.breaks})'}: {s.story}" for s in found]
