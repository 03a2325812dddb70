"""Risk tags with an outcome, with each other and with the score: lift, pairs, catch, scores.

Without labels a tag that goes with non-matches is an association, and the frame says so. Against
the vendor's own rejections it is circular as well: the risk score takes part in the rejection.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import stats

from verifyanalytics.analysis.base import intervals
from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import bin_counts
from verifyanalytics.analysis.base.intervals import FloatArray
from verifyanalytics.analysis.base.persons import crowd_of
from verifyanalytics.analysis.base.regimes import INCOMPLETE, REGIME, name_regimes
from verifyanalytics.analysis.base.rows import OPTIONAL, REQUIRED, answered
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.tags.sets import (
    TagSets,
    Weighed,
    asked,
    explained,
    named,
    outcome_sets,
    person_sets,
    share_limits,
    tag_sets,
    text_tags,
)
from verifyanalytics.arguments import number
from verifyanalytics.errors import UsageError

_LEVEL, _NORMAL = 0.05, float(stats.norm.ppf(0.975))


class Cells(NamedTuple):
    """The four cells of each tag against the outcome: weights, or squared weights."""

    both: FloatArray
    tag_only: FloatArray
    outcome_only: FloatArray
    neither: FloatArray


@statistic("tags.lift")
def lift(v: Any, outcome: str = "non_match", *, assume_random: bool = False) -> pd.DataFrame:
    """Hold each risk tag against an outcome: precision, recall, lift, and whether it is chance.

    Parameters
    ----------
    v : frame of verifications
        Needs `risk_tags` and what the outcome needs. Uses, when there, `risk_score` (a risk result
        without tags), `subject`, `occurred_at` and `request_id` (one row a person).
    outcome : str
        `non_match`: score below the row's own 1e-4 threshold, or withheld. `rejected`: the vendor's
        verdict is false; rows whose only failing gate is risk are left out and counted, whatever
        the verdict (a gate that is unknown does not fail), and `circular` is true. `attack`:
        labels say so (`va.labels.join`); rows without label are unknown. Or a column of true and
        false, or 1 and 0; `mated` and `nonmated` are labels, too.
    assume_random : bool
        Take the labels as a random sample although they do not look like one; `note` says so.

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
        the tags), `significant` (adjusted ≤ 0.05). `deff` is the design effect of persons. Left
        out: `n_unknown`, `n_only_risk`, `n_risk_not_asked`. `weighted`: labelled rows were drawn
        with unequal `inclusion_prob`, so rates are of weights and only counts of rows. `reason`
        says why something is NaN or weak: `selected_labels` (see `va.labels.coverage`),
        `no_outcome`, `all_outcome`, `tag_on_every_row`, `none_seen`, `unclustered`; `note`.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is missing or of another type; the outcome's holds no truth values.

    See Also
    --------
    catch, pairs, risk_bands, verifyanalytics.labels.join

    Notes
    -----
    The log lift has the variance 1/a − 1/r − 1/c + (2·lift − 1)/n of the delta method, times the
    design effect Σm²/Σm for m rows a person (Rao–Scott, first order, with the upper limit that is
    reached when a person's rows all say the same). At n_both = 0 the lift is 0 and its upper limit
    is the exact one of the precision. Tests take each person's last row by (occurred_at,
    request_id). Without subjects `clustered` is false, rows are tested as if they were persons, and
    nothing is called significant.

    With weights w the same variance is Σw²z², z the influence of a row; the larger one of it and of
    that of equal weights times Kish's Σw²/Σw is taken, and Fisher's test is made on the weighted
    counts of all rows over that factor and `deff`.

    Examples
    --------
    >>> v = pd.DataFrame({"risk_tags": [["13001"], ["13001"], [], []], "fraud": [1, 0, 0, 0]})
    >>> lift(v, "fraud")[["tag", "n_both", "precision", "recall", "lift"]].values.tolist()
    [['13001', 1, 0.5, 1.0, 2.0]]
    """
    question = outcome_sets(v, outcome, assume_random=assume_random)
    sets, meaning, choice = question.sets, question.meaning, question.choice
    people, crowd = person_sets(question.counted)
    r, a = sets.weighed(sets.n), sets.weighed(sets.n_yes)
    n, c = sets.whole(sets.n), sets.whole(sets.n_yes)
    table = pd.DataFrame({"tag": pd.Series(sets.tags, dtype="str")})
    table = table.assign(
        outcome=outcome, basis=meaning.basis, circular=meaning.circular, clustered=crowd.known,
        n=n.n, n_tag=r.n, n_outcome=c.n, n_both=a.n,
    )  # fmt: skip
    with np.errstate(invalid="ignore"):
        table["hit_rate"] = r.w / n.w
    for name, of in (("precision", r), ("recall", c)):
        table[name], table[f"{name}_low"], table[f"{name}_high"] = share_limits(a, of, crowd.deff)
    cells, squares = (
        Cells(both, tag - both, yes - both, whole - tag - yes + both)
        for both, tag, yes, whole in ((a.w, r.w, c.w, n.w), (a.ww, r.ww, c.ww, n.ww))
    )
    worst = np.fmax(r.spread(), n.spread())
    table = _lifted(table, cells, squares, worst, crowd.deff)
    table["deff"] = crowd.deff
    square = [np.rint(cell / (worst * crowd.deff)) for cell in cells] if choice.weighted else None
    table = _tested(table, people, square, significant=crowd.known)
    table = table.assign(**sets.left_out, reason=_reasons(table, choice.reason, crowd.known))
    rates = ["hit_rate", "phi", "p_value", "p_adjusted"]
    rates += [name for name in table if name.startswith(("precision", "recall", "lift", "odds"))]
    table = named(explained(table, question, rates))
    table["significant"] &= table["p_adjusted"].notna()
    return table.sort_values(
        ["lift_low", "lift", "tag"], ascending=[False, False, True], ignore_index=True
    )


@statistic("tags.pairs")
def pairs(v: Any) -> pd.DataFrame:
    """How often two risk tags stand on the same row, against chance.

    Parameters
    ----------
    v : frame of verifications
        Needs `risk_tags`.

    Returns
    -------
    DataFrame
        One row a pair, the strongest φ first: `tag_a`, `tag_b` (by falling frequency), names
        `name_a_en`, `name_a_zh`, `name_b_en`, `name_b_zh`; `n` rows with a risk result, `n_a`,
        `n_b`, `n_both`; `lift` = n·n_both / (n_a·n_b); `phi` in [−1, 1], NaN where a tag is on
        every row; `jaccard` = n_both / n_either; `n_risk_not_asked`. Pairs that never meet are
        listed too.

    See Also
    --------
    rates, lift, catch

    Examples
    --------
    >>> v = pd.DataFrame({"risk_tags": [["13001", "14004"], ["13001"], [], []]})
    >>> pairs(v)[["tag_a", "tag_b", "n_both", "lift", "jaccard"]].values.tolist()
    [['13001', '14004', 1, 2.0, 0.5]]
    """
    sets = tag_sets(v)
    together = (sets.member.T.astype("int64") * sets.n) @ sets.member.astype("int64")
    pairs = [*combinations(range(len(sets.tags)), 2)]
    first, second = (np.array([p[i] for p in pairs], dtype=int) for i in (0, 1))
    single = np.diag(together).astype(float) if len(sets.tags) else np.zeros(0)
    a, b, both = single[first], single[second], together[first, second].astype(float)
    n = float(sets.n.sum())
    tags = np.array(sets.tags, dtype=object)
    table = pd.DataFrame({"tag_a": tags[first], "tag_b": tags[second]}, dtype="str")
    for end in ("a", "b"):
        words = named(pd.DataFrame({"tag": table[f"tag_{end}"]}))
        table[f"name_{end}_en"], table[f"name_{end}_zh"] = words["name_en"], words["name_zh"]
    table["n"] = int(n)
    for name, count in (("n_a", a), ("n_b", b), ("n_both", both)):
        table[name] = count.astype("int64")
    with np.errstate(divide="ignore", invalid="ignore"):
        table["lift"] = n * both / (a * b)
        table["phi"] = (n * both - a * b) / np.sqrt(a * (n - a) * b * (n - b))
        table["jaccard"] = both / (a + b - both)
    table["n_risk_not_asked"] = sets.left_out["n_risk_not_asked"]
    return table.sort_values(
        ["phi", "tag_a", "tag_b"], ascending=[False, True, True], kind="stable", ignore_index=True
    )


@statistic("tags.catch")
def catch(v: Any, outcome: str = "non_match", *, assume_random: bool = False) -> pd.DataFrame:
    """What each risk tag adds to those before it: greedy order of catch, and unique catch.

    Parameters
    ----------
    v : frame of verifications
    outcome, assume_random
        As in `lift`.

    Returns
    -------
    DataFrame
        One row a tag, in greedy order: each next tag is the one that catches most outcome rows not
        caught yet; ties by fewer new hits, then by tag. `step` from 1, `tag` and its names,
        `outcome`, `basis`, `circular`; `n_new_hits`, `n_new_outcome` rows that no earlier tag has,
        `marginal_precision` (NaN: no new hit); `n_hits`, `n_caught` so far, `catch_rate` =
        n_caught / n_outcome with 95 % limits, `hit_share` = n_hits / n; `n_unique_hits`,
        `n_unique_outcome`: rows with this tag and no other; `n`, `n_outcome`, `n_unknown`,
        `n_only_risk`, `n_risk_not_asked`; `deff`, `weighted`, `note` as in `lift`, and
        `reason`: `selected_labels`. Where weighted, order and rates go by weights, counts by rows.

    See Also
    --------
    lift, pairs

    Examples
    --------
    >>> v = pd.DataFrame({"risk_tags": [["1", "2"], ["1"], ["2"], []], "fraud": [1, 1, 0, 0]})
    >>> catch(v, "fraud")[["step", "tag", "n_caught", "catch_rate", "n_unique_outcome"]]
       step tag  n_caught  catch_rate  n_unique_outcome
    0     1   1         2         1.0                 1
    1     2   2         2         1.0                 0
    """
    question = outcome_sets(v, outcome, assume_random=assume_random)
    sets, meaning = question.sets, question.meaning
    deff = crowd_of(question.counted).deff
    tags, new_hits, new = _greedy(sets)
    table = pd.DataFrame({"tag": pd.Series(tags, dtype="str")})
    table.insert(0, "step", np.arange(1, len(table) + 1, dtype="int64"))
    table = table.assign(
        outcome=outcome, basis=meaning.basis, circular=meaning.circular, n_new_hits=new_hits.n,
        n_new_outcome=new.n,
    )  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        table["marginal_precision"] = new.w / new_hits.w
        table["n_hits"], table["n_caught"] = new_hits.n.cumsum(), new.n.cumsum()
        rate, low, high = share_limits(new.upto(), sets.whole(sets.n_yes), deff)
        table["catch_rate"] = rate
        table["hit_share"] = new_hits.w.cumsum() / sets.whole(sets.n).w
    table["catch_rate_low"], table["catch_rate_high"] = low, high
    alone = sets.member & (sets.member.sum(axis=1) == 1)[:, None]
    for name, count in (("n_unique_hits", sets.n), ("n_unique_outcome", sets.n_yes)):
        unique = dict(zip(sets.tags, (alone.T.astype("int64") @ count).tolist(), strict=True))
        table[name] = table["tag"].map(unique).astype("int64")
    table["n"], table["n_outcome"] = int(sets.n.sum()), int(sets.n_yes.sum())
    table = table.assign(**sets.left_out, deff=deff, reason=question.choice.reason)
    rates = ["marginal_precision", "catch_rate", "catch_rate_low", "catch_rate_high", "hit_share"]
    return named(explained(table, question, rates))


def _lifted(
    table: pd.DataFrame, cells: Cells, squares: Cells, worst: FloatArray, deff: float
) -> pd.DataFrame:
    a, b, d, e = cells
    r, c, n = a + b, a + d, a + b + d + e
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = a * n / (r * c)
        influence = Cells(1 / a - 1 / r - 1 / c + 1 / n, 1 / n - 1 / r, 1 / n - 1 / c, 1 / n)
        variance = sum(ww * z**2 for ww, z in zip(squares, influence, strict=True))
        alike = np.maximum(1 / a - 1 / r - 1 / c + (2 * lift - 1) / n, 0)
        half = _NORMAL * np.sqrt(np.maximum(variance, worst * alike) * deff)
        low, high = lift * np.exp(-half), lift * np.exp(half)
        none = (a == 0) & (c > 0)
        low = np.where(none, 0.0, low)
        high = np.where(none, table["precision_high"] * n / c, high)
        table["lift"], table["lift_low"], table["lift_high"] = lift, low, high
        table["phi"] = (a * e - b * d) / np.sqrt(r * (n - r) * c * (n - c))
        odds = (a * e) / (b * d)
        variance = sum(ww / w**2 for ww, w in zip(squares, cells, strict=True))
        half = _NORMAL * np.sqrt(np.maximum(variance, worst * sum(1 / w for w in cells)) * deff)
        table["odds_ratio"] = odds
        edge = (a == 0) | (b == 0) | (d == 0) | (e == 0)
        table["odds_ratio_low"] = np.where(edge, np.nan, odds * np.exp(-half))
        table["odds_ratio_high"] = np.where(edge, np.nan, odds * np.exp(half))
    return table


def _tested(
    table: pd.DataFrame, people: TagSets, square: list[FloatArray] | None, *, significant: bool
) -> pd.DataFrame:
    """Test each tag on one row a person, or on the effective counts of a weighted sample."""
    n, c = int(people.n.sum()), int(people.n_yes.sum())
    if square is None:
        r = dict(zip(people.tags, people.per_tag(people.n).tolist(), strict=True))
        a = dict(zip(people.tags, people.per_tag(people.n_yes).tolist(), strict=True))
        pairs = [(a.get(tag, 0), r.get(tag, 0)) for tag in table["tag"]]
        p = [_fisher(x, of - x, c - x, n - of - c + x) for x, of in pairs]
    else:
        p = [_fisher(*map(int, cells)) for cells in zip(*square, strict=True)]
    table["n_subjects"] = n
    table["p_value"] = np.array(p, dtype=float)
    table["p_adjusted"] = intervals.benjamini_hochberg(np.array(p, dtype=float))
    table["significant"] = (table["p_adjusted"] <= _LEVEL) & significant
    return table


def _fisher(both: int, tag_only: int, outcome_only: int, neither: int) -> float:
    """Fisher's p-value, NaN where a margin is empty and nothing can be tested."""
    margins = (both + tag_only, outcome_only + neither, both + outcome_only, tag_only + neither)
    if not all(margins):
        return float("nan")
    return float(stats.fisher_exact([[both, tag_only], [outcome_only, neither]])[1])


def _reasons(table: pd.DataFrame, selected: str, clustered: bool) -> Any:
    return np.select(
        [
            np.full(len(table), bool(selected)),
            table["n_outcome"] == 0,
            table["n_outcome"] == table["n"],
            table["n_tag"] == table["n"],
            table["n_both"] == 0,
            np.full(len(table), not clustered),
        ],
        [selected, "no_outcome", "all_outcome", "tag_on_every_row", "none_seen", "unclustered"],
        "",
    )


def _greedy(sets: TagSets) -> tuple[list[str], Weighed, Weighed]:
    """Order the tags by what they add; return them, their new hits and their new outcome rows."""
    left = np.ones(len(sets.n), dtype=np.bool_)
    rest, order = list(range(len(sets.tags))), []
    found: list[list[float]] = []
    hits = sets.n * sets.weight, sets.n_yes * sets.weight
    while rest:
        # sums of the same weights in another order are still equal
        new = {
            i: [round(float(of[left & sets.member[:, i]].sum()), 6) for of in hits] for i in rest
        }
        best = min(rest, key=lambda i: (-new[i][1], new[i][0], sets.tags[i]))
        mine = left & sets.member[:, best]
        found.append(
            [
                float(of[mine] @ sets.weight[mine] ** power)
                for of in (sets.n, sets.n_yes)
                for power in (0, 1, 2)
            ]
        )
        order.append(sets.tags[best])
        left &= ~sets.member[:, best]
        rest.remove(best)
    columns = np.array(found, dtype=float).reshape(len(order), 6).T
    sides = [Weighed(part[0].astype("int64"), part[1], part[2]) for part in np.split(columns, 2)]
    return order, sides[0], sides[1]


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
