"""Counts of the labelled rows, made once and read at any threshold.

FMR and FNMR need the labelled rows only, which are few; they are kept in memory as sorted scores
with running sums. Intervals need, per person, how many of the rows lie at or above a threshold:
such sums of squares grow row by row as the threshold falls, so they are running sums too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from verifyanalytics.analysis.accuracy.rates import ErrorCounts, Point, finish_errors
from verifyanalytics.analysis.base.frames import collected
from verifyanalytics.analysis.base.labelled import coverage_table, labelled_rows, selection
from verifyanalytics.analysis.base.periods import UNKNOWN
from verifyanalytics.analysis.base.persons import has_person, person
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.schema import THRESHOLD_COLUMNS
from verifyanalytics.tuner.counts import EVERYONE, Segment

_SIDES = {"nonmated": "fm", "mated": "fnm"}


@dataclass(frozen=True, slots=True)
class Side:
    """The labelled rows of one class, regime and segment, by rising score.

    Attributes
    ----------
    scores : ndarray
        Rising; withheld ones are not among them.
    sums : ndarray, shape (3, len(scores) + 1)
        Sums over the persons' rows at or above scores[i]: r, r², r·m, where r is the weight that a
        person has there and m the one it has in all.
    n, n_withheld : int
    persons : tuple of float
        How many persons, Σm, Σm².
    """

    scores: NDArray[np.float64]
    sums: NDArray[np.float64]
    n: int
    n_withheld: int
    persons: tuple[float, float, float]


class LabelledTally:
    """The labelled rows of a frame by regime and segment.

    Parameters
    ----------
    truth : frame
        From `va.labels.join`.
    by : sequence of str
        Columns whose values are segments; `score`, `result` and `mated` cannot split error rates.
    cluster : str or None
    assume_random : bool
        As in `va.accuracy.error_rates`.

    Raises
    ------
    MissingColumnError
    """

    def __init__(
        self,
        truth: Any,
        by: Sequence[str] = (),
        *,
        cluster: str | None = "subject",
        assume_random: bool = False,
    ) -> None:
        self.assume_random = assume_random
        keys = [c for c in by if c not in {"result", "mated", "score"}]
        wanted = [*keys, *([cluster] if cluster and cluster != "subject" else [])]
        optional = ["result", "subject", "label_token"]
        frame = labelled_rows(truth, wanted, [c for c in optional if c not in wanted])
        self.reasons = selection(coverage_table(truth))
        self.known_persons = has_person(truth, cluster)
        table = _labelled(frame, keys, cluster)
        weight = table["_weight"]
        # drawn alike, rows need no weights: as in `va.accuracy.error_rates`
        self.weighted = bool(weight.notna().all() and weight.min() < weight.max())
        self.both_classes = table["mated"].nunique() == 2
        self.groups: dict[tuple[str, Segment], dict[str, Side]] = {}
        for column in ("", *keys):
            for key, part in table.groupby([column, "regime"] if column else ["regime"]):
                regime, segment = str(key[-1]), Segment(column, str(key[0]))
                self.groups[regime, segment if column else EVERYONE] = {
                    name: _side(part[part["mated"] == (name == "mated")], weighted=self.weighted)
                    for name in _SIDES
                }
        self._values = {c: {str(x): x for x in table[c].unique()} for c in keys}
        self._points = table.drop_duplicates("regime")[["regime", *THRESHOLD_COLUMNS]]

    def error_rates(self, regime: str, segment: Segment, threshold: float) -> pd.DataFrame:
        """Return the row that `va.accuracy.error_rates` has for a regime, segment and threshold.

        Empty where nothing is labelled, or the segment is one that error rates cannot be split by.
        """
        sides = self.groups.get((regime, segment))
        if sides is None:
            return pd.DataFrame()
        row: dict[str, Any] = {"regime": regime}
        keys = [segment.column] if segment.column else []
        row |= {column: self._values[column][segment.value] for column in keys}
        for name, error in _SIDES.items():
            row |= self._counts(name, error, sides[name], threshold)
        point = Point(threshold, np.nan, nw.col("score") >= threshold)
        counts = ErrorCounts(
            pd.DataFrame([row]), [point], self._points, keys, self.reasons, self.weighted
        )
        return finish_errors(counts, assume_random=self.assume_random)

    def _counts(self, name: str, error: str, side: Side, threshold: float) -> dict[str, Any]:
        at = int(np.searchsorted(side.scores, threshold))
        reached = len(side.scores) - at
        row: dict[str, Any] = {f"n_{name}": side.n, f"n_{name}_withheld": side.n_withheld}
        row[f"{error}:0"] = reached if error == "fm" else side.n - reached
        if not (self.known_persons or self.weighted):
            return row
        g, m, mm = side.persons
        r, rr, rm = side.sums[:, at]
        # a mated row errs below the threshold: the rest of each person's rows
        y, yy, ym = (r, rr, rm) if error == "fm" else (m - r, mm - 2 * rm + rr, mm - rm)
        row |= {f"{name}:g": g, f"{name}:m": m, f"{name}:mm": mm}
        return row | {f"{error}:0:y": y, f"{error}:0:yy": yy, f"{error}:0:ym": ym}


def _labelled(frame: nw.LazyFrame[Any], keys: list[str], cluster: str | None) -> pd.DataFrame:
    """Bring the bona fide rows here: score, class, person, weight."""
    used = frame.filter(nw.col("_bona_fide")).select(
        *dict.fromkeys([*keys, *REGIME, "score", "mated"]),
        _person=person(cluster),
        _weight=(1.0 / nw.col("_chance")),
    )
    table = collected(used)
    for name in ("req_key", *keys):
        if table[name].dtype == object or isinstance(table[name].dtype, pd.StringDtype):
            table[name] = table[name].fillna(UNKNOWN).astype("str")
    named = name_regimes(table)
    return named.assign(mated=named["mated"].astype(bool))


def _side(part: pd.DataFrame, *, weighted: bool) -> Side:
    """Sort one class by score and run the sums from the top."""
    held = part if weighted else part[part["_person"].notna()]
    person = held["_person"].to_numpy(dtype=object)
    code, _ = pd.factorize(person)
    alone = code < 0  # only weighted rows are kept without a person: each is its own
    code = np.where(alone, code.max(initial=-1) + 1 + np.cumsum(alone), code)
    weight = held["_weight"].to_numpy() if weighted else np.ones(len(held))
    m = np.bincount(code, weight) if len(code) else np.zeros(0)
    m_of_row = m[code] if len(code) else np.zeros(0)
    score = held["score"].to_numpy(dtype=float, na_value=np.nan)
    order = np.argsort(-score, kind="stable")  # NaN, the withheld ones, come last
    order = order[: int(np.isfinite(score).sum())]
    w, who = weight[order], code[order]
    before = pd.Series(w).groupby(who).cumsum().to_numpy() - w if len(w) else w
    gains = np.array([w, 2 * before * w + w * w, m_of_row[order] * w]).reshape(3, -1)
    sums = np.concatenate([np.zeros((3, 1)), np.cumsum(gains, axis=1)], axis=1)
    all_scores = part["score"].to_numpy(dtype=float, na_value=np.nan)
    scores = np.sort(all_scores[~np.isnan(all_scores)])
    # one column per count of all scored rows at or above, not only of those with a person
    of_persons = np.sort(score[order])
    at = len(of_persons) - np.searchsorted(of_persons, np.append(scores, np.inf))
    return Side(
        scores=scores,
        sums=sums[:, at],
        n=len(part),
        n_withheld=int(np.isnan(all_scores).sum()),
        persons=(float(np.sum(m > 0)), float(m.sum()), float((m * m).sum())),
    )
