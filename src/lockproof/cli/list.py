"""`lockproof list`: what there is to run and to prove."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points

import click

from lockproof.driver.registry import GROUP, load
from lockproof.plugin.collect import SUITES, declared_tests
from lockproof.spec import capabilities, requirements
from lockproof.spec.bugs import bugs

WHAT = ("drivers", "suites", "tests", "requirements", "capabilities", "bugs")


@click.command("list")
@click.argument("what", type=click.Choice(WHAT), required=False)
def list_(what: str | None) -> None:
    """List the installed drivers, the suites, their tests, the requirements, the capabilities
    or the bugs that were reported of real backends.

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
    elif what == "bugs":
        for bug in bugs():
            yield f"{bug.names[0]:<24}{bug.broke}"
    else:
        for name, sentence in capabilities().items():
            yield f"{name:<24}{sentence}"
