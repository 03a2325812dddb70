"""Audits: a plan of rows to label, and estimates for all rows from the labelled ones.

A plan draws rows at random within strata (score bands around the thresholds, by verdict), with
known probability, mixes rows of known truth among them and lets some be judged twice: so the
reviewers' own error shows. The estimate adds up strata with exact limits for each; no false accept
found in a stratum is a bound there, never a zero. The drawn rows and their strata are found by
looking at every row's id once: the plan is not counts first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import collected, lazy_rows, to_pandas
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.intervals import FloatArray, hypergeometric_limits
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.analysis.base.rows import OPTIONAL, REQUIRED, complete, scored, withheld
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.labels.joining import texts, yes_or_no
from verifyanalytics.arguments import number
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS
from verifyanalytics.wording.numbers import exact

_PLAN = ("request_id", "stratum", "n_stratum", "mated")
_VERDICTS = {True: "result true", False: "result false"}

QUANTITIES = {
    "nonmated": "all planned rows",
    "false_accepts": "rows with result true",
    "false_rejects": "rows with result false",
    "false_matches": "rows at or above the threshold",
    "false_nonmatches": "rows below the threshold",
}
"""What an audit estimates, each with the rows among which it is looked for."""

UNJUDGED = "unjudged_stratum"
"""Reason of a missing estimate: in some stratum no drawn row has a decided label."""


@statistic("labels.plan")
def plan(
    v: Any,
    threshold: float,
    budget: int,
    known: Any = None,
    seeds: float = 0.05,
    doubles: float = 0.1,
    seed: int = 0,
) -> pd.DataFrame:
    """Draw rows to label: stratified around the thresholds and by verdict, with known probability.

    Parameters
    ----------
    v : frame of verifications
    threshold : float
        The score that is being considered; a stratum edge beside the vendor's four.
    budget : int
        How many judgements can be made, seeds and second reviews included.
    known : frame, optional
        Rows whose truth is known (request_id, mated): `seeds` of the budget are drawn from them.
    seeds, doubles : float
        Shares of the budget for known rows and for second reviews.
    seed : int
        The same frame, arguments and seed draw the same rows on every engine.

    Returns
    -------
    DataFrame
        In random order, one row a judgement: `plan_id`, `request_id`, `review` (1 or 2), `kind`
        (`sample` or `known`), `stratum`, `n_stratum`, `n_sampled`, `inclusion_prob` (NaN for known
        rows). Give reviewers the request_ids only. Each stratum gets in proportion to the root of
        its size, at least two rows, and never more than it has: small strata, where the threshold
        is decided, are looked at almost whole. Rows of incomplete regimes are not in the plan.

    Raises
    ------
    UsageError
        The budget is too small for two rows a stratum, there is nothing to draw from, or an
        argument is out of range.

    See Also
    --------
    estimate, va.accuracy.sample_size

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> v = pd.DataFrame([row | {"request_id": f"r{i}", "score": 50.0 + i % 45} for i in range(99)])
    >>> drawn = plan(v, threshold=75, budget=40)
    >>> len(drawn), drawn["stratum"].nunique(), drawn["request_id"].nunique()
    (40, 6, 36)
    """
    threshold = number(threshold, "threshold")
    budget = int(number(budget, "budget", low=0, whole=True))
    seed = int(number(seed, "seed", low=0, whole=True))
    seeds = number(seeds, "seeds", low=0, below=1)
    doubles = number(doubles, "doubles", low=0, below=1)
    table = strata(v, threshold)
    trusted = table.iloc[:0]
    if known is not None:
        trusted = _truth(known)
        trusted = trusted[trusted["request_id"].isin(table["request_id"])]
    n_known = min(round(budget * seeds), len(trusted))
    n_double = round(budget * doubles)
    table = table[~table["request_id"].isin(trusted["request_id"])]
    sizes = table.groupby("stratum", sort=True).size()
    room = budget - n_known - n_double
    if sizes.empty or room < 2 * len(sizes):
        raise UsageError(
            f"a budget of {budget} leaves {room} rows for {len(sizes)} strata; two each are needed"
        )
    drawn = allocate(sizes.to_numpy(), room)
    rng = np.random.default_rng(seed)
    parts = []
    for (stratum, part), n in zip(table.groupby("stratum", sort=True), drawn, strict=True):
        ids = np.sort(part["request_id"].to_numpy(dtype=object))
        chosen = rng.choice(ids.size, size=int(n), replace=False)
        size = {"n_stratum": ids.size, "n_sampled": int(n), "inclusion_prob": n / ids.size}
        parts.append(pd.DataFrame({"request_id": ids[np.sort(chosen)], "stratum": stratum} | size))
    sample = pd.concat(parts, ignore_index=True).assign(kind="sample", review=1)
    known_ids = np.sort(trusted["request_id"].to_numpy(dtype=object))
    picked = (
        known_ids[rng.choice(known_ids.size, n_known, replace=False)] if n_known else known_ids[:0]
    )
    again = sample.iloc[rng.choice(len(sample), min(n_double, len(sample)), replace=False)]
    extra = pd.DataFrame({"request_id": picked, "kind": "known", "review": 1, "stratum": ""})
    extra = extra.assign(n_stratum=0, n_sampled=0, inclusion_prob=np.nan)
    plan = pd.concat([sample, extra, again.assign(review=2)], ignore_index=True)
    plan = plan.iloc[rng.permutation(len(plan))].reset_index(drop=True)
    text = f"{threshold!r} {budget} {seed} {sizes.to_dict()!r}"
    plan["plan_id"] = f"plan-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    kinds = {"plan_id": "str", "request_id": "str", "review": "int64", "kind": "str"}
    kinds |= {"stratum": "str", "n_stratum": "int64", "n_sampled": "int64"}
    return plan.astype(kinds)[[*kinds, "inclusion_prob"]]


@statistic("labels.estimate")
def estimate(
    v: Any, audited: Any, known: Any = None, threshold: float | None = None
) -> pd.DataFrame:
    """Estimate how many rows of all are wrong, from the audited ones of a plan.

    Parameters
    ----------
    v : frame of verifications
        The rows that the plan was drawn from.
    audited : frame
        The plan with a column `mated`: true, false, or null for "cannot tell". Rows of the plan
        that are not in it count as "cannot tell", too.
    known : frame, optional
        request_id and mated of the known rows that the plan was drawn with: how often reviewers err
        on them corrects the rest.
    threshold : float, optional
        Also estimate false matches and false non-matches at this score: the plan's, or one of the
        vendor's.

    Returns
    -------
    DataFrame
        Per quantity (`nonmated`, `false_accepts`, `false_rejects`, with a threshold
        `false_matches`, `false_nonmatches`): `n_rows` among which it is looked for, `n_audited`,
        `n_found`, `n_cannot_tell`; `n_rows_unjudged` in strata without any decided row;
        `estimate` (Horvitz–Thompson; NaN with such a stratum, the limits include all it may hold),
        `low`, `high` (95 %, all strata together), `rate`, `rate_low`, `rate_high`; `best_case`,
        `worst_case`: the estimate if none or all of the undecided were wrong; `corrected`
        (Rogan–Gladen, NaN without known rows); `reason` of a missing estimate; `sensitivity`,
        `specificity` of finding a non-mated row, `n_known`; `n_doubled`, `disagreement` among
        second reviews.

    Raises
    ------
    MissingColumnError
        `audited` is no plan with labels.
    UsageError
        A drawn row is not in the frame, or not in its stratum; one stands twice; the threshold lies
        inside a stratum, so that the plan says nothing about it.

    Notes
    -----
    Limits: exact hypergeometric limits per stratum at 1 − 0.05/strata, added up. They are wide, and
    they hold: the textbook interval covers 9 % when few errors are found. The strata are counted
    again in the frame: one of which the audit has no row is not forgotten.

    See Also
    --------
    plan, va.accuracy.error_rates

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> v = pd.DataFrame([row | {"request_id": f"r{i}", "score": 50.0 + i % 45} for i in range(99)])
    >>> audited = plan(v, threshold=75, budget=40).assign(mated=True)
    >>> estimate(v, audited)[["quantity", "n_rows", "n_audited", "n_found", "low", "high"]].head(1)
       quantity  n_rows  n_audited  n_found  low  high
    0  nonmated      99         36        0  0.0  43.0
    """
    threshold = None if threshold is None else number(threshold, "threshold")
    judged, truth = _judged(audited), None if known is None else _truth(known)
    first = judged[(judged["kind"] == "sample") & (judged["review"] == 1)]
    if first.empty:
        raise UsageError("the audit has no row of a sample: kind sample, review 1")
    edge, frame = _plan_edge(first["stratum"].unique()), _compared(v)
    _refuse_other_rows(frame, first, edge)
    no_sample = judged.loc[judged["kind"] == "known", "request_id"]
    spared = {*no_sample, *(() if truth is None else truth["request_id"])}
    counted = _audited(first, _counted(frame, edge, threshold, spared))
    quality = _reviewers(judged, truth)
    found = [
        _estimated(counted, name, quality)
        for name in QUANTITIES
        if threshold is not None or name not in {"false_matches", "false_nonmatches"}
    ]
    result = pd.DataFrame(found).astype(dict.fromkeys(["quantity", "among", "reason"], "str"))
    return result.assign(**quality)


# ------------------------------------------------------------------ the plan


def _compared(v: Any) -> nw.LazyFrame[Any]:
    frame = lazy_rows(v, [*REQUIRED, "request_id", "result"], OPTIONAL).filter(
        complete(), scored() | withheld()
    )
    return frame.select("request_id", "score", "result", *REGIME)


def strata(v: Any, threshold: float) -> pd.DataFrame:
    """Name the stratum of every row that a plan can draw: `request_id` and `stratum`."""
    table = collected(_compared(v))
    if table.empty:
        raise UsageError("there is no compared row of a complete regime to draw from")
    return _with_stratum(table, threshold)[["request_id", "stratum"]]


def _with_stratum(table: pd.DataFrame, edge: float | None) -> pd.DataFrame:
    """Name the stratum of each row."""
    table = table.assign(req_key=table["req_key"].fillna("unknown").astype("str"))
    score, edges = table["score"].to_numpy(dtype=float), _edges(table, edge)
    with np.errstate(invalid="ignore"):
        number_of = (score[:, None] >= edges).sum(axis=1)
    names = _names(table, np.where(np.isnan(score), -1, number_of), edges)
    return table.assign(request_id=table["request_id"].astype("str"), stratum=names)


def _edges(table: pd.DataFrame, edge: float | None) -> FloatArray:
    """Return the five edges of each row's regime; the vendor's 1e-3 twice where there is none."""
    points = table[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
    fifth = points[:, :1] if edge is None else np.full((len(table), 1), edge)
    return np.sort(np.hstack([points, fifth]), axis=1)


def _names(table: pd.DataFrame, reached: Any, edges: FloatArray) -> pd.Series:
    """Write strata as regime | band | verdict; `reached` edges, -1 for a withheld score."""
    at, rank = np.arange(len(table)), np.maximum(reached, 0)
    low = np.column_stack([np.zeros(len(table)), edges])[at, rank]
    high = np.column_stack([edges, np.full(len(table), np.inf)])[at, rank]
    ends = zip(reached, low, high, strict=True)
    band = ["withheld" if n < 0 else _band(a, b) for n, a, b in ends]
    verdict = table["result"].astype("boolean").map(_VERDICTS).fillna("no verdict")
    regime = name_regimes(table)["regime"]
    return regime + " | " + pd.Series(band, index=table.index, dtype="str") + " | " + verdict


def _band(low: float, high: float) -> str:
    return f">= {exact(low)}" if np.isinf(high) else f"{exact(low)} to {exact(high)}"


def _truth(known: Any) -> pd.DataFrame:
    given = _pandas(known, ("request_id", "mated"))
    given = given.assign(request_id=texts(given["request_id"]), mated=yes_or_no(given["mated"]))
    return given[given["mated"].notna()].drop_duplicates("request_id", keep="last")


def allocate(sizes: Any, room: int) -> Any:
    """Share `room` by the root of the sizes: at least two rows each, no more than there are."""
    sizes = np.asarray(sizes, dtype=np.int64)
    drawn = np.minimum(sizes, 2)
    room = min(room, int(sizes.sum()))
    while (left := room - int(drawn.sum())) > 0:
        open_ = drawn < sizes
        want = np.where(open_, np.sqrt(sizes), 0.0)
        more = np.floor(left * want / want.sum()).astype(np.int64)
        if not more.any():  # the last few go to the strata that are least looked at
            thin = np.argsort(np.where(open_, drawn / sizes, np.inf), kind="stable")[:left]
            more[thin] = 1
        drawn = np.minimum(drawn + more, sizes)
    return drawn


# ------------------------------------------------------------------ the estimate


def _judged(audited: Any) -> pd.DataFrame:
    table = _pandas(audited, _PLAN)
    for name, default in (("kind", "sample"), ("review", 1)):
        if name not in table:
            table[name] = default
    table = table.assign(request_id=texts(table["request_id"]), mated=yes_or_no(table["mated"]))
    for name in {"n_stratum", "n_sampled"} & {*table}:
        table[name] = pd.to_numeric(table[name], errors="coerce")
    if "plan_id" in table and table["plan_id"].nunique() > 1:
        raise UsageError("the audit holds rows of several plans; estimate from one at a time")
    if n := int(table.duplicated(["request_id", "kind", "review"]).sum()):
        raise UsageError(f"{n} rows of the audit stand there twice: one judgement a row and review")
    return table


def _plan_edge(strata: Iterable[str]) -> float | None:
    """Read off the strata which edge they have beside the vendor's four points."""
    found = set()
    for name in strata:
        try:
            regime, band, _ = name.rsplit(" | ", 2)
            points = {float(x) for x in regime.rsplit(" ", 1)[1].split("/")}
            ends = [] if band == "withheld" else band.removeprefix(">= ").split(" to ")
            found |= {float(x) for x in ends} - points - {0.0}
        except (AttributeError, IndexError, ValueError):
            raise UsageError(f"{name!r} is no stratum of a labelling plan") from None
    if len(found) > 1:
        raise UsageError("the strata have edges of several thresholds; estimate from one plan")
    return next(iter(found), None)


def _refuse_other_rows(frame: nw.LazyFrame[Any], first: pd.DataFrame, edge: float | None) -> None:
    """Refuse an audit whose rows the frame does not have, or has elsewhere."""
    drawn = first.set_index("request_id")["stratum"]
    mine = frame.filter(nw.col("request_id").is_in(drawn.index.tolist()))
    now = _with_stratum(collected(mine), edge).drop_duplicates("request_id")
    now = now.set_index("request_id")["stratum"].reindex(drawn.index)
    for wrong, what in ((now.isna(), "not in the frame"), (now != drawn, "in another stratum")):
        if n := int(wrong.sum()):
            raise UsageError(
                f"{n} of {len(drawn)} audited rows are {what}; give the rows that the plan was "
                "drawn from"
            )


def _counted(
    frame: nw.LazyFrame[Any], edge: float | None, threshold: float | None, spared: set[str]
) -> pd.DataFrame:
    """Count the rows of each stratum: all, and those that could be drawn; a group-by."""
    score = nw.col("score")
    edges = [nw.col(THRESHOLD_COLUMNS[0]) if edge is None else nw.lit(edge)]
    edges += [nw.col(name) for name in THRESHOLD_COLUMNS]
    reached = [(score >= each).fill_null(value=False).cast(nw.Int64) for each in edges]
    at = nw.when(score.is_null()).then(-1).otherwise(nw.sum_horizontal(*reached))
    match = (score >= (np.inf if threshold is None else threshold)).fill_null(value=False)
    frame = frame.with_columns(_at=at.cast(nw.Int64), _match=match.cast(nw.Int64))
    free = ~nw.col("request_id").is_in(sorted(spared)) if spared else None
    table = group_counts(
        frame, [*REGIME, "result", "_at", "_match"], counts={"n_all": None, "n_free": free}
    )
    names = _names(table, table["_at"].to_numpy(), _edges(table, edge))
    strata = table.assign(stratum=names).groupby("stratum", sort=True)
    found = strata.agg(
        n_all=("n_all", "sum"), n_free=("n_free", "sum"), verdict=("result", "first"),
        match=("_match", "max"), all_match=("_match", "min"),
    )  # fmt: skip
    if (found["match"] != found["all_match"]).any():
        raise UsageError(f"{threshold:g} is no stratum edge of this plan; draw a plan for it")
    return found.drop(columns="all_match")


def _audited(first: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    """Put what was drawn and decided beside the counts of each stratum, audited or not."""
    sampled = "n_sampled" if "n_sampled" in first else "n_stratum"
    parts = first.groupby("stratum")
    drawn = parts.agg(
        n_audited=("request_id", "size"), n_told=("mated", "count"), n_mated=("mated", "sum"),
        size=("n_stratum", "first"), sizes=("n_stratum", "nunique"),
        n_drawn=(sampled, "first"), draws=(sampled, "nunique"),
    )  # fmt: skip
    if sampled == "n_stratum":
        drawn["n_drawn"] = drawn["n_audited"]
    table = counted.join(drawn)
    table["size"] = table["size"].where(table["n_audited"].notna(), table["n_free"])
    wrong = (table["sizes"] > 1) | (table["draws"] > 1) | (table["n_audited"] > table["n_drawn"])
    wrong |= table["n_audited"].notna() & ~(table["n_drawn"] <= table["size"])
    if wrong.any():
        raise UsageError("n_stratum or n_sampled is not as the plan had it")
    if (table["size"] > table["n_all"]).any():
        raise UsageError("the frame holds fewer rows than the plan was drawn from")
    whole = ["n_audited", "n_told", "n_mated", "size", "n_drawn"]
    table[whole] = table[whole].fillna(0).astype("int64")
    return table[table["size"] > 0]


def _looked_at(strata: pd.DataFrame, name: str) -> tuple[pd.Series, bool]:
    """Strata among which a quantity is looked for, and the truth that makes a row one."""
    verdict, match = strata["verdict"].astype("boolean"), strata["match"] > 0
    return {
        "nonmated": (verdict.isna() | True, False),
        "false_accepts": (verdict.fillna(value=False), False),
        "false_rejects": ((~verdict).fillna(value=False), True),
        "false_matches": (match, False),
        "false_nonmatches": (~match, True),
    }[name]


def _estimated(strata: pd.DataFrame, name: str, quality: dict[str, Any]) -> dict[str, Any]:
    looked, truth = _looked_at(strata, name)
    part = strata[looked.to_numpy(dtype=bool)]
    size, n, decided = (part[c].to_numpy(dtype=float) for c in ("size", "n_drawn", "n_told"))
    found = part["n_mated"] if truth else part["n_told"] - part["n_mated"]
    x, n_rows, level = found.to_numpy(dtype=float), float(size.sum()), 1 - 0.05 / max(len(part), 1)
    limits = [
        hypergeometric_limits(int(a), int(b), int(c), level)
        for a, b, c in zip(x, decided, size, strict=True)
    ]
    low, high = (float(sum(ends)) for ends in zip(*limits, strict=True)) if limits else (0.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float((size * (x / decided)).sum())  # NaN where no label is decided
        best = float(np.where(n > 0, size * (x / n), 0.0).sum())
        worst = float(np.where(n > 0, size * ((x + n - decided) / n), size).sum())
    rates = {
        f"rate{end}": value / n_rows if n_rows else np.nan
        for end, value in (("", estimate), ("_low", low), ("_high", high))
    }
    return {
        "quantity": name, "among": QUANTITIES[name], "n_rows": int(n_rows),
        "n_audited": int(part["n_audited"].sum()), "n_found": int(x.sum()),
        "n_cannot_tell": int((n - decided).sum()), "n_rows_unjudged": int(size[decided == 0].sum()),
        "estimate": estimate, "low": low, "high": high, **rates, "best_case": best,
        "worst_case": worst, "corrected": _rogan_gladen(estimate, n_rows, truth, quality),
        "reason": UNJUDGED if np.isnan(estimate) else "",
    }  # fmt: skip


def _rogan_gladen(estimate: float, size: float, truth: bool, quality: dict[str, Any]) -> float:
    """Correct an apparent number for reviewers' errors (Rogan & Gladen 1978), within [0, size]."""
    found, passed = quality["sensitivity"], quality["specificity"]
    if truth:  # mated rows are looked for: their sensitivity is the other one's specificity
        found, passed = passed, found
    gain = found + passed - 1
    if not size or np.isnan(gain) or gain <= 0:
        return float("nan")
    return float(np.clip((estimate / size + passed - 1) / gain, 0, 1) * size)


def _reviewers(judged: pd.DataFrame, truth: pd.DataFrame | None) -> dict[str, Any]:
    quality = {"sensitivity": np.nan, "specificity": np.nan, "n_known": 0}
    if truth is not None:
        given = truth[["request_id", "mated"]].rename(columns={"mated": "true"})
        seen = judged[judged["kind"] == "known"].merge(given, on="request_id")
        seen = seen[seen["mated"].notna()]
        said, true = seen["mated"].astype(bool), seen["true"].astype(bool)
        quality = {
            "sensitivity": float((~said[~true]).mean()) if (~true).any() else np.nan,
            "specificity": float(said[true].mean()) if true.any() else np.nan,
            "n_known": len(seen),
        }
    sample = judged[judged["kind"] == "sample"]
    one, two = (sample[sample["review"] == r].set_index("request_id")["mated"] for r in (1, 2))
    both = pd.concat([one, two], axis=1, keys=["one", "two"], join="inner").dropna()
    differ = float((both["one"] != both["two"]).mean()) if len(both) else np.nan
    return quality | {"n_doubled": len(both), "disagreement": differ}


def _pandas(frame: Any, columns: Iterable[str]) -> pd.DataFrame:
    """Bring a frame of the caller's with these columns to pandas."""
    table = to_pandas(frame, "frame with request_id and mated")
    missing = [name for name in columns if name not in table]
    if missing:
        raise MissingColumnError(missing, table.columns)
    return table.copy()
