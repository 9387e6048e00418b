"""A badge: the verdict of a run with its target, and never a better word than the run has earned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from lockproof.report.reading import Tested
from lockproof.report.status import UNDECIDED, VIOLATED

COLORS = {
    "conformant": "#2e7d32",
    "partial": "#4d7326",
    "inconclusive": "#9a6700",
    "nonconformant": "#c62828",
}
NAMES = {
    "conformant": "brightgreen",
    "partial": "yellowgreen",
    "inconclusive": "orange",
    "nonconformant": "red",
}
"""The colours by the names that shields.io has."""
WIDE, NARROW, LETTER = 9.5, 4.0, 6.8  # pixels of a letter of Verdana at 11 pixels, rounded up
HEIGHT, PADDING = 20, 6


@dataclass(frozen=True)
class Badge:
    """The two texts of a badge, and the verdict that colours it."""

    label: str
    message: str
    verdict: str


def badge(run: Tested) -> Badge:
    """The badge of one backend in one run. The label names the kind of target; an inconclusive run is
    `unknown`, with why."""
    met, applicable = run.must
    violated = sum(f.status in VIOLATED and run.levels[n] == "MUST" for n, f in run.findings.items())
    undecided = sum(result.status in UNDECIDED for result in run.results.values())
    verdict = run.verdict if run.complete or violated else "inconclusive"
    parts = [f"{'unknown' if verdict == 'inconclusive' else verdict} {met}/{applicable} MUST"]
    parts += [f"{violated} violated"] if violated else []
    parts += [f"{undecided} tests undecided"] if undecided and verdict == "inconclusive" else []
    parts += ["narrowed"] if run.narrowed or run.faults else []
    parts += ["parts switched off"] if run.disabled else []
    parts += [] if run.complete else ["unfinished"]
    return Badge(f"lockproof {run.name}", ", ".join(parts), verdict)


def endpoint(found: Badge) -> dict[str, Any]:
    """The badge for shields.io, as https://shields.io/badges/endpoint-badge describes it."""
    return {
        "schemaVersion": 1,
        "label": found.label,
        "message": found.message,
        "color": NAMES[found.verdict],
        "isError": found.verdict == "nonconformant",
    }


def svg(found: Badge) -> str:
    """The badge as a picture that needs nothing else; its text is an accessible name, too."""
    texts = [_printable(found.label), _printable(found.message)]
    widths = [_width(text) + 2 * PADDING for text in texts]
    name = ": ".join(texts)
    root = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": str(sum(widths)),
            "height": str(HEIGHT),
            "role": "img",
            "aria-label": name,
        },
    )
    ElementTree.SubElement(root, "title").text = name
    left = 0
    for text, width, color in zip(texts, widths, ("#444", COLORS[found.verdict]), strict=True):
        box = {"x": str(left), "width": str(width), "height": str(HEIGHT), "fill": color}
        ElementTree.SubElement(root, "rect", box)
        place = {"x": str(left + PADDING), "y": "14", "textLength": str(width - 2 * PADDING)}
        style = {"fill": "#fff", "font-family": "Verdana,DejaVu Sans,sans-serif", "font-size": "11"}
        ElementTree.SubElement(root, "text", {**place, **style}).text = text
        left += width
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _printable(text: str) -> str:
    """What XML and a line can hold."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))


def _width(text: str) -> int:
    return round(sum(_of(letter) for letter in text))


def _of(letter: str) -> float:
    groups: Sequence[tuple[str, float]] = (("mwMW%@ADGHNOQU", WIDE), ("ijlIfrt.,:;()/ '|!", NARROW))
    return next((width for letters, width in groups if letter in letters), LETTER)
