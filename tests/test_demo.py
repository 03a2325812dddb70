"""The demos: one run of the sample seen from every side, and both bills of the live demo."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
from contextlib import redirect_stdout

import pytest
from PIL import Image

import verifyanalytics as va
from verifyanalytics import demo
from verifyanalytics.cli import app as cli
from verifyanalytics.errors import UsageError

pytestmark = pytest.mark.second_tier


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The verb run once, over an earlier demo: what it made, and what it printed."""
    out, run, kept = tmp_path_factory.mktemp("demo") / "out", demo.run_demo, []

    def kept_demo(*args, **options):
        kept.append(run(*args, **options))
        return kept[0]

    demo.prepare(out)
    (out / "left over").touch()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr(demo, "run_demo", kept_demo)
        assert cli.main(["demo", "--out", str(out)]) == 0
    return kept[0], printed.getvalue()


@pytest.fixture(scope="module")
def made(ran) -> demo.Demo:
    return ran[0]


def test_the_sample_adds_up_as_its_readme_says(made):
    summary = made.imported
    assert (summary.read, summary.added, summary.known, summary.rejected) == (20000, 19880, 40, 80)
    assert va.Store(made.store).check(deep=True) == []


def test_the_summary_counts_what_the_tables_count(made):
    asked = va.Store(made.store).sql(
        "select count(*) filter (result) as accepted, count(result) as decided from verifications"
    )
    verdicts = made.tables["The vendor's verdict"]
    assert verdicts["n_accepted"].sum() == asked["accepted"][0]
    assert verdicts["n_decided"].sum() == asked["decided"][0]
    gates = made.tables["The first gate that failed, and the verdict"]
    assert gates["n_rows"].sum() == 19880
    tags = made.tables["Most frequent risk tags"]
    counted = va.Store(made.store).sql(
        "select tag, count(distinct request_id) as n from risk_tags group by tag order by n desc"
    )
    assert list(tags["n_tag"]) == list(counted["n"].head(len(tags)))


def test_the_charts_are_pictures_with_something_on_them(made):
    assert [path.name for path in made.charts] == [
        "score_histogram.png",
        "match_rates.png",
        "vendor_thresholds.png",
        "tag_rates.png",
    ]
    for path in made.charts:
        with Image.open(path) as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("L").getcolors()) > 10


def test_the_page_asks_nobody_for_anything(made):
    html = made.page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "default-src 'none'" in html
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert not re.search(r"@import|url\((?!data:|[\"']?data:)", html)
    assert html.count("data:image/png") >= 2


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="holds something else than a demo"):
        va.run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert cli.main(["demo", "--out", str(tmp_path / "thesis.txt")]) == 2


def test_the_verb_replaces_an_earlier_demo_and_says_where_things_are(ran):
    made, out = ran
    assert out.startswith("read 20 000 = added 19 880 + known 40 + rejected 80")
    for name in ("Most frequent risk tags", "first_look.html", "score_histogram.png", "store"):
        assert name in out
    assert made.page.exists()
    assert not (made.out / "left over").exists()
    command = shlex.split(out.rstrip().rsplit("\n", 1)[1])
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "request_id" in run.stdout


def test_collector_and_vendor_of_the_live_demo_agree(tmp_path):
    live = demo.run_live_demo(tmp_path, n=120, seed=3)
    told = live.bill.set_index("count")
    assert told.loc["calls processed", "collector"] == told.loc["calls processed", "vendor"]
    assert told.loc["processed more than once", "vendor"] == 0
    assert told.loc["rows in the store", "collector"] == told.loc["rows in the store", "vendor"]
    gap = told.loc["units billed", "vendor"] - told.loc["units billed", "collector"]
    assert 0 <= gap <= told.loc["calls whose billing is unknown", "collector"]
    assert live.collected.states["IN_DOUBT"] > 0
    assert live.resolved.exit_code == 0
