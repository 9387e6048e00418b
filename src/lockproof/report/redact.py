"""Keeps secrets out of everything that a run writes or prints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "***"
SECRET_NAME = re.compile(
    r"token|password|passwd|passphrase|secret|credential|dsn|key|authorization|private|bearer|cookie"
    r"|(?:pass|pwd)(?![a-z])|(?<![a-z])(?:o?auth(?![_-](?:type|method|mode)\b)|pat|sas|creds?)(?![a-z])",
    re.I,
)
OPTIONS = ("--backend-opt", "--backend-postgres", "--backend")

_USERINFO = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/@\s'\"]+@", re.I)
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?'\"<>]+)\?[^\s'\"<>)]+", re.I)
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.I)
_DATABRICKS = re.compile(r"\b(dapi|dose|dkea)[0-9a-f]{16,}\b")
_ASSIGNED = re.compile(
    r"\b([\w-]*(?:password|passwd|passphrase|secret|access_token|api_key)[\"']?\s*[=:]\s*"
    r"|(?:[\w-]*[_-])?(?:pass|pwd|pat|sas)=)"
    r"(?:(?P<quote>\\?[\"'])(?P<quoted>(?:\\.|[^\\\n])*?)(?P=quote)|(?:\\?[\"'])?(?P<plain>[^\s,;'\"]+))",
    re.I,
)


class Redactor:
    """Hides the values it has learnt, and whatever looks like a credential, in text and data."""

    def __init__(self) -> None:
        self.values: set[str] = set()

    def learn(self, options: Mapping[str, str]) -> None:
        """Remembers the values of options whose name says that they are secret.

        Of an address with credentials the user's password and the query values are remembered too, and
        of a text such as a connection string what it calls a password.
        """
        for name, value in options.items():
            if SECRET_NAME.search(name) and name != "key":
                self._add(value)
            for found in _ASSIGNED.finditer(value):
                self._add(found["quoted"] or found["plain"] or "")
            parts = urlsplit(value) if "://" in value else None
            if parts is not None:
                self._add(parts.password or "")
                self._add(unquote(parts.password or ""))
                for key, part in parse_qsl(parts.query):
                    if SECRET_NAME.search(key):
                        self._add(part)

    def text(self, text: str) -> str:
        """`text` without secrets."""
        for value in sorted(self.values, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        text = _USERINFO.sub(rf"\g<1>{HIDDEN}@", text)
        text = _QUERY.sub(rf"\g<1>?{HIDDEN}", text)
        text = _BEARER.sub(rf"\g<1> {HIDDEN}", text)
        text = _DATABRICKS.sub(HIDDEN, text)
        return _ASSIGNED.sub(lambda m: f"{m[1]}{m['quote'] or ''}{HIDDEN}{m['quote'] or ''}", text)

    def options(self, options: Mapping[str, str]) -> dict[str, str]:
        """Driver options as a report shows them."""
        return {
            name: HIDDEN if SECRET_NAME.search(name) else self.text(value) for name, value in options.items()
        }

    def arguments(self, arguments: Sequence[str]) -> list[str]:
        """A command line as a report shows it."""
        shown: list[str] = []
        previous = ""
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if previous in OPTIONS:
                name, equals, value = previous, "", argument
            if name == "--backend-postgres" and value:
                value = HIDDEN
            elif name == "--backend-opt" and value:
                key, _, given = value.partition("=")
                value = f"{key}={HIDDEN if SECRET_NAME.search(key) else self.text(given)}"
            else:
                value = self.text(value)
            shown.append(value if previous in OPTIONS else f"{self.text(name)}{equals}{value}")
            previous = "" if previous in OPTIONS else argument
        return shown

    def _add(self, value: str) -> None:
        if len(value) >= 6:
            self.values.add(value)
