"""What is done to a certificate afterwards is found, whoever does it and however much they know."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lockproof.certificate import verify as verifying
from lockproof.certificate.archive import ARCHIVE, pack, unpack
from lockproof.certificate.issue import CERTIFICATE, PAGE
from lockproof.certificate.manifest import suite_files
from lockproof.certificate.profile import profiles
from lockproof.certificate.statement import schema, statement
from lockproof.certificate.verify import NoCertificate, Tampered, verify
from lockproof.driver import LockInfo
from lockproof.history import HistoryWriter
from lockproof.report import build, junit, markdown, read_events
from lockproof.suites.meta.certified import RUN, copied, forge, read, seal, shared_certificate, write

FILES = (
    CERTIFICATE,
    PAGE,
    *(f"{RUN}/{n}" for n in ("events.ndjson", "report.json", "report.md", "junit.xml", ARCHIVE)),
)


@pytest.fixture(scope="session")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has touched."""
    return shared_certificate(tmp_path_factory)


@pytest.fixture
def folder(genuine: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return copied(genuine, tmp_path / "certificate")


def refusal(folder: Path) -> str:
    """Why the certificate is refused; fails when it is not."""
    with pytest.raises(Tampered) as refused:
        verify(folder)
    return str(refused.value)


def test_a_copy_holds(folder: Path) -> None:
    """A certificate may be moved; the folder and the file are both names of it."""
    found = verify(folder)
    assert found == verify(folder / CERTIFICATE)
    assert found.other_parts == ()
    assert found.seeds == (5,)
    assert found.operations > 100


def test_what_a_forger_remakes_is_the_same(folder: Path) -> None:
    """The control of all tests below: a forger who changes nothing makes a certificate that holds."""
    forge(folder, redraw=True)
    assert verify(folder).seeds == (5,)


def test_the_named_files_are_all(genuine: Path) -> None:
    """The tests below try every file of a certificate, and the certificate names each."""
    there = {p.relative_to(genuine).as_posix() for p in genuine.rglob("*") if p.is_file()}
    assert there - {f"{RUN}/report.html"} == set(FILES)
    assert set(read(genuine)["files"]) == there - {CERTIFICATE}


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    """One byte more, anywhere, is refused with the name of the file."""
    path = folder / name
    text = path.read_bytes()
    path.write_bytes(text.replace(b"py:small", b"py:Small", 1) if name == CERTIFICATE else text + b"\n")
    assert refusal(folder).startswith(f"{name}: was changed")


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """A file that is gone is refused with its name."""
    (folder / name).unlink()
    assert refusal(folder) == f"{name}: is missing"


@pytest.mark.parametrize("name", ["notes.txt", f"{RUN}/report.pdf", "seed-6/report.json"])
def test_an_added_file_is_named(folder: Path, name: str) -> None:
    """A file that nobody certified is refused with its name."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}", encoding="utf-8")
    assert refusal(folder) == f"{name}: was added"


def test_a_link_is_no_file(folder: Path, tmp_path: Path) -> None:
    """A link may show something else to the next reader, so it does not stand for the file."""
    moved = (folder / PAGE).rename(tmp_path / PAGE)
    (folder / PAGE).symlink_to(moved)
    assert refusal(folder) == f"{PAGE}: was changed"


@pytest.mark.parametrize("field", sorted({*schema()["properties"]} - {"digest"}))
def test_every_field_follows_from_the_runs(folder: Path, field: str) -> None:
    """A changed field is refused, also with the digest made anew; so is one that is missing or added."""
    document = read(folder)
    for changed in (*variants(document[field]), None):
        seal(folder, {**document, field: changed})
        with pytest.raises((Tampered, NoCertificate)):
            verify(folder)
    seal(folder, {name: value for name, value in document.items() if name != field})
    with pytest.raises((Tampered, NoCertificate)):
        verify(folder)
    seal(folder, {**document, "remark": "trust me"})
    assert refusal(folder) == f"{CERTIFICATE}: does not state what its runs say: remark was added"


def variants(value: Any) -> Iterator[Any]:
    """`value` with one thing in it changed, once for each thing; of a list the first and the last entry."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: changed} for changed in variants(inner))
            yield {name: kept for name, kept in value.items() if name != key}
    elif isinstance(value, list):
        for at in sorted({0, len(value) - 1} if value else ()):
            yield from ([*value[:at], changed, *value[at + 1 :]] for changed in variants(value[at]))
        yield value[:-1] if value else ["something"]
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    else:
        yield f"{value or ''}x"


def test_another_digest_is_refused(folder: Path) -> None:
    """The digest stands for all of the certificate, so nobody can give it another."""
    write(folder, {**read(folder), "digest": "0" * 64})
    assert refusal(folder) == f"{CERTIFICATE}: was changed: its digest is not that of its content"


@pytest.mark.parametrize(
    ("was", "becomes"), [("FAKE", "real"), ("18/18 MUST", "80/80 MUST"), ("**On fakes**", "On a real target")]
)
def test_a_page_that_says_more_is_refused(folder: Path, was: str, becomes: str) -> None:
    """What a person reads says what the certificate states, also when its hash was made anew."""
    text = (folder / PAGE).read_text(encoding="utf-8")
    assert was.partition(" ")[0].partition("/")[0] in text
    (folder / PAGE).write_text(
        text.replace(was, becomes).replace("# py:", f"# {becomes} py:"), encoding="utf-8"
    )
    forge(folder)
    assert refusal(folder) == f"{PAGE}: does not say what {CERTIFICATE} states"


@pytest.mark.parametrize("name", ["report.md", "junit.xml"])
def test_a_report_in_words_says_what_was_found(folder: Path, name: str) -> None:
    """A page of a run that was written over is refused, also when its hash was made anew."""
    path = folder / RUN / name
    path.write_text(path.read_text(encoding="utf-8").replace("skip", "pass"), encoding="utf-8")
    forge(folder, redraw=True)
    assert refusal(folder) == f"{RUN}/{name}: does not say what report.json says"


def test_a_report_follows_from_its_events(folder: Path) -> None:
    """A report in which skipped tests have passed is refused, also when everything was made anew from it."""
    report = read(folder, f"{RUN}/report.json")
    for result in report["backends"][0]["results"]:
        result["status"], result["reason"] = "pass", ""
    for rolled in report["backends"][0]["requirements"]:
        rolled["status"] = "pass"
    replace(folder, report)
    assert f"{RUN}/report.json: does not say what the events and histories say: backends[0]." in refusal(
        folder
    )


@pytest.mark.parametrize(
    "status", ["fail", "error", "unknown", "not-run", "flaky", "xfail", "xpass", "disabled"]
)
def test_a_run_that_was_not_well_earns_none(folder: Path, status: str) -> None:
    """A certificate that follows in every detail from a run in which one test did not pass is refused."""

    def spoil(event: dict[str, Any]) -> None:
        if event["event"] == "result" and event["requirements"] == ["STATE-RT-001"]:
            event.update(status=status, reason="the moon")

    derive_anew(folder, spoil)
    assert f"{RUN}/report.json: earns no certificate: {status}: suites/" in refusal(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tier": "smoke"}, "tier smoke was run, profile nightly wants default"),
        ({"suites": ["smoke"]}, "suite state, locks"),
        ({"faults": ["net"]}, "only faults of net were injected"),
    ],
)
def test_a_run_of_less_earns_none(folder: Path, changed: dict[str, Any], message: str) -> None:
    """A certificate that follows from a run of less than the profile demands is refused."""

    def narrow(event: dict[str, Any]) -> None:
        if event["event"] == "start":
            event["run"].update(changed)

    derive_anew(folder, narrow)
    assert message in refusal(folder)


def test_a_narrowed_run_earns_none(folder: Path) -> None:
    """A certificate that follows from a run that says it was narrowed is refused."""

    def narrow(event: dict[str, Any]) -> None:
        if event["event"] == "manifest":
            event["narrowed"] = "only suite state was run"

    derive_anew(folder, narrow)
    assert "inconclusive: only suite state was run" in refusal(folder)


def test_a_run_that_did_not_finish_earns_none(folder: Path) -> None:
    """Events without an end are of a run that was killed, whatever was made of them."""
    path = folder / RUN / "events.ndjson"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    forge(folder, redraw=True)
    assert "run.finished" in refusal(folder)


def test_a_violated_history_earns_none(folder: Path, tmp_path: Path) -> None:
    """Histories are judged again: one that shows two holders is refused though its test passed."""
    histories = tmp_path / "histories"
    histories.mkdir()
    unpack(folder / RUN / ARCHIVE, histories)
    first = sorted(histories.iterdir())[0]
    backend = read(folder)["backend"]["id"]
    writer = HistoryWriter({"test": "t", "backend": backend}, first)
    for who in ("alice", "bob"):
        process, info = writer.new_process(who), LockInfo.new(who)
        writer.append(process, "invoke", "lock", ws="default", given={"info": info.to_json()})
        writer.append(process, "ok", "lock", ws="default", out=info.ID)
    writer.close()
    pack(histories, folder / RUN / ARCHIVE)
    derive_anew(folder, lambda event: None, histories)
    assert f"{RUN}/{ARCHIVE}: {first.name}:" in refusal(folder)


def test_an_invented_number_of_operations_is_refused(folder: Path) -> None:
    """Operations are counted in the histories, so a number that agrees with itself alone is refused."""

    def boast(document: dict[str, Any]) -> None:
        document["runs"][0]["operations"] += 1_000_000
        document["numbers"]["operations"] += 1_000_000

    forge(folder, boast, redraw=True)
    assert "runs[0].operations is 1" in refusal(folder)


@pytest.mark.parametrize("name", ["/tmp/x.jsonl", "../x.jsonl", "x.py"])
def test_an_archive_writes_histories_only(folder: Path, tmp_path: Path, name: str) -> None:
    """An archive that would write elsewhere, or something else, is refused with the name of the member."""
    with tarfile.open(folder / RUN / ARCHIVE, "w:gz") as tar:
        (tmp_path / "content").write_text("{}", encoding="utf-8")
        tar.add(tmp_path / "content", arcname=name.lstrip("/") if name.startswith("/") else name)
    forge(folder, redraw=True)
    message = refusal(folder)
    assert f"{RUN}: its events or histories are not whole" in message
    assert "is no history" in message


def test_a_run_counts_once(folder: Path) -> None:
    """Two runs with the same seed are one: a copy of a run does not make up for another seed."""
    copied(folder / RUN, folder / "seed-6")
    document = read(folder)
    reports = {name: read(folder, f"{name}/report.json") for name in (RUN, "seed-6")}
    counts = {name: {k: document["runs"][0][k] for k in verifying.COUNTS} for name in reports}
    forge(folder, lambda d: d.update(statement(reports, profiles()["nightly"], counts)), redraw=True)
    assert refusal(folder) == "profile nightly wants 1 runs with different seeds, not 5, 5"


def test_another_suite_is_told_and_no_refusal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another suite is installed the certificate holds, and the parts that differ are named."""
    installed = {**suite_files(), "checkers": "0" * 64}
    monkeypatch.setattr(verifying, "suite_files", lambda: installed)
    assert verify(folder).other_parts == ("checkers",)


def test_another_suite_still_works_out_the_verdict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another suite is installed a report that does not follow from its events is refused."""
    installed = {**suite_files(), "checkers": "0" * 64}
    monkeypatch.setattr(verifying, "suite_files", lambda: installed)
    test_a_report_follows_from_its_events(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no certificate.json in it"),
        ("hello", "no JSON"),
        ("[]", "not a certificate of lockproof"),
        ('{"certificate": 2}', "of version 2, not 1"),
    ],
)
def test_what_is_no_certificate_is_told(tmp_path: Path, content: str | None, message: str) -> None:
    """A folder or file of another kind is named in one line."""
    if content is not None:
        (tmp_path / CERTIFICATE).write_text(content, encoding="utf-8")
    with pytest.raises(NoCertificate) as nothing:
        verify(tmp_path)
    assert message in str(nothing.value)
    assert str(tmp_path) in str(nothing.value)
    assert len(str(nothing.value).splitlines()) == 1


def replace(folder: Path, report: dict[str, Any]) -> None:
    """Makes everything anew that follows from a report."""
    write(folder, report, f"{RUN}/report.json")
    (folder / RUN / "report.md").write_text(markdown(report, RUN), encoding="utf-8")
    (folder / RUN / "junit.xml").write_text(junit(report, RUN), encoding="utf-8")
    run = read(folder)["runs"][0]
    counts = {RUN: {name: run[name] for name in verifying.COUNTS}}
    stated = statement({RUN: report}, profiles()["nightly"], counts)
    forge(folder, lambda document: document.update(stated), redraw=True)


def derive_anew(
    folder: Path, change: Callable[[dict[str, Any]], None], histories: Path | None = None
) -> None:
    """Changes the events of the run and makes everything anew that follows from them; of `histories` too."""
    path = folder / RUN / "events.ndjson"
    events = read_events(path)
    for event in events:
        change(event)
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    report = build(events, histories)
    if histories is None:
        backend, kept = report["backends"][0], read(folder, f"{RUN}/report.json")["backends"][0]
        backend["latency"] = kept["latency"]
    replace(folder, report)
