"""Charts of tags, quality and drift: what stands on the Axes is what stands in the frame."""

from __future__ import annotations

import io
from operator import attrgetter

import numpy as np
import pandas as pd
import pytest
from builders.axes import dots, intervals
from matplotlib import pyplot as plt

import verifyanalytics as va
from verifyanalytics.charts import style
from verifyanalytics.errors import UsageError
from verifyanalytics.simulator import Simulation, World

SIMULATION = Simulation(4000, seed=5, world=World(days=56, drift_week=2, drift_points=12))


@pytest.fixture(scope="module")
def frames():
    v = SIMULATION.verifications
    truth = va.labels.join(v, SIMULATION.labels)
    scores = va.tags.scores(v)
    half = len(v) // 4
    return {
        "tags.lift": va.tags.lift(truth, "attack"),
        "tags.pairs": va.tags.pairs(v),
        "tags.catch": va.tags.catch(v, "rejected"),
        "tags.risk_bands": va.tags.risk_bands(v),
        "tags.scores": scores[scores["regime"] == "cert_pro_src_verify 60/70/80/90"],
        "quality.limits": va.quality.limits(v),
        "quality.bands": va.quality.bands(v, "brightness"),
        "quality.error_versus_discard": va.quality.error_versus_discard(v),
        "quality.coaching": va.quality.coaching(v),
        "quality.face_vs_environment": va.quality.face_vs_environment(v),
        "stability.drift": va.stability.drift(v.iloc[:half], v.iloc[half : 2 * half]),
        "stability.over_time": va.stability.over_time(v, columns="score"),
        "regime_changes": va.stability.regime_changes(v),
    }


CHARTS = [
    *(f"tags.{name}" for name in ("lift", "pairs", "catch", "risk_bands", "scores")),
    *(f"quality.{name}" for name in va.quality.__all__),
    "stability.drift",
    "stability.over_time",
]


def words(axes):
    figure = np.ravel(axes)[0].figure
    return " ".join(t.get_text() for t in figure.findobj(plt.Text))


# ------------------------------------------------------------------ every chart, every language


@pytest.mark.parametrize("lang", ["en", "zh", "both"])
@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_drawn_in_every_language_without_a_warning(frames, name, lang):
    if lang != "en" and style.cjk_font() is None:
        pytest.skip("no font with Chinese characters is installed")
    before = dict(plt.rcParams)
    more = {"events": frames["regime_changes"]} if name == "stability.over_time" else {}
    axes = attrgetter(name)(va.charts)(frames[name], lang=lang, **more)
    np.ravel(axes)[0].figure.savefig(io.BytesIO(), dpi=50)  # a missing glyph is a warning here
    assert dict(plt.rcParams) == before
    text = words(axes)
    assert any("一" <= c <= "鿿" for c in text) == (lang != "en")
    assert ("n = " in text) or name in ("stability.over_time", "quality.bands", "quality.limits")


@pytest.mark.parametrize("name", CHARTS)
def test_nothing_to_draw_is_told(frames, name):
    frame = frames[name]
    empty = frame.assign(**dict.fromkeys(frame.select_dtypes("number").columns, 0)).iloc[:0]
    if name == "tags.risk_bands":
        empty = frame.assign(n=0)
    with pytest.raises(UsageError):
        attrgetter(name)(va.charts)(empty)


# ------------------------------------------------------------------ what stands on the Axes


def test_lift_stands_on_a_log2_axis_in_the_frames_order(frames):
    frame = frames["tags.lift"]
    ax = va.charts.tags.lift(frame)
    held = frame[frame["lift"].notna()].head(20)
    assert ax.get_xscale() == "log"
    assert [t.get_text()[:5] for t in ax.get_yticklabels()] == held["tag"].tolist()
    shown = held[held["lift_low"] >= ax.get_xlim()[0]]
    assert [value for value, *_ in dots(ax)] == pytest.approx(shown["lift"].tolist())
    assert [filled for *_, filled in dots(ax)] == shown["significant"].tolist()
    for (_, high), row in zip(intervals(ax), held.itertuples(), strict=True):
        assert high == pytest.approx(min(row.lift_high, ax.get_xlim()[1]))
    assert "labelled" in words(ax)


def test_the_matrix_holds_phi_and_the_rows_with_both(frames):
    ax = va.charts.tags.pairs(frames["tags.pairs"])
    columns = [t.get_text() for t in ax.get_xticklabels()]
    rows = [t.get_text()[:5] for t in ax.get_yticklabels()]
    told = {}
    for cell in ax.texts:
        if "\n" in cell.get_text():
            x, y = cell.get_position()
            told[rows[round(y)], columns[round(x)]] = cell.get_text()
    for row in frames["tags.pairs"].itertuples():
        text = told.get((row.tag_a, row.tag_b)) or told[row.tag_b, row.tag_a]
        phi, n = text.split("\n")
        assert float(phi) == pytest.approx(row.phi, abs=0.0051)
        assert int(n.replace(",", "")) == row.n_both


def test_catch_rises_step_by_step_and_says_that_it_is_circular(frames):
    frame = frames["tags.catch"]
    ax = va.charts.tags.catch(frame)
    bars = ax.containers[0]
    assert [b.get_x() + b.get_width() for b in bars] == pytest.approx(frame["catch_rate"].tolist())
    assert "circular" in words(ax)
    assert f"+{frame['n_new_outcome'].iloc[0]:,} / {frame['n_new_hits'].iloc[0]:,}" in words(ax)


def test_bands_of_the_risk_score_and_its_direction(frames):
    frame = frames["tags.risk_bands"]
    ax = va.charts.tags.risk_bands(frame)
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    assert dots.get_ydata().tolist() == pytest.approx(frame["outcome_rate"].tolist(), nan_ok=True)
    assert f"AUC {frame['auc'].iloc[0]:.3f}" in words(ax)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_where_all_rows_have_one_outcome_the_direction_is_not_known(lang):
    if lang != "en" and style.cjk_font() is None:
        pytest.skip("no font with Chinese characters is installed")
    v = SIMULATION.verifications.head(60).assign(failed=True, risk_score=[0, 400] * 30)
    said = words(va.charts.tags.risk_bands(va.tags.risk_bands(v, outcome="failed"), lang=lang))
    assert {"en": "unknown, since all rows", "zh": "未知（全部应答"}[lang] in said
    assert "nan" not in said


def test_no_band_at_all_is_said(frames):
    with pytest.raises(UsageError, match="nothing to draw"):
        va.charts.tags.risk_bands(frames["tags.risk_bands"].head(0))


def test_scores_of_two_regimes_are_refused(frames):
    axes = va.charts.tags.scores(frames["tags.scores"], top=2)
    assert len(axes) == 2
    with pytest.raises(UsageError, match="never pooled"):
        va.charts.tags.scores(va.tags.scores(SIMULATION.verifications))


def test_the_limit_of_a_measure_stands_where_the_vendor_put_it(frames):
    axes = va.charts.quality.limits(frames["quality.limits"])
    by_title = {ax.get_title(loc="left"): ax for ax in axes}
    rules = [line for line in by_title["brightness"].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in rules] == [0.08]
    assert not [line for line in by_title["mouth occlusion"].lines if line.get_linestyle() == "--"]


def test_rates_by_band_and_the_band_of_the_limit(frames):
    frame = frames["quality.bands"]
    axes = va.charts.quality.bands(frame)
    face = frame[frame["image"] == "face"]
    dots = [line for line in axes[0].lines if line.get_marker() == "o"]
    assert dots[0].get_ydata().tolist() == pytest.approx(face["reject_rate"].tolist())
    assert dots[1].get_ydata().tolist() == pytest.approx(face["match_rate"].tolist(), nan_ok=True)
    assert len(axes[0].patches) == 1


def test_discard_is_a_step_that_holds_until_the_next(frames):
    frame = frames["quality.error_versus_discard"]
    frame = frame[frame["n"] > 0]
    axes = np.ravel(va.charts.quality.error_versus_discard(frame))
    for ax, (_, part) in zip(axes, frame.groupby("regime", sort=False), strict=True):
        curve, ideal = ax.lines[:2]
        assert curve.get_drawstyle() == "steps-post"
        assert curve.get_ydata().tolist() == pytest.approx(part["error_fraction"].tolist())
        overall = part["error_fraction"].iloc[0]
        for x, y in zip(ideal.get_xdata(), ideal.get_ydata(), strict=True):
            assert y == pytest.approx(max(0.0, (overall - x) / (1 - x)) if x < 1 else 0.0)
    assert "need not mean fewer errors" in words(axes)


def test_coaching_shows_the_price(frames):
    frame = frames["quality.coaching"]
    ax = va.charts.quality.coaching(frame, top=3)
    row = frame.iloc[0]
    assert [value for value, *_ in dots(ax)] == pytest.approx(frame["excess"].head(3).tolist())
    assert [filled for *_, filled in dots(ax)] == frame["significant"].head(3).tolist()
    assert f"{row['n_turned_away']:,} turned away" in words(ax)


def test_bars_of_both_images_fill_the_axis(frames):
    ax = va.charts.quality.face_vs_environment(frames["quality.face_vs_environment"])
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[-1]]
    assert ends == pytest.approx([1.0] * len(ends))


@pytest.mark.parametrize("measures", [1, 11])
@pytest.mark.parametrize("lang", ["en", "zh", "both"])
def test_the_legend_of_both_images_is_whole_and_below_the_axis(frames, lang, measures):
    if lang != "en" and style.cjk_font() is None:
        pytest.skip("no font with Chinese characters is installed")
    table = frames["quality.face_vs_environment"].head(measures)
    ax = va.charts.quality.face_vs_environment(table, lang=lang)
    ax.figure.canvas.draw()
    legend, page = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert page.x0 <= legend.x0
    assert legend.x1 <= page.x1
    assert page.y0 <= legend.y0
    assert legend.y1 <= ax.xaxis.label.get_window_extent().y0


def test_alerts_are_orange_and_limits_are_drawn(frames):
    frame = frames["stability.drift"][frames["stability.drift"]["psi"].notna()]
    axes = np.ravel(va.charts.stability.drift(frame))
    for ax, (_, part) in zip(axes, frame.groupby("regime", sort=False), strict=True):
        limits = next(line for line in ax.lines if line.get_marker() == "|").get_xdata()
        assert limits.tolist() == pytest.approx(np.maximum(0.1, part["critical"]).tolist())
        assert [value for value, *_ in dots(ax)] == pytest.approx(np.maximum(1e-4, part["psi"]))
        orange = [colour == style.COLOURS[1] for _, _, colour, _ in dots(ax)]
        assert orange == part["alert"].tolist()


def test_the_timeline_has_its_alerts_and_the_change_of_regime(frames):
    frame, events = frames["stability.over_time"], frames["regime_changes"]
    axes = np.ravel(va.charts.stability.over_time(frame, events=events))
    for ax in axes:
        kind = ax.get_title(loc="left").split(" · ")[1]
        mine = frame[frame["regime"].str.startswith(kind + " ") & frame["psi"].notna()]
        rings = [line for line in ax.lines if line.get_markersize() == 11]
        assert sum(len(line.get_xdata()) for line in rings) == mine["alert"].sum()
        rules = [t for t in ax.texts if t.get_text() == "thresholds change"]
        assert len(rules) == (events["req_key"] == kind).sum() == 1
    with pytest.raises(UsageError, match="no period of 'clarity'"):
        va.charts.stability.over_time(frame, column="clarity")


def test_given_axes_are_used_and_a_wrong_number_refused(frames):
    figure, ax = plt.subplots()
    assert va.charts.tags.lift(frames["tags.lift"], ax=ax) is ax
    curve = frames["quality.error_versus_discard"]
    two = pd.concat([curve, curve.assign(regime="x")])
    with pytest.raises(UsageError, match="never pooled"):
        va.charts.quality.error_versus_discard(two, ax=ax)
    assert len(figure.axes) == 1
