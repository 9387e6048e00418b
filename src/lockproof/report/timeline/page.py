"""The page of a history: every operation, with what proves the verdict marked.

One file that fetches nothing: style, script and data stand in it, and its content security policy
lets a browser load nothing else and run no script but the page's own, whatever a history holds.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from lockproof.checkers import Verdict, check
from lockproof.history import History
from lockproof.history.faults import Fault, faults
from lockproof.report.operations import Telling, headline, plain, relevant, shown
from lockproof.report.timeline.layout import Bar, Layout, layout
from lockproof.report.timeline.picture import STYLE as PICTURE_STYLE
from lockproof.report.timeline.picture import picture, target

COLUMNS = ("i", "e", "t0", "t1", "p", "lane", "row", "kind", "f", "ws", "label", "line", "in", "out", "err")
KINDS = ("ok", "fail", "info")


def page(history: History, verdict: Verdict | None = None) -> str:
    """The page, HTML, with the verdict of the checkers; `verdict` spares computing it again."""
    found = verdict or check(history)
    places = layout(history)
    style, script = _text("timeline.css"), _text("timeline.js")
    return _template().render(
        policy="; ".join(
            (
                "default-src 'none'",
                f"script-src {_digest(script)}",
                f"style-src {_digest(style)} {_digest(PICTURE_STYLE)}",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        title=f"{found.status}: {target(history)}: {headline(history, found)}",
        status=found.status,
        headline=headline(history, found),
        target=target(history),
        facts=_facts(history, places),
        witness=relevant(history, found.witness, most=None) if found.witness else [],
        faults=any(event.e == "fault" for event in history.events),
        operations=len(places.bars),
        lanes=len(places.lanes),
        data=data(history, found, places),
        style=Markup(style),
        script=Markup(script),
        picture=Markup(picture(history, found)),
    )


def data(history: History, verdict: Verdict, places: Layout) -> Mapping[str, Any]:
    """What the script draws; `columns` names the fields of each row of `operations`.

    `e` is -1 and `t1` is `t0` without an outcome. Inputs and outcomes are text, exactly as recorded.
    """
    telling = Telling(history.operations(), history.names)
    numbers = {bar.op.i: n for n, bar in enumerate(places.bars)}
    stamps = [event.t for event in history.events]
    witness = shown(history, verdict.witness) if verdict.witness else ()
    return {
        "columns": COLUMNS,
        "operations": [_row(bar, telling) for bar in places.bars],
        "lanes": [{"name": lane.name, "rows": lane.rows} for lane in places.lanes],
        "holds": [
            (numbers[hold.bar.op.i], *((hold.release.i, hold.release.called) if hold.release else (-1, -1)))
            for hold in places.holds
        ],
        "faults": [_fault(fault) for fault in faults(history.events)],
        "witness": [numbers[op.i] for op in witness],
        "events": max(1, len(history.events)),
        "time": [min(stamps, default=0), max(stamps, default=1)],
        # virtual or hand-made time may stand still: then the order of the events is what can be read
        "by_time": len(set(stamps)) > len(stamps) / 2,
    }


def _row(bar: Bar, telling: Telling) -> Sequence[Any]:
    op = bar.op
    ended = (-1, op.called) if op.outcome is None else (op.outcome.i, op.outcome.t)
    return (
        *(op.i, ended[0], op.called, ended[1], op.p, bar.lane, bar.row, KINDS.index(op.kind)),
        *(plain(op.f), None if op.ws is None else plain(op.ws)),
        f"{plain(op.f)} {telling.outcome(op)}",
        telling.line(op),
        *map(_whole, (op.given, op.out, op.err)),
    )


def _whole(value: Any) -> str:
    """A recorded value as its line in the history has it; empty when there was none."""
    return "" if value is None or value == {} else json.dumps(value, ensure_ascii=False)


def _fault(fault: Fault) -> Mapping[str, Any]:
    said = " ".join(f"{plain(name)}={plain(value)}" for name, value in fault.given.items())
    return {
        "text": f"{plain(fault.name)} {said}".strip(),
        "start": (fault.start.i, fault.start.t),
        "stop": None if fault.stop is None else (fault.stop.i, fault.stop.t),
    }


def _facts(history: History, places: Layout) -> Sequence[str]:
    header = history.header
    lasted = (history.events[-1].t - history.events[0].t) / 1e9 if history.events else 0.0
    digits = 3 if lasted < 10 else 1
    facts = [
        plain(header.get("test") or ""),
        f"{len(places.bars)} operations of {len(places.lanes)} clients in {lasted:.{digits}f} s",
        f"seed {plain(header['seed'])}" if header.get("seed") is not None else "",
        "" if history.closed else "cut short: no footer",
    ]
    return [fact for fact in facts if fact]


@cache
def _template() -> Template:
    loader = PackageLoader("lockproof.report", "timeline")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template("page.html.j2")


@cache
def _text(name: str) -> str:
    return files("lockproof.report").joinpath("timeline", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
