"""A report as one HTML page that asks nobody for anything.

No script, no reference to the outside: a content security policy forbids both, the style sheet is
named in it by its digest, and drawings are data. Every text is escaped here and nowhere else.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

from verifyanalytics.codebook.book import Lang
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
from verifyanalytics.wording.words import Words, plain, spoken

_TAGS = {"en": "en", "zh": "zh-CN"}

_STYLE = """
* { box-sizing: border-box; }
html { font: 10.5pt/1.45 "DejaVu Sans", Verdana, "Segoe UI", "Noto Sans SC", "Noto Sans CJK SC",
  "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Micro Hei", sans-serif;
  color: #222; background: #fff; }
body { max-width: 235mm; margin: 0 auto; padding: 12mm; }
h1, h2, th, .value { font-weight: normal; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0 0 1mm; }
h2 { font-size: 1.12rem; line-height: 1.3; margin: 5mm 0 1.5mm; color: #004a75;
  border-bottom: 0.3mm solid #b9cbd8; break-after: avoid; }
p { margin: 0 0 2mm; }
.subtitle { color: #555; margin-bottom: 2mm; }
.note { color: #555; font-size: 0.8rem; }
.warning { background: #fdf1dc; border-left: 1mm solid #b35c00; padding: 1.5mm 3mm; }
ul { margin: 0; padding-left: 5mm; }
li { margin-bottom: 1mm; }
[lang="zh-CN"] { line-height: 1.55; }
.zh { display: block; color: #444; }
h1 .zh, h2 .zh { display: inline; margin-left: 0.5em; }
.tiles { display: flex; gap: 2.5mm; margin: 3mm 0; }
.tile { flex: 1 1 0; background: #eef4f8; border: 0.2mm solid #cfdde7; padding: 2mm;
  min-width: 0; }
.tile p { margin: 0; font-size: 0.73rem; color: #444; }
.tile .value { font-size: 1.6rem; line-height: 1.35; color: #004a75; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.8rem; line-height: 1.35;
  margin-bottom: 1.5mm; font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: 0.7mm 1.2mm; vertical-align: top; text-align: right; unicode-bidi: isolate; }
th, td { white-space: pre; }
th:first-child, .text { text-align: left; white-space: pre-line; overflow-wrap: break-word; }
td.text { min-width: 12.2em; word-break: keep-all; }
thead th { word-break: keep-all; color: #555; vertical-align: bottom;
  border-bottom: 0.3mm solid #999; }
tbody tr { border-bottom: 0.2mm solid #e3e3e3; break-inside: avoid; }
figure { margin: 3mm 0 5mm; break-inside: avoid; }
figure img { display: block; max-width: min(100%, 186mm); max-height: 225mm; height: auto; }
figcaption { color: #444; font-size: 0.8rem; margin-top: 1mm; }
@page { size: A4; margin: 10mm 13mm; }
@media print {
  html { font-size: 8.5pt; line-height: 1.3; }
  .kept { break-inside: avoid; }
  table { line-height: 1.25; }
  li { margin-bottom: 0.5mm; }
  body { max-width: none; padding: 0; }
  h2 { margin: 3mm 0 0.8mm; }
  p { margin-bottom: 1mm; }
  th, td { padding: 0.3mm 1.2mm; }
  .tiles { margin: 2mm 0; }
  .tile { padding: 1mm 2.5mm; }
  .scroll { overflow: visible; }
  figure img { width: auto; max-height: 106mm; }
}
@media (max-width: 150mm) {
  body { padding: 5mm; }
  .tiles { flex-wrap: wrap; }
  .tile { flex-basis: 40%; }
}
"""


def html(document: Document) -> str:
    """Write the page.

    Returns
    -------
    str
        HTML 5, to be stored as UTF-8. The same document gives the same text.
    """
    lang = document.lang
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )
    title = f"{plain(document.title, lang)} {plain(document.subtitle, lang)}"
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="{_TAGS["zh" if lang == "zh" else "en"]}">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{_words(document.title, lang)}</h1>",
        f'<p class="subtitle">{_words(document.subtitle, lang)}</p>',
        *(_section(section, lang) for section in sections(document.blocks)),
        "</main>",
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(parts)


def _section(blocks: list[Block], lang: Lang) -> str:
    """Write a section; on paper it stays on one page, but for the charts, each for itself."""
    kept = "" if Drawing in map(type, blocks) else ' class="kept"'
    return "\n".join([f"<section{kept}>", *(_block(block, lang) for block in blocks), "</section>"])


def _block(block: Block, lang: Lang) -> str:
    match block:
        case Heading():
            return f"<h2>{_words(block.words, lang)}</h2>"
        case Paragraph(kind="plain"):
            return f"<p>{_words(block.words, lang)}</p>"
        case Paragraph():
            return f'<p class="{block.kind}">{_words(block.words, lang)}</p>'
        case Bullets():
            items = "".join(f"<li>{_words(item, lang)}</li>\n" for item in block.items)
            return f"<ul>\n{items}</ul>"
        case Tiles():
            tiles = "".join(
                f'<div class="tile"><p>{_words(tile.label, lang)}</p>'
                f'<p class="value">{escape(spoken(tile.value, lang)[0][1])}</p>'
                f"<p>{_words(tile.note, lang)}</p></div>\n"
                for tile in block.tiles
            )
            return f'<div class="tiles">\n{tiles}</div>'
        case Table():
            return _table(block, lang)
        case Drawing():
            return _figure(block, lang)


def _words(words: Words, lang: Lang) -> str:
    """Escape words; in two languages, each says which it is."""
    parts = spoken(words, lang)
    if len(parts) == 1:
        return escape(parts[0][1])
    return "".join(
        f'<span class="{name}" lang="{_TAGS[name]}">{escape(text)}</span>' for name, text in parts
    )


def _table(block: Table, lang: Lang) -> str:
    head = "".join(
        f'<th scope="col"{_class(block, i)}>{_words(words, lang)}</th>'
        for i, words in enumerate(block.columns)
    )
    rows = "".join(f"<tr>{_row(block, row, lang)}</tr>\n" for row in block.rows)
    return (
        f'<div class="scroll" tabindex="0">\n<table>\n<caption>{_words(block.caption, lang)}'
        f"</caption>\n<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>"
    )


def _row(block: Table, row: tuple[Words, ...], lang: Lang) -> str:
    cells = [f'<th scope="row">{_words(row[0], lang)}</th>']
    cells += [
        f"<td{_class(block, i)}>{_words(words, lang)}</td>"
        for i, words in enumerate(row[1:], start=1)
    ]
    return "".join(cells)


def _class(block: Table, i: int) -> str:
    return ' class="text"' if i in block.texts else ""


def _figure(block: Drawing, lang: Lang) -> str:
    data = base64.b64encode(block.svg).decode()
    return (
        f'<figure>\n<img src="data:image/svg+xml;base64,{data}" '
        f'width="{block.size[0] / 0.75:.0f}" height="{block.size[1] / 0.75:.0f}" '
        f'alt="{escape(plain(block.alternative, lang))}">\n'
        f"<figcaption>{_words(block.caption, lang)}</figcaption>\n</figure>"
    )
