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
from collections.abc import Callable, Iterator, Mapping
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
Redact = Callable[[Any, str], Any]
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


def mismatches(
    recorded: Reply, answered: Reply, names: Names, redact: Redact, *, texts: bool = False
) -> list[Mismatch]:
    """Where an answer (as `reduced` gives it) is not the recorded one; placeholders get their values.

    `redact(value, key)` makes what was answered fit to be shown; `key` is the member or header that holds it.
    """
    if recorded.status != answered.status:
        return [Mismatch("status", _status(recorded), _status(answered))]
    return list(_Comparison(names, redact, texts).replies(recorded, answered))


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


@dataclass(frozen=True)
class _Comparison:
    names: Names
    redact: Redact
    texts: bool

    def replies(self, recorded: Reply, answered: Reply) -> Iterator[Mismatch]:
        for name in HEADERS:
            want, got = recorded.headers.get(name), answered.headers.get(name)
            if want is not None and got is not None:
                if not self.names.matches(want, got):
                    yield self.mismatch(f"header {name}", want, got)
            elif want is not None:
                yield self.missing(f"header {name}", want)
            elif got is not None:
                yield self.extra(f"header {name}", got)
        yield from self.bodies(recorded.body, answered.body)

    def bodies(self, want: Mapping[str, Any] | None, got: Mapping[str, Any] | None) -> Iterator[Mismatch]:
        if want is None and got is not None:
            yield self.extra("body", next(iter(got.values())))
        elif want is not None and got is None:
            yield self.missing("body", next(iter(want.values())))
        elif want is not None and got is not None:
            kind = next(iter(want))
            if kind not in got:
                yield self.mismatch("body", want[kind], next(iter(got.values())))
                return
            yield from self.values(want[kind], got[kind], "" if kind == "json" else "body")
            if want.get("sha256") != got.get("sha256"):
                yield self.mismatch("body sha256", want["sha256"], got["sha256"])

    def values(self, want: Any, got: Any, at: str) -> Iterator[Mismatch]:
        if isinstance(want, dict) and isinstance(got, dict):
            yield from self.members(want, got, at)
        elif isinstance(want, list) and isinstance(got, list):
            yield from self.items(want, got, at)
        elif not self.equal(want, got, _name(at)):
            yield self.mismatch(at or "body", want, got)

    def members(self, want: dict[str, Any], got: dict[str, Any], at: str) -> Iterator[Mismatch]:
        for key in [*want, *(key for key in got if key in TELLING and key not in want)]:
            place = f"{at}.{key}" if at else key
            if key not in got:
                yield self.missing(place, want[key])
            elif key not in want:
                yield self.extra(place, got[key])
            else:
                yield from self.values(want[key], got[key], place)

    def items(self, want: list[Any], got: list[Any], at: str) -> Iterator[Mismatch]:
        if len(want) != len(got):
            yield Mismatch(at, f"{len(want)} items", f"{len(got)} items")
            return
        if _name(at) in UNORDERED:
            want, got = sorted(want, key=_order), sorted(got, key=_order)
        for index, (one, other) in enumerate(zip(want, got, strict=True)):
            yield from self.values(one, other, f"{at}.{index}")

    def equal(self, want: Any, got: Any, name: str) -> bool:
        if not isinstance(want, str):
            return type(want) is type(got) and bool(want == got)
        if name in FOR_PEOPLE and not self.texts:
            return isinstance(got, str) and _CLASS.findall(want) == _CLASS.findall(got)
        return self.names.matches(want, got)

    def mismatch(self, what: str, want: Any, got: Any) -> Mismatch:
        quoted = isinstance(want, str) and not isinstance(got, str)  # "7" is not 7
        return Mismatch(what, _short(want, quoted), _short(self.redact(got, _name(what))))

    def missing(self, what: str, want: Any) -> Mismatch:
        return Mismatch(what, _short(want), "none")

    def extra(self, what: str, got: Any) -> Mismatch:
        return Mismatch(what, "none", _short(self.redact(got, _name(what))))


def _name(at: str) -> str:
    """The member or header that a place is about: the last part of it."""
    return at.removeprefix("header ").rpartition(".")[2]


def _order(item: Any) -> str:
    """What an item of a list without order is told by: a path's last part, or a detail's type."""
    if not isinstance(item, dict):
        return str(item)
    return str(item.get("name") or item.get("@type") or "")


def _status(reply: Reply) -> str:
    body = reply.body.get("json") if reply.body else None
    code = body.get("error_code") or body.get("error") if isinstance(body, dict) else None
    return f"{reply.status} {code}" if isinstance(code, str) else str(reply.status)


def _short(value: Any, quoted: bool = False) -> str:
    """One line of limited length."""
    text = value if isinstance(value, str) and not quoted else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
