"""The report in a real browser: nothing is asked for, nothing complains, everybody can read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builders import report_stores as worlds
from matplotlib import font_manager

import verifyanalytics as va

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
A4 = {"width": 794, "height": 1123}

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        assert os.environ.get("CI") != "true", "CI has no Chromium: the report is never looked at"
        pytest.skip("Debian's chromium is not installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The report of a harmless store in each language, and of a hostile one."""
    folder = tmp_path_factory.mktemp("reports")
    found = {}
    for name, names in (("plain", worlds.NAMES), ("hostile", worlds.HOSTILE)):
        (folder / name).mkdir()
        store = worlds.make(folder / name, names)
        for lang in ("en", "zh", "both") if name == "plain" else ("both",):
            (path,) = va.report(store, folder / name, by="channel", lang=lang).paths
            found[f"{name} {lang}"] = path
    return found


KINDS = ("plain en", "plain zh", "plain both", "hostile both")


@pytest.fixture(params=KINDS)
def opened(request, browser, reports):
    """A page at the width of A4, with every request noted and none let out."""
    if "en" not in request.param and va.charts.style.cjk_font() is None:
        pytest.skip("no font with Chinese is installed")
    context = browser.new_context(viewport=A4, offline=True)
    page = context.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("console", lambda m: page.complaints.append(m.text))
    page.on("pageerror", lambda e: page.complaints.append(str(e)))
    page.on("dialog", lambda d: page.complaints.append(d.message))
    page.goto(reports[request.param].as_uri(), wait_until="load")
    yield page
    context.close()


def test_nothing_is_asked_for_and_nothing_complains(opened):
    document, *others = opened.asked
    assert document.startswith("file://")
    assert [url for url in others if not url.startswith("data:image/svg+xml;base64,")] == []
    assert opened.complaints == []
    assert opened.evaluate("document.scripts.length") == 0


def test_every_drawing_is_drawn(opened):
    sizes = opened.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
    assert len(sizes) == 8
    assert all(complete and width > 300 for complete, width in sizes)


def test_the_style_sheet_passes_its_own_policy(opened):
    tile = "getComputedStyle(document.querySelector('.tiles')).display"
    assert opened.evaluate(tile) == "flex"


def test_nothing_sticks_out_of_the_page(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") <= A4["width"]


def test_no_glyph_is_missing(opened):
    """Each character is in a font that the browser really used."""
    session = opened.context.new_cdp_session(opened)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    found = session.send("DOM.querySelectorAll", {"nodeId": root, "selector": "body *"})
    used = set()
    for node in found["nodeIds"]:
        fonts = session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
        used |= {font["familyName"] for font in fonts}
    files = {
        entry.fname for entry in font_manager.fontManager.ttflist if entry.name in used
    }  # fmt: skip
    assert files, f"fonts used and not found: {used}"
    glyphs = set().union(*(font_manager.get_font(file).get_charmap() for file in files))
    text = opened.evaluate("document.body.innerText")
    missing = {c for c in text if ord(c) not in glyphs and not c.isspace()}
    assert missing == set()


def test_no_serious_finding_of_axe(opened):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed"
    )
    results = axe.Axe().run(opened)
    found = [
        (violation["id"], [node["html"][:120] for node in violation["nodes"][:3]])
        for violation in results.response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert found == []


def test_the_first_page_on_paper_answers_a_risk_lead(browser, reports):
    """Printed on A4, what a risk lead asks first stands before the first page ends."""
    page = browser.new_page(viewport=A4)
    page.goto(reports["plain en"].as_uri())
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 695, "height": 1047})  # A4 less its margins
    ends = page.evaluate(
        "[...document.querySelectorAll('h2')]"
        ".map(h => [h.innerText, h.parentElement.getBoundingClientRect().bottom])"
    )
    first = [title for title, bottom in ends if bottom < 1047]
    assert first[:6] == [
        "In short", "Key figures", "Why people were turned away: the first gate that failed",
        "Threshold regimes", "Risk tags by lift against non-matches", "Data quality",
    ]  # fmt: skip
    page.close()
