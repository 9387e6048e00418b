"""OpenTofu's description of a lock.

Source: opentofu internal/states/statemgr/locker.go:136-190.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from tofu_databricks import __version__


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds a lock: OpenTofu's seven fields under their JSON names, all text.

    `ID` alone is enough to release a lock; `Created` is RFC 3339 in UTC.
    """

    ID: str = ""
    Operation: str = ""
    Info: str = ""
    Who: str = ""
    Version: str = ""
    Created: str = ""
    Path: str = ""

    @classmethod
    def new(cls, who: str, operation: str = "OperationTypeApply", info: str = "", path: str = "") -> Self:
        """A request for a lock with a fresh random ID, made now."""
        created = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        return cls(str(uuid.uuid4()), operation, info, who, __version__, created, path)

    def to_json(self) -> str:
        """The JSON text that OpenTofu writes: all seven keys, in its order."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes | Mapping[str, Any]) -> Self:
        """Reads what `to_json` or OpenTofu wrote; keys match without regard to case, absent ones are
        empty, unknown ones are ignored.

        Raises `ValueError` when it is not a JSON object or a known field is not text.
        """
        document: Any = text
        if isinstance(text, str | bytes):
            try:
                document = json.loads(text)
            except RecursionError as error:
                raise ValueError("lock info is nested too deeply") from error
        if not isinstance(document, Mapping):
            raise ValueError(f"lock info must be a JSON object, not {type(document).__name__}")
        names = {field.name.lower(): field.name for field in fields(cls)}
        known = {names[k.lower()]: v for k, v in document.items() if k.lower() in names and v is not None}
        for name, value in known.items():
            if not isinstance(value, str):
                raise ValueError(f"lock info field {name} must be text, not {type(value).__name__}")
        return cls(**known)
