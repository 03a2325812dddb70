"""Which gate turned each person away, and where the verdict contradicts its own numbers.

Five gates stand in a row: answered, scored, alive, match (score at or above the row's own 1e-4
threshold), risk. Each passes, fails, or is unknown when its input is null. The vendor's `result` is
compared with them and never derived from them: what the gates do not explain is said to be
unexplained. One group-by over (gate pattern, result) yields every table here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.intervals import rate_interval
from verifyanalytics.analysis.base.keys import group_keys
from verifyanalytics.analysis.base.periods import TZ, Every
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.analysis.base.rows import (
    GATES,
    NO_GATE,
    SOME_UNKNOWN,
    UNKNOWN_SHIFT,
    answered,
    complete,
    failing,
    first_gate,
    gate,
    gate_pattern,
    scored,
    withheld,
)
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.arguments import number
from verifyanalytics.codebook.book import current
from verifyanalytics.schema import THRESHOLD_COLUMNS

By = str | Sequence[str] | None

NEEDED = ("code", "score", *THRESHOLD_COLUMNS, "alive", "result")
"""Columns every decision needs."""

WELCOME = ("gateway_code", "sub_code", "req_key", "risk_score")
"""Columns that are used when there: without them nothing is withheld, no risk was asked."""

_OUTCOME = (
    "first_gate", "failing_gates", "result", "n_rows", "n_withheld", "n_risk_not_asked", "share",
)  # fmt: skip
_ACCEPTANCE = (
    "result", "n_rows", "n_decided", "n_accepted", "acceptance_rate", "acceptance_of_all",
    "n_scored", "n_withheld", "n_compared", "n_matched", "match_rate", "period", "period_start",
    "partial",
)  # fmt: skip
_EACH_ROW = nw.col("score").is_null() | ~nw.col("score").is_null()  # true, as an expression


@statistic("verdicts.gates")
def gates(v: Any, risk_fail: int | None = None) -> pd.DataFrame:
    """Tell for each row which gates it passes and which one turned it away.

    Parameters
    ----------
    v : frame of verifications
        pandas, Polars, Arrow, a DuckDB relation or another lazy frame.
    risk_fail : int, optional
        The risk score that fails; default the code book's.

    Returns
    -------
    DataFrame
        One row a verification, in the order of the frame (a lazy frame has none of its own):
        request_id, `result`; `answered`, `scored`, `alive`, `match`, `risk` as `pass`, `fail` or
        `unknown`; `first_gate`, the first that fails (`none`: all pass; `unknown`: none fails, but
        not all are known); `failing_gates` joined by `+`; `withheld`, `risk_not_asked`. As long as
        the data: for many millions of rows use `funnel`.

    Raises
    ------
    MissingColumnError
        A column of `NEEDED`, or request_id, is not there.
    """
    frame = lazy_rows(v, ["request_id", *NEEDED], WELCOME)
    table = (
        frame.select(
            "request_id",
            "result",
            _pattern=gate_pattern(risk_fail),
            withheld=withheld(),
            risk_not_asked=nw.col("risk_score").is_null(),
        )
        .collect(backend="pyarrow")
        .to_native()
        .to_pandas()
    )
    table["request_id"] = table["request_id"].astype("str")
    table["result"] = table["result"].astype("boolean")
    patterns = table.pop("_pattern").to_numpy(dtype="int64")
    at = 2
    for i, name in enumerate(GATES):
        states = np.array(["pass", "fail", "unknown"])
        state = states[((patterns >> i) & 1) + 2 * ((patterns >> (i + UNKNOWN_SHIFT)) & 1)]
        table.insert(at + i, name, pd.Series(state, dtype="str"))
    seen, index = np.unique(patterns, return_inverse=True)
    first = np.array([first_gate(p) for p in seen], dtype=object)
    named = np.array([failing(p) for p in seen], dtype=object)
    table.insert(at + len(GATES), "first_gate", pd.Series(first[index], dtype="str"))
    table.insert(at + len(GATES) + 1, "failing_gates", pd.Series(named[index], dtype="str"))
    return table


@statistic("verdicts.funnel")
def funnel(v: Any, by: By = None, risk_fail: int | None = None) -> pd.DataFrame:
    """Count the rows that each gate turned away, and what the verdict said to them.

    Parameters
    ----------
    v : frame of verifications
    by : str or sequence of str, optional
        Columns to split by; `regime` is one of them.
    risk_fail : int, optional
        The risk score that fails; default the code book's.

    Returns
    -------
    DataFrame
        The `by` columns; `first_gate` and `result` (boolean, null: no verdict); `line`, the same in
        words: `accepted`, a gate's name, `accepted despite <gate>`, `unexplained` (all gates pass,
        result false), `unknown` (no gate fails, some input is null), `no verdict`; `n_rows`, of
        which `n_withheld` and `n_risk_not_asked`; `n_total`, the rows of the group; `share` of it
        with 95 % limits. The lines of a group add up to `n_total`.
    """
    keys = group_keys(by, (*_OUTCOME, "line", "n_total"))
    table = _outcomes(v, keys, risk_fail)
    table = add_up(table.drop(columns="failing_gates"), [*keys, "first_gate", "result"])
    table.insert(len(keys) + 2, "line", _lines(table))
    order = {name: i for i, name in enumerate((*GATES, SOME_UNKNOWN, NO_GATE))}
    table = table.sort_values(
        [*keys, "first_gate", "result"],
        key=lambda c: c.map(order) if c.name == "first_gate" else c,
        kind="stable",
        ignore_index=True,
    )
    return _with_share(table, "n_rows", "share", _totals(table, keys))


@statistic("verdicts.reject_reasons")
def reject_reasons(v: Any, by: By = None, risk_fail: int | None = None) -> pd.DataFrame:
    """Why rows were not accepted: by first gate, code and sub-code, with the code book's words.

    Parameters
    ----------
    v : frame of verifications
    by : str or sequence of str, optional
        Columns to split by; `regime` is one of them.
    risk_fail : int, optional
        The risk score that fails; default the code book's.

    Returns
    -------
    DataFrame
        The `by` columns; `first_gate`, `failing_gates`, `gateway_code`, `code`, `sub_code`, `stage`
        and `meaning`, `meaning_zh` of the code that says most; `n_rows`; `n_not_accepted`, the rows
        of the group whose result is not true; `share` of them with limits. Most frequent first.
    """
    codes = ["gateway_code", "code", "sub_code"]
    keys = group_keys(by, (*_OUTCOME, *codes, "stage", "meaning", "meaning_zh", "n_not_accepted"))
    table = _outcomes(v, [*keys, *codes], risk_fail)
    table = table[~table["result"].fillna(value=False)]
    table = add_up(
        table[[*keys, "first_gate", "failing_gates", *codes, "n_rows"]],
        [*keys, "first_gate", "failing_gates", *codes],
    )
    for name in ("code", "sub_code"):
        table[name] = table[name].astype("Int64")
    table["gateway_code"] = table["gateway_code"].where(table["gateway_code"] != "unknown", "")
    words = [_words(*row) for row in zip(*(table[c] for c in codes), strict=True)]
    for name, at in (("stage", 0), ("meaning", 1), ("meaning_zh", 2)):
        table.insert(
            table.columns.get_loc("n_rows"), name, pd.Series([w[at] for w in words], dtype="str")
        )
    table = table.sort_values(
        [*keys, "n_rows"], ascending=[True] * len(keys) + [False], kind="stable", ignore_index=True
    )
    return _with_share(table, "n_rows", "share", _totals(table, keys), total="n_not_accepted")


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
    """
    frame = lazy_rows(v, ["request_id", *NEEDED], WELCOME)
    kinds = _kinds(risk_fail)
    flags = {f"{name}:n": flag for name, (flag, _, _) in kinds.items()}
    flags |= {f"{name}:of": of for name, (_, of, _) in kinds.items()}
    frame = frame.select("request_id", *REGIME, **flags)
    table = _regimes(group_counts(frame, REGIME, counts={name: nw.col(name) for name in flags}))
    shown = [nw.col(f"{name}:n") for name in kinds]
    examples = _examples(frame.filter(nw.any_horizontal(*shown, ignore_nulls=True)), kinds)
    found = []
    for _, row in table.iterrows():
        for name, (_, _, meaning) in kinds.items():
            n = int(row[f"{name}:n"])
            if n:
                ends = examples.get((row["regime"], name), ("", ""))
                found.append((row["regime"], name, n, int(row[f"{name}:of"]), meaning, *ends))
    columns = ["regime", "kind", "n_rows", "n_of", "meaning", "first_example", "last_example"]
    result = pd.DataFrame(found, columns=columns).astype({"n_rows": "int64", "n_of": "int64"})
    for name in ("regime", "kind", "meaning", "first_example", "last_example"):
        result[name] = result[name].astype("str")
    return _with_share(result, "n_rows", "share", result.pop("n_of"), total="n_of")


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
    """
    frame = lazy_rows(v, NEEDED, (*WELCOME, "risk_tags"))
    frame = frame.filter(scored(), ~nw.col("result").is_null())
    conditions = _conditions()
    tags = _top_tags(v, int(number(max_tags, "max_tags", low=0, whole=True)))
    keyed = frame.with_columns(**{f"_{i}": expr for i, (_, expr) in enumerate(conditions)})
    keys = [*REGIME, *(f"_{i}" for i in range(len(conditions))), "result"]
    with_tag = {
        f"tag:{i}": nw.col("risk_tags").list.contains(t).fill_null(value=False)
        for i, t in enumerate(tags)
    }
    counts = {"n_rows": _EACH_ROW, **with_tag}
    table = group_counts(keyed, keys, counts=counts)
    table = name_regimes(table).drop(columns=list(REGIME))
    found = [
        (regime, *_score_rule(part, rule, tag, conditions, tags))
        for regime, part in ((r, _as_arrays(p)) for r, p in table.groupby("regime", sort=True))
        for rule, tag in _rules(len(conditions), len(tags))
    ]
    columns = ["regime", "rule", "n_conditions", "n_rows", "n_unknown", "n_agree", "n_only_rule"]
    result = pd.DataFrame(found, columns=[*columns, "n_only_result"])
    result[["regime", "rule"]] = result[["regime", "rule"]].astype("str")
    result = _with_share(result, "n_agree", "agreement", result.pop("n_rows"), total="n_rows")
    return result.sort_values(
        ["regime", "agreement", "n_conditions", "rule"],
        ascending=[True, False, True, True],
        kind="stable",
        ignore_index=True,
    )


@statistic("verdicts.acceptance_rate")
def acceptance_rate(
    v: Any, by: By = None, every: Every | None = None, tz: str = TZ
) -> pd.DataFrame:
    """The vendor's acceptance rate and the match rate at its own 1e-4 threshold.

    Parameters
    ----------
    v : frame of verifications
    by : str or sequence of str, optional
        Columns to split by; `regime` is one of them.
    every : {"day", "week", "month"}, optional
        Split by period too; `partial` marks those the data do not cover whole.
    tz : str
        Where days begin.

    Returns
    -------
    DataFrame
        The keys; `n_rows`; `n_decided` (with a verdict), `n_accepted`, `acceptance_rate` with 95 %
        limits; `acceptance_of_all`, over n_rows; `n_scored`, `n_withheld`, `n_compared` (both, of
        complete regimes), `n_matched`, `match_rate` with limits. Rows are taken as independent.
    """
    keys = group_keys(by, _ACCEPTANCE)
    columns = [*NEEDED, *(["occurred_at"] if every else [])]
    frame = lazy_rows(v, [*columns, *_plain_keys(keys)], WELCOME)
    compared = (scored() | withheld()) & complete()
    counted = {
        "n_rows": _EACH_ROW,
        "n_decided": ~nw.col("result").is_null(),
        "n_accepted": nw.col("result"),
        "n_scored": scored(),
        "n_withheld": withheld(),
        "n_compared": compared,
        "n_matched": compared & gate("match").fill_null(value=False),
    }
    raw = group_counts(frame, _columns(keys), counts=counted, every=every, tz=tz)
    periods = ["period", "period_start", "partial"] if every else []
    table = _regimes(raw, [*keys, *periods]) if "regime" in keys else raw
    table = _rate(table, "acceptance_rate", "n_accepted", "n_decided")
    table["acceptance_of_all"] = _divide(table["n_accepted"], table["n_rows"])
    return _rate(table, "match_rate", "n_matched", "n_compared")


# ------------------------------------------------------------------ one group-by for all


def outcomes(v: Any, by: Sequence[str], risk_fail: int | None = None) -> pd.DataFrame:
    """Count rows over (by, first gate, set of failing gates, result): the ground of this module."""
    return _outcomes(v, list(by), risk_fail)


def _outcomes(v: Any, keys: list[str], risk_fail: int | None) -> pd.DataFrame:
    frame = lazy_rows(v, [*NEEDED, *(k for k in _plain_keys(keys) if k not in WELCOME)], WELCOME)
    frame = frame.with_columns(_pattern=gate_pattern(risk_fail))
    counted = {
        "n_rows": None,
        "n_withheld": withheld(),
        "n_risk_not_asked": nw.col("risk_score").is_null(),
    }
    table = group_counts(frame, [*_columns(keys), "_pattern", "result"], counts=counted)
    patterns = table["_pattern"].astype("int64")
    # a frame without any verdict has a key of no type, which reads "unknown"
    table["result"] = table["result"].where(table["result"] != "unknown").astype("boolean")
    table["first_gate"] = patterns.map(first_gate).astype("str")
    table["failing_gates"] = patterns.map(failing).astype("str")
    if "regime" in keys:
        table = name_regimes(table)
    merged = [*keys, "first_gate", "failing_gates", "result"]
    return add_up(table[[*merged, *counted]], merged)


def _lines(table: pd.DataFrame) -> pd.Series:
    lines = []
    for first, result in zip(table["first_gate"], table["result"], strict=True):
        if first == SOME_UNKNOWN:
            lines.append("unknown")
        elif first == NO_GATE:
            lines.append(
                "no verdict" if pd.isna(result) else "accepted" if result else "unexplained"
            )
        else:
            accepted = not pd.isna(result) and bool(result)
            lines.append(f"accepted despite {first}" if accepted else first)
    return pd.Series(lines, index=table.index, dtype="str")


def _words(gateway: str, code: Any, sub_code: Any) -> tuple[str, str, str]:
    """Stage and meaning of the code that says most: gateway, then sub-code, then code."""
    book = current()
    if gateway:
        entry: Any = book.gateway_code(gateway)
        return "gateway", entry.gloss("en"), entry.gloss("zh")
    if not pd.isna(sub_code):
        entry = book.sub_code(int(sub_code))
        return entry.stage, entry.gloss("en"), entry.gloss("zh")
    if not pd.isna(code):
        entry = book.code(int(code))
        return "unknown", entry.gloss("en"), entry.gloss("zh")
    return "unknown", "no code", "无状态码"


# ------------------------------------------------------------------ contradictions


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
    table = frame.group_by(list(REGIME)).agg(*ends).collect(backend="pyarrow").to_native()
    pandas = table.to_pandas()
    pandas["req_key"] = pandas["req_key"].fillna("unknown").astype("str")
    pandas = name_regimes(pandas)
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for name in kinds:
        for regime, part in pandas.groupby("regime"):
            first, last = part[f"{name}:first"].dropna(), part[f"{name}:last"].dropna()
            if len(first):
                found[str(regime), name] = (str(first.min()), str(last.max()))
    return found


# ------------------------------------------------------------------ rules


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
    table = frame.explode("risk_tags").group_by("risk_tags").agg(n=nw.len()).collect("pyarrow")
    pandas = table.to_native().to_pandas().dropna()
    pandas = pandas.sort_values(["n", "risk_tags"], ascending=[False, True])
    return [str(tag) for tag in pandas["risk_tags"].head(most)]


# ------------------------------------------------------------------ tables


def _plain_keys(keys: Sequence[str]) -> list[str]:
    return [key for key in keys if key != "regime"]


def _columns(keys: Sequence[str]) -> list[str]:
    """Grouping columns: `regime` stands for those that make it."""
    plain = _plain_keys(keys)
    return [*plain, *(k for k in REGIME if k not in plain)] if "regime" in keys else plain


def _regimes(table: pd.DataFrame, keys: Sequence[str] = ("regime",)) -> pd.DataFrame:
    table = name_regimes(table)
    return add_up(table.drop(columns=[k for k in REGIME if k not in keys]), list(keys))


def _totals(table: pd.DataFrame, keys: list[str]) -> pd.Series:
    if not keys:
        return pd.Series(table["n_rows"].sum(), index=table.index)
    return table.groupby(keys, dropna=False)["n_rows"].transform("sum")


def _with_share(
    table: pd.DataFrame, count: str, name: str, of: pd.Series, total: str = "n_total"
) -> pd.DataFrame:
    table = table.copy()
    table[total] = of.astype("int64")
    return _rate(table, name, count, total)


def _rate(table: pd.DataFrame, name: str, x: str, n: str) -> pd.DataFrame:
    low, high = rate_interval(table[x], table[n])
    return table.assign(
        **{name: _divide(table[x], table[n]), f"{name}_low": low, f"{name}_high": high}
    )


def _divide(x: pd.Series, n: pd.Series) -> pd.Series:
    return (x / n.where(n > 0)).astype("float64")
