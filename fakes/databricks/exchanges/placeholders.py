"""Placeholders: `${etag-1}` in a recording stands for whatever tag a workspace gives there.

The same value is the same placeholder throughout a recording. Some names are *given* before the first
request (`${host}`, `${root}`: what a target is asked to work with); all others are *met* in answers, and what
a name met first, it stands for from then on. Two names say "the tag changed with the write".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MARK = re.compile(r"\$\{([a-z][a-z0-9-]*)\}")
SHAPES = {
    "etag": r'(?:W/)?"[^"]*"',
    "id": r"[A-Za-z0-9][\w.:-]*",
    "token": r"\S+",
    "page": r".+",
    "url": r"[a-z][a-z0-9]*:[^\s\"'<>]+",
    "host": r"[\w.:-]+",
    "who": r"[^'\"]+",
    "time": r"[\w,:.+ -]+",
    "epoch": r"\d+",
    "any": r".*?",
    "unfinished": r"PENDING|RUNNING",
}
"""What may stand where a name of this kind stands, as a regular expression. The kind is the name up to its
first dash."""
LOOSE = frozenset(("time", "epoch", "any", "unfinished"))
"""Kinds without a memory: each use may be another value."""
DISTINCT = frozenset(("etag", "id", "token", "page"))
"""Kinds of which two names never stand for one value."""
NUMBERS = frozenset(("epoch",))
"""Kinds that stand for a JSON number, not for a text."""


class Unbound(LookupError):
    """A placeholder stands for nothing yet; `name` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(f"nothing stands for ${{{name}}}")
        self.name = name


def kind_of(name: str) -> str:
    """The kind of a name that is met in answers; "" of one that is given."""
    kind = name.partition("-")[0]
    return kind if kind in SHAPES else ""


class Names:
    """What each placeholder stands for at one target."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.values = dict(given)

    def fill(self, template: Any) -> Any:
        """`template` (a text, or JSON of texts) with values for placeholders. Raises `Unbound`."""
        if isinstance(template, str):
            return MARK.sub(self._value, template)
        if isinstance(template, Mapping):
            return {key: self.fill(value) for key, value in template.items()}
        if isinstance(template, list):
            return [self.fill(value) for value in template]
        return template

    def matches(self, template: str, value: object) -> bool:
        """Whether `value` is what the template says; names that are met here for the first time then stand
        for what stood in their place."""
        whole = MARK.fullmatch(template)
        number = whole is not None and kind_of(whole[1]) in NUMBERS
        if number != isinstance(value, int) or not isinstance(value, (int, str)) or isinstance(value, bool):
            return False
        pattern, met = self._pattern(template)
        found = re.fullmatch(pattern, str(value), re.DOTALL)
        if found is None:
            return False
        bound = {name: found[group] for name, group in met.items()}
        if any(self._taken(name, text) for name, text in bound.items()):
            return False
        self.values.update(bound)
        return True

    def _pattern(self, template: str) -> tuple[str, dict[str, str]]:
        """The regular expression of a template, and the group of each name that is met in it."""
        parts, met, at = [], dict[str, str](), 0
        for mark in MARK.finditer(template):
            parts.append(re.escape(template[at : mark.start()]))
            name, at = mark[1], mark.end()
            kind = kind_of(name)
            if name in self.values:
                parts.append(re.escape(self.values[name]))
            elif name in met:
                parts.append(f"(?P={met[name]})")
            elif kind in LOOSE:
                parts.append(f"(?:{SHAPES[kind]})")
            else:
                met[name] = f"met{len(met)}"
                parts.append(f"(?P<{met[name]}>{SHAPES.get(kind, '.+?')})")
        return "".join([*parts, re.escape(template[at:])]), met

    def _taken(self, name: str, text: str) -> bool:
        """Whether another name of a kind without doubles stands for that value already."""
        kind = kind_of(name)
        return kind in DISTINCT and any(
            value == text and kind_of(other) == kind for other, value in self.values.items()
        )

    def _value(self, mark: re.Match[str]) -> str:
        if mark[1] not in self.values:
            raise Unbound(mark[1])
        return self.values[mark[1]]
