"""Attempts in sessions: rows in the order in which a subject made them.

A session is one subject's attempts with no gap longer than ten minutes; an acceptance closes it.
Finding them needs the rows in order, so the rows come to this process (some 60 bytes each): this is
not counts first.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import plain_key
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.analysis.base.rows import OPTIONAL, REQUIRED, first_gate, gate_pattern, scored
from verifyanalytics.errors import UsageError

_VERDICT = ("alive", "result", "subject", "occurred_at")

GAP = "10min"
"""A pause longer than this begins a new session."""


def microseconds(duration: str) -> int:
    """Read a duration such as `10min` or `24h`.

    Examples
    --------
    >>> microseconds("10min")
    600000000
    """
    try:
        found = pd.Timedelta(duration) if isinstance(duration, str | dt.timedelta) else pd.NaT
    except ValueError:
        raise UsageError(f"{duration!r} is no duration; give one such as 10min or 24h") from None
    if not found > pd.Timedelta(0):
        raise UsageError(f"a duration is above 0, such as 10min or 24h, not {duration!r}")
    return int(found / pd.Timedelta(microseconds=1))


def attempts(
    v: Any,
    gap: str = GAP,
    columns: Sequence[str] = (),
    filters: Sequence[nw.Expr] = (),
    *,
    by: Sequence[str] = (),
) -> pd.DataFrame:
    """Every row with its session and its number in it, ordered by session.

    Parameters
    ----------
    v : frame of verifications
    gap : str
        Longest pause within a session, inclusive.
    columns : sequence of str
        Further columns to bring along.
    filters : sequence of narwhals.Expr
        Rows to keep.
    by : sequence of str
        Columns to bring along as keys, with the types of `counts.group_counts`.

    Returns
    -------
    DataFrame
        `session` and `attempt` (from 0, from 1); `subject` (None: unknown), `occurred_us` (NaN:
        unknown), `result` (boolean), `accepted` (result is true), `scored`, `pattern` of the gates,
        `first_gate`, `regime`, `columns`. A row without subject or time is a session of its own.
        Rows of one microsecond keep an order by request_id where there is one.
    """
    limit = microseconds(gap)
    columns = list(dict.fromkeys([*columns, *by]))
    frame = lazy_rows(v, [*REQUIRED, *_VERDICT, *columns], [*OPTIONAL, "risk_score", "request_id"])
    if filters:
        frame = frame.filter(*filters)
    kept = ["subject", "occurred_us", "result", "request_id", *REGIME]
    frame = frame.select(*dict.fromkeys([*kept, *columns]), pattern=gate_pattern(), scored=scored())
    arrow = frame.collect(backend="pyarrow").to_native()
    table: pd.DataFrame = arrow.to_pandas()
    for name in by:
        table[name] = plain_key(table[name], arrow.schema.field(name).type)
    table["req_key"] = table["req_key"].fillna("unknown").astype("str")
    table["result"] = table["result"].astype("boolean")
    table["accepted"] = table["result"].fillna(value=False).astype(bool)
    table["occurred_us"] = table["occurred_us"].astype("float64")
    table = name_regimes(table).drop(columns=[c for c in REGIME if c not in columns])
    return _numbered(table, limit)


def _numbered(table: pd.DataFrame, limit: int) -> pd.DataFrame:
    person, _ = pd.factorize(table["subject"])
    alone = (person < 0) | table["occurred_us"].isna().to_numpy()
    time = table["occurred_us"].to_numpy()
    ids = pd.factorize(table["request_id"], sort=True)[0]
    order = np.lexsort((ids, time, person, alone))
    table = table.iloc[order].reset_index(drop=True)
    person, alone, time = person[order], alone[order], time[order]
    accepted = table["accepted"].to_numpy()
    new = np.ones(len(table), dtype=bool)
    same = ~alone[1:] & ~alone[:-1] & (person[1:] == person[:-1])
    with np.errstate(invalid="ignore"):
        new[1:] = ~(same & (time[1:] - time[:-1] <= limit) & ~accepted[:-1])
    session = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    attempt = np.arange(len(table)) - starts[session] + 1 if len(table) else session
    patterns = table["pattern"].astype("int64")
    names = {p: first_gate(p) for p in patterns.unique()}
    table.insert(0, "session", session.astype("int64"))
    table.insert(1, "attempt", np.asarray(attempt, dtype="int64"))
    return table.assign(first_gate=patterns.map(names).astype("str"), pattern=patterns)
