"""Would fewer errors remain if the poorest images were not compared: error versus discard.

This needs the qualities sorted, so it is not counts-first: it costs a group-by over every different
quality of the frame, and the curve is made of that table.
"""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics import codebook
from verifyanalytics.analysis import counts
from verifyanalytics.analysis._counts_cells import without_nan
from verifyanalytics.analysis.counts import REGIME
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import QUALITY_COLUMNS, THRESHOLD_COLUMNS

_DARK, _MOST_STEPS = 0.08, 1000
_ALL = "all"


def error_versus_discard(
    frame: Any,
    quality: str = "face_comprehensive_score",
    threshold: float | None = None,
    nominal_fmr: float | None = None,
) -> pd.DataFrame:
    """How the error rate falls when the images of lowest quality are not compared.

    Parameters
    ----------
    frame : frame of verifications, or of `va.join_labels`
        With `mated`: errors are false non-matches among mated rows without attack (`fnmr`).
        Without labels the curve is **reject rate versus discard**, and a falling curve need not
        mean fewer errors: impostors may send poor images too.
    quality : str
        A quality column, or any column of numbers in which higher is better.
    threshold : float, optional
        The score that matches, fixed over the curve. Default: each row's own 1e-4 threshold.
    nominal_fmr : float, optional
        Instead: each row's own score for this claimed rate; all complete regimes together.

    Returns
    -------
    DataFrame
        One row a step, from all rows kept to all discarded: `regime`, `quality`, `kind` (`fnmr` or
        `reject_rate`); `discard_fraction`, `error_fraction` of the rows kept (0 when none is),
        `n_discarded`, `n_kept`, `n_errors` kept; `quality_up_to`: the highest oriented quality
        discarded (−inf: nothing, or only rows without quality); `ideal` = max(0, (e₀ − d)/(1 − d)),
        the curve of a quality that knows the errors; `n`, `n_null_quality` (discarded first) and
        `n_not_compared` (no score that was told or withheld: left out); `pauc_03`, `pauc_1`: area
        under the steps up to 0.3 and 1. At most 1,000 steps are listed; areas are of all.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is not there; both thresholds given.

    Notes
    -----
    Orientation, as the code book has it: comprehensive and clarity as they are; pose, occlusion,
    cap and exposure with a minus sign, pose by magnitude; brightness by its distance below 0.08,
    so that all brighter images are equal. Equal qualities leave together; the curve is a step
    function, constant until the next discard. Grother & Tabassi (2007) IEEE TPAMI 29:531; the area
    after Schlett et al. (2023).

    Examples
    --------
    >>> v = pd.DataFrame({"quality": [1, 1, 2, 3], "score": [40, 80, 85, 90]})
    >>> curve = error_versus_discard(v, "quality", threshold=60)
    >>> curve[["discard_fraction", "error_fraction"]].values.tolist()
    [[0.0, 0.25], [0.5, 0.0], [0.75, 0.0], [1.0, 0.0]]
    """
    if threshold is not None and nominal_fmr is not None:
        raise UsageError("give threshold or nominal_fmr, not both")
    rows, kind = _rows(frame, quality, threshold, nominal_fmr)
    table = counts.group_counts(
        rows.with_columns(_quality=_oriented(quality)),
        [*REGIME, "_quality"],
        counts={
            "n": ~nw.col("_error").is_null(),
            "n_errors": nw.col("_error"),
            "n_not_compared": nw.col("_error").is_null(),
        },
    )
    table = _named(table, frame, nominal_fmr)
    parts = [
        _curve(part, str(regime), quality, kind)
        for regime, part in table.groupby("regime", sort=True)
        if part["n"].sum() or len(table["regime"].unique()) == 1
    ]
    return pd.concat(parts, ignore_index=True) if parts else _curve(table, "", quality, kind)


def _rows(
    v: Any, quality: str, threshold: float | None, nominal_fmr: float | None
) -> tuple[nw.LazyFrame[Any], str]:
    have = nw.from_native(v).collect_schema().names()
    missing = [name for name in ("score", quality) if name not in have]
    if missing:
        raise MissingColumnError(missing, have)
    own = [] if threshold is not None else list(THRESHOLD_COLUMNS)
    spare = ["code", "gateway_code", "sub_code", *REGIME, "mated", "attack"]
    frame = counts.rows(v, [quality, "score", *own], spare)
    kind = "reject_rate"
    if "mated" in have:
        mated = nw.col("mated").cast(nw.Boolean).fill_null(value=False)
        frame, kind = frame.filter(mated, nw.col("attack").is_null()), "fnmr"
    if threshold is not None:
        below = nw.col("score") < threshold
    elif nominal_fmr is not None:
        below = nw.when(counts.complete()).then(
            nw.col("score") < counts.threshold_at_fmr(nominal_fmr)
        )
    else:
        below = nw.when(counts.complete()).then(nw.col("score") < nw.col(counts.OWN_THRESHOLD))
    if "code" in have:
        told = nw.when(counts.scored()).then(below)
        hidden = (
            counts.withheld() if threshold is not None else counts.withheld() & counts.complete()
        )
        below = nw.when(hidden).then(nw.lit(value=True)).otherwise(told)
    return frame.with_columns(_error=below), kind


def _oriented(quality: str) -> nw.Expr:
    value = without_nan(quality).cast(nw.Float64)
    if quality not in QUALITY_COLUMNS:
        return value
    if quality.endswith("_brightness"):
        short = value - _DARK
        return nw.when(short < 0).then(short).when(short >= 0).then(nw.lit(0.0))
    better = codebook.current().measure(quality).better
    if better == "magnitude":
        return -value.abs()
    return -value if better == "lower" else value


def _named(table: pd.DataFrame, v: Any, nominal_fmr: float | None) -> pd.DataFrame:
    told = set(THRESHOLD_COLUMNS) <= {*nw.from_native(v).collect_schema().names()}
    if told:
        table = counts.name_regimes(table)
    else:
        table.insert(0, "regime", "not told")
    if nominal_fmr is not None:
        whole = table["regime"] != counts.INCOMPLETE
        table["regime"] = table["regime"].where(~whole, _ALL)
    return table


def _curve(part: pd.DataFrame, regime: str, quality: str, kind: str) -> pd.DataFrame:
    held = part[part["n"] > 0].groupby("_quality", dropna=False)[["n", "n_errors"]].sum()
    null = held[held.index.isna()]
    held = held[held.index.notna()].sort_index()
    n, errors = (np.r_[null[name].sum(), held[name]].astype("int64") for name in ("n", "n_errors"))
    at = np.r_[-np.inf, -np.inf, held.index.to_numpy(dtype=float)]
    gone, wrong = np.r_[0, n.cumsum()], np.r_[0, errors.cumsum()]
    steps = np.r_[True, np.diff(gone) > 0]
    at, gone, wrong = at[steps], gone[steps], wrong[steps]
    total, bad = n.sum(), errors.sum()
    kept = total - gone
    with np.errstate(divide="ignore", invalid="ignore"):
        discard = gone / total
        error = np.where(kept > 0, (bad - wrong) / kept, 0.0 if total else np.nan)
        ideal = np.where(kept > 0, np.maximum(0.0, (bad / total - discard) / (1 - discard)), 0.0)
    table = pd.DataFrame({
        "regime": regime, "quality": quality, "kind": kind, "discard_fraction": discard,
        "error_fraction": error, "n_discarded": gone, "n_kept": kept, "n_errors": bad - wrong,
        "quality_up_to": at, "ideal": ideal,
    })  # fmt: skip
    table["n"], table["n_null_quality"] = total, int(null["n"].sum())
    table["n_not_compared"] = int(part["n_not_compared"].sum())
    for name, end in (("pauc_03", 0.3), ("pauc_1", 1.0)):
        table[name] = _area(discard, error, end)
    for name in ("regime", "quality", "kind"):
        table[name] = table[name].astype("str")
    return _thinned(table)


def _area(discard: Any, error: Any, end: float) -> float:
    """Area under the steps: each error holds until the next discard."""
    if not np.isfinite(discard).all():
        return float("nan")
    ends = np.minimum(np.r_[discard[1:], 1.0], end)
    return float((np.maximum(ends - np.minimum(discard, end), 0.0) * error).sum())


def _thinned(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the first step in each thousandth, and the last."""
    if len(table) <= _MOST_STEPS:
        return table
    cells = np.floor(table["discard_fraction"].to_numpy() * (_MOST_STEPS - 2))
    keep = np.r_[True, np.diff(cells) > 0]
    keep[-1] = True
    return table[keep].reset_index(drop=True)
