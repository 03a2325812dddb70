"""Counts per regime: the group-by of every statistic that must not pool scores across regimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import pandas as pd
from numpy.typing import ArrayLike

from verifyanalytics.analysis.base.groups import add_up, bin_counts, group_counts
from verifyanalytics.analysis.base.periods import TZ, Every
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes, regime_columns


def regime_keys(keys: Sequence[str]) -> list[str]:
    """Put the columns of the regime behind the caller's keys, which may name one, as req_key."""
    return [*keys, *regime_columns(keys)]


def period_columns(every: Every | None) -> list[str]:
    """Return the columns that a split by periods adds."""
    return ["period", "period_start", "partial"] if every else []


def regime_counts(
    frame: nw.LazyFrame[Any],
    keys: Sequence[str] = (),
    *,
    counts: Mapping[str, nw.Expr | None],
    edges: ArrayLike | None = None,
    least: Mapping[str, nw.Expr] | None = None,
    most: Mapping[str, nw.Expr] | None = None,
    every: Every | None = None,
    tz: str = TZ,
) -> pd.DataFrame:
    """Count rows per key, period and regime, and per score bin where `edges` are given.

    Parameters
    ----------
    frame, counts, least, most, every, tz
        As in `group_counts`.
    keys : sequence of str
    edges : array_like, optional
        As in `bin_counts`.

    Returns
    -------
    DataFrame
        The keys, the period's columns, `regime`, `REGIME`, `bin` (with edges), the counts; sorted
        by these. Incomplete regimes are one row.
    """
    if edges is None:
        table = group_counts(
            frame, regime_keys(keys), counts=counts, least=least, most=most, every=every, tz=tz
        )
    else:
        table = bin_counts(frame, edges, regime_keys(keys), counts=counts, every=every, tz=tz)
    front = dict.fromkeys([*keys, *period_columns(every), "regime", *REGIME])
    by = [*front, *([] if edges is None else ["bin"])]
    return add_up(name_regimes(table), by, least=least or (), most=most or ())
