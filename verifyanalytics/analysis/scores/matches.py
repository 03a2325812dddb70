"""Match rates: how many comparisons reach a threshold, per regime.

A score is a match iff `score >= threshold`. Rows are the answered ones; the denominator of every
match rate is scored plus withheld rows (`withheld`: compared, but the score was not told: a
non-match). Rates are pooled across regimes only at equal `nominal_fmr`, the false-match rate the
vendor claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, group_keys, period_columns, regime_counts
from verifyanalytics.analysis.base.intervals import rate_interval
from verifyanalytics.analysis.base.periods import TZ, Every, utc_times
from verifyanalytics.analysis.base.regimes import INCOMPLETE, REGIME, implied_fmr, threshold_at_fmr
from verifyanalytics.analysis.base.rows import (
    OPTIONAL,
    OWN_THRESHOLD,
    REQUIRED,
    answered,
    withheld,
)
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import numbers
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS

ALL_REGIMES = "all"
"""The regime of rates at a nominal FMR: every complete regime, each at its own score."""

OWN_FMR = float(THRESHOLD_LEVELS[1])
"""The vendor's claim at the threshold of its documented rule, `OWN_THRESHOLD`."""

_COUNTED = ["n_scored", "n_withheld", "n_without_score"]
_RATED = [
    "threshold", "nominal_fmr", "n", "n_match", "match_rate", "match_rate_low", "match_rate_high",
    "n_withheld", "n_without_score",
]  # fmt: skip
_MADE = (
    "regime", *_RATED, "n_scored", "n_regimes", "reason", "bin", "period", "period_start", "partial"
)  # fmt: skip


@statistic("scores.match_rates")
def match_rates(
    v: Any,
    thresholds: float | Iterable[float] | None = None,
    *,
    nominal_fmr: float | Iterable[float] | None = None,
    by: str | Sequence[str] | None = None,
    every: Every | None = None,
    tz: str = TZ,
) -> pd.DataFrame:
    """Share of comparisons at or above a threshold, per regime.

    Parameters
    ----------
    v : frame of verifications
    thresholds : number or iterable of numbers, optional
        Scores. Default: the regime's own four.
    nominal_fmr : number or iterable of numbers, optional
        Claimed false-match rates, 1e-6 to 1e-3, instead of `thresholds`: each row is held against
        its own regime's score for it. The only way to one number across regimes (`all`).
    by : str or sequence of str, optional
        Columns to split by.
    every : {"day", "week", "month"}, optional
        Split by local time too: adds `period`, `period_start` and `partial`.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        The `by` columns, the period's columns, `regime`, `threshold` (NaN for `all`),
        `nominal_fmr` (the vendor's claim at it, NaN outside its four points), `n` (scored plus
        withheld), `n_match`, `match_rate` with 95 % limits `match_rate_low` and
        `match_rate_high`, `n_withheld`, `n_without_score` (answered, no score) and `reason`: why
        something is NaN (`> 1e-3`, `< 1e-6`, `incomplete_regime`, `no_rows`), else empty.
        A withheld score lies below the own 1e-4 threshold: from there on it is a non-match for
        certain; below, it is counted as one and `match_rate_high` allows that it is not, as in
        `error_rates`. At a nominal FMR `n_regimes` says how many regimes `all` is made of, and
        rows of no regime stand apart.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is missing; thresholds that are no numbers, or both kinds given.

    See Also
    --------
    vendor_thresholds, decision_table, verifyanalytics.accuracy.error_rates

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [59.9, 70.0, 85.0],
    ...     "threshold_1e_3": 60, "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> match_rates(v, [70, 80])[["threshold", "nominal_fmr", "n_match", "n"]].values.tolist()
    [[70.0, 0.0001, 2.0, 3.0], [80.0, 1e-05, 1.0, 3.0]]
    """
    if thresholds is not None and nominal_fmr is not None:
        raise UsageError("give thresholds or nominal_fmr, not both")
    keys = group_keys(by, _MADE)
    columns = (*REQUIRED, "sub_code", *keys, *(("occurred_at",) if every else ()))
    frame = lazy_rows(v, columns, OPTIONAL).filter(answered())
    if nominal_fmr is not None:
        claims = sorted({*numbers(nominal_fmr, "nominal_fmr")})
        return with_match_rates(_at_nominal(frame, claims, keys, every, tz))
    if thresholds is not None:
        scores = sorted({*numbers(thresholds, "thresholds")})
        return with_match_rates(_at_scores(frame, scores, keys, every, tz))
    table = regime_counts(frame, keys, counts=_own_counts(), every=every, tz=tz)
    at = _at_own(table, [*keys, *period_columns(every), "regime"])
    return with_match_rates(at).drop(columns="level")


@statistic("scores.vendor_thresholds")
def vendor_thresholds(v: Any, every: Every | None = None, tz: str = TZ) -> pd.DataFrame:
    """Show the vendor's four thresholds of each regime, when they held and what they let pass.

    Parameters
    ----------
    v : frame of verifications
    every : {"day", "week", "month"}, optional
        One row a regime, level and period, instead of one a regime and level.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        `regime`, `req_key`, `level` (`1e-3` …), `threshold` (score), `first_at`, `last_at` (UTC
        times of the regime's first and last answered row), and `n`, `n_match`, `match_rate`,
        `match_rate_low`, `match_rate_high`, `n_withheld`, `n_without_score`, `reason` as in
        `match_rates`. The regime `incomplete` has NaN thresholds and no rates.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is missing; a period or time zone that is not known.

    See Also
    --------
    match_rates, regimes, verifyanalytics.stability.regime_changes

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [65.0, 85.0],
    ...     "occurred_at": pd.Timestamp("2024-05-01", tz="UTC"), "threshold_1e_3": 60,
    ...     "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> vendor_thresholds(v)[["level", "threshold", "n_match"]].values.tolist()
    [['1e-3', 60.0, 2], ['1e-4', 70.0, 1], ['1e-5', 80.0, 1], ['1e-6', 90.0, 0]]
    """
    frame = lazy_rows(v, (*REQUIRED, "sub_code", "occurred_at"), OPTIONAL).filter(answered())
    moment = nw.col("occurred_us")
    table = regime_counts(
        frame, counts=_own_counts(), least={"first_at": moment}, most={"last_at": moment},
        every=every, tz=tz,
    )  # fmt: skip
    periods = period_columns(every)
    long = with_match_rates(_at_own(table, [*periods, "regime", "req_key", "first_at", "last_at"]))
    order = [*periods[1:2], "first_at", "regime"]
    long = long.drop(columns="nominal_fmr").sort_values(order, kind="stable", ignore_index=True)
    for name in ("first_at", "last_at"):
        long[name] = utc_times(long[name])
    front = [*periods, "regime", "req_key", "level", "threshold", "first_at", "last_at"]
    return long[[*front, *long.columns.drop(front)]]


def with_match_rates(counts: pd.DataFrame) -> pd.DataFrame:
    """Turn counts at thresholds into rates: the finishing half of `match_rates`.

    Parameters
    ----------
    counts : DataFrame
        Any keys; `regime`, `threshold`, `nominal_fmr`, `n_match`, `n_scored`, `n_withheld`,
        `n_without_score`; `_own` and `_lowest`, the regime's 1e-4 and 1e-3 thresholds (NaN at a
        nominal FMR); perhaps `n_regimes`.
    """
    incomplete = (counts["regime"] == INCOMPLETE).to_numpy()
    threshold, claim = counts["threshold"], counts["nominal_fmr"]
    n_match, n_withheld = counts["n_match"].to_numpy(), counts["n_withheld"].to_numpy()
    n = counts["n_scored"].to_numpy() + n_withheld
    # below the own threshold a withheld score may reach what its own rule does not
    below = (threshold < counts["_own"]) | (threshold.isna() & (claim > OWN_FMR))
    rates = {
        "match_rate": np.divide(n_match, n, out=np.full(len(n), np.nan), where=n > 0),
        "match_rate_low": rate_interval(n_match, n).low,
        "match_rate_high": rate_interval(np.where(below, n_match + n_withheld, n_match), n).high,
    }
    reason = np.select(
        [incomplete, n == 0, claim.isna() & (threshold < counts["_lowest"]), claim.isna()],
        ["incomplete_regime", "no_rows", "> 1e-3", "< 1e-6"],
        "",
    )
    table = counts.drop(columns=["n_scored", "_own", "_lowest"]).assign(
        n=n, reason=reason, **{c: np.where(incomplete, np.nan, x) for c, x in rates.items()}
    )
    last = [*_RATED, *(["n_regimes"] if "n_regimes" in table else []), "reason"]
    return table[[*table.columns.drop(last), *last]]


# ------------------------------------------------------------------ counts at thresholds


def stacked(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put frames of the same rows together: the entries of a row stay together, in their order."""
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def _row_counts() -> dict[str, nw.Expr]:
    is_null = nw.col("score").is_null()
    return {"n_scored": ~is_null, "n_withheld": withheld(), "n_without_score": is_null}


def _own_counts() -> dict[str, nw.Expr]:
    return _row_counts() | {f"at_{x}": nw.col("score") >= nw.col(x) for x in THRESHOLD_COLUMNS}


def _at_own(table: pd.DataFrame, front: list[str]) -> pd.DataFrame:
    """Turn one row with four thresholds into four rows with one."""
    shared = table[[*front, *_COUNTED]].assign(
        _own=table[OWN_THRESHOLD], _lowest=table[THRESHOLD_COLUMNS[0]]
    )
    return stacked([
        shared.assign(
            level=level, threshold=table[name], n_match=table[f"at_{name}"],
            nominal_fmr=np.where(table[name].isna(), np.nan, float(level)),
        )
        for level, name in zip(THRESHOLD_LEVELS, THRESHOLD_COLUMNS, strict=True)
    ])  # fmt: skip


def _at_scores(
    frame: nw.LazyFrame[Any], thresholds: list[float], keys: list[str], every: Every | None, tz: str
) -> pd.DataFrame:
    """Count rows at or above each threshold, from one count per bin."""
    counted = {"n": None, "n_withheld": withheld()}
    table = regime_counts(frame, keys, counts=counted, edges=thresholds, every=every, tz=tz)
    front = list(dict.fromkeys([*keys, *period_columns(every), "regime", *REGIME]))
    group = table.groupby(front, dropna=False, sort=False).ngroup().to_numpy()
    first = table.iloc[np.unique(group, return_index=True)[1]]
    place, n_rows = table["bin"].to_numpy(), table["n"].to_numpy()
    n = np.zeros((len(first), len(thresholds) + 2), dtype="int64")  # the last bin: no score
    np.add.at(n, (group, place), n_rows)
    withheld_rows = np.zeros(len(first), dtype="int64")
    np.add.at(withheld_rows, group, table["n_withheld"].to_numpy())
    reached = n[:, -2::-1].cumsum(axis=1)[:, ::-1]
    at = first.iloc[np.repeat(np.arange(len(first)), len(thresholds))].reset_index(drop=True)
    points = at[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
    scores = np.tile(np.array(thresholds, dtype=float), len(first))
    return at[[*keys, *period_columns(every), "regime"]].assign(
        threshold=scores, nominal_fmr=implied_fmr(points, scores), n_match=reached[:, 1:].ravel(),
        n_scored=np.repeat(reached[:, 0], len(thresholds)),
        n_withheld=np.repeat(withheld_rows, len(thresholds)),
        n_without_score=np.repeat(n[:, -1], len(thresholds)),
        _own=points[:, 1], _lowest=points[:, 0],
    )  # fmt: skip


def _at_nominal(
    frame: nw.LazyFrame[Any], claims: list[float], keys: list[str], every: Every | None, tz: str
) -> pd.DataFrame:
    """Count rows at or above their own regime's score for each claim, all regimes together."""
    reached = {f"at_{i}": nw.col("score") >= threshold_at_fmr(x) for i, x in enumerate(claims)}
    table = regime_counts(frame, keys, counts=_row_counts() | reached, every=every, tz=tz)
    whole = table["regime"] != INCOMPLETE
    table["n_regimes"] = whole.astype("int64")
    table["regime"] = np.where(whole, ALL_REGIMES, INCOMPLETE)
    front = [*keys, *period_columns(every), "regime"]
    table = add_up(table.drop(columns=[*{*REGIME} - {*keys}]), front)
    shared = table.drop(columns=[*reached]).assign(threshold=np.nan, _own=np.nan, _lowest=np.nan)
    return stacked([
        shared.assign(
            n_match=table[f"at_{i}"],
            nominal_fmr=np.where(table["regime"] == INCOMPLETE, np.nan, claim),
        )
        for i, claim in reversed([*enumerate(claims)])  # from lenient to strict, as scores rise
    ])  # fmt: skip
