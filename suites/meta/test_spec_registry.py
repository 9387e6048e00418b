"""The requirement registry is complete, traceable, and matched by tests."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from lockproof.plugin.collect import declared_tests
from lockproof.spec import Requirement, capabilities, requirements
from lockproof.spec.registry import LEVELS, Clause, read_requirements

ID = re.compile(r"[A-Z]+(-[A-Z]+)?-\d{3}")
COMMIT = re.compile(r"[0-9a-f]{40}|v\d+\.\d+\.\d+")
LINES = re.compile(r"\d+(-\d+)?")
SOURCES = {
    *("opentofu", "rfc", "databricks-sdk-py", "databricks-docs", "postgresql-docs", "jepsen-io/maelstrom"),
    *("rfc6585", "rfc9110", "rfc9112"),
}
"""Texts that may demand something. Research is none of them: it only says where to look."""
ISSUE = re.compile(r"[\w-]+/[\w-]+#\d+")
"""What a bug report demands is that it does not happen again."""

EVERY = [pytest.param(entry, id=name) for name, entry in requirements().items()]


def test_the_registry_holds_the_contract() -> None:
    """There are requirements for states, workspaces and locks, far more than a handful."""
    areas = Counter(name.partition("-")[0] for name in requirements())
    assert len(requirements()) >= 60
    assert {area for area in areas if areas[area] >= 15} >= {"STATE", "WS", "LOCK"}


@pytest.mark.parametrize("entry", EVERY)
def test_requirement_is_well_formed(entry: Requirement) -> None:
    """An id by the pattern, a known level and capability, and one or more whole sentences."""
    assert ID.fullmatch(entry.id)
    assert entry.level in LEVELS
    assert entry.capability in capabilities()
    assert entry.text.endswith("."), "the text is a sentence"
    assert entry.text[0].isupper() or entry.text[0] == "`"


@pytest.mark.parametrize("entry", EVERY)
def test_requirement_names_the_clause_it_comes_from(entry: Requirement) -> None:
    """Each clause can be looked up: a known source, a place in it, and words that stand there."""
    assert entry.clauses
    for clause in entry.clauses:
        assert clause.source in SOURCES or ISSUE.fullmatch(clause.source)
        assert clause.path
        if "#" in clause.source:
            assert clause.path == f"https://github.com/{clause.source.replace('#', '/issues/')}"
        assert len(clause.quote) >= 12, "a quote says what is demanded"
        assert clause.quote == clause.quote.strip()
        assert "\n" not in clause.quote, "line ends of a quote are joined by a space"
        if clause.source in {"opentofu", "databricks-sdk-py"}:
            assert COMMIT.fullmatch(clause.commit), "a clause of code names the version that was read"
            assert LINES.fullmatch(clause.lines)


def test_every_requirement_is_cited_by_a_test() -> None:
    """No requirement is a promise that nothing checks."""
    cited = {name for test in declared_tests() for name in test.requirements}
    assert sorted(requirements().keys() - cited) == []


def test_every_citation_is_of_a_requirement() -> None:
    """No test cites an id that is not registered, and no conformance test cites nothing."""
    for test in declared_tests():
        assert test.requirements, f"{test.id} cites no requirement"
        unknown = set(test.requirements) - requirements().keys()
        assert not unknown, f"{test.id} cites {unknown}"


def test_every_need_is_a_capability() -> None:
    """No test asks for a capability that is not registered: it would never run."""
    unknown = {
        (test.id, name) for test in declared_tests() for name in test.needs if name not in capabilities()
    }
    assert unknown == set()


def test_every_capability_says_what_it_promises() -> None:
    """A capability has a name of lower-case words and a sentence."""
    for name, sentence in capabilities().items():
        assert re.fullmatch(r"[a-z]+([.-][a-z]+)*", name)
        assert sentence.endswith("."), f"{name} has no sentence"


def test_every_capability_is_put_to_the_test() -> None:
    """A claim that no requirement and no test rests on would be worth nothing."""
    used = {entry.capability for entry in requirements().values()}
    used |= {name for test in declared_tests() for name in test.needs}
    assert capabilities().keys() - used == set()


def test_conformance_tests_have_a_sentence_of_their_own() -> None:
    """What a report shows of a test is a sentence, and no two tests share one."""
    sentences = Counter(test.sentence for test in declared_tests())
    assert all(sentence.endswith(".") for sentence in sentences)
    assert [sentence for sentence, count in sentences.items() if count > 1] == []


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


GOOD = """
[A-B-001]
level = "MUST"
capability = "state"
text = "It holds."
[[A-B-001.clause]]
source = "rfc"
path = "x"
quote = "it must hold"
"""


def test_a_registry_file_is_read(tmp_path: Path) -> None:
    """An entry becomes a requirement with its clauses."""
    write(tmp_path, "a.toml", GOOD)
    (entry,) = read_requirements(tmp_path).values()
    expected = Requirement("A-B-001", "MUST", "state", "It holds.", [Clause("rfc", "x", "it must hold")])
    assert entry == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD.replace("MUST", "OUGHT"), "a.toml: A-B-001 has level 'OUGHT'"),
        (
            GOOD.replace('"state"', '"teleportation"'),
            "a.toml: A-B-001 has unknown capability",
        ),
        (GOOD.replace('text = "It holds."', ""), "a.toml: A-B-001 lacks text"),
        (GOOD.partition("[[")[0], "a.toml: A-B-001 lacks clause"),
    ],
    ids=["level", "capability", "text", "clause"],
)
def test_an_incomplete_entry_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    """The file and the id of an entry that is incomplete are named."""
    write(tmp_path, "a.toml", text)
    with pytest.raises(ValueError, match=re.escape(complaint)):
        read_requirements(tmp_path)


def test_an_id_given_twice_is_refused(tmp_path: Path) -> None:
    """An id stands in one file only."""
    write(tmp_path, "a.toml", GOOD)
    write(tmp_path, "b.toml", GOOD)
    with pytest.raises(ValueError, match=r"b\.toml: requirement A-B-001 is already defined elsewhere"):
        read_requirements(tmp_path)
