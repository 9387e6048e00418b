"""`lockproof explain`: what a requirement demands, and why."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import click

from lockproof.plugin.collect import DeclaredTest, declared_tests
from lockproof.report.card import clause_name, clause_url
from lockproof.spec import Requirement, capabilities, requirements
from lockproof.spec.bugs import Bug, bug_of, bugs, url_of


@click.command()
@click.argument("name", metavar="ID")
def explain(name: str) -> None:
    """Show a requirement: its text, where it comes from, its tests and its saboteurs. Or a bug that was
    reported of a real backend, such as opentofu#4405, and the tests that would find it."""
    requirement, bug = requirements().get(name.upper()), bug_of(name.lower())
    if requirement is not None:
        _explain_requirement(requirement)
    elif bug is not None:
        _explain_bug(bug)
    else:
        known = [*requirements(), *(known for bug in bugs() for known in bug.names)]
        near = difflib.get_close_matches(name.upper(), known, n=3, cutoff=0.5)
        near = near or difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        lists = "`lockproof list requirements` shows all, `lockproof list bugs` all bugs"
        hint = f"close: {', '.join(near)}" if near else lists
        raise click.UsageError(f"no requirement {name}; {hint}")


def _explain_bug(bug: Bug) -> None:
    click.echo(f"{', '.join(bug.names)}\n\n{bug.broke}\n")
    for url in filter(None, map(url_of, bug.names)):
        click.echo(f"  {url}")
    click.echo("\nTests that would find it:")
    _show([test for test in declared_tests() if set(bug.names) & set(test.bugs)])
    if bug.client:
        click.echo(f"\nNo state server can suffer it: {bug.client}.")


def _explain_requirement(requirement: Requirement) -> None:
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
    _show([test for test in declared_tests() if requirement.id in test.requirements])
    click.echo("\nSaboteurs that show whether the tests have teeth:")
    saboteurs = _saboteurs(requirement.id)
    for line in saboteurs or ["none"]:
        click.echo(f"  {line}")


def _show(tests: Sequence[DeclaredTest]) -> None:
    for test in tests:
        click.echo(f"  {test.id}{_when(test)}\n    {test.sentence}")
        if test.bugs:
            click.echo(f"    after {', '.join(test.bugs)}")
    if not tests:
        click.echo("  none")


def _when(test: DeclaredTest) -> str:
    return f"  (tier {test.tier})" if test.tier not in {"default", "smoke"} else ""


def _saboteurs(requirement: str) -> list[str]:
    from lockproof.fakes.saboteurs.catalogue import saboteurs

    found = [s for s in saboteurs() if requirement == s.breaks or requirement in s.also]
    return [f"{s.name}{'' if s.breaks == requirement else f' (breaks {s.breaks})'}: {s.story}" for s in found]
