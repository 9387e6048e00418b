"""The file of a recording: JSON, one exchange after the other, written so that a diff of two can be read.

`exchanges.schema.json` describes it. A recording is self-contained: whoever has it can send the same requests
to another target, without the script that made it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

FORMAT, VERSION = "lockproof-exchanges", 1
Who = Literal["caller", "stranger", "client", "nobody"]
WHO: tuple[Who, ...] = ("caller", "stranger", "client", "nobody")
BASES = ("documented", "recorded", "sdk", "standard", "inferred")


class RecordingError(ValueError):
    """A file that is no recording of this version: one line that says why."""


@dataclass(frozen=True)
class Ask:
    """One request, with placeholders for what differs between targets.

    who: whose authentication is sent: `caller`, `stranger` (somebody without grants), `client` (HTTP Basic
        with the caller's OAuth client), `nobody`.
    body: text; `json`: a JSON body. At most one of them.
    only: the members of a JSON answer that are kept and compared; empty: all.
    until_ended: a poll that is repeated until `status.state` is final; its last answer counts.
    slow: a statement that must not have ended when it is answered: slow by itself, and held by a fake.
    fault: the status that a fake is told to answer; elsewhere such an exchange is not sent.
    basis: what its answer rests on: `documented` (by Databricks), `recorded` (from a workspace, by others),
        `sdk` (read in databricks-sdk), `standard` (an RFC, or S3's protocol), `inferred`; `source`: where.
    """

    name: str
    method: str
    url: str
    who: Who = "caller"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    json: Any = None
    only: tuple[str, ...] = ()
    until_ended: bool = False
    slow: bool = False
    fault: int | None = None
    basis: str = "documented"
    source: str = ""

    @property
    def shown(self) -> str:
        """Method and path, without the host."""
        path = self.url.removeprefix("${host}").removeprefix("${storage}")
        return f"{self.method} {path}"


@dataclass(frozen=True)
class Reply:
    """What was answered, redacted: `headers` are those that matter, `body` is None or one of `{"json": …}`,
    `{"text": …}`, `{"bytes": n, "sha256": …}`, `{"code": …}` (the code of a storage's XML error)."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Exchange:
    """A request and the answer it got; `n` counts from 1."""

    n: int
    ask: Ask
    reply: Reply


@dataclass(frozen=True)
class Recording:
    """`target`: `fake` or `workspace`, what answered. `note` says in words what the recording rests on."""

    target: Literal["fake", "workspace"]
    note: str
    cloud: str
    exchanges: tuple[Exchange, ...]


def write(recording: Recording) -> str:
    """The text of the file. Equal recordings have equal texts."""
    shown = {
        "format": FORMAT,
        "version": VERSION,
        "target": recording.target,
        "note": recording.note,
        "cloud": recording.cloud,
        "exchanges": [_exchange_json(exchange) for exchange in recording.exchanges],
    }
    return json.dumps(shown, indent=1, ensure_ascii=False) + "\n"


def read(text: str, where: str) -> Recording:
    """The recording of that text. Raises `RecordingError` that begins with `where`."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise RecordingError(f"{where}: not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise RecordingError(f"{where}: not a recording of exchanges (its format is not {FORMAT!r})")
    if data.get("version") != VERSION:
        raise RecordingError(
            f"{where}: format version {data.get('version')!r}; this lockproof reads version {VERSION}"
        )
    try:
        return Recording(
            _choice(data, "target", ("fake", "workspace")),
            str(data["note"]),
            str(data["cloud"]),
            tuple(_exchange(item, n) for n, item in enumerate(_typed(data, "exchanges", list), 1)),
        )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise RecordingError(f"{where}: {reason}") from None


def load(path: Path) -> Recording:
    """The recording in a file. Raises `RecordingError`, and OSError."""
    try:
        return read(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise RecordingError(f"{path}: not JSON: it is not UTF-8 text") from None


def shipped() -> Recording:
    """The recording of the documented behaviour that comes with lockproof."""
    return read((files(__package__) / "documented.json").read_text(encoding="utf-8"), "documented.json")


def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    text = (files(__package__) / "exchanges.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _exchange_json(exchange: Exchange) -> dict[str, Any]:
    ask, reply = exchange.ask, exchange.reply
    request = {
        "method": ask.method,
        "url": ask.url,
        "query": dict(ask.query),
        "who": ask.who,
        "headers": dict(ask.headers),
        "body": ask.body,
        "json": ask.json,
        "only": list(ask.only),
        "until_ended": ask.until_ended,
        "slow": ask.slow,
        "fault": ask.fault,
    }
    sent = ("body", "json")  # an empty body is sent, too
    answer = {"status": reply.status, "headers": dict(reply.headers), "body": reply.body}
    return {
        "n": exchange.n,
        "name": ask.name,
        "basis": ask.basis,
        "source": ask.source,
        "request": {
            key: value for key, value in request.items() if value or (key in sent and value is not None)
        },
        "reply": {key: value for key, value in answer.items() if value},
    }


def _exchange(item: Any, n: int) -> Exchange:
    try:
        if not isinstance(item, dict):
            raise TypeError("not an object")
        request, reply = _typed(item, "request", dict), _typed(item, "reply", dict)
        unknown = request.keys() - {*Ask.__dataclass_fields__}
        if unknown:
            raise ValueError(f"request has an unknown member {min(unknown)!r}")
        ask = Ask(
            **{
                **request,
                "name": str(item["name"]),
                "method": _typed(request, "method", str),
                "url": _typed(request, "url", str),
                "who": _choice(request, "who", WHO),
                "only": tuple(request.get("only", ())),
                "basis": _choice(item, "basis", BASES),
                "source": str(item["source"]),
            }
        )
        status = _typed(reply, "status", int)
        body = reply.get("body")
        if body is not None and (
            not isinstance(body, dict) or not body.keys() & {"json", "text", "bytes", "code"}
        ):
            raise TypeError("reply has a body of another kind")
        return Exchange(n, ask, Reply(status, dict(reply.get("headers", {})), body))
    except KeyError as error:
        raise ValueError(f"exchange {n}: {error.args[0]!r} is missing") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"exchange {n}: {error}") from None


def _typed(data: Mapping[str, Any], key: str, kind: type) -> Any:
    value = data[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key!r} is not of type {kind.__name__}")
    return value


def _choice(data: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> Any:
    if data[key] not in choices:
        raise ValueError(f"{key!r} is one of {', '.join(choices)}, not {data[key]!r}")
    return data[key]
