"""Operating points: where along the scores the two errors stand, one regime at a time.

A match is `score >= threshold`, so equal scores are one block and only the distinct scores, and one
step above the largest, are worth trying. Everything here sorts labelled scores (it is not counts
first): the labelled rows travel to this process, 24 bytes each, and cost n·log n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifyanalytics.analysis.base.intervals import FloatArray, clopper_pearson, ratio

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Side:
    """Labelled scores of one class, with the withheld and the persons behind them.

    Attributes
    ----------
    scores : ndarray
        Ascending.
    persons : ndarray
        Cluster of each score, as whole numbers.
    sizes : ndarray
        Rows of each cluster, withheld ones included; indexed by `persons`.
    withheld : ndarray
        Persons of the rows compared whose score was withheld: non-matches.
    weight_sizes : float
        Σ of squared cluster sizes, over all clusters of the class.
    n_clusters : int
        Clusters, those with withheld rows only included.
    """

    scores: FloatArray
    persons: IntArray
    sizes: IntArray
    withheld: IntArray
    weight_sizes: float
    n_clusters: int

    @property
    def n_withheld(self) -> int:
        """Rows whose score was withheld."""
        return self.withheld.size

    @property
    def n(self) -> int:
        """Rows of the class: scored and withheld."""
        return self.scores.size + self.withheld.size


def side(scores: FloatArray, persons: IntArray) -> Side:
    """Order one class; a score of NaN is a withheld one."""
    sizes = np.bincount(persons) if persons.size else np.zeros(0, dtype=np.int64)
    scored = ~np.isnan(scores)
    order = np.argsort(scores[scored], kind="stable")
    return Side(
        scores=scores[scored][order],
        persons=persons[scored][order],
        sizes=sizes.astype(np.int64),
        withheld=persons[~scored],
        weight_sizes=float((sizes.astype(float) ** 2).sum()),
        n_clusters=int((sizes > 0).sum()),
    )


@dataclass(frozen=True, slots=True)
class Curve:
    """Both errors at every threshold worth trying, ascending.

    Attributes
    ----------
    thresholds : ndarray
        Distinct pooled scores, then one step above the largest.
    false_matches, false_nonmatches : ndarray of int64
        Non-mated at or above, mated below (withheld mated included).
    nonmated, mated : Side
        The classes.
    """

    thresholds: FloatArray
    false_matches: IntArray
    false_nonmatches: IntArray
    nonmated: Side
    mated: Side

    @property
    def fmr(self) -> FloatArray:
        """False matches over non-mated comparisons; NaN without any."""
        return ratio(self.false_matches, self.nonmated.n)

    @property
    def fnmr(self) -> FloatArray:
        """False non-matches over mated comparisons; NaN without any."""
        return ratio(self.false_nonmatches, self.mated.n)


def curve(nonmated: Side, mated: Side) -> Curve:
    """Count both errors at every candidate threshold."""
    pooled = np.unique(np.concatenate([nonmated.scores, mated.scores]))
    if pooled.size:
        pooled = np.append(pooled, np.nextafter(pooled[-1], np.inf))
    below_nonmated = np.searchsorted(nonmated.scores, pooled, side="left")
    below_mated = np.searchsorted(mated.scores, pooled, side="left")
    return Curve(
        thresholds=pooled,
        false_matches=(nonmated.scores.size - below_nonmated).astype(np.int64),
        false_nonmatches=(below_mated + mated.n_withheld).astype(np.int64),
        nonmated=nonmated,
        mated=mated,
    )


def at_most_fmr(curve: Curve, fmr: float) -> int:
    """Index of the smallest candidate whose realised FMR is at most `fmr`.

    The last candidate has no false match at all, so there is always one.
    """
    return int(np.argmax(curve.false_matches <= _allowed(fmr, curve.nonmated.n)))


def at_most_fnmr(curve: Curve, fnmr: float) -> int | None:
    """Index of the largest candidate whose realised FNMR is at most `fnmr`; None if there is none.

    There is none when withheld mated comparisons alone exceed it.
    """
    fine = np.flatnonzero(curve.false_nonmatches <= _allowed(fnmr, curve.mated.n))
    return int(fine[-1]) if fine.size else None


def assured_fmr(curve: Curve, fmr: float, confidence: float, own: float = -np.inf) -> int | None:
    """Index of the smallest candidate whose one-sided upper limit of the FMR is at most `fmr`.

    Clopper–Pearson on the effective sample size: with repeated tries of the same persons the limit
    counts persons, not tries. None when not even an error-free sample of this size carries it.
    Withheld scores lie below `own`, the regime's 1e-4 threshold (NaN: unknown): at candidates below
    it they may have matched, and are counted so.
    """
    n = curve.nonmated.n
    hidden = ~(curve.thresholds >= own)
    x = curve.false_matches + np.where(hidden, curve.nonmated.n_withheld, 0)
    deff = match_deff(curve)
    if hidden.any() and curve.nonmated.n_withheld:
        deff = np.where(hidden, match_deff(curve, withheld=True), deff)
    size = np.where(x == 0, curve.nonmated.n_clusters, n / np.maximum(deff, 1.0))
    upper = clopper_pearson(np.minimum(x * (size / n), size), size, confidence, side="upper").high
    # The limit must hold from here on: the effective size jumps a little from score to score.
    holds = np.logical_and.accumulate((upper <= fmr)[::-1])[::-1]
    return int(np.argmax(holds)) if holds[-1] else None


def equal_error(curve: Curve) -> tuple[float, float, int]:
    """Return the interval [low, high] that holds the equal error rate, and the index it is read at.

    Of the last candidate with FNMR ≤ FMR and the first with FNMR ≥ FMR, the one with the smaller
    sum of both errors gives the two ends; the rates jump, so there need not be a threshold where
    they meet.

    References
    ----------
    Maio et al. (2002) FVC2000, IEEE PAMI 24:402, section 4.
    """
    fmr, fnmr = curve.fmr, curve.fnmr
    first = int(np.flatnonzero(fnmr <= fmr)[-1]) if (fnmr <= fmr).any() else 0
    second = int(np.argmax(fnmr >= fmr))
    best = first if fmr[first] + fnmr[first] <= fmr[second] + fnmr[second] else second
    low, high = sorted((float(fmr[best]), float(fnmr[best])))
    return low, high, best


def area(curve: Curve) -> float:
    """Area under the ROC: P(mated score > non-mated score) + ½ P(equal), over scored rows.

    Withheld comparisons have no score to compare and are left out.
    """
    n = curve.nonmated.scores.size * curve.mated.scores.size
    if n == 0:
        return float("nan")
    below = np.searchsorted(curve.nonmated.scores, curve.mated.scores, side="left")
    upto = np.searchsorted(curve.nonmated.scores, curve.mated.scores, side="right")
    return float((below.sum() + upto.sum()) / 2 / n)


def match_deff(curve: Curve, *, withheld: bool = False) -> FloatArray:
    """Design effect of the false matches at every candidate, from the persons behind them.

    Scores are taken from the top: the j-th match of a person adds 2j−1 to the sum of squares, so
    all thresholds cost one pass. With `withheld` these rows are matches at every candidate.
    """
    cut = curve.nonmated.scores.size - curve.false_matches
    return _deff(curve.nonmated, cut, top=True, withheld=withheld)


def nonmatch_deff(curve: Curve) -> FloatArray:
    """Design effect of the false non-matches at every candidate; withheld ones come first."""
    cut = curve.false_nonmatches - curve.mated.n_withheld
    return _deff(curve.mated, cut, top=False, withheld=True)


def _deff(side: Side, cut: IntArray, *, top: bool, withheld: bool) -> FloatArray:
    """Design effect of the rows from `cut` on (top) or below it, with the withheld or without."""
    persons = side.persons[::-1] if top else side.persons
    n_events = side.scores.size - cut if top else cut
    if withheld:
        persons, n_events = np.concatenate([side.withheld, persons]), n_events + side.n_withheld
    yy = np.concatenate([[0], np.cumsum(2 * _nth(persons) - 1)])[n_events]
    ym = np.concatenate([[0], np.cumsum(side.sizes[persons])])[n_events]
    n, g = side.n, side.n_clusters
    if g in (n, 1):
        return np.full(cut.shape, float(n) if g == 1 else 1.0)
    rate = n_events / n
    squares = np.maximum(yy - 2 * rate * ym + rate**2 * side.weight_sizes, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        deff = g / (g - 1) * squares / (n * rate * (1 - rate))
    return np.where((n_events == 0) | (n_events == n), 1.0, deff)


def _nth(persons: IntArray) -> IntArray:
    """For each row, the how-many-eth of its person it is, from 1 on."""
    order = np.argsort(persons, kind="stable")
    ordered = persons[order]
    if not ordered.size:
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.append(starts, ordered.size))
    nth = np.empty(persons.size, dtype=np.int64)
    nth[order] = np.arange(ordered.size) - np.repeat(starts, lengths) + 1
    return nth


def _allowed(rate: float, n: int) -> float:
    """Largest number of errors among n within `rate`; 10 of 100 is 10 %, whatever binary says."""
    return rate * n * (1 + 1e-12)
