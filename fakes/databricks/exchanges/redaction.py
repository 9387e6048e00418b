"""From what was answered to what may be shown: secrets, names and moments become placeholders.

Three rules, in this order: members that hold such a value by their name (`KINDS`), known values (the
target's own, and those that a name was given to before), and texts that look like such a value wherever they
stand (`LOOKS`). Too much hidden is harmless, too little is not: `Redactor.leaks` looks through the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from lockproof.fakes.databricks.exchanges.placeholders import LOOSE, MARK, Names, kind_of

KINDS = {
    **dict.fromkeys(("token", "access_token", "refresh_token", "id_token", "session_token"), "token"),
    **dict.fromkeys(("url", "external_link", "storage_location", "storage_root", "jdbc_url"), "url"),
    **dict.fromkeys(("ETag", "etag"), "etag"),
    **dict.fromkeys(("statement_id", "id", "uid"), "id"),
    **dict.fromkeys(("volume_id", "metastore_id", "account_id", "workspace_id", "table_id"), "id"),
    **dict.fromkeys(("host", "hostname", "read_write_dns", "read_only_dns", "read_only_host"), "host"),
    **dict.fromkeys(("read_write_pooled_host", "read_only_pooled_host"), "host"),
    **dict.fromkeys(("owner", "created_by", "updated_by", "creator", "creator_name", "displayName"), "who"),
    **dict.fromkeys(("userName", "givenName", "familyName"), "who"),
    **dict.fromkeys(("created_at", "updated_at", "last_modified"), "epoch"),
    **dict.fromkeys(("expiration", "expire_time", "expiration_time", "create_time", "update_time"), "time"),
    **dict.fromkeys(("last_active_time", "Last-Modified", "Date"), "time"),
    **dict.fromkeys(("request_id", "serving_data", "X-Request-Id"), "any"),
    "next_page_token": "page",
}
"""The kind of value that a member, or a header, holds whatever it looks like."""

_HOSTS = r"cloud\.databricks\.com|azuredatabricks\.net|gcp\.databricks\.com|amazonaws\.com|windows\.net"
LOOKS = (
    ("any", r"(?<=ReqId: )[^\]\s]+|(?<=TraceId: )[^\]\s]+|(?<=RequestId: )[^\]\s]+"),
    ("url", r"\b(?:https?|s3a?|abfss?|wasbs?|gs|r2|jdbc)://?[^\s\"'<>\]]+"),
    ("token", r"\b(?:dapi[0-9a-f]{16,}(?:-\d)?|dose[0-9a-f]{16,}|dkea[0-9a-f]{16,})\b"),
    ("token", r"\bey[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_.-]{16,}"),
    ("who", r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"),
    ("host", rf"\b[\w-]+(?:\.[\w-]+)*\.(?:{_HOSTS})\b"),
    ("host", r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"),
    ("id", r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    ("time", r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?"),
    ("time", r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\b"),
    ("id", r"\b\d{12,20}\b"),
)
"""What a value looks like that is hidden wherever it stands: kind and regular expression."""
_LOOK = re.compile("|".join(f"(?P<look{n}>{pattern})" for n, (_, pattern) in enumerate(LOOKS)))
_SHORTEST = 8
"""A shorter value may be a common word: it is found only as a whole, in quotation marks, or as `a.b.c`."""


class Redactor:
    """Hides what `names` stand for, and gives a name to every other value that is to be hidden.

    `secrets` are values that may occur in no form, such as the credentials of the run.
    """

    def __init__(self, names: Names, secrets: Iterable[str] = ()) -> None:
        self.names = names
        self.secrets = {secret for secret in secrets if secret}

    def json(self, value: Any, key: str = "") -> Any:
        """JSON with placeholders; `key` is the name of the member that holds it."""
        if isinstance(value, Mapping):
            return {name: self.json(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.json(item, key) for item in value]
        if isinstance(value, str):
            return self.text(value, key)
        if KINDS.get(key) == "epoch" and isinstance(value, int):
            return "${epoch}"
        return value

    def text(self, value: str, key: str = "") -> str:
        """A text with placeholders; `key` as above, or the name of a header."""
        kind = KINDS.get(key)
        if not value:
            return value
        if kind is not None and kind != "epoch":
            return self._named(kind, value)
        return _apart(self._known(value), lambda rest: _LOOK.sub(self._looked, rest))

    def leaks(self, text: str) -> list[str]:
        """Names of what stands in `text` although it must not; a secret of the run is called `secret`."""
        hidden = {
            name
            for name, value in self.names.values.items()
            if kind_of(name) in ("token", "url", "host", "who") and len(value) >= _SHORTEST and value in text
        }
        return sorted(hidden | ({"secret"} if any(secret in text for secret in self.secrets) else set()))

    def _named(self, kind: str, value: str) -> str:
        """The placeholder of a whole value: the name that stands for it, else a new one."""
        if kind in LOOSE:
            return f"${{{kind}}}"
        for name, known in self.names.values.items():
            if known == value and kind_of(name) in ("", kind):
                return f"${{{name}}}"
        name = next(name for n in count(1) if (name := f"{kind}-{n}") not in self.names.values)
        self.names.values[name] = value
        return f"${{{name}}}"

    def _known(self, text: str) -> str:
        for name, value in sorted(self.names.values.items(), key=lambda pair: -len(pair[1])):
            if value and value in text:
                pattern = _pattern_of(value)
                text = _apart(text, lambda rest, p=pattern, n=name: p.sub(f"${{{n}}}", rest))
        return text

    def _looked(self, found: re.Match[str]) -> str:
        kind = next(LOOKS[int(group[4:])][0] for group, text in found.groupdict().items() if text is not None)
        return self._named(kind, found[0])


def _pattern_of(value: str) -> re.Pattern[str]:
    text = re.escape(value)
    if len(value) >= _SHORTEST or "." in value or "/" in value:
        return re.compile(rf"(?<![\w]){text}(?![\w])" if value[0].isalnum() else text)
    return re.compile(rf"\A{text}\Z|(?<=['`\"]){text}(?=['`\"])")


def _apart(text: str, change: Any) -> str:
    """`change` of what stands between placeholders."""
    parts, at = [], 0
    for mark in MARK.finditer(text):
        parts += [change(text[at : mark.start()]), mark[0]]
        at = mark.end()
    return "".join([*parts, change(text[at:])])
