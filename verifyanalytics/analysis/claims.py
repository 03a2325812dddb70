"""What labels say about other people's words: the vendor's claim, and the labels' own ripeness."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.accuracy import error_rates
from verifyanalytics.analysis.counts import group_counts, rows
from verifyanalytics.analysis.intervals import poisson_exact, rate_interval
from verifyanalytics.analysis.labels import join_labels
from verifyanalytics.analysis.rates import share
from verifyanalytics.errors import UsageError

K_ROWS = (1, 3, 10)
"""The rows of `label_free_bounds`."""


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
        `n_false_matches`, `k_hat` = n_false_matches / (n_nonmated · nominal), `k_low`, `k_high`
        (exact Poisson, 95 %, on the effective number of rows), `believe`: the smallest row of
        `label_free_bounds` that k_high does not exceed, `none` when it is above 10 (label more, or
        do not trust the claim); `reason`.
    """
    table = error_rates(truth, assume_random=assume_random)
    x = table["n_false_matches"].to_numpy(dtype=float)
    deff = np.maximum(np.nan_to_num(table["fmr_deff"].to_numpy(), nan=1.0), 1.0)
    people = table["n_nonmated_subjects"].to_numpy(dtype=float)
    n = table["n_nonmated"].to_numpy(dtype=float)
    size = np.where(x == 0, np.minimum(people, n), n / deff)
    low, high = poisson_exact(np.where(n > 0, x * size / np.maximum(n, 1), 0))
    expected = size * table["nominal_fmr"].to_numpy()
    claimed = table["nominal_fmr"].to_numpy()
    k_hat, k_low, k_high = share(x, n * claimed), share(low, expected), share(high, expected)
    result = table[["regime", "nominal_fmr", "threshold", "n_nonmated", "n_false_matches"]].copy()
    silent = table["reason"].to_numpy() != ""
    result["k_hat"], result["k_low"], result["k_high"] = (
        np.where(silent, np.nan, v) for v in (k_hat, k_low, k_high)
    )
    words = [next((str(k) for k in K_ROWS if h <= k), "none") for h in result["k_high"]]
    result["believe"] = pd.Series(words, index=result.index, dtype="str").where(~silent, "")
    return result.assign(reason=table["reason"])


def label_maturity(v: Any, labels: Any, ripe: float = 0.9) -> pd.DataFrame:
    """How long labels take to come in: by week of the verification and age of the label.

    Parameters
    ----------
    v : frame of verifications
        With occurred_at.
    labels : frame of `labels`
        With labelled_at.
    ripe : float
        A week is ripe when, at its age, the oldest weeks had this share of their labels.

    Returns
    -------
    DataFrame
        Per `week` (Monday, UTC) and `age_weeks` (0: in the week after the verification): `n_rows`,
        `n_labelled`, `labelled_rate`, `n_fraud` (not mated, or an attack), `fraud_rate` of all rows
        of the week with limits, cumulated up to that age; only ages that have passed since.
        `ripe`: whether the week is old enough that hardly any label is to come.

    Raises
    ------
    UsageError
        No label has a time, or none names a row.
    """
    truth = join_labels(v, labels, conflict="latest")
    week_us = 7 * 86_400_000_000
    monday = 4 * 86_400_000_000  # 1970-01-05, the first Monday of the count
    frame = rows(truth, ["occurred_at", "labelled_at", "mated", "attack"])
    frame = frame.filter(~nw.col("occurred_us").is_null())
    told = frame.filter(~nw.col("labelled_at").is_null()).select(
        "occurred_us", "labelled_at", "mated", "attack"
    )
    week = (nw.col("occurred_us") - monday) // week_us
    totals = group_counts(
        frame.with_columns(_week=week),
        ["_week"],
        counts={"n_rows": ~nw.col("occurred_us").is_null()},
    )
    found: pd.DataFrame = told.collect(backend="pyarrow").to_native().to_pandas()
    if found.empty:
        raise UsageError("no label of these rows says when it was made (labelled_at)")
    at = (
        pd.to_datetime(found["labelled_at"], utc=True).astype("datetime64[us, UTC]").astype("int64")
    )
    occurred = found["occurred_us"].astype("int64")
    fraud = found["attack"].notna() | ~found["mated"].astype("boolean").fillna(value=True)
    cells = pd.DataFrame(
        {
            "_week": (occurred - monday) // week_us,
            "age_weeks": np.maximum((at - occurred) // week_us, 0),
            "n_labelled": 1,
            "n_fraud": fraud.astype("int64"),
        }
    )
    now = (at.max() - monday) // week_us
    return _ripened(totals, cells.groupby(["_week", "age_weeks"]).sum(), int(now), ripe)


def _ripened(totals: pd.DataFrame, cells: pd.DataFrame, now: int, ripe: float) -> pd.DataFrame:
    parts = []
    for week, n in zip(totals["_week"].astype("int64"), totals["n_rows"], strict=True):
        ages = range(max(now - week, 0) + 1)
        grid = cells.reindex(pd.MultiIndex.from_product([[week], ages], names=cells.index.names))
        grid = grid.fillna(0).astype("int64").cumsum().reset_index()
        parts.append(grid.assign(n_rows=n))
    table = pd.concat(parts, ignore_index=True)
    low, high = rate_interval(table["n_fraud"], table["n_rows"])
    table["labelled_rate"] = table["n_labelled"] / table["n_rows"]
    table["fraud_rate"] = table["n_fraud"] / table["n_rows"]
    table = table.assign(fraud_rate_low=low, fraud_rate_high=high)
    oldest = table[table["_week"] == table["_week"].min()]
    final = max(int(oldest["n_labelled"].iloc[-1]), 1)
    done = oldest.loc[oldest["n_labelled"] >= ripe * final, "age_weeks"].min()
    last_age = table.groupby("_week")["age_weeks"].transform("max")
    table["ripe"] = last_age >= done
    start = pd.Timestamp("1970-01-05") + pd.to_timedelta(table.pop("_week") * 7, unit="D")
    table.insert(0, "week", start.astype("datetime64[s]"))
    return table
