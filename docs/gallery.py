"""Draw the pictures of gallery.md by running the code that stands in it.

::

    python docs/gallery.py             draw all
    python docs/gallery.py --check     draw apart and compare by pixels: exit 8 if they differ
    python docs/gallery.py --lang zh --out DIR     look at them in another language
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

PAGE = Path(__file__).with_name("gallery.md")
PICTURES = Path(__file__).with_name("gallery")
DPI, COLOURS = 120, 256


def blocks(page: str) -> list[tuple[str, str]]:
    """Return each Python block of the page with the heading above it; the first has none."""
    found, name = [], ""
    for match in re.finditer(r"^### (\w+)$|^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if match[1]:
            name = match[1]
        else:
            found.append((name, match[2]))
    return found


def draw(lang: str = "en") -> Iterator[tuple[str, bytes]]:
    """Run the page's code on a store of the sample; yield each chart's name and picture."""
    from matplotlib import pyplot as plt

    from verifyanalytics.notebooks.build import fill

    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="verifyanalytics-") as place:
        os.environ["VERIFYANALYTICS_STORE"] = place + "/store"
        fill(Path(place) / "store")
        for name, code in blocks(PAGE.read_text(encoding="utf-8")):
            if not name:
                run(code, names)
            else:
                shown = run(code.rstrip().removesuffix(")") + f", lang={lang!r})", names)
                yield name, picture(np.ravel(shown)[0].figure)
                plt.close("all")


def run(code: str, names: dict[str, Any]) -> Any:
    """Run a block as a notebook does: return the value of its last line."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, PAGE.name, "exec"), names)  # noqa: S102 - the page is our own
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), PAGE.name, "eval"), names)  # noqa: S307


def picture(figure: Any) -> bytes:
    """Return a figure as a small PNG: few colours, nothing in it but the picture."""
    with io.BytesIO() as full, io.BytesIO() as small:
        figure.savefig(full, format="png", dpi=DPI)
        image = Image.open(full).convert("RGB")
        image.quantize(COLOURS, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
        return small.getvalue()


def same(one: bytes, other: bytes) -> bool:
    """Tell whether two pictures have the same pixels, whatever packed them."""
    a, b = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in (one, other))
    return bool(np.array_equal(a, b))


def main() -> int:
    """Draw the gallery, or compare it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python docs/gallery.py")
    parser.add_argument("--check", action="store_true", help="draw apart, and compare")
    parser.add_argument("--lang", default="en", choices=("en", "zh", "both"))
    parser.add_argument("--out", type=Path, default=PICTURES, metavar="DIR")
    asked = parser.parse_args()
    mpl.use("agg")
    asked.out.mkdir(parents=True, exist_ok=True)
    left = {path.name for path in asked.out.glob("*.png")}
    differs = []
    for name, png in draw(asked.lang):
        path = asked.out / f"{name}.png"
        left.discard(path.name)
        if not asked.check:
            path.write_bytes(png)
            sys.stdout.write(f"drew {path.name}, {len(png):,} bytes\n")
        elif not path.is_file() or not same(path.read_bytes(), png):
            differs.append(path.name)
    differs += sorted(left)
    for name in differs:
        sys.stderr.write(f"gallery: {name} is not what gallery.md draws; run docs/gallery.py\n")
    return 8 if differs else 0


if __name__ == "__main__":
    raise SystemExit(main())
