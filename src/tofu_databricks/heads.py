"""The head of a state: which of its objects is the state, and which were before it.

Under `fencing = "strict"` each write puts its bytes into a new file, an object, and then moves the head to
it. The head is a line of JSON in the lock store, its versions newest first:

    {"era": "…", "versions": [{"number": 2, "object": "000002-…", "size": 812, "written": "…", "lock": "…"}]}

A version without an object is a deletion. The `era` is that of `tofu_databricks.lockrecord`: a head of
another one is of a volume that was made anew, or of a time before somebody deleted the record, and counts for
nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from tofu_databricks.errors import MalformedReply

KEPT = 10
"""How many versions a head names, the newest included; the objects of older ones are deleted."""


@dataclass(frozen=True, slots=True)
class Version:
    """One write. `number` counts up by one, `size` is in bytes, `written` RFC 3339 in UTC by the writer's
    clock, `lock` the id of the lock it was made under, empty for none."""

    number: int
    object: str | None = None
    size: int = 0
    written: str = ""
    lock: str = ""


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that a head names, newest first."""

    era: str
    all: tuple[Version, ...] = ()

    @classmethod
    def parse(cls, text: str | None, era: str) -> Self:
        """Reads a head; one of another era, and an absent one, name nothing. Raises `MalformedReply`."""
        if text is None:
            return cls(era)
        try:
            document: Any = json.loads(text)
            found = cls(document["era"], tuple(Version(**item) for item in document["versions"]))
            sound = all(isinstance(v.number, int) and isinstance(v.object, str | None) for v in found.all)
        except (ValueError, TypeError, KeyError, RecursionError):
            sound = False
        if not sound:
            raise MalformedReply("the head of the state in the lock table is not one of ours")
        return found if found.era == era else cls(era)

    def text(self) -> str:
        """The head as it is stored."""
        return json.dumps({"era": self.era, "versions": [asdict(version) for version in self.all]})

    @property
    def latest(self) -> Version | None:
        """The state; `None` when nothing was ever written under this era."""
        return self.all[0] if self.all else None

    def then(self, version: Version) -> Self:
        """These versions after one more write; a deletion leaves nothing of those before it."""
        number = self.all[0].number + 1 if self.all else 1
        before = self.all if version.object is not None else ()
        return replace(self, all=(replace(version, number=number), *before)[:KEPT])

    def objects(self) -> set[str]:
        """The names of the objects."""
        return {version.object for version in self.all if version.object is not None}

    def lacks(self, version: Version) -> bool | None:
        """Whether `version` certainly never took effect; `None` when it is too long ago to tell.

        Numbers follow one another without a gap, so one that is covered by others is told by its object.
        """
        same = [v for v in self.all if v.number == version.number]
        if same:
            return same[0].object != version.object
        return True if not self.all or self.all[0].number < version.number else None
