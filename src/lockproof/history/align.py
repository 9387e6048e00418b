"""A history of another machine's clock, put on ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path


def align(path: Path, boot: Mapping[str, str], ns: int, error: int) -> None:
    """Rewrites the header: `start` is what our clock showed then, give or take `error` (both nanoseconds),
    `ns` more than the history's own; `boot` tells whose clock that is. The events stay as they are."""
    part = path.with_name(f"{path.name}.part")
    with path.open("rb") as old, part.open("wb") as new:
        header = json.loads(old.readline())["header"]
        header = {**header, **boot, "start": header["start"] + ns, "error": error}
        new.write(json.dumps({"header": header}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        shutil.copyfileobj(old, new)
    part.replace(path)
