"""Verdicts against rows: contradictions, and which conjunction of conditions agrees best."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import collected, lazy_rows
from verifyanalytics.analysis.base.groups import regime_counts
from verifyanalytics.analysis.base.periods import UNKNOWN
from verifyanalytics.analysis.base.rates import add_rate
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.analysis.base.rows import GATES, OPTIONAL, answered, complete, gate, scored
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.verdicts.decisions import VERDICT
from verifyanalytics.arguments import number


@statistic("verdicts.result_rule")
def result_rule(v: Any, max_tags: int = 20) -> pd.DataFrame:
    """How well simple rules reproduce the vendor's verdict, per regime.

    Parameters
    ----------
    v : frame of verifications
    max_tags : int
        So many of the most frequent risk tags are tried as well.

    Returns
    -------
    DataFrame
        regime, `rule`, `n_conditions`; `n_rows`, scored rows with a verdict for which the rule's
        inputs are known (`n_unknown`: the others); `n_agree`, `agreement` with limits;
        `n_only_rule` rows that the rule would accept and the vendor did not, `n_only_result` the
        other way round. Best agreement first, simpler rules first among equals.

    Notes
    -----
    The rules are score ≥ own 1e-4, score ≥ 90, risk < 600, risk < 900, alive, "no tag x", and
    their conjunctions. A missing risk result passes. That a rule agrees does not prove that it is
    the vendor's; a rule that disagrees is not.

    See Also
    --------
    contradictions, verifyanalytics.scores.what_if

    Examples
    --------
    >>> v = pd.DataFrame({"code": 10000, "score": [95.0, 75.0, 65.0], "alive": True,
    ...     "result": [True, True, False], "threshold_1e_3": 60, "threshold_1e_4": 70,
    ...     "threshold_1e_5": 80, "threshold_1e_6": 90})
    >>> table = result_rule(v)
    >>> table.loc[table["n_conditions"] == 1, ["rule", "n_agree", "n_rows"]].head(2).values.tolist()
    [['score >= own 1e-4', 3, 3], ['alive', 2, 3]]
    """
    frame = lazy_rows(v, VERDICT, (*OPTIONAL, "risk_score", "risk_tags"))
    frame = frame.filter(scored(), ~nw.col("result").is_null())
    conditions = _conditions()
    tags = _top_tags(v, int(number(max_tags, "max_tags", low=0, whole=True)))
    keyed = frame.with_columns(**{f"_{i}": expr for i, (_, expr) in enumerate(conditions)})
    keys = [*(f"_{i}" for i in range(len(conditions))), "result"]
    with_tag = {
        f"tag:{i}": nw.col("risk_tags").list.contains(t).fill_null(value=False)
        for i, t in enumerate(tags)
    }
    counts = {"n_rows": None, **with_tag}
    table = regime_counts(keyed, keys, counts=counts).drop(columns=list(REGIME))
    found = [
        (regime, *_score_rule(part, rule, tag, conditions, tags))
        for regime, part in ((r, _as_arrays(p)) for r, p in table.groupby("regime", sort=True))
        for rule, tag in _rules(len(conditions), len(tags))
    ]
    columns = ["regime", "rule", "n_conditions", "n_rows", "n_unknown", "n_agree", "n_only_rule"]
    result = pd.DataFrame(found, columns=[*columns, "n_only_result"])
    result[["regime", "rule"]] = result[["regime", "rule"]].astype("str")
    result = result.astype({"n_rows": "int64"})
    result = add_rate(result, "agreement", result["n_agree"], result["n_rows"])
    last = ["n_rows", "agreement", "agreement_low", "agreement_high"]
    return result[[*result.columns.drop(last), *last]].sort_values(
        ["regime", "agreement", "n_conditions", "rule"],
        ascending=[True, False, True, True],
        kind="stable",
        ignore_index=True,
    )


def _conditions() -> list[tuple[str, nw.Expr]]:
    return [
        ("score >= own 1e-4", gate("match")),
        ("score >= 90", nw.col("score") >= 90),
        ("risk < 600", gate("risk", risk_fail=600)),
        ("risk < 900", gate("risk", risk_fail=900)),
        ("alive", nw.col("alive")),
    ]


def _rules(n_conditions: int, n_tags: int) -> list[tuple[tuple[int, ...], int | None]]:
    """All conjunctions that say something new: of two nested conditions only one is taken."""
    sets = [s for size in range(1, 4) for s in combinations(range(n_conditions), size)]
    sets = [s for s in sets if not {2, 3} <= {*s} and not {0, 1} <= {*s}]
    plain: list[tuple[tuple[int, ...], int | None]] = [(s, None) for s in sets]
    tagged = [(s, tag) for s in [(), *sets] for tag in range(n_tags)]
    return plain + tagged


def _score_rule(
    part: dict[str, Any],
    rule: tuple[int, ...],
    tag: int | None,
    conditions: list[Any],
    tags: list[str],
) -> tuple[str, int, int, int, int, int, int]:
    n, accepted = part["n_rows"], part["result"]
    fails = np.zeros(n.size, dtype=bool)
    unknown = np.zeros(n.size, dtype=bool)
    for i in rule:
        fails |= part[f"_{i}"] == 0
        unknown |= np.isnan(part[f"_{i}"])
    unknown &= ~fails  # a false condition decides a conjunction even when another one is unknown
    tagged = np.zeros_like(n) if tag is None else part[f"tag:{tag}"]
    passing = np.where(fails | unknown, 0, n - tagged)
    failing = np.where(fails, n, tagged)
    only_rule, only_result = passing[~accepted].sum(), failing[accepted].sum()
    agree = passing[accepted].sum() + failing[~accepted].sum()
    without = [] if tag is None else [f"no tag {tags[tag]}"]
    name = " and ".join([conditions[i][0] for i in rule] + without)
    known = int(passing.sum() + failing.sum())
    size = len(rule) + (tag is not None)
    return name, size, known, int(n.sum()) - known, int(agree), int(only_rule), int(only_result)


def _as_arrays(part: pd.DataFrame) -> dict[str, Any]:
    """Counts as whole numbers, conditions as 1, 0 or NaN, the verdict as bool."""
    arrays: dict[str, Any] = {}
    for name in part:
        if name == "result":
            arrays[name] = part[name].to_numpy(dtype=bool)
        elif name.startswith("_"):
            held = part[name].where(part[name] != "unknown").astype("boolean")
            arrays[name] = held.to_numpy(dtype=float, na_value=np.nan)
        elif name != "regime":
            arrays[name] = part[name].to_numpy(dtype="int64")
    return arrays


def _top_tags(v: Any, most: int) -> list[str]:
    if "risk_tags" not in nw.from_native(v).collect_schema().names() or most < 1:
        return []
    frame = lazy_rows(v, ["risk_tags"]).filter(~nw.col("risk_tags").is_null())
    table = collected(frame.explode("risk_tags").group_by("risk_tags").agg(n=nw.len())).dropna()
    table = table.sort_values(["n", "risk_tags"], ascending=[False, True])
    return [str(tag) for tag in table["risk_tags"].head(most)]


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
