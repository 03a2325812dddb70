"""Which tags come together, and what each adds to the others."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.outcomes import crowd_of
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.analysis.tags.sets import (
    TagSets,
    Weighed,
    explained,
    named,
    outcome_sets,
    share_limits,
    tag_sets,
)


@statistic("tags.pairs")
def pairs(v: Any) -> pd.DataFrame:
    """How often two risk tags stand on the same row, against chance.

    Parameters
    ----------
    v : frame of verifications
        Needs `risk_tags`.

    Returns
    -------
    DataFrame
        One row a pair, the strongest φ first: `tag_a`, `tag_b` (by falling frequency), names
        `name_a_en`, `name_a_zh`, `name_b_en`, `name_b_zh`; `n` rows with a risk result, `n_a`,
        `n_b`, `n_both`; `lift` = n·n_both / (n_a·n_b); `phi` in [−1, 1], NaN where a tag is on
        every row; `jaccard` = n_both / n_either; `n_risk_not_asked`. Pairs that never meet are
        listed too.

    Examples
    --------
    >>> v = pd.DataFrame({"risk_tags": [["13001", "14004"], ["13001"], [], []]})
    >>> tag_pairs(v)[["tag_a", "tag_b", "n_both", "lift", "jaccard"]].values.tolist()
    [['13001', '14004', 1, 2.0, 0.5]]
    """
    sets = tag_sets(v)
    together = (sets.member.T.astype("int64") * sets.n) @ sets.member.astype("int64")
    pairs = [*combinations(range(len(sets.tags)), 2)]
    first, second = (np.array([p[i] for p in pairs], dtype=int) for i in (0, 1))
    single = np.diag(together).astype(float) if len(sets.tags) else np.zeros(0)
    a, b, both = single[first], single[second], together[first, second].astype(float)
    n = float(sets.n.sum())
    tags = np.array(sets.tags, dtype=object)
    table = pd.DataFrame({"tag_a": tags[first], "tag_b": tags[second]}, dtype="str")
    for end in ("a", "b"):
        words = named(pd.DataFrame({"tag": table[f"tag_{end}"]}))
        table[f"name_{end}_en"], table[f"name_{end}_zh"] = words["name_en"], words["name_zh"]
    table["n"] = int(n)
    for name, count in (("n_a", a), ("n_b", b), ("n_both", both)):
        table[name] = count.astype("int64")
    with np.errstate(divide="ignore", invalid="ignore"):
        table["lift"] = n * both / (a * b)
        table["phi"] = (n * both - a * b) / np.sqrt(a * (n - a) * b * (n - b))
        table["jaccard"] = both / (a + b - both)
    table["n_risk_not_asked"] = sets.n_risk_not_asked
    return table.sort_values(
        ["phi", "tag_a", "tag_b"], ascending=[False, True, True], kind="stable", ignore_index=True
    )


@statistic("tags.catch")
def catch(v: Any, outcome: str = "non_match", *, assume_random: bool = False) -> pd.DataFrame:
    """What each risk tag adds to those before it: greedy order of catch, and unique catch.

    Parameters
    ----------
    v : frame of verifications
    outcome, assume_random
        As in `tag_lift`.

    Returns
    -------
    DataFrame
        One row a tag, in greedy order: each next tag is the one that catches most outcome rows not
        caught yet; ties by fewer new hits, then by tag. `step` from 1, `tag` and its names,
        `outcome`, `basis`, `circular`; `n_new_hits`, `n_new_outcome` rows that no earlier tag has,
        `marginal_precision` (NaN: no new hit); `n_hits`, `n_caught` so far, `catch_rate` =
        n_caught / n_outcome with 95 % limits, `hit_share` = n_hits / n; `n_unique_hits`,
        `n_unique_outcome`: rows with this tag and no other; `n`, `n_outcome`, `n_unknown`,
        `n_only_risk`, `n_risk_not_asked`; `deff`, `weighted`, `note` as in `tag_lift`, and
        `reason`: `selected_labels`. Where weighted, order and rates go by weights, counts by rows.
    """
    question = outcome_sets(v, outcome, assume_random=assume_random)
    sets, meaning = question.sets, question.meaning
    deff = crowd_of(question.counted).deff
    tags, new_hits, new = _greedy(sets)
    table = pd.DataFrame({"tag": pd.Series(tags, dtype="str")})
    table.insert(0, "step", np.arange(1, len(table) + 1, dtype="int64"))
    table["outcome"] = pd.Series([outcome] * len(table), dtype="str")
    table["basis"] = pd.Series([meaning.basis] * len(table), dtype="str")
    table["circular"] = meaning.circular
    table["n_new_hits"], table["n_new_outcome"] = new_hits.n, new.n
    with np.errstate(divide="ignore", invalid="ignore"):
        table["marginal_precision"] = new.w / new_hits.w
        table["n_hits"], table["n_caught"] = new_hits.n.cumsum(), new.n.cumsum()
        caught, whole = new.upto(), sets.whole(sets.n_yes)
        found = share_limits(caught, whole, deff)
        table["catch_rate"] = found[0]
        table["hit_share"] = new_hits.w.cumsum() / sets.whole(sets.n).w
    table["catch_rate_low"], table["catch_rate_high"] = found[1:]
    alone = sets.member & (sets.member.sum(axis=1) == 1)[:, None]
    for name, count in (("n_unique_hits", sets.n), ("n_unique_outcome", sets.n_yes)):
        unique = dict(zip(sets.tags, (alone.T.astype("int64") @ count).tolist(), strict=True))
        table[name] = table["tag"].map(unique).astype("int64")
    table["n"], table["n_outcome"] = int(sets.n.sum()), int(sets.n_yes.sum())
    for name in ("n_unknown", "n_only_risk", "n_risk_not_asked"):
        table[name] = getattr(sets, name)
    table["deff"] = deff
    table["reason"] = pd.Series([question.choice.reason] * len(table), dtype="str")
    rates = ["marginal_precision", "catch_rate", "catch_rate_low", "catch_rate_high", "hit_share"]
    return named(explained(table, question, rates))


def _greedy(sets: TagSets) -> tuple[list[str], Weighed, Weighed]:
    """Order the tags by what they add; return them, their new hits and their new outcome rows."""
    left = np.ones(len(sets.n), dtype=np.bool_)
    rest, order = list(range(len(sets.tags))), []
    found: list[list[float]] = []
    hits = sets.n * sets.weight, sets.n_yes * sets.weight
    while rest:
        # sums of the same weights in another order are still equal
        new = {
            i: [round(float(of[left & sets.member[:, i]].sum()), 6) for of in hits] for i in rest
        }
        best = min(rest, key=lambda i: (-new[i][1], new[i][0], sets.tags[i]))
        mine = left & sets.member[:, best]
        found.append(
            [
                float(of[mine] @ sets.weight[mine] ** power)
                for of in (sets.n, sets.n_yes)
                for power in (0, 1, 2)
            ]
        )
        order.append(sets.tags[best])
        left &= ~sets.member[:, best]
        rest.remove(best)
    columns = np.array(found, dtype=float).reshape(len(order), 6).T
    sides = [Weighed(part[0].astype("int64"), part[1], part[2]) for part in np.split(columns, 2)]
    return order, sides[0], sides[1]
