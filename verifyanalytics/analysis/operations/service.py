"""The service itself: how many calls, how many faults, how long they took, where there were none.

Hours are local where the zone's offset never changes (Asia/Shanghai), else those of UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import group_counts, plain_table
from verifyanalytics.analysis.base.keys import By, group_keys, settled_keys
from verifyanalytics.analysis.base.periods import TZ, step_number, step_starts
from verifyanalytics.analysis.base.rates import add_rate
from verifyanalytics.analysis.base.rows import answered
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.errors import UsageError

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
