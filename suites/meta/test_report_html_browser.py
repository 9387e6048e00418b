"""`report.html` in a real browser: themes, keyboard, filters, phone, print; it asks the network nothing."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockproof.history.lines import lines
from lockproof.report.html import page as written
from lockproof.suites.meta.html_reports import contended, hostile, with_plots

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: chromium is not on PATH")

# of every element with words of its own: its colour against the nearest background that is not clear
CONTRASTS = """() => {
  const parts = (colour) => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parts(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return parts("white");
  };
  return [...document.querySelectorAll("body *:not(script):not(option)")]
    .filter((e) => !e.closest("svg") && e.checkVisibility()
      && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => {
      const [a, b] = [light(parts(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), e.className, e.textContent.slice(0, 40)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Complaints(list[str]):
    """What a page asked of the network, and what it wrote to the console."""

    def watch(self, tab: Any) -> None:
        tab.on("console", lambda message: self.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: self.append(f"error: {error}"))
        tab.on("request", lambda request: self.append(f"request: {request.url}"))


@pytest.fixture
def complaints() -> Complaints:
    """Stays empty."""
    return Complaints()


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a report with all that a page can have."""
    histories = tmp_path_factory.mktemp("histories")
    report = with_plots()
    name = next(r["failure"]["history"] for r in report["backends"][0]["results"] if r["failure"])
    (histories / name).write_text("".join(lines(contended(4))), encoding="utf-8")
    return written(report, "run", histories)


@pytest.fixture
def tab(browser: Any, tmp_path: Path, everything: str, complaints: Complaints) -> Iterator[Any]:
    """That page, just opened."""
    yield from opened(browser, tmp_path, everything, complaints)


def opened(browser: Any, folder: Path, text: str, complaints: Complaints) -> Iterator[Any]:
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    made = context.new_page()
    made.goto(path.as_uri())
    complaints.watch(made)
    made.reload()
    complaints.remove(f"request: {path.as_uri()}")
    yield made
    context.close()


def visible(tab: Any) -> list[str]:
    """The ids of the requirements that are shown."""
    found: list[str] = tab.locator("tr[data-status]:visible .id").all_text_contents()
    return found


def background(tab: Any) -> str:
    colour: str = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    return colour


def test_page_asks_nothing_and_complains_of_nothing(tab: Any, complaints: Complaints) -> None:
    """Opened, filtered, switched and printed: no request, no error, nothing blocked by the own policy."""
    tab.get_by_role("searchbox").fill("lock")
    tab.get_by_role("button", name="Dark theme").click()
    tab.pdf()
    assert complaints == []


def test_hostile_report_runs_nothing(browser: Any, tmp_path: Path, complaints: Complaints) -> None:
    """A report from somebody who would like to have a script run is shown, and runs none."""
    for tab in opened(browser, tmp_path, written(hostile(), "run"), complaints):
        tab.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        assert "alert(1)" in tab.locator("main").inner_text()
        assert tab.locator("img").count() == 0
        assert visible(tab) == ["LOCK-EXCL-001", "STATE-RT-001"]
    assert complaints == []


def test_search_and_selects_filter_the_requirements(tab: Any) -> None:
    """Words of ids, sentences and tests, a status or a level leave the rows that have them, counted."""
    assert visible(tab) == ["LOCK-EXCL-001", "STATE-RT-001"]
    tab.get_by_role("searchbox").fill("excl")
    assert visible(tab) == ["LOCK-EXCL-001"]
    assert tab.get_by_role("status").inner_text() == "1 of 2 requirements"
    assert tab.locator("tbody.area:visible").count() == 1
    tab.get_by_role("searchbox").fill("test_pass")
    assert visible(tab) == ["STATE-RT-001"]
    tab.get_by_role("button", name="Clear").click()
    tab.locator("select[name=status]").select_option("fail")
    assert visible(tab) == ["LOCK-EXCL-001"]
    tab.locator("select[name=status]").select_option("not settled")
    assert visible(tab) == ["LOCK-EXCL-001"]
    tab.locator("select[name=level]").select_option("SHOULD")
    assert visible(tab) == []


def test_keyboard_reaches_everything(tab: Any) -> None:
    """The first key leads to the verdict, `/` to the search, Escape clears it, evidence opens by Enter."""
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert tab.locator("#theme").inner_text() == "Light theme"
    tab.keyboard.press("/")
    tab.keyboard.type("state-rt")
    assert visible(tab) == ["STATE-RT-001"]
    tab.keyboard.press("Escape")
    assert len(visible(tab)) == 2
    summary = tab.locator(".evidence summary").first
    summary.focus()
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    tab.keyboard.press("Enter")
    assert tab.locator(".evidence details[open]").count() == 1


def test_theme_follows_the_system_and_the_switch(tab: Any) -> None:
    """Light and dark come from the system until the switch says otherwise; plots take part."""
    light = background(tab)
    plotted = "getComputedStyle(document.querySelector('.plot [fill*=\"--ink\"]')).fill"
    ink = tab.evaluate(plotted)
    tab.emulate_media(color_scheme="dark")
    dark = background(tab)
    assert dark != light
    assert tab.evaluate(plotted) != ink
    tab.get_by_role("button", name="Light theme").click()
    assert background(tab) == light
    assert tab.evaluate(plotted) == ink


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(tab: Any, scheme: str) -> None:
    """The contrast of every word is 4.5 to 1 or more (WCAG 2.1, 1.4.3), in both themes."""
    tab.emulate_media(color_scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert tab.evaluate(CONTRASTS) == []


def test_landmarks_headings_and_captions_are_there(tab: Any) -> None:
    """One main, one first heading, no level left out; every table has a caption, every picture a name."""
    assert tab.locator("main").count() == tab.locator("h1").count() == 1
    levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => +h.tagName[1])")
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
    assert tab.locator("table").count() == tab.locator("table > caption").count() > 4
    assert tab.locator("main svg").count() == tab.locator("svg[role=img][aria-label]").count() == 5


def test_phone_shows_all_without_scrolling_sideways(tab: Any) -> None:
    """At 390 pixels the page is as wide as the window; only plots and wide tables scroll in themselves."""
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert len(visible(tab)) == 2


def test_print_is_light_and_whole(tab: Any) -> None:
    """On paper: the light theme, the evidence opened, all rows whatever was filtered, no controls."""
    light = background(tab)
    tab.get_by_role("button", name="Dark theme").click()
    tab.get_by_role("searchbox").fill("nothing has this word")
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert background(tab) == light
    assert len(visible(tab)) == 2
    assert tab.locator("details:not([open])").count() == 0
    assert not tab.locator("#theme, .filters").first.is_visible()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details[open]").count() == 0
    assert tab.pdf().startswith(b"%PDF")


def test_without_scripts_everything_is_readable(browser: Any, tmp_path: Path, everything: str) -> None:
    """Where no script runs, all rows and plots are there, and no control that would do nothing."""
    path = tmp_path / "report.html"
    path.write_text(everything, encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.locator("tr[data-status]:visible").count() == 2
    assert tab.locator(".plot").count() == 4
    assert tab.locator("button:visible, input:visible, select:visible").count() == 0
    context.close()
