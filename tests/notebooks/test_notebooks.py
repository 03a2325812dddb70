"""The notebooks: parsed, run, the same every time, and safe to hand out."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

import verifyanalytics as va
from verifyanalytics.errors import CheckError, NoStoreError, UsageError
from verifyanalytics.notebooks import build as notebooks
from verifyanalytics.notebooks.kernel import plain_png

ROOT = Path(__file__).parents[2]

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
    monkeypatch.setattr(notebooks, "fill", lambda data: None)  # this notebook reads no store
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
    plain = plain_png(picture(Software="matplotlib 3.99", Author="somebody"))
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


def test_no_output_is_a_warning_or_went_to_stderr():
    for name, cell in shipped_cells("code"):
        for output in cell.outputs:
            assert output.get("name") != "stderr", (name, cell.id)
            shown = [output.get("text", ""), *map(str, output.get("data", {}).values())]
            assert not [s for s in shown if re.search(r"Warning\b|Traceback|\x1b\[", s)], cell.id


def shipped_cells(kind):
    for name in notebooks.names():
        notebook = nbformat.read(notebooks.folder() / f"{name}.ipynb", as_version=4)
        yield from ((name, cell) for cell in notebook.cells if cell.cell_type == kind)


def test_the_notebooks_are_one_course():
    """No line of code is too wide to be read, and no paragraph is said twice."""
    for _, cell in shipped_cells("code"):
        assert max(map(len, cell.source.splitlines())) <= 100, cell.id
        assert "fmt:" not in cell.source
    paragraphs = Counter(
        part
        for _, cell in shipped_cells("markdown")
        for part in re.split(r"\n\n|\n(?=- )", cell.source)
    )
    assert [part for part, n in paragraphs.items() if n > 1 and len(part) > 40] == []


def test_the_index_is_in_the_order_of_the_course():
    index = (notebooks.folder() / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+)\]\(\1\.ipynb\) \|", index, re.MULTILINE) == notebooks.names()


# ------------------------------------------------------------------ for users


def parameters_of(path):
    cells = nbformat.read(path, as_version=4).cells
    (cell,) = [c for c in cells if "parameters" in c.metadata.get("tags", ())]
    values: dict = {}
    exec(cell.source, values)
    return values


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's place: an empty folder to work in, no store set."""
    monkeypatch.delenv("VERIFYANALYTICS_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_copies_have_no_outputs_and_overwrite_nothing_unless_told(own):
    written = notebooks.copy("mine")
    assert [path.stem for path in written] == notebooks.names()
    for path in written:
        cells = nbformat.read(path, as_version=4).cells
        assert all(
            not c.outputs and c.execution_count is None for c in cells if c.cell_type == "code"
        )
        assert "Your own data" in "".join(c.source for c in cells)
        assert parameters_of(path)["STORE"] is None  # there is none to be set
    assert parameters_of(written[-1])["PERIOD"] == "week"  # not a week of the sample
    written[0].write_text("a year of notes")
    with pytest.raises(UsageError, match=r"01_first_look\.ipynb.* already.*--force"):
        notebooks.copy("mine")
    assert written[0].read_text() == "a year of notes"
    (own / "mine" / "other.ipynb").write_text("left alone")
    notebooks.copy("mine", force=True)
    assert nbformat.read(written[0], as_version=4).cells
    assert (own / "mine" / "other.ipynb").read_text() == "left alone"


def test_copies_read_the_users_store_in_the_users_language(own, monkeypatch):
    va.Store("it's here", create=True)
    for path in notebooks.copy("a", store="it's here", lang="both"):
        values = parameters_of(path)
        assert values["STORE"] == str(own / "it's here")
        assert values["LANG"] == "both"
    va.Store("data/store", create=True)
    assert parameters_of(notebooks.copy("b")[0])["STORE"] == str(own / "data" / "store")
    monkeypatch.setenv("VERIFYANALYTICS_STORE", "it's here")
    assert parameters_of(notebooks.copy("c")[0])["STORE"] == str(own / "it's here")
    with pytest.raises(UsageError, match="no language 'fr'; there are: en, zh, both"):
        notebooks.copy("d", lang="fr")
    with pytest.raises(NoStoreError, match="no store at"):
        notebooks.copy("d", store="nowhere")
    assert not (own / "d").exists()


def test_copies_need_a_folder_and_a_store_to_be_run(own):
    (own / "file").write_text("")
    for target in ("file", "file/deeper"):
        with pytest.raises(UsageError, match="is a file, or lies in one; give a folder"):
            notebooks.copy(target)
    with pytest.raises(NoStoreError):
        notebooks.copy("mine", run=True)
    assert not (own / "mine").exists()


def test_what_a_copy_shows_when_run_and_where_it_stops(place, own):
    source = place / "src" / "01_small.py"
    source.write_text(SOURCE.replace("N = 1", "STORE = None\nN = 1  # a number\n"))
    (place / "src" / "02_fails.py").write_text(
        '# %% tags=["parameters"]\nSTORE = None\n\n# %%\nopen("made", "w").close()\n{}["x"]\n'
    )
    va.Store("data/store", create=True)
    begun = []
    with pytest.raises(CheckError, match=r"mine/02_fails\.ipynb: cell 2: KeyError: 'x'") as raised:
        notebooks.copy("mine", run=True, progress=begun.append)
    assert len(raised.value.findings) == 1
    assert begun == ["01_small", "02_fails"]
    assert (own / "mine" / "made").is_file()  # it works where it lies
    small, fails = (nbformat.read(own / "mine" / f"{name}.ipynb", as_version=4) for name in begun)
    assert parameters_of(own / "mine" / "01_small.ipynb")["N"] == 1
    assert small.cells[3].outputs[0].text == "1 a\n"  # behind title, words and parameters
    assert fails.cells[-1].outputs[0].ename == "KeyError"


def test_the_verb_writes_the_course_from_an_installed_wheel(tmp_path):
    pytest.importorskip("hatchling", reason="the build backend is a development dependency")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    (tmp_path / "work").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    environment.pop("VERIFYANALYTICS_STORE", None)

    def verb(*words):
        return subprocess.run(
            [sys.executable, "-m", "verifyanalytics", "notebooks", *words],
            cwd=tmp_path / "work", env=environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    told = verb("mine", "--lang", "zh", "--json")
    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout) == [str(Path("mine") / f"{n}.ipynb") for n in notebooks.names()]
    assert parameters_of(tmp_path / "work" / "mine" / "01_first_look.ipynb")["LANG"] == "zh"
    again = verb("mine")
    assert (again.returncode, again.stdout) == (2, "")
    assert "already; give another folder, or --force" in again.stderr


def test_no_such_notebook(tmp_path):
    with pytest.raises(UsageError, match="no notebook 'x'; there are: 01_first_look"):
        notebooks.execute("x", {}, tmp_path / "x.html")
