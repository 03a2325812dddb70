"""The decision table: for each threshold what it would let pass, turn away and risk.

One row per regime and threshold puts side by side what three statistics say: match rates, the
bounds that need no label, and, where rows are labelled, the error rates. It adds no statistic of
its own. "Today" is the vendor's documented rule, the regime's own 1e-4 threshold; liveness and risk
are held as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.accuracy.rates import error_rates
from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.bounds.formulas import COVERS
from verifyanalytics.analysis.bounds.unlabelled import label_free
from verifyanalytics.analysis.scores.matches import OWN_FMR, match_rates
from verifyanalytics.analysis.scores.swap_sets import what_if
from verifyanalytics.arguments import numbers
from verifyanalytics.schema import THRESHOLD_LEVELS
from verifyanalytics.wording.numbers import short

_LEVELS = tuple(float(level) for level in THRESHOLD_LEVELS)
_RATES = ("n", "n_match", "match_rate", "match_rate_low", "match_rate_high", "n_withheld",
          "n_without_score")  # fmt: skip
_LABELLED = ("n_nonmated", "n_false_matches", "fmr", "fmr_low", "fmr_high", "fmr_says", "n_mated",
             "n_false_nonmatches", "fnmr", "fnmr_low", "fnmr_high", "fnmr_says",
             "weighted")  # fmt: skip
_TEXTS = ("_says", "reason", "note")
_UNLABELLED = "no_label"
"""Reason of missing error rates in a regime where nothing is labelled."""


@statistic("scores.decision_table")
def decision_table(
    v: Any,
    thresholds: float | Iterable[float] | None = None,
    truth: Any = None,
    *,
    k: Sequence[float] = (1, 3, 10),
    impostor_share: float | None = None,
    assume_random: bool = False,
) -> pd.DataFrame:
    """What each threshold lets pass, turns away and risks, per regime.

    Parameters
    ----------
    v : frame of verifications
    thresholds : number or iterable of numbers, optional
        Scores. Default: each regime's own four.
    truth : frame, optional
        From `va.labels.join`: error rates are added.
    k, impostor_share
        As in `label_free`.
    assume_random : bool
        As in `error_rates`.

    Returns
    -------
    DataFrame
        A row per regime and threshold:

        - `regime`, `threshold` (score), `claimed_fmr` (the vendor's claim there, NaN outside its
          four points; `claim_says` in words), `today`: it is the regime's own 1e-4 threshold;
        - `gates_reproduce_result`: share of the regime's rows whose own gates give the vendor's
          `result`; far below 1 the vendor follows another rule, and "today" is not today;
        - `n` (scored and withheld), `n_match`, `match_rate` with 95 % limits, `n_withheld`,
          `n_without_score`; `n_more_turned_away` than at the own 1e-4 threshold (negative: fewer),
          owners and strangers alike;
        - without labels, for each k a column `false_matches_high_k1` … (zero-effort false matches
          among these rows, 97.5 %) and `fnmr_bound_low_k1` …, and `fnmr_bound_high`;
          `bound_reason` of missing ones, `covers`: what they are silent about;
        - with `truth`: `fmr`, `fnmr` with counts, 95 % limits and what may be printed
          (`fmr_says`: a rate, or "< …"), `weighted`, `label_reason` of missing ones, `label_note`.

        `reason` is `incomplete_regime` for rows without a full set of thresholds: they are counted
        and not rated.

    Raises
    ------
    LabelsError
        One class is not labelled.
    UsageError
        Thresholds that are no numbers; k or impostor_share out of range.

    See Also
    --------
    match_rates, what_if, verifyanalytics.bounds.label_free, verifyanalytics.accuracy.error_rates

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [50.0] * 10 + [75.0] * 90,
    ...     "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> table = decision_table(v, [70, 80])
    >>> table[["threshold", "today", "n_match", "n_more_turned_away"]].values.tolist()
    [[70.0, True, 90, 0], [80.0, False, 0, 90]]
    """
    asked = None if thresholds is None else sorted({*numbers(thresholds, "thresholds")})
    k = numbers(k, "k", above=0, below=1000)
    table = _rated(v, asked)
    where: dict[str, Any] = {"nominal_fmr": _LEVELS} if asked is None else {"threshold": asked}
    bounds = label_free(v, k=k, impostor_share=impostor_share, **where)
    table = _merged(table, _side_by_side(bounds, k)).assign(covers=COVERS)
    if truth is not None:
        found = error_rates(truth, asked, assume_random=assume_random)
        table = _merged(table, _error_columns(found))
        table["label_reason"] = table["label_reason"].where(table["n_mated"].notna(), _UNLABELLED)
    incomplete = table["regime"] == INCOMPLETE
    table["reason"] = np.where(incomplete, "incomplete_regime", "")
    texts = [name for name in table if name.endswith(_TEXTS)]
    return table.fillna(dict.fromkeys(texts, "")).astype(dict.fromkeys(texts, "str"))


def _rated(v: Any, asked: list[float] | None) -> pd.DataFrame:
    """Match rates as the table has them; rows of no regime once, for they face no threshold."""
    rates = match_rates(v, asked)
    today = rates if asked is None else match_rates(v)
    at_today = today[today["nominal_fmr"] == OWN_FMR].set_index("regime")["n_match"]
    incomplete = rates["regime"] == INCOMPLETE
    claim = rates["nominal_fmr"]
    table = pd.DataFrame({"regime": rates["regime"], "threshold": rates["threshold"]})
    table["threshold"] = table["threshold"].mask(incomplete)
    table["claimed_fmr"] = claim
    words = [short(x) if x == x else said for x, said in zip(claim, rates["reason"], strict=True)]
    table["claim_says"] = pd.Series(words, index=table.index).mask(incomplete, "")
    table["today"] = np.isclose(claim, OWN_FMR, rtol=1e-9, atol=0)
    table["gates_reproduce_result"] = table["regime"].map(_reproduced(v))
    table[list(_RATES)] = rates[list(_RATES)]
    more = rates["regime"].map(at_today).astype("Int64") - rates["n_match"]
    table["n_more_turned_away"] = more.mask(incomplete)
    table = table[~incomplete | ~table.duplicated(["regime", "threshold"])]
    order = {name: i for i, name in enumerate(rates["regime"].unique())}
    table = table.assign(_order=table["regime"].map(order))
    table = table.sort_values(["_order", "threshold"], kind="stable", ignore_index=True)
    return table.drop(columns="_order")


def _reproduced(v: Any) -> dict[str, float]:
    """Share of rows of each regime whose gates give the vendor's result; empty without a result."""
    frame = nw.from_native(v)
    names = frame.collect_schema().names()
    if not {"result", "alive"} <= {*names}:
        return {}
    rows_only = frame.select(*(name for name in names if name != "subject"))  # sessions cost more
    lines = what_if(rows_only.to_native(), 0.0)
    found = lines[lines["line"] == "reproduced"].set_index("regime")["share"]
    return {str(regime): float(share) for regime, share in found.items()}


def _error_columns(found: pd.DataFrame) -> pd.DataFrame:
    names = {"reason": "label_reason", "note": "label_note"}
    table = found[["regime", "threshold", *_LABELLED, *names]].rename(columns=names)
    counts = [name for name in _LABELLED if name.startswith("n_")]
    return table.astype(dict.fromkeys(counts, "Int64") | {"weighted": "boolean"})


def _side_by_side(bounds: pd.DataFrame, k: Sequence[float]) -> pd.DataFrame:
    """Turn a row for each k into a column for each k."""
    keys = ["regime", "threshold"]
    table = bounds[[*keys, "fnmr_high", "reason"]].drop_duplicates(keys)
    table = table.rename(columns={"fnmr_high": "fnmr_bound_high", "reason": "bound_reason"})
    for factor in k:
        part = bounds.loc[bounds["k"] == factor, [*keys, "false_matches_high", "fnmr_low"]]
        names = {"false_matches_high": f"false_matches_high_k{factor:g}",
                 "fnmr_low": f"fnmr_bound_low_k{factor:g}"}  # fmt: skip
        table = table.merge(part.rename(columns=names), on=keys, how="left")
    return table


def _merged(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Join by regime and threshold, which all statistics name alike."""
    return table.merge(other, on=["regime", "threshold"], how="left", validate="one_to_one")
