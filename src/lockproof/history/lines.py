"""A history as the lines of its file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lockproof.history.event import History


def lines(history: History) -> Iterator[str]:
    """Header, events and, where the history is closed, the footer: what `read_history` reads back."""
    yield _line({"header": history.header})
    for event in history.events:
        yield _line(event.to_json())
    if history.closed:
        yield _line({"footer": {"ops": len(history.operations()), "closed": True}})


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
