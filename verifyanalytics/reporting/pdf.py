"""A report as PDF, set by Typst (the extra `pdf`).

The page is a fixed template; everything the report says reaches it as JSON and is set as text, so
nothing that came with the data can be read as markup. The file carries no date.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from verifyanalytics.codebook.book import Lang
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.reporting.blocks import (
    Block,
    Bullets,
    Document,
    Drawing,
    Heading,
    Paragraph,
    Table,
    Tiles,
    sections,
)
from verifyanalytics.wording.fonts import cjk_font, drawable, font_files, font_names
from verifyanalytics.wording.words import Words, plain, spoken

_TEMPLATE = """
#let data = json("report.json")
#let ink = rgb("#222222")
#let grey = rgb("#555555")
#let blue = rgb("#004a75")
#let mid = rgb("#999999")
#let pale = rgb("#e3e3e3")

#set document(title: data.name, author: (), date: none)
#set page(
  paper: "a4",
  margin: (x: 13mm, top: 9mm, bottom: 11mm),
  footer: context align(right, text(size: 7.5pt, fill: grey,
    counter(page).display("1 / 1", both: true))),
)
#set text(font: data.fonts, size: 8.8pt, fill: ink, lang: data.lang, hyphenate: false)
#set par(leading: 0.58em, spacing: 0.8em)
// Typst pushes neighbouring Chinese signs together, for fonts whose signs stand to one side; in
// fonts that centre them, such as WenQuanYi, they would overlap. Signs of another style are no
// neighbours.
#show regex("[，。：；、！？]"): set text(kerning: true)
#show regex("--[a-z]+"): box // an option of the command line is not broken
#show heading: set text(weight: "regular", fill: blue)
#show heading.where(level: 1): set text(size: 15pt, fill: ink)
#show heading.where(level: 1): set block(below: 2mm)
#show heading.where(level: 2): set text(size: 10.5pt)
#show heading.where(level: 2): set block(above: 4.5mm, below: 2mm, sticky: true)

// where a long name may be broken there is a space of no width, and nothing to copy
#let broken(words) = words.split("\\u{200b}").map(part => text(part)).join(h(0pt))

#let say(parts, joint: linebreak()) = {
  for (i, part) in parts.enumerate() {
    if i > 0 { joint }
    let (name, words) = part
    if name == "" { broken(words) } else { text(lang: name, broken(words)) }
  }
}

#let tiles(all) = grid(
  columns: (1fr,) * all.len(),
  column-gutter: 2.5mm,
  fill: rgb("#eef4f8"),
  inset: (x: 1.8mm, y: 2mm),
  ..all.map(tile => {
    text(size: 7.5pt, fill: grey, say(tile.label))
    v(-1mm)
    text(size: 14pt, fill: blue, say(tile.value))
    v(-1mm)
    text(size: 7.2pt, fill: grey, say(tile.note))
  }),
)

// numbers stand on one line, and texts if there is room; the widest text takes what is left
#let rows(it) = context {
  set text(size: 7.6pt)
  set par(leading: 0.5em)
  let width(words) = measure(text(size: 7.6pt, say(words))).width
  let natural(x) = {
    let cells = (it.columns.at(x), ..it.rows.map(row => row.at(x)))
    calc.max(..cells.map(width)) + 2.5mm
  }
  let widths = range(it.columns.len()).map(natural)
  let fits = widths.sum() <= 184mm
  let widest = it.left.sorted(key: x => widths.at(x)).last()
  let column(x) = {
    if x == (if fits or widths.len() == 2 { widest } else { 0 }) { 1fr }
    else if fits or not it.left.contains(x) { widths.at(x) }
    else { calc.min(widths.at(x), 46mm) }
  }
  table(
    columns: range(widths.len()).map(column),
    align: (x, y) => (if it.left.contains(x) { left } else { right })
      + (if y == 0 { bottom } else { top }),
    inset: (x: 1.2mm, y: 0.7mm),
    stroke: (x, y) => (bottom: if y == 0 { 0.3mm + mid } else { 0.2mm + pale }),
    table.header(..it.columns.map(words => text(fill: grey, say(words)))),
    ..it.rows.sum(default: ()).map(say),
  )
}

#heading(level: 1, say(data.title))
#text(fill: grey, say(data.subtitle))

#let set-block(it) = {
  if it.kind == "heading" { heading(level: 2, say(it.words, joint: h(0.6em))) }
  else if it.kind == "plain" { par(say(it.words)) }
  else if it.kind == "note" { par(text(size: 7.6pt, fill: grey, say(it.words))) }
  else if it.kind == "warning" {
    block(width: 100%, fill: rgb("#fdf1dc"), inset: 2mm, say(it.words))
  }
  else if it.kind == "bullets" {
    list(tight: false, spacing: 0.75em, ..it.items.map(words => say(words)))
  }
  else if it.kind == "tiles" { tiles(it.tiles) }
  else if it.kind == "table" { rows(it) }
  else if it.kind == "figure" {
    block(breakable: false, above: 4mm, below: 5mm, {
      image(it.file, width: it.share * 100%, alt: it.alternative)
      v(-2mm)
      text(size: 7.6pt, fill: grey, say(it.caption))
    })
  }
}

// a section stays on one page if one page can hold it; charts do, each for itself
#for section in data.sections {
  let body = section.blocks.map(set-block).join()
  if section.kept {
    block(above: 3.2mm, width: 100%, layout(page => block(
      breakable: measure(block(width: page.width, body)).height > 240mm, width: 100%, body,
    )))
  } else { body }
}
"""

_WIDTH_POINTS, _MOST_POINTS = 521.0, 640.0
"""Width of the page between its margins, and the greatest height of a drawing."""

_SCALE = 0.78
"""Drawings are made for a screen; their text is then as large as that of the tables."""


def pdf(document: Document) -> bytes:
    """Set the document.

    Returns
    -------
    bytes
        The same document gives the same bytes with the same fonts and version of Typst.

    Raises
    ------
    UsageError
        The extra is not installed.
    StorageError
        No room for the files it is set from.
    """
    typst = engine()
    try:
        with tempfile.TemporaryDirectory(prefix="verifyanalytics-") as folder:
            root = Path(folder)
            data = _data(document, root)
            (root / "report.json").write_text(json.dumps(data), encoding="utf-8")
            (root / "report.typ").write_text(_TEMPLATE, encoding="utf-8")
            made: bytes = typst.compile(
                str(root / "report.typ"), root=folder, format="pdf", ignore_system_fonts=True,
                font_paths=[str(file.parent) for file in font_files()],
            )  # fmt: skip
            return made
    except OSError as error:
        raise StorageError(f"setting the PDF: {error.strerror or error}") from error


def engine() -> Any:
    """Return Typst; UsageError when the extra is not installed."""
    try:
        import typst
    except ImportError:
        raise UsageError(
            "PDF needs Typst: install verifyanalytics[pdf], or print the HTML page"
        ) from None
    return typst


def check_font(lang: Lang) -> None:
    """Raise UsageError when Chinese is asked for and no font has it."""
    if lang != "en" and cjk_font() is None:
        raise UsageError(
            "a PDF in Chinese needs a font with Chinese characters, and none is installed (Debian, "
            "Ubuntu: apt-get install fonts-wqy-microhei); or ask for HTML, or for English"
        )


_UNBROKEN = re.compile(r"[!-~]{12}(?=[!-~]{12})")


def _set(words: Words, lang: Lang) -> list[tuple[str, str]]:
    """Return (language, text) pairs; a very long name may be broken after twelve characters."""
    return [
        (name, _UNBROKEN.sub("\\g<0>\u200b", drawable(text))) for name, text in spoken(words, lang)
    ]


def _data(document: Document, root: Path) -> dict[str, Any]:
    lang = document.lang
    return {
        "name": f"{plain(document.title, lang)} {plain(document.subtitle, lang)}",
        "title": _set(document.title, lang),
        "subtitle": _set(document.subtitle, lang),
        "lang": "zh" if lang == "zh" else "en",
        "fonts": font_names(),
        "sections": [
            {"kept": Drawing not in map(type, blocks),
             "blocks": [_block(block, lang, root) for block in blocks]}
            for blocks in sections(document.blocks)
        ],
    }  # fmt: skip


def _block(block: Block, lang: Lang, root: Path) -> dict[str, Any]:
    match block:
        case Heading():
            return {"kind": "heading", "words": _set(block.words, lang)}
        case Paragraph():
            return {"kind": block.kind, "words": _set(block.words, lang)}
        case Bullets():
            return {"kind": "bullets", "items": [_set(item, lang) for item in block.items]}
        case Tiles():
            tiles = [
                {"label": _set(t.label, lang), "value": _set(t.value, lang),
                 "note": _set(t.note, lang)}
                for t in block.tiles
            ]  # fmt: skip
            return {"kind": "tiles", "tiles": tiles}
        case Table():
            return _table(block, lang)
        case Drawing():
            return _figure(block, lang, root)


def _table(block: Table, lang: Lang) -> dict[str, Any]:
    left = {0, *block.texts}
    return {
        "kind": "table",
        "columns": [_set(words, lang) for words in block.columns],
        "rows": [[_set(words, lang) for words in row] for row in block.rows],
        "left": sorted(left),
    }


def _figure(block: Drawing, lang: Lang, root: Path) -> dict[str, Any]:
    name = f"figure-{hashlib.sha256(block.svg).hexdigest()}.svg"
    (root / name).write_bytes(block.svg)
    width, height = block.size
    scale = min(_SCALE, _WIDTH_POINTS / width, _MOST_POINTS / height)
    return {
        "kind": "figure",
        "file": name,
        "share": round(scale * width / _WIDTH_POINTS, 4),
        "alternative": plain(block.alternative, lang),
        "caption": _set(block.caption, lang),
    }
