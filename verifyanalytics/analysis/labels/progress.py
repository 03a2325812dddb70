"""How far labelling has come: the labelled share of rows, and the age of labels."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import collected, lazy_rows, to_pandas
from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.intervals import ratio
from verifyanalytics.analysis.base.labelled import (
    BANDS,
    NOT_COMPARED,
    compared_rows,
    coverage_table,
    selection,
)
from verifyanalytics.analysis.base.periods import TZ, local_times
from verifyanalytics.analysis.base.rates import add_rate
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.labels.joining import join, label_table
from verifyanalytics.arguments import number
from verifyanalytics.errors import UsageError

_BAND_NAMES = (*BANDS, "scored", "not compared")

_WEEK_US = 7 * 86_400_000_000


# ------------------------------------------------------------------ coverage


@statistic("labels.coverage")
def coverage(truth: Any) -> pd.DataFrame:
    """How much is labelled, per score band and per verdict: look here before any error rate.

    Parameters
    ----------
    truth : frame
        From `join_labels`.

    Returns
    -------
    DataFrame
        regime; `kind` (`score_band` or `result`, the latter over compared rows) and `band`;
        `n_rows`, `n_labelled`, `labelled_share` with limits; of them `n_mated` and `n_nonmated`
        (compared, no attack), `n_attacks`; `reason`: `selected_labels` where the regime's labels
        are a selection, so that error rates would mislead; `n_labels_unknown`,
        `n_labels_conflicting` and `kappa` of the join (0 and NaN when the frame has none).

    See Also
    --------
    join, maturity, va.accuracy.error_rates

    Examples
    --------
    >>> truth = pd.DataFrame({"score": [50.0, 80.0, 90.0], "mated": [False, True, None],
    ...                       "result": [False, True, True]})
    >>> coverage(truth)[["kind", "band", "n_rows", "n_labelled", "labelled_share"]].round(2)
             kind          band  n_rows  n_labelled  labelled_share
    0  score_band        scored       3           2            0.67
    1      result  result false       1           1            1.00
    2      result   result true       2           1            0.50
    """
    table = coverage_table(truth)
    reasons = selection(table)
    bands = table.assign(
        kind="score_band", band=[_BAND_NAMES[int(b)] for b in table["_band"]], _at=table["_band"]
    )
    compared = table[table["_band"] != NOT_COMPARED]
    words = compared["result"].map({True: "result true", False: "result false"})
    verdict = compared.assign(
        kind="result", band=words.fillna("no verdict"), _at=compared["result"].astype("Int64")
    )
    both = pd.concat([bands, verdict], ignore_index=True)
    both["_kind"] = (both["kind"] == "result").astype("int64")
    both["_at"] = both["_at"].fillna(-1).astype("int64")
    keys = ["regime", "_kind", "_at", "kind", "band"]
    counted = ["n_rows", "n_labelled", "n_mated", "n_nonmated", "n_attacks"]
    both = add_up(both[[*keys, *counted]], keys).drop(columns=["_kind", "_at"])
    both = add_rate(both, "labelled_share", both["n_labelled"], both["n_rows"])
    both.insert(5, "labelled_share", both.pop("labelled_share"))
    both["reason"] = both["regime"].map(reasons).astype("str")
    both[["kind", "band"]] = both[["kind", "band"]].astype("str")
    return both.assign(**_join_facts(truth))


def _join_facts(truth: Any) -> dict[str, float]:
    names = ("n_labels_unknown", "n_labels_conflicting", "kappa")
    frame, facts = nw.from_native(truth), pd.DataFrame(columns=list(names))
    if {*names} <= {*frame.collect_schema().names()}:
        facts = to_pandas(frame.select(*names).head(1).to_native(), "frame of labelled rows")
    unknown, conflicting, kappa = facts.iloc[0] if len(facts) else (0, 0, np.nan)
    n_unknown, n_conflicting = (0 if pd.isna(n) else int(n) for n in (unknown, conflicting))
    kappa = np.nan if pd.isna(kappa) else float(kappa)
    return dict(zip(names, (n_unknown, n_conflicting, kappa), strict=True))


# ------------------------------------------------------------------ maturity


@statistic("labels.maturity")
def maturity(v: Any, labels: Any, ripe: float = 0.9, tz: str = TZ) -> pd.DataFrame:
    """How long labels take to come in: by week of the verification and age of the label.

    Parameters
    ----------
    v : frame of verifications
        With occurred_at.
    labels : frame of `labels`
        With labelled_at.
    ripe : float
        In [0, 1]. A week is ripe when, at its age, the oldest week with labels had this share of
        them.
    tz : str
        Where weeks begin.

    Returns
    -------
    DataFrame
        Per `week` (its Monday, local; NaT: rows without a time) and `age_weeks` (0: within a week
        after the verification): `n_rows`, `n_labelled`, `labelled_rate`, `n_fraud` (not mated, or
        an attack), `fraud_rate` of all rows of the week with limits, cumulated up to that age; only
        ages that every row of the week had passed when the last label was made. A week without such
        an age has one row, of age NA: what is known so far. `ripe`: whether the week is old enough
        that hardly any label is to come.

    Raises
    ------
    UsageError
        No label has a time, or none names a row; `ripe` outside [0, 1].

    Notes
    -----
    A row is labelled from its first label on, by whomever: a second look does not make it younger.
    It is a fraud case if its latest label says so, from the first label on that did.

    See Also
    --------
    coverage, join

    Examples
    --------
    >>> days = pd.to_datetime(["2024-05-06", "2024-05-07", "2024-05-20"], utc=True)
    >>> v = pd.DataFrame({"request_id": ["a", "b", "c"], "score": 80.0, "occurred_at": days})
    >>> made = pd.to_datetime(["2024-05-08", "2024-05-23"], utc=True)
    >>> labels = pd.DataFrame({"request_id": ["a", "b"], "mated": True, "labelled_at": made})
    >>> maturity(v, labels)[["week", "age_weeks", "n_rows", "n_labelled", "ripe"]]
            week  age_weeks  n_rows  n_labelled   ripe
    0 2024-05-06          0       2           1   True
    1 2024-05-20       <NA>       1           0  False
    """
    ripe = number(ripe, "ripe", low=0, high=1)
    totals = group_counts(
        lazy_rows(v, ["occurred_at"]), counts={"n_rows": None}, every="week", tz=tz
    )
    labelled = _labelled(v, labels)
    if labelled.empty:
        raise UsageError("no label of these rows says when it was made (labelled_at)")
    local = local_times(labelled["occurred_us"], tz).dt.normalize()
    labelled["week"] = (local - pd.to_timedelta(local.dt.day_of_week, unit="D")).astype(
        "datetime64[s]"
    )
    weeks = totals[["period_start", "n_rows"]].rename(columns={"period_start": "week"})
    passed = (labelled["last_us"].max() - _ends(weeks["week"], tz)) // _WEEK_US
    weeks["n_ages"] = passed.clip(lower=0).fillna(0).astype("int64")
    table = pd.concat(
        [_aged(week, labelled) for week in weeks.to_dict("records")], ignore_index=True
    )
    return _rates(table, weeks, ripe)


def _labelled(v: Any, labels: Any) -> pd.DataFrame:
    """Labelled rows: when they occurred, were first labelled, first called fraud, last labelled."""
    truth = join(v, labels, conflict="latest")
    frame = compared_rows(
        truth, ["request_id", "occurred_at", "labelled", "mated"], ["attack", "token"]
    )
    fraud = ~nw.col("attack").is_null() | (~nw.col("mated")).fill_null(value=False)
    frame = frame.filter(nw.col("labelled")).with_columns(_fraud=fraud)
    # labels of a token speak of its scored rows only
    token = nw.when(nw.col("_scored")).then(nw.col("token").cast(nw.String))
    found = frame.select("request_id", "occurred_us", "_fraud", _token=token)
    labelled = collected(found)
    times = _times(label_table(labels))
    for key, column in (("request_id", "request_id"), ("token", "_token")):
        mine = times[key].add_suffix(f"_{key}")
        labelled = labelled.merge(mine, left_on=column, right_index=True, how="left")
    labelled["first_us"], labelled["fraud_us"], labelled["last_us"] = (
        labelled[[f"{name}_request_id", f"{name}_token"]].agg(way, axis=1)
        for name, way in (("first", "min"), ("fraud", "min"), ("last", "max"))
    )
    labelled = labelled[labelled["first_us"].notna()]
    fraud_us = (
        labelled["fraud_us"].fillna(labelled["first_us"]).where(labelled["_fraud"].astype(bool))
    )
    return labelled[["occurred_us", "first_us", "last_us"]].assign(fraud_us=fraud_us)


def _times(labels: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each labelled id and token: `first` label, first that says `fraud`, `last` (µs)."""
    at = (
        labels["labelled_at"].astype("int64").astype("float64").where(labels["labelled_at"].notna())
    )
    fraud = labels["attack"].notna() | labels["mated"].eq(False).fillna(value=False)
    labels = labels.assign(first=at, last=at, fraud=at.where(fraud))
    by_token = labels["request_id"].isna()
    how = {"first": "min", "fraud": "min", "last": "max"}
    return {
        key: labels[mine].groupby(key).agg(how)
        for key, mine in (("request_id", ~by_token), ("token", by_token))
    }


def _ends(monday: pd.Series, tz: str) -> pd.Series:
    """Return the moments at which weeks end: the next Monday's midnight of local clocks (µs)."""
    after = (monday + pd.Timedelta(days=7)).astype("datetime64[us]")
    later = np.zeros(len(after), dtype=bool)  # of two such midnights the second
    ends = after.dt.tz_localize(tz, ambiguous=later, nonexistent="shift_forward")
    return ends.astype("int64").astype("float64").where(monday.notna())


def _aged(week: dict[str, Any], labelled: pd.DataFrame) -> pd.DataFrame:
    """Count the labels of a week up to each age that has passed; else those known so far."""
    start, ages = week["week"], np.arange(week["n_ages"])
    mine = labelled[labelled["week"].isna() if pd.isna(start) else labelled["week"] == start]
    columns = {"week": start, "age_weeks": ages, "n_rows": week["n_rows"]}
    for name, column in (("n_labelled", "first_us"), ("n_fraud", "fraud_us")):
        age = ((mine[column] - mine["occurred_us"]) // _WEEK_US).clip(lower=0)
        columns[name] = (
            np.searchsorted(np.sort(age.dropna()), ages, side="right")
            if ages.size else [int(mine[column].notna().sum())]
        )  # fmt: skip
    if not ages.size:
        columns["age_weeks"] = [pd.NA]
    return pd.DataFrame(columns).astype({"week": "datetime64[s]", "age_weeks": "Int64"})


def _rates(table: pd.DataFrame, weeks: pd.DataFrame, ripe: float) -> pd.DataFrame:
    table.insert(4, "labelled_rate", ratio(table["n_labelled"], table["n_rows"]))
    table = add_rate(table, "fraud_rate", table["n_fraud"], table["n_rows"])
    known = table[table["age_weeks"].notna() & (table["n_labelled"] > 0)]
    oldest = known[known["week"] == known["week"].min()]
    enough = oldest[oldest["n_labelled"] >= ripe * oldest["n_labelled"].max()]
    done = float(enough["age_weeks"].min()) if len(enough) else np.inf
    age = table["week"].map(weeks.set_index("week")["n_ages"]) - 1
    return table.assign(ripe=(age >= done).fillna(value=False).astype(bool))
