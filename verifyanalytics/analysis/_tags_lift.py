"""Whether a tag goes with an outcome more often than chance would have it.

Without labels a tag that goes with non-matches is an association, and the frame says so. Against
the vendor's own rejections it is circular as well: the risk score takes part in the rejection.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from verifyanalytics.analysis import intervals
from verifyanalytics.analysis._tags_sets import TagSets, named, outcome_sets, person_sets
from verifyanalytics.analysis.intervals import FloatArray

_LEVEL, _NORMAL = 0.05, float(stats.norm.ppf(0.975))


def tag_lift(v: Any, outcome: str = "non_match") -> pd.DataFrame:
    """Hold each risk tag against an outcome: precision, recall, lift, and whether it is chance.

    Parameters
    ----------
    v : frame of verifications
        Needs `risk_tags` and what the outcome needs. Uses, when there, `risk_score` (a risk result
        without tags), `subject`, `occurred_at` and `request_id` (one row a person).
    outcome : str
        `non_match`: score below the row's own 1e-4 threshold, or withheld. `rejected`: the vendor's
        verdict is false; rows whose only failing gate is risk are left out and counted, and
        `circular` is true. `attack`: labels say so (`va.join_labels`); rows without label are
        unknown. Or a column of true and false, or 1 and 0.

    Returns
    -------
    DataFrame
        One row a tag, the surest lift first (`lift_low` falling): `tag`, `name_en`, `name_zh`,
        `family`, `family_en`, `family_zh`, `known`; `outcome`, `basis` (`association`, `labels`,
        `column`), `circular`, `clustered`; counts `n` (rows with a risk result and a known
        outcome), `n_tag`, `n_outcome`, `n_both`; `hit_rate` = n_tag / n; `precision` = n_both /
        n_tag and `recall` = n_both / n_outcome with 95 % limits; `lift` = precision over
        n_outcome / n with `lift_low`, `lift_high`; `phi`; `odds_ratio` with limits. On one row a
        person: `n_subjects`, `p_value` (Fisher, two-sided), `p_adjusted` (Benjamini–Hochberg over
        the tags), `significant` (adjusted ≤ 0.05). `deff` is the design effect used. Left out:
        `n_unknown`, `n_only_risk`, `n_risk_not_asked`. `reason` says why something is NaN or
        weak: `no_outcome`, `all_outcome`, `tag_on_every_row`, `none_seen`, `unclustered`.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is not there, or the outcome's column holds no truth values.

    Notes
    -----
    The log lift has the variance 1/a − 1/r − 1/c + (2·lift − 1)/n of the delta method, times the
    design effect Σm²/Σm for m rows a person: an upper limit, reached when a person's rows all say
    the same. At n_both = 0 the lift is 0 and its upper limit is the exact one of the precision.
    Without subjects `clustered` is false, rows are tested as if they were persons, and nothing is
    called significant.

    Examples
    --------
    >>> v = pd.DataFrame({"risk_tags": [["13001"], ["13001"], [], []], "fraud": [1, 0, 0, 0]})
    >>> tag_lift(v, "fraud")[["tag", "n_both", "precision", "recall", "lift"]].values.tolist()
    [['13001', 1, 0.5, 1.0, 2.0]]
    """
    sets, counted, meaning = outcome_sets(v, outcome)
    people, crowd = person_sets(counted)
    r, a = sets.per_tag(sets.n), sets.per_tag(sets.n_yes)
    n, c = int(sets.n.sum()), int(sets.n_yes.sum())
    deff = crowd.deff if crowd.known else 1.0
    table = pd.DataFrame({"tag": pd.Series(sets.tags, dtype="str")})
    table["outcome"] = pd.Series([outcome] * len(table), dtype="str")
    table["basis"] = pd.Series([meaning.basis] * len(table), dtype="str")
    table["circular"], table["clustered"] = meaning.circular, crowd.known
    table["n"], table["n_tag"], table["n_outcome"], table["n_both"] = n, r, c, a
    table["hit_rate"] = r / n if n else np.nan
    table = _shares(table, a, r, c, deff)
    whole = (np.float64(c), np.float64(n))  # NumPy's division by zero is NaN, Python's an error
    table = _lifted(table, a.astype(float), r.astype(float), *whole, deff)
    table["deff"] = deff
    table = _tested(table, people, significant=crowd.known)
    for name in ("n_unknown", "n_only_risk", "n_risk_not_asked"):
        table[name] = getattr(sets, name)
    table["reason"] = pd.Series(_reasons(table, crowd.known), index=table.index, dtype="str")
    table = named(table)
    return table.sort_values(
        ["lift_low", "lift", "tag"], ascending=[False, False, True], ignore_index=True
    )


def _shares(table: pd.DataFrame, a: Any, r: Any, c: int, deff: float) -> pd.DataFrame:
    for name, of in (("precision", r), ("recall", np.full_like(r, c))):
        low, high = intervals.rate_interval(a, of, deff)
        with np.errstate(divide="ignore", invalid="ignore"):
            table[name] = a / of
        table[f"{name}_low"], table[f"{name}_high"] = low, high
    return table


def _lifted(
    table: pd.DataFrame, a: FloatArray, r: FloatArray, c: np.float64, n: np.float64, deff: float
) -> pd.DataFrame:
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = a * n / (r * c)
        half = _NORMAL * np.sqrt(np.maximum(1 / a - 1 / r - 1 / c + (2 * lift - 1) / n, 0) * deff)
        low, high = lift * np.exp(-half), lift * np.exp(half)
        base = c / n
        none = (a == 0) & (c > 0)
        low = np.where(none, 0.0, low)
        high = np.where(none, table["precision_high"] / base, high)
        table["lift"], table["lift_low"], table["lift_high"] = lift, low, high
        b, d = r - a, c - a
        e = n - r - d
        table["phi"] = (a * e - b * d) / np.sqrt(r * (n - r) * c * (n - c))
        odds = (a * e) / (b * d)
        half = _NORMAL * np.sqrt((1 / a + 1 / b + 1 / d + 1 / e) * deff)
        table["odds_ratio"] = odds
        edge = (a == 0) | (b == 0) | (d == 0) | (e == 0)
        table["odds_ratio_low"] = np.where(edge, np.nan, odds * np.exp(-half))
        table["odds_ratio_high"] = np.where(edge, np.nan, odds * np.exp(half))
    return table


def _tested(table: pd.DataFrame, people: TagSets, *, significant: bool) -> pd.DataFrame:
    n, c = int(people.n.sum()), int(people.n_yes.sum())
    r = dict(zip(people.tags, people.per_tag(people.n).tolist(), strict=True))
    a = dict(zip(people.tags, people.per_tag(people.n_yes).tolist(), strict=True))
    p = [_fisher(a.get(tag, 0), r.get(tag, 0), c, n) for tag in table["tag"]]
    table["n_subjects"] = n
    table["p_value"] = np.array(p, dtype=float)
    table["p_adjusted"] = intervals.benjamini_hochberg(np.array(p, dtype=float))
    table["significant"] = (table["p_adjusted"] <= _LEVEL) & significant
    return table


def _fisher(a: int, r: int, c: int, n: int) -> float:
    """Fisher's p-value, NaN where a margin is empty and nothing can be tested."""
    if not 0 < r < n or not 0 < c < n:
        return float("nan")
    return float(stats.fisher_exact([[a, r - a], [c - a, n - r - c + a]])[1])


def _reasons(table: pd.DataFrame, clustered: bool) -> Any:
    return np.select(
        [
            table["n_outcome"] == 0,
            table["n_outcome"] == table["n"],
            table["n_tag"] == table["n"],
            table["n_both"] == 0,
            not clustered,
        ],
        ["no_outcome", "all_outcome", "tag_on_every_row", "none_seen", "unclustered"],
        "",
    )
