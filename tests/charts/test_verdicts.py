"""Charts of verdicts and of bounds: what stands on the Axes is what stands in the frame."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import matplotlib as mpl
import numpy as np
import pytest
from builders import frames as worlds
from matplotlib.colors import to_hex

import verifyanalytics as va
from verifyanalytics.charts import verdicts
from verifyanalytics.errors import UsageError


@pytest.fixture(scope="module")
def rows():
    return worlds.messy(600, seed=5)


@pytest.fixture(scope="module")
def frame(rows):
    return worlds.frame(rows)


def words(ax):
    return [t.get_text() for t in ax.findobj(mpl.text.Text) if t.get_text()]


def figure_words(ax):
    return [t.get_text() for t in ax.figure.findobj(mpl.text.Text) if t.get_text()]


def bars(ax, colour):
    return [p for p in ax.patches if to_hex(p.get_facecolor()).lower() == colour.lower()]


# ------------------------------------------------------------------ funnel


def test_funnel_loses_at_each_gate_what_a_plain_loop_counts(rows, frame):
    ax = va.charts.verdicts.funnel(va.verdicts.funnel(frame))
    first = Counter(worlds.first_gate(r) for r in rows)
    lost = {round(p.get_width()) for p in bars(ax, verdicts.LOST)}
    assert lost == {first[gate] for gate in ("answered", "scored", "alive", "match", "risk")}
    accepted = sum(worlds.first_gate(r) == "none" and r["result"] is True for r in rows)
    assert [round(p.get_width()) for p in bars(ax, verdicts.ACCEPTED)] == [accepted]
    unexplained = sum(worlds.first_gate(r) == "none" and r["result"] is False for r in rows)
    assert [round(p.get_width()) for p in bars(ax, verdicts.UNEXPLAINED)] == [unexplained]


def test_the_bars_of_a_funnel_join_on_to_each_other(frame):
    ax = va.charts.verdicts.funnel(va.verdicts.funnel(frame))
    ends = {}
    for bar in ax.patches:
        y = round(bar.get_y() + bar.get_height() / 2)
        ends.setdefault(y, []).append((bar.get_x(), bar.get_x() + bar.get_width()))
    rights = [max(right for _, right in ends[y]) for y in sorted(ends)]
    lefts = [max(left for left, _ in ends[y]) for y in sorted(ends)]
    assert rights[0] == 600
    # what is left after a step is where the next one begins
    assert rights[2:] == lefts[1:-1]


def test_funnel_names_those_accepted_although_a_gate_fails(rows, frame):
    ax = va.charts.verdicts.funnel(va.verdicts.funnel(frame))
    n = sum(worlds.first_gate(r) == "match" and r["result"] is True for r in rows)
    assert n
    assert any(f"({n:,} accepted)" in word for word in words(ax))
    undecided = sum(r["result"] is None for r in rows)
    assert undecided  # and all the same counted
    assert "n = 600 answers, with a verdict or without" in words(ax)


@pytest.mark.parametrize(
    ("lang", "shares"),
    [("en", "−1  (25.0\u00a0%)"), ("zh", "−1  (25.0%)"), ("both", "25.0\u00a0%")],
)
def test_a_gate_that_took_nobody_took_0_and_shares_are_of_all_answers(lang, shares):
    if lang != "en" and va.charts.style.cjk_font() is None:
        pytest.skip("no font with Chinese is installed")
    rows = [worlds.row(i) for i in range(3)]
    rows += [worlds.row(9, score=65.0, result=False)]
    said = words(va.charts.verdicts.funnel(va.verdicts.funnel(worlds.frame(rows)), lang=lang))
    assert sum(word == "0" for word in said) >= 4  # four gates of five, and a tick of the axis
    assert not any("−0" in word or "(0" in word for word in said)
    assert any(shares in word for word in said)


def test_in_two_languages_no_line_stands_twice(frame):
    axes = [va.charts.verdicts.funnel(va.verdicts.funnel(frame), lang="both")]
    axes += list(np.ravel(va.charts.scores.histogram(va.scores.histogram(frame), lang="both")))
    for ax in axes:
        for word in words(ax):
            assert len(word.split("\n")) == len({*word.split("\n")}), word


def test_a_group_of_the_funnel_has_its_panel(frame):
    axes = va.charts.verdicts.funnel(va.verdicts.funnel(frame, by="req_key"))
    assert len(axes) == 3
    titles = {ax.get_title(loc="left") for ax in axes}
    assert "req_key cert_pro_src_verify" in titles
    with pytest.raises(UsageError, match="groups of subject do not fit"):
        va.charts.verdicts.funnel(va.verdicts.funnel(frame, by="subject"))


# ------------------------------------------------------------------ acceptance


def test_acceptance_is_drawn_over_time_with_its_band_and_partial_periods_open(rows, frame):
    table = va.verdicts.acceptance_rate(frame, every="day")
    ax = va.charts.verdicts.acceptance_rate(table)
    rated = table[table["acceptance_rate"].notna() & table["period_start"].notna()]
    line, partial = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), rated["acceptance_rate"])
    np.testing.assert_array_equal(partial.get_ydata(), rated[rated["partial"]]["acceptance_rate"])
    assert to_hex(partial.get_markerfacecolor()) == "#ffffff"
    decided = sum(r["result"] is not None and r["occurred_at"] is not None for r in rows)
    undecided = sum(r["result"] is None for r in rows)
    assert f"n = {decided:,} with a verdict · {undecided:,} without" in words(ax)


def test_acceptance_of_groups_is_a_dot_with_its_interval(frame):
    table = va.verdicts.acceptance_rate(frame, by="req_key")
    ax = va.charts.verdicts.acceptance_rate(table)
    np.testing.assert_array_equal(
        [line.get_xdata()[0] for line in ax.lines], table["acceptance_rate"]
    )
    ends = [segments.get_segments()[0][:, 0] for segments in ax.collections]
    np.testing.assert_allclose(
        ends, table[["acceptance_rate_low", "acceptance_rate_high"]].to_numpy()
    )


# ------------------------------------------------------------------ reasons


def test_reasons_are_bars_with_their_counts_and_say_what_is_left_out(rows, frame):
    table = va.verdicts.reject_reasons(frame)
    ax = va.charts.verdicts.reject_reasons(table, top=4)
    bars = sorted(ax.patches, key=lambda p: p.get_y())
    np.testing.assert_allclose([p.get_width() for p in bars], table["share"].head(4))
    for n in table["n_rows"].head(4):
        assert f"{n:,}" in words(ax)
    total = sum(r["result"] is not True for r in rows)
    assert f"n = {total:,} not accepted" in words(ax)
    left = f"{len(table) - 4} rarer reasons ({table['n_rows'][4:].sum():,} answers) are not shown"
    assert any(left in word for word in figure_words(ax))


def test_a_reason_is_named_by_the_book_and_its_codes():
    rows = [worlds.row(i, code=50215, sub_code=210302, score=None, result=False) for i in range(9)]
    rows += [worlds.row(i + 20, score=65.0, result=False) for i in range(3)]
    rows += [worlds.row(i + 30, score=65.0, alive=False, result=False) for i in range(2)]
    rows += [worlds.row(i + 40, result=False) for i in range(1)]
    ax = va.charts.verdicts.reject_reasons(va.verdicts.reject_reasons(worlds.frame(rows)))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0].endswith("(50215/210302)")
    assert labels[1:] == [
        "only score below own 1e-4",
        "liveness failed + score below own 1e-4",
        "rejected, all gates pass",
    ]


def test_reasons_of_one_code_are_told_apart_by_their_gates():
    failed = {"code": 50215, "sub_code": 210702, "score": None, "result": False}
    rows = [worlds.row(i, **failed) for i in range(4)]
    rows += [worlds.row(i + 9, alive=False, **failed) for i in range(2)]
    ax = va.charts.verdicts.reject_reasons(va.verdicts.reject_reasons(worlds.frame(rows)))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0].endswith("(50215/210702): only no score")
    assert labels[1].endswith("(50215/210702): no score + liveness failed")


def test_reasons_of_groups_are_refused(frame):
    with pytest.raises(UsageError, match="split by req_key"):
        va.charts.verdicts.reject_reasons(va.verdicts.reject_reasons(frame, by="req_key"))


# ------------------------------------------------------------------ bounds


def compared(n=400):
    rng = np.random.default_rng(2)
    scores = np.concatenate([rng.uniform(5, 68, n // 8), rng.uniform(66, 99, n)]).round(2)
    start = dt.datetime(2024, 5, 6, tzinfo=dt.UTC)
    return worlds.frame(
        [
            worlds.row(i, score=float(s), occurred_at=start + dt.timedelta(hours=i))
            for i, s in enumerate(scores)
        ]
    )


def test_bounds_are_three_nested_bands():
    table = va.bounds.label_free(compared(), threshold=[60, 65, 70, 80, 90])
    false_matches, turned_away = va.charts.bounds.label_free(table)
    for ax, low, high in (
        (false_matches, None, "false_matches_high"),
        (turned_away, "fnmr_low", "fnmr_high"),
    ):
        bands = [band.get_paths()[0].vertices for band in ax.collections]
        alphas = [band.get_alpha() for band in ax.collections]
        assert len(bands) == 3
        assert alphas == sorted(alphas)  # drawn from the widest, palest band to the darkest
        for band, k in zip(bands, (10.0, 3.0, 1.0), strict=True):
            part = table[table["k"] == k]
            assert band[:, 1].max() == pytest.approx(part[high].max())
            floor = 0 if low is None else part[low].min()
            assert band[:, 1].min() == pytest.approx(floor)
    labels = [text.get_text() for text in turned_away.get_legend().get_texts()]
    assert labels == ["k = 1", "k = 3", "k = 10"]
    assert any("zero-effort false matches only" in word for word in figure_words(turned_away))
    assert "n = 450 compared · 0 scores withheld" in words(turned_away)


def test_bounds_need_two_thresholds():
    with pytest.raises(UsageError, match="two thresholds"):
        va.charts.bounds.label_free(va.bounds.label_free(compared(), threshold=70))


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize("lang", ["en", "zh", "both"])
def test_every_glyph_is_there(lang, frame, tmp_path):
    if lang != "en" and va.charts.style.cjk_font() is None:
        pytest.skip("no font with Chinese is installed")
    axes = [
        va.charts.verdicts.funnel(va.verdicts.funnel(frame), lang=lang),
        va.charts.verdicts.acceptance_rate(
            va.verdicts.acceptance_rate(frame, every="day"), lang=lang
        ),
        va.charts.verdicts.reject_reasons(va.verdicts.reject_reasons(frame), lang=lang),
        va.charts.bounds.label_free(
            va.bounds.label_free(compared(), threshold=[60, 70, 80]), lang=lang
        )[0],
    ]
    for i, ax in enumerate(axes):  # a missing glyph is a warning, and a warning an error
        ax.figure.savefig(tmp_path / f"{i}.png")


def test_an_empty_frame_is_said_to_be_empty(frame):
    none = frame.head(0)
    for draw, table in (
        (va.charts.verdicts.funnel, va.verdicts.funnel(none)),
        (va.charts.verdicts.acceptance_rate, va.verdicts.acceptance_rate(none)),
        (va.charts.verdicts.reject_reasons, va.verdicts.reject_reasons(none)),
    ):
        with pytest.raises(UsageError, match="nothing to draw"):
            draw(table)
