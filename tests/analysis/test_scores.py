"""Scores against the vendor's thresholds: the cases that a loop would not think of."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd
import pytest
from builders.frames import frame, row

import verifyanalytics as va
from verifyanalytics.analysis.base import intervals
from verifyanalytics.analysis.base.regimes import implied_fmr, score_at_fmr
from verifyanalytics.errors import MissingColumnError, UsageError

FOUR = {"threshold_1e_3": 60, "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90}


def answers(scores, **columns):
    frame = {"code": 10000, "sub_code": 0, "score": scores, **FOUR, **columns}
    return pd.DataFrame(
        {k: v if isinstance(v, list) else [v] * len(scores) for k, v in frame.items()}
    )


# ------------------------------------------------------------------ the page's own sample


def test_the_page_s_own_sample():
    v = answers([87.69], result=[False], risk_tags=[["14004", "13001"]], risk_score=600)
    rates = va.scores.match_rates(v)
    assert rates["threshold"].tolist() == [60, 70, 80, 90]
    assert rates["n_match"].tolist() == [1, 1, 1, 0]
    assert rates["nominal_fmr"].tolist() == [1e-3, 1e-4, 1e-5, 1e-6]


# ------------------------------------------------------------------ ties, ends, widths


def test_a_score_at_the_threshold_of_a_nominal_rate_matches():
    v = frame([row(i, score=score) for i, score in enumerate([69.99, 70.0, 70.01, 80.0])])
    table = va.scores.match_rates(v, nominal_fmr=[1e-4, 1e-5]).set_index("nominal_fmr")
    assert table["n_match"].to_dict() == {1e-4: 3, 1e-5: 1}


def test_a_score_at_a_threshold_matches():
    just_below = math.nextafter(70, 0)
    rates = va.scores.match_rates(answers([70.0, just_below]), 70)
    assert (rates["n_match"].item(), rates["n"].item()) == (1, 2)


@pytest.mark.parametrize("threshold", [0.3, 70.1, 99.99, 33.333333])
def test_edges_that_binary_cannot_hold_are_exact(threshold):
    v = answers([math.nextafter(threshold, 0), threshold, math.nextafter(threshold, 100)])
    assert va.scores.match_rates(v, threshold)["n_match"].item() == 2


def test_the_last_bin_holds_100_and_nothing_above():
    table = va.scores.histogram(answers([100.0, 99.0, 100.5, -1.0]), bin_width=50)
    ends = table.set_index(["score_low", "score_high"])["n"]
    assert ends[90, 100] == 2
    assert ends[100, math.inf] == 1
    assert ends[-math.inf, 0] == 1
    assert (table["n_scored"] == 4).all()


def test_a_threshold_off_the_grid_is_an_edge_of_its_own_regime_only():
    v = pd.concat([answers([65.0]), answers([65.0], threshold_1e_3=60.123)])
    table = va.scores.histogram(v, bin_width=5)
    with_edge = table[table["score_low"] == 60.123]
    assert with_edge["threshold_1e_3"].tolist() == [60.123]
    assert table["n"].sum() == 2


# ------------------------------------------------------------------ withheld, incomplete, errors


def test_a_threshold_that_comes_late_is_an_edge_too():
    early, late = 8990, 60  # edges are guessed from the first rows
    scores = [(7 * i % 1000) / 10 for i in range(early + late)]
    v = answers(scores, threshold_1e_4=[70.0] * early + [70.25] * late)
    table = va.scores.histogram(v, bin_width=10)
    for threshold, held in ((70, scores[:early]), (70.25, scores[early:])):
        edges = sorted({*range(0, 101, 10), threshold})
        expected = [
            (low, high, sum(low <= s < high for s in held)) for low, high in pairwise(edges)
        ]
        bins = table[table["threshold_1e_4"] == threshold]
        assert [*zip(bins["score_low"], bins["score_high"], bins["n"], strict=True)] == expected


def test_a_withheld_score_is_a_non_match_and_widens_what_lies_below_the_own_1e_4():
    v = answers([65.0] * 3 + [95.0] * 5 + [None] * 2, sub_code=[0] * 8 + [210311] * 2)
    table = va.scores.match_rates(v, [60, 69.99, 70, 71]).set_index("threshold")
    assert table["n"].tolist() == [10] * 4
    assert table["n_match"].tolist() == [8, 5, 5, 5]
    assert table["n_withheld"].tolist() == [2] * 4
    for threshold, most in ((60, 10), (69.99, 7), (70, 5), (71, 5)):  # what may have matched
        row = table.loc[threshold]
        assert row["match_rate_low"] == intervals.rate_interval(row["n_match"], 10).low
        assert row["match_rate_high"] == intervals.rate_interval(most, 10).high
    for own in (
        va.scores.match_rates(v),
        va.scores.vendor_thresholds(v.assign(occurred_at=pd.Timestamp(0))),
    ):
        assert own["match_rate_high"].tolist() == [
            intervals.rate_interval(most, 10).high for most in (10, 5, 5, 5)
        ]
    nominal = va.scores.match_rates(v, nominal_fmr=[1e-3, 5e-4, 1e-4, 1e-6])
    assert nominal["match_rate_high"].tolist() == [
        intervals.rate_interval(most, 10).high for most in (10, 10, 5, 5)
    ]


def test_no_score_without_a_comparison_is_in_no_rate():
    table = va.scores.match_rates(answers([95.0, None], sub_code=[0, 210302]), 70)
    assert (table["n"].item(), table["n_without_score"].item()) == (1, 1)


def test_a_passed_sub_code_withholds_nothing():
    assert va.scores.match_rates(answers([None]), 70)["n_withheld"].item() == 0


@pytest.mark.parametrize(
    "change",
    [{"code": 50400}, {"code": None}, {"gateway_code": "FlowLimitExceeded"}],
    ids=["service", "no code", "gateway"],
)
def test_a_score_on_an_answer_that_is_none_is_in_no_rate(change):
    assert va.scores.match_rates(answers([95.0], **change)).empty
    assert va.scores.histogram(answers([95.0], **change)).empty


@pytest.mark.parametrize("broken", [None, 60.0, 55.0, math.nan])
def test_incomplete_thresholds_are_counted_and_not_rated(broken):
    v = pd.concat([answers([95.0]), answers([65.0, None], threshold_1e_4=broken)])
    table = va.scores.match_rates(v, 70).set_index("regime")
    assert table.loc["incomplete", "reason"] == "incomplete_regime"
    assert math.isnan(table.loc["incomplete", "match_rate"])
    assert table.loc["incomplete", ["n", "n_without_score"]].tolist() == [1, 1]
    found = va.scores.regimes(v).set_index("regime")["n_rows"].to_dict()
    assert found == {"unknown 60/70/80/90": 1, "incomplete": 2}


# ------------------------------------------------------------------ the vendor's claim


def test_outside_the_four_points_only_a_side_is_told():
    table = va.scores.match_rates(answers([75.0]), [59, 60, 75, 90, 91])
    assert table["reason"].tolist() == ["> 1e-3", "", "", "", "< 1e-6"]
    assert table["nominal_fmr"].tolist()[1:4] == [1e-3, pytest.approx(10**-4.5), 1e-6]
    assert table["nominal_fmr"].isna().tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("four", "published"),
    [
        ((60, 70, 80, 90), {65: 10**-3.5, 75: 10**-4.5, 85: 10**-5.5}),  # the vendor's page
        ((60, 70, 90, 91), {80: 10**-4.5, 90.5: 10**-5.5}),
    ],
)
def test_the_claim_between_two_points_is_log_linear(four, published):
    for score, fmr in published.items():
        assert implied_fmr(four, score) == pytest.approx(fmr)
        assert score_at_fmr(four, fmr) == pytest.approx(score)


def test_levels_are_hit_exactly():
    four = (60.1, 70.2, 80.3, 90.4)
    for level, point in zip((1e-3, 1e-4, 1e-5, 1e-6), four, strict=True):
        assert float(score_at_fmr(four, level)) == point
        assert float(implied_fmr(four, point)) == level


def test_one_number_across_regimes_needs_a_nominal_fmr():
    v = pd.concat(
        [answers([71.0]), answers([71.0], threshold_1e_4=72), answers([1.0], threshold_1e_3=None)]
    )
    table = va.scores.match_rates(v, nominal_fmr=1e-4).set_index("regime")
    assert table.loc["all", ["n", "n_match", "n_regimes"]].tolist() == [2, 1, 2]
    assert math.isnan(table.loc["all", "threshold"])
    assert table.loc["incomplete", "n"] == 1
    assert set(va.scores.match_rates(v, 71)["regime"]) == {
        "unknown 60/70/80/90", "unknown 60/72/80/90", "incomplete",
    }  # fmt: skip


# ------------------------------------------------------------------ time


def test_vendor_thresholds_tell_when():
    v = answers(
        [75.0] * 3, occurred_at=list(pd.to_datetime(["2024-05-01", "2024-05-09", None], utc=True))
    )
    table = va.scores.vendor_thresholds(v)
    assert table["level"].tolist() == ["1e-3", "1e-4", "1e-5", "1e-6"]
    assert (table["first_at"] == pd.Timestamp("2024-05-01", tz="UTC")).all()
    assert (table["last_at"] == pd.Timestamp("2024-05-09", tz="UTC")).all()
    weekly = va.scores.vendor_thresholds(v, every="week")
    assert weekly["period"].drop_duplicates().tolist() == ["2024-W18", "2024-W19", "unknown"]


def test_the_day_begins_in_shanghai():
    v = answers([75.0], occurred_at=list(pd.to_datetime(["2024-05-31 16:30"], utc=True)))
    assert va.scores.match_rates(v, every="day")["period"].iloc[0] == "2024-06-01"
    assert va.scores.match_rates(v, every="month", tz="UTC")["period"].iloc[0] == "2024-05"


# ------------------------------------------------------------------ what if


def tries(*rows):
    """Rows of (subject, minute, score, result)."""
    subject, minute, score, result = (list(column) for column in zip(*rows, strict=True))
    start = pd.Timestamp("2024-05-01", tz="UTC")
    times = [start + pd.Timedelta(minutes=m) for m in minute]
    return answers(
        score, subject=subject, occurred_at=times, result=result, alive=True, risk_score=0
    )


def lines(table, unit):
    return table[(table["unit"] == unit) & (table["n"] > 0)].set_index("line")["n"].to_dict()


def test_rows_and_persons_of_a_what_if():
    v = tries(
        ("a", 0, 66.0, False), ("a", 3, 67.0, False), ("a", 5, 75.0, True),  # in anyway, sooner
        ("b", 0, 66.0, False), ("b", 2, 68.0, False),  # newly in, by the first try
        ("c", 0, 95.0, True),
        ("d", 0, 20.0, False),
        ("e", 0, 88.0, False),  # passes every gate, refused all the same
    )  # fmt: skip
    table = va.scores.what_if(v, 65)
    assert table["line"].iloc[0] == "reproduced"
    assert (table["n"].iloc[0], table["n_of"].iloc[0]) == (7, 8)
    assert table["reason"].iloc[0] == "gates_do_not_explain_result"
    assert lines(table, "rows") == {
        "reproduced": 7, "both": 2, "only_new": 4, "neither": 1, "unexplained": 1, "not_needed": 3,
    }  # fmt: skip
    assert lines(table, "sessions") == {"both": 2, "only_new": 1, "neither": 2}


def test_a_what_if_is_split_by_sets_of_tags_too():
    v = tries(("a", 0, 75.0, True), ("b", 0, 85.0, True), ("c", 0, 85.0, True))
    v = v.assign(risk_tags=[["14004", "13001"], ["13001", "14004"], None])
    for unit in ("rows", "sessions"):
        table = va.scores.what_if(v, 80, by="risk_tags")
        table = table[(table["unit"] == unit) & (table["n"] > 0)]
        found = {
            (line, tags if isinstance(tags, tuple) else None): n
            for line, tags, n in zip(table["line"], table["risk_tags"], table["n"], strict=True)
            if line in ("both", "only_old")
        }
        both = ("13001", "14004")
        assert found == {("both", both): 1, ("only_old", both): 1, ("both", None): 1}


def test_a_higher_threshold_turns_away():
    table = va.scores.what_if(tries(("a", 0, 75.0, True), ("b", 0, 85.0, True)), 80)
    assert lines(table, "sessions") == {"both": 1, "only_old": 1}
    assert table["reason"].iloc[0] == ""


def test_margins_count_both_sides_and_leave_out_the_far_end():
    table = va.scores.margins(answers([69.0, 69.99, 70.0, 71.0]), widths=[1])
    row = table.set_index("level").loc["1e-4"]
    assert (row["n_below"], row["n_above"], row["n"]) == (2, 1, 4)
    with pytest.raises(UsageError, match="widths must be above 0"):
        va.scores.margins(answers([1.0]), widths=[0])


# ------------------------------------------------------------------ nonsense


def test_a_missing_column_says_what_is_there():
    with pytest.raises(MissingColumnError, match="no column score; the frame has: code, sub_code"):
        va.scores.match_rates(answers([1.0]).drop(columns="score"))
    with pytest.raises(MissingColumnError, match="no column ctx_shop"):
        va.scores.histogram(answers([1.0]), by="ctx_shop")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: va.scores.match_rates([1, 2]), "a list is no frame"),
        (lambda v: va.scores.match_rates(v.assign(score="high")), "column score holds text"),
        (lambda v: va.scores.match_rates(v, ["high"]), "thresholds must be a finite number"),
        (lambda v: va.scores.match_rates(v, []), "one number or more"),
        (lambda v: va.scores.match_rates(v, "70"), "thresholds must be a finite number"),
        (lambda v: va.scores.match_rates(v, [[70, 80]]), "thresholds must be a finite number"),
        (lambda v: va.scores.match_rates(v, by=5), "by must be a column's name or several; 5"),
        (lambda v: va.scores.match_rates(v, by="occurred_at"), "by occurred_at"),
        (lambda v: va.scores.match_rates(v, by=["code", "n"]), "by n: this table has that column"),
        (lambda v: va.scores.match_rates(v, every="day", tz=None), "a time zone is a name"),
        (lambda v: va.scores.histogram(v, "1"), "bin_width must be a finite number"),
        (lambda v: va.scores.histogram(v, 0.015), "in steps of 0.01"),
        (lambda v: va.scores.what_if(v, None), "threshold must be a finite number"),
        (lambda v: va.scores.what_if(v, 70, "75"), "baseline must be a finite number"),
        (lambda v: va.scores.margins(v, [math.nan]), "widths must be a finite number"),
        (lambda v: va.scores.margins(v, "12"), "widths must be a finite number"),
        (lambda v: va.scores.match_rates(v, math.nan), "a finite number"),
        (lambda v: va.scores.match_rates(v, nominal_fmr=0.01), "outside the vendor's points"),
        (lambda v: va.scores.match_rates(v, 70, nominal_fmr=1e-4), "not both"),
        (lambda v: va.scores.histogram(v, bin_width=0), "bin_width must be"),
        (lambda v: va.scores.vendor_thresholds(v.assign(occurred_at="monday")), "a time is needed"),
        (
            lambda v: va.scores.match_rates(v.assign(occurred_at=pd.Timestamp(0)), every="year"),
            "no period",
        ),
        (
            lambda v: va.scores.match_rates(
                v.assign(occurred_at=pd.Timestamp(0)), every="day", tz="Mars"
            ),
            "no time zone 'Mars'",
        ),
    ],
)
def test_nonsense_is_refused_in_one_line(call, message):
    with pytest.raises(UsageError, match=message) as refusal:
        call(answers([75.0], occurred_at=pd.Timestamp(0), result=True, alive=True))
    assert "\n" not in str(refusal.value)


def test_an_empty_frame_gives_an_empty_frame_of_the_same_shape():
    v = answers([75.0, 80.0], occurred_at=pd.Timestamp("2024-05-01", tz="UTC"), result=True)
    for statistic in (
        va.scores.regimes,
        lambda v: va.scores.histogram(v, by="result"),
        va.scores.match_rates,
        lambda v: va.scores.match_rates(v, [70, 71.5]),
        lambda v: va.scores.match_rates(v, nominal_fmr=1e-4, every="week"),
        va.scores.vendor_thresholds,
    ):
        full, empty = statistic(v), statistic(v.iloc[:0])
        assert len(full) > 0
        assert len(empty) == 0
        assert list(empty.columns) == list(full.columns)
