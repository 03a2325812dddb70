"""Retries of subjects: sessions, passes after a failure, losses, exposure and bursts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import group_counts, group_keys, plain_table, settled_keys
from verifyanalytics.analysis.base.intervals import ratio
from verifyanalytics.analysis.base.periods import TZ, step_number, step_starts, utc_times
from verifyanalytics.analysis.base.rates import add_rate
from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.analysis.base.rows import OPTIONAL, OWN_FMR, REQUIRED, complete, scored
from verifyanalytics.analysis.base.sessions import GAP, attempts, microseconds
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number, numbers
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

FLOOR = "a floor on wrongly rejected owners only if one person made both attempts"
"""What `retry_then_pass` can be taken for, and under which condition."""

_Z = 1.959963984540054
_SCORE_FAIL = 1 << 3  # the pattern of a row whose only failing gate is match


@statistic("attempts.sessions")
def sessions(v: Any, gap: str = GAP) -> pd.DataFrame:
    """Group attempts into sessions: same subject, no pause longer than `gap`, until accepted.

    Parameters
    ----------
    v : frame of verifications
        With subject and occurred_at.
    gap : str
        Longest pause within a session.

    Returns
    -------
    DataFrame
        One row a session: `session`, `subject` (null: unknown, the row is a session of its own),
        `started_at`, `ended_at` (UTC), `n_attempts`, `n_scored`, `accepted`, `last_gate`: the first
        gate that failed on the last attempt. As long as the persons.

    See Also
    --------
    attempts_to_pass, lost_people

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> at = pd.to_datetime(["2024-05-01 08:00", "2024-05-01 08:02", "2024-05-01 09:00"], utc=True)
    >>> v = pd.DataFrame([row | {"score": 50.0, "result": False}, row, row | {"alive": False}])
    >>> v = v.assign(subject=["ann", "ann", "bob"], result=[False, True, False], occurred_at=at)
    >>> sessions(v)[["subject", "n_attempts", "accepted", "last_gate"]]
      subject  n_attempts  accepted last_gate
    0     ann           2      True      none
    1     bob           1     False     alive
    """
    table = attempts(v, gap)
    grouped = table.groupby("session", sort=True)
    result = pd.DataFrame(
        {
            "subject": grouped["subject"].first(),
            "started_at": utc_times(grouped["occurred_us"].min()),
            "ended_at": utc_times(grouped["occurred_us"].max()),
            "n_attempts": grouped.size().astype("int64"),
            "n_scored": grouped["scored"].sum().astype("int64"),
            "accepted": grouped["accepted"].any(),
            "last_gate": grouped["first_gate"].last().astype("str"),
        }
    )
    result["subject"] = result["subject"].astype("str").where(result["subject"].notna())
    return result.reset_index()


@statistic("attempts.attempts_to_pass")
def attempts_to_pass(v: Any, gap: str = GAP, max_attempts: int = 10) -> pd.DataFrame:
    """How many attempts it takes to be accepted: Kaplan–Meier over sessions.

    Parameters
    ----------
    v : frame of verifications
        With subject and occurred_at; rows without subject are left out.
    gap : str
    max_attempts : int
        Rows of the result.

    Returns
    -------
    DataFrame
        `attempt` from 1; `n_at_risk` sessions that made it, `n_passed`, `n_gave_up` after it
        unaccepted (censored: one more attempt might have passed);
        `pass_rate` of those at risk with limits; `passed_by`: estimated share accepted within so
        many attempts, with log-log Greenwood limits.

    See Also
    --------
    sessions, retry_then_pass

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> at = pd.to_datetime(["2024-05-01 08:00", "2024-05-01 08:02", "2024-05-01 09:00"], utc=True)
    >>> v = pd.DataFrame([row | {"score": 50.0, "result": False}, row, row | {"alive": False}])
    >>> v = v.assign(subject=["ann", "ann", "bob"], result=[False, True, False], occurred_at=at)
    >>> attempts_to_pass(v)[["attempt", "n_at_risk", "n_passed", "n_gave_up", "passed_by"]]
       attempt  n_at_risk  n_passed  n_gave_up  passed_by
    0        1          2         0          1        0.0
    1        2          1         1          0        1.0
    """
    max_attempts = int(number(max_attempts, "max_attempts", low=1, whole=True))
    table = attempts(v, gap, filters=[~nw.col("subject").is_null()])
    grouped = table.groupby("session")
    length, passed = grouped.size(), grouped["accepted"].any()
    found, survival, variance = [], 1.0, 0.0
    for j in range(1, max_attempts + 1):
        at_risk = int((length >= j).sum())
        events = int(((length == j) & passed).sum())
        gave_up = int(((length == j) & ~passed).sum())
        if at_risk == 0:
            break
        survival *= 1 - events / at_risk
        variance += events / (at_risk * (at_risk - events)) if events < at_risk else np.inf
        found.append((j, at_risk, events, gave_up, 1 - survival, *_log_log(survival, variance)))
    names = ["attempt", "n_at_risk", "n_passed", "n_gave_up"]
    passed_by = ["passed_by", "passed_by_low", "passed_by_high"]
    result = pd.DataFrame(found, columns=[*names, *passed_by])
    result = result.astype(dict.fromkeys(names, "int64"))
    result = add_rate(result, "pass_rate", result["n_passed"], result["n_at_risk"])
    return result[[*names, "pass_rate", "pass_rate_low", "pass_rate_high", *passed_by]]


@statistic("attempts.retry_then_pass")
def retry_then_pass(v: Any, gap: str = GAP, k: Sequence[float] = (1, 3, 10)) -> pd.DataFrame:
    """Sessions with a score below the pass threshold and then one above it.

    Parameters
    ----------
    v : frame of verifications
        With subject and occurred_at; rows without subject are left out.
    gap : str
    k : sequence of float
        How many times the vendor's claim the true false-match rate may be.

    Returns
    -------
    DataFrame
        Per regime of the first non-match and k: `n_sessions` with a scored non-match,
        `n_then_passed` of them with a later match, `n_tries` compared rows after the first
        non-match, up to the match; `expected_by_chance` = k·1e-4·n_tries false matches;
        `n_floor` = max(0, n_then_passed − expected_by_chance), `share` of the sessions with limits;
        `says`. Rows that fail liveness or risk, or have no score, are neither.

    See Also
    --------
    sessions, attempts_to_pass

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> at = pd.to_datetime(["2024-05-01 08:00", "2024-05-01 08:02", "2024-05-01 09:00"], utc=True)
    >>> v = pd.DataFrame([row | {"score": 50.0, "result": False}, row, row | {"alive": False}])
    >>> v = v.assign(subject=["ann", "ann", "bob"], result=[False, True, False], occurred_at=at)
    >>> retry_then_pass(v, k=[1])[["n_sessions", "n_then_passed", "n_tries", "expected_by_chance"]]
       n_sessions  n_then_passed  n_tries  expected_by_chance
    0           1              1        1              0.0001
    """
    factors = numbers(k, "k", above=0)
    table = attempts(v, gap, filters=[~nw.col("subject").is_null()])
    table = table[table["pattern"].isin([0, _SCORE_FAIL]) & (table["regime"] != INCOMPLETE)]
    table = table.assign(miss=table["pattern"] == _SCORE_FAIL)
    missed_before = table.groupby("session")["miss"].cumsum() - table["miss"] > 0
    matched = missed_before & ~table["miss"]
    over = matched.groupby(table["session"]).cumsum() - matched > 0
    table = table.assign(tries=missed_before & ~over, then=matched & ~over)
    table = table[table["miss"] | table["tries"]]
    per = table.groupby("session", as_index=False).agg(
        regime=("regime", "first"), then=("then", "any"), tries=("tries", "sum")
    )
    base = per.groupby("regime", as_index=False).agg(
        n_sessions=("then", "size"), n_then_passed=("then", "sum"), n_tries=("tries", "sum")
    )
    base = add_rate(base, "share", base["n_then_passed"], base["n_sessions"])
    parts = []
    for factor in factors:
        chance = factor * OWN_FMR * base["n_tries"]
        floor = np.maximum(0.0, base["n_then_passed"] - chance)
        parts.append(base.assign(k=factor, expected_by_chance=chance, n_floor=floor))
    result = pd.concat(parts, ignore_index=True).assign(says=FLOOR)
    counts = ["n_sessions", "n_then_passed", "n_tries"]
    result = result.astype(dict.fromkeys(counts, "int64"))
    return result.sort_values(["regime", "k"], kind="stable", ignore_index=True)


@statistic("attempts.lost_people")
def lost_people(v: Any, gap: str = GAP, within: str = "24h") -> pd.DataFrame:
    """Sessions that were turned away and whose subject was not accepted soon after, by gate.

    Parameters
    ----------
    v : frame of verifications
        With subject and occurred_at; rows without either are left out.
    gap : str
    within : str
        How long after the session's end an acceptance still counts.

    Returns
    -------
    DataFrame
        Per `gate` (the first that failed on the last attempt; `all` together first): `n_rejected`
        sessions with a verdict and no acceptance, `n_came_back`, `n_lost`, `lost_share` of those
        whose wait is over with limits, `n_open` whose wait outlasts the data; `n_lost_people`.

    See Also
    --------
    sessions, attempts_to_pass

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> at = pd.to_datetime(["2024-05-01 08:00", "2024-05-01 08:02", "2024-05-01 09:00"], utc=True)
    >>> v = pd.DataFrame([row | {"score": 50.0, "result": False}, row, row | {"alive": False}])
    >>> v = v.assign(subject=["ann", "ann", "bob"], result=[False, True, False], occurred_at=at)
    >>> lost_people(v)[["gate", "n_rejected", "n_came_back", "n_lost", "n_open"]]
        gate  n_rejected  n_came_back  n_lost  n_open
    0    all           1            0       0       1
    1  alive           1            0       0       1
    """
    wait = microseconds(within)
    known = [~nw.col("subject").is_null(), ~nw.col("occurred_us").is_null()]
    table = attempts(v, gap, filters=known)
    end_of_data = table["occurred_us"].max()
    accepted = table.loc[table["accepted"], ["subject", "occurred_us"]]
    grouped = table.groupby("session")
    per = pd.DataFrame(
        {
            "subject": grouped["subject"].first(),
            "ended": grouped["occurred_us"].max(),
            "gate": grouped["first_gate"].last(),
            "accepted": grouped["accepted"].any(),
            "decided": grouped["result"].count() > 0,
        }
    ).reset_index(drop=True)
    per = per[~per["accepted"] & per["decided"]].sort_values("ended", kind="stable")
    later = pd.merge_asof(
        per.assign(subject=per["subject"].astype(object)),
        accepted.assign(passed=accepted["occurred_us"], subject=accepted["subject"].astype(object))
        .rename(columns={"occurred_us": "ended"})
        .sort_values("ended"),
        on="ended", by="subject", direction="forward", allow_exact_matches=False,
    )  # fmt: skip
    came = (later["passed"] - later["ended"]) <= wait
    is_open = ~came & (later["ended"] + wait > end_of_data)
    per = later.assign(came=came, open=is_open, lost=~came & ~is_open)
    parts = [("all", per), *per.groupby("gate", sort=True)]
    found = [
        (gate, len(part), int(part["came"].sum()), int(part["lost"].sum()),
         int(part["open"].sum()), part.loc[part["lost"], "subject"].nunique())
        for gate, part in parts
    ]  # fmt: skip
    names = ["n_rejected", "n_came_back", "n_lost", "n_open", "n_lost_people"]
    result = pd.DataFrame(found, columns=["gate", *names]).astype(dict.fromkeys(names, "int64"))
    closed = result["n_rejected"] - result["n_open"]
    result["gate"] = result["gate"].astype("str")
    return add_rate(result, "lost_share", result["n_lost"], closed)


@statistic("attempts.exposure")
def exposure(fmr: ArrayLike, k: ArrayLike) -> pd.DataFrame:
    """Upper bound of a non-mated subject's chance when `k` attempts are allowed: min(1, k·FMR).

    Parameters
    ----------
    fmr : array_like
        False-match rate of one comparison, in [0, 1].
    k : array_like
        Attempts that are allowed, whole numbers from 1.

    Returns
    -------
    DataFrame
        `fmr`, `attempts_allowed`, `exposure_high` for each pair. Holds whatever the dependence
        between attempts; for zero-effort attempts only.

    See Also
    --------
    retry_then_pass, va.accuracy.error_rates

    Examples
    --------
    >>> exposure(1e-4, [1, 5])["exposure_high"].tolist()
    [0.0001, 0.0005]
    """
    rates = numbers(fmr, "fmr", low=0, high=1)
    allowed = [int(x) for x in numbers(k, "k", low=1, high=2**53, whole=True)]
    pairs = pd.MultiIndex.from_product([rates, allowed])
    table = pairs.to_frame(index=False, name=["fmr", "attempts_allowed"])
    return table.assign(exposure_high=np.minimum(1.0, table["fmr"] * table["attempts_allowed"]))


Of = Literal["attempts", "rejects", "near_threshold", "tags"]


@statistic("attempts.bursts")
def bursts(
    v: Any,
    of: Of = "attempts",
    key: str = "subject",
    at_least: int = 5,
    tz: str = TZ,
) -> pd.DataFrame:
    """Too many attempts in an hour, or an hour with too many rejects.

    Parameters
    ----------
    v : frame of verifications
        With occurred_at.
    of : {"attempts", "rejects", "near_threshold", "tags"}
        `attempts`: hours in which one `key` came at least `at_least` times. The others are Laney p′
        charts per hour: rejected among the decided; scores from the 1e-3 up to the 1e-4 threshold
        among the scored; rows with a risk tag among those with a risk result.
    key : str
        subject, token, image_best_print, or any column.
    at_least : int
    tz : str
        Hours are local where the zone has one offset, else UTC.

    Returns
    -------
    DataFrame
        `attempts`: the key, `starts_at`, `n_calls`, `n_accepted`, most first. Charts: `starts_at`,
        `n_rows`, `n_events`, `rate`, `centre`, `sigma_z`, `limit_low`, `limit_high`, `signal`
        (`high`, `low` or empty).

    References
    ----------
    Laney (2002) Quality Engineering 14:531: the p chart widened by the variation between hours, so
    that large hours do not all signal.

    See Also
    --------
    va.operations.volume, va.stability.alerts

    Examples
    --------
    >>> at = pd.to_datetime(["2024-05-01 08:00", "2024-05-01 08:02", "2024-05-01 09:00"], utc=True)
    >>> v = pd.DataFrame({"subject": ["ann", "ann", "bob"], "result": [False, True, False]})
    >>> bursts(v.assign(occurred_at=at), at_least=2)
      subject           starts_at  n_calls  n_accepted
    0     ann 2024-05-01 16:00:00        2           1
    """
    if of == "attempts":
        return _entity_bursts(v, key, at_least, tz)
    score = nw.col("score")
    charted = {
        "rejects": (~nw.col("result").is_null(), ~nw.col("result")),
        "near_threshold": (
            scored() & complete(),
            (score >= nw.col(THRESHOLD_COLUMNS[0])) & (score < nw.col(THRESHOLD_COLUMNS[1])),
        ),
        "tags": (~nw.col("risk_tags").is_null(), nw.col("risk_tags").list.len() > 0),
    }
    if of not in charted:
        raise UsageError(f"no bursts of {of!r}; there are: attempts, {', '.join(charted)}")
    own = {"rejects": ["result"], "tags": ["risk_tags"]}.get(of, [])
    frame = lazy_rows(v, ["occurred_at", *REQUIRED, *own], OPTIONAL)
    base, event = charted[of]
    frame = frame.filter(base.fill_null(value=False), ~nw.col("occurred_us").is_null())
    frame = frame.with_columns(_hour=step_number(tz))
    counted = {"n_rows": ~nw.col("_hour").is_null(), "n_events": event.fill_null(value=False)}
    table = group_counts(frame, ["_hour"], counts=counted)
    return _laney(table)


def _entity_bursts(v: Any, key: str, at_least: int, tz: str) -> pd.DataFrame:
    at_least = int(number(at_least, "at_least", low=2, whole=True))
    (key,) = group_keys([key], ("starts_at", "n_calls", "n_accepted"), "key")
    frame = lazy_rows(v, [key, "occurred_at", "result"])
    frame = frame.filter(~nw.col(key).is_null(), ~nw.col("occurred_us").is_null())
    frame = settled_keys(frame, [key]).with_columns(_hour=step_number(tz))
    accepted = nw.col("result").cast(nw.Int64).sum()
    per = frame.group_by([key, "_hour"]).agg(n_calls=nw.len(), n_accepted=accepted)
    per = per.filter(nw.col("n_calls") >= at_least)
    grouped = per.collect(backend="pyarrow").to_native()
    table = plain_table(grouped, [key, "_hour"], ["n_calls", "n_accepted"])
    table = table.sort_values(
        ["n_calls", "_hour", key], ascending=[False, True, True], ignore_index=True
    )
    table.insert(1, "starts_at", step_starts(table.pop("_hour")))
    return table


def _laney(table: pd.DataFrame) -> pd.DataFrame:
    n, x = table["n_rows"].to_numpy(dtype=float), table["n_events"].to_numpy(dtype=float)
    rate, centre = ratio(x, n), float(ratio(x.sum(), n.sum()))
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.sqrt(centre * (1 - centre) / n)
        z = (rate - centre) / sigma
    moves = np.abs(np.diff(z[np.isfinite(z)]))
    sigma_z = max(1.0, float(moves.mean()) / 1.128) if moves.size else 1.0
    low, high = (np.clip(centre + side * 3 * sigma * sigma_z, 0, 1) for side in (-1, 1))
    table.insert(0, "starts_at", step_starts(table.pop("_hour")))
    result = table.assign(rate=rate, centre=centre, sigma_z=sigma_z, limit_low=low, limit_high=high)
    words = np.where(rate > high, "high", np.where(rate < low, "low", ""))
    return result.assign(signal=pd.Series(words, index=result.index, dtype="str"))


def _log_log(survival: float, variance: float) -> tuple[float, float]:
    """95 % limits of 1 − S on the log(−log) scale; NaN at the ends, where it has none."""
    if not 0 < survival < 1 or not np.isfinite(variance):
        return np.nan, np.nan
    theta = _Z * np.sqrt(variance) / np.log(survival)
    low, high = 1 - survival ** np.exp(theta), 1 - survival ** np.exp(-theta)
    return float(min(low, high)), float(max(low, high))
