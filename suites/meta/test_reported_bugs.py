"""The list of reported bugs is complete, and each is some test's."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

from lockproof.cli.explain import explain
from lockproof.cli.list import list_
from lockproof.plugin.collect import declared_tests
from lockproof.spec.bugs import REPOSITORIES, Bug, bug_of, bugs, parse_bugs, url_of

DOCS = Path(__file__).parents[2] / "docs"
NAME = re.compile(rf"(?:{'|'.join(REPOSITORIES)})#[1-9]\d*|[a-z0-9]+(?:-[a-z0-9]+)+")
CITED = {name for test in declared_tests() for name in test.bugs}


def generator() -> ModuleType:
    """The script that writes the table."""
    spec = importlib.util.spec_from_file_location("make_reported_bugs", DOCS / "make_reported_bugs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(command: click.Command, word: str) -> Result:
    """What a command says to one word."""
    return CliRunner().invoke(command, [word])


def test_the_list_holds_the_bugs_that_were_researched() -> None:
    """There are 67 bugs, most with the number of an issue."""
    assert len(bugs()) == 67
    assert sum(any(map(url_of, bug.names)) for bug in bugs()) >= 50


@pytest.mark.parametrize("bug", bugs(), ids=lambda bug: bug.names[0])
def test_bug_is_some_tests_or_the_clients(bug: Bug) -> None:
    """Names by the pattern, a sentence, and a test that would find it, or the reason why there is none."""
    assert [name for name in bug.names if not NAME.fullmatch(name)] == []
    assert bug.broke.endswith(".")
    assert not bug.client.endswith(".")
    assert bug.client or CITED & set(bug.names), "no test would find it"


def test_every_name_that_a_test_gives_is_listed() -> None:
    """No test names a bug that is not in the list."""
    assert [name for name in sorted(CITED) if bug_of(name) is None] == []


def test_the_table_is_the_lists() -> None:
    """`docs/reported-bugs.md` is what its script makes of the list and the tests."""
    made = generator().page()
    kept = (DOCS / "reported-bugs.md").read_text(encoding="utf-8")
    assert kept == made, "run python docs/make_reported_bugs.py"
    assert "[opentofu#4405](https://github.com/opentofu/opentofu/issues/4405)" in made


def test_a_bug_can_be_explained() -> None:
    """`lockproof explain` shows what broke, where that stands, and the tests that would find it."""
    result = told(explain, "opentofu#4405")
    assert result.exit_code == 0
    out = result.output
    assert "its reply was lost" in out
    assert "https://github.com/opentofu/opentofu/issues/4405" in out
    assert "suites/concurrency/test_schedules.py::test_lost_reply_and_retry" in out


def test_a_bug_of_clients_is_explained_as_such() -> None:
    """Of a bug that no server can suffer the reason is shown."""
    out = told(explain, "opentofu#1710").output
    assert "No state server can suffer it: the client encrypts" in out


def test_bugs_are_listed() -> None:
    """`lockproof list bugs` shows each with what broke."""
    lines = told(list_, "bugs").output.splitlines()
    assert len(lines) == len(bugs())
    assert lines[1].startswith("opentofu#4405 ")


def test_an_unknown_bug_is_one_line_with_the_nearest() -> None:
    """A number that is not listed is refused, with a proposal."""
    result = told(explain, "opentofu#4406")
    assert result.exit_code != 0
    assert "close: opentofu#4405" in result.output


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[bug]]\nnames = ["a#1"]', "lacks names or broke"),
        ('[[bug]]\nbroke = "It did."', "lacks names or broke"),
        ('[[bug]]\nnames = ["a#1", "a#1"]\nbroke = "It did."', "a#1 is given twice"),
    ],
    ids=["no-text", "no-name", "twice"],
)
def test_an_incomplete_entry_is_refused(text: str, complaint: str) -> None:
    """What is amiss with an entry is said."""
    with pytest.raises(ValueError, match=complaint):
        parse_bugs(text)
