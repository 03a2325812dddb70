"""Two rules on the same rows, and one rule on rows it was not chosen on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import special

from verifyanalytics.analysis.accuracy.curves import (
    Curve,
    at_most_fmr,
    at_most_fnmr,
    equal_error,
)
from verifyanalytics.analysis.accuracy.operating import (
    Labelled,
    by_regime,
    collect_labelled,
    curve_of,
    rates_there,
)
from verifyanalytics.analysis.base.frames import collected
from verifyanalytics.analysis.base.intervals import mcnemar, ratio
from verifyanalytics.analysis.base.labelled import (
    TAKEN_AS_RANDOM,
    coverage_table,
    labelled_rows,
    selection,
)
from verifyanalytics.analysis.base.persons import person
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number
from verifyanalytics.errors import UsageError

Rule = float | str | tuple[str, float]
Split = Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]]

ALL_REGIMES = "all regimes"
"""The regime of rules that no score of the vendor is in: they hold everywhere."""

NESTED = "nested_thresholds"
"""Why no test is made: of two thresholds on one score the lower errs on a superset."""


# ------------------------------------------------------------------ two rules


@statistic("accuracy.compare")
def compare(
    truth: Any,
    a: Rule,
    b: Rule,
    cluster: str | None = "subject",
    *,
    assume_random: bool = False,
) -> pd.DataFrame:
    """Compare two rules on the same labelled rows.

    Parameters
    ----------
    truth : frame
        From `join_labels`.
    a, b : float, str or tuple
        A threshold on `score`; the name of a boolean column such as `result`; or a column with
        another score and its threshold, `("score_new", 71.5)`. Null and NaN are a rejection.
    cluster, assume_random
        See `error_rates`.

    Returns
    -------
    DataFrame
        Per `regime` when a rule is a threshold on `score`, else of all rows (`all regimes`); for
        `mated` rows (an error is a rejection) and `nonmated` ones (an error is an acceptance):
        `n_rows`, `n_errors_a`, `n_errors_b`, `n_both`, `n_only_a`, `n_only_b`, `rate_a`, `rate_b`,
        `difference` = rate_b − rate_a; McNemar's `p_exact`, and instead of it `p_clustered` where
        persons repeat or rows are `weighted`; `reason`: `selected_labels` when nothing but the
        counts is given, `nested_thresholds` instead of a p-value for two thresholds on one score;
        `note`. Rates are weighted where rows were drawn with unequal probability; counts are not.

    Raises
    ------
    UsageError
        A rule is none; no labelled comparison.

    References
    ----------
    McNemar (1947); for clusters Eliasziw & Donner (1991) Stat. Med. 10:1981, in the form
    (Σ(b−c))² / Σ(b−c)² over subjects.

    See Also
    --------
    out_of_sample, error_rates

    Examples
    --------
    >>> truth = pd.DataFrame({"score": [50, 65, 72, 80, 90, 60, 88, 91],
    ...                       "mated": [False] * 3 + [True] * 5})
    >>> truth["result"] = truth["score"] >= 75
    >>> compare(truth, 70, "result")[["class", "n_errors_a", "n_errors_b", "n_only_a", "p_exact"]]
          class  n_errors_a  n_errors_b  n_only_a  p_exact
    0     mated           1           1         0      1.0
    1  nonmated           1           0         1      1.0
    """
    rules = [_rule(r) for r in (a, b)]
    table = _accepted(truth, rules, cluster)
    if table.empty:
        raise UsageError("no labelled comparison to compare the rules on")
    reasons = selection(coverage_table(truth))
    if any(column == "score" for column, _ in rules):
        # names are made once a regime, not once a row
        at = table.groupby(list(REGIME), dropna=False, sort=False).ngroup()
        named = name_regimes(table.loc[~at.duplicated(), list(REGIME)])
        table["regime"] = at.map(dict(enumerate(named["regime"])))
    else:
        table["regime"] = ALL_REGIMES
        reasons = {ALL_REGIMES: max(reasons.values(), default="")}
    weighted = bool(table["_chance"].min() < table["_chance"].max())
    table["_weight"] = 1 / table["_chance"] if weighted else 1.0
    nested = rules[0][0] == rules[1][0] and rules[0][1] is not None and rules[1][1] is not None
    found = []
    for regime, part in table.groupby("regime", sort=True):
        reason = reasons.get(str(regime), "")
        for mated in (True, False):
            row = _paired(part[part["mated"] == mated], mated=mated, weighted=weighted)
            row |= {"weighted": weighted, "reason": "", "note": TAKEN_AS_RANDOM if reason else ""}
            if nested:
                row |= {"p_exact": np.nan, "p_clustered": np.nan, "reason": NESTED}
            if reason and not assume_random:
                row |= dict.fromkeys(_SAID, np.nan) | {"reason": reason, "note": ""}
            found.append({"regime": str(regime)} | row)
    words = ("regime", "class", "reason", "note")
    return pd.DataFrame(found).astype(dict.fromkeys(words, "str"))


_SAID = ("rate_a", "rate_b", "difference", "p_exact", "p_clustered")


def _rule(rule: Any) -> tuple[str, float | None]:
    if isinstance(rule, str):
        return rule, None
    if isinstance(rule, tuple):
        if len(rule) != 2 or not isinstance(rule[0], str):
            raise UsageError(f"{rule!r} is no rule; give a column and its threshold")
        return rule[0], number(rule[1], f"the threshold of {rule[0]}")
    return "score", number(rule, "a rule that is no column")


def _accepted(
    truth: Any, rules: list[tuple[str, float | None]], cluster: str | None
) -> pd.DataFrame:
    """Bring the labelled comparisons here: who made them, and what the rules say (`_0`, `_1`)."""
    names = {column for column, _ in rules if column != "score"}
    wanted = [*sorted(names - {"result"}), *([cluster] if cluster and cluster != "subject" else [])]
    frame = labelled_rows(truth, wanted, ["result", "subject", "label_token"])
    schema = frame.collect_schema()
    for column, threshold in rules:
        held, kind = schema[column], "true and false" if threshold is None else "numbers"
        if not (held == nw.Boolean if threshold is None else held.is_numeric()):
            raise UsageError(f"column {column} is no rule: it holds {held}, not {kind}")
    flags = {f"_{i}": _accepts(*rule) for i, rule in enumerate(rules)}
    frame = frame.filter(nw.col("_bona_fide"))
    frame = frame.select(*REGIME, "mated", "_chance", _person=person(cluster), **flags)
    table = collected(frame)
    table["req_key"] = table["req_key"].fillna("unknown").astype("str")
    return table.astype({"mated": bool, "_chance": "float64"})


def _accepts(column: str, threshold: float | None) -> nw.Expr:
    value = nw.col(column)
    if threshold is None:
        return value.fill_null(value=False)
    score = value.cast(nw.Float64)  # NaN is the greatest number to DuckDB and Polars
    return ((score >= threshold) & ~score.is_nan()).fill_null(value=False)


def _paired(part: pd.DataFrame, *, mated: bool, weighted: bool) -> dict[str, Any]:
    accepts = [part[name].to_numpy(dtype=bool) for name in ("_0", "_1")]
    wrong_a, wrong_b = (~x if mated else x for x in accepts)
    only_a, only_b = wrong_a & ~wrong_b, wrong_b & ~wrong_a
    weight = part["_weight"].to_numpy(dtype=float)
    row: dict[str, Any] = {
        "class": "mated" if mated else "nonmated",
        "n_rows": len(part),
        "n_errors_a": int(wrong_a.sum()),
        "n_errors_b": int(wrong_b.sum()),
        "n_both": int((wrong_a & wrong_b).sum()),
        "n_only_a": int(only_a.sum()),
        "n_only_b": int(only_b.sum()),
    }
    for name, wrong in (("rate_a", wrong_a), ("rate_b", wrong_b)):
        row[name] = float(ratio(weight[wrong].sum(), weight.sum()))
    row["difference"] = row["rate_b"] - row["rate_a"]
    codes = pd.factorize(part["_person"])[0]
    alike = weighted or bool((np.bincount(codes[codes >= 0]) > 1).any())
    gain = weight * (only_a.astype(float) - only_b.astype(float))
    exact = float(mcnemar(row["n_only_a"], row["n_only_b"]).p_exact)
    row["p_exact"] = np.nan if alike else exact
    row["p_clustered"] = np.nan
    if alike:
        known = codes >= 0
        per = np.concatenate([np.bincount(codes[known], weights=gain[known]), gain[~known]])
        spread = float((per**2).sum())
        row["p_clustered"] = special.chdtrc(1, per.sum() ** 2 / spread) if spread else 1.0
    return row


# ------------------------------------------------------------------ out of sample


class Target(NamedTuple):
    """What the threshold is chosen for: `fmr`, `fnmr` (a value) or `eer`."""

    rule: str
    value: float

    def candidate(self, curve: Curve) -> int | None:
        """Return the index of the threshold that is chosen, if there is one."""
        if self.rule == "fmr":
            return at_most_fmr(curve, self.value)
        return equal_error(curve)[2] if self.rule == "eer" else at_most_fnmr(curve, self.value)


@statistic("accuracy.out_of_sample")
def out_of_sample(
    truth: Any,
    choose_on: Any = 0.5,
    score_on: Any = None,
    fmr: float | None = None,
    fnmr: float | None = None,
    seed: int = 0,
    *,
    assume_random: bool = False,
) -> pd.DataFrame:
    """Choose a threshold on one part of the labels, and see what it does on another.

    Parameters
    ----------
    truth : frame
        From `join_labels`.
    choose_on : float, date or (date, date)
        A share of the subjects; or the time before which (one date), or between which (two dates,
        the second excluded) rows are chosen on. Dates are text or times, UTC without a zone.
    score_on : optional
        The same for scoring. Default: the other subjects; the time from `choose_on`'s end on.
    fmr, fnmr : float, optional
        The target; neither: the equal error rate.
    seed : int
        For shares: which subjects.
    assume_random : bool
        See `error_rates`.

    Returns
    -------
    DataFrame
        Per regime: `rule`, `target`, `threshold`; the realised `fmr`, `fnmr` with counts where it
        was chosen (`chosen_…`) and where it was scored (`scored_…`, with limits as in
        `error_rates`); `n_left_out`: rows of subjects who are in the choosing part too (never on
        both sides) or in neither part; `reason` of a missing threshold (`selected_labels`,
        `unequal_inclusion`, `target_not_met`), `note`.

    Raises
    ------
    UsageError
        A part lacks a class in every regime; both fmr and fnmr, or one outside [0, 1]; a share
        outside (0, 1); no date.

    See Also
    --------
    operating_points, compare

    Examples
    --------
    >>> scores = range(40, 100)
    >>> truth = pd.DataFrame({"score": scores, "mated": [s % 3 > 0 for s in scores],
    ...                       "subject": [f"p{s}" for s in scores]})
    >>> out_of_sample(truth, 0.5, fmr=0.2)[["threshold", "chosen_fmr", "scored_fmr"]].round(3)
       threshold  chosen_fmr  scored_fmr
    0       94.0         0.2         0.0
    """
    target = _target(fmr, fnmr)
    by_time = isinstance(choose_on, (str, dt.date, np.datetime64, tuple, list))
    seed = int(number(seed, "seed", low=0, whole=True))
    split = _by_times(choose_on, score_on) if by_time else _by_shares(choose_on, score_on, seed)
    table = collect_labelled(truth, "subject", ["occurred_at"] if by_time else [])
    first, second = split(table)
    second &= ~table["person"].isin(table.loc[first, "person"]).to_numpy()
    found = []
    for part in by_regime(table, truth):
        at = part.rows.index.to_numpy()
        chosen, scored = (
            Labelled(part.regime, part.thresholds, curve_of(part.rows[keep[at]]), part.reason)
            for keep in (first, second)
        )
        if all(
            c.mated.n and c.nonmated.n and c.thresholds.size for c in (chosen.curve, scored.curve)
        ):
            left = int((~(first[at] | second[at])).sum())
            row = _realised(chosen, scored, target) | {"n_left_out": left}
            missing = "target_not_met" if np.isnan(row["threshold"]) else ""
            note = TAKEN_AS_RANDOM if part.reason else ""
            if part.reason and not assume_random:  # the counts only
                rates = [c for c in row if c == "threshold" or "fmr" in c or "fnmr" in c]
                row |= dict.fromkeys(rates, np.nan)
                missing, note = part.reason, ""
            found.append(row | {"reason": missing, "note": note})
    if not found:
        raise UsageError("no regime has mated and non-mated rows in both parts")
    result = pd.DataFrame(found)
    counts = [c for c in result if c.startswith(("chosen_n_", "scored_n_"))]
    words = dict.fromkeys(("regime", "rule", "reason", "note"), "str")
    return result.astype(words | dict.fromkeys(counts, "Int64"))


def _target(fmr: Any, fnmr: Any) -> Target:
    if fmr is not None and fnmr is not None:
        raise UsageError("give fmr or fnmr, not both")
    for name, value in (("fmr", fmr), ("fnmr", fnmr)):
        if value is not None:
            return Target(name, number(value, name, low=0, high=1))
    return Target("eer", np.nan)


def _by_shares(choose: Any, score: Any, seed: int) -> Split:
    """Split by subjects, drawn for choosing and for scoring."""
    choose = number(choose, "choose_on", above=0, below=1)
    most = (1 - choose) * (1 + 1e-12)  # 0.9 and 0.1 fit into 1, whatever binary says
    score = 1 - choose if score is None else number(score, "score_on", above=0, high=most)

    def split(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        persons = np.unique(table["person"])
        draw = np.random.default_rng(seed).random(persons.size)
        u = draw[np.searchsorted(persons, table["person"].to_numpy())]
        return u < choose, u >= 1 - score

    return split


def _by_times(choose: Any, score: Any) -> Split:
    """Split by spans of time for choosing and for scoring."""
    first = _span(choose)
    second = (first[1], np.inf) if score is None else _span(score, begins=True)

    def split(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        time = table["occurred_us"].to_numpy(dtype=float)
        with np.errstate(invalid="ignore"):
            chosen, scored = ((time >= a) & (time < b) for a, b in (first, second))
        return chosen, scored

    return split


def _span(when: Any, *, begins: bool = False) -> tuple[float, float]:
    micros = [_micros(w) for w in (when if isinstance(when, (tuple, list)) else [when])]
    if len(micros) == 1:
        return (micros[0], np.inf) if begins else (-np.inf, micros[0])
    if len(micros) != 2 or not micros[0] < micros[1]:
        raise UsageError(f"a span of time is one date, or two rising ones, not {when!r}")
    return micros[0], micros[1]


def _micros(when: Any) -> float:
    try:
        found = pd.Timestamp(when) if isinstance(when, (str, dt.date, np.datetime64)) else pd.NaT
    except ValueError:
        found = pd.NaT
    if found is pd.NaT:
        raise UsageError(f"{when!r} is no date; give one such as 2024-06-01, or two")
    moment = found.to_pydatetime(warn=False)
    utc = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return float((utc - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1))


_CHOSEN = ("n_nonmated", "n_false_matches", "fmr", "n_mated", "n_false_nonmatches", "fnmr")
_SCORED = (*_CHOSEN[:3], "fmr_low", "fmr_high", *_CHOSEN[3:], "fnmr_low", "fnmr_high")


def _realised(chosen: Labelled, scored: Labelled, target: Target) -> dict[str, Any]:
    """Choose on one part, and look up on the other what the threshold does."""
    index = target.candidate(chosen.curve)
    t = np.nan if index is None else float(chosen.curve.thresholds[index])
    # of the scored candidates the first at or above; the last one, which no score reaches, if none
    candidates = scored.curve.thresholds
    there = None if index is None else min(int(np.searchsorted(candidates, t)), candidates.size - 1)
    row: dict[str, Any] = {
        "regime": chosen.regime, "rule": target.rule, "target": target.value, "threshold": t,
    }  # fmt: skip
    for name, part, at, columns in (
        ("chosen", chosen, index, _CHOSEN), ("scored", scored, there, _SCORED),
    ):  # fmt: skip
        rates = rates_there(part, [at], [t]).iloc[0]
        row |= {f"{name}_{column}": rates[column] for column in columns}
    return row
