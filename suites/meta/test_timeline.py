"""The page of a history: it stands alone, says what the checkers say, and shows every operation."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from lockproof.checkers import check
from lockproof.cli import cli
from lockproof.history import Event, History
from lockproof.history.faults import faults
from lockproof.history.lines import lines
from lockproof.report.timeline import page, picture
from lockproof.suites.meta.runs import run_every_status
from lockproof.suites.meta.stories import Story, info, two_holders

pytest_plugins = ["pytester"]

HOSTILE = (
    "</script><script>alert(1)</script><!--\"'`&lt;{{7*7}}]]>\u2028\u2029\x00\ud800"
    "</style></title></noscript></svg><img src=x onerror=a>"
)
VOID = frozenset({"meta", "img", "br", "link", "input"})


class Reader(HTMLParser):
    """What a browser would take from a page: elements with their attributes, and their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in self._open, f"</{tag}> closes nothing"
        while self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def text(self, tag: str) -> list[str]:
        return [data for inside, data in self.texts if inside == tag]

    def data(self) -> dict[str, Any]:
        """What the script is given."""
        blocks = [
            d for _, attrs in self.elements if attrs.get("id") == "history" for d in self.text("script")
        ]
        document: dict[str, Any] = json.loads(blocks[0])
        return document


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(document["columns"], row, strict=True)) for row in document["operations"]]


def test_title_says_verdict_and_target() -> None:
    """A reader of a tab sees what was found, of what, and on what kind of target."""
    reader = Reader(page(two_holders(backend="databricks:delta", target="fake")))
    title = reader.text("title")[0]
    assert title.startswith("violated: databricks:delta on a fake target: two holders: alice's lock")


def test_verdict_is_the_checkers_and_computed_anew() -> None:
    """The page of a valid history says valid, whatever its header claims."""
    story = Story(verdict="violated")
    story.lock("alice")
    reader = Reader(page(story.history()))
    assert reader.text("title")[0].startswith("valid: memory")
    assert reader.data()["witness"] == []
    assert "No witness" in reader.text("h2")
    cut = Reader(page(story.history(closed=False)))
    assert cut.text("title")[0].startswith("unknown: memory")


def test_every_operation_is_in_the_page_whole() -> None:
    """Each call stands there with its event numbers, times, kind, input, outcome and error."""
    history = two_holders()
    reader = Reader(page(history))
    rows = operations(reader.data())
    assert len(rows) == len(history.operations())
    for row, op in zip(rows, history.operations(), strict=True):
        assert (row["i"], row["e"], row["f"], row["ws"]) == (op.i, op.end, op.f, op.ws)
        assert (row["t0"], row["t1"]) == (op.called, op.returned)
        assert row["kind"] == {"ok": 0, "fail": 1, "info": 2}[op.kind]
        assert (json.loads(row["in"]) if row["in"] else {}) == op.given
        assert (json.loads(row["out"]) if row["out"] else None) == op.out
        assert (json.loads(row["err"]) if row["err"] else {}) == op.err


def test_witness_is_marked_and_told_in_order() -> None:
    """The operations of the witness are those of the checkers, and their words stand beside the drawing."""
    history = two_holders()
    witness = set(check(history).witness)
    reader = Reader(page(history))
    document = reader.data()
    marked = [operations(document)[n] for n in document["witness"]]
    assert {row["i"] for row in marked} | {row["e"] for row in marked} == witness
    told = [text for text in reader.text("button") if text.startswith("#")]
    assert [text.split()[0] for text in told] == [f"#{row['i']}" for row in marked]
    assert "alice and bob both hold" in told[1]


def test_processes_of_one_client_share_its_lane() -> None:
    """After an unknown outcome a client goes on under another number, in the same lane and row."""
    story = Story()
    story.lost_lock("alice", "first")
    story.refused("bob", "first")
    story.lock("alice", "second")
    document = Reader(page(story.history())).data()
    assert [lane["name"] for lane in document["lanes"]] == ["alice", "bob"]
    rows = operations(document)
    assert [(row["p"], row["lane"], row["row"]) for row in rows] == [(0, 0, 0), (1, 1, 0), (2, 0, 0)]
    assert [row["kind"] for row in rows] == [2, 1, 0]


def test_calls_of_one_name_at_the_same_time_have_rows_of_their_own() -> None:
    """Two processes with one name do not hide each other."""
    history = History(
        {"v": 1, "backend": "memory"},
        (
            Event(0, 0, 0, "invoke", "get", "default"),
            Event(1, 10, 1, "invoke", "get", "default"),
            Event(2, 20, 0, "ok", "get", "default", out={"value": None}),
            Event(3, 30, 1, "ok", "get", "default", out={"value": None}),
            Event(4, 40, 0, "invoke", "get", "default"),
        ),
        True,
        {0: "tofu", 1: "tofu"},
    )
    document = Reader(page(history)).data()
    assert document["lanes"] == [{"name": "tofu", "rows": 2}]
    assert [row["row"] for row in operations(document)] == [0, 1, 0]
    assert [row["e"] for row in operations(document)] == [2, 3, -1]


def test_locks_are_held_from_the_grant_to_the_call_that_releases() -> None:
    """The shade of a lock ends where its release was called; without one it is open."""
    story = Story()
    story.lock("alice")
    story.unlock("bob", "alice")
    story.lock("carol")
    history = story.history()
    grant, release, other = history.operations()
    document = Reader(page(history)).data()
    assert grant.end < release.i
    assert document["holds"] == [[0, release.i, release.called], [2, -1, -1]]
    assert operations(document)[2]["i"] == other.i


def test_faults_are_windows() -> None:
    """A fault lasts from its start to its stop, to the end without one, or was one moment."""
    story = Story()
    story.append(-1, "fault", "net.drop", given={"phase": "start", "on": "bob"})
    story.append(-1, "fault", "net.drop", given={"phase": "start", "on": "eve"})
    story.lock("alice")
    story.append(-1, "fault", "net.drop", given={"phase": "stop", "on": "bob"})
    story.append(-1, "fault", "kill", given={"on": "alice"})
    story.append(-1, "fault", "net.drop", given={"phase": "stop", "on": "nobody"})
    history = story.history()
    found = [(f.name, f.start.i, f.stop and f.stop.i, dict(f.given)) for f in faults(history.events)]
    assert found == [
        ("net.drop", 0, 5, {"on": "bob"}),
        ("net.drop", 1, None, {"on": "eve"}),
        ("kill", 6, 6, {"on": "alice"}),
        ("net.drop", 7, 7, {"on": "nobody"}),
    ]
    shown = Reader(page(history)).data()["faults"]
    assert [(f["text"], f["start"][0], f["stop"] and f["stop"][0]) for f in shown] == [
        ("net.drop on=bob", 0, 5),
        ("net.drop on=eve", 1, None),
        ("kill on=alice", 6, 6),
        ("net.drop on=nobody", 7, 7),
    ]


def test_page_fetches_nothing() -> None:
    """No element, style or script of the page names another place, and its policy forbids all."""
    text = page(two_holders())
    reader = Reader(text)
    for tag, attributes in reader.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "srcset", "href", "action", "style", "data"} & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "innerHTML", "eval(", "document.write"):
        assert word not in text
    (policy,) = [a["content"] for t, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize("draw", [page, picture])
def test_nothing_in_a_history_becomes_markup(draw: Any) -> None:
    """Names, workspaces, values, messages, header and faults from a hostile backend stay text."""
    hostile = Story(backend=HOSTILE, test=HOSTILE, seed=HOSTILE, target=HOSTILE)
    for who in (HOSTILE, f"{HOSTILE}2"):
        end = hostile.call(who, "lock", HOSTILE, {"info": {**info(who), "Who": HOSTILE}})
        end("ok", f"{HOSTILE}{who}")
    end = hostile.call(HOSTILE, "lock", HOSTILE, {"info": {**info("x"), "Who": HOSTILE}})
    end("fail", kind=HOSTILE, definite=True, message=HOSTILE, holder=info(HOSTILE))
    end = hostile.call(HOSTILE, "unlock", HOSTILE, {"lock_id": HOSTILE})
    end("fail", kind=HOSTILE, definite=True, message=HOSTILE)
    hostile.append(-1, "fault", HOSTILE, given={"phase": "start", HOSTILE: HOSTILE})
    plain_story = Story()
    for who in ("one", "two"):
        plain_story.lock(who)
    plain_story.call("one", "unlock", given={"lock_id": "x"})("fail", kind="y", definite=True)
    plain_story.append(-1, "fault", "net", given={"phase": "start"})
    assert check(hostile.history()).details["anomaly"] == "two holders"
    text = draw(hostile.history())
    text.encode("utf-8")
    tags = {tag for tag, _ in Reader(text).elements}
    assert tags <= {tag for tag, _ in Reader(draw(plain_story.history())).elements}
    if draw is picture:
        assert "".join(ElementTree.fromstring(text).itertext()).count("alert(1)") > 3
    else:
        document = Reader(text).data()
        assert json.loads(operations(document)[0]["in"])["info"]["Who"] == HOSTILE


def test_policy_lets_exactly_the_own_script_and_style_run() -> None:
    """The hashes of the policy are those of what stands in the page, as the browser reads it."""
    reader = Reader(page(two_holders()))
    policy = next(a["content"] or "" for _, a in reader.elements if "content" in a and "http-equiv" in a)
    script = reader.text("script")[-1]
    for part in (script, *reader.text("style")):
        assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy
    assert policy.count("sha256-") == 1 + len(reader.text("style"))


def test_standing_time_is_drawn_by_the_order_of_events() -> None:
    """Where virtual time stands still the axis is the order of the events, else it is time."""
    history = two_holders()
    assert Reader(page(history)).data()["by_time"] is True
    still = tuple(Event(e.i, 0, e.p, e.e, e.f, e.ws, e.given, e.out, e.err) for e in history.events)
    frozen = History(history.header, still, True, history.names)
    assert Reader(page(frozen)).data()["by_time"] is False


@pytest.mark.parametrize("events", [(), (Event(0, 0, 0, "note", "process", given={"who": "alice"}),)])
def test_history_without_operations_has_a_page(events: Sequence[Event]) -> None:
    """An empty history is drawn too."""
    history = History({"v": 1}, tuple(events), True)
    assert Reader(page(history)).data()["operations"] == []
    assert ElementTree.fromstring(picture(history)).tag.endswith("svg")


def test_every_control_that_the_script_looks_for_is_in_the_page() -> None:
    """Buttons, canvases and panels have the names that the script asks for."""
    reader = Reader(page(two_holders()))
    ids = {attributes["id"] for _, attributes in reader.elements if attributes.get("id")}
    script = reader.text("script")[-1]
    asked = {part.partition('"')[0] for part in script.split('at("')[1:]}
    asked |= {part.partition('"')[0] for part in script.split('press("')[1:]}
    assert {"to-witness", "lanes", "detail", "axis", "filter"} <= asked
    assert asked <= ids
    canvas = next(attributes for _, attributes in reader.elements if attributes.get("id") == "lanes")
    assert canvas["tabindex"] == "0"
    assert canvas["aria-describedby"] in ids


def test_style_knows_light_and_dark_and_the_same_colours_in_both() -> None:
    """Every colour has a value for either scheme."""
    style = files("lockproof.report").joinpath("timeline", "timeline.css").read_text(encoding="utf-8")
    light, _, rest = style.partition("@media (prefers-color-scheme: dark)")
    dark = rest.partition("}\n}")[0]
    names = [{part.partition(":")[0] for part in text.split("--")[1:]} for text in (light, dark)]
    assert "witness" in names[0]
    assert names[0] == names[1]


@pytest.mark.parametrize("command", [["node", "--check"]], ids=["node"])
def test_script_parses(command: list[str]) -> None:
    """The script is JavaScript: it parses where there is a parser, and its brackets match anywhere."""
    source = files("lockproof.report").joinpath("timeline", "timeline.js")
    text = source.read_text(encoding="utf-8")
    assert [text.count(pair[0]) - text.count(pair[1]) for pair in ("()", "[]", "{}")] == [0, 0, 0]
    if shutil.which(command[0]):
        done = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_picture_shows_the_witness_and_little_else() -> None:
    """The SVG is well formed, has the words of the witness, and stays small in a long history."""
    story = Story(backend="databricks:delta", target="fake")
    for n in range(300):
        story.get(f"reader-{n % 7}", None)
    story.lock("alice")
    story.lock("bob")
    for n in range(300):
        story.get(f"reader-{n % 7}", None)
    root = ElementTree.fromstring(picture(story.history()))
    text = " ".join(root.itertext())
    assert "databricks:delta on a fake target" in text
    assert "alice and bob both hold" in " ".join(text.split())
    drawn = list(root.iter("{http://www.w3.org/2000/svg}g"))
    assert 2 <= len(drawn) <= 16
    assert "prefers-color-scheme:dark" in text


def test_picture_draws_what_is_unknown_open() -> None:
    """Unknown, refused and acknowledged operations have three different shapes."""
    story = Story()
    story.lost_lock("alice")
    story.lock("carol")
    story.refused("bob", "carol")
    text = picture(story.history())
    assert text.count('class="lp-info"') == 1
    assert text.count('class="lp-fail"') == 1
    assert text.count('class="lp-ok"') == 1
    assert "m-5-4 5 4-5 4" in text


def saved(folder: Path, history: History, name: str = "story.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(lines(history)), encoding="utf-8")
    return path


def test_command_writes_beside_the_history(tmp_path: Path) -> None:
    """`lockproof timeline FILE` writes FILE's name with .html, or .svg, and prints the path."""
    path = saved(tmp_path, two_holders())
    done = CliRunner().invoke(cli, ["timeline", str(path)], standalone_mode=False)
    assert (done.return_value, done.output) == (0, f"{tmp_path / 'story.html'}\n")
    assert Reader((tmp_path / "story.html").read_text(encoding="utf-8")).data()["witness"]
    CliRunner().invoke(cli, ["timeline", str(path), "--svg", "-o", str(tmp_path / "x.svg")])
    assert ElementTree.parse(tmp_path / "x.svg").getroot().tag.endswith("svg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["story.html", "story.jsonl", "x.svg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["timeline", "missing.jsonl"], "cannot read missing.jsonl: No such file"),
        (["timeline", "no.jsonl"], "no.jsonl:1: not"),
        (["timeline", "story.jsonl", "-o", "story.jsonl"], "story.jsonl is what was read"),
        (["timeline", "story.jsonl", "-o", "no/such/x.html"], "cannot write no/such/x.html: No such file"),
    ],
)
def test_bad_input_of_the_command_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    """A file that cannot be read, is no history, or cannot be written is one line and code 4."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, two_holders())
    before = (tmp_path / "story.jsonl").read_text(encoding="utf-8")
    (tmp_path / "no.jsonl").write_text("hello\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "lockproof", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 4
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "story.jsonl").read_text(encoding="utf-8") == before
    assert not list(tmp_path.rglob("*.part"))


def test_failure_with_a_history_has_its_timeline_beside_it(pytester: pytest.Pytester) -> None:
    """A failure card names the page of its history, and the page is there."""
    run = run_every_status(pytester, "-k=fail_by_violation or test_pass")
    failure = run.result("test_fail_by_violation")["failure"]
    drawn = run.folder / "histories" / failure["history"].replace(".jsonl", ".html")
    assert f"timeline  run/histories/{drawn.name}" in (run.folder / "report.md").read_text(encoding="utf-8")
    assert "memory on a local target" in Reader(drawn.read_text(encoding="utf-8")).text("title")[0]
    assert [p.name for p in drawn.parent.glob("*.html")] == [drawn.name]
