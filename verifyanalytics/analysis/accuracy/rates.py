"""With labels: how often strangers match and owners do not, and what the sample can carry.

FMR = non-mated comparisons at or above the threshold over all non-mated ones; FNMR = mated ones
below it over all mated ones; a comparison is a scored row, or one whose score was withheld (a
non-match). Attacks leave both whatever else they are labelled. Scores are never pooled across
regimes. Counts come from one pass where the data live; only when subjects repeat does a second pass
bring the design effect, without which ten tries of one person would count as ten persons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.intervals import (
    FloatArray,
    guard,
    relative_halfwidth,
    trials_to_claim,
)
from verifyanalytics.analysis.base.keys import group_keys
from verifyanalytics.analysis.base.labelled import (
    BANDS,
    band,
    by_band,
    class_counts,
    label_class,
    labelled_rows,
    sample_counts,
    selection,
)
from verifyanalytics.analysis.base.persons import person_sums, regime_columns, with_sums
from verifyanalytics.analysis.base.rates import rated, says
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes, threshold_at_fmr
from verifyanalytics.analysis.base.rows import complete
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number, numbers
from verifyanalytics.errors import LabelsError, UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS

By = str | Sequence[str] | None

POOLED = "all complete regimes"
"""The regime of rates across regimes, which only a nominal FMR allows."""

_OWN = "threshold_1e_4"
_SMALLEST = 1e-9  # rarer errors need more comparisons than there are people
_LEVELS = tuple(float(level) for level in THRESHOLD_LEVELS)


class Point(NamedTuple):
    """One place on the score axis: a number, or each row's own score at a nominal FMR."""

    threshold: float
    nominal_fmr: float
    reached: nw.Expr

    def error(self) -> nw.Expr:
        """Return whether a bona fide row errs: non-mated and matched, or mated and not."""
        return nw.col("mated") != self.reached.fill_null(value=False)


@statistic("accuracy.error_rates")
def error_rates(
    truth: Any,
    thresholds: Sequence[float] | float | None = None,
    by: By = None,
    cluster: str | None = "subject",
    assume_random: bool = False,
    nominal_fmr: Sequence[float] | float | None = None,
) -> pd.DataFrame:
    """FMR and FNMR at thresholds, per regime, each with count, denominator and interval.

    Parameters
    ----------
    truth : frame
        From `join_labels`; at least `score` and `mated`.
    thresholds : float or sequence of float, optional
        Scores. Default: each regime's own four thresholds.
    by : str or sequence of str, optional
        Columns to split by further.
    cluster : str or None
        Who made the row: repeated tries widen the intervals. A null is a person of its own.
    assume_random : bool
        Take the labels as a random sample although they do not look like one; `note` says so.
    nominal_fmr : float or sequence of float, optional
        Instead of thresholds: each row against its own regime's score at that claimed FMR. The only
        way to one number across regimes; incomplete regimes are left out.

    Returns
    -------
    DataFrame
        regime, the `by` columns, `threshold`, `nominal_fmr` (where it is known); `n_nonmated`,
        `n_false_matches`, `fmr`, `fmr_low`, `fmr_high`, `fmr_says` (what may be printed: a rate, or
        "< …" one-sided), `fmr_guard` (smallest FMR that this many persons can rule out, one-sided
        95 %), `fmr_deff`, `n_nonmated_subjects`, `n_nonmated_withheld`; the same for mated rows
        and FNMR; `weighted` (rows chosen with known probability); `reason` of a missing rate,
        `note`.

    Raises
    ------
    LabelsError
        No mated or no non-mated row is labelled.
    UsageError
        No threshold is known; an argument is out of range.
    MissingColumnError

    Notes
    -----
    Intervals: Clopper–Pearson below ten events, else Wilson, on the effective sample size;
    two-sided 95 %. A withheld score is a non-match. Below the row's own 1e-4 threshold it might
    have reached the one asked for: there the limits include both cases. Rates are NaN with reason
    `selected_labels` when coverage is uneven (see `label_coverage`), unless the rows carry an
    `inclusion_prob`, by which they are then weighted: a band of which nothing was drawn is still a
    gap.
    """
    keys = _keys(by)
    if not isinstance(cluster, str | None):
        raise UsageError(f"cluster is the name of a column or None; {cluster!r} was given")
    points = _points(thresholds, nominal_fmr)
    pooled = nominal_fmr is not None
    wanted = [*keys, *([cluster] if cluster and cluster != "subject" else [])]
    frame = labelled_rows(truth, wanted, ["result", "subject", "label_token"])
    if pooled:
        frame = frame.filter(complete())
    own = thresholds is None and not pooled
    raw = group_counts(
        frame.with_columns(_band=band(), _class=label_class()),
        [*keys, *regime_columns(keys), "_band", "result", "_class"],
        counts=sample_counts() | ({} if own else _reached_counts(points)),
    )
    raw = _with_errors(class_counts(raw), len(points), own=own)
    table = by_band(raw, keys)
    reasons = selection(add_up(table.drop(columns=keys), ["regime", "_band", "result"]))
    _refuse_one_class(table)
    table = add_up(table.drop(columns=["_band", "result"]), [*keys, "regime"])
    n_bona_fide = table["n_mated"].sum() + table["n_nonmated"].sum()
    weighted = bool(table["n_with_chance"].sum() == n_bona_fide) and _unequal_chances(frame)
    known_persons = has_person(truth, cluster)
    regimes = _regime_points(raw, keys, pooled=pooled)
    if pooled:
        table = add_up(table.assign(regime=POOLED), [*keys, "regime"])
        reasons = {POOLED: max(reasons.values(), default="")}
    if weighted or known_persons:
        persons = person_keys(truth, cluster)
        errors = {f"y:{i}": point.error() for i, point in enumerate(points)}
        among = None if pooled else regimes
        spread = person_sums(frame, keys, persons, errors, among, weighted=weighted)
        spread = spread.assign(regime=POOLED) if pooled else spread
        table = with_sums(table, spread, [*keys, "regime"])
    parts = [rates_at(table, i, point, regimes, weighted) for i, point in enumerate(points)]
    result = pd.concat(parts, ignore_index=True)
    return finished(result, keys, reasons, assume_random=assume_random, own=thresholds is None)


@statistic("accuracy.sample_size")
def sample_size(
    fmr: Sequence[float] | float, n_errors: int = 0, deff: float = 1.0, confidence: float = 0.95
) -> pd.DataFrame:
    """How many labelled comparisons an error rate needs, before anybody labels them.

    Parameters
    ----------
    fmr : float or sequence of float
        Error rates that shall be claimed (an FNMR works alike), in [1e-9, 1).
    n_errors : int
        Errors among them that shall not refute the claim.
    deff : float
        Design effect, at least 1: how many tries count as one person.
    confidence : float
        One-sided, in (0, 1).

    Returns
    -------
    DataFrame
        `fmr`; `n_to_claim`, independent comparisons after which `n_errors` errors still show that
        the rate is at most `fmr` (with 0: the rule of three); `n_to_measure`, those with 30 errors
        expected, after which the rate is known to ± 30 % at 90 % (rule of 30); both times `deff` in
        `n_rows_to_claim`, `n_rows_to_measure`.

    Examples
    --------
    >>> sample_size(1e-4)[["n_to_claim", "n_to_measure"]].to_numpy().tolist()
    [[29956, 300000]]
    """
    rates = np.array(numbers(fmr, "fmr", low=_SMALLEST, below=1))
    n_errors = int(number(n_errors, "n_errors", low=0, high=1e6, whole=True))
    deff = number(deff, "deff", low=1, high=1e6)
    confidence = number(confidence, "confidence", above=0, below=1)
    claim = trials_to_claim(rates, n_errors, confidence)
    measure = np.ceil(30 / rates - 1e-9)
    table = pd.DataFrame({"fmr": rates, "n_errors": n_errors, "n_to_claim": claim})
    table["n_to_measure"] = measure
    table["n_rows_to_claim"], table["n_rows_to_measure"] = (
        np.ceil(claim * deff),
        np.ceil(measure * deff),
    )
    table["relative_halfwidth"] = float(relative_halfwidth(30))
    counts = [name for name in table if name.startswith("n_")]
    return table.astype(dict.fromkeys(counts, "int64"))


# ------------------------------------------------------------------ points


def _points(thresholds: Any, nominal_fmr: Any) -> list[Point]:
    if thresholds is not None and nominal_fmr is not None:
        raise UsageError("give thresholds or nominal_fmr, not both")
    if nominal_fmr is not None:
        levels = numbers(nominal_fmr, "nominal_fmr")
        return [Point(np.nan, f, nw.col("score") >= threshold_at_fmr(f)) for f in levels]
    if thresholds is None:
        return [
            Point(np.nan, level, nw.col("score") >= nw.col(name))
            for name, level in zip(THRESHOLD_COLUMNS, _LEVELS, strict=True)
        ]
    return [Point(t, np.nan, nw.col("score") >= t) for t in numbers(thresholds, "thresholds")]


def _reached_counts(points: Sequence[Point]) -> dict[str, nw.Expr]:
    """Rows of the sample at or above each threshold."""
    flags = ((nw.col("_bona_fide") & p.reached.fill_null(value=False)) for p in points)
    return {f"reached:{i}": flag for i, flag in enumerate(flags)}


def _with_errors(table: pd.DataFrame, n_points: int, *, own: bool) -> pd.DataFrame:
    """Both errors at each point; at the regime's own thresholds the score bands tell them all."""
    withheld = table["_band"] == BANDS.index("withheld")
    for name in ("mated", "nonmated"):
        table[f"n_{name}_withheld"] = table[f"n_{name}"].where(withheld, 0)
    mated, nonmated = table["n_mated"], table["n_nonmated"]
    for i in range(n_points):
        if own:
            above = table["_band"].between(i + 1, len(THRESHOLD_COLUMNS))
            table[f"fm:{i}"], table[f"fnm:{i}"] = nonmated.where(above, 0), mated.where(~above, 0)
        else:
            reached = table.pop(f"reached:{i}")
            # a row of counts holds one class only
            table[f"fm:{i}"] = reached.where(nonmated > 0, 0)
            table[f"fnm:{i}"] = (mated - reached).where(mated > 0, 0)
    return table


def _regime_points(raw: pd.DataFrame, keys: list[str], *, pooled: bool) -> pd.DataFrame:
    """The regimes and their four thresholds."""
    if pooled:
        empty = dict.fromkeys(THRESHOLD_COLUMNS, np.nan)
        return pd.DataFrame([{"regime": POOLED, "req_key": ""} | empty])
    named = name_regimes(raw.drop(columns=[k for k in keys if k != "req_key"]))
    return named[["regime", *REGIME]].drop_duplicates()


# ------------------------------------------------------------------ persons


def person_keys(truth: Any, cluster: str | None) -> dict[str, nw.Expr]:
    """Return who is behind a row, as keys to group by: the cluster, else the labelling token."""
    if not has_person(truth, cluster):
        return {}
    whose = nw.col(str(cluster))
    if "label_token" not in nw.from_native(truth).collect_schema().names():
        return {"_person": whose}
    return {"_person": whose, "_token": nw.when(whose.is_null()).then(nw.col("label_token"))}


def person(cluster: str | None) -> nw.Expr:
    """Return who is behind a row: the cluster, else the token that labelled it, else null."""
    if cluster is None:
        return nw.lit(None).cast(nw.String)
    known = nw.concat_str([nw.lit("s"), nw.col(cluster).cast(nw.String)], separator=" ")
    token = nw.concat_str([nw.lit("t"), nw.col("label_token")], separator=" ")
    by_token = nw.when(~nw.col("label_token").is_null()).then(token)
    return nw.when(~nw.col(cluster).is_null()).then(known).otherwise(by_token)


# ------------------------------------------------------------------ rates


def rates_at(
    table: pd.DataFrame, i: int, point: Point, regimes: pd.DataFrame, weighted: bool
) -> pd.DataFrame:
    """Turn counts of errors and sums over persons into the rates at the i-th point."""
    out = table.drop(columns=[c for c in table if ":" in c]).copy()
    thresholds = regimes.drop_duplicates("regime").set_index("regime").reindex(table["regime"])
    if np.isnan(point.threshold) and point.nominal_fmr in _LEVELS:
        own = thresholds[THRESHOLD_COLUMNS[_LEVELS.index(point.nominal_fmr)]]
        out["threshold"] = own.to_numpy(dtype=float)
    else:
        out["threshold"] = point.threshold
    out["nominal_fmr"] = point.nominal_fmr
    if np.isnan(point.nominal_fmr):
        levels = thresholds[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
        at = levels == point.threshold
        out["nominal_fmr"] = np.where(at.any(axis=1), np.array(_LEVELS)[at.argmax(axis=1)], np.nan)
    # a withheld score lies below the own 1e-4 threshold; under that it may reach the one asked for
    with np.errstate(invalid="ignore"):
        if np.isnan(point.nominal_fmr):
            open_ended = ~(point.threshold >= thresholds[_OWN].to_numpy(dtype=float))
        else:
            open_ended = np.full(len(out), point.nominal_fmr > 1e-4)
    for side, error, rate in (("nonmated", "fm", "fmr"), ("mated", "fnm", "fnmr")):
        x = table[f"{error}:{i}"].to_numpy(dtype=float)
        n = table[f"n_{side}"].to_numpy(dtype=float)
        sums = _person_sums(table, side, f"{error}:{i}")
        value, deff, persons, n_persons = held = rated(x, n, sums, weighted=weighted)
        hidden = np.where(open_ended, table[f"n_{side}_withheld"].to_numpy(dtype=float), 0.0)
        found = held.limits(n, hidden, upward=rate == "fmr")
        name = "n_false_matches" if rate == "fmr" else "n_false_nonmatches"
        out[name] = x.astype("int64")
        out[rate], out[f"{rate}_low"], out[f"{rate}_high"] = value, found.low, found.high
        out[f"{rate}_deff"], out[f"n_{side}_subjects"] = deff, n_persons.astype("int64")
        out[f"{rate}_guard"] = guard(persons)
        out[f"{rate}_says"] = [
            says(*row) for row in zip(x, n, value, out[f"{rate}_guard"], strict=True)
        ]
    return out.assign(weighted=weighted)


def _person_sums(table: pd.DataFrame, side: str, error: str) -> FloatArray:
    """Σy, Σm, Σy², Σym, Σm² and G over persons; 0 where nobody is known."""
    names = [f"{error}:y", f"{side}:m", f"{error}:yy", f"{error}:ym", f"{side}:mm", f"{side}:g"]
    known = [
        table[name].fillna(0.0).to_numpy(dtype=float) if name in table else np.zeros(len(table))
        for name in names
    ]
    return np.array(known)


def has_person(truth: Any, cluster: str | None) -> bool:
    """Tell whether the frame can know who made a row at all."""
    names = nw.from_native(truth).collect_schema().names()
    return cluster is not None and bool({cluster, "label_token"} & {*names})


def finished(
    table: pd.DataFrame,
    keys: list[str],
    reasons: Mapping[str, str],
    *,
    assume_random: bool,
    own: bool,
) -> pd.DataFrame:
    """Blank the rates that the labels cannot carry, say why, and put the columns in order."""
    selected = table["regime"].map(reasons).fillna("").to_numpy(dtype=object)
    reason = np.where(selected != "", selected if not assume_random else "", "")
    note = np.where((selected != "") & assume_random, "labels taken as random", "")
    rates = [c for c in table if c.split("_")[0] in {"fmr", "fnmr"} and "deff" not in c]
    for name in rates:
        if name.endswith("_says"):
            table[name] = table[name].where(reason == "", "").astype("str")
        else:
            table[name] = table[name].where(reason == "")
    empty = (table["n_mated"] == 0) | (table["n_nonmated"] == 0)
    table["reason"] = pd.Series(
        np.where((reason == "") & empty, "one_class_empty", reason), index=table.index, dtype="str"
    )
    table["note"] = pd.Series(note, index=table.index, dtype="str")
    if own:
        table = table[table["threshold"].notna() | (table["regime"] == POOLED)]
        if table.empty:
            raise UsageError("no row has four rising thresholds; give thresholds=")
    front = ["regime", *keys, "threshold", "nominal_fmr"]
    sides = [*_side_columns("nonmated", "fmr", "n_false_matches")]
    sides += _side_columns("mated", "fnmr", "n_false_nonmatches")
    table = table[[*front, *sides, "weighted", "reason", "note"]]
    return table.sort_values(
        ["regime", *keys, "threshold", "nominal_fmr"], kind="stable", ignore_index=True
    )


def _side_columns(side: str, rate: str, errors: str) -> list[str]:
    about = [f"{rate}{end}" for end in ("", "_low", "_high", "_says", "_guard", "_deff")]
    return [f"n_{side}", errors, *about, f"n_{side}_subjects", f"n_{side}_withheld"]


def _unequal_chances(frame: nw.LazyFrame[Any]) -> bool:
    """Tell whether the sample's rows were drawn with different probabilities."""
    chance = nw.col("_chance")
    ends = frame.filter(nw.col("_bona_fide")).select(low=chance.min(), high=chance.max())
    held: pd.DataFrame = ends.collect(backend="pyarrow").to_native().to_pandas()
    return bool(held["low"].iloc[0] < held["high"].iloc[0])


def _refuse_one_class(table: pd.DataFrame) -> None:
    n_mated, n_nonmated = int(table["n_mated"].sum()), int(table["n_nonmated"].sum())
    if not n_mated or not n_nonmated:
        empty, other, n = (
            ("non-mated", "mated", n_mated) if n_mated else ("mated", "non-mated", n_nonmated)
        )
        raise LabelsError(
            f"no {empty} comparison is labelled ({n} {other} ones are): both error rates need both"
        )


def _keys(by: By) -> list[str]:
    keys = [key for key in group_keys(by) if key not in {"regime", *THRESHOLD_COLUMNS}]
    if {"mated", "score", "result"} & {*keys}:
        raise UsageError(
            "error rates cannot be split by score, result or mated: they are made of it"
        )
    return keys
