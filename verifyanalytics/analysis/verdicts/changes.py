"""Why the acceptance rate moved, and how small a move the data could have shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, group_counts, group_keys
from verifyanalytics.analysis.base.intervals import clustered, newcombe, ratio
from verifyanalytics.analysis.base.periods import UNKNOWN
from verifyanalytics.analysis.base.persons import person_sums
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.analysis.base.rows import GATES, OPTIONAL, complete, gate, scored, withheld
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.verdicts.decisions import VERDICT, outcomes
from verifyanalytics.errors import UsageError

_EIGHTY = 2.8
"""1.96 + 0.84: found with 80 % power by a two-sided test at 5 %."""

_COLUMNS = (
    "first_gate", "failing_gates", "result", "n", "part", "n_previous", "n_current", "rate", "mix",
    "change", "says",
)  # fmt: skip

_MEASURES = ("acceptance_rate", "match_rate")
_PARTS = ("accepted", *GATES, "unknown", "unexplained")


@statistic("verdicts.change_explained")
def change_explained(previous: Any, current: Any, by: str | Sequence[str]) -> pd.DataFrame:
    """Split a change of the acceptance rate into who came (mix) and how they fared (rate).

    Parameters
    ----------
    previous, current : frame of verifications
        Two periods.
    by : str or sequence of str
        What makes groups of rows: a channel, `req_key`, `regime`.

    Returns
    -------
    DataFrame
        Rows for each group and for `all` groups together; of each the acceptance (`part` is
        `accepted`) and the rejections by `first gate`: `n_previous`, `n_current` decided rows,
        `share_previous`, `share_current` of all decided rows, `rate_previous`, `rate_current` among
        the group's decided rows, `mix`, `rate`, `change` = mix + rate. The changes of the groups
        add up to that of `all`, whose rejections add up to minus its acceptance. For
        `all` and `accepted`: Newcombe's 95 % limits `change_low`, `change_high`, and `says`:
        `changed` or `no evidence of change`.

    Raises
    ------
    UsageError
        `by` is empty, or a period has no decided row.

    Notes
    -----
    Kitagawa (1955): change = Σ(w₁−w₀)·r̄ + Σw̄·(r₁−r₀), w shares and r rates. A group that is in
    one period only is all mix: its rate in the other is taken as the same.

    See Also
    --------
    acceptance_rate, minimal_change

    Examples
    --------
    >>> old = pd.DataFrame({"code": 10000, "score": 85.0, "alive": True,
    ...     "result": [True, True, False, False], "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90, "channel": ["app", "app", "web", "web"]})
    >>> table = change_explained(old, old.assign(channel=["app", "web", "web", "web"]), "channel")
    >>> table[["channel", "part", "mix", "rate"]].round(3).values.tolist()[0]
    ['all', 'accepted', -0.208, 0.208]
    """
    keys = group_keys(by, _COLUMNS)
    if not keys:
        raise UsageError("change_explained needs by=: what makes groups")
    both = [_rejected(v, keys) for v in (previous, current)]
    for name, table in zip(("previous", "current"), both, strict=True):
        if not table["n"].sum():
            raise UsageError(f"the {name} period has no row with a verdict")
    old, new = _aligned(*both)
    weights = [t["n"].to_numpy(dtype=float) / t["n"].sum() for t in (old, new)]
    parts = []
    for part in _PARTS:
        rates = [ratio(t[f"part {part}"], t["n"]) for t in (old, new)]
        r0 = np.where(np.isnan(rates[0]), rates[1], rates[0])
        r1 = np.where(np.isnan(rates[1]), rates[0], rates[1])
        mix = (weights[1] - weights[0]) * (r0 + r1) / 2
        rate = (weights[0] + weights[1]) / 2 * (r1 - r0)
        table = pd.DataFrame({"part": part, "mix": mix, "rate": rate, "change": mix + rate})
        table["n_previous"], table["n_current"] = old["n"].to_numpy(), new["n"].to_numpy()
        table["share_previous"], table["share_current"] = weights
        table["rate_previous"], table["rate_current"] = rates
        parts.append(pd.concat([old[keys].reset_index(drop=True), table], axis=1))
    groups = pd.concat(parts, ignore_index=True)
    result = pd.concat([_together(groups, keys), groups], ignore_index=True)
    result[[*keys, "part"]] = result[[*keys, "part"]].astype("str").fillna(UNKNOWN)
    return _with_evidence(result, keys)


@statistic("verdicts.minimal_change")
def minimal_change(v: Any, cluster: str | None = "subject") -> pd.DataFrame:
    """The smallest change of a rate that data like these would show, per regime and for all.

    Print it beside every "no evidence of change".

    Parameters
    ----------
    v : frame of verifications
        One period; the other is taken to be as large.
    cluster : str or None
        Who made the row: repeated tries count less. A null is a person of its own.

    Returns
    -------
    DataFrame
        `regime` (and `all`), `measure` (`acceptance_rate`; `match_rate` at the own 1e-4, only per
        regime), `n_rows` of the denominator, `rate`, `deff`, `minimal_change` =
        2.8·√(2·p·(1−p)·DEFF/n): found with 80 % power at two-sided 5 %. The normal curve behind it
        fails where a rate is near 0 or 1; at 0 and 1 themselves it would call every change
        visible, so nothing is said there: NaN.

    See Also
    --------
    change_explained, verifyanalytics.accuracy.sample_size

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "score": [85.0] * 90 + [65.0] * 10, "alive": True,
    ...     "result": [True] * 90 + [False] * 10, "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> minimal_change(v)[["regime", "measure", "minimal_change"]].round(3).values.tolist()[0]
    ['all', 'acceptance_rate', 0.119]
    """
    wanted = [cluster] if cluster and cluster != "subject" else []
    frame = lazy_rows(v, [*VERDICT, *wanted], [*OPTIONAL, "risk_score", "subject"])
    person = nw.col(cluster).cast(nw.String) if cluster else nw.lit(None).cast(nw.String)
    compared = (scored() | withheld()) & complete()
    # one person in two kinds of incomplete regime is still one person
    own = [nw.when(complete()).then(nw.col(c)).alias(c) for c in REGIME]
    flags = {
        "acceptance_rate m": ~nw.col("result").is_null(),
        "acceptance_rate y": nw.col("result").fill_null(value=False),
        "match_rate m": compared,
        "match_rate y": compared & gate("match").fill_null(value=False),
    }
    frame = frame.select(*own, _person=person, **flags)
    together = _moments(frame, []).assign(regime="all")
    table = name_regimes(_moments(frame, list(REGIME)))
    table = add_up(table.drop(columns=list(REGIME)), ["regime"])
    return pd.concat(
        [
            _smallest(together, "acceptance_rate"),
            *(_smallest(table, measure) for measure in _MEASURES),
        ],
        ignore_index=True,
    )


# ------------------------------------------------------------------ change_explained


def _rejected(v: Any, keys: list[str]) -> pd.DataFrame:
    """Decided rows per group: n, accepted, and the rejected by reason."""
    table = outcomes(v, keys)
    table = table[table["result"].notna()]
    accepted = table["result"].astype(bool)
    reason = table["first_gate"].replace({"none": "unexplained"}).where(~accepted, "accepted")
    wide = table[keys].astype("str")
    for part in _PARTS:
        # a gate and a column to split by may have the same name
        wide[f"part {part}"] = table["n_rows"].where(reason == part, 0)
    wide["n"] = table["n_rows"]
    return add_up(wide, keys)


def _aligned(old: pd.DataFrame, new: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    keys = [c for c in old.columns if c != "n" and not c.startswith("part ")]
    groups = pd.concat([old[keys], new[keys]]).drop_duplicates().sort_values(keys)
    numbers = dict.fromkeys([c for c in old.columns if c not in keys], 0)
    first, second = (groups.merge(t, on=keys, how="left").fillna(numbers) for t in (old, new))
    return first, second


def _together(groups: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    weighted = groups.assign(
        rate_previous=groups["share_previous"] * groups["rate_previous"].fillna(0),
        rate_current=groups["share_current"] * groups["rate_current"].fillna(0),
    )
    total = weighted.groupby("part", sort=False).sum(numeric_only=True).reset_index()
    total[["share_previous", "share_current"]] = 1.0
    return total.assign(**dict.fromkeys(keys, "all"))


def _with_evidence(result: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    front = [*keys, "part", "n_previous", "n_current", "share_previous", "share_current"]
    result = result[[*front, "rate_previous", "rate_current", "mix", "rate", "change"]]
    result = result.astype({"n_previous": "int64", "n_current": "int64"})
    first = result.iloc[0]
    n0, n1 = first["n_previous"], first["n_current"]
    x0, x1 = round(first["rate_previous"] * n0), round(first["rate_current"] * n1)
    limits = newcombe(x1, n1, x0, n0)
    changed = limits.low > 0 or limits.high < 0
    top = np.arange(len(result)) == 0
    return result.assign(
        change_low=np.where(top, limits.low, np.nan),
        change_high=np.where(top, limits.high, np.nan),
        says=np.where(top, "changed" if changed else "no evidence of change", ""),
    )  # fmt: skip


# ------------------------------------------------------------------ minimal_change


def _moments(frame: nw.LazyFrame[Any], groups: list[str]) -> pd.DataFrame:
    """Sums over persons, null ones each alone, of both measures."""
    bases = {name: nw.col(f"{name} m") for name in _MEASURES}
    events = {name: (name, nw.col(f"{name} y")) for name in _MEASURES}
    sums = person_sums(frame, groups, {"_who": nw.col("_person")}, bases, events)
    alone = {f"{m}:{end}": nw.col(f"{m} m") for m in _MEASURES for end in ("g", "m", "mm")}
    alone |= {f"{m}:{end}": nw.col(f"{m} y") for m in _MEASURES for end in ("y", "yy", "ym")}
    unknown = group_counts(frame.filter(nw.col("_person").is_null()), groups, counts=alone)
    parts = [part for part in (sums, unknown) if len(part)]
    return add_up(pd.concat(parts, ignore_index=True) if parts else unknown, groups)


def _smallest(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    ends = ("y", "m", "yy", "ym", "mm", "g")
    y, n, yy, ym, mm, g = (table[f"{measure}:{end}"].to_numpy(dtype=float) for end in ends)
    spread = clustered(y, n, yy, ym, mm, g)
    deff = np.where(g == n, 1.0, np.maximum(spread.deff, 1.0))
    p = spread.rate
    with np.errstate(divide="ignore", invalid="ignore"):
        smallest = _EIGHTY * np.sqrt(2 * p * (1 - p) * deff / n)
    smallest = np.where((p > 0) & (p < 1), smallest, np.nan)
    result = pd.DataFrame({
        "regime": table["regime"].astype("str"), "measure": measure, "n_rows": n.astype("int64"),
        "n_subjects": g.astype("int64"), "rate": p, "deff": deff, "minimal_change": smallest,
    })  # fmt: skip
    return result[result["n_rows"] > 0].reset_index(drop=True)
