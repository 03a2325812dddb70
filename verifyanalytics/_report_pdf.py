"""A report as PDF, set by Typst (the extra `pdf`).

The page is a fixed template; everything the report says reaches it as JSON and is set as text, so
nothing that came with the data can be read as markup. The file carries no date.
"""

from __future__ import annotations

import json
import re
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

from verifyanalytics._report_blocks import (
    Block,
    Bullets,
    Document,
    Figure,
    Heading,
    NewPage,
    Paragraph,
    Table,
    Tiles,
    plain,
    spoken,
)
from verifyanalytics.charts.style import cjk_font
from verifyanalytics.codebook import Lang
from verifyanalytics.errors import StorageError, UsageError

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
  margin: (x: 13mm, top: 11mm, bottom: 13mm),
  footer: context align(right, text(size: 7.5pt, fill: grey,
    counter(page).display("1 / 1", both: true))),
)
#set text(font: data.fonts, size: 8.8pt, fill: ink, lang: data.lang, hyphenate: false)
#set par(leading: 0.58em, spacing: 0.8em)
#show heading: set text(weight: "regular", fill: blue)
#show heading.where(level: 1): set text(size: 15pt, fill: ink)
#show heading.where(level: 1): set block(below: 2mm)
#show heading.where(level: 2): set text(size: 10.5pt)
#show heading.where(level: 2): set block(above: 4.5mm, below: 2mm, sticky: true)

#let say(parts, joint: linebreak()) = {
  for (i, part) in parts.enumerate() {
    if i > 0 { joint }
    let (name, words) = part
    if name == "" { text(words) } else { text(lang: name, words) }
  }
}

#let tiles(all) = grid(
  columns: (1fr,) * all.len(),
  column-gutter: 2.5mm,
  ..all.map(tile => block(width: 100%, fill: rgb("#eef4f8"), inset: 2mm, {
    text(size: 7.5pt, fill: grey, say(tile.label))
    v(-1mm)
    text(size: 14pt, fill: blue, say(tile.value))
    v(-1mm)
    text(size: 7.5pt, fill: grey, say(tile.note))
  })),
)

#let rows(it) = {
  set text(size: 7.6pt)
  set par(leading: 0.5em)
  table(
    columns: it.widths.map(((ems, flexible)) => if flexible { ems * 1fr } else { ems * 1em + 2mm }),
    align: (x, y) => (if it.left.contains(x) { left } else { right })
      + (if y == 0 { bottom } else { top }),
    inset: (x: 1.2mm, y: 0.75mm),
    stroke: (x, y) => (bottom: if y == 0 { 0.3mm + mid } else { 0.2mm + pale }),
    table.header(..it.columns.map(words => text(fill: grey, say(words)))),
    ..it.cells.map(say),
  )
}

#heading(level: 1, say(data.title))
#text(fill: grey, say(data.subtitle))

#for it in data.blocks {
  if it.kind == "heading" { heading(level: it.level, say(it.words, joint: h(0.6em))) }
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
  else if it.kind == "page" { pagebreak(weak: true) }
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
            made: bytes = typst.compile(str(root / "report.typ"), root=folder, format="pdf")
            return made
    except OSError as error:
        raise StorageError(f"setting the PDF: {error.strerror or error}") from error


def engine() -> Any:
    """Return Typst.

    Raises
    ------
    UsageError
        The extra is not installed.
    """
    try:
        import typst
    except ImportError:
        raise UsageError(
            "PDF needs Typst: install verifyanalytics[pdf], or print the HTML page"
        ) from None
    return typst


def _data(document: Document, root: Path) -> dict[str, Any]:
    lang = document.lang
    return {
        "name": f"{plain(document.title, lang)} {plain(document.subtitle, lang)}",
        "title": spoken(document.title, lang),
        "subtitle": spoken(document.subtitle, lang),
        "lang": "zh" if lang == "zh" else "en",
        "fonts": ["DejaVu Sans", *([font] if (font := cjk_font()) else [])],
        "blocks": [_block(block, lang, i, root) for i, block in enumerate(document.blocks)],
    }


def _block(block: Block, lang: Lang, i: int, root: Path) -> dict[str, Any]:
    match block:
        case Heading():
            return {"kind": "heading", "level": block.level, "words": spoken(block.words, lang)}
        case Paragraph():
            return {"kind": block.kind, "words": spoken(block.words, lang)}
        case Bullets():
            return {"kind": "bullets", "items": [spoken(item, lang) for item in block.items]}
        case Tiles():
            tiles = [
                {"label": spoken(t.label, lang), "value": spoken(t.value, lang),
                 "note": spoken(t.note, lang)}
                for t in block.tiles
            ]  # fmt: skip
            return {"kind": "tiles", "tiles": tiles}
        case Table():
            return _table(block, lang)
        case Figure():
            return _figure(block, lang, i, root)
        case NewPage():
            return {"kind": "page"}


def _table(block: Table, lang: Lang) -> dict[str, Any]:
    left = {0, *block.texts}
    return {
        "kind": "table",
        "columns": [spoken(words, lang) for words in block.columns],
        "cells": [spoken(words, lang) for row in block.rows for words in row],
        "left": sorted(left),
        "widths": [(_ems(block, i, lang), i in left) for i in range(len(block.columns))],
    }


def _ems(block: Table, i: int, lang: Lang) -> float:
    """Return how wide a column is: numbers on one line, headings broken between words."""
    words = [
        max((_width(word) for word in _BREAKS.split(text)), default=0.0)
        for _, text in spoken(block.columns[i], lang)
    ]
    cells = [_width(text) for row in block.rows for _, text in spoken(row[i], lang)]
    return round(max([3.0, *(min(word, 8.0) for word in words), *(min(c, 20.0) for c in cells)]), 2)


_BREAKS = re.compile("[ ，：（/]")


def _width(text: str) -> float:
    """Estimate the width of a text in ems of DejaVu Sans; Chinese characters are one em."""
    return sum(
        1.0 if unicodedata.east_asian_width(c) in "WF" else _NARROW.get(c, 0.64) for c in text
    )


_NARROW = {" ": 0.32, "\u00a0": 0.32, ".": 0.32, ",": 0.32, ":": 0.34, "/": 0.34, "(": 0.39,
           ")": 0.39, "–": 0.5, "−": 0.84, "+": 0.84, "±": 0.84, "%": 0.95}  # fmt: skip


def _figure(block: Figure, lang: Lang, i: int, root: Path) -> dict[str, Any]:
    name = f"figure-{i}.svg"
    (root / name).write_bytes(block.svg)
    width, height = block.size
    scale = min(_SCALE, _WIDTH_POINTS / width, _MOST_POINTS / height)
    return {
        "kind": "figure",
        "file": name,
        "share": round(scale * width / _WIDTH_POINTS, 4),
        "alternative": plain(block.alternative, lang),
        "caption": spoken(block.caption, lang),
    }
