"""`lockproof check`: recorded histories judged again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lockproof.cli.histories import reading

if TYPE_CHECKING:
    from lockproof.checkers import Verdict
    from lockproof.history import HistoryStream

EXIT = {"valid": 0, "violated": 1, "unknown": 2}
FENCING = frozenset({"locking.fencing", "locking.fencing-strict"})
TOLD = 100_000  # operations up to which a history is read once more to tell what its witness shows


@click.command()
@click.argument("paths", metavar="FILES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--merge", is_flag=True, help="Judge all files as one history: a file for each process.")
@click.option("--fencing", is_flag=True, help="Hold the backend to locking.fencing, whatever it claimed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: status, and each history's verdict.")
def check(paths: tuple[Path, ...], merge: bool, fencing: bool, as_json: bool) -> int:
    """Judge recorded histories (*.jsonl) again, without the backend.

    A folder stands for all histories in it. A history without a single operation is unknown: it proves
    nothing. In a folder it does not count beside others, since not every test records operations. Exit
    code 0: all valid, 1: at least one violated, 2: otherwise at least one unknown, 4: a file that is no
    history.
    """
    files = list(_files(paths))
    found: list[dict[str, Any]] = []
    for group in [files] if merge else [[file] for file in files]:
        judged = _judge(group, fencing)
        found.append(judged)
        if not as_json:
            click.echo(f"{judged['path']}: {judged['status']}: {judged['headline']}")
            for line in judged["operations"]:
                click.echo(f"  {line}")
    named = {str(path) for path in paths}
    counting = [judged for judged in found if judged["counted"] or judged["path"] in named] or found
    worst = max((judged["status"] for judged in counting), key=["valid", "unknown", "violated"].index)
    if as_json:
        click.echo(json.dumps({"status": worst, "histories": found}, ensure_ascii=False, indent=2))
    return EXIT[worst]


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(path.rglob("*.jsonl"))
        if not inside:
            raise click.UsageError(f"{path}: a folder without histories (*.jsonl)")
        yield from inside


def _judge(files: Sequence[Path], fencing: bool) -> dict[str, Any]:
    """One history, of one file or merged, as `--json` shows it."""
    from lockproof.checkers import Verdict, check_merged, check_stream
    from lockproof.history import merge_histories, stream_history

    def opened() -> HistoryStream:
        return stream_history(files[0]) if len(files) == 1 else merge_histories(files)

    with reading(*files):
        if len(files) == 1:
            stream = opened()
            verdict = check_stream(stream, fencing=fencing)
        else:
            stream, verdict = check_merged(files, fencing=fencing)
        if not stream.counted:
            verdict = Verdict("unknown", "nothing to judge: no operation was recorded")
        headline, lines = _told(opened, verdict, stream.counted)
    fenced = fencing or not FENCING.isdisjoint(stream.header.get("capabilities", ()))
    return {
        "path": " + ".join(map(str, files)),
        "status": verdict.status,
        "headline": headline,
        "anomaly": verdict.details.get("anomaly"),
        "workspace": verdict.details.get("workspace"),
        "witness": list(verdict.witness),
        "operations": lines,
        "counted": stream.counted,
        "checked": ["locks", *(["fencing"] if fenced else []), "states", "workspaces"],
    }


def _told(opened: Callable[[], HistoryStream], verdict: Verdict, counted: int) -> tuple[str, list[str]]:
    """The headline and the operations of the witness in words; read once more, since none was kept."""
    from lockproof.history import History
    from lockproof.report import operations as report

    if not verdict.witness:
        return verdict.headline, []
    stream = opened()
    if counted <= TOLD:
        history = History(stream.header, tuple(stream.events()), stream.closed, stream.names)
        return report.headline(history, verdict), report.relevant(history, verdict.witness)
    wanted = set(verdict.witness)
    witness = [op for op in stream.operations() if op.i in wanted or op.end in wanted]
    telling = report.Telling(witness, stream.names)
    return telling.sentence(verdict.headline), [
        telling.line(op) for op in sorted(witness, key=lambda op: op.i)
    ]
