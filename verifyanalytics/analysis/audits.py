"""Whom to label, and what labels drawn by a plan say about all the rows that nobody looked at.

A plan draws rows at random within strata (score bands around the thresholds, by verdict), with
known probability, mixes rows of known truth among them and lets some be judged twice: so the
reviewers' own error shows. The estimate adds up strata with exact limits for each; no false accept
found in a stratum is a bound there, never a zero. The drawn rows and their strata are found by
looking at every row's id once: the plan is not counts first.
"""

from __future__ import annotations

import hashlib
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.counts import (
    INCOMPLETE,
    REGIME,
    complete,
    name_regimes,
    rows,
    scored,
    withheld,
)
from verifyanalytics.analysis.intervals import hypergeometric_limits
from verifyanalytics.errors import MissingColumnError, UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

_NEEDED = ("request_id", "code", "score", *THRESHOLD_COLUMNS, "result")
_WELCOME = ("gateway_code", "sub_code", "req_key")
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


def labelling_plan(
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
        The budget is too small for two rows a stratum, or there is nothing to draw from.
    """
    if not (np.isfinite(threshold) and 0 <= seeds < 1 and 0 <= doubles < 1):
        raise UsageError("a threshold is a finite score; seeds and doubles are shares below 1")
    table = _strata(v, threshold)
    trusted = _known_rows(known, table) if known is not None else table.iloc[:0]
    n_known = min(round(budget * seeds), len(trusted))
    n_double = round(budget * doubles)
    table = table[~table["request_id"].isin(trusted["request_id"])]
    sizes = table.groupby("stratum", sort=True).size()
    room = budget - n_known - n_double
    if sizes.empty or room < 2 * len(sizes):
        raise UsageError(
            f"a budget of {budget} leaves {room} rows for {len(sizes)} strata; two each are needed"
        )
    drawn = _allocate(sizes.to_numpy(), room)
    rng = np.random.default_rng(seed)
    parts = []
    for (stratum, part), n in zip(table.groupby("stratum", sort=True), drawn, strict=True):
        ids = np.sort(part["request_id"].to_numpy(dtype=object))
        chosen = rng.choice(ids.size, size=int(n), replace=False)
        parts.append(
            pd.DataFrame({"request_id": ids[np.sort(chosen)], "stratum": stratum}).assign(
                n_stratum=ids.size, n_sampled=int(n), inclusion_prob=n / ids.size
            )
        )
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
    plan.insert(0, "plan_id", _plan_id(threshold, budget, seed, sizes))
    texts = ["plan_id", "request_id", "kind", "stratum"]
    plan = plan.astype(dict.fromkeys(texts, "str"))
    plan = plan.astype(dict.fromkeys(["review", "n_stratum", "n_sampled"], "int64"))
    front = ["plan_id", "request_id", "review", "kind"]
    return plan[[*front, "stratum", "n_stratum", "n_sampled", "inclusion_prob"]]


def estimate_from_audit(
    v: Any, audited: Any, known: Any = None, threshold: float | None = None
) -> pd.DataFrame:
    """Estimate how many rows of all are wrong, from the audited ones of a plan.

    Parameters
    ----------
    v : frame of verifications
        The rows that the plan was drawn from.
    audited : frame
        The plan with a column `mated`: true, false, or null for "cannot tell".
    known : frame, optional
        request_id and mated of the known rows: how often reviewers err on them corrects the rest.
    threshold : float, optional
        Also estimate false matches and false non-matches at this score.

    Returns
    -------
    DataFrame
        Per quantity (`nonmated`, `false_accepts`, `false_rejects`, with a threshold
        `false_matches`, `false_nonmatches`): `n_rows` among which it is looked for, `n_audited`,
        `n_found`, `n_cannot_tell`; `estimate` (Horvitz–Thompson), `low`, `high` (95 %, all strata
        together), `rate`, `rate_low`, `rate_high`; `best_case`, `worst_case`: the estimate if none
        or all of the undecided were wrong; `corrected` (Rogan–Gladen, NaN without known rows);
        `sensitivity`, `specificity` of finding a non-mated row, `n_known`; `n_doubled`,
        `disagreement` among second reviews.

    Raises
    ------
    MissingColumnError
        `audited` is no plan with labels.
    UsageError
        A drawn row is not in the frame; the threshold is none that the plan was drawn for.

    Notes
    -----
    Limits: exact hypergeometric limits per stratum at 1 − 0.05/strata, added up. They are wide, and
    they hold: the textbook interval covers 9 % when few errors are found.
    """
    judged = _judged(audited)
    first = judged[(judged["kind"] == "sample") & (judged["review"] == 1)]
    facts = _facts(v, first["request_id"], threshold)
    first = first.merge(facts, on="request_id", how="left")
    if first["met"].isna().any() or first.empty:
        n = int(first["met"].isna().sum())
        raise UsageError(f"{n} of {len(first)} audited rows are not in the frame")
    mixed = first.groupby("stratum")["match"].nunique() > 1
    if threshold is not None and mixed.any():
        raise UsageError(f"{threshold:g} is no stratum edge of this plan; draw a plan for it")
    quality = _reviewers(judged, known)
    found = [
        _estimated(first, name, quality)
        for name in QUANTITIES
        if threshold is not None or name not in {"false_matches", "false_nonmatches"}
    ]
    result = pd.DataFrame(found).astype({"quantity": "str", "among": "str"})
    return result.assign(**quality)


# ------------------------------------------------------------------ the plan


def _strata(v: Any, threshold: float) -> pd.DataFrame:
    frame = rows(v, _NEEDED, _WELCOME).filter(complete(), scored() | withheld())
    frame = frame.select("request_id", "score", "result", *REGIME)
    table: pd.DataFrame = frame.collect(backend="pyarrow").to_native().to_pandas()
    if table.empty:
        raise UsageError("there is no compared row of a complete regime to draw from")
    table["req_key"] = table["req_key"].fillna("unknown").astype("str")
    table = name_regimes(table)
    table = table[table["regime"] != INCOMPLETE]
    points = table[list(THRESHOLD_COLUMNS)].to_numpy(dtype=float)
    edges = np.sort(np.column_stack([points, np.full(len(table), float(threshold))]), axis=1)
    score = table["score"].to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        number = (score[:, None] >= edges).sum(axis=1)
    low = np.column_stack([np.zeros(len(table)), edges])[np.arange(len(table)), number]
    high = np.column_stack([edges, np.full(len(table), np.inf)])[np.arange(len(table)), number]
    band = np.where(
        np.isnan(score), "withheld", [_band(a, b) for a, b in zip(low, high, strict=True)]
    )
    verdict = table["result"].astype("boolean").map(_VERDICTS).fillna("no verdict")
    names = (
        table["regime"] + " | " + pd.Series(band, index=table.index) + " | " + verdict.astype("str")
    )
    return pd.DataFrame(
        {"request_id": table["request_id"].astype("str").to_numpy(), "stratum": names.to_numpy()}
    )


def _band(low: float, high: float) -> str:
    return f">= {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"


def _known_rows(known: Any, table: pd.DataFrame) -> pd.DataFrame:
    given = _pandas(known)
    missing = [c for c in ("request_id", "mated") if c not in given]
    if missing:
        raise MissingColumnError(missing, given.columns)
    given = given[given["mated"].notna()].drop_duplicates("request_id", keep="last")
    return given[given["request_id"].isin(table["request_id"])]


def _allocate(sizes: Any, room: int) -> Any:
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


def _plan_id(threshold: float, budget: int, seed: int, sizes: pd.Series) -> str:
    text = f"{threshold!r} {budget} {seed} {sizes.to_dict()!r}"
    return f"plan-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


# ------------------------------------------------------------------ the estimate


def _judged(audited: Any) -> pd.DataFrame:
    table = _pandas(audited)
    missing = [c for c in _PLAN if c not in table]
    if missing:
        raise MissingColumnError(missing, table.columns)
    table = table.assign(mated=table["mated"].astype("boolean"))
    for name, default in (("kind", "sample"), ("review", 1)):
        if name not in table:
            table[name] = default
    return table


def _facts(v: Any, ids: pd.Series, threshold: float | None) -> pd.DataFrame:
    """What the frame knows of the audited rows: verdict and whether they match."""
    frame = rows(v, _NEEDED, _WELCOME).select("request_id", "result", "score")
    table: pd.DataFrame = frame.collect(backend="pyarrow").to_native().to_pandas()
    table = table[table["request_id"].isin(set(ids))]
    score = table["score"].astype("float64")
    match = (score >= (np.inf if threshold is None else threshold)).to_numpy()
    verdict = table["result"].astype("boolean")
    return pd.DataFrame(
        {"request_id": table["request_id"].astype("str").to_numpy(), "met": True,
         "verdict": verdict.to_numpy(), "match": match}
    )  # fmt: skip


def _looked_at(first: pd.DataFrame, name: str) -> tuple[pd.Series, bool]:
    """Rows among which a quantity is looked for, and the truth that makes a row one."""
    verdict = first["verdict"].astype("boolean")
    yes, no = verdict.fillna(value=False).astype(bool), (~verdict).fillna(value=False).astype(bool)
    everything = pd.Series(True, index=first.index)
    return {
        "nonmated": (everything, False),
        "false_accepts": (yes, False),
        "false_rejects": (no, True),
        "false_matches": (first["match"].astype(bool), False),
        "false_nonmatches": (~first["match"].astype(bool), True),
    }[name]


def _estimated(first: pd.DataFrame, name: str, quality: dict[str, Any]) -> dict[str, Any]:
    looked, truth = _looked_at(first, name)
    strata = [part for _, part in first[looked].groupby("stratum", sort=True)]
    level = 1 - 0.05 / max(len(strata), 1)
    total = np.zeros(7)
    for part in strata:
        size, n = int(part["n_stratum"].iloc[0]), len(part)
        undecided = int(part["mated"].isna().sum())
        x = int((part["mated"] == truth).sum())
        told = n - undecided
        low, high = hypergeometric_limits(x, told, size, level)
        each = size / told if told else np.nan
        total += [size, n, x, undecided, x * each if told else 0.0, low, high]
    best = sum(_scaled(part, truth, 0) for part in strata)
    worst = sum(_scaled(part, truth, 1) for part in strata)
    n_rows, n_audited, n_found, n_open, estimate, least, most = (float(t) for t in total)
    rates = {
        f"rate{end}": value / n_rows if n_rows else np.nan
        for end, value in (("", estimate), ("_low", least), ("_high", most))
    }
    counts = {"n_rows": int(n_rows), "n_audited": int(n_audited), "n_found": int(n_found)}
    return {
        "quantity": name, "among": QUANTITIES[name], **counts, "n_cannot_tell": int(n_open),
        "estimate": estimate, "low": least, "high": most, **rates, "best_case": best,
        "worst_case": worst, "corrected": _rogan_gladen(estimate, n_rows, truth, quality),
    }  # fmt: skip


def _scaled(part: pd.DataFrame, truth: bool, undecided: int) -> float:
    x = int((part["mated"] == truth).sum()) + undecided * int(part["mated"].isna().sum())
    return float(part["n_stratum"].iloc[0]) * x / len(part)


def _rogan_gladen(estimate: float, size: float, truth: bool, quality: dict[str, Any]) -> float:
    """Correct an apparent number for reviewers' errors (Rogan & Gladen 1978), within [0, size]."""
    found, passed = quality["sensitivity"], quality["specificity"]
    if truth:  # mated rows are looked for: their sensitivity is the other one's specificity
        found, passed = passed, found
    gain = found + passed - 1
    if not size or np.isnan(gain) or gain <= 0:
        return float("nan")
    return float(np.clip((estimate / size + passed - 1) / gain, 0, 1) * size)


def _reviewers(judged: pd.DataFrame, known: Any) -> dict[str, Any]:
    quality = {"sensitivity": np.nan, "specificity": np.nan, "n_known": 0}
    if known is not None:
        given = _pandas(known)[["request_id", "mated"]].rename(columns={"mated": "true"})
        seen = judged[judged["kind"] == "known"].merge(given, on="request_id")
        seen = seen[seen["mated"].notna() & seen["true"].notna()]
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


def _pandas(frame: Any) -> pd.DataFrame:
    given = nw.from_native(frame)
    eager = given.collect(backend="pyarrow") if isinstance(given, nw.LazyFrame) else given
    table: pd.DataFrame = eager.to_pandas()
    return table.copy()
