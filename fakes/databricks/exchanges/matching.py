"""Compares an answer with the recorded one. What is compared, and what is not:

- **Status**: always. Where it differs, nothing else of the exchange is looked at.
- **Headers**: those of `HEADERS`, both ways: one that is missing and one that was not there.
- **JSON**: every recorded member must be there with its value; a list has its length and order, but for the
  lists of `UNORDERED`. More members than recorded are no difference, as for any client of a growing API,
  except for those of `TELLING`, whose absence says something (this was the last page, there are no rows).
- **Texts for people** (`message`, `error_description`): only the error class in front and the SQLSTATE
  behind, since a program must not depend on more. `texts=True` compares them whole.
- **Other bodies**: byte for byte; of a storage's XML error the code.

Placeholders are compared as `Names.matches` says: the first sight gives a name its value, each later one must
be equal, and two names of a kind such as `etag` never have one value.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lockproof.fakes.databricks.exchanges.placeholders import Names
from lockproof.fakes.databricks.exchanges.recording import Reply

HEADERS = (
    "Content-Type",
    "Content-Length",
    "Content-Range",
    "Accept-Ranges",
    "ETag",
    "Last-Modified",
    "Retry-After",
    "Location",
    "WWW-Authenticate",
    "X-Databricks-Org-Id",
    "X-Databricks-Reason-Phrase",
)
"""The headers that a client may rest on. `Content-Length` only of a file's content; of `Content-Type` the
media type; of `X-Databricks-Reason-Phrase`, a text for people, that it is there."""
UNORDERED = frozenset(("contents", "details"))
TELLING = frozenset(
    ("next_page_token", "contents", "next_chunk_index", "data_array", "external_links", "manifest", "error")
) | {"error_code", "file_size", "sql_state"}
FOR_PEOPLE = frozenset(("message", "error_description"))
_CLASS = re.compile(r"\A\[[A-Z0-9_.]+\]|SQLSTATE: \w{5}")
INLINE_BYTES = 1024
SHOWN = 80


@dataclass(frozen=True)
class Answer:
    """What arrived: `headers` by lower-case name."""

    method: str
    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Mismatch:
    """`what` (`status`, `header ETag`, `contents.0.path`, …) with its recorded and its answered value."""

    what: str
    recorded: str
    answered: str

    def __str__(self) -> str:
        return f"{self.what} {self.recorded} recorded, {self.answered} answered"


def reduced(answer: Answer, only: tuple[str, ...] = ()) -> Reply:
    """The parts of an answer that are compared, not redacted yet."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    headers = {name: answer.headers[name.lower()] for name in HEADERS if name.lower() in answer.headers}
    if "Content-Type" in headers:
        headers["Content-Type"] = kind
    if "octet-stream" not in kind or not 200 <= answer.status < 300:
        headers.pop("Content-Length", None)
    if "X-Databricks-Reason-Phrase" in headers:
        headers["X-Databricks-Reason-Phrase"] = "${any}"
    if not answer.content:
        headers.pop("Content-Type", None) if answer.method != "HEAD" else None
        return Reply(answer.status, headers)
    return Reply(answer.status, headers, _body(answer.content, kind, only))


def mismatches(recorded: Reply, answered: Reply, names: Names, *, texts: bool = False) -> list[Mismatch]:
    """Where an answer (as `reduced` gives it) is not the recorded one; placeholders get their values."""
    if recorded.status != answered.status:
        return [Mismatch("status", _status(recorded), _status(answered))]
    found = []
    for name in HEADERS:
        want, got = recorded.headers.get(name), answered.headers.get(name)
        if want is None and got is None:
            continue
        if want is None or got is None or not names.matches(want, got):
            found.append(Mismatch(f"header {name}", want or "none", got or "none"))
    return [*found, *_bodies(recorded.body, answered.body, names, texts)]


def _body(content: bytes, kind: str, only: tuple[str, ...]) -> dict[str, Any]:
    if "json" in kind:
        try:
            value = json.loads(content)
        except ValueError:
            return {"text": content.decode("utf-8", "replace")}
        if only and isinstance(value, dict):
            value = {key: item for key, item in value.items() if key in only or key == "error_code"}
        return {"json": value}
    if "xml" in kind:
        code = re.search(rb"<Code>(\w+)</Code>", content)
        return {"code": code[1].decode() if code else ""}
    if len(content) <= INLINE_BYTES:
        try:
            return {"text": content.decode()}
        except UnicodeDecodeError:
            pass
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _bodies(
    want: Mapping[str, Any] | None, got: Mapping[str, Any] | None, names: Names, texts: bool
) -> Iterator[Mismatch]:
    kinds = [next(iter(body)) if body else "none" for body in (want, got)]
    if kinds[0] != kinds[1]:
        yield Mismatch("body", _short(want), _short(got))
    elif want and got:
        kind = kinds[0]
        yield from _values(want[kind], got[kind], names, texts, "body" if kind != "json" else "")
        if kind == "bytes" and want["sha256"] != got["sha256"]:
            yield Mismatch("body sha256", want["sha256"], got["sha256"])


def _values(want: Any, got: Any, names: Names, texts: bool, at: str) -> Iterator[Mismatch]:
    name = at.rpartition(".")[2]
    if isinstance(want, dict) and isinstance(got, dict):
        for key in [*want, *(key for key in got if key in TELLING and key not in want)]:
            place = f"{at}.{key}" if at else key
            if key not in got:
                yield Mismatch(place, _short(want[key]), "none")
            elif key not in want:
                yield Mismatch(place, "none", _short(got[key]))
            else:
                yield from _values(want[key], got[key], names, texts, place)
    elif isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            yield Mismatch(at, f"{len(want)} items", f"{len(got)} items")
            return
        if name in UNORDERED:
            want, got = sorted(want, key=_order), sorted(got, key=_order)
        for index, (one, other) in enumerate(zip(want, got, strict=True)):
            yield from _values(one, other, names, texts, f"{at}.{index}")
    elif isinstance(want, str) and name in FOR_PEOPLE and not texts and isinstance(got, str):
        if _CLASS.findall(want) != _CLASS.findall(got):
            yield Mismatch(at, _short(want), _short(got))
    elif isinstance(want, str) and not isinstance(got, (dict, list)):
        if got is None or not names.matches(want, got):
            yield Mismatch(at, _short(want), _short(got))
    elif type(want) is not type(got) or want != got:
        yield Mismatch(at or "body", _short(want), _short(got))


def _order(item: Any) -> str:
    """What an item of a list without order is told by: a path's last part, or a detail's type."""
    if not isinstance(item, dict):
        return str(item)
    return str(item.get("name") or item.get("@type") or "")


def _status(reply: Reply) -> str:
    body = reply.body.get("json") if reply.body else None
    code = body.get("error_code") or body.get("error") if isinstance(body, dict) else None
    return f"{reply.status} {code}" if isinstance(code, str) else str(reply.status)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
