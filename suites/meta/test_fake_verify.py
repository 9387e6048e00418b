"""The shipped recording, the file format, and what is hidden in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lockproof.cli import main
from lockproof.fakes.databricks.exchanges import player, recording
from lockproof.fakes.databricks.exchanges.matching import Answer, mismatches, reduced
from lockproof.fakes.databricks.exchanges.placeholders import Names
from lockproof.fakes.databricks.exchanges.recording import RecordingError, Reply, read, shipped, write
from lockproof.fakes.databricks.exchanges.redaction import Redactor
from lockproof.fakes.databricks.exchanges.script import script
from lockproof.fakes.databricks.exchanges.targets import own_fake

Command = Callable[..., tuple[int, str, str]]
SECRETS = {
    "a personal token": "dapi0123456789abcdef0123456789abcdef",
    "a JSON web token": "eyJhbGciOi.eyJzdWIiOiJqYW5lIn0.c2lnbmF0dXJl",
    "an e-mail address": "jane.doe@corp.example",
    "a workspace": "adb-1234567890123456.7.azuredatabricks.net",
    "a presigned URL": "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=0a1b2c",
    "a path of the storage": "abfss://data@account.dfs.core.windows.net/x",
    "an address": "10.20.30.40",
    "a workspace id": "1234567890123456",
    "a request id": "3f0d9a52-4f0c-4f0b-9a3e-0d6f1b2c3d4e",
}


@pytest.fixture
def lockproof(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process: exit code, output, errors."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lockproof", *words])
        with pytest.raises(SystemExit) as end:
            main()
        out, errors = capsys.readouterr()
        return int(end.value.code or 0), out, errors

    return run


def test_fake_answers_as_the_shipped_recording_says(lockproof: Command) -> None:
    """`lockproof fake verify` without options finds no difference and leaves nothing out."""
    count = len(shipped().exchanges)
    line = f"fake: {count} exchanges replayed, 0 not; 0 differences from a recording of a fake\n"
    assert lockproof("fake", "verify") == (0, line, "")


def test_shipped_recording_is_what_the_script_records(tmp_path: Path, lockproof: Command) -> None:
    """Recording again gives the same bytes: nothing of a run, no date and no id, is in the file."""
    file = tmp_path / "again.json"
    assert lockproof("fake", "record", "--out", str(file))[0] == 0
    assert file.read_text(encoding="utf-8") == write(shipped())


def test_shipped_recording_says_what_its_sources_say() -> None:
    """Each answer has the status and the code that the script declares from the source that it cites.

    The file says that no workspace answered.
    """
    steps = script()
    found = shipped()
    assert "not from a workspace" in found.note
    assert found.target == "fake"
    assert [exchange.ask for exchange in found.exchanges] == [step.ask for step in steps]
    for exchange, step in zip(found.exchanges, steps, strict=True):
        body = (exchange.reply.body or {}).get("json")
        code = (body.get("error_code") or body.get("error")) if isinstance(body, dict) else None
        assert (exchange.reply.status, step.code or code) == (step.status, code), exchange.ask.name
        assert exchange.ask.source
    assert len({step.ask.name for step in steps}) == len(steps) > 150


def test_shipped_recording_fits_its_schema() -> None:
    """The schema allows the file, and refuses one that has something else in it."""
    data = json.loads(write(shipped()))
    jsonschema.validate(data, recording.schema())
    data["exchanges"][0]["request"]["token"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="'token' was unexpected"):
        jsonschema.validate(data, recording.schema())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON: Expecting property name"),
        ("[]", "not a recording of exchanges"),
        ('{"format": "other"}', "not a recording of exchanges"),
        (
            '{"format": "lockproof-exchanges", "version": 2}',
            "format version 2; this lockproof reads version 1",
        ),
        ('{"format": "lockproof-exchanges", "version": 1}', "'target' is missing"),
    ],
)
def test_file_that_is_no_recording_is_one_line(
    text: str, message: str, tmp_path: Path, lockproof: Command
) -> None:
    """Broken JSON, another format and another version: one clear line that names the file, exit code 4."""
    file = tmp_path / "theirs.json"
    file.write_text(text, encoding="utf-8")
    code, out, errors = lockproof("fake", "verify", "--recording", str(file))
    assert (code, out) == (4, "")
    assert errors.startswith(f"lockproof: {file}: {message}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda item: item["request"].update(who="root"), "'who' is one of caller, stranger, client, nobody"),
        (lambda item: item["request"].update(retries=3), "request has an unknown member 'retries'"),
        (lambda item: item["request"].pop("url"), "'url' is missing"),
        (lambda item: item["reply"].update(status="200"), "'status' is not of type int"),
        (lambda item: item["reply"].update(body={"html": ""}), "reply has a body of another kind"),
        (lambda item: item.update(basis="hearsay"), "'basis' is one of documented, recorded"),
    ],
)
def test_malformed_exchange_is_named(change: Callable[[dict[str, Any]], object], message: str) -> None:
    """A file of the right format with a wrong exchange says which one and why."""
    data = json.loads(write(shipped()))
    change(data["exchanges"][6])
    with pytest.raises(RecordingError, match=re.escape(f"theirs.json: exchange 7: {message}")):
        read(json.dumps(data), "theirs.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify", "--recording", "missing.json"], "missing.json: No such file"),
        (
            ["verify", "--warehouse", "x"],
            "--warehouse: only for a workspace, which --host or --profile names",
        ),
        (["record", "--out", "missing/x.json"], "missing/x.json: there is no folder missing"),
        (["--port", "1", "verify"], "--port and --lakebase-port are not for `verify`"),
        (["verify", "--host", "http://127.0.0.1:1", "--volume", "a.b.c"], "the workspace does not answer: "),
    ],
)
def test_wrong_use_is_one_line(words: list[str], message: str, lockproof: Command) -> None:
    """What is wrong and what to do, exit code 4, no traceback."""
    code, out, errors = lockproof("fake", *words)
    assert (code, out, errors.count("\n")) == (4, "", 1)
    assert errors.startswith(f"lockproof: {message}")


def test_recording_that_cannot_be_replayed_at_all_is_no_success(tmp_path: Path, lockproof: Command) -> None:
    """Nothing compared is a usage error, not the absence of differences."""
    first = shipped().exchanges[0]
    lonely = replace(first, ask=replace(first.ask, url="${url-never-seen}"))
    file = tmp_path / "lonely.json"
    file.write_text(write(replace(shipped(), exchanges=(lonely,))), encoding="utf-8")
    code, _, errors = lockproof("fake", "verify", "--recording", str(file))
    assert (code, errors) == (4, "lockproof: none of the recorded exchanges can be sent to this target\n")


@pytest.mark.parametrize("kind", SECRETS)
def test_secret_is_hidden_wherever_it_stands(kind: str) -> None:
    """In a sentence, as a member of any name, in a list: nothing of it is left; equal values stay equal."""
    secret = SECRETS[kind]
    redactor = Redactor(Names({}))
    shown = redactor.json({"message": f"see {secret} now", "x": [secret, {"y": secret}]})
    assert secret not in json.dumps(shown)
    assert shown["x"][0] == shown["x"][1]["y"] != ""
    assert shown["message"] == f"see {shown['x'][0]} now"


def test_named_members_are_hidden_whatever_they_look_like() -> None:
    """A token, an owner or a host that looks like a plain word is hidden by the name of its member."""
    told = {"access_token": "plain", "owner": "Data Team", "hosts": {"host": "ep-1"}, "state": "RUNNING"}
    shown = Redactor(Names({})).json(told)
    assert shown == {
        "access_token": "${token-1}",
        "owner": "${who-1}",
        "hosts": {"host": "${host-1}"},
        "state": "RUNNING",
    }


def test_recording_with_a_secret_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should redaction fail, the recorder refuses, and does not say what it found."""
    monkeypatch.setattr(player, "_redacted", lambda reply, redactor: reply)
    with own_fake() as target, pytest.raises(ValueError, match="is not written: it would show") as refused:
        player.record(target, script()[:8])
    assert [secret for secret in target.secrets if secret in str(refused.value)] == []


def test_two_names_never_stand_for_one_value() -> None:
    """A tag that must have changed and did not is a mismatch; a name keeps what it met first."""
    names = Names({"root": "/Volumes/a"})
    assert names.matches("${etag-1}", '"x"')
    assert not names.matches("${etag-2}", '"x"')
    assert names.matches("${etag-2}", '"y"')
    assert not names.matches("${etag-1}", '"y"')
    assert names.matches("${root}/f of ${etag-1}", '/Volumes/a/f of "x"')
    assert not names.matches("${epoch}", "1700000000000")
    assert names.matches("${epoch}", 1700000000000)
    assert not names.matches("${etag-3}", "without quotation marks")


@pytest.mark.parametrize(
    ("answered", "differs"),
    [
        ({"message": "No such file.", "error_code": "NOT_FOUND"}, []),
        ({"message": "x", "error_code": "NOT_FOUND", "new": 1}, []),
        ({"message": "x", "error_code": "NOT_FOUND", "next_page_token": "t"}, ["next_page_token"]),
        ({"message": "x", "error_code": 404}, ["error_code"]),
        ({"message": "[A.B] x", "error_code": "NOT_FOUND"}, ["message"]),
        ({"error_code": "NOT_FOUND"}, ["message"]),
    ],
)
def test_json_is_compared_as_a_client_reads_it(answered: dict[str, Any], differs: list[str]) -> None:
    """Members may be added, sentences reworded; codes, classes and telling members may not change."""
    recorded = Reply(404, {}, {"json": {"message": "The file is not found.", "error_code": "NOT_FOUND"}})
    answer = Answer("GET", 404, {"content-type": "application/json"}, json.dumps(answered).encode())
    found = mismatches(recorded, replace(reduced(answer), headers={}), Names({}), lambda value, key: value)
    assert [mismatch.what for mismatch in found] == differs


def test_texts_are_compared_when_asked() -> None:
    """With `texts` a reworded sentence is a mismatch."""
    one, other = (Reply(404, {}, {"json": {"message": text}}) for text in ("gone", "missing"))
    found = mismatches(one, other, Names({}), lambda value, key: value, texts=True)
    assert [str(mismatch) for mismatch in found] == ["message gone recorded, missing answered"]
