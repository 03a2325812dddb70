"""Simple rules held against the vendor's verdict: which conjunction of conditions agrees best."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import collected, lazy_rows
from verifyanalytics.analysis.base.rates import add_rate
from verifyanalytics.analysis.base.regime_counts import regime_counts
from verifyanalytics.analysis.base.regimes import REGIME
from verifyanalytics.analysis.base.rows import OPTIONAL, gate, scored
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
