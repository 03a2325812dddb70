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

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.grids import without_nan
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.labelled import coverage_table, selection
from verifyanalytics.analysis.base.periods import UNKNOWN
from verifyanalytics.analysis.base.regimes import INCOMPLETE, REGIME, name_regimes, threshold_at_fmr
from verifyanalytics.analysis.base.rows import OWN_THRESHOLD, complete, scored, withheld
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number
from verifyanalytics.codebook import book as codebook
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import QUALITY_COLUMNS, THRESHOLD_COLUMNS

_DARK, _MOST_STEPS = 0.08, 1000
_ALL = "all"


@statistic("quality.error_versus_discard")
def error_versus_discard(
    frame: Any,
    quality: str = "face_comprehensive_score",
    threshold: float | None = None,
    nominal_fmr: float | None = None,
    *,
    assume_random: bool = False,
) -> pd.DataFrame:
    """How the error rate falls when the images of lowest quality are not compared.

    Parameters
    ----------
    frame : frame of verifications, or of `va.labels.join`
        With `mated`: errors are false non-matches among mated rows without attack (`fnmr`).
        Without labels the curve is **reject rate versus discard**, and a falling curve need not
        mean fewer errors: impostors may send poor images too.
    quality : str
        A quality column, or any column of numbers in which higher is better.
    threshold : float, optional
        The score that matches, fixed over the curve. Default: each row's own 1e-4 threshold.
    nominal_fmr : float, optional
        Instead: each row's own score for this claimed rate; all complete regimes together.
    assume_random : bool
        Take labels that look like a selection for a random sample.

    Returns
    -------
    DataFrame
        One row a step, from all rows kept to all discarded: `regime`, `quality`, `kind` (`fnmr` or
        `reject_rate`); `discard_fraction`, `error_fraction` of the rows kept (0 when none is),
        `n_discarded`, `n_kept`, `n_errors` kept; `quality_up_to`: the highest oriented quality
        discarded (−inf: nothing, or only rows without quality); `ideal` = max(0, (e₀ − d)/(1 − d)),
        the curve of a quality that knows the errors; `n`, `n_null_quality` (discarded first) and
        `n_not_compared` (no score that was told or withheld, or no complete regime: left out),
        `n_unlabelled` (compared, but without a label: left out, 0 without labels); `pauc_03`,
        `pauc_1`: area under the steps up to 0.3 and 1; `reason`: `selected_labels` where fractions,
        ideal and areas are NaN because the labels are a selection. Rows drawn with a known
        probability weigh 1/probability in the fractions, and other rows are none of the sample. At
        most 1,000 steps are listed; areas are of all.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is missing, or holds no numbers; both thresholds given, or one that is none.

    See Also
    --------
    bands, coaching, verifyanalytics.accuracy.error_rates

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
    at = None if threshold is None else number(threshold, "threshold")
    fmr = None if nominal_fmr is None else number(nominal_fmr, "nominal_fmr", above=0, below=1)
    have = _columns(frame, quality)
    rows, kind = _rows(frame, have, quality, at, fmr)
    rows, names = _numbered(rows, frame, pooled=fmr is not None)
    grouped = rows.with_columns(_quality=_oriented(quality)).group_by("_regime", "_quality")
    error, ours, weight = nw.col("_error"), nw.col("_ours"), nw.col("_weight")
    compared = ours & ~error.is_null()
    table = grouped.agg(
        n=_number_of(compared),
        n_errors=_number_of(compared & error),
        n_not_compared=_number_of(ours & error.is_null()),
        n_unlabelled=_number_of(~error.is_null() & nw.col("_unlabelled")),
        weight=nw.when(compared).then(weight).sum(),
        weight_errors=nw.when(compared & error).then(weight).sum(),
    )
    counted = _held(table.collect(backend="pyarrow").to_native())
    reasons = _reasons(frame, have, pooled=fmr is not None) if not assume_random else {}
    parts = [
        _curve({name: column[at] for name, column in counted.items()}, regime, quality, kind,
               reasons.get(regime, ""))
        for place, regime in enumerate(names)
        for at in [counted["_regime"] == place]
        if counted["n"][at].sum() or counted["n_not_compared"][at].sum() or len(names) == 1
    ]  # fmt: skip
    if not parts:
        parts = [_curve({k: c[:0] for k, c in counted.items()}, "", quality, kind, "")]
    return pd.concat(parts, ignore_index=True)


def _number_of(flag: nw.Expr) -> nw.Expr:
    return nw.when(flag).then(nw.lit(1)).count()


def _columns(v: Any, quality: str) -> list[str]:
    """The names a frame has, when it has what is needed."""
    try:
        schema = nw.from_native(v).collect_schema()
    except TypeError:
        lazy_rows(v, [])  # says what a frame is
        raise
    have: list[str] = schema.names()
    missing = [name for name in ("score", quality) if name not in have]
    if missing:
        raise MissingColumnError(missing, have)
    if not schema[quality].is_numeric():
        raise UsageError(f"{quality} holds {schema[quality]}; a quality is a number")
    return have


def _reasons(v: Any, have: list[str], *, pooled: bool) -> dict[str, str]:
    """Say of each regime whether its labels are a selection; a bare frame is taken as it is."""
    if not {"mated", "code", *THRESHOLD_COLUMNS} <= {*have}:
        return {}
    found = selection(coverage_table(v))
    if pooled:
        found = {_ALL: next((reason for reason in found.values() if reason), "")}
    return found


def _held(table: pa.Table) -> dict[str, Any]:
    """Take the columns as NumPy arrays: as many rows as there are different qualities."""
    arrays = {}
    for name in table.column_names:
        values = table[name].to_numpy()
        if name != "_quality":
            values = np.nan_to_num(values.astype("float64"))
        kind = "float64" if name in ("_quality", "weight", "weight_errors") else "int64"
        arrays[name] = values.astype(kind)
    return arrays


def _numbered(
    rows: nw.LazyFrame[Any], v: Any, *, pooled: bool
) -> tuple[nw.LazyFrame[Any], list[str]]:
    """Put the number of its regime on each row; the names come from a small table."""
    if not set(THRESHOLD_COLUMNS) <= {*nw.from_native(v).collect_schema().names()}:
        return rows.with_columns(_regime=nw.lit(0).cast(nw.Int64)), ["not told"]
    table = name_regimes(group_counts(rows, REGIME, counts={"n": None}))
    if pooled:
        whole = table["regime"] != INCOMPLETE
        table["regime"] = table["regime"].where(~whole, _ALL)
    names = sorted({*table["regime"]} - {INCOMPLETE})
    number = nw.lit(len(names))  # whatever is in no complete regime
    for row in table[table["regime"] != INCOMPLETE].itertuples():
        key = nw.col("req_key")
        mine = key.is_null() if row.req_key == UNKNOWN else key == row.req_key
        if row.req_key == UNKNOWN:
            mine = mine | (key == UNKNOWN)
        for name in THRESHOLD_COLUMNS:
            mine = mine & (nw.col(name) == getattr(row, name))
        place = nw.lit(names.index(row.regime))
        number = nw.when(mine.fill_null(value=False)).then(place).otherwise(number)
    if (table["regime"] == INCOMPLETE).any():
        names.append(INCOMPLETE)
    return rows.with_columns(_regime=number.cast(nw.Int64)), names


def _rows(
    v: Any, have: list[str], quality: str, threshold: float | None, nominal_fmr: float | None
) -> tuple[nw.LazyFrame[Any], str]:
    """Mark each row: `_error` (null: not compared), `_ours`, `_unlabelled`, and its `_weight`."""
    own = [] if threshold is not None else list(THRESHOLD_COLUMNS)
    spare = ["code", "gateway_code", "sub_code", *REGIME, "mated", "attack", "inclusion_prob"]
    frame = lazy_rows(v, [quality, "score", *own], spare)
    mated, one = nw.col("mated").cast(nw.Boolean), nw.lit(1.0)
    true = nw.lit(value=True)
    marks = {"_ours": true, "_unlabelled": ~true, "_weight": one}
    kind = "reject_rate"
    if "mated" in have:
        kind = "fnmr"
        given = nw.col("inclusion_prob").cast(nw.Float64)
        chance = nw.when((given > 0) & (given <= 1)).then(given)  # NaN is above all numbers
        is_drawn = "inclusion_prob" in have and _is_any(frame, ~chance.is_null())
        drawn = ~chance.is_null() if is_drawn else true
        marks = {
            "_ours": mated.fill_null(value=False) & nw.col("attack").is_null() & drawn,
            "_unlabelled": mated.is_null() & nw.col("attack").is_null(),
            "_weight": 1.0 / chance if is_drawn else one,
        }
    frame = frame.with_columns(**marks)
    if threshold is not None:
        below = nw.col("score") < threshold
    elif nominal_fmr is not None:
        below = nw.when(complete()).then(nw.col("score") < threshold_at_fmr(nominal_fmr))
    else:
        below = nw.when(complete()).then(nw.col("score") < nw.col(OWN_THRESHOLD))
    if "code" in have:
        told = nw.when(scored()).then(below)
        hidden = withheld() if threshold is not None else withheld() & complete()
        below = nw.when(hidden).then(nw.lit(value=True)).otherwise(told)
    return frame.with_columns(_error=below), kind


def _is_any(frame: nw.LazyFrame[Any], flag: nw.Expr) -> bool:
    return len(frame.select(flag.alias("_flag")).filter(nw.col("_flag")).head(1).collect()) > 0


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


def _curve(part: dict[str, Any], regime: str, quality: str, kind: str, reason: str) -> pd.DataFrame:
    null = np.isnan(part["_quality"])
    order = np.flatnonzero(~null & (part["n"] > 0))
    order = order[np.argsort(part["_quality"][order], kind="stable")]
    n, errors, weight, wrong = (
        np.r_[part[name][null].sum(), part[name][order]]
        for name in ("n", "n_errors", "weight", "weight_errors")
    )
    at = np.r_[-np.inf, -np.inf, part["_quality"][order]]
    gone = np.r_[0, n.cumsum()]
    steps = np.r_[True, np.diff(gone) > 0]
    at, gone = at[steps], gone[steps]
    bad, light, false = (np.r_[0, x.cumsum()][steps] for x in (errors, weight, wrong))
    total, kept = n.sum(), n.sum() - gone
    with np.errstate(divide="ignore", invalid="ignore"):
        discard = np.where(kept > 0, light / weight.sum(), 1.0 if total else np.nan)
        left = (wrong.sum() - false) / (weight.sum() - light)
        error = np.where(kept > 0, left, 0.0 if total else np.nan)
        overall = wrong.sum() / weight.sum()
        ideal = np.where(kept > 0, np.maximum(0.0, (overall - discard) / (1 - discard)), 0.0)
    if reason:
        discard, error, ideal = (np.full(len(x), np.nan) for x in (discard, error, ideal))
    shown = _shown(discard)
    table = pd.DataFrame({
        "regime": regime, "quality": quality, "kind": kind, "discard_fraction": discard[shown],
        "error_fraction": error[shown], "n_discarded": gone[shown], "n_kept": kept[shown],
        "n_errors": (errors.sum() - bad)[shown], "quality_up_to": at[shown], "ideal": ideal[shown],
    })  # fmt: skip
    table["n"], table["n_null_quality"] = total, int(n[0])
    for name in ("n_not_compared", "n_unlabelled"):
        table[name] = int(part[name].sum())
    for name, end in (("pauc_03", 0.3), ("pauc_1", 1.0)):
        table[name] = _area(discard, error, end)
    table["reason"] = reason
    for name in ("regime", "quality", "kind", "reason"):
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
    if len(discard) <= _MOST_STEPS or not np.isfinite(discard).all():
        return np.ones(len(discard), dtype=np.bool_)
    cells = np.floor(discard * (_MOST_STEPS - 2))
    keep = np.r_[True, np.diff(cells) > 0]
    keep[-1] = True
    return keep
