"""What drift is made from: answered rows per regime and cell, and how cells become bins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.grids import Grid, cell, distances, grids, percentiles
from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.periods import Every, day_ordinal, leaf
from verifyanalytics.analysis.base.persons import crowding
from verifyanalytics.analysis.base.regimes import INCOMPLETE, REGIME, name_regimes
from verifyanalytics.analysis.base.rows import answered
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import QUALITY_COLUMNS, THRESHOLD_COLUMNS

Edges: TypeAlias = "Sequence[float] | Mapping[str, Sequence[float]] | None"

DEFAULT_COLUMNS = (
    "score", "risk_score", "face_comprehensive_score", "face_clarity", "face_brightness",
)  # fmt: skip
NOT_TOLD = "not told"
"""The regime of frames without thresholds."""

_MOST_VALUES, _DECILES = 20, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_REST = "other"
_MEASURED = {"score", "elapsed_ms", *QUALITY_COLUMNS}
"""Columns of decimals, even where all values of a frame happen to be whole."""


@dataclass
class Side:
    """One period's counts.

    Attributes
    ----------
    tables : dict of DataFrame
        Per column: regime, `_bin` (given edges; else 0), `_cell` (a number or a text), `_null`, n.
    regimes : set of str
    deff : dict of str to float
        Σm²/Σm per regime; 1 without persons.
    points : dict of str to tuple of floats
        The thresholds of each regime.
    grids : dict of str to Grid
        Of each column of decimals.
    edges : dict of str to list of float
        The inner edges given.
    """

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    regimes: set[str] = field(default_factory=set)
    deff: dict[str, float] = field(default_factory=dict)
    points: dict[str, tuple[float, ...]] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    edges: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Side:
        """Return a side without rows."""
        return cls()


class Periods(NamedTuple):
    """A frame cut into periods: the periods in order of time, and each one's counts by `at`."""

    table: pd.DataFrame
    sides: dict[int, Side]
    begins: dict[str, pd.Timestamp]
    grids: dict[str, Grid]


class Bins(NamedTuple):
    """Two counts over the same bins; the last bin holds the missing values."""

    reference: NDArray[np.int64]
    current: NDArray[np.int64]
    labels: list[str]
    words: str
    missing: tuple[int, int]
    ks: float
    wasserstein: float


def wanted_columns(frames: Sequence[Any], columns: str | Sequence[str] | None) -> list[str]:
    """Return the columns to compare: those named, or the usual ones that every frame has."""
    have = [_schema(v) for v in frames]
    if columns is None:
        names = [c for c in DEFAULT_COLUMNS if all(c in names for names in have)]
        if not names:
            raise MissingColumnError(["score"], have[0])
        return names
    if not isinstance(columns, Iterable):
        raise UsageError(f"columns are names; {columns!r} was given")
    names = [columns] if isinstance(columns, str) else list(columns)
    for available in have:
        missing = [c for c in names if c not in available]
        if missing:
            raise MissingColumnError(missing, available)
    if not names:
        raise UsageError("name at least one column to compare")
    return names


def _schema(v: Any) -> list[str]:
    try:
        return list(nw.from_native(v).collect_schema().names())
    except TypeError:
        lazy_rows(v, [])  # says what a frame is
        raise


# ------------------------------------------------------------------ counting


def sides(
    frames: Sequence[Any],
    columns: Sequence[str],
    edges: Edges,
    cluster: str | None,
    like: Mapping[str, Grid] | None = None,
) -> list[Side]:
    """Count several frames over the same cells; the first one's range makes the grid."""
    given = _edges(edges, columns)
    found, grid = [], None if like is None else dict(like)
    for v in frames:
        frame = _answered(v, columns, cluster)
        if grid is None:
            here = grid = _grid(frame, columns)
        else:  # how far its values lie is each frame's own business
            here = {column: Grid(one.scale) for column, one in grid.items()}
        found.append(_side(_count(frame, columns, given, here, []), frame, grid, given))
    return found


def timeline(
    v: Any, every: Every, tz: str, columns: Sequence[str], edges: Edges, cluster: str | None
) -> Periods:
    """Count a frame per period, regime and cell."""
    given = _edges(edges, columns)
    frame = _answered(v, columns, cluster, times=True)
    table = group_counts(frame, [], counts={"n": None}, every=every, tz=tz)
    table = table.sort_values("period_start", na_position="last", ignore_index=True)
    known = table["period_start"].notna()
    table["at"] = np.where(known, np.arange(len(table)), -1)
    starts = [start.toordinal() for start in table.loc[known, "period_start"]]
    at = leaf(nw.col("_day"), starts[1:], range(max(len(starts), 1)))
    frame = frame.with_columns(_day=day_ordinal(every, tz))
    frame = frame.with_columns(
        _period=nw.when(nw.col("_day").is_null()).then(nw.lit(-1)).otherwise(at).cast(nw.Int64)
    )
    grid = _grid(frame, columns)
    tables = _count(frame, columns, given, grid, ["_period"])
    crowd = crowding(frame, [*REGIME, "_period"])
    found = {}
    for place in table["at"]:
        part = {c: t[t["_period"] == place].drop(columns="_period") for c, t in tables.items()}
        here = crowd[crowd["_period"] == place].drop(columns="_period")
        found[int(place)] = _made(part, here, grid, given)
    begins: dict[str, pd.Timestamp] = {}
    for row in table[known].itertuples():
        for regime in found[int(row.at)].regimes:
            begins.setdefault(regime, row.period_start)
    # in its first period a regime may have begun late, unless that is where the data begin
    first = table["period_start"].min()
    begins = {r: start for r, start in begins.items() if start != first}
    return Periods(table.drop(columns="n"), found, begins, grid)


def _answered(
    v: Any, columns: Sequence[str], cluster: str | None, *, times: bool = False
) -> nw.LazyFrame[Any]:
    names = _schema(v)
    if cluster is not None and cluster != "subject" and cluster not in names:
        raise MissingColumnError([cluster], names)  # a slip would pass for rows without persons
    needed = [*columns, *(["occurred_at"] if times else [])]
    person = [cluster] if cluster else []
    frame = lazy_rows(v, needed, ["code", "gateway_code", *REGIME, *person])
    if "code" in names:
        frame = frame.filter(answered())
    if not set(THRESHOLD_COLUMNS) & set(names):
        frame = frame.with_columns(req_key=nw.lit(NOT_TOLD))
    subject = nw.col(cluster).cast(nw.String) if cluster else nw.lit(None).cast(nw.String)
    return frame.with_columns(_subject=subject).with_columns(subject=nw.col("_subject"))


def _grid(frame: nw.LazyFrame[Any], columns: Sequence[str]) -> dict[str, Grid]:
    """Choose the grids of columns of decimals; whole numbers are taken by value.

    By what they are, not by how they are kept: pandas makes whole numbers with gaps decimals.
    """
    schema = frame.collect_schema()
    for column in columns:
        kind = schema.get(column)  # times are kept under another name
        plain = kind in (nw.String, nw.Categorical, nw.Enum, nw.Boolean)
        if kind is None or not (plain or kind.is_numeric()):
            raise UsageError(
                f"{column} holds {kind or 'times'}; drift compares numbers, text and truth values"
            )
    decimals = [column for column in columns if schema[column].is_float()]
    spare = [column for column in decimals if column not in _MEASURED]
    if spare:
        parts = {c: nw.col(c).is_finite() & (nw.col(c) != nw.col(c).floor()) for c in spare}
        row = group_counts(frame, [], counts=parts).iloc[0]
        decimals = [c for c in decimals if c not in spare or row[c]]
    return grids(frame, decimals)


def _count(
    frame: nw.LazyFrame[Any],
    columns: Sequence[str],
    edges: Mapping[str, list[float]],
    grid: Mapping[str, Grid],
    keys: Sequence[str],
) -> dict[str, pd.DataFrame]:
    schema, tables = frame.collect_schema(), {}
    for column in columns:
        value = nw.col(column)
        if column in edges and not schema[column].is_numeric():
            raise UsageError(f"edges for {column}, which holds {schema[column]}")
        keyed = {"_bin": _bin(column, edges), "_cell": value, "_null": value.is_null()}
        if schema[column].is_float():
            keyed["_null"] = keyed["_null"] | value.is_nan()
        if column in grid:
            keyed["_cell"] = cell(column, grid[column])
        by = [*REGIME, *keys, *keyed]
        table = group_counts(frame.with_columns(**keyed), by, counts={"n": None})
        if table["_cell"].dtype.kind not in "iuf":
            table["_cell"] = table["_cell"].astype("str")
        tables[column] = _regimes(table, [*keys, *keyed])
    return tables


def _bin(column: str, edges: Mapping[str, list[float]]) -> nw.Expr:
    if column in edges:
        return leaf(nw.col(column), edges[column], range(len(edges[column]) + 1)).cast(nw.Int64)
    if column == "score":  # the row's own thresholds, whatever their digits
        above = [nw.col("score") >= nw.col(name) for name in THRESHOLD_COLUMNS]
        return nw.sum_horizontal(
            *(flag.fill_null(value=False).cast(nw.Int64) for flag in above)
        )  # fmt: skip
    return nw.lit(0).cast(nw.Int64)


def _regimes(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    told = table["req_key"] != NOT_TOLD
    named = name_regimes(table)
    named["regime"] = named["regime"].where(told.to_numpy(), NOT_TOLD)
    for name in THRESHOLD_COLUMNS:
        named[name] = named[name].astype("float64")
    named = named.drop(columns="req_key")
    return add_up(named, ["regime", *THRESHOLD_COLUMNS, *keys])


def _side(
    tables: dict[str, pd.DataFrame],
    frame: nw.LazyFrame[Any],
    grid: dict[str, Grid],
    edges: dict[str, list[float]],
) -> Side:
    return _made(tables, crowding(frame, list(REGIME)), grid, edges)


def _made(
    tables: dict[str, pd.DataFrame],
    crowd: pd.DataFrame,
    grid: dict[str, Grid],
    edges: dict[str, list[float]],
) -> Side:
    people = _regimes(crowd, [])
    side = Side(tables=tables, grids=grid, edges=edges)
    for row in people.itertuples(index=False):
        side.regimes.add(row.regime)
        side.deff[row.regime] = row.mm / row.m if row.known else 1.0
        side.points[row.regime] = tuple(getattr(row, name) for name in THRESHOLD_COLUMNS)
    return side


def _edges(edges: Edges, columns: Sequence[str]) -> dict[str, list[float]]:
    if edges is None:
        return {}
    if not isinstance(edges, Mapping):
        if len(columns) != 1:
            raise UsageError(f"give edges as a mapping, one of {', '.join(columns)} to its edges")
        edges = {columns[0]: edges}
    strange = [name for name in edges if name not in columns]
    if strange:
        raise UsageError(f"edges for {', '.join(strange)}; compared are {', '.join(columns)}")
    return {name: _inner(name, values) for name, values in edges.items()}


def _inner(name: str, values: Any) -> list[float]:
    try:
        inner = [float(x) for x in values if np.isfinite(float(x))]  # ±inf at the ends is welcome
    except (TypeError, ValueError):
        inner = []
    if isinstance(values, str) or not inner or any(np.diff(inner) <= 0):
        raise UsageError(f"edges of {name} must be rising numbers; {values!r} was given")
    return inner


# ------------------------------------------------------------------ bins


def binned(old: Side, new: Side, regime: str, column: str) -> Bins:
    """Lay both sides of a regime and column over the same bins."""
    pair = [_rows(side, regime, column) for side in (old, new)]
    grid = (old.grids or new.grids).get(column)
    scale = grid and grid.scale
    edges = (old.edges or new.edges).get(column)
    missing = [int(part.loc[_null(part), "n"].sum()) for part in pair]
    held = [part[~_null(part)] for part in pair]
    if edges is not None:
        labels = _ranges(edges)
        places = [part["_bin"].to_numpy(dtype="int64") for part in held]
    elif column == "score" and regime not in (NOT_TOLD, INCOMPLETE):
        labels = _ranges((old if regime in old.regimes else new).points.get(regime, ()))
        places = [part["_bin"].to_numpy(dtype="int64") for part in held]
    elif scale is not None:
        labels, places = _by_deciles(held, scale)
    else:
        labels, places = _by_value(held)
    first, second = (
        _summed(part, place, len(labels), gone)
        for part, place, gone in zip(held, places, missing, strict=True)
    )
    ks, wasserstein = float("nan"), float("nan")
    if scale is not None or all(part["_cell"].dtype.kind in "iuf" for part in held):
        ks, wasserstein = distances(_per_cell(held[0]), _per_cell(held[1]), scale or 1.0)
    words, gone = "; ".join(labels), (missing[0], missing[1])
    return Bins(first, second, [*labels, "missing"], words, gone, ks, wasserstein)


def _summed(part: pd.DataFrame, place: Any, n_bins: int, missing: int) -> NDArray[np.int64]:
    n = np.zeros(n_bins + 1, dtype="int64")
    np.add.at(n, place, part["n"].to_numpy(dtype="int64"))
    n[-1] = missing
    return n


def _rows(side: Side, regime: str, column: str) -> pd.DataFrame:
    table = side.tables.get(column)
    if table is None:
        return pd.DataFrame({"_bin": [], "_cell": [], "_null": [], "n": []}, dtype="int64")
    return table.loc[table["regime"] == regime, ["_bin", "_cell", "_null", "n"]]


def _null(part: pd.DataFrame) -> Any:
    return part["_null"].astype("bool")


def _per_cell(part: pd.DataFrame) -> dict[int, int]:
    summed = part.groupby("_cell")["n"].sum()
    return {int(at): int(n) for at, n in summed.items()}


def _ranges(edges: Sequence[float]) -> list[str]:
    if not len(edges) or not np.isfinite(edges).all():
        return ["all"]
    between = [f"{a:g} - < {b:g}" for a, b in pairwise(edges)]
    return [f"< {edges[0]:g}", *between, f">= {edges[-1]:g}"]


def _by_deciles(held: list[pd.DataFrame], scale: float) -> tuple[list[str], list[Any]]:
    """Bin cells at the deciles of the reference (of the current side when that is empty)."""
    basis = held[0] if len(held[0]) else held[1]
    summed = basis.groupby("_cell")["n"].sum().sort_index()
    cells, n = summed.index.to_numpy(dtype="int64"), summed.to_numpy(dtype="int64")
    if not len(cells):
        return ["all"], [np.zeros(len(part), dtype="int64") for part in held]
    deciles = percentiles(cells, n, _DECILES)
    deciles = deciles[deciles > cells.min()]  # nothing of the reference is below its smallest value
    # a value with more than a tenth of the rows is a bin of its own, or what leaves it goes unseen
    crowded = cells[(n > n.sum() * _DECILES[0]) & (n > 1)]
    edges = np.unique(np.r_[deciles, crowded, crowded + 1])
    places = [np.searchsorted(edges, p["_cell"].to_numpy(dtype=float), side="right") for p in held]
    return (_ranges([x / scale for x in edges]) if len(edges) else ["all"]), places


def _by_value(held: list[pd.DataFrame]) -> tuple[list[str], list[Any]]:
    basis = held[0] if len(held[0]) else held[1]
    sizes = basis.groupby("_cell")["n"].sum().reset_index()
    sizes = sizes.sort_values(["n", "_cell"], ascending=[False, True])["_cell"]
    kept = sorted(sizes.head(_MOST_VALUES))
    place = {value: i for i, value in enumerate(kept)}
    labels = [f"{value:g}" if isinstance(value, (int, float)) else str(value) for value in kept]
    found = [part["_cell"].map(place).fillna(len(kept)).to_numpy(dtype="int64") for part in held]
    return [*labels, _REST], found
