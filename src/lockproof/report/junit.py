"""`junit.xml`: one suite per backend; failures are `<failure>`, so that every CI counts them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from lockproof.report.card import card

ELEMENTS = {
    "fail": "failure",
    "xpass": "failure",
    "error": "error",
    "unknown": "error",
    "skip": "skipped",
    "disabled": "skipped",
    "xfail": "skipped",
    "flaky": "skipped",
    "not-run": "skipped",
}
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Mapping[str, Any], folder: str) -> str:
    """The report as JUnit XML."""
    root = ElementTree.Element("testsuites", name="lockproof")
    for backend in report["backends"]:
        kinds = Counter(ELEMENTS.get(result["status"]) for result in backend["results"])
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"{backend['id']} ({backend['target']})",
            tests=str(len(backend["results"])),
            failures=str(kinds["failure"]),
            errors=str(kinds["error"]),
            skipped=str(kinds["skipped"]),
            time=f"{sum(result['duration'] for result in backend['results']):.3f}",
            timestamp=report["run"]["started"],
        )
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in {
            "target": backend["target"],
            "driver": f"{backend['driver']['name']} {backend['driver']['version']}",
            "seed": str(report["run"]["seed"]),
            "verdict": backend["verdict"]["result"],
        }.items():
            ElementTree.SubElement(properties, "property", name=name, value=_legal(value))
        for result in backend["results"]:
            _case(suite, result, report["run"], backend, folder)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _case(
    suite: ElementTree.Element,
    result: Mapping[str, Any],
    run: Mapping[str, Any],
    backend: Mapping[str, Any],
    folder: str,
) -> None:
    file, _, name = result["id"].partition("::")
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=file.removesuffix(".py").replace("/", "."),
        name=_legal(name or file),
        time=f"{result['duration']:.3f}",
    )
    element = ELEMENTS.get(result["status"])
    if element is None:
        return
    cited = " ".join(result["requirements"])
    failure = result["failure"]
    observed = failure["observed"].splitlines()[0] if failure and failure["observed"] else ""
    message = ": ".join(part for part in (result["status"], cited, result["reason"] or observed) if part)
    detail = ElementTree.SubElement(case, element, message=_legal(message), type=result["status"])
    if failure:
        text = "\n".join([*card(result, run, backend, folder), "", failure["traceback"]])
        detail.text = _legal(text)


def _legal(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return _ILLEGAL.sub("\ufffd", text)
