"""`lockproof verify`: whether a certificate says what its runs said."""

from __future__ import annotations

from pathlib import Path

import click

REFUSED = 1


@click.command()
@click.argument("path", metavar="FOLDER|certificate.json", type=click.Path(path_type=Path))
def verify(path: Path) -> int:
    """Verify a certificate: its files, what it states, and the verdict, worked out again from the events and
    the histories of its runs.

    Also tells whether the suite that certified is the one installed here; another one is no reason to refuse,
    but then what its reports say in words is not drawn again. A certificate is not signed: the digest that is
    printed stands for all of it.

    Exit code 0: it holds. 1: refused, each file or field that differs is named. 4: no certificate.
    """
    from lockproof.certificate.verify import NoCertificate, Tampered
    from lockproof.certificate.verify import verify as examine

    try:
        found = examine(path)
    except NoCertificate as nothing:
        raise click.UsageError(str(nothing)) from None
    except Tampered as refused:
        for reason in refused.reasons:
            click.echo(f"refused: {reason}")
        click.echo(f"{path}: REFUSED")
        return REFUSED
    click.echo(found.title)
    seeds = ", ".join(map(str, found.seeds))
    judged = f"{found.histories} histories with {found.operations:,} operations"
    click.echo(f"as stated: seeds {seeds}, {found.files} files, {judged}")
    click.echo(f"suite: {found.suite}, {_whose(found.other_parts)}")
    click.echo(f"digest: {found.digest}")
    return 0


def _whose(other: tuple[str, ...]) -> str:
    if not other:
        return "the one that is installed here"
    return (
        f"NOT the one installed here (which differs in {', '.join(other)}): results and verdicts were "
        "worked out again, pages were not"
    )
