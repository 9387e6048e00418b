"""The command `lockproof teeth`: its options reach the run, and whoever waits is told how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from lockproof import teeth
from lockproof.cli.teeth import BROKE, Line
from lockproof.cli.teeth import teeth as command

Asked = list[tuple[str, Any, dict[str, Any]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the command asks for, instead of a run; each run says 1."""
    calls: Asked = []

    def instead_of(name: str) -> Callable[..., int]:
        def run(names: Any, **options: Any) -> int:
            calls.append((name, names, {key: options[key] for key in ("seeds", "form")}))
            return 1

        return run

    for name in ("run", "run_variants"):
        monkeypatch.setattr(teeth, name, instead_of(name))
    return calls


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ([], ("run", (), {"seeds": 0, "form": "text"})),
        (["no-lock", "--seeds", "20"], ("run", ("no-lock",), {"seeds": 20, "form": "text"})),
        (["--markdown"], ("run", (), {"seeds": 0, "form": "markdown"})),
        (["--json", "--variants"], ("run_variants", (), {"seeds": 0, "form": "json"})),
        (
            ["--variants", "unsorted", "--seeds=2"],
            ("run_variants", ("unsorted",), {"seeds": 2, "form": "text"}),
        ),
    ],
)
def test_options_reach_the_run(words: list[str], call: Any, asked: Asked) -> None:
    """Names, seeds, form and what is to be run; the exit code is the run's."""
    result = CliRunner().invoke(command, words, standalone_mode=False)
    assert (asked, result.return_value) == ([call], 1)


def test_no_seeds_are_no_number(asked: Asked) -> None:
    """Zero seeds are refused in a line that names the option."""
    result = CliRunner().invoke(command, ["--seeds", "0"])
    assert result.exit_code != 0
    assert "--seeds" in result.output
    assert asked == []


def test_help_tells_every_exit_code() -> None:
    """Also that of a run that broke down."""
    told = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert f"{BROKE}: a run broke down" in told
    assert "4: no such name" in told


@pytest.mark.parametrize(
    "name", ["looks-then-takes", "LooksThenTakes", "unlock-needs-a-write", "UnlockNeedsAWrite"]
)
def test_a_saboteur_is_named_as_in_the_table_or_as_in_a_report(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class name, as the ids of reports have it, is as good as the name of the table."""
    ran: list[str] = []

    def bites(chosen: Any, **options: Any) -> list[Any]:
        ran.extend(saboteur.name for saboteur in chosen)
        return []

    monkeypatch.setattr(teeth, "bites", bites)
    monkeypatch.setattr("lockproof.fakes.saboteurs.catalogue.Saboteur.can_run", lambda saboteur: True)
    assert teeth.run([name], echo=lambda text: None) == 0
    assert [word.replace("-", "") for word in ran] == [name.replace("-", "").lower()]


def test_a_run_that_breaks_down_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pytest said stands in a line, without a traceback; the exit code says that nothing is known."""

    def run(names: Any, **options: Any) -> int:
        raise teeth.TeethError("no report of no-lock")

    monkeypatch.setattr(teeth, "run", run)
    result = CliRunner().invoke(command, [], standalone_mode=False)
    assert result.return_value == BROKE
    assert result.output == "lockproof: no report of no-lock\n"


def test_a_log_that_nobody_watches_gets_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not one for every batch."""
    times = iter([0.0, 1.0, 61.0, 61.0, 62.0])
    monkeypatch.setattr(sys.modules[Line.__module__], "time", SimpleNamespace(monotonic=lambda: next(times)))
    line = Line()
    for done in (1, 2, 3):
        line.show("saboteurs run", done, 3)
    assert capsys.readouterr().err == "2 of 3 saboteurs run\n"


def test_a_terminal_is_told_of_every_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, which ends with the last batch."""
    line = Line()
    line.watched = True
    for done in (2, 3):
        line.show("saboteurs run", done, 3)
    assert capsys.readouterr().err == "\r2 of 3 saboteurs run \r3 of 3 saboteurs run \n"
