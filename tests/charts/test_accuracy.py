"""Charts of labelled errors: what stands on the Axes is what stands in the frame."""

from __future__ import annotations

import io
from operator import attrgetter

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from builders.axes import dots, figure_words, words
from matplotlib import pyplot as plt
from scipy import stats

import verifyanalytics as va
from verifyanalytics.charts import style
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

PAGE, LATER = (60.0, 70.0, 80.0, 90.0), (62.0, 72.0, 82.0, 92.0)


def truth(n=600, regimes=(PAGE,), seed=5):
    """Owners score high, strangers as the vendor claims: a decade every ten points."""
    rng = np.random.default_rng(seed)
    mated = np.arange(n) % 3 > 0
    owners, strangers = rng.normal(78, 12, n), 30 - 10 * np.log10(rng.random(n))
    frame = pd.DataFrame(
        {
            "score": np.round(np.clip(np.where(mated, owners, strangers), 0, 100), 2),
            "mated": pd.array(mated, dtype="boolean"),
            "req_key": "cert_pro_src_verify",
        }
    )
    for i, name in enumerate(THRESHOLD_COLUMNS):
        frame[name] = [regimes[row % len(regimes)][i] for row in range(n)]
    return frame


def line(ax, colour, marker=None):
    (found,) = [
        x for x in ax.lines
        if x.get_color() == colour and x.get_marker() == (marker or "None")
        and len(x.get_xdata()) > 2
    ]  # fmt: skip
    return found


# ------------------------------------------------------------------ DET


def test_the_det_axes_are_normal_deviates_and_reach_the_vendor_s_smallest_claim():
    ax = va.charts.accuracy.det_curve(va.accuracy.det_curve(truth()))
    assert ax.get_xlim()[0] < 1e-6
    places = ax.transData.transform([(x, 0.5) for x in (1e-6, 1e-3, 0.1, 0.5)])[:, 0]
    steps = np.diff(places) / np.diff(stats.norm.ppf([1e-6, 1e-3, 0.1, 0.5]))
    np.testing.assert_allclose(steps, steps[0])
    heights = ax.transData.transform([(0.5, y) for y in (0.01, 0.5, 0.95)])[:, 1]
    rises = np.diff(heights) / np.diff(stats.norm.ppf([0.01, 0.5, 0.95]))
    np.testing.assert_allclose(rises, rises[0])


def test_the_det_curve_is_drawn_where_both_rates_have_a_place():
    frame = va.accuracy.det_curve(truth())
    ax = va.charts.accuracy.det_curve(frame)
    inside = frame[
        (frame["fmr"] > 0) & (frame["fmr"] < 1) & (frame["fnmr"] > 0) & (frame["fnmr"] < 1)
    ]
    drawn = line(ax, style.COLOURS[0])
    kept = ~np.isnan(drawn.get_xdata())
    np.testing.assert_array_equal(drawn.get_xdata()[kept], inside["fmr"])
    np.testing.assert_array_equal(drawn.get_ydata()[kept], inside["fnmr"])


def test_claimed_and_measured_stand_at_each_vendor_threshold():
    v = truth(n=3000, seed=8)
    v["score"] = np.where(
        v["mated"].astype(bool), v["score"], v["score"] + 20
    )  # a hundred times the claim
    ax = va.charts.accuracy.det_curve(va.accuracy.det_curve(v, max_points=9999))  # not thinned
    claimed = [x.get_xydata()[0] for x in ax.lines if x.get_marker() == "D"]
    measured = {tuple(x.get_xydata()[0]): x for x in ax.lines if x.get_marker() in ("o", "<")}
    owners, strangers = v.loc[v["mated"], "score"], v.loc[~v["mated"], "score"]
    assert [x for x, _ in claimed] == [1e-3, 1e-4, 1e-5, 1e-6]
    for (_, y), at, (x, own_y) in zip(claimed, PAGE, measured, strict=True):
        assert y == own_y == pytest.approx(np.clip((owners < at).mean(), 5e-4, 0.985))
        if (strangers >= at).any():
            assert x == pytest.approx((strangers >= at).mean())
            assert measured[x, own_y].get_marker() == "o"
        else:  # nothing found: the one-sided 95 % limit of so many strangers
            assert x == pytest.approx(1 - 0.05 ** (1 / len(strangers)))
            assert measured[x, own_y].get_marker() == "<"


def test_a_triangle_is_explained_only_where_one_is_drawn():
    few = truth(n=60)
    note = (
        "triangles: no false match was found; up to here the sample cannot rule it out (95\u00a0%)"
    )
    assert any(
        note in w for w in figure_words(va.charts.accuracy.det_curve(va.accuracy.det_curve(few)))
    )
    many = truth(n=900)
    many["score"] = np.where(many["mated"].astype(bool), many["score"], many["score"] + 60).clip(
        0, 100
    )
    many.loc[many.index[0], "score"] = 95.0
    assert not any(
        note in w for w in figure_words(va.charts.accuracy.det_curve(va.accuracy.det_curve(many)))
    )


# ------------------------------------------------------------------ error rates by threshold


def test_error_rates_are_lines_bands_and_claims():
    frame = va.accuracy.error_rates(truth(), thresholds=[55, 60, 65, 70, 80])
    ax = va.charts.accuracy.error_rates(frame)
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < 1e-6
    for name, colour, collection in zip(
        ("fmr", "fnmr"), (style.COLOURS[1], style.COLOURS[0]), ax.collections, strict=True
    ):
        drawn = line(ax, colour, "o")
        np.testing.assert_array_equal(drawn.get_xdata(), frame["threshold"])
        np.testing.assert_array_equal(drawn.get_ydata(), frame[name].where(frame[name] > 0))
        top = collection.get_paths()[0].vertices[:, 1].max()
        assert top == pytest.approx(frame[f"{name}_high"].max())
    claims = line(ax, style.GREY, "D")
    np.testing.assert_array_equal(claims.get_xdata(), [60, 70, 80])
    np.testing.assert_array_equal(claims.get_ydata(), [1e-3, 1e-4, 1e-5])
    assert {"1e-3\n60", "1e-4\n70", "1e-5\n80"} <= {*words(ax)}


def test_each_regime_has_its_panel_and_its_counts():
    axes = va.charts.accuracy.error_rates(va.accuracy.error_rates(truth(regimes=(PAGE, LATER))))
    assert len(axes) == 2
    for ax, first in zip(axes, (60.0, 62.0), strict=True):
        assert ax.get_xlim()[0] == first
        assert "n = 200 mated · 100 non-mated" in words(ax)


# ------------------------------------------------------------------ operating points


def test_operating_points_are_dots_limits_targets_and_thresholds():
    frame = va.accuracy.operating_points(truth(), fmr=[0.05, 1e-6], eer=True)
    ax = va.charts.accuracy.operating_points(frame)
    some = frame["n_false_matches"] > 0
    drawn = {c: [x for x, _, own, _ in dots(ax) if own == c] for c in style.COLOURS[:2]}
    np.testing.assert_array_equal(drawn[style.COLOURS[1]], frame.loc[some, "fmr"])
    np.testing.assert_array_equal(drawn[style.COLOURS[0]], frame["fnmr"])
    (none,) = [x for x in ax.lines if x.get_marker() == "<" and x.get_color() == style.COLOURS[1]]
    np.testing.assert_array_equal(none.get_xdata(), frame.loc[~some, "fmr_guard"])
    (targets,) = [x for x in ax.lines if x.get_marker() == "|"]
    np.testing.assert_array_equal(targets.get_xdata(), [0.05, 1e-6, np.nan])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["fmr ≤ 0.05", "fmr ≤ 1e-6", "EER"]
    assert [f"≥ {t:g}" for t in frame["threshold"]] == [w for w in words(ax) if w[:1] == "≥"]


def test_operating_points_explain_triangles_only_where_one_is_drawn():
    told = "triangles: no such error was found"
    frame = va.accuracy.operating_points(truth(), fmr=[0.05, 1e-6])
    assert any(told in w for w in figure_words(va.charts.accuracy.operating_points(frame)))
    some = frame[(frame["n_false_matches"] > 0) & (frame["n_false_nonmatches"] > 0)]
    assert len(some)
    assert not any(told in w for w in figure_words(va.charts.accuracy.operating_points(some)))


def test_a_rule_that_no_threshold_meets_keeps_an_empty_row():
    frame = va.accuracy.operating_points(truth(n=90), fmr=0.01, assured=0.95)
    assert frame["threshold"].isna().tolist() == [False, True]
    ax = va.charts.accuracy.operating_points(frame)
    assert "–" in words(ax)
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == ["fmr ≤ 0.01", "fmr ≤ 0.01, assured 95\u00a0%"]


# ------------------------------------------------------------------ languages and refusals

CHARTS = {
    "accuracy.det_curve": va.accuracy.det_curve,
    "accuracy.error_rates": va.accuracy.error_rates,
    "accuracy.error_rates at scores": lambda t: va.accuracy.error_rates(
        t, thresholds=range(50, 100, 5)
    ),
    "accuracy.operating_points": lambda t: va.accuracy.operating_points(
        t, fmr=[0.1, 1e-3], assured=0.9, eer=True
    ),
}


@pytest.mark.parametrize("lang", ["en", "zh", "both"])
@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_draws_in_every_language_without_a_warning(chart, lang):
    if lang != "en" and style.cjk_font() is None:
        pytest.skip("no Chinese font is installed here")
    before = dict(mpl.rcParams)
    frame = CHARTS[chart](truth(300, regimes=(PAGE, LATER)))
    axes = attrgetter(chart.split()[0])(va.charts)(frame, lang=lang)
    figure = np.ravel(axes)[0].figure
    with io.BytesIO() as file:
        figure.savefig(file, format="png")  # missing glyphs and failed layouts warn here
    assert dict(mpl.rcParams) == before
    chinese = any("\u4e00" <= c <= "\u9fff" for w in figure_words(np.ravel(axes)[0]) for c in w)
    assert chinese == (lang != "en")
    assert all(t.get_fontweight() in ("normal", 400) for t in figure.findobj(mpl.text.Text))


def test_what_the_rates_rest_on_is_written_below():
    v = truth(200)
    v.loc[v["score"] > 80, "mated"] = None  # a band without a label
    ax = va.charts.accuracy.error_rates(va.accuracy.error_rates(v, assume_random=True))
    assert any("labels taken as random" in w for w in figure_words(ax))
    v = truth(200).assign(inclusion_prob=[0.5, 0.25] * 100)
    ax = va.charts.accuracy.error_rates(va.accuracy.error_rates(v))
    assert any("rows weighted by the probability" in w for w in figure_words(ax))


def test_regimes_without_a_rate_are_named():
    v = truth(400, regimes=(PAGE, LATER))
    v.loc[v["threshold_1e_3"] == 62.0, "mated"] = None
    ax = va.charts.accuracy.error_rates(va.accuracy.error_rates(v))
    assert any("no rate is given for: cert_pro_src_verify 62" in w for w in figure_words(ax))


def test_axes_of_one_s_own_get_the_legend():
    _, ax = plt.subplots()
    frame = va.accuracy.error_rates(truth())
    assert va.charts.accuracy.error_rates(frame, ax=ax) is ax
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert legend == [
        "FMR: strangers who match", "FNMR: owners turned away", "the vendor's claim",
    ]  # fmt: skip
    assert ax.figure.get_suptitle() == ""


def test_nothing_to_draw_is_said_with_the_reason():
    v = truth(200)
    v.loc[v["score"] > 80, "mated"] = None
    for name, frame in (
        ("accuracy.error_rates", va.accuracy.error_rates(v)),
        ("accuracy.det_curve", va.accuracy.det_curve(v)),
        ("accuracy.operating_points", va.accuracy.operating_points(v, eer=True)),
    ):
        with pytest.raises(UsageError, match=r"\(selected_labels\); nothing to draw"):
            attrgetter(name)(va.charts)(frame)
    split = truth().assign(ctx_channel="app")
    with pytest.raises(UsageError, match="split by ctx_channel: choose one group"):
        va.charts.accuracy.error_rates(va.accuracy.error_rates(split, by="ctx_channel"))
    _, ax = plt.subplots()
    with pytest.raises(UsageError, match="2 regimes, which are never pooled"):
        va.charts.accuracy.det_curve(va.accuracy.det_curve(truth(regimes=(PAGE, LATER))), ax=ax)
