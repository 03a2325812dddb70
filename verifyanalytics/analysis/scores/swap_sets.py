"""What another threshold would change: the swap set of two thresholds, in rows and sessions.

Only the comparison moves: liveness and risk are held as they are. Whether those who would be let in
or turned away are who they say they are is not in these rows, so no line is called right or wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, group_keys, regime_counts
from verifyanalytics.analysis.base.intervals import rate_interval
from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.analysis.base.rows import (
    OPTIONAL,
    OWN_THRESHOLD,
    REQUIRED,
    answered,
    gate,
    scored,
    withheld,
)
from verifyanalytics.analysis.base.sessions import GAP, attempts
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number
from verifyanalytics.codebook.book import current

REPRODUCED = 0.99
"""Below this share the gates do not explain the vendor's verdict, and the what-if says so."""

LINES = ("both", "only_old", "only_new", "neither", "unexplained", "unknown")
"""What becomes of a row under two thresholds; the six add up to the answered """

_MADE = ("regime", "threshold", "baseline", "unit", "line", "n", "n_of", "share", "reason")


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
        `neither`, `unexplained` (all own gates pass, result false: the reason is unknown, so no
        threshold would let them in), `unknown` (a gate is unknown); the six sum to n_of. Sessions
        the same way, by whether any of their rows passes; and `not_needed`: rows, and so bills,
        after the one that would have let their session in.

    Raises
    ------
    MissingColumnError, UsageError
        A needed column is missing; a threshold that is no number.

    See Also
    --------
    decision_table, match_rates, verifyanalytics.verdicts.result_rule

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "sub_code": 0, "score": [65.0, 75.0, 85.0], "alive": True,
    ...     "result": [False, True, True], "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> table = what_if(v, 80)
    >>> table.loc[table["n"] > 0, ["line", "n", "n_of"]].values.tolist()
    [['reproduced', 3, 3], ['both', 1, 3], ['only_old', 1, 3], ['neither', 1, 3]]
    """
    number(threshold, "threshold")
    if baseline is not None:
        number(baseline, "baseline")
    keys = group_keys(by, _MADE)
    table = _row_lines(v, threshold, baseline, keys)
    if {"subject", "occurred_at"} <= set(nw.from_native(v).collect_schema().names()):
        sessions = _session_lines(v, threshold, baseline, keys, gap)
        table = pd.concat([table, sessions], ignore_index=True)
    order = {name: i for i, name in enumerate(("reproduced", *LINES, "not_needed"))}
    table = table.sort_values(
        [*keys, "regime", "unit", "line"],
        key=lambda c: c.map(order) if c.name == "line" else c,
        kind="stable",
        ignore_index=True,
    )
    return with_shares(table, threshold, baseline)


def with_shares(lines: pd.DataFrame, threshold: float, baseline: float | None) -> pd.DataFrame:
    """Turn the counts `n` and `n_of` of lines into shares: the finishing half of `what_if`.

    Parameters
    ----------
    lines : DataFrame
        Any keys; `regime`, `unit`, `line`, `n`, `n_of`.
    threshold, baseline
        As in `what_if`.
    """
    share = lines["n"] / lines["n_of"].where(lines["n_of"] > 0)
    low, high = rate_interval(lines["n"], lines["n_of"])
    unclear = (lines["line"] == "reproduced") & (share < REPRODUCED)
    table = lines.assign(
        threshold=float(threshold), baseline=np.nan if baseline is None else float(baseline),
        share=share, share_low=low, share_high=high,
        reason=np.where(unclear, "gates_do_not_explain_result", ""),
    )  # fmt: skip
    last = [*_MADE[1:-1], "share_low", "share_high", "reason"]
    return table[[*table.columns.drop(last), *last]]


# ------------------------------------------------------------------ rows


def passes(match: nw.Expr) -> nw.Expr:
    """Join a comparison with the other gates: one false fails, else one unknown is unknown."""
    seen = nw.when(withheld()).then(nw.lit(value=False)).otherwise(match)
    return scored() & nw.col("alive") & seen & gate("risk")


def _row_lines(v: Any, threshold: float, baseline: float | None, keys: list[str]) -> pd.DataFrame:
    frame = lazy_rows(
        v, (*REQUIRED, "sub_code", "alive", "result", *keys), (*OPTIONAL, "risk_score")
    ).filter(answered())
    own = passes(gate("match"))
    frame = frame.with_columns(
        _own=own,
        _old=own if baseline is None else passes(nw.col("score") >= float(baseline)),
        _new=passes(nw.col("score") >= float(threshold)),
        _result=nw.col("result"),
    )
    table = regime_counts(frame, [*keys, "_own", "_old", "_new", "_result"], counts={"n": None})
    known = (table["_own"].notna() & table["_result"].notna()).to_numpy(dtype=bool)
    agree = (table["_own"] == table["_result"]).fillna(value=False).to_numpy(dtype=bool)
    own, old, new = (
        table[name].fillna(value=False).to_numpy(dtype=bool) for name in ("_own", "_old", "_new")
    )
    refused = ~table["_result"].fillna(value=True).to_numpy(dtype=bool)
    unknown = (table["_old"].isna() | table["_new"].isna()).to_numpy(dtype=bool)
    table["line"] = np.select(
        [own & refused, unknown, old & new, old, new],
        ["unexplained", "unknown", "both", "only_old", "only_new"],
        "neither",
    )
    groups = [*keys, "regime"]
    n_known, n_agree = np.where(known, table["n"], 0), np.where(known & agree, table["n"], 0)
    first = add_up(table[groups].assign(n=n_agree, n_of=n_known), groups).assign(line="reproduced")
    lines = [first, _all_lines(table[[*groups, "line", "n"]], groups)]
    return pd.concat(lines, ignore_index=True).assign(unit="rows")


def _all_lines(counts: pd.DataFrame, groups: list[str]) -> pd.DataFrame:
    """Add up per line, fill in the lines that did not occur, and put the total to each."""
    lines = add_up(counts, [*groups, "line"])
    total = add_up(lines.drop(columns="line"), groups).rename(columns={"n": "n_of"})
    full = total.merge(pd.DataFrame({"line": pd.Series(LINES, dtype="str")}), how="cross")
    full = full.merge(lines.astype({"line": "str"}), how="left", on=[*groups, "line"])
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
    groups = [*keys, "regime"]
    late = add_up(table[groups].assign(n=passed.astype("int64"), n_of=1), groups)
    late = late.assign(line="not_needed", unit="rows")
    each = table.groupby("session").agg(
        {**dict.fromkeys(groups, "first"), "_old": "any", "_new": "any"}
    )
    old, new = each["_old"].to_numpy(), each["_new"].to_numpy()
    names = np.select([old & new, old, new], ["both", "only_old", "only_new"], "neither")
    lines = _all_lines(each[groups].assign(line=names, n=1), groups)
    lines = lines[lines["line"].isin(LINES[:4])]
    return pd.concat([lines.assign(unit="sessions"), late], ignore_index=True)
