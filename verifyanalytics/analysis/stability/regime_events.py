"""When the vendor changed its thresholds: a list of events."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.periods import TZ, day_ordinal, utc_times
from verifyanalytics.analysis.base.regimes import INCOMPLETE, REGIME, name_regimes
from verifyanalytics.analysis.base.rows import OPTIONAL, REQUIRED, answered
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.schema import THRESHOLD_COLUMNS

_EVENTS = [
    "kind", "req_key", "regime_before", "regime_after", "changed_from", "changed_to",
    "n_before", "n_after", "n_mixed",
]  # fmt: skip


@statistic("stability.regime_changes")
def regime_changes(v: Any, tz: str = TZ) -> pd.DataFrame:
    """List when the thresholds of a request kind changed, and regimes that ran beside the usual.

    Parameters
    ----------
    v : frame of verifications
        With `occurred_at`.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        One row an event, in order of time: `kind` is `changed` (from one day with data to the next,
        or within a day, another regime became the most frequent one of the request kind) or
        `beside` (a regime that never was the most frequent of a day); `req_key`, `regime_before`,
        `regime_after`; `changed_from`, `changed_to` (UTC): the change lies between the last row of
        the old regime and the first of the new one in these days, or, where both ran together,
        between the first of the new and the last of the old; `n_before`, `n_after`: answered rows
        of the two regimes from the previous to the next event; `n_mixed`, rows of both on the
        days when both ran; `shift_1e_3` … `shift_1e_6`: points that each threshold rose;
        `n_unknown_time`: answered rows of complete regimes without a time, which take no part.

    See Also
    --------
    verifyanalytics.scores.vendor_thresholds, alerts

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": 75.0,
    ...     "occurred_at": pd.date_range("2024-05-01", periods=4, tz="UTC"), "threshold_1e_3": 60,
    ...     "threshold_1e_4": [70, 70, 72, 72], "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> regime_changes(v)[["kind", "n_before", "n_after", "shift_1e_4"]].values.tolist()
    [['changed', 2, 2, 2.0]]
    """
    frame = lazy_rows(v, (*REQUIRED, "sub_code", "occurred_at"), OPTIONAL)
    moment = nw.col("occurred_us")
    table = group_counts(
        frame.filter(answered()).with_columns(_on=day_ordinal("day", tz)),
        [*REGIME, "_on"],
        counts={"n": None},
        least={"first": moment},
        most={"last": moment},
    )
    table = name_regimes(table)
    table = table[table["regime"] != INCOMPLETE]
    unknown = int(table.loc[table["_on"].isna(), "n"].sum())
    table = table[table["_on"].notna()]
    events: list[dict[str, Any]] = []
    for req_key, part in table.groupby("req_key"):
        events += _changes(str(req_key), part) + _beside(str(req_key), part)
    points = table.drop_duplicates("regime").set_index("regime")[list(THRESHOLD_COLUMNS)]
    return _listed(events, points, unknown)


def _changes(req_key: str, part: pd.DataFrame) -> list[dict[str, Any]]:
    """Follow the regime that most rows of a day have."""
    order = part.sort_values(["_on", "n", "regime"], ascending=[True, False, True])
    leading = order.drop_duplicates("_on")
    turns = leading[leading["regime"] != leading["regime"].shift()]
    events = []
    for i in range(1, len(turns)):
        old, new = turns["regime"].iloc[i - 1], turns["regime"].iloc[i]
        since = turns["_on"].iloc[i - 1]
        until = turns["_on"].iloc[i + 1] if i + 1 < len(turns) else np.inf
        here = part[(part["_on"] >= since) & (part["_on"] < until)]
        before, after = here[here["regime"] == old], here[here["regime"] == new]
        last, first = before["last"].max(), after["first"].min()
        mixed = 0
        if first < last:  # both ran at once on some days
            days = {*before.loc[before["last"] >= first, "_on"]}
            days &= {*after.loc[after["first"] <= last, "_on"]}
            together = here[here["_on"].isin(days) & here["regime"].isin([old, new])]
            mixed = int(together["n"].sum())
        events.append(
            dict(zip(_EVENTS, (
                "changed", req_key, old, new, min(first, last), max(first, last),
                int(before["n"].sum()), int(after["n"].sum()), mixed,
            ), strict=True))
        )  # fmt: skip
    return events


def _beside(req_key: str, part: pd.DataFrame) -> list[dict[str, Any]]:
    order = part.sort_values(["_on", "n", "regime"], ascending=[True, False, True])
    leading = {*order.drop_duplicates("_on")["regime"]}
    usual = part.groupby("regime")["n"].sum().idxmax()
    events = []
    for regime, rows in part.groupby("regime"):
        if regime not in leading:
            days = part[part["_on"].isin(rows["_on"]) & (part["regime"] != regime)]
            n = int(rows["n"].sum())
            events.append(
                dict(zip(_EVENTS, (
                    "beside", req_key, usual, regime, rows["first"].min(), rows["last"].max(),
                    int(days["n"].sum()), n, n,
                ), strict=True))
            )  # fmt: skip
    return events


def _listed(
    events: list[dict[str, Any]], points: pd.DataFrame, n_unknown_time: int
) -> pd.DataFrame:
    table = pd.DataFrame(events, columns=_EVENTS)
    for name in _EVENTS[:4]:
        table[name] = table[name].astype("str")
    for name in ("n_before", "n_after", "n_mixed"):
        table[name] = table[name].astype("int64")
    for name in THRESHOLD_COLUMNS:
        after, before = (
            table[f"regime_{end}"].map(points[name]).astype("float64")
            for end in ("after", "before")
        )
        table[name.replace("threshold", "shift")] = after - before
    table = table.sort_values(["changed_from", "req_key", "kind"], kind="stable", ignore_index=True)
    for name in ("changed_from", "changed_to"):
        table[name] = utc_times(table[name].astype("float64"))
    table["n_unknown_time"] = n_unknown_time
    return table
