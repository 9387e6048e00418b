"""The operations that prove a violation as an SVG, with their words: for documents."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from lockproof.checkers import Verdict, check
from lockproof.history import History, Operation
from lockproof.history.faults import faults
from lockproof.report.operations import Telling, headline, plain, relevant, shown
from lockproof.report.timeline.layout import Hold, Layout, layout

MOST = 16  # operations of a picture
WIDTH, GUTTER, RIGHT = 960, 120, 30
ROW, PAD, TOP = 26, 8, 74
HEAD = 58  # of it for headline and target
GLYPHS = {"ok": "✓", "fail": "✗", "info": "?"}
WRAP = 128  # characters of a line of words

STYLE = """
.lp-page{fill:#fff}.lp-stripe{fill:#f6f8fa}.lp-ink{fill:#1b1f24}.lp-soft{fill:#57606a}.lp-line{stroke:#d8dee4}
.lp-ok{fill:#0072b2}.lp-fail{fill:#fff;stroke:#b34700;stroke-width:1.5}
.lp-info{fill:none;stroke:#7a4aa8;stroke-width:1.5;stroke-dasharray:4 2}
.lp-on-ok{fill:#fff}.lp-on-fail{fill:#b34700}.lp-on-info{fill:#7a4aa8}.lp-hold{fill:#0072b2;opacity:.2}
.lp-fault{fill:#c28800;opacity:.2}.lp-on-fault{fill:#7a5600}.lp-ring{fill:none;stroke:#cf222e;stroke-width:2.5}
.lp-number{fill:#cf222e}.lp-violated{fill:#cf222e}.lp-valid{fill:#1a7f37}.lp-unknown{fill:#9a6700}
.lp text,.lp-text{font:12px ui-monospace,monospace}.lp-head{font:600 15px system-ui,sans-serif}
@media (prefers-color-scheme:dark){
.lp-page{fill:#0d1117}.lp-stripe{fill:#151b23}.lp-ink{fill:#e6edf3}.lp-soft{fill:#9198a1}.lp-line{stroke:#30363d}
.lp-ok{fill:#56b4e9}.lp-fail{fill:#0d1117;stroke:#ff9b4f}.lp-info{stroke:#c9a2ff}
.lp-on-ok{fill:#0d1117}.lp-on-fail{fill:#ff9b4f}.lp-on-info{fill:#c9a2ff}.lp-hold{fill:#56b4e9;opacity:.25}
.lp-fault{fill:#e3b341}.lp-on-fault{fill:#e3b341}.lp-ring{stroke:#ff7b72}
.lp-number,.lp-violated{fill:#ff7b72}.lp-valid{fill:#3fb950}.lp-unknown{fill:#d29922}
}"""


def picture(history: History, verdict: Verdict | None = None, *, inline: bool = False) -> str:
    """The witness and what happened beside it, SVG; the first operations of a history without one.

    At most sixteen operations; the axis is the order of the events, which is what the checkers judge by.
    `inline` is for a page that has the style and the words itself: the drawing comes without.
    """
    found = verdict or check(history)
    told = shown(history, found.witness) if found.witness else ()
    near = _neighbourhood(history.operations(), told)
    places = layout(history, near)
    scale = _Scale(near)
    telling = Telling(near, history.names)
    words = [
        line
        for number, text in enumerate(
            relevant(history, found.witness, most=None) if told and not inline else (), start=1
        )
        for line in textwrap.wrap(f"{number}. {text}", WRAP, subsequent_indent="   ", break_on_hyphens=False)
    ]
    tops = _tops(places)
    bottom = tops[-1]
    return _template().render(
        style="" if inline else STYLE,
        top=HEAD if inline else 0,
        width=WIDTH,
        height=bottom + 20 + 18 * len(words) - (HEAD if inline else 0),
        gutter=GUTTER,
        status=found.status,
        headline=textwrap.shorten(headline(history, found), 118, placeholder="…"),
        target=plain(history.header.get("backend") or "an unnamed backend")
        + (f" on a {plain(history.header['target'])} target" if history.header.get("target") else ""),
        lanes=[
            {"name": textwrap.shorten(lane.name, 15, placeholder="…") or "…", "y": y, "height": after - y}
            for lane, y, after in zip(places.lanes, tops, tops[1:], strict=False)
        ],
        holds=[_band(hold, tops, scale) for hold in places.holds],
        faults=list(_faults(history, scale, bottom)),
        bars=[
            {
                "kind": bar.op.kind,
                "x": scale.x(bar.op.i),
                "y": tops[bar.lane] + PAD / 2 + bar.row * ROW,
                "width": scale.width(bar.op),
                "text": _label(bar.op, telling, scale.width(bar.op)),
                "line": telling.line(bar.op),
                "number": told.index(bar.op) + 1 if bar.op in told else 0,
            }
            for bar in places.bars
        ],
        words=words,
        bottom=bottom,
    )


def target(history: History) -> str:
    """What was tested, as a heading says it: `databricks:delta on a fake target`."""
    name = plain(history.header.get("backend") or "an unnamed backend")
    kind = history.header.get("target")
    return f"{name} on a {plain(kind)} target" if kind else name


class _Scale:
    """Event numbers to pixels: only the events of the operations that are drawn take room."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        numbers = {op.i for op in operations} | {op.outcome.i for op in operations if op.outcome}
        self.order = {number: n for n, number in enumerate(sorted(numbers))}
        self.step = (WIDTH - GUTTER - RIGHT) / max(1, len(self.order))

    def x(self, number: float) -> float:
        """The place of an event, also of one that is not drawn itself."""
        before = self.order.get(int(number)) if math.isfinite(number) else len(self.order)
        if before is None:
            before = sum(other < number for other in self.order)
        return round(GUTTER + (before + 0.25) * self.step, 1)

    def width(self, op: Operation) -> float:
        end = op.i if op.outcome is None else op.outcome.i
        return round(max(self.x(end) - self.x(op.i) + 0.5 * self.step, 6), 1)


def _neighbourhood(operations: Sequence[Operation], told: Sequence[Operation]) -> Sequence[Operation]:
    """The witness and, as far as there is room, what ran in its workspaces between its ends."""
    if not told:
        return operations[:MOST]
    spaces = {op.ws for op in told}
    first, last = told[0].i, max(op.i if op.outcome is None else op.outcome.i for op in told)
    beside = [op for op in operations if op.ws in spaces and op.end >= first and op.i <= last]
    room = max(0, MOST - len(told))
    inside = sorted((op for op in beside if op not in told), key=lambda op: _distance(op, told))[:room]
    return sorted((*told, *inside), key=lambda op: op.i)


def _distance(op: Operation, told: Sequence[Operation]) -> int:
    return min(abs(op.i - other.i) for other in told)


def _tops(places: Layout) -> Sequence[int]:
    """Where each lane begins, and where the last one ends."""
    tops = [TOP]
    for lane in places.lanes:
        tops.append(tops[-1] + lane.rows * ROW + PAD)
    return tops


def _band(hold: Hold, tops: Sequence[int], scale: _Scale) -> Mapping[str, float]:
    op = hold.bar.op
    left = scale.x(op.end)
    right = scale.x(hold.release.i) if hold.release else WIDTH - RIGHT / 2
    y = tops[hold.bar.lane] + PAD / 2 + hold.bar.row * ROW - 2
    return {"x": left, "y": y, "width": round(max(right - left, 1), 1), "height": ROW}


def _faults(history: History, scale: _Scale, bottom: int) -> Iterable[Mapping[str, Any]]:
    for fault in faults(history.events):
        left = scale.x(fault.start.i)
        right = scale.x(math.inf if fault.stop is None else fault.stop.i)
        if right > GUTTER + scale.step or fault.stop is None:
            yield {
                "x": left,
                "width": round(max(right - left, 2), 1),
                "text": plain(fault.name),
                "y": bottom - 4,
            }


def _label(op: Operation, telling: Telling, width: float) -> str:
    room = int((width - 8) / 7.3)
    text = f"{GLYPHS[op.kind]} {plain(op.f)}"
    longer = f"{text} {telling.outcome(op)}"
    if len(longer) <= room:
        return longer
    return text if len(text) <= room else GLYPHS[op.kind]


@cache
def _template() -> Template:
    loader = PackageLoader("lockproof.report", "timeline")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(
        "picture.svg.j2"
    )
