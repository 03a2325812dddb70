"""Names of the data on charts: whatever they hold, a chart is drawn whole and without warning."""

from __future__ import annotations

import io
from operator import attrgetter

import numpy as np
import pandas as pd
import pytest
from builders import frames as worlds
from matplotlib import pyplot as plt

import verifyanalytics as va
from verifyanalytics.charts import panels
from verifyanalytics.wording.numbers import percent
from verifyanalytics.wording.words import plain

STEERING = "a\x1b[31m\u202eb\tc\n\U0001f9ff\ue000\u2063"
NAMES = {
    "hostile": STEERING,
    "long": "n" * 200,
    "wide": "渠道名称" * 30,
    "accents": "e" + "\u0301" * 90,
    "mathematics": "$x_{1}$ \\frac %s {n}",
    "hidden from legends": "_nolegend_",
}


def test_a_regime_keeps_its_thresholds_whatever_its_key():
    assert panels.regime("k" * 200 + " 60/70/80/90", "en").endswith(" 60/70/80/90")
    assert panels.regime("cert_pro_src_verify 60/70/80/90", "zh") == (
        "cert_pro_src_verify 60/70/80/90"
    )
    assert panels.regime("incomplete", "zh") == "阈值不完整"


def test_words_of_ours_are_not_put_for_values_of_theirs():
    assert panels.group_label(["ctx_channel"], "all", "en") == "channel all"
    assert panels.group_label(["ctx_channel"], "incomplete", "en") == "channel incomplete"
    assert panels.group_label(["regime"], "all", "en") == "all regimes"


@pytest.mark.parametrize(
    ("rate", "en", "zh"),
    [
        (0.0, "0.0\u00a0%", "0.0%"),
        (0.623, "62.3\u00a0%", "62.3%"), (1.0, "100.0\u00a0%", "100.0%"),
        (0.0042, "0.42\u00a0%", "0.42%"), (1e-6, "< 0.01\u00a0%", "< 0.01%"),
        (0.9996, "99.96\u00a0%", "99.96%"),
    ],
)  # fmt: skip
def test_a_share_is_written_as_each_language_does(rate, en, zh):
    assert plain(percent(rate, tiny="bound"), "en") == en
    assert plain(percent(rate, tiny="bound"), "zh") == zh


# ------------------------------------------------------------------ every chart that shows names


def strange(text, n=240):
    rng = np.random.default_rng(4)
    rows = [
        worlds.row(
            i, req_key=text + "_key", score=round(float(rng.uniform(40, 99)), 2),
            result=bool(i % 3), subject=f"s{i}",
            gateway_code=text if i % 12 == 0 else None, code=None if i % 12 == 0 else 10000,
        )
        for i in range(n)
    ]  # fmt: skip
    frame = worlds.frame(rows)
    tags = [[text, "14004"] if i % 5 == 0 else ["14004"] * (i % 3 == 0) for i in range(n)]
    return frame.assign(
        ctx_channel=np.where(np.arange(n) % 2, text, "app"),
        occurred_at=pd.date_range("2024-05-06", periods=n, freq="3h", tz="UTC"),
        risk_score=0,
        risk_tags=pd.Series(tags),
        **{text: [i % 4 == 0 for i in range(n)]},
    )


FRAMES = {
    "scores.histogram": lambda v, _: va.scores.histogram(v, by="ctx_channel"),
    "scores.match_rates": lambda v, _: va.scores.match_rates(v, by="ctx_channel"),
    "scores.vendor_thresholds": lambda v, _: va.scores.vendor_thresholds(v),
    "tags.rates": lambda v, _: va.tags.rates(v, by="ctx_channel"),
    "tags.lift": va.tags.lift,
    "tags.pairs": lambda v, _: va.tags.pairs(v),
    "tags.catch": va.tags.catch,
    "tags.risk_bands": lambda v, text: va.tags.risk_bands(v, outcome=text),
    "tags.scores": lambda v, _: va.tags.scores(v),
    "verdicts.funnel": lambda v, _: va.verdicts.funnel(v, by="ctx_channel"),
    "verdicts.acceptance_rate": lambda v, _: va.verdicts.acceptance_rate(v, by="ctx_channel"),
    "verdicts.reject_reasons": lambda v, _: va.verdicts.reject_reasons(v),
    "bounds.label_free": lambda v, _: va.bounds.label_free(v, threshold=[60, 70, 80]),
    "stability.drift": lambda v, _: va.stability.drift(
        v.iloc[:120], v.iloc[120:], ["score", "ctx_channel"]
    ),
    "stability.over_time": lambda v, _: va.stability.over_time(v, columns="score"),
}


@pytest.mark.parametrize("kind", ["hostile", "wide"])
@pytest.mark.parametrize("chart", FRAMES)
def test_names_of_the_data_are_drawn_whole_and_without_a_warning(chart, kind):
    text = NAMES[kind]
    axes = np.ravel(attrgetter(chart)(va.charts)(FRAMES[chart](strange(text), text)))
    figure = axes[0].figure
    with io.BytesIO() as file:
        figure.savefig(file, format="png")  # a missing glyph, a layout that fails: a warning here
    for said in figure.findobj(plt.Text):
        assert said.get_text().replace("\n", "").isprintable() or "\u00a0" in said.get_text()
    for ax in axes:
        assert ax.get_window_extent().width > 0.12 * figure.bbox.width
