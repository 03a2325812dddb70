"""The notebooks: parsed, run, the same every time, and safe to hand out."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib

import nbformat
import numpy as np
import pytest
from PIL import Image

from verifyanalytics import notebooks
from verifyanalytics.errors import CheckError, UsageError

SOURCE = """# %% [markdown]
# # A title
#
# text

# %% tags=["parameters"]
N = 1
NAME = "a"

# %%
print(N, NAME)

# %%
import matplotlib.pyplot as plt
figure, ax = plt.subplots(figsize=(1, 1))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of notebooks of our own, with one built notebook and its source."""
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "notebooks" / "src" / "01_small.py").write_text(SOURCE)
    monkeypatch.setattr(notebooks, "_PLACES", (tmp_path / "notebooks",))
    monkeypatch.setattr(notebooks, "_fill", lambda data: None)  # this notebook reads no store
    return tmp_path / "notebooks"


# ------------------------------------------------------------------ parsing


def test_a_source_becomes_cells():
    notebook = notebooks.parse(SOURCE, "01-small")
    nbformat.validate(notebook)
    assert [(c.cell_type, c.id) for c in notebook.cells] == [
        ("markdown", "01-small-1"), ("code", "01-small-2"), ("code", "01-small-3"),
        ("code", "01-small-4"),
    ]  # fmt: skip
    assert notebook.cells[0].source == "# A title\n\ntext"
    assert notebook.cells[1].source == 'N = 1\nNAME = "a"'
    assert notebook.cells[1].metadata.tags == ["parameters"]
    assert notebook.metadata.kernelspec.name == "python3"


def test_a_source_begins_with_a_cell():
    with pytest.raises(UsageError, match="notebook source x: the first line must begin a cell"):
        notebooks.parse("import this\n# %%\n", "x")


# ------------------------------------------------------------------ pictures


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def picture(level=6, **texts):
    pixels = np.arange(48, dtype="uint8").reshape(4, 4, 3)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, format="png", compress_level=level)
        png = file.getvalue()
    extra = b"".join(chunk(b"tEXt", f"{k}\0{v}".encode()) for k, v in texts.items())
    return base64.b64encode(png[:33] + extra + png[33:]).decode()  # behind IHDR


def test_a_picture_loses_its_texts_and_keeps_its_pixels():
    plain = notebooks._plain_png(picture(Software="matplotlib 3.99", Author="somebody"))
    assert plain == picture()
    with Image.open(io.BytesIO(base64.b64decode(plain))) as image:
        assert np.asarray(image).ravel().tolist() == list(range(48))


def test_pictures_are_compared_by_pixels_not_by_their_packing():
    def of(encoded):
        output = nbformat.v4.new_output("display_data", {"image/png": encoded})
        return nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell("", id="a", outputs=[output])]
        )

    other = Image.new("RGB", (4, 4))
    with io.BytesIO() as file:
        other.save(file, format="png")
        black = base64.b64encode(file.getvalue()).decode()
    assert picture(level=0) != picture(level=9)
    assert notebooks.same(of(picture(level=0)), of(picture(level=9)))
    assert not notebooks.same(of(picture()), of(black))


# ------------------------------------------------------------------ building and comparing


def test_built_twice_is_the_same_bytes_and_check_sees_a_change(place, capsys):
    assert notebooks.main([]) == 0
    built = place / "01_small.ipynb"
    first = built.read_bytes()
    assert notebooks.main(["--check"]) == 0
    assert notebooks.main([]) == 0
    assert built.read_bytes() == first

    notebook = nbformat.read(built, as_version=4)
    assert notebook.cells[2].outputs[0].text == "1 a\n"
    assert "image/png" in notebook.cells[3].outputs[0].data
    assert not re.search(rb'"(execution|collapsed|iopub[^"]*)":', first)

    built.write_bytes(first.replace(b"1 a", b"2 a"))
    (place / "02_orphan.ipynb").write_bytes(first)
    assert notebooks.main(["--check"]) == CheckError.exit_code == 8
    message = capsys.readouterr().err
    assert "01_small.ipynb differs" in message
    assert "02_orphan.ipynb has no source" in message


def test_parameters_are_set_after_their_cell_and_no_other_is_taken():
    ran = notebooks.run(notebooks.parse(SOURCE, "x"), {"N": 7, "NAME": "it's"})
    assert ran.cells[2].source == 'N = 7\nNAME = "it\'s"'
    assert ran.cells[3].outputs[0].text == "7 it's\n"
    with pytest.raises(UsageError, match="no parameter M; there are: N, NAME"):
        notebooks.run(notebooks.parse(SOURCE, "x"), {"M": 7})


def test_a_page_asks_nobody_for_anything():
    source = '# %% [markdown]\n# # A & B\n\n# %%\n"<script>alert(1)</script>"\n'
    page = notebooks.html(notebooks.run(notebooks.parse(source, "x")))
    assert "<script>alert(1)</script>" not in page
    fetches = (
        r"<(script|link|iframe|object|embed)\b",
        r"@import",
        r"\b(src|srcset|poster|data)=[\"']?(https?:)?//",
        r"url\(\s*[\"']?(https?:)?//",
    )
    for outside in fetches:
        assert re.search(outside, page, re.IGNORECASE) is None, outside
    assert "default-src 'none'" in page


# ------------------------------------------------------------------ those that ship


def test_every_notebook_is_in_the_index_and_has_its_parts():
    index = (notebooks.folder() / "README.md").read_text(encoding="utf-8")
    assert notebooks.names()
    for name in notebooks.names():
        assert f"({name}.ipynb)" in index
        notebook = nbformat.read(notebooks.folder() / f"{name}.ipynb", as_version=4)
        nbformat.validate(notebook)
        code = [c for c in notebook.cells if c.cell_type == "code"]
        assert code[0].metadata.tags == ["parameters"]
        assert {"STORE", "LANG"} <= set(re.findall(r"^(\w+) =", code[0].source, re.MULTILINE))
        prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
        for part in ("**Question.**", "**Data.**", "**Reading.**", "**Caveats.**"):
            assert part in prose
        for cell in code:
            assert len(cell.source.splitlines()) <= 12
            assert all(o.output_type != "error" for o in cell.outputs)
            if "va.charts." in cell.source:
                assert any("image/png" in o.get("data", {}) for o in cell.outputs), cell.id


def test_a_source_gives_the_cells_that_are_built():
    for source in (notebooks.folder() / "src").glob("*.py"):
        parsed = notebooks.parse(source.read_text(encoding="utf-8"), source.stem.replace("_", "-"))
        built = nbformat.read(notebooks.folder() / f"{source.stem}.ipynb", as_version=4)
        assert [(c.id, c.source) for c in parsed.cells] == [(c.id, c.source) for c in built.cells]


def test_copies_have_no_outputs_and_overwrite_nothing(tmp_path):
    written = notebooks.copy(tmp_path / "mine")
    assert [path.stem for path in written] == notebooks.names()
    for path in written:
        cells = nbformat.read(path, as_version=4).cells
        assert all(
            not c.outputs and c.execution_count is None for c in cells if c.cell_type == "code"
        )
    with pytest.raises(UsageError, match=r"01_first_look\.ipynb.* already"):
        notebooks.copy(tmp_path / "mine")


def test_no_such_notebook(tmp_path):
    with pytest.raises(UsageError, match="no notebook 'x'; there are: 01_first_look"):
        notebooks.execute("x", {}, tmp_path / "x.html")


@pytest.mark.nightly
def test_the_notebooks_are_what_their_sources_give():
    notebooks.check(notebooks.folder() / "src", notebooks.folder())
