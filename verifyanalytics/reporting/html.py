"""A report as one self-contained HTML page (no network requests).

No script, no reference to the outside: a content security policy forbids both, the style sheet is
named in it by its digest, and drawings are data. Every text is escaped here and nowhere else.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files

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

_STYLE = "\n" + files(__package__).joinpath("report.css").read_text(encoding="utf-8")


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
    texts = dict.fromkeys(block.texts, ' class="text"')
    head = "".join(
        f'<th scope="col"{texts.get(i, "")}>{_words(words, lang)}</th>'
        for i, words in enumerate(block.columns)
    )
    rows = ""
    for first, *others in block.rows:
        cells = "".join(
            f"<td{texts.get(i, '')}>{_words(words, lang)}</td>" for i, words in enumerate(others, 1)
        )
        rows += f'<tr><th scope="row">{_words(first, lang)}</th>{cells}</tr>\n'
    return (
        f'<div class="scroll" tabindex="0">\n<table>\n<caption>{_words(block.caption, lang)}'
        f"</caption>\n<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>"
    )


def _figure(block: Drawing, lang: Lang) -> str:
    data = base64.b64encode(block.svg).decode()
    return (
        f'<figure>\n<img src="data:image/svg+xml;base64,{data}" '
        f'width="{block.size[0] / 0.75:.0f}" height="{block.size[1] / 0.75:.0f}" '
        f'alt="{escape(plain(block.alternative, lang))}">\n'
        f"<figcaption>{_words(block.caption, lang)}</figcaption>\n</figure>"
    )
