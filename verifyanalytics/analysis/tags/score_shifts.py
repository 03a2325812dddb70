"""Scores of rows with a risk tag beside those without it, inside a regime."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import bin_counts
from verifyanalytics.analysis.base.regimes import INCOMPLETE, REGIME, name_regimes
from verifyanalytics.analysis.base.rows import OPTIONAL, REQUIRED, answered
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.tags.sets import asked, named, text_tags
from verifyanalytics.arguments import number
from verifyanalytics.errors import UsageError


@statistic("tags.scores")
def scores(v: Any, bin_width: float = 5.0) -> pd.DataFrame:
    """Distribution of the score with and without each risk tag, per regime.

    Parameters
    ----------
    v : frame of verifications
    bin_width : float
        In score points: 0.5, 1, 2, 2.5, 5, 10 …, a divisor of 100.

    Returns
    -------
    DataFrame
        One row a regime, tag and bin: `regime`, `tag` and its names; `score_low`, `score_high`
        (half-open, the last bin includes 100); `n_with`, `share_with` of the scored rows with the
        tag, `n_without`, `share_without`; of the whole distribution `n_scored_with`,
        `n_scored_without`, `ks` (largest distance of the two cumulated shares at a bin's end,
        signed: above 0 the scores with the tag are lower), `n_no_score_with`,
        `n_no_score_without`: rows with a risk result and without a score. Tags by falling
        frequency over all regimes; rows of no complete regime are left out.

    Raises
    ------
    UsageError
        `bin_width` does not divide 100.

    See Also
    --------
    rates, verifyanalytics.scores.histogram

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [65.0, 85.0, 85.0],
    ...     "risk_tags": [["13001"], [], []], "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> scores(v, 50)[["tag", "score_low", "n_with", "n_without", "ks"]].values.tolist()
    [['13001', 0.0, 0, 0, 0.0], ['13001', 50.0, 1, 2, 0.0]]
    """
    bin_width = number(bin_width, "bin_width", low=0.1, high=100)
    n_bins = round(100 / bin_width)
    if abs(n_bins * bin_width - 100) > 1e-9:
        raise UsageError(f"bin_width must divide 100; {bin_width:g} was given")
    edges = np.round(np.arange(n_bins) * bin_width, 6)
    frame = lazy_rows(v, (*REQUIRED, "sub_code", "risk_tags"), (*OPTIONAL, "risk_score"))
    table = bin_counts(
        text_tags(frame).filter(answered(), asked()),
        edges[1:],
        [*REGIME, "risk_tags"],
        counts={"n": ~nw.col("score").is_null(), "n_no_score": nw.col("score").is_null()},
    )
    table = name_regimes(table)
    table = table[table["regime"] != INCOMPLETE]
    held = [tags if isinstance(tags, tuple) else () for tags in table["risk_tags"]]
    sizes: dict[str, int] = {}
    for tags, n in zip(held, table["n"] + table["n_no_score"], strict=True):
        for tag in tags:
            sizes[tag] = sizes.get(tag, 0) + int(n)
    order = sorted(sizes, key=lambda tag: (-sizes[tag], tag))
    parts = [
        _compared(part, [tag in held[i] for i in at], regime, tag, edges, bin_width)
        for regime, at in table.reset_index(drop=True).groupby("regime").indices.items()
        for part in [table.iloc[at]]
        for tag in order
    ]
    return named(pd.concat(parts, ignore_index=True)) if parts else _empty()


def _compared(
    part: pd.DataFrame, has: list[bool], regime: str, tag: str, edges: Any, width: float
) -> pd.DataFrame:
    table = pd.DataFrame({"score_low": edges, "score_high": np.round(edges + width, 6)})
    table.insert(0, "regime", regime)
    table.insert(1, "tag", tag)
    tagged, shares = np.array(has, dtype=np.bool_), {}
    for side, rows in (("with", part[tagged]), ("without", part[~tagged])):
        n = np.zeros(len(edges), dtype="int64")
        scored = rows[rows["bin"] >= 0]
        np.add.at(n, scored["bin"].to_numpy(), scored["n"].to_numpy())
        with np.errstate(divide="ignore", invalid="ignore"):
            shares[side] = n / n.sum()
        table[f"n_{side}"], table[f"share_{side}"] = n, shares[side]
        table[f"n_scored_{side}"] = n.sum()
        table[f"n_no_score_{side}"] = int(rows["n_no_score"].sum())
    gap = np.cumsum(shares["with"]) - np.cumsum(shares["without"])
    table["ks"] = gap[np.argmax(np.abs(gap))] if np.isfinite(gap).all() else np.nan
    whole = ["n_scored_with", "n_scored_without", "n_no_score_with", "n_no_score_without", "ks"]
    return table[[*table.columns.drop(whole), *whole]]


def _empty() -> pd.DataFrame:
    nothing = pd.DataFrame(columns=["risk_tags", "n", "n_no_score", "bin"], dtype="int64")
    return named(_compared(nothing, [], "", "", np.zeros(1), 1.0).iloc[:0])
