"""A report as PDF, set by Typst (the extra `pdf`).

The page is a fixed template; everything the report says reaches it as JSON and is set as text, so
nothing that came with the data can be read as markup. The file carries no date.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from importlib.resources import files
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
from verifyanalytics.wording.names import cjk_font, drawable, font_files, font_names
from verifyanalytics.wording.words import Words, plain, spoken

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
            template = files(__package__).joinpath("report.typ").read_text(encoding="utf-8")
            (root / "report.typ").write_text(template, encoding="utf-8")
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
