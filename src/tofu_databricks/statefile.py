"""State files of version 4: reading, writing, comparing.

Source: opentofu internal/states/statefile/{read,write,version4}.go. The resources of a state are carried,
never interpreted, beyond what a backend has to know.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from tofu_databricks.errors import MalformedReply

State = dict[str, Any]
"""The body of a state file, without version, terraform_version, serial and lineage."""

VERSION = 4
_HEADER = ("version", "terraform_version", "serial", "lineage")
_EMPTY: State = {"outputs": {}, "resources": [], "check_results": None}


def empty_state() -> State:
    """A state that tracks nothing."""
    return copy.deepcopy(_EMPTY)


@dataclass(frozen=True)
class StateFile:
    """A state with its place in history: `serial` counts up within one `lineage`."""

    state: State = field(default_factory=empty_state)
    lineage: str = ""
    serial: int = 0
    terraform_version: str = ""

    @classmethod
    def parse(cls, data: bytes) -> StateFile:
        """Reads a state file. Raises `MalformedReply`, saying what is wrong with it.

        An encrypted state cannot be read here; a backend stores it all the same.
        """
        document = _object(data)
        if "encrypted_data" in document:
            raise MalformedReply("the state is encrypted; it can be stored and fetched, but not be read here")
        version = document.get("version")
        if version is None:
            raise MalformedReply('the state has no "version" attribute')
        if version != VERSION:
            raise MalformedReply(f"the state has version {version!r}; this program reads version {VERSION}")
        serial, lineage = document.get("serial", 0), document.get("lineage", "")
        if not isinstance(serial, int) or isinstance(serial, bool) or serial < 0:
            raise MalformedReply(f"the state's serial {serial!r} is not a whole number")
        if not isinstance(lineage, str):
            raise MalformedReply("the state's lineage is not text")
        body = {name: value for name, value in document.items() if name not in _HEADER}
        return cls({**empty_state(), **body}, lineage, serial, str(document.get("terraform_version", "")))

    def to_bytes(self) -> bytes:
        """As `tofu` writes it: compact, a newline at the end."""
        header = {
            "version": VERSION,
            "terraform_version": self.terraform_version,
            "serial": self.serial,
            "lineage": self.lineage,
        }
        text = json.dumps({**header, **self.state}, ensure_ascii=False, separators=(",", ":"))
        return text.encode() + b"\n"


def is_empty(state: State) -> bool:
    """Whether it has neither resources nor outputs. Source: states/state.go, State.Empty."""
    return not state.get("resources") and not state.get("outputs")


def has_managed_resources(data: bytes) -> bool:
    """Whether a stored state still tracks something that exists.

    Source: states/state.go, HasManagedResourceInstanceObjects. True also when nobody can tell, since the
    state is encrypted or broken.
    """
    try:
        resources = _object(data).get("resources", None if b"encrypted_data" in data else [])
    except MalformedReply:
        return True
    if not isinstance(resources, list):
        return True
    return any(
        not isinstance(item, dict) or (item.get("mode") == "managed" and item.get("instances") != [])
        for item in resources
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedReply(f"the state is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedReply("the state is not a JSON object")
    return document
