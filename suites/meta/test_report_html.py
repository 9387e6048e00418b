"""`report.html`: what it says, that it fetches nothing, and that nothing in a report becomes markup."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lockproof.history import Event, History
from lockproof.history.lines import lines
from lockproof.report import schema
from lockproof.report.html import page
from lockproof.report.observed import observe
from lockproof.suites.meta.html_reports import contended, every_status, hostile, with_plots

VOID = frozenset({"meta", "input", "br"})


class Reader(HTMLParser):
    """The elements of a page with their attributes, and the text of all of them but style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def drawn(report: Mapping[str, Any], histories: Path | None = None) -> Reader:
    return Reader(page(report, "run", histories))


def test_verdict_and_target_are_said_first() -> None:
    """The title and the first words of the page name backend, kind of target and verdict."""
    text = page(every_status(), "run")
    assert "<title>lockproof: memory on a local target: nonconformant</title>" in text
    body = drawn(every_status()).text
    assert body.index("memory on a local target: nonconformant") < body.index("NONCONFORMANT")
    assert body.index("NONCONFORMANT") < body.index("Failures") < body.index("Requirements")


def test_each_requirement_has_level_clause_and_tests() -> None:
    """The matrix shows status, level, text, a link to the clause, and the tests with their status."""
    text = page(every_status(), "run")
    row = re.search(r'<tr data-status="fail" data-level="MUST">.*?</tr>', text, re.S)
    assert row is not None
    assert "LOCK-EXCL-001" in row[0]
    assert 'href="https://github.com/opentofu/opentofu/blob/' in row[0]
    assert "✘ fail" in row[0]
    assert "test_every.py::test_fail" in row[0]


def test_every_failure_is_a_card_with_its_timeline(tmp_path: Path) -> None:
    """A card shows expected, observed, the operations drawn and told, and the command that repeats it."""
    report = every_status()
    failure = next(r["failure"] for r in report["backends"][0]["results"] if r["failure"]["history"])
    (tmp_path / failure["history"]).write_text("".join(lines(contended(4))), encoding="utf-8")
    reader = drawn(report, tmp_path)
    cards = [attributes for tag, attributes in reader.elements if tag == "article"]
    assert len(cards) == 1
    assert [a["class"] for tag, a in reader.elements if tag == "svg"] == ["lp"]
    assert failure["observed"] in reader.text
    assert "pytest test_every.py::test_fail[memory]" in reader.text.replace("'", "")
    links = [a["href"] for tag, a in reader.elements if tag == "a"]
    assert f"histories/{failure['history'].replace('.jsonl', '.html')}" in links
    assert not [1 for tag, _ in drawn(report).elements if tag == "svg"], "drawn without a history"


def test_command_repeats_the_run_with_its_seed() -> None:
    """The command of the run ends with the seed that was drawn, once."""
    report = every_status()
    assert "pytest --backend=memory --backend-seed=7" in drawn(report).text
    report["run"]["argv"] = ["pytest", "--backend=memory", "--backend-seed", "7"]
    assert "--backend-seed=7" not in drawn(report).text.partition("How to repeat")[2]


def test_nothing_in_a_report_becomes_markup() -> None:
    """Names, messages, options and labels from a hostile backend stay text, in plots too."""
    text = page(hostile(), "run")
    reader, harmless = Reader(text), drawn(with_plots())
    assert {tag for tag, _ in reader.elements} <= {tag for tag, _ in harmless.elements}
    assert reader.text.count("alert(1)") > 20
    for tag, attributes in reader.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (
            tag,
            attributes,
        )
        for name in ("href", "src"):
            assert (attributes.get(name) or "#").startswith(("#", "https://", "histories/")), attributes


def test_page_fetches_nothing_and_its_policy_forbids_all() -> None:
    """No element, style or script names another place but in a link."""
    text = page(with_plots(), "run")
    for tag, attributes in Reader(text).elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"} or (
            tag == "form" and "action" not in attributes
        )
        assert not {"src", "srcset", "style", "xlink:href"} & set(attributes), (tag, attributes)
    assert "url(" not in text
    assert "@import" not in text
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "innerHTML", "eval("):
        assert word not in text
    assert 'content="default-src &#39;none&#39;; script-src &#39;sha256-' in text


def test_same_report_gives_the_same_page() -> None:
    """Written twice it is the same text, plots included, and no id stands in it twice."""
    text = page(with_plots(), "run")
    assert text == page(copy.deepcopy(with_plots()), "run")
    ids = [attributes["id"] for _, attributes in Reader(text).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [a["href"] for tag, a in Reader(text).elements if tag == "use"]
    assert used
    assert {str(reference)[1:] for reference in used} <= set(ids)


def test_latencies_stand_beside_their_targets_and_simulated_ones_say_so() -> None:
    """A row has its p95 with interval, the target and what came of it; a fake's time is called simulated."""
    reader = drawn(with_plots())
    for words in ("Latency against targets", "Simulated (same-region, warehouse warm)", "met PERF-LOCK-001"):
        assert words in reader.text
    assert "4.9 (4.5 to 5.6)" in reader.text
    labels = [a["aria-label"] for tag, a in reader.elements if tag == "svg"]
    assert len(labels) == 4
    assert "How long calls took; the table has the numbers" in labels


def test_plots_take_the_colours_of_the_page() -> None:
    """No plot brings a colour of its own: both themes and print colour it."""
    text = page(with_plots(), "run")
    plots = "".join(re.findall(r'<svg [^>]*class="plot".*?</svg>', text, re.S))
    assert "var(--ok)" in plots
    assert "var(--target)" in plots
    assert not re.search(r'(?:fill|stroke)="#(?!000000)', plots)


def test_many_backends_are_counted_in_the_title() -> None:
    """Of more than three backends the title counts the verdicts, and of a crowd the first six get plots."""
    report = with_plots()
    one = report["backends"][0]
    report["backends"] = [{**one, "id": f"memory:{n}"} for n in range(8)]
    text = page(report, "run")
    assert "<title>lockproof: 8 backends on local targets: 8 nonconformant</title>" in text
    assert text.count('class="plot"') == 6 * 4


def observed(folder: Path, history: History) -> Mapping[str, Any]:
    (folder / "one.jsonl").write_text("".join(lines(history)), encoding="utf-8")
    return observe(folder)["memory"]


def test_waiting_is_told_by_client(tmp_path: Path) -> None:
    """Who waited how long: from the first attempt to the grant, with the refusals in between."""
    (queue,) = observed(tmp_path, contended(4))["contention"]
    assert queue["workspace"] == "default"
    assert [w["client"] for w in queue["waiters"]] == ["holder", "one", "two", "three"]
    assert queue["waiters"][1] == {
        "client": "one",
        "granted": 1,
        "refused": 1,
        "median_ms": 11.0,
        "longest_ms": 11.0,
    }
    assert queue["waiters"][3] == {
        "client": "three",
        "granted": 0,
        "refused": 1,
        "median_ms": None,
        "longest_ms": None,
    }
    assert observed(tmp_path, contended(3))["contention"] == []


def test_windows_of_faults_are_told_with_the_calls_that_went_badly(tmp_path: Path) -> None:
    """A fault has its begin and end in the history, and what was refused meanwhile stands beside it."""
    events = list(contended(4).events)
    last = events[-1]
    events.append(Event(last.i + 1, last.t + 1_000_000, -1, "fault", "net.drop", given={"phase": "start"}))
    history = History({"v": 1, "backend": "memory", "test": "t::x"}, tuple(events), True)
    (window,) = observed(tmp_path, history)["windows"]
    assert window["faults"] == [{"fault": "net.drop", "start": window["ms"], "stop": None}]
    assert {call["outcome"] for call in window["calls"]} == {"refused"}


@pytest.mark.parametrize("make", [every_status, with_plots, hostile])
def test_reports_of_these_tests_are_reports(make: Callable[[], dict[str, Any]]) -> None:
    """What is drawn here has the shape of a report.json."""
    document = json.loads(json.dumps(make()))
    for backend in document["backends"]:
        for name in ("contention", "windows"):
            part = schema()["$defs"]["backend"]["properties"][name]
            assert jsonschema.Draft202012Validator(part | {"$defs": schema()["$defs"]}).is_valid(
                backend[name]
            )
