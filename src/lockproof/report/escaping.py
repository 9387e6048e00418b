"""Text of others in Markdown: reports quote names, reasons and messages that anybody may have written."""

from __future__ import annotations

import html
import re

_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")
_TICKS = re.compile(r"`{3,}")


def escaped(text: str) -> str:
    """`text` as it is in a cell or a line of GitHub Markdown, whoever wrote it: no markup, no line break."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def fenced(text: str) -> list[str]:
    """`text` as a block that it cannot end itself."""
    fence = "`" * max(4, 1 + max((len(run) for run in _TICKS.findall(text)), default=0))
    return [fence, *text.splitlines(), fence]
