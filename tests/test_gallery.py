"""The gallery shows every chart, drawn by the code that stands under it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from verifyanalytics import charts

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
LIMIT = 2_500_000


def test_the_gallery_shows_every_public_chart_once():
    drawn = re.findall(r"^va\.charts\.(\w+\.\w+)\(", PAGE, re.MULTILINE)
    assert sorted(drawn) == sorted(
        f"{group}.{name}" for group in charts.GROUPS for name in getattr(charts, group).__all__
    )


@pytest.mark.parametrize("name", SHOWN)
def test_a_chart_has_its_picture_and_the_code_that_drew_it(name):
    section = PAGE.split(f"### {name}\n")[1].split("\n#")[0]
    assert len(re.findall(rf"^!\[.{{20,}}\]\(gallery/{name}\.png\)$", section, re.MULTILINE)) == 1
    code = re.search(r"```python\n((?:.*\n)*)va\.charts\.(\w+)\.(\w+)\((?:.|\n)*\)\n```", section)
    assert code
    assert code[3] in name
    assert f"va.{code[2]}.{code[3]}(" in section  # the chart of a statistic has its name
    with Image.open(DOCS / "gallery" / f"{name}.png") as picture:
        assert picture.mode == "P"
        assert 600 <= picture.width <= 1400


def test_the_pictures_are_light_and_none_is_left_over():
    pictures = sorted((DOCS / "gallery").iterdir())
    assert [path.name for path in pictures] == sorted(f"{name}.png" for name in SHOWN)
    assert sum(path.stat().st_size for path in pictures) < LIMIT


@pytest.mark.nightly
def test_the_pictures_are_what_the_page_draws():
    subprocess.run([sys.executable, "-W", "error", DOCS / "gallery.py", "--check"], check=True)
