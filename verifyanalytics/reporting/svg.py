"""Drawings of a report in few bytes: matplotlib's SVG with nothing in it that is not seen."""

from __future__ import annotations

import re
from collections.abc import Iterator

_FINER = 8
"""Outlines of letters are drawn on a grid this many times as coarse: 1/800 of their size."""

_OUTLINE = re.compile(r'd="([^"]+)" transform="scale\(0\.015625\)"')
_STEP = re.compile(r"([MLQCz])([^MLQCz]*)")


def compact(svg: str) -> str:
    r"""Write matplotlib's SVG in about half the bytes: short names, two decimals, no blanks.

    What names the outside (document type, metadata) and comments, which repeat the labels, go too.

    Examples
    --------
    >>> compact('<g id="DejaVuSans-41">\n <!-- A -->\n</g> <use xlink:href="#DejaVuSans-41"/>')
    '<g id="a"></g><use href="#a"/>'
    """
    svg = re.sub(r"<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", svg,
                 flags=re.DOTALL)  # fmt: skip
    svg = re.sub(r">\s+<", "><", svg.replace("xlink:href=", "href="))
    svg = re.sub(
        r'(<use href="#[^"]+" )transform="translate\((-?[\d.]+) 0\)"/>', r'\1x="\2"/>', svg
    )
    svg = re.sub(r"(?<!scale\()-?\d+\.\d{3,}(?![\d.]*\))", _two_decimals, svg)
    svg = re.sub(r"\s*\n\s*([A-Za-z])", r"\1", svg)
    svg = re.sub(r"(?<=[MLQCz]) (?=[-\d])", "", svg)
    svg = _OUTLINE.sub(_outline, svg)
    names = {
        name: _short(i) for i, name in enumerate(dict.fromkeys(re.findall(r' id="([^"]+)"', svg)))
    }
    return re.sub(r'( id="|"#|url\(#)([^")]+)', lambda m: m[1] + names.get(m[2], m[2]), svg.strip())


def _two_decimals(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _short(i: int) -> str:
    """Name the i-th thing by letters: a to z, then ba, bb and so on."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[i] if i < 26 else _short(i // 26) + letters[i % 26]


# ------------------------------------------------------------------ outlines of letters


def _outline(found: re.Match[str]) -> str:
    """Write the outline of a letter by its steps, which are short, on a coarser grid."""
    steps = "".join(_steps(found[1]))
    return f'd="{steps}" transform="scale({0.015625 * _FINER:g})"'


def _steps(path: str) -> Iterator[str]:
    start = at = (0, 0)
    for command, numbers in _STEP.findall(path):
        grid = [round(float(n) / _FINER) for n in numbers.split()]
        places = list(zip(grid[::2], grid[1::2], strict=True))
        yield command.lower() + _joined(c for x, y in places for c in (x - at[0], y - at[1]))
        at = places[-1] if places else start
        start = at if command == "M" else start


def _joined(numbers: Iterator[int]) -> str:
    """Write numbers; a minus is divider enough."""
    return re.sub(" (?=-)", "", " ".join(map(str, numbers)))
