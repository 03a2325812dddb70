"""The tuner under a person's hand: JupyterLab and Voilà in a real browser, by keyboard and mouse.

A server of each is started on the loopback with settings of its own; Debian's Chromium opens the
notebook as it ships, in Voilà the tuner's cells of it. What the page shows is held against the
functions, called here on the same store.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest

import verifyanalytics as va

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
NOTEBOOK = "02_thresholds.ipynb"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
)
SECONDS = 60  # the longest that anything may take, on a machine that is busy with other things
CONNECTED = """async () => {
    const sessions = await (await fetch('/api/sessions')).json();
    return sessions.some(one => one.kernel.connections > 0 && one.kernel.execution_state == 'idle');
}"""
REGIME = "cert_pro_src_verify 60/70/80/90"


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; where it is not there the test is skipped, but never in CI."""
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed, and these tests are not skipped in CI")
        pytest.skip("Chromium is not installed (Debian, Ubuntu: apt-get install chromium)")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=program, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A month of the sample: one source regime, one without source."""
    made = va.Store(tmp_path_factory.mktemp("browser") / "store", create=True)
    va.import_responses(ROOT / "data" / "sample" / "2024-04.ndjson.gz", made)
    return made


@pytest.fixture(scope="module")
def launcher():
    """run.py as a module."""
    spec = importlib.util.spec_from_file_location("launcher", ROOT / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asks_others(url):
    return url.startswith(("http", "ws")) and urlsplit(url).hostname not in (
        "127.0.0.1",
        "localhost",
    )


@contextmanager
def opened(browser, url, folder, icons=None):
    """Open a page with no way to other machines; when something fails, leave a picture of it.

    Nothing may be asked of others but `icons`, and the page must do without them.
    """
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    outside = []
    page.on("request", lambda one: outside.append(one.url) if asks_others(one.url) else None)
    page.route(asks_others, lambda route: route.abort())
    try:
        page.goto(url, timeout=SECONDS * 1000)
        yield page
        assert [one for one in outside if icons is None or icons not in one] == []
    except (AssertionError, sync_api.Error):
        page.screenshot(path=folder / "page.png")
        raise
    finally:
        page.close()


class Server:
    """A server of notebooks, with settings, data and home of its own, until it is closed."""

    def __init__(self, words, folder, store, notebook=ROOT / "notebooks" / NOTEBOOK):
        self.folder = folder
        (folder / "work").mkdir()
        shutil.copy(notebook, folder / "work" / NOTEBOOK)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
        own |= {"IPYTHONDIR": str(folder / "ipython"), "HOME": str(folder)}
        own |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
        own |= {"JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
        own |= {"VERIFYANALYTICS_STORE": str(store.path), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *words, "--no-browser", f"--port={port}"],
            cwd=folder / "work", env={**os.environ, **own}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines, self.ready = [], threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if "is running at" in line:
                self.ready.set()
        self.ready.set()  # it has ended

    def __enter__(self):
        assert self.ready.wait(SECONDS), "".join(self.lines)
        assert self.process.poll() is None, "".join(self.lines)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(SECONDS)
        self.reader.join()
        self.process.stdout.close()


# ------------------------------------------------------------------ what the page must show


def shown(v, threshold):
    """What the page must say at a threshold: figures from the functions, written here."""

    def here(table):
        return table[table["regime"] == REGIME]

    rates = here(va.scores.match_rates(v, threshold)).iloc[0]
    bounds = here(va.bounds.label_free(v, threshold)).set_index("k")
    swap = here(va.scores.what_if(v, threshold))
    swap = swap[swap["unit"] == "rows"].set_index("line")["n"]
    said = [
        f"At or above {threshold:g}",
        f"{100 * rates['match_rate']:.2f}\u00a0% ({100 * rates['match_rate_low']:.2f} – ",
        f"{rates['n_match']:,} / {rates['n']:,}",
    ]
    said += [f"{100 * bounds.loc[k, 'fnmr_high']:.2f}\u00a0%" for k in (1, 3, 10)]
    if threshold >= 60:
        said += [
            f"false matches ≤ {bounds.loc[k, 'false_matches_high']:,.0f} ·" for k in (1, 3, 10)
        ]
    said += [f"{swap[line]:,} (" for line in ("both", "only_old", "only_new", "neither")]
    return said


class Tuner:
    """The tuner on a page: its parts, and what it says."""

    def __init__(self, page):
        self.page = page
        self.handle = page.locator(".noUi-handle")
        self.handle.wait_for(timeout=SECONDS * 1000)
        self.status = page.locator("[role=status]", has=page.locator("table"))
        self.box = page.locator("input[type=number]")
        expect(self.status).to_be_attached(timeout=SECONDS * 1000)
        self.handle.scroll_into_view_if_needed()

    def says(self, v, threshold):
        for text in shown(v, threshold):
            expect(self.status).to_contain_text(text, timeout=20_000)
        expect(self.box).to_have_value(f"{threshold:g}")

    def threshold(self):
        return float(re.search(r"At or above ([\d.]+)", self.status.inner_text()).group(1))

    def choose(self, option):
        """Choose from whichever list has the option."""
        self.page.locator("select", has=self.page.locator("option", has_text=option)).select_option(
            label=option
        )

    def press(self, key, threshold):
        """Press a key on the slider; return the milliseconds until the numbers are there."""
        self.handle.focus()
        since = time.perf_counter()
        self.page.keyboard.press(key)
        self.page.wait_for_function(
            "text => [...document.querySelectorAll('[role=status]')]"
            ".some(one => one.innerText.includes(text))",
            arg=f"At or above {threshold:g}\n",
            polling="raf",
        )
        return 1000 * (time.perf_counter() - since)

    def drag(self, by):
        """Drag the handle by so many pixels; return the threshold it came to."""
        before = self.threshold()
        box = self.handle.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + by, y, steps=8)
        self.page.mouse.up()
        expect(self.status).not_to_contain_text(f"At or above {before:g}\n", timeout=20_000)
        slid = float(self.handle.get_attribute("aria-valuenow"))
        expect(self.status).to_contain_text(f"At or above {slid:g}", timeout=20_000)
        return slid


def try_out(page, v, capsys, where):
    """Move the tuner by every means it has, and hold what it shows against the functions."""
    tuner = Tuner(page)
    tuner.choose(REGIME)
    tuner.says(v, 75.0)
    moves = [tuner.press("ArrowRight", 75.0 + 0.5 * i) for i in range(1, 8)]
    tuner.says(v, 78.5)
    tuner.press("PageDown", 76.0)
    moves.append(tuner.press("ArrowLeft", 75.5))
    tuner.says(v, 75.5)
    dragged = tuner.drag(-90)
    assert dragged < 70
    tuner.says(v, dragged)
    for typed in (70.0, 71.37):  # a tie with the vendor's own threshold, and a score between
        tuner.box.fill(f"{typed:g}")
        tuner.box.press("Enter")
        tuner.says(v, typed)
    image = page.locator(".widget-image img, img.widget-image").first
    assert image.evaluate("one => one.naturalWidth") > 600
    code = page.locator(".widget-textarea textarea")
    assert f"regime, threshold = '{REGIME}', 71.37" in code.input_value()
    tuner.choose("中文")
    expect(tuner.status).to_contain_text("匹配率")
    with capsys.disabled():
        print(
            f"\n{where}: key press to numbers on the page, {len(moves)} moves: "
            f"median {statistics.median(moves):.0f} ms, {min(moves):.0f} to {max(moves):.0f} ms"
        )
    return tuner


# ------------------------------------------------------------------ the two places


def test_jupyterlab_in_chinese_runs_the_notebook_and_moves(
    browser, store, launcher, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(launcher, "VENV", tmp_path)
    launcher.arrange_lab(launcher.LOCALES["zh"])
    settings = tmp_path / "share" / "jupyter" / "lab" / "settings"
    words = ["jupyterlab", *launcher.QUIET, f"--LabApp.app_settings_dir={settings}"]
    words += ["--IdentityProvider.token=", "--ServerApp.password=", "--allow-root"]
    with Server(words, tmp_path, store) as server, ExitStack() as stack:
        page = stack.enter_context(opened(browser, f"{server.url}/lab/tree/{NOTEBOOK}", tmp_path))
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=SECONDS * 1000)
        # a kernel that is not connected yet takes a run for a wish to clear all outputs
        page.wait_for_function(CONNECTED, timeout=SECONDS * 1000)
        expect(page.locator("#jp-main-statusbar")).to_contain_text("| 空闲", timeout=SECONDS * 1000)
        page.get_by_role("menuitem", name="运行", exact=True).click()
        page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
        try_out(page, store.read("verifications"), capsys, "JupyterLab")
        for kind in ("error", "stderr"):
            assert not page.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']").count()
        assert not page.locator(".Toastify__toast, .jp-toast-button").count()  # no news, no nag


def tuner_alone(folder):
    """The notebook with its parameters, its data and its tuner; JupyterLab runs all of it."""
    whole = nbformat.read(ROOT / "notebooks" / NOTEBOOK, as_version=4)
    code = [cell for cell in whole.cells if cell.cell_type == "code"]
    parameters, data, *_, tune = code
    assert "va.tune(" in tune.source
    whole.cells = [parameters, data, tune]
    nbformat.write(whole, folder / "tuner.ipynb")
    return folder / "tuner.ipynb"


def test_voila_shows_the_tuner_and_moves(browser, store, tmp_path, capsys):
    words, notebook = ["voila", NOTEBOOK, "--Voila.ip=127.0.0.1"], tuner_alone(tmp_path)
    with (
        Server(words, tmp_path, store, notebook) as server,
        ExitStack() as stack,
    ):
        # Voilà's own template fetches two style sheets of icons
        page = stack.enter_context(opened(browser, server.url, tmp_path, icons="fontawesome"))
        try_out(page, store.read("verifications"), capsys, "Voilà")
