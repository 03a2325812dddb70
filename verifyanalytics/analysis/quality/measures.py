"""How good the images are: the vendor's limits, percentiles, and what goes with poor quality.

The vendor grades the live face image and the environment image by eleven measures each; the source
photo is not graded. A null measure is an image that was not graded, never a 0. Measures are counted
per cell of a grid where the data live, so percentiles come from counts, exact to a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base import intervals
from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.grids import Grid, cell, grids, percentiles, without_nan
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.persons import crowd_of
from verifyanalytics.analysis.base.rows import (
    OPTIONAL,
    REQUIRED,
    answered,
    complete,
    gate,
    scored,
    withheld,
)
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import numbers
from verifyanalytics.codebook import book as codebook
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import IMAGES, QUALITY_COLUMNS, QUALITY_MEASURES

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""The percentiles of `limits`."""

BANDS = (0, 10, 25, 50, 75, 90, 100)
"""Default percentile bands."""


@statistic("quality.limits")
def limits(v: Any) -> pd.DataFrame:
    """Share of images beyond each documented limit, and the percentiles of each measure.

    Parameters
    ----------
    v : frame of verifications
        With some of the 22 quality columns.

    Returns
    -------
    DataFrame
        One row a quality column, in the tables' order: `image` (`face`, `env`), `measure`, its
        `name_en`, `name_zh`; `limit`, what makes an image poor (`< 50`; empty: the vendor states
        none), `limit_value`; `n` graded rows, `n_missing` the others; `n_beyond`, `beyond_rate`
        with 95 % limits (NaN without a limit); `p01` `p05` `p25` `p50` `p75` `p95` `p99`: the
        smallest value with that share of the graded rows at or below it, exact to `resolution`.

    See Also
    --------
    bands, coaching

    Examples
    --------
    >>> v = pd.DataFrame({"face_clarity": [2.0, 4.0, 5.0, None]})
    >>> limits(v)[["image", "measure", "limit", "n", "n_missing", "p50"]].values.tolist()
    [['face', 'clarity', '<= 3', 3, 1, 4.0]]
    """
    names = quality_columns(v)
    frame = lazy_rows(v, names)
    rows = [_limited(frame, name, grid) for name, grid in grids(frame, names).items()]
    table = pd.DataFrame(rows)
    for name in ("n", "n_missing", "n_beyond"):
        table[name] = table[name].astype("int64")
    low, high = intervals.rate_interval(table["n_beyond"], table["n"])
    none = table["limit"] == ""
    rate = (table["n_beyond"] / table["n"].where(table["n"] > 0)).mask(none)
    at = table.columns.get_loc("n_beyond") + 1
    for i, values in enumerate((rate, np.where(none, np.nan, low), np.where(none, np.nan, high))):
        table.insert(at + i, f"beyond_rate{('', '_low', '_high')[i]}", np.asarray(values, float))
    return with_names(table)


def _limited(frame: nw.LazyFrame[Any], name: str, grid: Grid) -> dict[str, Any]:
    measure, scale = codebook.current().measure(name), grid.scale
    counted: dict[str, nw.Expr | None] = {"n": None}
    if measure.poor:
        counted["n_beyond"] = beyond(name)
    frame = frame.with_columns(_cell=cell(name, grid))
    table = group_counts(frame, ["_cell"], counts=counted)
    held = table[table["_cell"].notna()]
    image, short = split_name(name)
    found = percentiles(
        held["_cell"].to_numpy(dtype="int64"), held["n"].to_numpy(dtype="int64"), LEVELS
    )
    limit = f"{measure.poor[0]} {measure.poor[1]:g}" if measure.poor else ""
    points = {f"p{round(100 * q):02d}": x / scale for q, x in zip(LEVELS, found, strict=True)}
    return {
        "image": image, "measure": short, "limit": limit,
        "limit_value": measure.poor[1] if measure.poor else np.nan,
        "n": held["n"].sum(), "n_missing": table["n"].sum() - held["n"].sum(),
        "n_beyond": held["n_beyond"].sum() if measure.poor else 0,
        **points, "resolution": 1 / scale,
    }  # fmt: skip


@statistic("quality.bands")
def bands(v: Any, measure: str, bands: Sequence[float] = BANDS) -> pd.DataFrame:
    """Match and reject rate by percentile band of a quality measure.

    Parameters
    ----------
    v : frame of verifications
    measure : str
        A quality column (`face_brightness`), or a measure (`brightness`) for both images.
    bands : sequence of numbers
        Rising percentiles from 0 to 100.

    Returns
    -------
    DataFrame
        One row an image and band, low values first, then the rows without the measure (`band` is
        `missing`): `image`, `measure`, names; `band` as `10-25`; `value_low`, `value_high`
        (half-open); `n` answered rows; `n_compared` (scored or withheld, complete regime),
        `n_matched` at the own 1e-4 threshold, `match_rate` with 95 % limits; `n_decided`,
        `n_rejected` (result false), `reject_rate` with limits. Equal values stay together, so a
        band may be empty. Limits take rows as independent. `limit` as in `limits`.

    Raises
    ------
    UsageError
        No such measure; bands that do not rise from 0 to 100.

    See Also
    --------
    limits, error_versus_discard

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [65.0, 85.0],
    ...     "face_clarity": [20.0, 90.0], "result": [False, True], "threshold_1e_3": 60,
    ...     "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> bands(v, "face_clarity", (0, 50, 100))[["band", "n", "match_rate"]].values.tolist()
    [['0-50', 1, 0.0], ['50-100', 1, 1.0], ['missing', 0, nan]]
    """
    levels = _levels(bands)
    have = quality_columns(v)
    wanted = [measure] if measure in QUALITY_COLUMNS else [f"{i}_{measure}" for i in IMAGES]
    if measure not in QUALITY_COLUMNS and measure not in QUALITY_MEASURES:
        raise UsageError(
            f"no measure {measure!r}; there are: {', '.join(QUALITY_MEASURES)}, and the same after "
            "face_ or env_"
        )
    names = [name for name in wanted if name in have]
    if not names:
        raise MissingColumnError(wanted, have)
    frame = lazy_rows(v, [*names, *REQUIRED, "sub_code", "result"], OPTIONAL)
    frame = frame.filter(answered())
    found = grids(frame, names)
    table = pd.concat([_banded(frame, n, found[n], levels) for n in names], ignore_index=True)
    for rate, x, of in (
        ("match_rate", "n_matched", "n_compared"), ("reject_rate", "n_rejected", "n_decided")
    ):  # fmt: skip
        low, high = intervals.rate_interval(table[x], table[of])
        at = table.columns.get_loc(x) + 1
        table.insert(at, rate, (table[x] / table[of].where(table[of] > 0)).astype("float64"))
        table.insert(at + 1, f"{rate}_low", low)
        table.insert(at + 2, f"{rate}_high", high)
    return with_names(table)


def _levels(bands: Sequence[float]) -> list[float]:
    levels = numbers(bands, "bands", low=0, high=100)
    if len(levels) < 2 or levels[0] != 0 or levels[-1] != 100 or any(np.diff(levels) <= 0):
        raise UsageError(f"bands rise from 0 to 100, as {BANDS}; {bands!r} was given")
    return levels


def _banded(frame: nw.LazyFrame[Any], name: str, grid: Grid, levels: list[float]) -> pd.DataFrame:
    scale = grid.scale
    compared = (scored() | withheld()) & complete()
    counted = {
        "n": None,
        "n_compared": compared,
        "n_matched": compared & gate("match").fill_null(value=False),
        "n_decided": ~nw.col("result").is_null(),
        "n_rejected": (~nw.col("result")).fill_null(value=False),
    }
    table = group_counts(frame.with_columns(_cell=cell(name, grid)), ["_cell"], counts=counted)
    held = table[table["_cell"].notna()]
    cells = held["_cell"].to_numpy(dtype="int64")
    inner = percentiles(cells, held["n"].to_numpy(dtype="int64"), [x / 100 for x in levels[1:-1]])
    place = np.searchsorted(inner, cells, side="left")
    sides = [cells.min(), *(inner + 1), cells.max() + 1] if len(cells) else [np.nan] * len(levels)
    image, short = split_name(name)
    poor = codebook.current().measure(name).poor
    rows = []
    for i in range(len(levels)):
        missing = i == len(levels) - 1
        part = table[table["_cell"].isna()] if missing else held[place == i]
        rows.append({
            "image": image, "measure": short,
            "band": "missing" if missing else f"{levels[i]:g}-{levels[i + 1]:g}",
            "value_low": np.nan if missing else sides[i] / scale,
            "value_high": np.nan if missing else sides[i + 1] / scale,
            **{key: int(part[key].sum()) for key in counted},
            "limit": f"{poor[0]} {poor[1]:g}" if poor else "",
        })  # fmt: skip
    return pd.DataFrame(rows)


@statistic("quality.face_vs_environment")
def face_vs_environment(v: Any) -> pd.DataFrame:
    """Compare the face image with the environment image of the same answer, measure by measure.

    Parameters
    ----------
    v : frame of verifications
        With quality columns of both images.

    Returns
    -------
    DataFrame
        One row a measure: `measure`, names; `n_both`, `n_face_only`, `n_env_only`, `n_neither`
        graded; of both: `n_equal` with `equal_rate` and 95 % limits (exactly equal grades: the same
        picture may have been sent twice), `n_face_higher`, `n_env_higher`; `limit`, and beyond it
        `n_beyond_face_only`, `n_beyond_env_only`, `n_beyond_both`, `p_value` of McNemar's test
        between the two (NaN without a limit; counts divided by Σm²/Σm for m rows a person).

    See Also
    --------
    limits, bands

    Examples
    --------
    >>> v = pd.DataFrame({"face_clarity": [2.0, 4.0, 5.0], "env_clarity": [2.0, 3.0, None]})
    >>> table = face_vs_environment(v)
    >>> table[["measure", "n_both", "n_equal", "n_beyond_env_only"]].values.tolist()
    [['clarity', 2, 1, 1]]
    """
    have = quality_columns(v)
    measures = [m for m in QUALITY_MEASURES if {f"face_{m}", f"env_{m}"} <= {*have}]
    if not measures:
        raise MissingColumnError([f"env_{QUALITY_MEASURES[0]}"], have)
    columns = [f"{image}_{m}" for m in measures for image in IMAGES]
    frame = lazy_rows(v, columns, ["subject"])
    counted = {f"{m}:{key}": expr for m in measures for key, expr in _paired(m).items()}
    row = group_counts(frame, [], counts=counted).iloc[0]
    book, rows = codebook.current(), []
    for m in measures:
        poor = book.measure(m).poor
        rows.append({"measure": m, "limit": f"{poor[0]} {poor[1]:g}" if poor else ""}
                    | {key: int(row[f"{m}:{key}"]) for key in _paired(m)})  # fmt: skip
    table = pd.DataFrame(rows)
    low, high = intervals.rate_interval(table["n_equal"], table["n_both"])
    at = table.columns.get_loc("n_equal") + 1
    rate = (table["n_equal"] / table["n_both"].where(table["n_both"] > 0)).astype("float64")
    for i, values in enumerate((rate, low, high)):
        table.insert(at + i, f"equal_rate{('', '_low', '_high')[i]}", values)
    deff = crowd_of(frame).deff
    worth = (
        np.round(table[f"n_beyond_{image}_only"].to_numpy(dtype=float) / deff) for image in IMAGES
    )
    test = intervals.mcnemar(*worth)
    table["p_value"] = np.where(table["limit"] == "", np.nan, test.p_exact)
    return with_names(table)


def _paired(measure: str) -> dict[str, nw.Expr]:
    face, env = (without_nan(f"{image}_{measure}") for image in IMAGES)
    graded, also = ~face.is_null(), ~env.is_null()
    poor, poor_env = beyond(f"face_{measure}"), beyond(f"env_{measure}")
    both = graded & also
    return {
        "n_both": both,
        "n_face_only": graded & ~also,
        "n_env_only": ~graded & also,
        "n_neither": ~graded & ~also,
        "n_equal": (face == env).fill_null(value=False),
        "n_face_higher": (face > env).fill_null(value=False),
        "n_env_higher": (face < env).fill_null(value=False),
        "n_beyond_face_only": both & poor & ~poor_env,
        "n_beyond_env_only": both & ~poor & poor_env,
        "n_beyond_both": both & poor & poor_env,
    }


# ------------------------------------------------------------------ measures


def quality_columns(v: Any) -> list[str]:
    """Return the quality columns that a frame has, in the tables' order."""
    try:
        have = nw.from_native(v).collect_schema().names()
    except TypeError:
        lazy_rows(v, ["face_comprehensive_score"])  # says what a frame is
        raise
    names = [name for name in QUALITY_COLUMNS if name in have]
    if not names:
        raise MissingColumnError(["face_comprehensive_score"], have)
    return names


def split_name(column: str) -> tuple[str, str]:
    """Return image and measure of a quality column."""
    image, _, measure = column.partition("_")
    return image, measure


def beyond(column: str) -> nw.Expr:
    """Return true where a value breaks the vendor's limit; false without a limit; never null."""
    poor, value = codebook.current().measure(column).poor, without_nan(column)
    if poor is None:
        return value.is_null() & ~value.is_null()  # false, as an expression
    sign, limit = poor
    found = {
        "<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit
    }[sign]  # fmt: skip
    return found.fill_null(value=False)


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Put the code book's names behind the column `measure`, and give text its type."""
    book = codebook.current()
    entries = [book.measure(name) for name in table["measure"]]
    at = table.columns.get_loc("measure") + 1
    for i, lang in enumerate(("en", "zh")):
        names = [entry.gloss("en" if lang == "en" else "zh") for entry in entries]
        table.insert(at + i, f"name_{lang}", pd.Series(names, index=table.index, dtype="str"))
    for name in ("image", "measure", "limit", "band"):
        if name in table:
            table[name] = table[name].astype("str")
    return table
