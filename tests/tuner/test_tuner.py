"""The tuner: it shows what the functions say, on every engine, wherever the threshold is."""

from __future__ import annotations

import base64
import collections
import dataclasses
import io
import random
import re
import subprocess
import sys

import duckdb
import nbformat
import numpy as np
import pandas as pd
import pytest
from builders.frames import engines, frame, is_scored, messy, regime, rising, row
from matplotlib import pyplot as plt
from PIL import Image

import verifyanalytics as va
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.notebooks import build as notebooks
from verifyanalytics.tuner.counts import Segment, Tally
from verifyanalytics.tuner.labelled_counts import LabelledTally
from verifyanalytics.tuner.tuner import Tuner

TIES = (0.0, 60.0, 66.0, 70.0, 87.69, 100.0)
BETWEEN = (12.34, 69.99, 70.07)
ODD = (58.005, 67.333, 78.1, 90.25)  # thresholds off every grid
RISING = sorted((*TIES, *BETWEEN, *ODD[:2]))


def world(n=400, seed=3):
    """Everything the vendor sends, with scores of many digits, and thresholds off the grid."""
    rng = random.Random(seed)
    rows = messy(n, seed)
    for i in range(150):
        score = rng.choice([58.005, 67.333, 67.34, 70.07, rng.uniform(40, 100), None])
        sub = 210311 if score is None and i % 2 else 0
        rows.append(
            row(
                n + i, thresholds=ODD, score=score, sub_code=sub, alive=rng.choice([True, None]),
                result=rng.choice([True, False]), subject=f"s{i % 40}",
            )
        )  # fmt: skip
    return rows


V = frame(world())


@pytest.fixture(autouse=True)
def _figures():
    yield
    plt.close("all")


def at(table, regime, segment):
    """The rows of a function's frame for a regime and segment."""
    here = table["regime"] == regime
    if segment.column:
        here &= table[segment.column].map(str) == segment.value
    if "unit" in table:
        here &= (table["unit"] == "rows") & (table["line"] != "not_needed")
    return table[here].reset_index(drop=True)


def same(mine, theirs, **exact):
    pd.testing.assert_frame_equal(mine, theirs, check_dtype=False, **exact)


def stacked(tables):
    return pd.concat(tables, ignore_index=True)


# ------------------------------------------------------------------ the numbers


@pytest.fixture(scope="module")
def tally():
    return Tally(V, ["result", "req_key", "risk_score"])


@pytest.mark.parametrize("column", ["", "result", "req_key"])
def test_the_numbers_are_those_of_the_functions(tally, column):
    by = column or None
    thresholds = [0.0, 67.333, 70.07, 87.69] if column else RISING
    alone = V.drop(columns="subject")  # rows, without sessions, are what the tuner shows
    theirs = {
        "match_rates": va.scores.match_rates(V, thresholds, by=by),
        "label_free": va.bounds.label_free(V, thresholds, by=by),
        "what_if": stacked([va.scores.what_if(alone, t, by=by) for t in thresholds]),
    }
    groups = [(r, s) for r, s in tally.groups if s.column == column]
    assert len(groups) >= 7
    for where, segment in groups:
        for name, table in theirs.items():
            answer = getattr(tally, name)
            mine = stacked([answer(where, segment, t) for t in thresholds])
            wanted = at(table, where, segment).sort_values("threshold", kind="stable")
            same(mine, wanted.reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize("engine", sorted(engines(V)))
def test_every_engine_counts_the_same(tally, engine):
    found = Tally(engines(V)[engine], ["result", "req_key", "risk_score"])
    assert found.groups.keys() == tally.groups.keys()
    for key, group in tally.groups.items():
        for field in dataclasses.fields(group):
            mine, theirs = getattr(found.groups[key], field.name), getattr(group, field.name)
            mine, theirs = (str(x) if x is pd.NA else x for x in (mine, theirs))
            np.testing.assert_array_equal(mine, theirs, err_msg=f"{key} {field.name}")
        same(found.histogram(*key), tally.histogram(*key), check_exact=True)


def test_a_segment_without_a_score_is_not_offered():
    rows = [row(i, measure_type="a") for i in range(5)]
    rows += [row(5 + i, measure_type="b", score=None, sub_code=210311) for i in range(3)]
    tuner = va.tune(frame(rows), by="measure_type", threshold=0.0)
    assert [s.value for _, s in tuner._segments.options] == ["", "a"]
    assert tuner.tables()["match_rates"]["match_rate"].tolist() == [5 / 8]  # but it is counted


def test_what_is_shown_is_what_was_counted(tuner):
    regime, segment = "unknown 60/70/80/90", Segment("result", "False")
    tuner.set(threshold=70.07, regime=regime, segment=segment)
    for name, mine in tuner.tables().items():
        same(mine, getattr(tuner._tally, name)(regime, segment, 70.07), check_exact=True)


@pytest.fixture
def tuner(tally):
    made = Tuner(tally, None, "", ["result", "req_key"], {})
    made.set()
    return made


# ------------------------------------------------------------------ labels


def labelled(rows, share=0.8, seed=5):
    rng = random.Random(seed)
    chosen = [r for r in rows if rng.random() < share]
    return pd.DataFrame(
        {
            "request_id": [r["request_id"] for r in chosen],
            "mated": [rng.random() < 0.6 for _ in chosen],
            "attack": [rng.choice([None] * 9 + ["screen"]) for _ in chosen],
        }
    )


LABELS = labelled(world())


def hold_error_rates(truth, by, options, **how):
    """Hold the tuner's error rates against the function's, everywhere; return a row of them."""
    tally = LabelledTally(truth, [by] if by else [], **options)
    groups = [(r, s) for r, s in tally.groups if s.column == (by or "") and r != "incomplete"]
    theirs = va.accuracy.error_rates(truth, RISING, by=by, **options)
    for where, segment in groups:
        mine = stacked([tally.error_rates(where, segment, t) for t in RISING])
        wanted = at(theirs, where, segment).sort_values("threshold", kind="stable")
        same(mine, wanted.reset_index(drop=True), **how)
    assert len(groups) >= 7
    return mine


@pytest.mark.parametrize(
    ("cluster", "by"),
    [("subject", None), ("subject", "req_key"), ("measure_type", None), (None, None)],
)
def test_error_rates_are_those_of_the_function(cluster, by):
    truth = va.labels.join(V, LABELS)
    options = {"assume_random": True, "cluster": cluster}
    hold_error_rates(truth, by, options, check_exact=True)


@pytest.mark.parametrize(
    ("chances", "weighted"), [([0.1, 0.4, 1.0], True), ([0.25], False)], ids=["unequal", "equal"]
)
def test_error_rates_are_weighted_where_rows_were_drawn_unequally(chances, weighted):
    rng = random.Random(1)
    labels = LABELS.assign(inclusion_prob=[rng.choice(chances) for _ in range(len(LABELS))])
    some = hold_error_rates(va.labels.join(V, labels), None, {}, rtol=1e-12)
    assert (some["weighted"] == weighted).all()


def test_selected_labels_give_no_rate_here_either():
    accepted = V[V["result"].fillna(False).astype(bool)]["request_id"]
    labels = pd.DataFrame(
        {"request_id": accepted, "mated": [i % 5 > 0 for i in range(len(accepted))]}
    )
    tuner = va.tune(V, labels)
    assert tuner.tables()["error_rates"]["fmr"].isna().all()
    assert "looks like a selection" not in tuner._numbers.value
    assert "The labels look like a selection" in tuner._numbers.value


def test_rates_that_counts_do_not_give_are_said_to_be_weighted():
    labels = LABELS.assign(inclusion_prob=[0.1 + 0.9 * (i % 2) for i in range(len(LABELS))])
    assert "Weighted by how likely" in va.tune(V, labels)._numbers.value
    assert "Weighted" not in va.tune(V, LABELS, assume_random=True)._numbers.value


def test_labels_of_one_class_are_said_and_asked_for_no_rate():
    labels = pd.DataFrame({"request_id": V["request_id"], "mated": True})
    tuner = va.tune(V, labels)
    assert "One of the two classes has no label." in tuner._numbers.value
    assert "error_rates" not in tuner.code  # it would refuse


# ------------------------------------------------------------------ what is shown


def test_the_page_shows_the_numbers_in_words():
    v = frame([row(i, score=score) for i, score in enumerate([50.0, 65.0, 75.0, 85.0] * 50)])
    shown = va.tune(v, threshold=80.0)._numbers.value
    for text in (
        "At or above 80",
        "25.00\u00a0%",
        "50 / 200",
        "1e-5",
        "would be turned away",
        "50 (25.00\u00a0%)",
    ):
        assert text in shown
    chinese = va.tune(v, threshold=80.0, lang="zh")
    assert "分数 ≥ 80" in chinese._numbers.value
    assert chinese._slider.description == "阈值"


def test_what_the_data_say_is_escaped():
    bad = "<script>alert(1)</script>"
    v = frame([row(i, req_key=bad, measure_type=bad) for i in range(9)])
    tuner = va.tune(v, by="measure_type", segment=("measure_type", bad))
    assert "<script" not in tuner._numbers.value
    assert bad in tuner.code


def test_no_false_match_is_a_bound_and_never_zero():
    rows = [row(i, score=95.0 if i % 2 else 20.0, subject=f"s{i}") for i in range(400)]
    labels = pd.DataFrame(
        {"request_id": [r["request_id"] for r in rows], "mated": [i % 2 == 1 for i in range(400)]}
    )
    shown = va.tune(frame(rows), labels)._numbers.value
    assert "&lt; 0.015 (one-sided 95\u00a0%)" in shown  # 1 − 0.05^(1/200)
    assert "0 of 200" in shown


def orange(png):
    """The columns of a picture in which the moving rule stands, as a share of its width."""
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    rule = (abs(pixels - (0xD5, 0x5E, 0x00)).sum(axis=2) < 40).sum(axis=0)
    return np.flatnonzero(rule > 0.4 * pixels.shape[0]).mean() / pixels.shape[1]


def test_one_figure_is_reused_and_its_rule_moves_with_the_threshold(tuner):
    tuner.set(threshold=20.0)
    figure = tuner._picture.figure
    places = []
    for threshold in (20.0, 40.0, 80.0):
        tuner.set(threshold=threshold)
        places.append(orange(tuner.png()))
    assert tuner._picture.figure is figure
    assert places[2] - places[1] == pytest.approx(2 * (places[1] - places[0]), abs=0.005)
    left, right = tuner._picture.figure.axes[0].get_position().intervalx
    assert places[0] == pytest.approx(left + 0.2 * (right - left), abs=0.005)
    tuner.set(threshold=20.0)
    assert orange(tuner.png()) == places[0]  # nothing stays behind


def test_a_move_needs_no_data():
    connection = duckdb.connect()
    tuner = va.tune(connection.from_arrow(engines(V)["arrow"]), by="req_key")
    connection.close()
    before = tuner._numbers.value
    tuner.set(threshold=88.0)
    tuner._regimes.value = tuner._regimes.options[1]
    assert tuner._numbers.value != before


# ------------------------------------------------------------------ controls


def test_it_begins_where_the_biggest_regime_passes_today(tuner):
    rows = [r for r in world() if is_scored(r)]
    sizes = collections.Counter(regime(r) for r in rows if rising(r))
    ((biggest, _),) = sizes.most_common(1)
    (own,) = {r["threshold_1e_4"] for r in rows if regime(r) == biggest}
    assert (tuner.regime, tuner.threshold) == (biggest, own)


def test_slider_box_and_lists_move_the_same_threshold(tuner):
    tuner._slider.value = 75.5
    assert (tuner.threshold, tuner._box.value) == (75.5, 75.5)
    tuner._box.value = 71.37
    assert (tuner.threshold, tuner._slider.value) == (71.37, 71.5)  # the slider stands on a step
    tuner._box.value = 71.374999
    assert tuner.threshold == 71.37
    tuner._segments.value = next(s for _, s in tuner._segments.options if s.value == "True")
    assert tuner.segment == ("result", "True")
    other = tuner._regimes.options[1]
    tuner._regimes.value = other
    assert (tuner.regime, tuner.threshold) == (other, 71.37)
    tuner._languages.value = "zh"
    assert tuner.lang == "zh"
    assert tuner._regimes.description == "阈值组"
    tuner._slider.value = 0.0  # the lowest threshold is one too
    tuner._regimes.value = tuner._regimes.options[0]
    assert tuner.threshold == 0.0


def test_a_segment_that_the_next_regime_lacks_becomes_everyone():
    rows = [row(i, measure_type="a") for i in range(5)]
    rows += [row(9 + i, measure_type="b", thresholds=ODD) for i in range(4)]
    tuner = va.tune(frame(rows), by="measure_type", segment=("measure_type", "a"))
    tuner.set(regime=tuner._regimes.options[1])
    assert tuner.segment is None


@pytest.mark.parametrize(
    ("segment", "given"),
    [
        (None, "truth"),
        (("result", "<NA>"), "labels"),
        (("req_key", "unknown"), ""),
    ],
)
def test_the_code_gives_the_state(segment, given):
    names = {"va": va, "v": V, "labels": LABELS, "truth": va.labels.join(V, LABELS)}
    tuner = va.tune(
        V, names.get(given), by=segment[:1] if segment else (), threshold=70.07,
        regime="unknown 60/70/80/90", segment=segment, lang="zh", assume_random=True,
    )  # fmt: skip
    results = []
    for line in tuner.code.splitlines():
        if line.startswith(("here(", "va.tune(")):
            results.append(eval(line, names))
        else:
            exec(line, names)
    again = results.pop()
    assert again.code == tuner.code
    for mine, theirs in zip(tuner.tables().values(), results, strict=False):
        if not mine.empty:
            if "unit" in theirs:
                kept = theirs[(theirs["unit"] == "rows") & (theirs["line"] != "not_needed")]
            else:
                kept = theirs
            same(mine, kept.reset_index(drop=True), check_exact=True)
    assert len(results) == 3 + (given != "" and segment != ("result", "<NA>"))


# ------------------------------------------------------------------ without a front end


def test_it_is_a_picture_where_nothing_can_move():
    bundle = va.tune(V, threshold=70.07)._repr_mimebundle_()
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as image:
        assert image.width > 900
    assert bundle["text/plain"].startswith("At or above 70.07\n  match rate: ")
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_plain_script_has_one_figure_to_show():
    program = (
        "import pandas as pd, verifyanalytics as va; from matplotlib import pyplot as plt\n"
        "v = pd.DataFrame({'code': 10000, 'sub_code': 0, 'score': [50.0, 75.0], 'alive': True,\n"
        "    'result': True, 'threshold_1e_3': 60, 'threshold_1e_4': 70, 'threshold_1e_5': 80,\n"
        "    'threshold_1e_6': 90})\n"
        "va.tune(v); va.tune(v, threshold=60.0)\n"
        "print(len(plt.get_fignums()), len(plt.gcf().axes[0].patches) > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("1 True\n", "")


def test_a_notebook_that_a_program_runs_keeps_the_picture_and_no_control():
    source = (
        "# %%\nimport pandas as pd, verifyanalytics as va\n"
        "v = pd.DataFrame({'code': 10000, 'sub_code': 0, 'score': [50.0, 75.0], 'alive': True,\n"
        "    'result': True, 'threshold_1e_3': 60, 'threshold_1e_4': 70, 'threshold_1e_5': 80,\n"
        "    'threshold_1e_6': 90})\nva.tune(v)\n"
    )
    ran = notebooks.settle(notebooks.run(notebooks.parse(source, "x")))
    (output,) = ran.cells[0].outputs
    assert sorted(output.data) == ["image/png", "text/plain"]
    assert "widget" not in nbformat.writes(ran)


@pytest.mark.parametrize(("lang", "sign"), [("en", "\u00a0%"), ("zh", "%"), ("both", "\u00a0%")])
def test_per_cent_is_written_as_the_language_does(tuner, lang, sign):
    tuner.set(lang=lang)
    text = tuner._repr_mimebundle_()["text/plain"]
    shares = re.findall(r"\d\.\d\d(\s?%)", text)
    assert shares
    assert {*shares} == {sign}


# ------------------------------------------------------------------ nonsense


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"threshold": 70.005}, "0 to 100 in steps of 0.01, or the vendor's own; 70.005"),
        ({"threshold": 101.0}, "0 to 100"),
        ({"threshold": float("nan")}, "threshold must be a finite number; nan was given"),
        ({"threshold": "abc"}, "threshold must be a finite number; 'abc' was given"),
        ({"threshold": "70"}, "threshold must be a finite number; '70' was given"),
        ({"threshold": True}, "threshold must be a finite number; True was given"),
        ({"threshold": [70, 80]}, "threshold must be a finite number"),
        ({"regime": "nope"}, "no regime 'nope' with a score; there are: "),
        ({"segment": ("result", "nope")}, "no score of .'result', 'nope'. in regime"),
        ({"segment": "app"}, "a segment is .column, value., as .'ctx_channel', 'app'., not 'app'"),
        ({"lang": "fr"}, "no language 'fr'"),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(tuner, wrong, says):
    before = tuner.code
    with pytest.raises(UsageError, match=says):
        tuner.set(**wrong)
    assert tuner.code == before


@pytest.mark.parametrize(
    ("by", "says"),
    [
        ("score", "segments are made by other columns than score"),
        ("request_id", "request_id has more values than a list takes: 60"),
    ],
)
def test_columns_that_make_no_segments_are_refused(by, says):
    with pytest.raises(UsageError, match=says):
        va.tune(V, by=by)


def test_nothing_compared_is_nothing_to_tune():
    rows = [row(0, score=None), row(1, thresholds=(60.0, None, 80.0, 90.0))]
    with pytest.raises(UsageError, match="nothing to tune"):
        va.tune(frame([*rows, row(2, score=None, sub_code=210311)]))
    with pytest.raises(MissingColumnError, match="alive"):
        va.tune(V.drop(columns="alive"))
