"""Reading histories: streamed as whole, old and cut ones, bad lines, those of several processes merged."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lockproof.checkers import check, check_register, check_stream
from lockproof.history import (
    Event,
    History,
    HistoryError,
    HistoryWriter,
    merge_histories,
    read_history,
    stream_history,
    writer,
)
from lockproof.history.generate import Workload, generate
from lockproof.history.lines import lines
from lockproof.report.timeline import page
from lockproof.spec.statefile import TOKEN, describe

HEADER = '{"header":{"v":1,"clock":"monotonic_ns"}}'
NOTE = '{"i":0,"t":5,"p":0,"e":"note","f":"process","in":{"who":"alice"}}'


def event(i: int = 0, e: str = "invoke", given: Any = None, **fields: Any) -> str:
    """The line of one event, a read of process 0 unless told otherwise."""
    return json.dumps({"i": i, "t": 5, "p": 0, "e": e, "f": "get", "ws": "default", "in": given, **fields})


READ = (event(0, "invoke", given={}), event(1, "ok", out={"value": None}))
FOOTER = '{"footer":{"ops":1,"closed":true}}'


def save(path: Path, *texts: str) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def test_a_stream_gives_the_operations_that_the_whole_history_has(tmp_path: Path) -> None:
    """Every operation comes once, when its outcome does, with header, names and footer as when read whole."""
    path = tmp_path / "h.jsonl"
    path.write_text("".join(lines(generate(Workload(model="lock", operations=200, clients=7, unknown=0.1)))))
    whole, stream = read_history(path), stream_history(path)
    assert not stream.closed
    operations = list(stream.operations())
    assert (stream.header, stream.names, stream.closed) == (whole.header, whole.names, True)
    assert stream.counted == len(operations) == len(whole.operations()) == 200
    by_call = {op.i: repr(op) for op in operations}
    assert by_call == {op.i: repr(op) for op in whole.operations()}
    outcomes = [op.outcome.i for op in operations if op.outcome is not None]
    assert outcomes == sorted(outcomes)


def test_a_stream_tells_how_far_back_later_operations_reach(tmp_path: Path) -> None:
    """No operation comes that was called before the `since` of an earlier one."""
    path = tmp_path / "h.jsonl"
    path.write_text("".join(lines(generate(Workload(model="register", operations=300, clients=9)))))
    since = 0
    for op in stream_history(path).operations():
        assert op.i >= since
        since = max(since, op.since)
    assert since > 300


@pytest.mark.parametrize("cut", ['{"i":1,"t":12', '{"i":1,"t":9,"p":0,"e":"note","f":"é'.encode()[:-1]])
def test_a_last_line_that_a_crash_has_cut_is_dropped(tmp_path: Path, cut: str | bytes) -> None:
    """A torn last line, within a character even, is no error; the history is not closed."""
    path = save(tmp_path / "h.jsonl", HEADER, NOTE)
    with path.open("ab") as file:
        file.write(cut if isinstance(cut, bytes) else cut.encode())
    history = read_history(path)
    assert (len(history.events), history.closed, history.names) == (1, False, {0: "alice"})


def test_unknown_fields_and_headers_of_long_ago_are_read(tmp_path: Path) -> None:
    """What later versions add is ignored, and what this one adds may be missing."""
    path = save(
        tmp_path / "h.jsonl",
        '{"header":{"v":1,"colour":"blue"},"more":1}',
        '{"i":0,"t":5,"p":0,"e":"invoke","f":"get","ws":"default","in":{},"new":[1]}',
        '{"i":1,"t":6,"p":0,"e":"ok","f":"get","ws":"default","out":{"value":null},"new":{}}',
        '{"footer":{"ops":1,"closed":true,"new":0}}',
    )
    assert check_stream(stream_history(path)).status == "valid"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "empty file"),
        (["hello"], "1: not JSON"),
        (["[1]"], "1: not a JSON object"),
        (['{"header":{"v":2}}'], "1: not a lockproof history of version 1"),
        ([HEADER, "{", NOTE], "2: not JSON"),
        ([HEADER, '{"i":0,"t":5,"p":0,"e":"note"}'], "2: event without 'f'"),
        ([HEADER, NOTE, NOTE], "3: event 0 after event 0"),
        ([HEADER, '{"i":"0","t":5,"p":0,"e":"note","f":"x"}'], "2: not an event: i and t"),
        ([HEADER, '{"i":0,"t":5,"p":0,"e":"done","f":"x"}'], "2: not an event: .* fail, fault, info"),
        ([HEADER, '{"i":0,"t":5,"p":0,"e":"invoke","f":"put","in":{}}'], "2: put without in.value"),
        ([HEADER, '{"i":0,"t":5,"p":0,"e":"invoke","f":"lock"}'], "2: lock without in.info"),
        ([HEADER, '{"i":0,"t":5,"p":0,"e":"ok","f":"workspaces"}'], "2: workspaces without the list"),
        ([HEADER, "[" * 100_000 + "]" * 100_000, NOTE], "2: not JSON: nested too deeply"),
        ([HEADER, NOTE.replace("alice", "\\ud800"), NOTE], "2: not JSON: not UTF-8"),
        (['{"header":{"v":1,"capabilities":7}}'], "1: capabilities is 7, not a list of texts"),
        (['{"header":{"v":1,"clients":"two"}}'], '1: clients is "two", not a whole number'),
        ([HEADER, event(p=[1])], r"2: p is \[1\], not a whole number"),
        ([HEADER, event(p=None)], "2: p is null, not a whole number"),
        ([HEADER, event(f=7)], "2: f is 7, not a text"),
        ([HEADER, event(ws={"x": 1})], '2: ws is {"x": 1}, not a text'),
        ([HEADER, event(ws=None)], "2: get without ws, its workspace"),
        ([HEADER, event(f="loock")], '2: no call named "loock": f is one of delete, .* workspaces'),
        ([HEADER, event(given="x")], '2: in is "x", not an object'),
        ([HEADER, event(f="put", given={"value": [1]})], r"2: in.value is \[1\], not a text or a number"),
        ([HEADER, event(f="lock", given={"info": 5})], "2: in.info is 5, not an object"),
        ([HEADER, event(f="lock", given={"info": {"ID": [1]}})], r"2: in.info.ID is \[1\], not a text"),
        ([HEADER, event(f="unlock", given={"lock_id": {}})], "2: in.lock_id is {}, not a text or"),
        ([HEADER, event(e="fail", err=5)], "2: err is 5, not an object"),
        ([HEADER, event(e="fail", err={"holder": "bob"})], '2: err.holder is "bob", not an object'),
        ([HEADER, event(e="fail", err={"holder": {"Info": 5}})], "2: err.holder.Info is 5, not a text"),
        ([HEADER, event(e="ok", out={})], "2: get without out.value"),
        ([HEADER, event(e="ok", out={"value": {"a": 1}})], '2: out.value is {"a": 1}, not a text or'),
        ([HEADER, event(e="ok", f="lock", out=[1])], r"2: out is \[1\], not the lock id"),
        (
            [HEADER, event(e="ok", f="workspaces", out=[{"a": 1}])],
            r'2: out is \[{"a": 1}\], not a list of texts',
        ),
        ([HEADER, event(t=-1)], "2: not an event: .* t no time"),
        ([HEADER, event(i=10**400)], "2: not an event: i is no event number"),
    ],
)
def test_what_is_no_history_is_named_with_its_line(tmp_path: Path, texts: list[str], said: str) -> None:
    """A bad file is one sentence with path, line and reason, read whole or streamed."""
    path = save(tmp_path / "h.jsonl", *texts)
    with pytest.raises(HistoryError, match=f"h.jsonl:? ?{said}") as whole:
        read_history(path)
    with pytest.raises(HistoryError) as streamed:
        list(stream_history(path).events())
    assert str(whole.value) == str(streamed.value)
    assert len(str(whole.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([READ[1]], "2: outcome of get without a call: process 0 is in none"),
        ([*READ, event(2, "fail", f="put")], "4: outcome of put without a call"),
        ([READ[0], event(1, "ok", p=1, out={"value": None})], "3: outcome of get without .* process 1 "),
        ([READ[0], event(1, "ok", f="put")], '3: outcome of put "default", but the call is get "default"'),
        ([READ[0], event(1, "fail", ws="other")], '3: outcome of get "other", but the call is get "default"'),
        ([READ[0], event(1, "info", ws=None)], '3: outcome of get, but the call is get "default"'),
        ([FOOTER, *READ], "3: a line after the footer"),
        ([*READ, FOOTER, '{"footer":{"closed":false}}'], "5: a line after the footer"),
        ([*READ, FOOTER, NOTE], "5: a line after the footer"),
    ],
)
def test_what_is_no_evidence_is_no_history(tmp_path: Path, texts: list[str], said: str) -> None:
    """Outcomes that belong to no call, and lines after the end, whole, streamed or merged."""
    path = save(tmp_path / "h.jsonl", '{"header":{"v":1,"start":1}}', *texts)
    for read in (
        lambda: read_history(path),
        lambda: list(stream_history(path).operations()),
        lambda: list(merge_histories([path]).operations()),
    ):
        with pytest.raises(HistoryError, match=f"h.jsonl:{said}"):
            read()


def test_calls_without_end_and_free_notes_are_read(tmp_path: Path) -> None:
    """A killed client's call stays open, its process may call again; notes and faults have any `f`, also
    after an unknown outcome, which retires its process."""
    path = save(
        tmp_path / "h.jsonl",
        HEADER,
        event(0, "fault", p=-1, f="net.drop_response", ws=None, given={"phase": "start"}),
        event(1),
        event(2),
        event(3, "info", err={"kind": "timeout"}),
        event(4, "note", f="late", ws=None),
        event(5, "note", p=1, f="anything", ws="other"),
        event(6, p=1, f="workspaces", ws=None),
        event(7, "ok", p=1, f="workspaces", ws=None, out=["default"]),
        FOOTER,
    )
    found = [(op.i, op.kind) for op in read_history(path).operations()]
    assert found == [(1, "info"), (2, "info"), (6, "ok")]
    assert sorted((op.i, op.kind) for op in stream_history(path).operations()) == found


@pytest.mark.parametrize("odd", [None, 7, [1], {"a": 1}, "x"], ids=str)
def test_any_document_that_was_recorded_is_read_back(odd: Any, tmp_path: Path) -> None:
    """A state with anything for serial, lineage and token is a history, and judged: it was written, it was
    read."""
    document = {"serial": odd, "lineage": odd, "outputs": {TOKEN: {"value": odd}}}
    known = describe(json.dumps(document).encode())
    with HistoryWriter({}, tmp_path / "h.jsonl") as written:
        process = written.new_process("alice")
        for f, given, out in (("put", known, None), ("get", {}, known)):
            written.append(process, "invoke", f, ws="default", given=given)
            written.append(process, "ok", f, ws="default", out=out)
    assert check(read_history(tmp_path / "h.jsonl")).status == "valid"


ODD: tuple[Any, ...] = (None, -1, 1.5, True, "x", [], [[1]], {}, {"ID": [1]}, 10**400)
PUT = {"value": "v", "sha256": "s", "serial": 1, "lineage": "l", "size": 5, "lock_id": "A"}
HELD = {"kind": "locked", "message": "m", "holder": {"ID": "A", "Info": "a", "Who": "alice"}}
FULL: tuple[dict[str, Any], ...] = (
    {"header": {"v": 1, "backend": "b", "clients": 2, "start": 5, "capabilities": ["locking.fencing"]}},
    *map(
        json.loads,
        (
            event(0, "note", f="process", given={"who": "alice"}),
            event(1, f="lock", given={"info": {"ID": "A", "Info": "a"}}),
            event(2, "ok", f="lock", out="A"),
            event(3, f="put", given=PUT),
            event(4, "ok", f="put"),
            event(5, p=1, f="lock", given={"info": {"ID": "B", "Info": "b"}}),
            event(6, "fail", p=1, f="lock", err=HELD),
            event(7, p=1),
            event(8, "ok", p=1, out={"value": "v", "sha256": "s"}),
            event(9, f="unlock", given={"lock_id": "A"}),
            event(10, "ok", f="unlock"),
            event(11, f="workspaces"),
            event(12, "ok", f="workspaces", out=["default"]),
            event(13),
            event(14, "ok", out={"value": None}),
        ),
    ),
    {"footer": {"ops": 6, "closed": True}},
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*at, key)
        yield from places(part, (*at, key))


@pytest.mark.parametrize("number", range(len(FULL)))
def test_whatever_stands_in_a_field_is_judged_or_refused(number: int, tmp_path: Path) -> None:
    """Every field of a line, with everything in it, replaced by values of every type: the checkers and
    the page take the history or it is refused in one line, and nothing else comes of it."""
    refused: list[str] = []
    for at, odd in itertools.product(places(FULL[number]), ODD):
        records = copy.deepcopy(FULL)
        part: Any = records[number]
        for key in at[:-1]:
            part = part[key]
        part[at[-1]] = odd
        path = save(tmp_path / "h.jsonl", *map(json.dumps, records))
        try:
            history = read_history(path)
        except HistoryError as error:
            refused.append(str(error))
            continue
        assert f"<title>{check(history).status}: " in page(history)
    assert refused
    assert all(said.startswith(str(tmp_path)) and len(said.splitlines()) == 1 for said in refused)


# --- histories of several processes --------------------------------------------------------------


def process(path: Path, start: int | None, *events: tuple[int, int, str, str, Any], **header: Any) -> Path:
    """A file as one process writes it: (time, process, kind, value read or written)."""
    head = {"v": 1, "backend": "b", **({} if start is None else {"start": start}), **header}
    written = []
    for i, (t, p, e, f, value) in enumerate(events):
        document = {"value": value, "sha256": None}
        given = document if (e, f) == ("invoke", "put") else {} if e == "invoke" else None
        out = document if (e, f) == ("ok", "get") else None
        written.append(Event(i, t, p, e, f, "default", given, out).to_json())  # type: ignore[arg-type]
    footer = {"footer": {"ops": 0, "closed": True}}
    return save(path, *(json.dumps(line) for line in ({"header": head}, *written, footer)))


def whole(*paths: Path) -> History:
    stream = merge_histories(paths)
    return History(stream.header, tuple(stream.events()), stream.closed, stream.names)


def test_merged_histories_lie_on_one_clock(tmp_path: Path) -> None:
    """Events are in the order of the machine's clock, whatever each file's own clock shows."""
    writer = process(tmp_path / "a", 1000, (50, 0, "invoke", "put", "x"), (60, 0, "ok", "put", None))
    reader = process(tmp_path / "b", 1055, (0, 0, "invoke", "get", None), (10, 0, "ok", "get", "x"))
    history = whole(reader, writer)
    assert [(e.i, e.t, e.e, e.f) for e in history.events] == [
        (0, 50, "invoke", "put"),
        (1, 55, "invoke", "get"),
        (2, 60, "ok", "put"),
        (3, 65, "ok", "get"),
    ]
    assert len({e.p for e in history.events}) == 2
    assert check_register(history).status == "valid"
    assert check_register(read_history(reader)).status == "violated", "alone it reads what nobody wrote"


def test_equal_stamps_invent_no_order(tmp_path: Path) -> None:
    """A read called at the very stamp at which a write returned may have come first."""
    writer = process(tmp_path / "a", 0, (1, 0, "invoke", "put", "x"), (5, 0, "ok", "put", None))
    touching = process(tmp_path / "b", 0, (5, 0, "invoke", "get", None), (9, 0, "ok", "get", None))
    after = process(tmp_path / "c", 0, (6, 0, "invoke", "get", None), (9, 0, "ok", "get", None))
    for files in ((writer, touching), (touching, writer)):
        assert check_register(whole(*files)).status == "valid"
    assert check_register(whole(writer, after)).status == "violated"


def test_a_call_at_the_stamp_of_two_returns_comes_before_both(tmp_path: Path) -> None:
    """Also where its own file tells one of them first: the other file's write may come after the read."""
    own = process(
        tmp_path / "a",
        0,
        (1, 0, "invoke", "put", "x"),
        (3, 0, "ok", "put", None),
        (4, 1, "invoke", "get", None),
        (5, 1, "ok", "get", "x"),
        (5, 2, "invoke", "get", None),
        (9, 2, "ok", "get", "x"),
    )
    other = process(tmp_path / "b", 0, (4, 0, "invoke", "put", "y"), (5, 0, "ok", "put", None))
    for files in ((own, other), (other, own)):
        assert check_register(whole(*files)).status == "valid"


def test_a_process_that_calls_again_at_one_stamp_keeps_its_answers(tmp_path: Path) -> None:
    """A coarse clock: return and next call have one stamp, and every answer stays with its call."""
    coarse = process(
        tmp_path / "a",
        0,
        (1, 4, "invoke", "put", "x"),
        (5, 4, "ok", "put", None),
        (5, 4, "invoke", "get", None),
        (5, 4, "ok", "get", "x"),
        (5, 4, "invoke", "put", "y"),
        (9, 4, "ok", "put", None),
    )
    operations = whole(coarse, process(tmp_path / "b", 0)).operations()
    assert [(op.f, op.kind, op.given.get("value"), (op.out or {}).get("value")) for op in operations] == [
        ("put", "ok", "x", None),
        ("get", "ok", None, "x"),
        ("put", "ok", "y", None),
    ]
    assert check_register(whole(coarse)).status == "valid"


def test_a_merged_history_is_closed_when_all_are_and_counts_all_clients(tmp_path: Path) -> None:
    """One process that crashed leaves the whole without a footer; the header tells all clients."""
    files = [process(tmp_path / name, 0, clients=2, seed=7) for name in "ab"]
    history = whole(*files)
    assert history.closed
    assert (history.header["clients"], history.header["seed"]) == (4, 7)
    files[1].write_text("".join(files[1].read_text().splitlines(keepends=True)[:-1]))
    assert not whole(*files).closed


@pytest.mark.parametrize(
    ("start", "header", "said"),
    [
        (None, {}, "does not tell when its clock started"),
        (0, {"backend": "other"}, "backend is 'other', but 'b' in"),
        (0, {"boot": "2"}, "boot is '2', but '1' in"),
    ],
)
def test_histories_that_have_no_common_clock_are_not_merged(
    tmp_path: Path, start: int | None, header: dict[str, Any], said: str
) -> None:
    """Without a start, of another backend or of another machine: one sentence that names the file."""
    one = process(tmp_path / "a", 0, boot="1")
    other = process(tmp_path / "b", start, **{"boot": "1", **header})
    with pytest.raises(HistoryError, match=said) as refused:
        merge_histories([one, other])
    assert str(other) in str(refused.value)


def test_a_clock_that_goes_back_is_not_merged(tmp_path: Path) -> None:
    """Times that fall within one file cannot be put on a line."""
    file = process(tmp_path / "a", 0, (5, 0, "invoke", "get", None), (4, 0, "ok", "get", None))
    with pytest.raises(HistoryError, match="went back from 5 to 4"):
        list(merge_histories([file]).events())


def test_files_of_real_processes_merge_in_the_order_of_their_calls(tmp_path: Path) -> None:
    """Two processes of this machine take turns; merged, their events alternate as they happened."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom lockproof.history import HistoryWriter\n"
        "writer = HistoryWriter({'backend': 'b'}, Path(sys.argv[1]))\n"
        "p = writer.new_process(sys.argv[1])\n"
        "for line in sys.stdin:\n"
        "    writer.append(p, 'invoke', 'get', ws=line.strip(), given={})\n"
        "    writer.append(p, 'ok', 'get', ws=line.strip(), out={'value': None})\n"
        "    print('done', flush=True)\n"
        "writer.close()\n"
    )
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for file in files
    ]
    turns = [Random(4).randrange(2) for _ in range(20)]
    for n, turn in enumerate(turns):
        stdin, stdout = running[turn].stdin, running[turn].stdout
        assert stdin is not None
        assert stdout is not None
        print(n, file=stdin, flush=True)
        assert stdout.readline() == "done\n"
    for child in running:
        child.communicate(timeout=60)
    history = whole(*files)
    assert [op.ws for op in history.operations()] == [str(n) for n in range(len(turns))]
    assert [history.names[op.p] for op in history.operations()] == [str(files[turn]) for turn in turns]
    assert history.closed


def test_the_header_tells_when_and_where_the_clock_started(tmp_path: Path) -> None:
    """What merging needs is written, and read back."""
    with HistoryWriter({"test": "t"}, tmp_path / "a") as one, HistoryWriter({}, tmp_path / "b") as other:
        pass
    assert read_history(tmp_path / "a").header["start"] == one.header["start"] < other.header["start"]
    assert one.header.get("boot") == other.header.get("boot")


def test_the_header_does_not_tell_which_machine_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the kernel's boot id a digest is written: the same for one boot, another one for another."""
    written = []
    for boot in ("841b3e4e-0000-4000-8000-000000000001", "841b3e4e-0000-4000-8000-000000000002") * 2:
        path = tmp_path / "boot_id"
        path.write_text(f"{boot}\n", encoding="ascii")
        monkeypatch.setattr(writer, "BOOT", path)
        written.append(HistoryWriter({}).header["boot"])
        assert not any(part in written[-1] for part in boot.split("-"))
    assert written[:2] == written[2:]
    assert written[0] != written[1]
