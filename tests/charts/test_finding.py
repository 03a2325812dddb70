"""`va.draw`: the chart of each frame, marked or not, fresh or read back from a file."""

from __future__ import annotations

import io
from operator import attrgetter

import numpy as np
import pandas as pd
import pytest
from builders.axes import figure_words
from matplotlib import pyplot as plt

import verifyanalytics as va
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.simulator import Simulation, World

CHARTS = [f"{g}.{name}" for g in va.charts.GROUPS for name in getattr(va.charts, g).__all__]


@pytest.fixture(scope="module")
def v():
    return Simulation(3000, seed=7, world=World(days=56))


@pytest.fixture(scope="module")
def frames(v):
    """A frame of each chart, and of each kind of it."""
    rows = v.verifications
    truth = va.labels.join(rows, v.labels)
    one = rows[rows["threshold_1e_4"] == 70]
    one = one[one["req_key"] == "cert_pro_src_verify"]
    half = len(one) // 2
    return {
        "scores.histogram": va.scores.histogram(one, by="result"),
        "scores.match_rates": va.scores.match_rates(rows),
        "scores.match_rates over scores": va.scores.match_rates(one, range(50, 100, 5)),
        "scores.match_rates over time": va.scores.match_rates(one, [70, 80], every="week"),
        "scores.vendor_thresholds": va.scores.vendor_thresholds(rows, every="week"),
        "verdicts.funnel": va.verdicts.funnel(rows),
        "verdicts.acceptance_rate": va.verdicts.acceptance_rate(rows, by="req_key"),
        "verdicts.acceptance_rate over time": va.verdicts.acceptance_rate(rows, every="week"),
        "verdicts.reject_reasons": va.verdicts.reject_reasons(rows),
        "bounds.label_free": va.bounds.label_free(one, nominal_fmr=[1e-3, 1e-4, 1e-5]),
        "accuracy.error_rates": va.accuracy.error_rates(truth, assume_random=True),
        "accuracy.det_curve": va.accuracy.det_curve(truth, assume_random=True),
        "accuracy.operating_points": va.accuracy.operating_points(
            truth, fmr=[0.1, 0.01], eer=True, assume_random=True
        ),
        "tags.rates": va.tags.rates(rows),
        "tags.rates over time": va.tags.rates(rows, every="week"),
        "tags.lift": va.tags.lift(rows, "rejected"),
        "tags.catch": va.tags.catch(rows, "rejected"),
        "tags.pairs": va.tags.pairs(rows),
        "tags.risk_bands": va.tags.risk_bands(rows),
        "tags.scores": va.tags.scores(one),
        "quality.limits": va.quality.limits(rows),
        "quality.bands": va.quality.bands(rows, "brightness"),
        "quality.error_versus_discard": va.quality.error_versus_discard(one),
        "quality.coaching": va.quality.coaching(rows),
        "quality.face_vs_environment": va.quality.face_vs_environment(rows),
        "stability.drift": va.stability.drift(one[:half], one[half:], ["score", "risk_score"]),
        "stability.over_time": va.stability.over_time(rows, columns="score"),
    }


KINDS = [*CHARTS, *(f"{name} over time" for name in (
    "scores.match_rates", "verdicts.acceptance_rate", "tags.rates")),
    "scores.match_rates over scores"]  # fmt: skip


def pixels(axes):
    figure = np.ravel(axes)[0].figure
    figure.set_dpi(50)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


def unmarked(frame):
    bare = frame.copy()
    bare.attrs = {}
    return bare


def through_a_file(frame):
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_drawn_by_its_chart_whatever_it_went_through(frames, kind):
    frame, chart = frames[kind], attrgetter(kind.split()[0])(va.charts)
    assert frame.attrs["statistic"] == kind.split()[0]
    axes = chart(frame)
    assert figure_words(np.ravel(va.draw(frame))[0]) == figure_words(np.ravel(axes)[0])
    expected = pixels(axes)  # once: a second drawing would lay the figure out again
    for given in (unmarked(frame), through_a_file(frame)):
        np.testing.assert_array_equal(pixels(va.draw(given)), expected)


def test_options_are_those_of_the_chart(frames):
    _, ax = plt.subplots()
    assert va.draw(frames["tags.rates"], ax=ax, top=2) is ax
    assert len(ax.get_yticklabels()) == 2
    with pytest.raises(UsageError, match="no language 'fr'"):
        va.draw(frames["tags.rates"], lang="fr")


def test_a_selection_of_a_marked_frame_is_drawn(frames):
    frame = frames["verdicts.reject_reasons"]
    assert len(va.draw(frame[frame["n_rows"] > 1].head(2)).get_yticklabels()) == 2


WITHOUT_A_CHART = {
    "scores.regimes": va.scores.regimes,
    "scores.margins": va.scores.margins,
    "scores.what_if": lambda v: va.scores.what_if(v, 80),
    "scores.decision_table": va.scores.decision_table,
    "bounds.implied_fmr": va.bounds.implied_fmr,
    "bounds.threshold_for_budget": lambda v: va.bounds.threshold_for_budget(v, 10),
    "verdicts.contradictions": va.verdicts.contradictions,
    "verdicts.result_rule": va.verdicts.result_rule,
    "verdicts.minimal_change": va.verdicts.minimal_change,
    "verdicts.change_explained": lambda v: va.verdicts.change_explained(
        v[:500], v[500:], "req_key"
    ),
    "attempts.attempts_to_pass": va.attempts.attempts_to_pass,
    "attempts.lost_people": va.attempts.lost_people,
    "attempts.retry_then_pass": va.attempts.retry_then_pass,
    "operations.billing": va.operations.billing,
    "operations.latency": va.operations.latency,
    "operations.volume": va.operations.volume,
    "stability.regime_changes": va.stability.regime_changes,
}


@pytest.mark.parametrize("name", WITHOUT_A_CHART)
def test_a_statistic_without_a_chart_is_named_and_never_drawn_by_another(v, name):
    rows = v.verifications
    table = WITHOUT_A_CHART[name](rows[rows["threshold_1e_4"] == 70])
    with pytest.raises(UsageError, match=r"no chart.*scores\.histogram"):
        va.draw(unmarked(table))
    if table.attrs:
        with pytest.raises(UsageError, match=rf"va\.{name} has no chart; there are charts for: "):
            va.draw(table)


def test_columns_that_fit_several_charts_name_them(frames):
    both = pd.concat([frames["tags.pairs"], frames["tags.rates"]], axis=1)
    both.attrs = {}
    calls = r"call va\.charts\.tags\.pairs\(frame\) or va\.charts\.tags\.rates\(frame\)"
    with pytest.raises(UsageError, match=calls):
        va.draw(both.loc[:, ~both.columns.duplicated()])


def test_what_is_no_frame_of_a_statistic_is_refused(frames):
    with pytest.raises(UsageError, match="draw takes the frame of a statistic; dict was given"):
        va.draw({})
    with pytest.raises(UsageError, match="no chart draws a frame with these columns: none"):
        va.draw(pd.DataFrame())
    with pytest.raises(MissingColumnError, match="no column tag_rate"):
        va.draw(frames["tags.rates"].drop(columns="tag_rate"))
