"""Events: changes of the vendor's thresholds, and rows of other statistics beyond a limit."""

from __future__ import annotations

from collections.abc import Iterator
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
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

SEVERITIES = ("critical", "warning", "info")

_TYPES = {
    "severity": "str", "kind": "str", "starts_at": "datetime64[us]", "what": "str",
    "value": "float64", "limit": "float64", "sentence": "str", "sentence_zh": "str",
}  # fmt: skip
_MANY_PSI = 0.25
_TIMES_FAULTS, _LEAST_FAULTS, _BAD_FAULTS = 3.0, 5, 0.2
_SPREADS, _LEAST_USUAL = 6.0, 20.0
_TIMES_SLOW, _TIMES_STUCK, _LEAST_TIMED = 2.0, 5.0, 100
_MANY_CALLS = 10
_FRIDAY, _LEAST_DAYS = 4, 3

_REQUIRED = {
    "drift": ["alert", "critical", "psi", "column", "regime", "largest_bin", "share_reference"],
    "events": ["changed_from", "kind", "regime_before", "regime_after", "req_key", "shift_1e_4"],
    "volume": ["starts_at", "n_calls", "n_faults", "fault_rate", "fault_rate_low"],
    "latency": ["p95_ms", "n_timed"],
    "bursts": ["starts_at"],
}
"""Columns by which a table is known for what it is."""


@statistic("stability.alerts")
def alerts(
    drift: pd.DataFrame | None = None,
    events: pd.DataFrame | None = None,
    volume: pd.DataFrame | None = None,
    latency: pd.DataFrame | None = None,
    bursts: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Pick out of other tables what goes beyond a limit, worst first.

    Parameters
    ----------
    drift, events : DataFrame, optional
        From `va.stability.drift` or `over_time`; from `va.stability.regime_changes`.
    volume, latency : DataFrame, optional
        From `va.operations`, by hour or day.
    bursts : DataFrame, optional
        From `va.attempts.bursts`, of any kind.

    Returns
    -------
    DataFrame
        One row an alert: `severity` (`critical`, `warning`, `info`), `kind` (`drift`,
        `regime_changed`, `regime_beside`, `gap`, `volume`, `faults`, `latency`, `burst`,
        `out_of_control`), `starts_at` (local time of the row, of a change of regime UTC; NaT:
        none), `what` (column and regime, group, person), `value` and the `limit` it passed,
        `sentence`, `sentence_zh`. Worst first, then in order of time.

    Raises
    ------
    MissingColumnError, UsageError
        A table is none of these.

    Notes
    -----
    drift: the table's own alert; critical above 0.25. gap: hours without a call in which
    20 or more were usual, critical. volume: further than six spreads from the median of the same
    hour of the day, working days and weekends apart (a spread is 1.4826·MAD, at least √median),
    where 20 or more are usual. faults: 5 or more, and the lower limit of their rate above three
    times the rate of all; critical from 20 %. latency: the 95th percentile of 100 or more calls
    above twice its median over time; critical above five times. bursts: each person listed,
    critical from 10 calls in the hour; each signal above the control limit.

    See Also
    --------
    drift, over_time, regime_changes

    Examples
    --------
    >>> calls = pd.DataFrame({"starts_at": pd.date_range("2024-05-01", periods=48, freq="h"),
    ...     "n_calls": 100, "n_faults": [0] * 47 + [30], "fault_rate": [0.0] * 47 + [0.3],
    ...     "fault_rate_low": [0.0] * 47 + [0.22]})
    >>> alerts(volume=calls)[["severity", "kind", "value"]].values.tolist()
    [['critical', 'faults', 0.3]]
    """
    found: list[tuple[Any, ...]] = []
    for name, table, pick in (
        ("drift", drift, _drifted), ("events", events, _events), ("volume", volume, _volume),
        ("latency", latency, _slow), ("bursts", bursts, _bursts),
    ):  # fmt: skip
        if table is None:
            continue
        if not isinstance(table, pd.DataFrame):
            raise UsageError(
                f"{name} is a frame of another function; {type(table).__name__} was given"
            )
        if missing := [column for column in _REQUIRED[name] if column not in table]:
            raise MissingColumnError(missing, [str(column) for column in table])
        found += pick(table)
    result = pd.DataFrame(found, columns=[*_TYPES]).astype(_TYPES)
    rank = {name: i for i, name in enumerate(SEVERITIES)}
    return result.sort_values(
        ["severity", "starts_at", "kind", "what"],
        key=lambda c: c.map(rank) if c.name == "severity" else c,
        kind="stable",
        ignore_index=True,
    )


def _drifted(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    for row in table[table["alert"]].itertuples():
        limit = max(0.1, row.critical)
        when, start = getattr(row, "period", ""), getattr(row, "period_start", pd.NaT)
        against = getattr(row, "reference", "")
        moved = f"{row.share_reference:.1%} → {row.share_current:.1%}"
        en = (
            f"{row.column} drifted{f' in {when}' if when else ''}: PSI {row.psi:.2f} against "
            f"{against or 'the reference'}, limit {limit:.2f}; most in {row.largest_bin}, {moved} "
            f"({row.regime})"
        )
        zh = (
            f"{f'{when} ' if when else ''}{row.column} 分布漂移：相对{against or '参照期'} PSI 为 "
            f"{row.psi:.2f}，限值 {limit:.2f}；变化最大的区间 {row.largest_bin}："
            f"{moved}（{row.regime}）"
        )
        yield (
            _severity(row.psi > _MANY_PSI),
            "drift",
            start,
            f"{row.column} {row.regime}",
            row.psi,
            limit,
            en,
            zh,
        )


def _events(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    for row in table.itertuples():
        start = row.changed_from.tz_localize(None)
        at = f"{row.changed_from:%Y-%m-%d %H:%M} UTC"
        if row.kind == "changed":
            change = f"{row.regime_before} → {row.regime_after}"
            en = f"the vendor's thresholds changed about {at}: {change}"
            zh = f"厂商阈值约在 {at} 变更：{change}"
            kind, severity = "regime_changed", "warning"
        else:
            en = f"{row.n_after:,} answers from {at} on carry other thresholds: {row.regime_after}"
            zh = f"自 {at} 起有 {row.n_after:,} 条应答使用其他阈值：{row.regime_after}"
            kind, severity = "regime_beside", "info"
        yield severity, kind, start, row.req_key, row.shift_1e_4, np.nan, en, zh


def _severity(grave: bool) -> str:
    return "critical" if grave else "warning"


def _parts(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each group of `by`, named, with its rows whose time is known."""
    known = table[table["starts_at"].notna()]
    by = list(table.columns[: table.columns.get_loc("starts_at")])
    if not by:
        yield "all", known
        return
    for key, part in known.groupby(by, dropna=False):
        yield " ".join(str(k) for k in key), part


def _volume(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    for what, part in _parts(table):
        if len(part):
            yield from _faults(what, part)
            yield from _unusual(what, part)


def _faults(what: str, part: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    limit = _TIMES_FAULTS * part["n_faults"].sum() / part["n_calls"].sum()
    beyond = (part["n_faults"] >= _LEAST_FAULTS) & (part["fault_rate_low"] > limit)
    for row in part[beyond].itertuples():
        at = f"{row.starts_at:%Y-%m-%d %H:%M}"
        en = (
            f"{row.n_faults:,} of {row.n_calls:,} calls failed from {at} on "
            f"({row.fault_rate:.1%}), more than three times the usual ({what})"
        )
        zh = (
            f"{at} 起 {row.n_calls:,} 次调用中有 {row.n_faults:,} 次故障（{row.fault_rate:.1%}），"
            f"超过平常的三倍（{what}）"
        )
        bad = _severity(row.fault_rate >= _BAD_FAULTS)
        yield bad, "faults", row.starts_at, what, row.fault_rate, limit, en, zh


def _unusual(what: str, part: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Hours far from what is usual at that time of such a day; absent hours are without calls."""
    gaps = part["starts_at"].diff().dropna()
    step = pd.Timedelta(hours=1) if (gaps < pd.Timedelta(days=1)).any() else pd.Timedelta(days=1)
    calls = part.groupby("starts_at")["n_calls"].sum()
    calls = calls.reindex(pd.date_range(calls.index[0], calls.index[-1], freq=step), fill_value=0)
    inner = calls.iloc[1:-1]  # the first and the last hour may be partial
    usual, spread, is_told = _usual(inner)
    spread = np.maximum(spread, np.sqrt(usual))
    low, high = usual - _SPREADS * spread, usual + _SPREADS * spread
    low = low.where(is_told, 0.0)
    empty = (inner == 0) & (usual >= _LEAST_USUAL)
    runs = (empty != empty.shift()).cumsum()
    for _, run in empty[empty].groupby(runs[empty]):  # one alert a run of empty hours
        expected = float(usual[run.index].sum())
        ends = f"{run.index[0]:%Y-%m-%d %H:%M} – {run.index[-1] + step:%Y-%m-%d %H:%M}"
        en = f"no call at all {ends}, where {expected:,.0f} are usual ({what})"
        zh = f"{ends} 没有任何调用，平常约 {expected:,.0f} 次（{what}）"
        yield "critical", "gap", run.index[0], what, 0.0, expected, en, zh
    strange = ((inner < low) | (inner > high)) & (usual >= _LEAST_USUAL) & ~empty
    for start in inner.index[strange]:
        n, few = int(inner[start]), inner[start] < low[start]
        at, limit = f"{start:%Y-%m-%d %H:%M}", low[start] if few else high[start]
        en = f"{n:,} calls from {at} on, where {usual[start]:,.0f} are usual ({what})"
        zh = f"{at} 起有 {n:,} 次调用，平常约 {usual[start]:,.0f} 次（{what}）"
        yield "warning", "volume", start, what, float(n), float(limit), en, zh


def _usual(calls: pd.Series) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Median and spread at that time of such a day; and whether such days are known.

    With fewer than three working days, or weekend days, all days are taken together; that fewer
    calls come than on the others is then no alert.
    """
    weekend, hour = calls.index.day_of_week > _FRIDAY, calls.index.hour
    is_told = calls.groupby([weekend, hour]).transform("size") >= _LEAST_DAYS
    medians = []
    for times in ([weekend, hour], [hour]):
        usual = calls.groupby(times).transform("median")
        spread = 1.4826 * (calls - usual).abs().groupby(times).transform("median")
        medians.append((usual, spread))
    (usual, spread), (usual_all, spread_all) = medians
    return usual.where(is_told, usual_all), spread.where(is_told, spread_all), is_told


def _slow(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    if "starts_at" not in table:
        return
    for what, part in _parts(table):
        enough = part[part["n_timed"] >= _LEAST_TIMED]
        usual = enough["p95_ms"].median()
        for row in enough[enough["p95_ms"] > _TIMES_SLOW * usual].itertuples():
            at = f"{row.starts_at:%Y-%m-%d %H:%M}"
            en = (
                f"the slowest 5 % of the calls from {at} on took {row.p95_ms:,.0f} ms or more, "
                f"where {usual:,.0f} ms are usual ({what})"
            )
            zh = (
                f"{at} 起最慢的 5 % 调用耗时不低于 {row.p95_ms:,.0f} ms，"
                f"平常为 {usual:,.0f} ms（{what}）"
            )
            limit = float(_TIMES_SLOW * usual)
            bad = _severity(row.p95_ms > _TIMES_STUCK * usual)
            yield bad, "latency", row.starts_at, what, row.p95_ms, limit, en, zh


def _bursts(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    if "signal" in table:
        for row in table[table["signal"] == "high"].itertuples():
            at = f"{row.starts_at:%Y-%m-%d %H:%M}"
            en = f"{row.n_events:,} of {row.n_rows:,} rows from {at} on, above the control limit"
            zh = f"{at} 起 {row.n_rows:,} 行中有 {row.n_events:,} 行，超出控制上限"
            yield (
                "warning", "out_of_control", row.starts_at, "rate", row.rate, row.limit_high, en, zh
            )  # fmt: skip
        return
    key = table.columns[0]
    for values in table.itertuples(index=False):
        row = values._asdict()
        at, n = f"{row['starts_at']:%Y-%m-%d %H:%M}", row["n_calls"]
        en = (
            f"{n:,} calls of one {key} within the hour from {at} on, {row['n_accepted']:,} accepted"
        )
        zh = f"{at} 起一小时内同一 {key} 有 {n:,} 次调用，其中 {row['n_accepted']:,} 次通过"
        bad = _severity(n >= _MANY_CALLS)
        yield bad, "burst", row["starts_at"], str(row[key]), float(n), np.nan, en, zh


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
