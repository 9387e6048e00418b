"""Paths of states, and lock infos as they are written down."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofu_databricks.config import WORKSPACES_SUFFIX
from tofu_databricks.errors import WorkspaceError
from tofu_databricks.layout import Layout, escape
from tofu_databricks.lockinfo import LockInfo

ROOT = "/Volumes/c/s/v"
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
SEGMENTS = st.text("ab./=%~-", min_size=1, max_size=6)
KEYS = st.lists(SEGMENTS.filter(lambda s: s not in {".", ".."} and "/" not in s), min_size=1, max_size=3)


@given(NAMES)
def test_workspace_is_recognised_by_its_file(name: str) -> None:
    """Every name is one path segment in plain characters, and is read back from it."""
    segment = Layout(ROOT, "k").path(name).removeprefix(f"{ROOT}/k{WORKSPACES_SUFFIX}/")
    if name == "default":
        assert segment == f"{ROOT}/k"
        return
    assert segment.isascii()
    assert not set(segment) & set("/%\\ ")
    assert segment not in {".", ".."}
    assert Layout(ROOT, "k").workspace(segment) == name


@given(st.tuples(KEYS, SEGMENTS), st.tuples(KEYS, SEGMENTS))
def test_two_workspaces_never_share_a_path(one: tuple[list[str], str], other: tuple[list[str], str]) -> None:
    """Different keys or names are different paths."""
    paths = {Layout(ROOT, "/".join(key)).path(name) for key, name in (one, other)}
    assert len(paths) == len({(tuple(key), name) for key, name in (one, other)})


@pytest.mark.parametrize(
    "file_name",
    ["dev", "dev.tfstate.bak", ".tfstate", "default.tfstate", "=64ev.tfstate", "=FF.tfstate", "=6.tfstate",
     "a b.tfstate", "=2f.tfstate", "é.tfstate"],
)  # fmt: skip
def test_file_of_another_kind_is_no_workspace(file_name: str) -> None:
    """Only names as `path` writes them count: other files, and other spellings of a name, do not."""
    assert Layout(ROOT, "k").workspace(file_name) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", "needs a name"), ("x" * 250, "too long"), ("é" * 90, "too long"), ("\ud800", "not valid Unicode")],
)
def test_impossible_name_is_refused(name: str, expected: str) -> None:
    """Names that cannot be a file are one clear line."""
    with pytest.raises(WorkspaceError, match=expected):
        Layout(ROOT, "k").path(name)


def test_ordinary_names_stay_readable() -> None:
    """What OpenTofu users write is what stands in the volume."""
    assert escape("prod-eu_1.2~x") == "prod-eu_1.2~x"
    assert escape("a/b c") == "a=2Fb=20c"


def test_lock_info_reads_what_opentofu_writes() -> None:
    """Seven fields in OpenTofu's order; keys match in any case, unknown and null ones are ignored."""
    info = LockInfo.new("me@host", info="é", path="/p")
    assert list(json.loads(info.to_json())) == [
        "ID", "Operation", "Info", "Who", "Version", "Created", "Path",
    ]  # fmt: skip
    assert LockInfo.from_json(info.to_json()) == info
    assert LockInfo.from_json(b'{"id":"1","wHO":"x","Extra":[],"Path":null}') == LockInfo(ID="1", Who="x")
    assert LockInfo.new("a").ID != LockInfo.new("a").ID
    assert LockInfo.new("a").Created.endswith("Z")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[]", "must be a JSON object, not list"), ('{"ID":5}', "field ID must be text, not int"),
     ("[" * 100_000, "nested too deeply"), ("{", "Expecting")],
)  # fmt: skip
def test_broken_lock_info_is_named(text: str, expected: str) -> None:
    """What is no lock info is a `ValueError` that says why."""
    with pytest.raises(ValueError, match=expected):
        LockInfo.from_json(text)
