"""Gates and verdicts: which gate turned each row away, and what the vendor's `result` says to it.

Five gates stand in a row: answered, scored, alive, match (score at or above the row's own 1e-4
threshold), risk. Each passes, fails, or is unknown when its input is null. The vendor's `result` is
compared with them and never derived from them: what the gates do not explain is said to be
unexplained. One group-by over (gate pattern, result) yields every table here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import collected, lazy_rows
from verifyanalytics.analysis.base.groups import (
    By,
    add_up,
    group_counts,
    group_keys,
    period_columns,
    regime_counts,
)
from verifyanalytics.analysis.base.intervals import ratio
from verifyanalytics.analysis.base.periods import TZ, Every
from verifyanalytics.analysis.base.rates import add_rate
from verifyanalytics.analysis.base.regimes import REGIME
from verifyanalytics.analysis.base.rows import (
    GATES,
    NO_GATE,
    OPTIONAL,
    REQUIRED,
    SOME_UNKNOWN,
    UNKNOWN_SHIFT,
    complete,
    failing,
    first_gate,
    gate,
    gate_pattern,
    scored,
    withheld,
)
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.codebook.book import current

VERDICT = (*REQUIRED, "alive", "result")
"""Columns every decision needs."""

_OUTCOME = (
    "first_gate", "failing_gates", "result", "n_rows", "n_withheld", "n_risk_not_asked", "share",
)  # fmt: skip
_ACCEPTANCE = (
    "result", "n_rows", "n_decided", "n_accepted", "acceptance_rate", "acceptance_of_all",
    "n_scored", "n_withheld", "n_compared", "n_matched", "match_rate", "period", "period_start",
    "partial",
)  # fmt: skip
_RISK = (*OPTIONAL, "risk_score")


@statistic("verdicts.gates")
def gates(v: Any, risk_fail: int | None = None) -> pd.DataFrame:
    """Tell for each row which gates it passes and which one turned it away.

    Parameters
    ----------
    v : frame of verifications
        pandas, Polars, Arrow, a DuckDB relation or another lazy frame.
    risk_fail : int, optional
        The risk score that fails; default the code book's.

    Returns
    -------
    DataFrame
        One row a verification, in the order of the frame (a lazy frame has none of its own):
        request_id, `result`; `answered`, `scored`, `alive`, `match`, `risk` as `pass`, `fail` or
        `unknown`; `first_gate`, the first that fails (`none`: all pass; `unknown`: none fails, but
        not all are known); `failing_gates` joined by `+`; `withheld`, `risk_not_asked`. As long as
        the data: for many millions of rows use `funnel`.

    See Also
    --------
    funnel, contradictions

    Examples
    --------
    >>> v = pd.DataFrame({"request_id": ["a", "b"], "code": 10000, "score": [85.0, 65.0],
    ...     "alive": [True, None], "result": [True, False], "threshold_1e_3": 60,
    ...     "threshold_1e_4": 70, "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> gates(v)[["request_id", "alive", "match", "first_gate"]].values.tolist()
    [['a', 'pass', 'pass', 'none'], ['b', 'unknown', 'fail', 'match']]
    """
    frame = lazy_rows(v, ["request_id", *VERDICT], _RISK)
    table = collected(
        frame.select(
            "request_id", "result", _pattern=gate_pattern(risk_fail), withheld=withheld(),
            risk_not_asked=nw.col("risk_score").is_null(),
        )
    ).astype({"request_id": "str", "result": "boolean"})  # fmt: skip
    patterns = table.pop("_pattern").to_numpy(dtype="int64")
    states = np.array(["pass", "fail", "unknown"])
    columns: dict[str, Any] = {
        name: states[((patterns >> i) & 1) + 2 * ((patterns >> (i + UNKNOWN_SHIFT)) & 1)]
        for i, name in enumerate(GATES)
    }
    seen, index = np.unique(patterns, return_inverse=True)
    columns["first_gate"] = np.array([first_gate(p) for p in seen], dtype=object)[index]
    columns["failing_gates"] = np.array([failing(p) for p in seen], dtype=object)[index]
    for at, (name, values) in enumerate(columns.items(), 2):
        table.insert(at, name, pd.Series(values, dtype="str"))
    return table


@statistic("verdicts.funnel")
def funnel(v: Any, by: By = None, risk_fail: int | None = None) -> pd.DataFrame:
    """Count the rows that each gate turned away, and what the verdict said to them.

    Parameters
    ----------
    v : frame of verifications
    by : str or sequence of str, optional
        Columns to split by; `regime` is one of them.
    risk_fail : int, optional
        The risk score that fails; default the code book's.

    Returns
    -------
    DataFrame
        The `by` columns; `first_gate` and `result` (boolean, null: no verdict); `line`, the same in
        words: `accepted`, a gate's name, `accepted despite <gate>`, `unexplained` (all gates pass,
        result false), `unknown` (no gate fails, some input is null), `no verdict`; `n_rows`, of
        which `n_withheld` and `n_risk_not_asked`; `n_total`, the rows of the group; `share` of it
        with 95 % limits. The lines of a group add up to `n_total`.

    See Also
    --------
    gates, reject_reasons, acceptance_rate

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "score": [85.0, 65.0], "alive": True,
    ...     "result": [True, False], "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> funnel(v)[["line", "n_rows", "n_total"]].values.tolist()
    [['match', 1, 2], ['accepted', 1, 2]]
    """
    keys = group_keys(by, (*_OUTCOME, "line", "n_total"))
    table = outcomes(v, keys, risk_fail)
    table = add_up(table.drop(columns="failing_gates"), [*keys, "first_gate", "result"])
    table.insert(len(keys) + 2, "line", _lines(table))
    order = {name: i for i, name in enumerate((*GATES, SOME_UNKNOWN, NO_GATE))}
    table = table.sort_values(
        [*keys, "first_gate", "result"],
        key=lambda c: c.map(order) if c.name == "first_gate" else c,
        kind="stable",
        ignore_index=True,
    )
    return _with_share(table, keys, "n_total")


@statistic("verdicts.reject_reasons")
def reject_reasons(v: Any, by: By = None, risk_fail: int | None = None) -> pd.DataFrame:
    """Why rows were not accepted: by first gate, code and sub-code, with the code book's words.

    Parameters
    ----------
    v : frame of verifications
    by : str or sequence of str, optional
        Columns to split by; `regime` is one of them.
    risk_fail : int, optional
        The risk score that fails; default the code book's.

    Returns
    -------
    DataFrame
        The `by` columns; `first_gate`, `failing_gates`, `gateway_code`, `code`, `sub_code`, `stage`
        and `meaning`, `meaning_zh` of the code that says most; `n_rows`; `n_not_accepted`, the rows
        of the group whose result is not true; `share` of them with limits. Most frequent first.

    See Also
    --------
    funnel, contradictions, verifyanalytics.explain

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "score": [85.0, 65.0], "alive": True, "sub_code": 0,
    ...     "result": [True, False], "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> reject_reasons(v)[["first_gate", "code", "n_rows", "share"]].values.tolist()
    [['match', 10000, 1, 1.0]]
    """
    codes = ["gateway_code", "code", "sub_code"]
    keys = group_keys(by, (*_OUTCOME, *codes, "stage", "meaning", "meaning_zh", "n_not_accepted"))
    table = outcomes(v, [*keys, *codes], risk_fail)
    front = [*keys, "first_gate", "failing_gates", *codes]
    table = add_up(table.loc[~table["result"].fillna(value=False), [*front, "n_rows"]], front)
    table = table.astype({"code": "Int64", "sub_code": "Int64"})
    table["gateway_code"] = table["gateway_code"].where(table["gateway_code"] != "unknown", "")
    words = [_words(*row) for row in zip(*(table[c] for c in codes), strict=True)]
    for i, name in enumerate(("stage", "meaning", "meaning_zh")):
        values = pd.Series([word[i] for word in words], dtype="str")
        table.insert(table.columns.get_loc("n_rows"), name, values)
    table = table.sort_values(
        [*keys, "n_rows"], ascending=[True] * len(keys) + [False], kind="stable", ignore_index=True
    )
    return _with_share(table, keys, "n_not_accepted")


@statistic("verdicts.acceptance_rate")
def acceptance_rate(
    v: Any, by: By = None, every: Every | None = None, tz: str = TZ
) -> pd.DataFrame:
    """The vendor's acceptance rate and the match rate at its own 1e-4 threshold.

    Parameters
    ----------
    v : frame of verifications
    by : str or sequence of str, optional
        Columns to split by; `regime` is one of them.
    every : {"day", "week", "month"}, optional
        Split by period too; `partial` marks those the data do not cover whole.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        The keys; `n_rows`; `n_decided` (with a verdict), `n_accepted`, `acceptance_rate` with 95 %
        limits; `acceptance_of_all`, over n_rows; `n_scored`, `n_withheld`, `n_compared` (both, of
        complete regimes), `n_matched`, `match_rate` with limits. Rows are taken as independent.

    See Also
    --------
    funnel, change_explained, verifyanalytics.scores.match_rates

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "score": [85.0, 65.0], "alive": True,
    ...     "result": [True, False], "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> acceptance_rate(v)[["n_accepted", "acceptance_rate", "match_rate"]].values.tolist()
    [[1.0, 0.5, 0.5]]
    """
    keys = group_keys(by, _ACCEPTANCE)
    wanted = [*VERDICT, *(["occurred_at"] if every else []), *(k for k in keys if k != "regime")]
    frame = lazy_rows(v, wanted, _RISK)
    compared = (scored() | withheld()) & complete()
    counted = {
        "n_rows": None,
        "n_decided": ~nw.col("result").is_null(),
        "n_accepted": nw.col("result"),
        "n_scored": scored(),
        "n_withheld": withheld(),
        "n_compared": compared,
        "n_matched": compared & gate("match").fill_null(value=False),
    }
    table = _grouped(frame, keys, counts=counted, every=every, tz=tz)
    table = add_rate(table, "acceptance_rate", table["n_accepted"], table["n_decided"])
    table["acceptance_of_all"] = ratio(table["n_accepted"], table["n_rows"])
    return add_rate(table, "match_rate", table["n_matched"], table["n_compared"])


# ------------------------------------------------------------------ one group-by for all


def outcomes(v: Any, by: Sequence[str], risk_fail: int | None = None) -> pd.DataFrame:
    """Count rows over (by, first gate, set of failing gates, result): what all tables add up."""
    keys = list(by)
    plain = [key for key in keys if key != "regime"]
    frame = lazy_rows(v, [*VERDICT, *(k for k in plain if k not in _RISK)], _RISK)
    frame = frame.with_columns(_pattern=gate_pattern(risk_fail))
    counted = {
        "n_rows": None,
        "n_withheld": withheld(),
        "n_risk_not_asked": nw.col("risk_score").is_null(),
    }
    table = _grouped(frame, keys, ["_pattern", "result"], counts=counted)
    patterns = table["_pattern"].astype("int64")
    # a frame without any verdict has a key of no type, which reads "unknown"
    table["result"] = table["result"].where(table["result"] != "unknown").astype("boolean")
    table["first_gate"] = patterns.map(first_gate).astype("str")
    table["failing_gates"] = patterns.map(failing).astype("str")
    front = [*keys, "first_gate", "failing_gates", "result"]
    return add_up(table[[*front, *counted]], front)


def _lines(table: pd.DataFrame) -> pd.Series:
    lines = []
    for first, result in zip(table["first_gate"], table["result"], strict=True):
        if first == SOME_UNKNOWN:
            lines.append("unknown")
        elif first == NO_GATE:
            lines.append(
                "no verdict" if pd.isna(result) else "accepted" if result else "unexplained"
            )
        else:
            accepted = not pd.isna(result) and bool(result)
            lines.append(f"accepted despite {first}" if accepted else first)
    return pd.Series(lines, index=table.index, dtype="str")


def _words(gateway: str, code: Any, sub_code: Any) -> tuple[str, str, str]:
    """Stage and meaning of the code that says most: gateway, then sub-code, then code."""
    book = current()
    if gateway:
        entry: Any = book.gateway_code(gateway)
        return "gateway", entry.gloss("en"), entry.gloss("zh")
    if not pd.isna(sub_code):
        entry = book.sub_code(int(sub_code))
        return entry.stage, entry.gloss("en"), entry.gloss("zh")
    if not pd.isna(code):
        entry = book.code(int(code))
        return "unknown", entry.gloss("en"), entry.gloss("zh")
    return "unknown", "no code", "无状态码"


# ------------------------------------------------------------------ tables


def _grouped(
    frame: nw.LazyFrame[Any], keys: Sequence[str], more: Sequence[str] = (), **how: Any
) -> pd.DataFrame:
    """Group by keys, of which `regime` may be one, and by more; see `group_counts`."""
    plain = [key for key in keys if key != "regime"]
    if "regime" not in keys:
        return group_counts(frame, [*plain, *more], **how)
    table = regime_counts(frame, [*plain, *more], **how)
    table = table.drop(columns=[name for name in REGIME if name not in plain])
    return add_up(table, [*keys, *more, *period_columns(how.get("every"))])


def _with_share(table: pd.DataFrame, keys: list[str], total: str) -> pd.DataFrame:
    """Add the rows of each group and the share of a line among them."""
    n = (
        table.groupby(keys, dropna=False)["n_rows"].transform("sum")
        if keys
        else table["n_rows"].sum()
    )
    table = table.assign(**{total: n}).astype({total: "int64"})
    return add_rate(table, "share", table["n_rows"], table[total])
