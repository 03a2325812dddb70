"""Answers whose verdict contradicts their own numbers, and what else cannot be."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from verifyanalytics.analysis.base.frames import collected, lazy_rows
from verifyanalytics.analysis.base.periods import UNKNOWN
from verifyanalytics.analysis.base.rates import add_rate
from verifyanalytics.analysis.base.regime_counts import regime_counts
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.analysis.base.rows import GATES, OPTIONAL, answered, complete, gate
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.verdicts.decisions import VERDICT


@statistic("verdicts.contradictions")
def contradictions(v: Any, risk_fail: int | None = None) -> pd.DataFrame:
    """Where `result` contradicts the gates, and what else cannot be, with example request_ids.

    Parameters
    ----------
    v : frame of verifications
    risk_fail : int, optional
        The risk score that fails; default the code book's.

    Returns
    -------
    DataFrame
        regime, `kind`, `n_rows` of `n_of` rows that could show it, `share` with limits, `meaning`,
        and `first_example`, `last_example`: smallest and largest request_id. Only kinds that occur.
        `at_threshold_accepted` and `at_threshold_rejected` are rows whose score equals the pass
        threshold and that pass every other gate: they tell whether the vendor means ≥ or >.

    See Also
    --------
    gates, result_rule

    Examples
    --------
    >>> v = pd.DataFrame({"request_id": ["a", "b"], "code": 10000, "score": [85.0, 65.0],
    ...     "alive": True, "result": [False, False], "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> contradictions(v)[["kind", "n_rows", "n_of", "first_example"]].values.tolist()
    [['unexplained', 1, 1, 'a']]
    """
    frame = lazy_rows(v, ["request_id", *VERDICT], (*OPTIONAL, "risk_score"))
    kinds = _kinds(risk_fail)
    flags = {f"{name}:n": flag for name, (flag, _, _) in kinds.items()}
    flags |= {f"{name}:of": of for name, (_, of, _) in kinds.items()}
    frame = frame.select("request_id", *REGIME, **flags)
    table = regime_counts(frame, counts={name: nw.col(name) for name in flags})
    shown = [nw.col(f"{name}:n") for name in kinds]
    examples = _examples(frame.filter(nw.any_horizontal(*shown, ignore_nulls=True)), kinds)
    found = []
    for _, row in table.iterrows():
        for name, (_, _, meaning) in kinds.items():
            n = int(row[f"{name}:n"])
            if n:
                ends = examples.get((row["regime"], name), ("", ""))
                found.append((row["regime"], name, n, meaning, *ends, int(row[f"{name}:of"])))
    types = {
        "regime": "str", "kind": "str", "n_rows": "int64", "meaning": "str",
        "first_example": "str", "last_example": "str", "n_of": "int64",
    }  # fmt: skip
    result = pd.DataFrame(found, columns=[*types]).astype(types)
    return add_rate(result, "share", result["n_rows"], result["n_of"])


def _kinds(risk_fail: int | None) -> dict[str, tuple[nw.Expr, nw.Expr, str]]:
    """Each kind: what shows it, the rows that could, and what it means."""
    yes, no = nw.col("result").fill_null(value=False), (~nw.col("result")).fill_null(value=False)
    decided = ~nw.col("result").is_null()
    passes = {name: gate(name, risk_fail=risk_fail).fill_null(value=False) for name in GATES}
    fails = {name: (~gate(name, risk_fail=risk_fail)).fill_null(value=False) for name in GATES}
    kinds = {
        f"accepted_despite_{name}": (yes & fails[name], yes, f"accepted, yet the gate {name} fails")
        for name in GATES
    }
    all_pass = nw.all_horizontal(*passes.values(), ignore_nulls=True)
    others = nw.all_horizontal(
        *(p for name, p in passes.items() if name != "match"), ignore_nulls=True
    )
    equal = (nw.col("score") == nw.col("threshold_1e_4")).fill_null(value=False) & complete()
    unanswered = ~answered() & ~nw.col("score").is_null()
    in_range = ((nw.col("score") >= 0) & (nw.col("score") <= 100)).fill_null(value=True)
    has_score = ~nw.col("score").is_null()
    return kinds | {
        "unexplained": (no & all_pass, decided & all_pass, "rejected, yet all gates pass"),
        "no_verdict": (all_pass & ~decided, all_pass, "all gates pass, yet there is no verdict"),
        "at_threshold_accepted": (
            yes & equal & others, decided & equal & others,
            "accepted with score equal to the 1e-4 threshold: the vendor means ≥",
        ),
        "at_threshold_rejected": (
            no & equal & others, decided & equal & others,
            "rejected with score equal to the 1e-4 threshold: the vendor means >",
        ),
        "score_on_unanswered": (unanswered, has_score, "a score on an answer with another code"),
        "score_out_of_range": (~in_range, has_score, "a score outside 0–100"),
        "thresholds_incomplete": (
            has_score & ~complete(), has_score,
            "a score whose four thresholds are not all there or do not rise: no own gate",
        ),
    }  # fmt: skip


def _examples(frame: Any, kinds: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str]]:
    ends = []
    for name in kinds:
        shown = nw.when(nw.col(f"{name}:n")).then(nw.col("request_id"))
        ends += [shown.min().alias(f"{name}:first"), shown.max().alias(f"{name}:last")]
    table = collected(frame.group_by(list(REGIME)).agg(*ends))
    table = name_regimes(table.assign(req_key=table["req_key"].fillna(UNKNOWN).astype("str")))
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for name in kinds:
        for regime, part in table.groupby("regime"):
            first, last = part[f"{name}:first"].dropna(), part[f"{name}:last"].dropna()
            if len(first):
                found[str(regime), name] = (str(first.min()), str(last.max()))
    return found
