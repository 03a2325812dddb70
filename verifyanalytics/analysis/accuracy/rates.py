"""Error rates on labelled rows: FMR and FNMR at thresholds, and what the sample can carry.

FMR = non-mated comparisons at or above the threshold over all non-mated ones; FNMR = mated ones
below it over all mated ones. A comparison is a scored row, or one whose score was withheld (a
non-match); attacks are in neither rate; scores are never pooled across regimes. `count_errors`
counts in one pass where the data lives, and in a second one over persons only if the frame names
them; `finish_errors` makes the rates of the counts. `claim_audit` holds the vendor's claimed rates
against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import collected
from verifyanalytics.analysis.base.groups import By, add_up, group_counts, group_keys
from verifyanalytics.analysis.base.intervals import (
    FloatArray,
    guard,
    poisson_exact,
    ratio,
    relative_halfwidth,
    trials_to_claim,
)
from verifyanalytics.analysis.base.labelled import (
    BANDS,
    TAKEN_AS_RANDOM,
    band,
    by_band,
    class_counts,
    label_class,
    labelled_rows,
    sample_counts,
    selection,
)
from verifyanalytics.analysis.base.persons import has_person, person_keys, person_sums
from verifyanalytics.analysis.base.rates import effective_size, printed, rate_with_limits
from verifyanalytics.analysis.base.regimes import (
    INCOMPLETE,
    LEVELS,
    REGIME,
    name_regimes,
    regime_columns,
    regime_number,
    threshold_at_fmr,
)
from verifyanalytics.analysis.base.rows import OWN_FMR, OWN_THRESHOLD, complete
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number, numbers
from verifyanalytics.errors import LabelsError, UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

POOLED = "all complete regimes"
"""The regime of rates across regimes, which only a nominal FMR allows."""

_SMALLEST = 1e-9  # rarer errors need more comparisons than there are people


class ErrorKind(NamedTuple):
    """One of the two errors: the class it is of, its rate, its count, and its name in counts."""

    side: str
    rate: str
    errors: str
    code: str


FALSE_MATCH = ErrorKind("nonmated", "fmr", "n_false_matches", "fm")
FALSE_NONMATCH = ErrorKind("mated", "fnmr", "n_false_nonmatches", "fnm")
KINDS = (FALSE_MATCH, FALSE_NONMATCH)


class Point(NamedTuple):
    """One place on the score axis: a number, or each row's own score at a nominal FMR."""

    threshold: float
    nominal_fmr: float
    reached: nw.Expr

    def error(self) -> nw.Expr:
        """Return whether a bona fide row errs: non-mated and matched, or mated and not."""
        return nw.col("mated") != self.reached.fill_null(value=False)


class ErrorCounts(NamedTuple):
    """What error rates are made of.

    Attributes
    ----------
    table : DataFrame
        A row per `regime` and key: `n_nonmated`, `n_mated`, both `…_withheld`; the errors `fm:i`
        and `fnm:i` at the i-th point; where persons are known the sums over them, `nonmated:g`,
        `:m`, `:mm` and `fm:i:y`, `:yy`, `:ym`, for mated rows alike (see `person_sums`).
    points : sequence of Point
    regimes : DataFrame
        `regime` and its thresholds.
    keys : list of str
        The `by` columns.
    reasons : mapping of str to str
        Why a regime's labels carry no rate, or nothing; see `selection`.
    weighted : bool
        Rows were drawn with unequal probability.
    """

    table: pd.DataFrame
    points: Sequence[Point]
    regimes: pd.DataFrame
    keys: list[str]
    reasons: Mapping[str, str]
    weighted: bool


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

    See Also
    --------
    det_curve, operating_points, claim_audit, va.labels.coverage

    Examples
    --------
    >>> truth = pd.DataFrame({"score": [50, 65, 72, 80, 90, 60, 88, 91],
    ...                       "mated": [False] * 3 + [True] * 5})
    >>> error_rates(truth, 70)[["n_nonmated", "fmr", "n_mated", "fnmr", "fnmr_high"]].round(3)
       n_nonmated    fmr  n_mated  fnmr  fnmr_high
    0           3  0.333        5   0.2      0.716
    """
    counts = count_errors(truth, thresholds, by, cluster, nominal_fmr)
    return finish_errors(counts, assume_random=assume_random)


@statistic("accuracy.sample_size")
def sample_size(
    fmr: Sequence[float] | float, n_errors: int = 0, deff: float = 1.0, confidence: float = 0.95
) -> pd.DataFrame:
    """How many labelled comparisons an error rate needs, before any is labelled.

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

    See Also
    --------
    error_rates, va.labels.plan

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


# ------------------------------------------------------------------ counts


def count_errors(
    truth: Any,
    thresholds: Sequence[float] | float | None = None,
    by: By = None,
    cluster: str | None = "subject",
    nominal_fmr: Sequence[float] | float | None = None,
) -> ErrorCounts:
    """Count the errors of `error_rates` where the data lives; arguments and errors as there."""
    keys = [key for key in group_keys(by) if key not in {"regime", *THRESHOLD_COLUMNS}]
    if {"mated", "score", "result"} & {*keys}:
        raise UsageError(
            "error rates cannot be split by score, result or mated: they are made of it"
        )
    if not isinstance(cluster, str | None):
        raise UsageError(f"cluster is the name of a column or None; {cluster!r} was given")
    points = _points(thresholds, nominal_fmr)
    pooled = nominal_fmr is not None
    wanted = [*keys, *([cluster] if cluster and cluster != "subject" else [])]
    frame = labelled_rows(truth, wanted, ["result", "subject", "label_token"])
    if pooled:
        frame = frame.filter(complete())
    own = thresholds is None and not pooled
    reached = {
        f"reached:{i}": nw.col("_bona_fide") & point.reached.fill_null(value=False)
        for i, point in enumerate(points)
        if not own
    }
    raw = group_counts(
        frame.with_columns(_band=band(), _class=label_class()),
        [*keys, *regime_columns(keys), "_band", "result", "_class"],
        counts=sample_counts() | reached,
    )
    raw = _with_errors(class_counts(raw), len(points), own=own)
    table = by_band(raw, keys)
    reasons = selection(add_up(table.drop(columns=keys), ["regime", "_band", "result"]))
    _refuse_one_class(table)
    table = add_up(table.drop(columns=["_band", "result"]), [*keys, "regime"])
    n_bona_fide = table["n_mated"].sum() + table["n_nonmated"].sum()
    weighted = bool(table["n_with_chance"].sum() == n_bona_fide)
    if weighted:
        chance, sample = nw.col("_chance"), frame.filter(nw.col("_bona_fide"))
        ends = collected(sample.select(low=chance.min(), high=chance.max()))
        weighted = bool(ends["low"].iloc[0] < ends["high"].iloc[0])
    if pooled:
        regimes = pd.DataFrame([{"regime": POOLED, **dict.fromkeys(THRESHOLD_COLUMNS, np.nan)}])
        table = add_up(table.assign(regime=POOLED), [*keys, "regime"])
        reasons = {POOLED: max(reasons.values(), default="")}
    else:
        named = name_regimes(raw.drop(columns=[k for k in keys if k != "req_key"]))
        regimes = named[["regime", *REGIME]].drop_duplicates()
    if weighted or has_person(truth, cluster):
        persons = person_keys(truth, cluster)
        errors = [point.error() for point in points]
        among = None if pooled else regimes
        sums = _error_sums(frame, keys, persons, errors, among, weighted=weighted)
        on, n_groups = [*keys, "regime"], len(table)
        table = table.merge(sums, on=on, how="left", indicator="_found")
        if len(table) != n_groups or (table.pop("_found") == "both").sum() != len(sums):
            raise UsageError(f"groups of {', '.join(on)} cannot be told apart; make them text")
    return ErrorCounts(table, points, regimes, keys, reasons, weighted)


def _points(thresholds: Any, nominal_fmr: Any) -> list[Point]:
    if thresholds is not None and nominal_fmr is not None:
        raise UsageError("give thresholds or nominal_fmr, not both")
    if nominal_fmr is not None:
        levels = numbers(nominal_fmr, "nominal_fmr")
        return [Point(np.nan, f, nw.col("score") >= threshold_at_fmr(f)) for f in levels]
    if thresholds is None:
        return [
            Point(np.nan, level, nw.col("score") >= nw.col(name))
            for name, level in zip(THRESHOLD_COLUMNS, LEVELS, strict=True)
        ]
    return [Point(t, np.nan, nw.col("score") >= t) for t in numbers(thresholds, "thresholds")]


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


def _refuse_one_class(table: pd.DataFrame) -> None:
    n_mated, n_nonmated = int(table["n_mated"].sum()), int(table["n_nonmated"].sum())
    if not n_mated or not n_nonmated:
        empty, other, n = (
            ("non-mated", "mated", n_mated) if n_mated else ("mated", "non-mated", n_nonmated)
        )
        raise LabelsError(
            f"no {empty} comparison is labelled ({n} {other} ones are): both error rates need both"
        )


# ------------------------------------------------------------------ sums over persons


def _error_sums(
    frame: nw.LazyFrame[Any],
    keys: list[str],
    persons: Mapping[str, nw.Expr],
    errors: Sequence[nw.Expr],
    regimes: pd.DataFrame | None,
    *,
    weighted: bool,
) -> pd.DataFrame:
    """Add up over persons, per regime and key; the columns of `ErrorCounts`, 0 where is no row.

    There may be nearly as many persons as rows, so the engine groups by as little as tells the
    regimes apart. Without `regimes` all rows are one.
    """
    frame, number_of = frame.filter(nw.col("_bona_fide")), None
    groups, names = list(keys), {}
    if regimes is not None:
        whole = regimes[regimes["regime"] != INCOMPLETE]
        names, number_of = dict(enumerate(whole["regime"])), regime_number(whole)
        short = {} if number_of is None else {"_regime": number_of}
        columns = [c for c in REGIME if c in keys] if short else REGIME
        # one person in two kinds of incomplete regime is still one person
        alike = (nw.when(complete()).then(nw.col(c)).alias(c) for c in columns)
        frame = frame.with_columns(*alike, **short)
        groups += short or regime_columns(keys)
    events = {str(i): ("", error) for i, error in enumerate(errors)}
    by = [*groups, "mated"]
    table = person_sums(frame, by, persons, {"": None}, events, weighted=weighted)
    if regimes is None:
        table["regime"] = POOLED
    elif number_of is None:
        table = name_regimes(table)
    else:
        found = [INCOMPLETE if pd.isna(i) else names[int(i)] for i in table["_regime"]]
        table["regime"] = pd.Series(found, index=table.index, dtype="str")
    mated, parts = table.pop("mated").astype(bool), []
    sums = [c for c in table if ":" in c]
    for kind in KINDS:
        new = {c: f"{kind.side}{c}" if c[0] == ":" else f"{kind.code}:{c}" for c in sums}
        mine = table.loc[mated == (kind is FALSE_NONMATCH), [*keys, "regime", *sums]]
        parts.append(add_up(mine.rename(columns=new), [*keys, "regime"]))
    return add_up(pd.concat(parts, ignore_index=True), [*keys, "regime"])


# ------------------------------------------------------------------ rates


def finish_errors(counts: ErrorCounts, *, assume_random: bool = False) -> pd.DataFrame:
    """Make the frame of `error_rates` of counts: rates, limits, reasons, columns in order."""
    keys = counts.keys
    parts = [_rates_at(counts, i, point) for i, point in enumerate(counts.points)]
    table = pd.concat(parts, ignore_index=True)
    selected = table["regime"].map(counts.reasons).fillna("").to_numpy(dtype=object)
    reason = np.where(selected != "", selected if not assume_random else "", "")
    note = np.where((selected != "") & assume_random, TAKEN_AS_RANDOM, "")
    rates = [c for c in table if c.split("_")[0] in {"fmr", "fnmr"} and "deff" not in c]
    for name in rates:
        if name.endswith("_says"):
            table[name] = table[name].where(reason == "", "").astype("str")
        else:
            table[name] = table[name].where(reason == "")
    empty = (table["n_mated"] == 0) | (table["n_nonmated"] == 0)
    reason = np.where((reason == "") & empty, "one_class_empty", reason)
    table["reason"] = pd.Series(reason, index=table.index, dtype="str")
    table["note"] = pd.Series(note, index=table.index, dtype="str")
    table = table[table["threshold"].notna() | (table["regime"] == POOLED)]
    if table.empty:
        raise UsageError("no row has four rising thresholds; give thresholds=")
    front = ["regime", *keys, "threshold", "nominal_fmr"]
    columns = [*front]
    for side, rate, errors, _ in KINDS:
        columns += [f"n_{side}", errors]
        columns += [f"{rate}{end}" for end in ("", "_low", "_high", "_says", "_guard", "_deff")]
        columns += [f"n_{side}_subjects", f"n_{side}_withheld"]
    table = table[[*columns, "weighted", "reason", "note"]]
    return table.sort_values(front, kind="stable", ignore_index=True)


def _rates_at(counts: ErrorCounts, i: int, point: Point) -> pd.DataFrame:
    """Make the rates at the i-th point of the counts of errors and the sums over persons."""
    table = counts.table
    out = table.drop(columns=[c for c in table if ":" in c]).copy()
    regimes = counts.regimes.drop_duplicates("regime").set_index("regime").reindex(table["regime"])
    nominal = point.nominal_fmr
    if np.isnan(point.threshold) and nominal in LEVELS:
        own = regimes[THRESHOLD_COLUMNS[LEVELS.index(nominal)]]
        out["threshold"] = own.to_numpy(dtype=float)
    else:
        out["threshold"] = point.threshold
    out["nominal_fmr"] = nominal
    # a withheld score lies below the own 1e-4 threshold; under that it may reach the one asked for
    if np.isnan(nominal):
        at = regimes[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float) == point.threshold
        out["nominal_fmr"] = np.where(at.any(axis=1), np.array(LEVELS)[at.argmax(axis=1)], np.nan)
        with np.errstate(invalid="ignore"):
            open_ended = ~(point.threshold >= regimes[OWN_THRESHOLD].to_numpy(dtype=float))
    else:
        open_ended = np.full(len(out), nominal > OWN_FMR)
    for side, rate, errors, code in KINDS:
        x, n = (table[c].to_numpy(dtype=float) for c in (f"{code}:{i}", f"n_{side}"))
        names = [f"{code}:{i}:y", f"{side}:m", f"{code}:{i}:yy", f"{code}:{i}:ym"]
        known = table.reindex(columns=[*names, f"{side}:mm", f"{side}:g"]).fillna(0.0)
        sums = known.to_numpy(dtype=float).T
        found = rate_with_limits(x, n, sums, weighted=counts.weighted)
        hidden = np.where(open_ended, table[f"n_{side}_withheld"].to_numpy(dtype=float), 0.0)
        low, high = found.limits(n, hidden, upward=rate == "fmr")
        out[errors] = x.astype("int64")
        out[rate], out[f"{rate}_low"], out[f"{rate}_high"] = found.rate, low, high
        out[f"{rate}_deff"] = found.deff
        out[f"n_{side}_subjects"] = found.n_persons.astype("int64")
        out[f"{rate}_guard"] = guarded = guard(found.persons)
        out[f"{rate}_says"] = [printed(*row) for row in zip(x, n, found.rate, guarded, strict=True)]
    return out.assign(weighted=counts.weighted)


K_ROWS = (1, 3, 10)
"""The rows of `label_free_bounds`."""


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

    See Also
    --------
    error_rates, va.bounds.label_free

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> low, high = ({"score": score, "mated": False} for score in (50.0, 65.0))
    >>> truth = pd.DataFrame([row | {"mated": True}, row | high] + [row | low] * 99)
    >>> found = claim_audit(truth)[["n_nonmated", "n_false_matches", "k_hat", "k_low", "k_high"]]
    >>> found.round(1).head(1)
       n_nonmated  n_false_matches  k_hat  k_low  k_high
    0         100                1   10.0    0.3    55.7
    """
    table = error_rates(truth, assume_random=assume_random)
    rate, n, claimed = (
        table[name].to_numpy(dtype=float) for name in ("fmr", "n_nonmated", "nominal_fmr")
    )
    withheld = table["n_nonmated_withheld"].to_numpy(dtype=float)
    hidden = np.where(claimed > OWN_FMR, ratio(withheld, n), 0.0)
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
