"""What another threshold would change, and how much stands close to one; a part of `thresholds`.

Only the comparison moves: liveness and risk are held as they are. Whether those who would be let in
or turned away are who they say they are is not in these rows, so nobody is called right or wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base import intervals
from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.keys import group_keys
from verifyanalytics.analysis.base.regimes import INCOMPLETE, REGIME, name_regimes
from verifyanalytics.analysis.base.rows import (
    OPTIONAL,
    OWN_THRESHOLD,
    REQUIRED,
    answered,
    complete,
    gate,
    scored,
    withheld,
)
from verifyanalytics.analysis.base.sessions import GAP, attempts
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number, numbers
from verifyanalytics.codebook.book import current
from verifyanalytics.schema import THRESHOLD_COLUMNS, THRESHOLD_LEVELS

REPRODUCED = 0.99
"""Below this share the gates do not explain the vendor's verdict, and the what-if says so."""

_LINES = ("both", "only_old", "only_new", "neither", "unexplained", "unknown")
_LINE = ("regime", "threshold", "baseline", "unit", "line", "n", "n_of", "share", "reason")
_MARGIN = (
    "regime", "level", "threshold", "width", "n_below", "n_above", "n", "share_below",
    "share_above",
)  # fmt: skip
_NEEDED = (*REQUIRED, "sub_code", "alive", "result")
_WELCOME = (*OPTIONAL, "risk_score")


@statistic("scores.what_if")
def what_if(
    v: Any,
    threshold: float,
    baseline: float | None = None,
    by: str | Sequence[str] | None = None,
    *,
    gap: str = GAP,
) -> pd.DataFrame:
    """Say who would pass another threshold and who would not, per regime.

    Parameters
    ----------
    v : frame of verifications
        With `subject` and `occurred_at` sessions are told too (then the rows come to this process).
    threshold : float
        The score to try; a score matches iff it is at or above.
    baseline : float, optional
        The score to compare with; default each row's own 1e-4 threshold (never `result`).
    by : str or sequence of str, optional
        Columns to split by.
    gap : str
        The pause that ends a session.

    Returns
    -------
    DataFrame
        The `by` columns, `regime`, `threshold`, `baseline` (NaN: the own 1e-4), `unit` (`rows` or
        `sessions`), `line`, `n`, `n_of`, `share` with 95 % limits, and `reason`.
        First line of a regime: `reproduced`, rows whose own gates give the vendor's `result`, of
        those where both are known; below 99 % the reason is `gates_do_not_explain_result`. Then
        answered rows: `both` pass, `only_old` (would be turned away), `only_new` (would be let in),
        `neither`, `unexplained` (all own gates pass, result false: nobody knows why, so no
        threshold would let them in), `unknown` (a gate is unknown); the six sum to n_of. Sessions
        the same way, by whether any of their rows passes; and `not_needed`: rows, and so bills,
        after the one that would have let their session in.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is not there; a threshold that is no number.
    """
    number(threshold, "threshold")
    if baseline is not None:
        number(baseline, "baseline")
    keys = group_keys(by, _LINE)
    table = _row_lines(v, threshold, baseline, keys)
    if {"subject", "occurred_at"} <= set(nw.from_native(v).collect_schema().names()):
        sessions = _session_lines(v, threshold, baseline, keys, gap)
        table = pd.concat([table, sessions], ignore_index=True)
    order = {name: i for i, name in enumerate(("reproduced", *_LINES, "not_needed"))}
    table["_line"], table["_unit"] = table["line"].map(order), table["unit"] == "sessions"
    table = table.sort_values([*keys, "regime", "_unit", "_line"], kind="stable", ignore_index=True)
    return _shares(table.drop(columns=["_line", "_unit"]), threshold, baseline, keys)


@statistic("scores.margins")
def margins(
    v: Any, widths: Sequence[float] = (1, 2, 5), by: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """Count how much stands just below and just above each vendor threshold, per regime.

    Parameters
    ----------
    v : frame of verifications
    widths : sequence of float
        Score points on either side.
    by : str or sequence of str, optional
        Columns to split by.

    Returns
    -------
    DataFrame
        One row a group, regime, level and width: the `by` columns, `regime`, `level`, `threshold`,
        `width`, `n_below` (threshold − width ≤ score < threshold), `n_above` (threshold ≤ score <
        threshold + width), `n` (scored plus withheld), `share_below`, `share_above` (NaN when n is
        0). Rows of no complete regime have no margin and are left to `regimes`.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is not there; a width that is not above 0.
    """
    widths = numbers(widths, "widths", above=0)
    keys = group_keys(by, _MARGIN)
    frame = lazy_rows(v, (*REQUIRED, "sub_code", *keys), OPTIONAL)
    frame = frame.filter(answered(), complete())
    score, near = nw.col("score"), {"n": scored() | withheld()}
    for level, name in zip(THRESHOLD_LEVELS, THRESHOLD_COLUMNS, strict=True):
        for width in widths:
            point = nw.col(name)
            near[f"below {level} {width}"] = (score >= point - width) & (score < point)
            near[f"above {level} {width}"] = (score >= point) & (score < point + width)
    table = group_counts(frame, list(dict.fromkeys([*keys, *REGIME])), counts=near)
    table = name_regimes(table)
    parts = [
        table[[*keys, "regime"]].assign(
            level=level,
            threshold=table[name],
            width=width,
            n_below=table[f"below {level} {width}"],
            n_above=table[f"above {level} {width}"],
            n=table["n"],
        )
        for level, name in zip(THRESHOLD_LEVELS, THRESHOLD_COLUMNS, strict=True)
        for width in widths
    ]
    long = pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)
    for side in ("below", "above"):
        long[f"share_{side}"] = long[f"n_{side}"] / long["n"].where(long["n"] > 0)
    return long


# ------------------------------------------------------------------ rows


def _passes(match: nw.Expr) -> nw.Expr:
    """Join a comparison with the gates that stay: one false fails, else one unknown is unknown."""
    seen = nw.when(withheld()).then(nw.lit(value=False)).otherwise(match)
    return scored() & nw.col("alive") & seen & gate("risk")


def _row_lines(v: Any, threshold: float, baseline: float | None, keys: list[str]) -> pd.DataFrame:
    frame = lazy_rows(v, (*_NEEDED, *keys), _WELCOME).filter(answered())
    own = _passes(gate("match"))
    frame = frame.with_columns(
        _own=own,
        _old=own if baseline is None else _passes(nw.col("score") >= float(baseline)),
        _new=_passes(nw.col("score") >= float(threshold)),
        _result=nw.col("result"),
    )
    state = ["_own", "_old", "_new", "_result"]
    by = list(dict.fromkeys([*keys, *REGIME, *state]))
    table = name_regimes(group_counts(frame, by, counts={"n": None}))
    known = (table["_own"].notna() & table["_result"].notna()).to_numpy(dtype=bool)
    agree = (table["_own"] == table["_result"]).fillna(value=False).to_numpy(dtype=bool)
    table["line"] = _line(table)
    holders = [*keys, "regime"]
    lines = add_up(table[[*holders, "line", "n"]], [*holders, "line"])
    lines = _all_lines(lines, holders)
    first = table[holders].assign(
        n=np.where(known & agree, table["n"], 0), n_of=np.where(known, table["n"], 0)
    )
    first = add_up(first, holders).assign(line="reproduced")
    return pd.concat([first, lines], ignore_index=True).assign(unit="rows")


def _line(table: pd.DataFrame) -> np.ndarray[Any, Any]:
    true = {
        name: table[name].fillna(value=False).to_numpy(dtype=bool)
        for name in table
        if name[0] == "_"
    }
    refused = ~table["_result"].fillna(value=True).to_numpy(dtype=bool)
    unknown = (table["_old"].isna() | table["_new"].isna()).to_numpy(dtype=bool)
    old, new = true["_old"], true["_new"]
    return np.select(
        [true["_own"] & refused, unknown, old & new, old, new],
        ["unexplained", "unknown", "both", "only_old", "only_new"],
        "neither",
    )


def _all_lines(lines: pd.DataFrame, holders: list[str]) -> pd.DataFrame:
    """Fill in the lines that did not occur, and put the total to each."""
    total = add_up(lines.drop(columns="line"), holders).rename(columns={"n": "n_of"})
    full = total.merge(pd.DataFrame({"line": pd.Series(_LINES, dtype="str")}), how="cross")
    full = full.merge(lines.astype({"line": "str"}), how="left", on=[*holders, "line"])
    return full.assign(n=full["n"].fillna(0).astype("int64"))


# ------------------------------------------------------------------ sessions


def _session_lines(
    v: Any, threshold: float, baseline: float | None, keys: list[str], gap: str
) -> pd.DataFrame:
    more = ["score", "alive", "risk_score", OWN_THRESHOLD]
    table = attempts(v, gap, more, [answered(), ~nw.col("subject").is_null()], by=keys)
    stays = table["scored"] & table["alive"].fillna(value=False).astype(bool)
    stays &= ~(table["risk_score"] >= current().risk_fail)
    score = table["score"].astype("float64")
    whole = table["regime"] != INCOMPLETE
    own = stays & whole & (score >= table[OWN_THRESHOLD].astype("float64"))
    explained = ~(own & table["result"].eq(other=False).fillna(value=False).astype(bool))
    table["_old"] = (own if baseline is None else stays & (score >= baseline)) & explained
    table["_new"] = stays & (score >= threshold) & explained
    passed = table.groupby("session")["_new"].cumsum() - table["_new"] > 0
    holders = [*keys, "regime"]
    late = add_up(table[holders].assign(n=passed.astype("int64"), n_of=1), holders).assign(
        line="not_needed", unit="rows"
    )
    each = table.groupby("session").agg(
        {**dict.fromkeys(holders, "first"), "_old": "any", "_new": "any"}
    )
    old, new = each["_old"].to_numpy(), each["_new"].to_numpy()
    names = np.select([old & new, old, new], ["both", "only_old", "only_new"], "neither")
    lines = add_up(each[holders].assign(line=names, n=1), [*holders, "line"])
    lines = _all_lines(lines, holders)
    lines = lines[lines["line"].isin(_LINES[:4])]
    return pd.concat([lines.assign(unit="sessions"), late], ignore_index=True)


def _shares(
    table: pd.DataFrame, threshold: float, baseline: float | None, keys: list[str]
) -> pd.DataFrame:
    table["threshold"] = float(threshold)
    table["baseline"] = np.nan if baseline is None else float(baseline)
    table["share"] = table["n"] / table["n_of"].where(table["n_of"] > 0)
    table["share_low"], table["share_high"] = intervals.rate_interval(table["n"], table["n_of"])
    unclear = (table["line"] == "reproduced") & (table["share"] < REPRODUCED)
    table["reason"] = np.where(unclear, "gates_do_not_explain_result", "")
    return table[
        [*keys, "regime", "threshold", "baseline", "unit", "line", "n", "n_of", "share",
         "share_low", "share_high", "reason"]
    ]  # fmt: skip
