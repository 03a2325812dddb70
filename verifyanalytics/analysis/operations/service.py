"""The service itself: calls, faults, durations, silences, and the units that were billed.

Hours are local where the zone's offset never changes (Asia/Shanghai), else those of UTC.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows, to_pandas
from verifyanalytics.analysis.base.groups import (
    By,
    group_counts,
    group_keys,
    plain_table,
    settled_keys,
)
from verifyanalytics.analysis.base.periods import TZ, UNKNOWN, Every, step_number, step_starts
from verifyanalytics.analysis.base.rates import add_rate
from verifyanalytics.analysis.base.rows import answered
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.codebook.book import current
from verifyanalytics.errors import MissingColumnError, UsageError

Step = Literal["hour", "day"]

_HOURS = {"hour": 1, "day": 24}
_CALLS = (
    "starts_at", "n_calls", "n_answered", "n_faults", "fault_rate", "n_decided", "n_accepted",
    "n_empty_before",
)  # fmt: skip
_TIMES = ("starts_at", "n_timed", "n_untimed", "p50_ms", "p95_ms", "p99_ms", "max_ms")


@statistic("operations.volume")
def volume(v: Any, every: Step = "hour", by: By = None, tz: str = TZ) -> pd.DataFrame:
    """Calls, answers and faults per hour or day.

    Parameters
    ----------
    v : frame of verifications
        With occurred_at.
    every : {"hour", "day"}
    by : str or sequence of str, optional
        Columns to split by.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        The `by` columns; `starts_at` local time (NaT: unknown time, counted); `n_calls`,
        `n_answered`, `n_faults` (neither answered nor decided), `fault_rate` of the calls with 95 %
        limits; `n_decided`, `n_accepted`; `n_empty_before`: hours or days without any call of the
        group just before, which is how an outage looks from here.

    See Also
    --------
    latency, va.attempts.bursts

    Examples
    --------
    >>> at = pd.to_datetime(["2024-05-01 08:00", "2024-05-01 08:02", "2024-05-01 09:00"], utc=True)
    >>> answers = {"code": [10000, 10000, None], "result": [False, True, None], "occurred_at": at}
    >>> v = pd.DataFrame(answers)
    >>> volume(v, "day")[["starts_at", "n_calls", "n_faults", "n_accepted"]]
       starts_at  n_calls  n_faults  n_accepted
    0 2024-05-01        3         1           1
    """
    keys = group_keys(by, _CALLS)
    frame = _hours(v, ["code", "result", *keys], ["gateway_code"], every, tz)
    fault = ~answered()
    counted = {
        "n_calls": fault | ~fault,
        "n_answered": answered(),
        "n_faults": fault,
        "n_decided": ~nw.col("result").is_null(),
        "n_accepted": nw.col("result"),
    }
    table = group_counts(frame, [*keys, "_hour"], counts=counted)
    table = _with_starts(table, keys, every)
    table = add_rate(table, "fault_rate", table["n_faults"], table["n_calls"])
    return table[[c for c in table if c != "n_empty_before"] + ["n_empty_before"]]


@statistic("operations.latency")
def latency(v: Any, every: Step | None = "hour", by: By = None, tz: str = TZ) -> pd.DataFrame:
    """Median, 95th and 99th percentile of the vendor's own processing time.

    Parameters
    ----------
    v : frame of verifications
        With elapsed_ms, and occurred_at when `every` is given.
    every : {"hour", "day"} or None
        None: over everything.
    by : str or sequence of str, optional
    tz : str

    Returns
    -------
    DataFrame
        The `by` columns, `starts_at`; `n_timed`, `n_untimed` (calls without elapsed_ms),
        `p50_ms`, `p95_ms`, `p99_ms` (linear between neighbours), `max_ms`. A 99th percentile of
        fewer than a hundred calls is close to their maximum.

    See Also
    --------
    volume

    Examples
    --------
    >>> latency(pd.DataFrame({"elapsed_ms": [40.0, 60.0, 500.0]}), every=None)
       n_timed  n_untimed  p50_ms  p95_ms  p99_ms  max_ms
    0        3          0    60.0   456.0   491.2   500.0
    """
    keys = group_keys(by, _TIMES)
    if every is None:
        frame, groups = lazy_rows(v, ["elapsed_ms", *keys]), keys
    else:
        frame, groups = _hours(v, ["elapsed_ms", *keys], [], every, tz), [*keys, "_hour"]
    frame = settled_keys(frame, keys)
    timed = ~nw.col("elapsed_ms").is_null()
    table = group_counts(
        frame, groups, counts={"n_timed": timed, "n_untimed": ~timed},
        most={"max_ms": nw.col("elapsed_ms")},
    )  # fmt: skip
    wanted = [
        nw.col("elapsed_ms").quantile(q, interpolation="linear").alias(f"p{round(100 * q)}_ms")
        for q in (0.5, 0.95, 0.99)
    ]
    held = frame.filter(timed)
    grouped = held.group_by(groups).agg(*wanted) if groups else held.select(*wanted)
    tails = plain_table(grouped.collect(backend="pyarrow").to_native(), groups)
    if groups:  # whole numbers are floats on the one side that has nulls
        table = table.merge(tails.astype(table[groups].dtypes.to_dict()), on=groups, how="left")
    else:
        table = pd.concat([table, tails], axis=1)
    if every is not None:
        table = _with_starts(table, keys, every).drop(columns="n_empty_before")
    ends = ["p50_ms", "p95_ms", "p99_ms", "max_ms"]
    table[ends] = table[ends].astype("float64")
    return table[[c for c in table if c not in ends] + ends]


def _hours(
    v: Any, columns: Sequence[str], optional: Sequence[str], every: str, tz: str
) -> nw.LazyFrame[Any]:
    if every not in list(_HOURS):
        raise UsageError(f"no step {every!r}; there are: hour, day")
    hour = step_number(tz, _HOURS[every])
    return lazy_rows(v, [*columns, "occurred_at"], optional).with_columns(_hour=hour)


def _with_starts(table: pd.DataFrame, keys: list[str], every: Step) -> pd.DataFrame:
    hour = table.pop("_hour").astype("float64")
    starts = step_starts(hour, _HOURS[every])
    before = (hour.groupby([table[k] for k in keys], dropna=False) if keys else hour).diff()
    table.insert(len(keys), "starts_at", starts)
    table["n_empty_before"] = np.maximum(before.fillna(1) - 1, 0).astype("int64")
    return table


_CODES = ("gateway_code", "code", "sub_code")
_COUNTS = ("n_calls", "n_billed", "n_free", "n_unknown", "n_unknown_billed", "n_unknown_free")
_DAY = re.compile(r"(\d{4})[-/](\d{1,2})(?:[-/](\d{1,2})(?:[ T]\d{1,2}:.*)?)?")
PERIOD_NAMES = (
    "period", "month", "date", "day", "账期", "账单日期", "消费日期", "日期", "消费时间",
)  # fmt: skip
UNIT_NAMES = ("units", "usage", "quantity", "count", "用量", "使用量", "数量", "计费用量")
"""Headers by which the two columns of a console bill are known; others are named by the caller."""


@statistic("operations.billing")
def billing(
    v: Any,
    by: By = None,
    every: Every = "month",
    tz: str = TZ,
    bill: Any = None,
    bill_columns: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Calls and billed units, by code and sub-code, or beside a console bill.

    Parameters
    ----------
    v : frame of verifications
        With measure_value: the units that the answer itself says were billed.
    by : str or sequence of str, optional
        Columns to split by instead of gateway_code, code and sub_code.
    every : {"day", "week", "month"}
        With a bill: the periods that are compared. A bill by month fits every="month".
    tz : str
        Where the bill's days begin.
    bill : path or frame, optional
        A console bill: one row or more per period, each with a period (a date or a month, year
        first: 05/04/2024 has two readings) and units.
    bill_columns : tuple of str, optional
        Names of those two columns; default: the first known header each.

    Returns
    -------
    DataFrame
        Without a bill, per code: `n_calls`, `n_billed` and `n_free` calls (units above 0, and 0),
        `n_unknown` (the answer does not say), `billed_units` of the known ones; for the unknown the
        code book's word: `n_unknown_billed`, `n_unknown_free`, the rest is open; `meaning`. With a
        bill, per period: the same counts, `units_low` (known units and those the book says are
        billed, a unit each), `units_high` (every unknown call but the free ones too),
        `bill_units`, `difference` to the nearer end (0 inside), `says`.

    Raises
    ------
    MissingColumnError
        The frame has no measure_value, or the bill none of the headers.
    UsageError
        The bill cannot be read, or a row of it lacks its period or its units; no such `every`.

    See Also
    --------
    volume

    Examples
    --------
    >>> v = pd.DataFrame({"code": [10000, 10000, 50400], "measure_value": [1, 1, None]})
    >>> billing(v)[["code", "n_calls", "n_billed", "n_unknown", "billed_units"]]
        code  n_calls  n_billed  n_unknown  billed_units
    0  10000        2         2          0             2
    1  50400        1         0          1             0
    """
    if every not in get_args(Every):
        raise UsageError(f"no period {every!r}; there are: day, week, month")
    table = _counted(v, by, every if bill is not None else None, tz)
    if bill is not None:
        return _beside(table, _read_bill(bill, bill_columns, every))
    table = _with_words(table)
    counts = [c for c in table if c.startswith("n_")]
    front = [c for c in table if c not in {*counts, "billed_units"}]
    return table[[*front, *counts, "billed_units"]]


def _counted(v: Any, by: By, every: Every | None, tz: str) -> pd.DataFrame:
    keys = group_keys(by, ("measure_value", "period", "billed_units", *_COUNTS)) or list(_CODES)
    timed = ["occurred_at"] if every else []
    groups = [*keys, *(c for c in _CODES if c not in keys)]
    own = [key for key in keys if key not in _CODES]
    frame = lazy_rows(v, ["measure_value", "code", *timed, *own], ["gateway_code", "sub_code"])
    value = nw.col("measure_value")
    counted = {
        "n_calls": value.is_null() | ~value.is_null(),
        "n_billed": value > 0,
        "n_free": value <= 0,
        "n_unknown": value.is_null(),
    }
    # units are small whole numbers: counting the rows of each value adds them up in any engine
    table = group_counts(frame, [*groups, "measure_value"], counts=counted, every=every, tz=tz)
    units = table["measure_value"].astype("float64").fillna(0) * table["n_calls"]
    table["billed_units"] = units.astype("int64")
    book = [_book_says(*row) for row in zip(*(table[c] for c in _CODES), strict=True)]
    says = pd.Series(book, index=table.index, dtype=object)
    table["n_unknown_billed"] = table["n_unknown"].where(says.eq(True), 0)
    table["n_unknown_free"] = table["n_unknown"].where(says.eq(False), 0)
    shown = ["period"] if every else keys
    result = table.groupby(shown, dropna=False, as_index=False)[[*_COUNTS, "billed_units"]].sum()
    for name in set(shown) & {"code", "sub_code"}:
        result[name] = result[name].astype("Int64")
    return result.sort_values(shown, kind="stable", ignore_index=True)


def _book_says(gateway: Any, code: Any, sub_code: Any) -> bool | None:
    """Tell whether the code book bills such a call; None where it does not say."""
    if gateway != UNKNOWN and not pd.isna(gateway):
        return False
    if pd.isna(sub_code):
        return None
    billed: bool | None = current().sub_code(int(sub_code)).billed
    return billed


def _with_words(table: pd.DataFrame) -> pd.DataFrame:
    if not {*_CODES} <= {*table.columns}:
        return table
    book, words = current(), []
    table["gateway_code"] = table["gateway_code"].where(table["gateway_code"] != UNKNOWN, "")
    for gateway, code, sub in zip(*(table[c] for c in _CODES), strict=True):
        if gateway:
            words.append(book.gateway_code(gateway).gloss("en"))
        elif not pd.isna(sub):
            words.append(book.sub_code(int(sub)).gloss("en"))
        else:
            words.append("no code" if pd.isna(code) else book.code(int(code)).gloss("en"))
    return table.assign(meaning=pd.Series(words, index=table.index, dtype="str"))


def _read_bill(bill: Any, columns: tuple[str, str] | None, every: Every) -> pd.DataFrame:
    """Read the units of each period; rows that hold neither are blank lines."""
    table = _bill_table(bill)
    period_name, unit_name = _bill_columns(table, columns)
    table = table[[period_name, unit_name]].set_axis(["period", "bill_units"], axis=1)
    table = table.map(_cell).replace("", pd.NA)
    table = table[table.notna().any(axis=1)]
    return pd.DataFrame(
        {
            "period": [_period(day, every) for day in table["period"]],
            "bill_units": [_units(units) for units in table["bill_units"]],
        }
    ).groupby("period", as_index=False)["bill_units"].sum()  # fmt: skip


def _bill_table(bill: Any) -> pd.DataFrame:
    if isinstance(bill, str | Path):
        try:
            return pd.read_csv(bill, encoding="utf-8-sig", dtype="str")
        except (OSError, ValueError) as error:
            raise UsageError(f"the bill cannot be read: {error}") from None
    return to_pandas(bill, "bill; give a path or a frame")


def _bill_columns(table: pd.DataFrame, columns: tuple[str, str] | None) -> tuple[str, str]:
    if columns is not None and not (isinstance(columns, tuple | list) and len(columns) == 2):
        raise UsageError(f"bill_columns are two: of the period and the units, not {columns!r}")
    names = {str(c).strip().lower(): str(c) for c in table.columns}
    known = (
        next((names[name] for name in some if name in names), "")
        for some in (PERIOD_NAMES, UNIT_NAMES)
    )
    period, units = columns or known
    if missing := [name for name in (period, units) if name not in table.columns]:
        wanted = [name for name in missing if name] or ["period, units (bill_columns=)"]
        raise MissingColumnError(wanted, [str(c) for c in table.columns])
    return period, units


def _cell(value: Any) -> Any:
    """Give a cell as text, a time by its day; null where there is nothing."""
    if pd.isna(value):
        return pd.NA
    return value.isoformat() if isinstance(value, date) else str(value).strip()


def _period(cell: Any, every: Every) -> str:
    """Name the period of a day or month that is written year first."""
    found = None if pd.isna(cell) else _DAY.fullmatch(cell)
    if not found:
        raise UsageError(
            "each row of the bill needs a period, year first as 2024-05 or 2024-05-01; "
            f"{'none' if pd.isna(cell) else repr(cell)} was given"
        )
    year, month, day = (int(part) if part else None for part in found.groups())
    if day is None and every != "month":
        raise UsageError(f"the bill is by month ({cell}): compare it with every='month'")
    try:
        start = date(year or 0, month or 0, day or 1)
    except ValueError:
        raise UsageError(f"the bill has a period that no calendar has: {cell}") from None
    return start.strftime({"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}[every])


def _units(cell: Any) -> float:
    try:
        units = float("nan" if pd.isna(cell) else cell.replace(",", ""))
    except ValueError:
        units = math.nan
    if not math.isfinite(units):
        raise UsageError(
            "each row of the bill needs its units, a number; "
            f"{'none' if pd.isna(cell) else repr(cell)} was given"
        )
    return units


def _beside(table: pd.DataFrame, bill: pd.DataFrame) -> pd.DataFrame:
    both = table.merge(bill, on="period", how="outer")
    counts = [c for c in both if c not in {"period", "bill_units"}]
    both[counts] = both[counts].fillna(0).astype("int64")
    both["units_low"] = both["billed_units"] + both["n_unknown_billed"]
    both["units_high"] = both["billed_units"] + both["n_unknown"] - both["n_unknown_free"]
    over = (both["bill_units"] - both["units_high"]).clip(lower=0)
    under = (both["bill_units"] - both["units_low"]).clip(upper=0)
    both["difference"] = over + under
    both["says"] = [
        "not on the bill" if pd.isna(b) else "explained" if d == 0 else "bill is higher" if d > 0
        else "bill is lower"
        for b, d in zip(both["bill_units"], both["difference"], strict=True)
    ]  # fmt: skip
    both["says"] = both["says"].astype("str")
    return both.sort_values("period", kind="stable", ignore_index=True)
