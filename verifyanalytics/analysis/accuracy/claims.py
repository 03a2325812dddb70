"""What labels say about other people's words: the vendor's claim, and the labels' own ripeness."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.accuracy.rates import error_rates
from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.intervals import FloatArray, poisson_exact, rate_interval, ratio
from verifyanalytics.analysis.base.labelled import compared_rows, label_table
from verifyanalytics.analysis.base.labelled import join as join_labels
from verifyanalytics.analysis.base.periods import TZ, local_times
from verifyanalytics.analysis.base.rates import effective_size
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number
from verifyanalytics.errors import UsageError

K_ROWS = (1, 3, 10)
"""The rows of `label_free_bounds`."""

_WEEK_US = 7 * 86_400_000_000


# ------------------------------------------------------------------ the vendor's claim


@statistic("accuracy.claim_audit")
def claim_audit(truth: Any, *, assume_random: bool = False) -> pd.DataFrame:
    """How many times the vendor's claim the false-match rate really is: which k row to believe.

    Parameters
    ----------
    truth : frame
        From `join_labels`.
    assume_random : bool
        See `error_rates`.

    Returns
    -------
    DataFrame
        Per regime and vendor threshold: `nominal_fmr`, `threshold`, `n_nonmated`,
        `n_false_matches`, `k_hat` = FMR / nominal (rows weighted as in `error_rates`), `k_low`,
        `k_high` (exact Poisson, 95 %, on the effective number of rows; at the 1e-3 threshold
        withheld scores may have matched, and k_high counts them), `believe`: the smallest row of
        `label_free_bounds` that k_high does not exceed, `none` when it is above 10 (label more, or
        do not trust the claim); `reason`.
    """
    table = error_rates(truth, assume_random=assume_random)
    rate, n, claimed = (
        table[name].to_numpy(dtype=float) for name in ("fmr", "n_nonmated", "nominal_fmr")
    )
    withheld = table["n_nonmated_withheld"].to_numpy(dtype=float)
    hidden = np.where(claimed > 1e-4, ratio(withheld, n), 0.0)
    limits = [
        _poisson_rate(table, np.minimum(np.nan_to_num(r), 1.0)) for r in (rate, rate + hidden)
    ]
    low, high = limits[0][0], np.minimum(limits[1][1], 1.0)
    result = table[["regime", "nominal_fmr", "threshold", "n_nonmated", "n_false_matches"]].copy()
    silent = table["reason"].to_numpy() != ""
    for name, value in (("k_hat", rate), ("k_low", low), ("k_high", high)):
        result[name] = np.where(silent, np.nan, value / claimed)
    words = [next((str(k) for k in K_ROWS if h <= k), "none") for h in result["k_high"]]
    result["believe"] = pd.Series(words, index=result.index, dtype="str").where(~silent, "")
    return result.assign(reason=table["reason"])


def _poisson_rate(table: pd.DataFrame, rate: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Exact limits of a rate whose errors are rare, on the effective number of rows."""
    n, deff, carried = (
        table[name].to_numpy(dtype=float) for name in ("n_nonmated", "fmr_deff", "fmr_guard")
    )
    size = effective_size(rate, n, deff, carried)
    low, high = poisson_exact(rate * size)
    return ratio(low, size), ratio(high, size)


# ------------------------------------------------------------------ ripeness


@statistic("labels.maturity")
def maturity(v: Any, labels: Any, ripe: float = 0.9, tz: str = TZ) -> pd.DataFrame:
    """How long labels take to come in: by week of the verification and age of the label.

    Parameters
    ----------
    v : frame of verifications
        With occurred_at.
    labels : frame of `labels`
        With labelled_at.
    ripe : float
        In [0, 1]. A week is ripe when, at its age, the oldest week with labels had this share of
        them.
    tz : str
        Where weeks begin.

    Returns
    -------
    DataFrame
        Per `week` (its Monday, local; NaT: rows without a time) and `age_weeks` (0: within a week
        after the verification): `n_rows`, `n_labelled`, `labelled_rate`, `n_fraud` (not mated, or
        an attack), `fraud_rate` of all rows of the week with limits, cumulated up to that age; only
        ages that every row of the week had passed when the last label was made. A week without such
        an age has one row, of age NA: what is known so far. `ripe`: whether the week is old enough
        that hardly any label is to come.

    Raises
    ------
    UsageError
        No label has a time, or none names a row; `ripe` outside [0, 1].

    Notes
    -----
    A row is labelled from its first label on, by whomever: a second look does not make it younger.
    It is a fraud case if its latest label says so, from the first label on that did.
    """
    share_ = number(ripe, "ripe", low=0, high=1)
    totals = group_counts(
        lazy_rows(v, ["occurred_at"]), counts={"n_rows": None}, every="week", tz=tz
    )
    told = _told(v, labels)
    if told.empty:
        raise UsageError("no label of these rows says when it was made (labelled_at)")
    local = local_times(told["occurred_us"], tz).dt.normalize()
    told["week"] = (local - pd.to_timedelta(local.dt.day_of_week, unit="D")).astype("datetime64[s]")
    weeks = totals[["period_start", "n_rows"]].rename(columns={"period_start": "week"})
    passed = (told["last_us"].max() - _ends(weeks["week"], tz)) // _WEEK_US
    weeks["n_ages"] = passed.clip(lower=0).fillna(0).astype("int64")
    table = pd.concat([_aged(week, told) for week in weeks.to_dict("records")], ignore_index=True)
    return _rates(table, weeks, share_)


def _told(v: Any, labels: Any) -> pd.DataFrame:
    """Labelled rows: when they occurred, were first labelled, first called fraud, last labelled."""
    truth = join_labels(v, labels, conflict="latest")
    frame = compared_rows(
        truth, ["request_id", "occurred_at", "labelled", "mated"], ["attack", "token"]
    )
    fraud = ~nw.col("attack").is_null() | (~nw.col("mated")).fill_null(value=False)
    frame = frame.filter(nw.col("labelled")).with_columns(_fraud=fraud)
    found = frame.select("request_id", "occurred_us", "_fraud", _token=_of_scored())
    told: pd.DataFrame = found.collect(backend="pyarrow").to_native().to_pandas()
    times = _times(label_table(labels))
    for key, column in (("request_id", "request_id"), ("token", "_token")):
        mine = times[key].add_suffix(f"_{key}")
        told = told.merge(mine, left_on=column, right_index=True, how="left")
    told["first_us"], told["fraud_us"], told["last_us"] = (
        told[[f"{name}_request_id", f"{name}_token"]].agg(way, axis=1)
        for name, way in (("first", "min"), ("fraud", "min"), ("last", "max"))
    )
    told = told[told["first_us"].notna()]
    fraud_us = told["fraud_us"].fillna(told["first_us"]).where(told["_fraud"].astype(bool))
    return told[["occurred_us", "first_us", "last_us"]].assign(fraud_us=fraud_us)


def _of_scored() -> nw.Expr:
    """The token of a scored row: labels of a token speak of no other."""
    return nw.when(nw.col("_scored")).then(nw.col("token").cast(nw.String))


def _times(labels: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each labelled id and token: `first` label, first that says `fraud`, `last` (µs)."""
    at = (
        labels["labelled_at"].astype("int64").astype("float64").where(labels["labelled_at"].notna())
    )
    fraud = labels["attack"].notna() | labels["mated"].eq(False).fillna(value=False)
    labels = labels.assign(first=at, last=at, fraud=at.where(fraud))
    by_token = labels["request_id"].isna()
    how = {"first": "min", "fraud": "min", "last": "max"}
    return {
        key: labels[mine].groupby(key).agg(how)
        for key, mine in (("request_id", ~by_token), ("token", by_token))
    }


def _ends(monday: pd.Series, tz: str) -> pd.Series:
    """Return the moments at which weeks end: the next Monday's midnight of local clocks (µs)."""
    after = (monday + pd.Timedelta(days=7)).astype("datetime64[us]")
    later = np.zeros(len(after), dtype=bool)  # of two such midnights the second
    ends = after.dt.tz_localize(tz, ambiguous=later, nonexistent="shift_forward")
    return ends.astype("int64").astype("float64").where(monday.notna())


def _aged(week: dict[str, Any], told: pd.DataFrame) -> pd.DataFrame:
    """Count the labels of a week up to each age that has passed; else those known so far."""
    start, ages = week["week"], np.arange(week["n_ages"])
    mine = told[told["week"].isna() if pd.isna(start) else told["week"] == start]
    columns = {"week": start, "age_weeks": ages, "n_rows": week["n_rows"]}
    for name, column in (("n_labelled", "first_us"), ("n_fraud", "fraud_us")):
        age = ((mine[column] - mine["occurred_us"]) // _WEEK_US).clip(lower=0)
        columns[name] = (
            np.searchsorted(np.sort(age.dropna()), ages, side="right")
            if ages.size else [int(mine[column].notna().sum())]
        )  # fmt: skip
    if not ages.size:
        columns["age_weeks"] = [pd.NA]
    return pd.DataFrame(columns).astype({"week": "datetime64[s]", "age_weeks": "Int64"})


def _rates(table: pd.DataFrame, weeks: pd.DataFrame, ripe: float) -> pd.DataFrame:
    low, high = rate_interval(table["n_fraud"], table["n_rows"])
    table.insert(4, "labelled_rate", table["n_labelled"] / table["n_rows"])
    table["fraud_rate"] = table["n_fraud"] / table["n_rows"]
    table = table.assign(fraud_rate_low=low, fraud_rate_high=high)
    known = table[table["age_weeks"].notna() & (table["n_labelled"] > 0)]
    oldest = known[known["week"] == known["week"].min()]
    enough = oldest[oldest["n_labelled"] >= ripe * oldest["n_labelled"].max()]
    done = float(enough["age_weeks"].min()) if len(enough) else np.inf
    age = table["week"].map(weeks.set_index("week")["n_ages"]) - 1
    return table.assign(ripe=(age >= done).fillna(value=False).astype(bool))
