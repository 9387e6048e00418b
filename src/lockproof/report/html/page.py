"""The page of a report: everything that it shows, from `report.json` and the histories of failures."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from lockproof.report.html.measured import ENOUGH
from lockproof.report.html.sections import GLYPHS, TONES, Backend
from lockproof.report.redact import HIDDEN

SPELLED_OUT = 3  # backends that the title names


def page(report: Mapping[str, Any], shown: str, histories: Path | None = None) -> str:
    """The report as HTML: one file that fetches nothing, the same for the same report and histories.

    `shown` is how the text names the run folder; of failures whose history is in `histories` a timeline
    is drawn. Whatever stands in a report stays text: the page's content security policy runs no script and
    applies no style but its own.
    """
    style, script = _text("report.css"), _text("report.js")
    run = report["run"]
    return _template().render(
        policy="; ".join(
            (
                "default-src 'none'",
                f"script-src {_digest(script)}",
                f"style-src {_digest(style)}",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        title=title(report),
        run=run,
        suite=report["suite"],
        command=command(run),
        backends=[
            Backend(backend, f"b{n}", run, histories, plotted=n <= PLOTTED).view()
            for n, backend in enumerate(report["backends"], start=1)
        ],
        folder=shown,
        hidden=HIDDEN,
        enough=ENOUGH,
        style=Markup(style),
        script=Markup(script),
    )


PLOTTED = 6  # backends of one run that get plots; of a crowd the tables say what differs


def title(report: Mapping[str, Any]) -> str:
    """`databricks:lakebase on a fake target: conformant`; of many backends their numbers by verdict."""
    backends = report["backends"]
    if len(backends) <= SPELLED_OUT:
        return "; ".join(f"{b['id']} on a {b['target']} target: {b['verdict']['result']}" for b in backends)
    targets = ", ".join(sorted({b["target"] for b in backends}))
    results = Counter(b["verdict"]["result"] for b in backends)
    found = ", ".join(f"{count} {result}" for result, count in sorted(results.items()))
    return f"{len(backends)} backends on {targets} targets: {found}"


def command(run: Mapping[str, Any]) -> str:
    """The command line of the run, with the seed that it drew."""
    words = list(run["argv"])
    if not any(word == "--backend-seed" or word.startswith("--backend-seed=") for word in words):
        words.append(f"--backend-seed={run['seed']}")
    return shlex.join(words)


@cache
def _template() -> Template:
    loader = PackageLoader("lockproof.report", "html")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(tones=TONES, glyphs=GLYPHS)
    return environment.get_template("report.html.j2")


@cache
def _text(name: str) -> str:
    return files("lockproof.report").joinpath("html", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
