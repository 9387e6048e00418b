"""`lockproof explain`: what a requirement demands, and why."""

from __future__ import annotations

import difflib

import click

from lockproof.plugin.collect import DeclaredTest, declared_tests
from lockproof.report.card import clause_name, clause_url
from lockproof.spec import capabilities, requirements


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
