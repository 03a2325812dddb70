"""Two rules on the same rows, and one rule on rows it was not chosen on."""

from __future__ import annotations

from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import special

from verifyanalytics.analysis.accuracy import person
from verifyanalytics.analysis.counts import name_regimes
from verifyanalytics.analysis.curves import (
    Curve,
    at_most_fmr,
    at_most_fnmr,
    curve,
    equal_error,
    side,
)
from verifyanalytics.analysis.intervals import mcnemar, rate_interval
from verifyanalytics.analysis.labels import coverage_table, labelled_rows, selection
from verifyanalytics.analysis.operating import collect_labelled
from verifyanalytics.errors import UsageError

Rule = float | str | tuple[str, float]

NESTED = "nested_thresholds"
"""Why no test is made: of two thresholds on one score the lower errs on a superset."""


# ------------------------------------------------------------------ two rules


def compare(truth: Any, a: Rule, b: Rule, cluster: str | None = "subject") -> pd.DataFrame:
    """Compare two rules on the same labelled rows.

    Parameters
    ----------
    truth : frame
        From `join_labels`.
    a, b : float, str or tuple
        A threshold on `score`; the name of a boolean column such as `result`; or a column with
        another score and its threshold, `("score_new", 71.5)`. Null is a rejection.
    cluster : str or None
        Who made the row; see `error_rates`.

    Returns
    -------
    DataFrame
        For `mated` rows (an error is a rejection) and `nonmated` ones (an error is an acceptance):
        `n_rows`, `n_errors_a`, `n_errors_b`, `n_both`, `n_only_a`, `n_only_b`, `rate_a`, `rate_b`,
        `difference` = rate_b − rate_a; McNemar's `p_exact`, with repeated subjects `p_clustered`;
        `reason` `nested_thresholds` instead of a p-value for two thresholds on one score.

    References
    ----------
    McNemar (1947); for clusters Eliasziw & Donner (1991) Stat. Med. 10:1981, in the form
    (Σ(b−c))² / Σ(b−c)² over subjects.
    """
    rules = [_rule(r) for r in (a, b)]
    names = {column for column, _ in rules if column != "score"}
    wanted = [*sorted(names - {"result"}), *([cluster] if cluster and cluster != "subject" else [])]
    frame = labelled_rows(truth, wanted, ["result", "subject", "label_token"])
    frame = frame.filter(nw.col("_bona_fide"))
    flags = {f"_{i}": _accepts(column, t) for i, (column, t) in enumerate(rules)}
    frame = frame.select("mated", _person=person(cluster), **flags)
    table: pd.DataFrame = frame.collect(backend="pyarrow").to_native().to_pandas()
    if table.empty:
        raise UsageError("no labelled comparison to compare the rules on")
    nested = rules[0][0] == rules[1][0] and rules[0][1] is not None and rules[1][1] is not None
    found = [
        _paired(table[table["mated"].astype(bool) == mated], mated=mated, nested=nested)
        for mated in (True, False)
    ]
    return pd.DataFrame(found).astype({"class": "str", "reason": "str"})


def _rule(rule: Rule) -> tuple[str, float | None]:
    if isinstance(rule, str):
        return rule, None
    if isinstance(rule, tuple):
        return str(rule[0]), float(rule[1])
    if not np.isfinite(rule):
        raise UsageError("a rule is a finite threshold, a column, or (column, threshold)")
    return "score", float(rule)


def _accepts(column: str, threshold: float | None) -> nw.Expr:
    value = nw.col(column)
    accepted = value.cast(nw.Boolean) if threshold is None else value >= threshold
    return accepted.fill_null(value=False)


def _paired(part: pd.DataFrame, *, mated: bool, nested: bool) -> dict[str, Any]:
    accepts = [part[name].to_numpy(dtype=bool) for name in ("_0", "_1")]
    wrong_a, wrong_b = (~x if mated else x for x in accepts)
    only_a, only_b = wrong_a & ~wrong_b, wrong_b & ~wrong_a
    n = len(part)
    row: dict[str, Any] = {
        "class": "mated" if mated else "nonmated",
        "n_rows": n,
        "n_errors_a": int(wrong_a.sum()),
        "n_errors_b": int(wrong_b.sum()),
        "n_both": int((wrong_a & wrong_b).sum()),
        "n_only_a": int(only_a.sum()),
        "n_only_b": int(only_b.sum()),
    }
    row["rate_a"], row["rate_b"] = (row[f"n_errors_{x}"] / n if n else np.nan for x in "ab")
    row["difference"] = row["rate_b"] - row["rate_a"]
    test = mcnemar(row["n_only_a"], row["n_only_b"])
    row["p_exact"] = np.nan if nested else float(test.p_exact)
    codes = pd.factorize(part["_person"])[0]
    repeated = bool(len(codes)) and (np.bincount(codes[codes >= 0]) > 1).any()
    row["p_clustered"] = _clustered_p(only_a, only_b, codes) if repeated and not nested else np.nan
    return row | {"reason": NESTED if nested else ""}


def _clustered_p(only_a: Any, only_b: Any, codes: Any) -> float:
    gain = only_a.astype(float) - only_b.astype(float)
    known = codes >= 0
    per = np.concatenate([np.bincount(codes[known], weights=gain[known]), gain[~known]])
    spread = float((per**2).sum())
    return float(special.chdtrc(1, per.sum() ** 2 / spread)) if spread else 1.0


# ------------------------------------------------------------------ out of sample


class Target(NamedTuple):
    """What the threshold is chosen for: `fmr`, `fnmr` (a value) or `eer`."""

    rule: str
    value: float


def out_of_sample(
    truth: Any,
    choose_on: float | str | tuple[str, str] = 0.5,
    score_on: float | str | tuple[str, str] | None = None,
    fmr: float | None = None,
    fnmr: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Choose a threshold on one part of the labels, and see what it does on another.

    Parameters
    ----------
    truth : frame
        From `join_labels`.
    choose_on : float, str or (str, str)
        A share of the subjects; or the time before which (one date), or between which (two dates,
        UTC, the second excluded) rows are chosen on.
    score_on : optional
        The same for scoring. Default: the other subjects; the time from `choose_on`'s end on.
    fmr, fnmr : float, optional
        The target; neither: the equal error rate.
    seed : int
        For shares: which subjects.

    Returns
    -------
    DataFrame
        Per regime: `rule`, `target`, `threshold`; the realised `fmr`, `fnmr` with counts where it
        was chosen (`chosen_…`) and where it was scored (`scored_…`, with limits); `n_left_out`:
        rows of subjects who are in the choosing part too (never on both sides) or in neither part;
        `reason`.

    Raises
    ------
    UsageError
        A part lacks a class in every regime; both fmr and fnmr; a share outside (0, 1).
    """
    if fmr is not None and fnmr is not None:
        raise UsageError("give fmr or fnmr, not both")
    target = Target("fmr", fmr) if fmr is not None else Target("fnmr", fnmr or 0.0)
    if fmr is None and fnmr is None:
        target = Target("eer", np.nan)
    by_time = not isinstance(choose_on, (int, float))
    table = collect_labelled(truth, "subject", ["occurred_at"] if by_time else [])
    first, second = (_by_times if by_time else _by_share)(table, choose_on, score_on, seed)
    second &= ~table["person"].isin(table.loc[first, "person"]).to_numpy()
    named = name_regimes(table)
    reasons = selection(coverage_table(truth))
    found = []
    for regime, part in named.groupby("regime", sort=True):
        at = part.index.to_numpy()
        chosen, scored_on = (_sides(part, keep[at]) for keep in (first, second))
        if not (
            chosen.nonmated.n and chosen.mated.n and scored_on.nonmated.n and scored_on.mated.n
        ):
            continue
        left = int((~(first[at] | second[at])).sum())
        found.append(_scored(str(regime), chosen, scored_on, target, left, reasons))
    if not found:
        raise UsageError("no regime has mated and non-mated rows in both parts")
    return pd.DataFrame(found).astype({"regime": "str", "rule": "str", "reason": "str"})


def _by_share(
    table: pd.DataFrame, choose: Any, score: Any, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < choose < 1 or (score is not None and not 0 < score <= 1 - choose):
        raise UsageError("choose_on and score_on are shares of the subjects that fit into 1")
    people = np.unique(table["person"])
    draw = np.random.default_rng(seed).random(people.size)
    u = draw[np.searchsorted(people, table["person"].to_numpy())]
    return u < choose, u >= (choose if score is None else 1 - score)


def _by_times(
    table: pd.DataFrame, choose: Any, score: Any, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    time = table["occurred_us"].to_numpy(dtype=float)
    since, until = _span(choose)
    after = (until, np.inf) if score is None else _span(score, begins=True)
    with np.errstate(invalid="ignore"):
        return (time >= since) & (time < until), (time >= after[0]) & (time < after[1])


def _span(when: Any, *, begins: bool = False) -> tuple[float, float]:
    parts = [when] if isinstance(when, str) else list(when)
    try:
        found = [pd.Timestamp(p) for p in parts]
    except ValueError:
        raise UsageError(f"{when!r} is no date; give one such as 2024-06-01, or two") from None
    utc = [t.tz_localize("UTC") if t.tz is None else t for t in found]
    micros = [t.value / 1000 for t in utc]
    if len(micros) == 1:
        return (micros[0], np.inf) if begins else (-np.inf, micros[0])
    return micros[0], micros[1]


def _sides(part: pd.DataFrame, keep: np.ndarray) -> Curve:
    part = part[keep]
    mated, score = part["mated"].to_numpy(), part["score"].to_numpy()
    codes = part["person"].to_numpy()
    sides = (side(score[m], pd.factorize(codes[m])[0]) for m in (~mated, mated))
    return curve(*sides)


def _scored(
    regime: str, chosen: Curve, other: Curve, target: Target, left: int, reasons: dict[str, str]
) -> dict[str, Any]:
    index: int | None
    if target.rule == "fmr":
        index = at_most_fmr(chosen, target.value)
    elif target.rule == "fnmr":
        index = at_most_fnmr(chosen, target.value)
    else:
        index = equal_error(chosen)[2]
    t = np.nan if index is None else float(chosen.thresholds[index])
    row: dict[str, Any] = {
        "regime": regime, "rule": target.rule, "target": target.value, "threshold": t,
    }  # fmt: skip
    for name, c in (("chosen", chosen), ("scored", other)):
        fm = int((c.nonmated.scores >= t).sum())
        fnm = int((c.mated.scores < t).sum()) + c.mated.n_withheld
        for rate, x, n in (("fmr", fm, c.nonmated.n), ("fnmr", fnm, c.mated.n)):
            row[f"{name}_n_{'nonmated' if rate == 'fmr' else 'mated'}"] = n
            row[f"{name}_n_{'false_matches' if rate == 'fmr' else 'false_nonmatches'}"] = x
            row[f"{name}_{rate}"] = np.nan if index is None else x / n
            if name == "scored":
                people = c.nonmated if rate == "fmr" else c.mated
                deff = people.n / people.n_clusters if people.n_clusters else 1.0
                low, high = rate_interval(x, n, deff, people.n_clusters)
                row[f"scored_{rate}_low"], row[f"scored_{rate}_high"] = float(low), float(high)
    return row | {"n_left_out": left, "reason": reasons.get(regime, "")}
