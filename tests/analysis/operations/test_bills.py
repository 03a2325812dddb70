"""Billed units against a loop, and against a made-up console bill."""

import datetime as dt
from collections import Counter

import pandas as pd
import pytest
from builders import frames as w

from verifyanalytics.analysis.operations.service import billing
from verifyanalytics.errors import MissingColumnError, UsageError

ROWS = w.messy(500, seed=4)


def test_units_by_code_are_those_of_a_loop():
    table = billing(w.frame(ROWS))
    expected = {}
    for r in ROWS:
        key = (r["gateway_code"] or "", r["code"], r["sub_code"])
        found = expected.setdefault(key, Counter())
        value = r["measure_value"]
        found["n_calls"] += 1
        found["n_billed"] += value is not None and value > 0
        found["n_free"] += value == 0
        found["n_unknown"] += value is None
        found["billed_units"] += value or 0
    assert len(table) == len(expected)
    for got in table.to_dict("records"):
        code, sub = (None if pd.isna(got[c]) else got[c] for c in ("code", "sub_code"))
        mine = expected[got["gateway_code"], code, sub]
        assert {name: got[name] for name in mine} == mine
    assert table["n_calls"].sum() == len(ROWS)


def test_the_code_book_speaks_where_the_answer_does_not():
    rows = [
        w.row(0, measure_value=None, sub_code=210311, score=None),  # the book bills it
        w.row(1, measure_value=None, sub_code=210205, score=None),  # it does not
        w.row(2, measure_value=None, sub_code=299999, score=None),  # not in the book
        w.row(3, measure_value=2),
    ]
    got = billing(w.frame(rows), by="req_key").iloc[0]
    assert (got["n_calls"], got["n_unknown"], got["billed_units"]) == (4, 3, 2)
    assert (got["n_unknown_billed"], got["n_unknown_free"]) == (1, 1)
    with_words = billing(w.frame(rows)).set_index("sub_code")
    assert with_words.loc[210311, "meaning"] == "faces do not match"


def test_beside_a_bill(tmp_path):
    rows = [w.row(i, occurred_at=dt.datetime(2024, 5, 10, tzinfo=dt.UTC)) for i in range(10)]
    rows += [
        w.row(20 + i, measure_value=None, sub_code=299999, score=None,
              occurred_at=dt.datetime(2024, 6, 30, 17, tzinfo=dt.UTC))
        for i in range(3)
    ]  # fmt: skip
    path = tmp_path / "bill.csv"
    path.write_text('账期,用量\n2024-05,"1,000"\n2024-07,2\n2024-08,5\n', encoding="utf-8-sig")
    table = billing(w.frame(rows), bill=path).set_index("period")
    # 17:00 UTC on June 30 is July in Shanghai
    assert table.loc["2024-07", ["units_low", "units_high", "difference"]].tolist() == [0, 3, 0]
    assert table["says"].to_dict() == {
        "2024-05": "bill is higher", "2024-07": "explained", "2024-08": "bill is higher",
    }  # fmt: skip
    assert table.loc["2024-05", "difference"] == 990
    frame = pd.DataFrame({"when": ["2024-05-10", "2024-05-11"], "n": [6, 3]})
    by_day = billing(w.frame(rows), bill=frame, bill_columns=("when", "n"), every="day")
    assert by_day.set_index("period")["says"].to_dict() == {
        "2024-05-10": "bill is lower",
        "2024-05-11": "bill is higher",
        "2024-07-01": "not on the bill",
    }


@pytest.mark.parametrize(
    "written",
    [
        ["2024-04", "2024-05"],
        ["2024/4", "2024/5"],
        ["2024-04-30", "2024-05-01"],
        ["2024/4/30", "2024/5/1"],
        ["2024-04-30 23:00:00", "2024-05-01T01:00:00+08:00"],
        [dt.date(2024, 4, 30), dt.date(2024, 5, 1)],
        pd.to_datetime(["2024-04-30", "2024-05-01"]),
        [" 2024-04 ", "2024-05"],
    ],
)
def test_periods_are_read_year_first(written):
    rows = [w.row(i, occurred_at=dt.datetime(2024, 5, 10, tzinfo=dt.UTC)) for i in range(4)]
    table = billing(w.frame(rows), bill=pd.DataFrame({"date": written, "units": [7, 4]}))
    assert table.set_index("period")["bill_units"].to_dict() == {"2024-04": 7, "2024-05": 4}


@pytest.mark.parametrize(
    ("periods", "units", "says"),
    [
        (["2024-05", None], ["3", "1"], "needs a period, year first .* none was given"),
        (["2024-05", "Total"], ["3", "4"], "needs a period, year first .* 'Total' was given"),
        (["01/05/2024", "30/04/2024"], ["3", "1"], "needs a period, year first .* '01/05/2024'"),
        (["20240501"], ["3"], "needs a period, year first"),
        (["2024-13"], ["3"], "no calendar has: 2024-13"),
        (["2024-05", "2024-04"], ["3", None], "needs its units, a number; none was given"),
        (["2024-05"], ["inf"], "needs its units, a number; 'inf' was given"),
    ],
)
def test_a_row_of_the_bill_that_says_half_is_refused(tmp_path, periods, units, says):
    bill = pd.DataFrame({"month": periods, "units": units})
    bill.to_csv(tmp_path / "bill.csv", index=False)
    for given in (bill, tmp_path / "bill.csv"):
        with pytest.raises(UsageError, match=says):
            billing(w.frame(ROWS[:20]), bill=given)


def test_blank_lines_of_a_bill_are_no_rows(tmp_path):
    rows = [w.row(i, occurred_at=dt.datetime(2024, 5, 10, tzinfo=dt.UTC)) for i in range(3)]
    (tmp_path / "bill.csv").write_text("month,units\n2024-05,3\n,\n")
    assert billing(w.frame(rows), bill=tmp_path / "bill.csv")["says"].tolist() == ["explained"]


@pytest.mark.parametrize("engine", ["pandas_numpy", "arrow", "polars_lazy", "duckdb"])
def test_every_engine_gives_the_same_frame(engine):
    pandas = w.frame(ROWS[:200])
    other = w.engines(pandas)[engine]
    bill = pd.DataFrame({"month": ["2024-05"], "units": [30]})
    for statistic in (billing, lambda v: billing(v, by="req_key"), lambda v: billing(v, bill=bill)):
        pd.testing.assert_frame_equal(statistic(other), statistic(pandas))


def test_nonsense_is_refused(tmp_path):
    frame = w.frame(ROWS[:20])
    with pytest.raises(MissingColumnError, match="measure_value"):
        billing(frame.drop(columns="measure_value"))
    with pytest.raises(MissingColumnError, match="the frame has: a, b"):
        billing(frame, bill=pd.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises(UsageError, match="cannot be read"):
        billing(frame, bill=tmp_path / "none.csv")
    bill = pd.DataFrame({"month": ["2024-05"], "units": ["many"]})
    for nonsense, message in (
        (lambda: billing(frame, bill=bill), "units, a number; 'many'"),
        (lambda: billing(frame, every="hour"), "no period 'hour'"),
        (lambda: billing(frame, every=[1]), "no period"),
        (lambda: billing(frame, bill=bill.assign(units=3), every="day"), "the bill is by month"),
        (lambda: billing(frame, bill=5), "a int is no bill"),
        (lambda: billing(frame, bill=bill, bill_columns="month"), "bill_columns are two"),
        (lambda: billing(frame, by=5), "by must be a column's name"),
        (lambda: billing(frame, by="measure_value"), "by measure_value"),
        (lambda: billing(frame, by="occurred_at"), "by occurred_at"),
    ):
        with pytest.raises(UsageError, match=message):
            nonsense()
