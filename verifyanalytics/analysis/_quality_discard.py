"""Would fewer errors remain if the poorest images were not compared: error versus discard.

This needs the qualities sorted, so it is not counts-first: it costs a group-by over every different
quality of the frame, and the curve is made of that table.
"""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

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
    rows, names = _numbered(rows, frame, pooled=nominal_fmr is not None)
    grouped = rows.with_columns(_quality=_oriented(quality)).group_by("_regime", "_quality")
    error = nw.col("_error")
    table = grouped.agg(
        n=(~error.is_null()).cast(nw.Int64).sum(),
        n_errors=error.cast(nw.Int64).sum(),
        n_not_compared=error.is_null().cast(nw.Int64).sum(),
    )
    counted = _held(table.collect(backend="pyarrow").to_native())
    parts = [
        _curve({name: column[at] for name, column in counted.items()}, regime, quality, kind)
        for place, regime in enumerate(names)
        for at in [counted["_regime"] == place]
        if counted["n"][at].sum() or len(names) == 1
    ]
    if not parts:
        parts = [_curve({k: c[:0] for k, c in counted.items()}, "", quality, kind)]
    return pd.concat(parts, ignore_index=True)


def _held(table: pa.Table) -> dict[str, Any]:
    """Take the columns as NumPy arrays: as many rows as there are different qualities."""
    kinds = {"_quality": "float64", "_regime": "int64"}
    arrays = {}
    for name in table.column_names:
        values = table[name].to_numpy()
        if name not in kinds:
            values = np.nan_to_num(values.astype("float64"))
        arrays[name] = values.astype(kinds.get(name, "int64"))
    return arrays


def _numbered(
    rows: nw.LazyFrame[Any], v: Any, *, pooled: bool
) -> tuple[nw.LazyFrame[Any], list[str]]:
    """Put the number of its regime on each row; the names come from a small table."""
    if not set(THRESHOLD_COLUMNS) <= {*nw.from_native(v).collect_schema().names()}:
        return rows.with_columns(_regime=nw.lit(0).cast(nw.Int64)), ["not told"]
    table = counts.name_regimes(counts.group_counts(rows, REGIME, counts={"n": None}))
    if pooled:
        whole = table["regime"] != counts.INCOMPLETE
        table["regime"] = table["regime"].where(~whole, _ALL)
    names = sorted({*table["regime"]} - {counts.INCOMPLETE})
    number = nw.lit(len(names))  # whatever is in no complete regime
    for row in table[table["regime"] != counts.INCOMPLETE].itertuples():
        key = nw.col("req_key")
        mine = key.is_null() if row.req_key == counts.UNKNOWN else key == row.req_key
        if row.req_key == counts.UNKNOWN:
            mine = mine | (key == counts.UNKNOWN)
        for name in THRESHOLD_COLUMNS:
            mine = mine & (nw.col(name) == getattr(row, name))
        place = nw.lit(names.index(row.regime))
        number = nw.when(mine.fill_null(value=False)).then(place).otherwise(number)
    if (table["regime"] == counts.INCOMPLETE).any():
        names.append(counts.INCOMPLETE)
    return rows.with_columns(_regime=number.cast(nw.Int64)), names


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


def _curve(part: dict[str, Any], regime: str, quality: str, kind: str) -> pd.DataFrame:
    null = np.isnan(part["_quality"])
    order = np.flatnonzero(~null & (part["n"] > 0))
    order = order[np.argsort(part["_quality"][order], kind="stable")]
    n, errors = (
        np.r_[part[name][null].sum(), part[name][order]].astype("int64")
        for name in ("n", "n_errors")
    )
    at = np.r_[-np.inf, -np.inf, part["_quality"][order]]
    gone, wrong = np.r_[0, n.cumsum()], np.r_[0, errors.cumsum()]
    steps = np.r_[True, np.diff(gone) > 0]
    at, gone, wrong = at[steps], gone[steps], wrong[steps]
    total, bad = n.sum(), errors.sum()
    kept = total - gone
    with np.errstate(divide="ignore", invalid="ignore"):
        discard = gone / total
        error = np.where(kept > 0, (bad - wrong) / kept, 0.0 if total else np.nan)
        ideal = np.where(kept > 0, np.maximum(0.0, (bad / total - discard) / (1 - discard)), 0.0)
    shown = _shown(discard)
    table = pd.DataFrame({
        "regime": regime, "quality": quality, "kind": kind, "discard_fraction": discard[shown],
        "error_fraction": error[shown], "n_discarded": gone[shown], "n_kept": kept[shown],
        "n_errors": (bad - wrong)[shown], "quality_up_to": at[shown], "ideal": ideal[shown],
    })  # fmt: skip
    table["n"], table["n_null_quality"] = total, int(n[0])
    table["n_not_compared"] = int(part["n_not_compared"].sum())
    for name, end in (("pauc_03", 0.3), ("pauc_1", 1.0)):
        table[name] = _area(discard, error, end)
    for name in ("regime", "quality", "kind"):
        table[name] = table[name].astype("str")
    return table


def _area(discard: Any, error: Any, end: float) -> float:
    """Area under the steps: each error holds until the next discard."""
    if not np.isfinite(discard).all():
        return float("nan")
    ends = np.minimum(np.r_[discard[1:], 1.0], end)
    return float((np.maximum(ends - np.minimum(discard, end), 0.0) * error).sum())


def _shown(discard: Any) -> Any:
    """Choose the first step in each thousandth, and the last; all of a short curve."""
    if len(discard) <= _MOST_STEPS:
        return np.ones(len(discard), dtype=np.bool_)
    cells = np.floor(discard * (_MOST_STEPS - 2))
    keep = np.r_[True, np.diff(cells) > 0]
    keep[-1] = True
    return keep
