"""Charts: what stands on the Axes is what stands in the frame."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from operator import attrgetter

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from builders.axes import figure_words, words
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

import verifyanalytics as va
from verifyanalytics.charts import panels, style
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS


def answers(n=400, regimes=((60, 70, 80, 90), (62, 72, 82, 92)), seed=3):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "occurred_at": pd.date_range("2024-04-01", periods=n, freq="3h", tz="UTC"),
            "req_key": "cert_pro_src_verify",
            "code": 10000,
            "gateway_code": None,
            "sub_code": np.where(np.arange(n) % 40 == 0, 210311, 0),
            "score": np.where(np.arange(n) % 20 == 0, np.nan, rng.uniform(30, 100, n).round(2)),
            "result": rng.random(n) < 0.8,
            "risk_score": 0,
            "risk_tags": [["14004"] * (i % 7 == 0) + ["99999"] * (i % 50 == 0) for i in range(n)],
            "ctx_channel": np.where(np.arange(n) % 3 == 0, "app$x$", "<b>h5</b>"),
        }
    )
    half = np.arange(n) >= n // 2 if len(regimes) > 1 else np.zeros(n, dtype=bool)
    for name, one, other in zip(THRESHOLD_COLUMNS, regimes[0], regimes[-1], strict=True):
        frame[name] = np.where(half, float(other), float(one))
    return frame


# ------------------------------------------------------------------ data on the Axes


def test_histogram_draws_its_counts_as_density():
    frame = va.scores.histogram(answers(regimes=((60.5, 70, 80, 90),)), bin_width=10)
    ax = va.charts.scores.histogram(frame)
    (bars, _) = [p for p in ax.patches if isinstance(p, StepPatch)]
    heights, edges, _ = bars.get_data()
    np.testing.assert_array_equal(edges[:-1], frame["score_low"])
    np.testing.assert_allclose(heights * np.diff(edges), frame["n"])
    assert 60.5 in edges  # an own threshold splits a bin; the density keeps the heights comparable


def test_each_regime_has_its_panel_and_its_rules():
    axes = va.charts.scores.histogram(va.scores.histogram(answers()))
    assert len(axes) == 2
    for ax, first in zip(axes, (60.0, 62.0), strict=True):
        rules = [line.get_xdata()[0] for line in ax.lines]
        assert rules == [first, first + 10, first + 20, first + 30]
        assert f"1e-3\n{first:g}" in words(ax)


def test_counts_stand_on_every_chart():
    v = answers(regimes=((60, 70, 80, 90),))
    scored, without = int(v["score"].notna().sum()), int(v["score"].isna().sum())
    assert f"n = {scored:,} scored · {without} without score" in words(
        va.charts.scores.histogram(va.scores.histogram(v))
    )
    compared = scored + int((v["sub_code"] == 210311).sum())
    for ax in (
        va.charts.scores.match_rates(va.scores.match_rates(v)),
        va.charts.scores.match_rates(va.scores.match_rates(v, range(50, 100))),
        va.charts.scores.vendor_thresholds(va.scores.vendor_thresholds(v)),
    ):
        assert any(f"n = {compared:,} compared · {without} without score" in w for w in words(ax))
    assert "n = 400 with a risk result · 0 without" in words(va.charts.tags.rates(va.tags.rates(v)))


def test_match_rates_over_scores_draw_line_band_and_rules():
    frame = va.scores.match_rates(answers(regimes=((60, 70, 80, 90),)), range(50, 100))
    ax = va.charts.scores.match_rates(frame)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), frame["threshold"])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), frame["match_rate"])
    (band,) = ax.collections
    ends = band.get_paths()[0].vertices[:, 1]
    assert ends.min() == pytest.approx(frame["match_rate_low"].min())
    assert ends.max() == pytest.approx(frame["match_rate_high"].max())
    assert [line.get_xdata()[0] for line in ax.lines[1:]] == [60, 70, 80, 90]


def test_rates_at_the_vendor_s_levels_share_the_fmr_axis():
    frame = va.scores.match_rates(answers())
    ax = va.charts.scores.match_rates(frame)
    assert ax.get_xscale() == "log"
    assert ax.get_xlim()[0] > ax.get_xlim()[1]  # strict to the right, as scores rise
    assert len(ax.lines) == frame["regime"].nunique() == 2
    for line, (_, part) in zip(ax.lines, frame.groupby("regime"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1e-3, 1e-4, 1e-5, 1e-6])
        np.testing.assert_array_equal(line.get_ydata(), part["match_rate"])


def test_match_rates_over_weeks():
    frame = va.scores.match_rates(answers(), nominal_fmr=[1e-3, 1e-5], every="week")
    ax = va.charts.scores.match_rates(frame)
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert legend == ["FMR 1e-3", "FMR 1e-5"]
    np.testing.assert_array_equal(
        ax.lines[0].get_ydata(), frame.loc[frame["nominal_fmr"] == 1e-3, "match_rate"]
    )
    open_dots = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xdata()) for line in open_dots) == int(frame["partial"].sum()) == 2


def test_vendor_thresholds_step_at_a_change():
    v = answers()
    ax = va.charts.scores.vendor_thresholds(va.scores.vendor_thresholds(v))
    held = sorted(line.get_ydata()[0] for line in ax.lines if len({*line.get_ydata()}) == 1)
    assert held == [60, 62, 70, 72, 80, 82, 90, 92]
    assert any("change of regime 2024-04-26" in w for w in words(ax))
    assert {"1e-3", "1e-4", "1e-5", "1e-6"} <= {*words(ax)}


def test_tag_rates_draw_dots_and_intervals():
    frame = va.tags.rates(answers())
    ax = va.charts.tags.rates(frame)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), frame["tag_rate"])
    (bars,) = ax.collections
    np.testing.assert_allclose(
        [[a[0], b[0]] for a, b in bars.get_segments()], frame[["tag_rate_low", "tag_rate_high"]]
    )
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == [
        "14004  cheating environment (script, emulator)",
        "99999  not in the code book",
    ]
    assert ax.lines[1].get_markerfacecolor() == "white"
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), frame["tag_rate"][~frame["known"]])


def test_tags_over_time_are_a_panel_each_and_say_what_is_left_out():
    frame = va.tags.rates(answers(), every="week")
    ax = va.charts.tags.rates(frame, top=1)
    np.testing.assert_array_equal(
        ax.lines[0].get_ydata(), frame.loc[frame["tag"] == "14004", "tag_rate"]
    )
    assert any("1 rarer tags are not shown" in w for w in figure_words(ax))


def test_a_group_keeps_its_colour_in_every_panel():
    v = answers()
    v.loc[:199, "ctx_channel"] = "<b>h5</b>"  # the first regime lacks the other channel
    axes = va.charts.scores.histogram(va.scores.histogram(v, by="ctx_channel"))
    colours = [
        {p.get_label(): to_hex(p.get_edgecolor()) for p in ax.patches if "channel" in p.get_label()}
        for ax in axes
    ]
    assert set(colours[0]) < set(colours[1])
    assert colours[0].items() <= colours[1].items()


# ------------------------------------------------------------------ languages, fonts, style

CHARTS = {
    "scores.histogram": lambda v: va.scores.histogram(v, by="result"),
    "scores.match_rates": va.scores.match_rates,
    "scores.match_rates of scores": lambda v: va.scores.match_rates(
        v, range(50, 100), by="ctx_channel"
    ),
    "scores.match_rates over time": lambda v: va.scores.match_rates(
        v, nominal_fmr=1e-4, every="week"
    ),
    "scores.vendor_thresholds": lambda v: va.scores.vendor_thresholds(v, every="week"),
    "tags.rates": lambda v: va.tags.rates(v, by="ctx_channel"),
    "tags.rates over time": lambda v: va.tags.rates(v, every="week"),
}


@pytest.mark.parametrize("lang", ["en", "zh", "both"])
@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_draws_in_every_language_without_a_warning(chart, lang):
    if lang != "en" and style.cjk_font() is None:
        pytest.skip("no Chinese font is installed here")
    before = dict(mpl.rcParams)
    axes = attrgetter(chart.split()[0])(va.charts)(CHARTS[chart](answers(120)), lang=lang)
    figure = np.ravel(axes)[0].figure
    with io.BytesIO() as file:
        figure.savefig(file, format="png")  # missing glyphs and failed layouts warn here
    assert dict(mpl.rcParams) == before
    chinese = any("\u4e00" <= c <= "\u9fff" for w in figure_words(np.ravel(axes)[0]) for c in w)
    assert chinese == (lang != "en")
    for label in figure.findobj(mpl.text.Text):
        assert label.get_fontweight() in ("normal", 400)


def overlaps(ax):
    """Pairs of texts of one panel, ticks aside, whose boxes touch."""
    ax.figure.canvas.draw()
    shown = [t for t in [*ax.texts, ax.title] if t.get_text().strip()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in shown]
    return [
        (a, b)
        for i, (a, box) in enumerate(boxes)
        for b, other in boxes[i + 1 :]
        if box.overlaps(other)
    ]


@pytest.mark.parametrize("four", [(60, 70, 80, 90), (70, 71, 72, 73), (10.25, 10.5, 98, 99.5)])
@pytest.mark.parametrize("lang", ["en", "both"])
def test_labels_above_the_axes_never_collide(four, lang):
    if lang != "en" and style.cjk_font() is None:
        pytest.skip("no Chinese font is installed here")
    v = answers(120, regimes=(four, (62, 72, 82, 92)))
    for ax in va.charts.scores.histogram(va.scores.histogram(v), lang=lang):
        assert overlaps(ax) == []


def test_without_a_chinese_font_one_warning_and_english(monkeypatch):
    monkeypatch.setattr(style, "cjk_font", lambda: None)
    style._warn_once.cache_clear()
    frame = va.scores.match_rates(answers(50))
    with pytest.warns(style.MissingFontWarning, match="fonts-wqy-microhei"):
        ax = va.charts.scores.match_rates(frame, lang="zh")
    assert ax.get_ylabel() == "match rate"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        va.charts.scores.match_rates(frame, lang="both")
    style._warn_once.cache_clear()


def test_words_of_the_data_are_no_mathematics():
    frame = va.scores.match_rates(answers(80, regimes=((60, 70, 80, 90),)), by="ctx_channel")
    ax = va.charts.scores.match_rates(frame)
    labels = ax.get_legend().get_texts()
    assert {t.get_text() for t in labels} == {"channel app$x$", "channel <b>h5</b>"}
    assert not any(t.get_parse_math() for t in labels)


def test_import_is_silent_and_light():
    code = (
        "import sys, verifyanalytics as va, verifyanalytics.charts\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib; before = dict(matplotlib.rcParams)\n"
        "va.charts.scores.match_rates\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "va.charts.use_style()\n"
        "assert matplotlib.rcParams['axes.spines.top'] is False\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ------------------------------------------------------------------ refusals and Axes of one's own


def test_draws_on_axes_that_are_given():
    frame = va.scores.match_rates(answers(regimes=((60, 70, 80, 90),)), [70, 80])
    figure, ax = plt.subplots()
    assert va.charts.scores.match_rates(frame, ax=ax) is ax
    assert figure.get_suptitle() == ""


def test_two_regimes_are_not_drawn_on_one_axes():
    _, ax = plt.subplots()
    with pytest.raises(UsageError, match="2 regimes, which are never pooled"):
        va.charts.scores.histogram(va.scores.histogram(answers()), ax=ax)


def test_nothing_to_draw_is_said():
    v = answers(40)
    v["score"] = np.nan
    v["risk_tags"] = None
    v["risk_score"] = None
    empty = {
        "scores.histogram": va.scores.histogram(v),
        "scores.match_rates": va.scores.match_rates(v.iloc[:0]),
        "tags.rates": va.tags.rates(v),
        "scores.vendor_thresholds": va.scores.vendor_thresholds(v.assign(threshold_1e_3=np.nan)),
    }
    for name, frame in empty.items():
        with pytest.raises(UsageError, match="nothing to draw"):
            attrgetter(name)(va.charts)(frame)
    with pytest.raises(UsageError, match="no language 'fr'"):
        va.charts.tags.rates(va.tags.rates(answers(20)), lang="fr")


def test_too_many_groups_are_refused():
    v = answers(60).assign(ctx_shop=[f"shop {i}" for i in range(60)])
    with pytest.raises(UsageError, match="do not fit a chart"):
        va.charts.tags.rates(va.tags.rates(v, by="ctx_shop"))


@pytest.mark.parametrize(
    "chart", [f"{g}.{name}" for g in va.charts.GROUPS for name in getattr(va.charts, g).__all__]
)
def test_a_frame_of_another_kind_is_refused_by_what_it_lacks(chart):
    for frame in (pd.DataFrame(), pd.DataFrame({"request_id": ["a"]})):
        with pytest.raises(MissingColumnError, match="no column "):
            attrgetter(chart)(va.charts)(frame)


def test_more_panels_than_a_figure_holds_are_refused():
    v = answers(90).assign(score=75.0, req_key=[f"key {i % 45}" for i in range(90)])
    frame = va.scores.histogram(v)
    with pytest.raises(UsageError, match="90 regimes do not fit a figure, 40 do; choose some"):
        va.charts.scores.histogram(frame)


def test_a_label_goes_higher_only_where_it_must():
    _, ax = plt.subplots(figsize=(8, 3))
    ax.set_xlim(0, 100)
    assert panels.rules(ax, [20, 50, 80], ["a", "b", "c"]) == 1
    assert panels.rules(ax, [20, 20.5, 80], ["long label", "long label", "c"]) == 2
