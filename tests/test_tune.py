"""The tuner: it shows what the functions say, on every engine, wherever the threshold is."""

from __future__ import annotations

import base64
import io
import random
import subprocess
import sys

import duckdb
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image
from worlds import PAGE, engines, frame, messy, row

import verifyanalytics as va
from verifyanalytics import notebooks
from verifyanalytics.errors import MissingColumnError, UsageError

TIES = (0.0, 59.5, 60.0, 65.0, 66.0, 70.0, 77.5, 80.0, 87.69, 95.25, 100.0)
BETWEEN = (12.34, 60.01, 69.99, 70.07, 87.68, 99.99)
ODD = (58.005, 67.333, 78.1, 90.25)  # thresholds off every grid
FUNCTIONS = ("match_rates", "label_free_bounds", "what_if")


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


def part(table, tuner):
    """The rows of a function's frame that the tuner stands at."""
    here = table["regime"] == tuner.regime
    if tuner.segment:
        column, value = tuner.segment
        here &= table[column].astype(str) == value
    if "unit" in table:
        here &= (table["unit"] == "rows") & (table["line"] != "not_needed")
    return table[here].reset_index(drop=True)


def same(mine, theirs, **exact):
    pd.testing.assert_frame_equal(mine, theirs, check_dtype=False, **exact)


# ------------------------------------------------------------------ the numbers


@pytest.mark.parametrize("engine", sorted(engines(V)))
def test_the_numbers_are_those_of_the_functions(engine):
    v = engines(V)[engine]
    tuner = va.tune(v, by=["result", "req_key"])
    n_compared = 0
    for threshold in (*TIES, *BETWEEN, *ODD):
        for column in (None, "result"):
            tables = {name: getattr(va, name)(v, threshold, by=column) for name in FUNCTIONS}
            for regime, segment in tuner._tally.groups:
                if segment.column != (column or ""):
                    continue
                tuner.set(threshold=threshold, regime=regime, segment=segment)
                for name, mine in tuner.tables().items():
                    same(mine, part(tables[name], tuner), check_exact=True)
                n_compared += 1
    assert n_compared > 200


def test_a_part_of_the_regime_is_a_segment_too():
    tuner = va.tune(V, by="req_key", threshold=70.07)
    for regime in tuner._tally.regimes():
        tuner.set(regime=regime, segment=("req_key", regime.split()[0]))
        for name, mine in tuner.tables().items():
            theirs = part(getattr(va, name)(V, 70.07, by="req_key"), tuner)
            same(mine, theirs, check_exact=True)


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


@pytest.mark.parametrize("threshold", [*TIES[:-1], *BETWEEN, ODD[1]])
@pytest.mark.parametrize("cluster", ["subject", "measure_type", None])
def test_error_rates_are_those_of_the_function(threshold, cluster):
    truth = va.join_labels(V, labelled(world()))
    options = {"assume_random": True, "cluster": cluster}
    tuner = va.tune(V, truth, by="req_key", threshold=threshold, **options)
    theirs = va.error_rates(truth, threshold, **options)
    by_key = va.error_rates(truth, threshold, by="req_key", **options)
    for regime, segment in tuner._labelled.groups:
        if regime != "incomplete":
            tuner.set(regime=regime, segment=segment)
            mine = tuner.tables()["error_rates"]
            same(mine, part(by_key if tuner.segment else theirs, tuner), check_exact=True)


def test_error_rates_of_drawn_rows_are_weighted():
    labels = labelled(world())
    rng = random.Random(1)
    labels["inclusion_prob"] = [rng.choice([0.1, 0.4, 1.0]) for _ in range(len(labels))]
    truth = va.join_labels(V, labels)
    tuner = va.tune(V, truth)
    for threshold in (60.0, 70.0, 70.07, 90.0):
        tuner.set(threshold=threshold)
        mine = tuner.tables()["error_rates"]
        assert mine["weighted"].all()
        same(mine, part(va.error_rates(truth, threshold), tuner), rtol=1e-12)


def test_selected_labels_give_no_rate_here_either():
    accepted = V[V["result"].fillna(False).astype(bool)]["request_id"]
    labels = pd.DataFrame(
        {"request_id": accepted, "mated": [i % 5 > 0 for i in range(len(accepted))]}
    )
    tuner = va.tune(V, labels)
    assert tuner.tables()["error_rates"]["fmr"].isna().all()
    assert "looks like a selection" not in tuner._numbers.value
    assert "The labels look like a selection" in tuner._numbers.value


# ------------------------------------------------------------------ what is shown


def test_the_page_shows_the_numbers_in_words():
    v = frame([row(i, score=score) for i, score in enumerate([50.0, 65.0, 75.0, 85.0] * 50)])
    shown = va.tune(v, threshold=80.0)._numbers.value
    for text in (
        "At or above 80",
        "25.00 %",
        "50 / 200",
        "1e-5",
        "would be turned away",
        "50 (25.00 %)",
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
    assert "&lt; 0.015 (one-sided 95 %)" in shown  # 1 − 0.05^(1/200)
    assert "0 of 200" in shown


def orange(png):
    """The columns of a picture in which the moving rule stands, as a share of its width."""
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    rule = (abs(pixels - (0xD5, 0x5E, 0x00)).sum(axis=2) < 40).sum(axis=0)
    return np.flatnonzero(rule > 0.4 * pixels.shape[0]).mean() / pixels.shape[1]


def test_one_figure_is_reused_and_its_rule_moves_with_the_threshold():
    tuner = va.tune(V, threshold=20.0)
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


def test_slider_box_and_lists_move_the_same_threshold():
    tuner = va.tune(V, by="result")
    assert tuner.threshold == PAGE[1]  # where the biggest regime passes today
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


def test_a_segment_that_the_next_regime_lacks_becomes_everyone():
    rows = [row(i, measure_type="a") for i in range(5)]
    rows += [row(9 + i, measure_type="b", thresholds=ODD) for i in range(4)]
    tuner = va.tune(frame(rows), by="measure_type", segment=("measure_type", "a"))
    tuner.set(regime=tuner._regimes.options[1])
    assert tuner.segment is None


@pytest.mark.parametrize("segment", [None, ("result", "False"), ("req_key", "unknown")])
@pytest.mark.parametrize("given", ["truth", "labels", ""])
def test_the_code_gives_the_state(segment, given):
    labels = labelled(world())
    names = {"va": va, "v": V, "labels": labels, "truth": va.join_labels(V, labels)}
    regime = "unknown 60/70/80/90"
    tuner = va.tune(
        V, names.get(given), by=["result", "req_key"], threshold=70.07, regime=regime,
        segment=segment, lang="zh", assume_random=True,
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
    assert len(results) == 3 + (given != "" and segment != ("result", "False"))


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
    again = notebooks.settle(notebooks.run(notebooks.parse(source, "x")))
    assert nbformat.writes(again) == nbformat.writes(ran)
    assert "widget" not in nbformat.writes(ran)


# ------------------------------------------------------------------ nonsense


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"threshold": 70.005}, "0 to 100 in steps of 0.01, or the vendor's own; 70.005"),
        ({"threshold": 101.0}, "0 to 100"),
        ({"threshold": float("nan")}, "0 to 100"),
        ({"regime": "nope"}, "no regime 'nope' with compared answers; there are: "),
        ({"by": "result", "segment": ("result", "nope")}, "no compared answers of"),
        ({"lang": "fr"}, "no language 'fr'"),
        ({"by": "score"}, "segments are made by other columns than score"),
        ({"by": "request_id"}, "request_id has 4"),
    ],
)
def test_nonsense_is_refused(wrong, says):
    with pytest.raises(UsageError, match=says):
        va.tune(V, **wrong)


def test_nothing_compared_is_nothing_to_tune():
    with pytest.raises(UsageError, match="nothing to tune"):
        va.tune(frame([row(0, score=None), row(1, thresholds=(60.0, None, 80.0, 90.0))]))
    with pytest.raises(MissingColumnError, match="alive"):
        va.tune(V.drop(columns="alive"))
