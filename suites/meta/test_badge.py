"""`lockproof badge`: a small picture that says no more than a run has earned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from lockproof.cli import cli
from lockproof.suites.meta.compared_reports import LOCKS, MANY, STATE, put, report, written

SVG = "{http://www.w3.org/2000/svg}"


def make(run: Path, output: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["badge", str(run), "-o", str(output), *options], standalone_mode=False)


def texts(picture: Path) -> list[str]:
    """What the picture shows."""
    return [element.text or "" for element in ElementTree.parse(picture).getroot().iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("statuses", "about", "message", "color"),
    [
        ({}, {}, "conformant 3/3 MUST", "brightgreen"),
        ({LOCKS: "fail"}, {}, "nonconformant 2/3 MUST, 1 violated", "red"),
        ({LOCKS: "xfail"}, {}, "nonconformant 2/3 MUST, 1 violated", "red"),
        ({LOCKS: "unknown", STATE: "error"}, {}, "unknown 1/3 MUST, 2 tests undecided", "orange"),
        ({}, {"narrowed": "only x was run"}, "unknown 3/3 MUST, narrowed", "orange"),
        ({}, {"finished": False}, "unknown 3/3 MUST, unfinished", "orange"),
        ({LOCKS: "fail"}, {"finished": False}, "nonconformant 2/3 MUST, 1 violated, unfinished", "red"),
        (
            {MANY: "disabled"},
            {"disabled": ("locking.fencing",)},
            "partial 3/3 MUST, parts switched off",
            "yellowgreen",
        ),
    ],
)
def test_badge_says_what_the_run_has_earned(
    tmp_path: Path, statuses: dict[str, str], about: dict[str, Any], message: str, color: str
) -> None:
    """Verdict, counts and whatever limits them, with the kind of target, as a picture and for shields.io."""
    run = written(tmp_path / "run", statuses, target="fake", **about)
    assert make(run, tmp_path / "b.svg").return_value == 0
    assert texts(tmp_path / "b.svg") == ["lockproof memory (fake)", message]
    assert make(run, tmp_path / "b.json").return_value == 0
    assert json.loads((tmp_path / "b.json").read_text()) == {
        "schemaVersion": 1,
        "label": "lockproof memory (fake)",
        "message": message,
        "color": color,
        "isError": color == "red",
    }


def test_hostile_name_stays_text(tmp_path: Path) -> None:
    """A name with markup and control characters is a legal picture that shows it."""
    name = 'py:x:</text><script>alert("&")</script>\x00\n'
    make(written(tmp_path / "run", backend=name), tmp_path / "b.svg")
    assert texts(tmp_path / "b.svg")[0].startswith('lockproof py:x:</text><script>alert("&")</script>\ufffd')
    assert "<script" not in (tmp_path / "b.svg").read_text(encoding="utf-8")


def test_picture_needs_nothing_else(tmp_path: Path) -> None:
    """No address but the namespace, an accessible name, and both texts inside their boxes."""
    make(written(tmp_path / "run"), tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_text(encoding="utf-8").count("://") == 1
    root = ElementTree.parse(tmp_path / "b.svg").getroot()
    assert root.get("aria-label") == "lockproof memory (local): conformant 3/3 MUST"
    boxes, shown = list(root.iter(f"{SVG}rect")), list(root.iter(f"{SVG}text"))
    for box, text in zip(boxes, shown, strict=True):
        left, right = int(box.attrib["x"]), int(box.attrib["x"]) + int(box.attrib["width"])
        assert left < int(text.attrib["x"])
        assert int(text.attrib["x"]) + int(text.attrib["textLength"]) < right
    assert right == int(root.attrib["width"])


def test_one_of_several_backends_is_chosen(tmp_path: Path) -> None:
    """A run of several backends needs a choice; the line names them."""
    documents = [report(backend=name) for name in ("memory", "file")]
    run = put(tmp_path / "run", {**documents[0], "backends": [d["backends"][0] for d in documents]})
    undecided = make(run, tmp_path / "b.svg")
    assert str(undecided.exception) == f"{run}: choose one of its backends with --backend: memory, file"
    assert make(run, tmp_path / "b.svg", "--backend=file").return_value == 0
    assert texts(tmp_path / "b.svg")[0] == "lockproof file (local)"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("b.png", "a badge is a .svg or a .json file"),
        ("run/report.json", "is what was read"),
        ("no/b.svg", "cannot write"),
    ],
)
def test_unusable_output_is_one_line(tmp_path: Path, output: str, said: str) -> None:
    """Another kind of file, the report itself or a missing folder: named, and nothing is written."""
    run = written(tmp_path / "run")
    before = (run / "report.json").read_bytes()
    assert said in str(make(run, tmp_path / output).exception)
    assert (run / "report.json").read_bytes() == before
