"""The few operations of a history that a failure is about, one line of text each."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lockproof.checkers.verdict import Verdict
from lockproof.history.event import History, Operation
from lockproof.report.remarks import remarks

SHOWN = 8
SHORT = 48
DASH = "\N{EN DASH}"
PREFIX = 8  # characters of an id that are shown at least
OPAQUE = re.compile(r"[\w-]{20,}")  # ids, tokens and digests, which nobody reads to the end
INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def relevant(history: History, witness: Sequence[int] = (), *, most: int | None = SHOWN) -> list[str]:
    """The operations that have an event in `witness`, each told in one line with what it shows.

    Without a witness the last operations of the history are told. Of more than `most` operations only
    the first and the last are told; a line between them counts the others.
    """
    operations = shown(history, witness)
    telling = Telling(operations, history.names)
    said = remarks(operations, history)
    lines = [telling.line(op, said.get(op.i, "") if witness else "") for op in operations]
    if most is not None and len(lines) > most:
        half = most // 2
        lines[half:-half] = [f"… {len(lines) - 2 * half} more operations …"]
    return lines


def shown(history: History, witness: Sequence[int]) -> Sequence[Operation]:
    """The operations that have an event in `witness`, else the last ones, in the order of the calls."""
    operations = history.operations()
    wanted = set(witness)
    named = [op for op in operations if op.i in wanted or (op.outcome and op.outcome.i in wanted)]
    return named or operations[-SHOWN:]


def headline(history: History, verdict: Verdict) -> str:
    """The verdict in one sentence: ids as `alice's lock 4f3a2b1c…`, values shortened, as the lines are."""
    telling = Telling(shown(history, verdict.witness), history.names)
    return telling.sentence(verdict.headline)


class Telling:
    """How the operations of one story are told.

    Ids, tokens and values are cut to the shortest beginnings, of eight characters or more, that tell
    those of this story apart.
    """

    def __init__(self, operations: Iterable[Operation], names: Mapping[int, str]) -> None:
        self.names = names
        self._owners: dict[str, str] = {}
        words: set[str] = set()
        for op in operations:
            info = op.given.get("info")
            if op.f == "lock" and isinstance(info, Mapping):
                granted = op.out if op.kind == "ok" and isinstance(op.out, str) else info.get("ID")
                for name in (granted, info.get("ID")):
                    self._owners.setdefault(str(name), self.who(op))
            words.update(_words(op))
        self._prefix = _distinct(words)
        self._long = sorted((w for w in words if self.id(w) != w), key=len, reverse=True)

    def who(self, op: Operation) -> str:
        """The name of the client that called."""
        return plain(self.names.get(op.p, f"process {op.p}"))

    def line(self, op: Operation, remark: str = "") -> str:
        """`#12 alice lock default → ok id 4f3a2b1c… 1.200-1.450 ms: alice holds from here`."""
        asked = " ".join(filter(None, (f"#{op.i}", self.who(op), self.call(op))))
        return f"{asked} → {self.outcome(op)} {times(op)}{f': {plain(remark)}' if remark else ''}"

    def call(self, op: Operation) -> str:
        """`put default value 4f3a2b1c… serial 3 under lock 9a02c4d1…`."""
        given = op.given
        parts = [plain(op.f), plain(op.ws) if op.ws is not None else ""]
        if op.f == "put":
            parts += [self._value(given), f"under lock {self.id(given['lock_id'])}" if _held(given) else ""]
        elif _held(given):
            parts.append(self.id(given["lock_id"]))
        elif given.get("force"):
            parts.append("force")
        return " ".join(part for part in parts if part)

    def outcome(self, op: Operation) -> str:
        """`ok id 4f3a2b1c…`, `refused: held by alice, id 4f3a2b1c…`, `unknown: timeout (…)`."""
        if op.outcome is None:
            return "no answer"
        if op.kind == "ok":
            return f"ok {self._result(op)}".strip()
        kind, message = plain(op.err.get("kind", "")), plain(op.err.get("message", ""))
        holder = op.err.get("holder")
        if op.kind == "fail" and isinstance(holder, Mapping):
            word = "held by" if kind == "locked" else f"{kind}, held by"
            who = f" {plain(holder['Who'])}" if holder.get("Who") else ""
            return f"refused: {word}{who} id {self.id(holder.get('ID', ''))}"
        reason = " ".join(filter(None, (kind, f"({_cut(message)})" if message else "")))
        return f"{'refused' if op.kind == 'fail' else 'unknown'}: {reason}".rstrip(": ")

    def id(self, text: object) -> str:
        """An id, token or value as this story shows it; one without a name stays whole."""
        word = plain(text)
        if not word:
            return "''"
        if not OPAQUE.fullmatch(word) or len(word) <= self._prefix + 1:
            return _cut(word)
        return f"{word[: self._prefix]}…"

    def sentence(self, text: str) -> str:
        """`text` with the ids of this story shortened, and with whose lock they are."""
        text = plain(text)
        for word in self._long:
            whose = f"{self._owners[word]}'s lock " if word in self._owners else ""
            text = text.replace(f"'{word}'", word).replace(word, f"{whose}{self.id(word)}")
        return text

    def _result(self, op: Operation) -> str:
        out = op.out
        if op.f == "lock" and isinstance(out, str):
            return f"id {self.id(out)}"
        if isinstance(out, Mapping) and "value" in out:
            return self._value(out) if out["value"] is not None else "no state"
        if out is None:
            return ""
        return _cut(plain(out if isinstance(out, str) else json.dumps(out, ensure_ascii=False, default=str)))

    def _value(self, record: Mapping[str, Any]) -> str:
        if "value" not in record:
            return ""
        serial = f" serial {plain(record['serial'])}" if record.get("serial") is not None else ""
        return f"value {self.id(record['value'])}{serial}"


def times(op: Operation) -> str:
    """`1.200-1.450 ms` since the history began; `1.200 ms-` without an end."""
    start = f"{op.called / 1e6:.3f}"
    return f"{start} ms{DASH}" if op.outcome is None else f"{start}{DASH}{op.outcome.t / 1e6:.3f} ms"


def plain(text: object) -> str:
    """`text` on one line, without what a terminal or a page would act on instead of showing it."""
    return INVISIBLE.sub(lambda found: "␤" if found[0] == "\n" else "\ufffd", str(text))


def _held(given: Mapping[str, Any]) -> bool:
    return given.get("lock_id") is not None


def _words(op: Operation) -> Iterable[str]:
    """Every id and value that telling `op` may show."""
    info, holder = op.given.get("info"), op.err.get("holder")
    records = [op.given, op.out, info, holder]
    names = ("lock_id", "value", "ID")
    found = [record.get(name) for record in records if isinstance(record, Mapping) for name in names]
    return (plain(word) for word in (*found, op.out) if isinstance(word, str))


def _distinct(words: set[str]) -> int:
    """How many characters tell all `words` apart, at least `PREFIX`."""
    ordered = sorted(words)
    needed = PREFIX
    for one, other in itertools.pairwise(ordered):
        same = next(
            (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        needed = max(needed, same + 1)
    return needed


def _cut(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
