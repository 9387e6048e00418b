"""Matplotlib's figures as SVG that stands in a page and takes the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# what a figure is drawn with -> the page's colour: one picture for both themes and for print
INK, SOFT, LINE, OK, REFUSED, UNKNOWN, FAULT, TARGET = (f"#00000{n}" for n in range(1, 9))
COLOURS = {
    INK: "ink",
    SOFT: "soft",
    LINE: "line",
    OK: "ok",
    REFUSED: "refused",
    UNKNOWN: "unknown",
    FAULT: "fault",
    TARGET: "target",
}
WIDTH = 8.6  # inches of 72 units
LETTER = 0.0079  # of the width
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and selected
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 8,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
}

_SPACE = re.compile(r"^\{[^}]*\}")
_REFERENCE = re.compile(r"(?:url\()?#([\w-]+)\)?")


@contextmanager
def drawing(height: float, labels: Sequence[str] = ()) -> Iterator[tuple[Figure, Axes]]:
    """A figure of the page's width and `height` inches, and its axes with room for `labels` on the left, to
    be drawn on within the context."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        left = max(8, *map(len, labels), 8) * LETTER
        axes = figure.add_axes((left, 0.5 / height, 0.98 - left, 1 - 0.6 / height))
        axes.patch.set_visible(False)
        axes.tick_params(length=0)
        yield figure, axes


def themed(figure: Figure, name: str, label: str) -> str:
    """The figure as an `<svg>` element that is described by `label`; the same figure gives the same text.

    Colours are variables of the page, styles are attributes (a strict content security policy allows no
    others), and ids begin with `name`, which tells several figures of a page apart.
    """
    target = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "lockproof"}):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(target.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if _SPACE.sub("", child.tag) in {"metadata", "clipPath", "style"}:
                parent.remove(child)
    kept = {found[1] for element in root.iter() for found in _references(element)}
    for element in root.iter():
        _restyle(element, name, kept)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib = {"viewBox": f"0 0 {width} {height}", "class": "plot", "role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def _references(element: ElementTree.Element) -> Iterator[re.Match[str]]:
    for attribute, value in element.attrib.items():
        if _SPACE.sub("", attribute) == "href":
            yield from _REFERENCE.finditer(value)


def _restyle(element: ElementTree.Element, name: str, kept: set[str]) -> None:
    element.tag = _SPACE.sub("", element.tag)
    attributes = {_SPACE.sub("", key): value for key, value in element.attrib.items()}
    for declaration in attributes.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":
            key, value = "font-size", value.partition("px")[0].split()[-1]
        if key:
            attributes[key] = f"var(--{COLOURS[value]})" if value in COLOURS else value
    attributes.pop("clip-path", None)
    if attributes.get("id") in kept:
        attributes["id"] = f"{name}-{attributes['id']}"
    else:
        attributes.pop("id", None)
    if "href" in attributes:
        attributes["href"] = f"#{name}-{attributes['href'].removeprefix('#')}"
    element.attrib = attributes
