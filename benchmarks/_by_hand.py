"""The counts behind each statistic, written by hand as SQL over a view `v` of the stored answers.

Each question is asked twice: of the package, and of DuckDB as a person who knows SQL and the
vendor's rules would write it for this data. Both ways give the same plain rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import duckdb
import pandas as pd

import verifyanalytics as va
from verifyanalytics.schema import QUALITY_COLUMNS, THRESHOLD_COLUMNS

REGIME = ", ".join(("req_key", *THRESHOLD_COLUMNS))
RISES = " AND ".join(f"{a} < {b}" for a, b in pairwise(THRESHOLD_COLUMNS))
ANSWERED = "(code IN (10000, 50215) AND gateway_code IS NULL)"
WITHHELD = f"({ANSWERED} AND sub_code IN (210311, 210313) AND score IS NULL)"
MATCH = f"CASE WHEN {WITHHELD} THEN false WHEN {RISES} THEN score >= threshold_1e_4 END"
REACHED = ", ".join(f"count(*) FILTER (score >= {name})" for name in THRESHOLD_COLUMNS)
ASKED = "(risk_tags IS NOT NULL OR risk_score IS NOT NULL)"
COMPARED = f"({ANSWERED} AND (score IS NOT NULL OR sub_code IN (210311, 210313)))"
GRADES = ("face_comprehensive_score", "face_clarity", "face_brightness")
GRID = 10_000  # the made-up grades lie within 0 and 1
MATED = "source_row % 20 > 0"
"""Made-up truth: every twentieth row is an impostor's."""

Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Rows]


@dataclass(frozen=True)
class Question:
    """A statistic, and the same counts by hand.

    Attributes
    ----------
    name : str
    goal : float
        How many times the time of the hand-written SQL it may take.
    ours : callable
        Takes `store.scan`'s relation.
    by_hand : callable
        Takes a function that runs one SELECT over `v`.
    """

    name: str
    goal: float
    ours: Callable[[duckdb.DuckDBPyRelation], Rows]
    by_hand: Callable[[Ask], Rows]


def picked(frame: pd.DataFrame, *columns: str) -> Rows:
    """Take some columns as plain rows."""
    return [*frame[[*columns]].itertuples(index=False, name=None)]


# ------------------------------------------------------------------ decisions and thresholds


def funnel(ask: Ask) -> Rows:
    return ask(
        f"SELECT CASE WHEN NOT {ANSWERED} THEN 'answered' WHEN score IS NULL THEN 'scored' "
        "WHEN NOT alive THEN 'alive' WHEN NOT match THEN 'match' "
        "WHEN risk_score >= 900 THEN 'risk' "
        "WHEN alive IS NULL OR match IS NULL THEN 'unknown' ELSE 'none' END AS first_gate, "
        f"result, count(*), count(*) FILTER ({WITHHELD}), count(*) FILTER (risk_score IS NULL) "
        f"FROM (SELECT *, {MATCH} AS match FROM v) GROUP BY ALL"
    )


def own_rates(ask: Ask) -> Rows:
    found = ask(
        f"SELECT {REGIME}, count(score), count(*) FILTER ({WITHHELD}), {REACHED} "
        f"FROM v WHERE {ANSWERED} GROUP BY {REGIME}"
    )
    return [(row[1 + i], row[5] + row[6], row[7 + i], row[6]) for row in found for i in range(4)]


def _per_point(ask: Ask) -> dict[int, int]:
    found = ask(
        f"SELECT {REGIME}, floor(score)::INT AS bin, count(*) FROM v WHERE {ANSWERED} GROUP BY ALL"
    )
    return {int(low): n for *_, low, n in found if low is not None}


def grid_rates(ask: Ask) -> Rows:
    bins = _per_point(ask)
    return [(t, sum(n for low, n in bins.items() if low >= t)) for t in range(50, 101)]


def histogram(ask: Ask) -> Rows:
    bins = _per_point(ask)
    bins[99] = bins.get(99, 0) + bins.pop(100, 0)  # the last bin is closed
    return [(low, bins.get(low, 0)) for low in range(100)]


def regimes(ask: Ask) -> Rows:
    found = ask(
        f"SELECT {REGIME}, count(*), count(*) FILTER ({ANSWERED}), "
        f"count(*) FILTER ({ANSWERED} AND score IS NOT NULL), count(*) FILTER ({WITHHELD}), "
        f"epoch_us(min(occurred_at)), epoch_us(max(occurred_at)) FROM v GROUP BY {REGIME}"
    )
    return [row[5:] for row in found]


def _our_regimes(v: duckdb.DuckDBPyRelation) -> Rows:
    table = va.scores.regimes(v)
    for name in ("first_at", "last_at"):
        table[name] = table[name].dt.tz_localize(None).astype("datetime64[us]").astype("int64")
    return picked(table, "n_rows", "n_answered", "n_scored", "n_withheld", "first_at", "last_at")


def what_if(ask: Ask) -> Rows:
    stays = f"{ANSWERED} AND score IS NOT NULL AND alive AND coalesce(risk_score < 900, true)"
    found = ask(
        f"SELECT {REGIME}, {stays} AND ({MATCH}) AS own, {stays} AND score >= 75 AS new, result, "
        f"count(*) FROM v WHERE {ANSWERED} GROUP BY ALL"
    )
    lines: dict[str, int] = {}
    for *_, own, new, result, n in found:
        if own is not None and result is not None:
            lines["reproduced"] = lines.get("reproduced", 0) + n * (own == result)
        if own and result is False:
            line = "unexplained"
        elif own is None or new is None:
            line = "unknown"
        else:
            line = ("neither", "only_new", "only_old", "both")[2 * own + new]
        lines[line] = lines.get(line, 0) + n
    return [(line, n) for line, n in lines.items() if n]


def _our_what_if(v: duckdb.DuckDBPyRelation) -> Rows:
    table = va.scores.what_if(v, 75)
    return picked(table[table["n"] > 0], "line", "n")


# ------------------------------------------------------------------ with labels


def error_rates(ask: Ask) -> Rows:
    """Coverage per score band and verdict, then errors and their spread over subjects."""
    band = " + ".join(f"coalesce(score >= {name}, false)::INT" for name in THRESHOLD_COLUMNS)
    ask(
        f"SELECT {REGIME}, {band} AS band, score IS NULL AS hidden, result, count(*), "
        "count(*) FILTER (mated IS NOT NULL), count(*) FILTER (mated), "
        "count(*) FILTER (attack IS NOT NULL) FROM labelled GROUP BY ALL"
    )
    each = [f"count(*) FILTER (NOT mated AND score >= {name})" for name in THRESHOLD_COLUMNS]
    each += [f"count(*) FILTER (mated AND NOT score >= {name})" for name in THRESHOLD_COLUMNS]
    people = ", ".join(f"{expr} AS y{i}" for i, expr in enumerate(each))
    sums = ", ".join(
        f"sum(y{i}), sum(y{i} * y{i}), sum(y{i} * {'n' if i < 4 else 'm'})" for i in range(8)
    )
    found = ask(
        f"SELECT {REGIME}, sum(n), sum(m), sum(n * n), sum(m * m), count(*) FILTER (n > 0), "
        f"count(*) FILTER (m > 0), {sums} FROM (SELECT {REGIME}, subject, "
        f"count(*) FILTER (NOT mated) AS n, count(*) FILTER (mated) AS m, {people} FROM labelled "
        f"WHERE {COMPARED} AND mated IS NOT NULL AND attack IS NULL GROUP BY {REGIME}, subject) "
        f"GROUP BY {REGIME}"
    )
    return [
        (row[1 + i], row[5], row[11 + 3 * i], row[9], row[6], row[23 + 3 * i], row[10])
        for row in found
        for i in range(4)
    ]


def _our_error_rates(v: duckdb.DuckDBPyRelation) -> Rows:
    truth = v.project(f"*, {MATED} AS mated, NULL::VARCHAR AS attack")
    return picked(
        va.accuracy.error_rates(truth),
        "threshold", "n_nonmated", "n_false_matches", "n_nonmated_subjects", "n_mated",
        "n_false_nonmatches", "n_mated_subjects",
    )  # fmt: skip


# ------------------------------------------------------------------ tags


def tag_rates(ask: Ask) -> Rows:
    return ask(
        "SELECT tag, count(*) FROM (SELECT unnest(list_distinct(risk_tags)) AS tag FROM v "
        f"WHERE {ASKED}) GROUP BY tag"
    ) + ask(f"SELECT 'asked', count(*) FROM v WHERE {ASKED}")


def _our_tag_rates(v: duckdb.DuckDBPyRelation) -> Rows:
    table = va.tags.rates(v)
    return [*picked(table, "tag", "n_tag"), ("asked", table["n"].iloc[0])]


def tag_lift(ask: Ask) -> Rows:
    """Rows per tag and outcome; then each person's last row, and how rows crowd on persons."""
    rows = (
        f"SELECT * FROM (SELECT *, NOT ({MATCH}) AS out FROM v WHERE {ASKED}) WHERE out IS NOT NULL"
    )
    both = ask(
        "SELECT tag, count(*), count(*) FILTER (out) FROM "
        f"(SELECT unnest(list_distinct(risk_tags)) AS tag, out FROM ({rows})) GROUP BY tag"
    )
    whole = ask(f"SELECT 'all', count(*), count(*) FILTER (out) FROM ({rows})")
    people = ask(
        "WITH people AS MATERIALIZED (SELECT arg_max({'tags': risk_tags, 'out': out}, "
        f"(occurred_at, request_id)) AS last, count(*) AS m FROM ({rows}) GROUP BY subject) "
        "SELECT tag, count(*), sum(m), sum(m * m) FROM (SELECT m, unnest(list_concat(['all'], "
        "list_distinct(last.tags))) AS tag FROM people) GROUP BY tag"
    )
    return [*both, *whole, *((n, m, mm) for tag, n, m, mm in people if tag == "all")]


def _our_tag_lift(v: duckdb.DuckDBPyRelation) -> Rows:
    table = va.tags.lift(v)
    n, c, people, deff = table[["n", "n_outcome", "n_subjects", "deff"]].iloc[0]
    whole = [("all", int(n), int(c)), (int(people), int(n), round(deff * n))]
    return [*picked(table, "tag", "n_tag", "n_both"), *whole]


def tag_pairs(ask: Ask) -> Rows:
    return ask(
        "WITH t AS (SELECT list_distinct(risk_tags) AS tags FROM v WHERE risk_tags IS NOT NULL) "
        "SELECT a, b, count(*) FROM (SELECT a, unnest(tags) AS b FROM "
        "(SELECT tags, unnest(tags) AS a FROM t)) WHERE a <= b GROUP BY ALL"
    )


def _our_tag_pairs(v: duckdb.DuckDBPyRelation) -> Rows:
    table = va.tags.pairs(v)
    pairs = picked(table[table["n_both"] > 0], "tag_a", "tag_b", "n_both")
    one = {**dict(picked(table, "tag_a", "n_a")), **dict(picked(table, "tag_b", "n_b"))}
    return [(*sorted(p[:2]), p[2]) for p in pairs] + [(tag, tag, n) for tag, n in one.items()]


def tag_catch(ask: Ask) -> Rows:
    found = ask(
        f"SELECT list_sort(list_distinct(risk_tags)), NOT ({MATCH}) AS out, count(*) FROM v "
        f"WHERE {ASKED} GROUP BY ALL"
    )
    held = [(frozenset(tags or ()), out, n) for tags, out, n in found if out is not None]
    rest, order = {tag for tags, _, _ in held for tag in tags}, []
    while rest:
        new = {t: sum(n for tags, out, n in held if t in tags and out) for t in rest}
        hits = {t: sum(n for tags, _, n in held if t in tags) for t in rest}
        best = min(rest, key=lambda t: (-new[t], hits[t], t))
        order.append((len(order) + 1, best, hits[best], new[best]))
        held = [row for row in held if best not in row[0]]
        rest.remove(best)
    return order


def risk_bands(ask: Ask) -> Rows:
    """Rows per band and outcome, and how rows crowd on persons."""
    rows = (
        f"FROM (SELECT subject, risk_score, NOT ({MATCH}) AS out FROM v) "
        "WHERE out IS NOT NULL AND risk_score IS NOT NULL"
    )
    bands = ask(
        "SELECT CASE WHEN risk_score >= 900 THEN 900 WHEN risk_score >= 600 THEN 600 "
        "WHEN risk_score >= 300 THEN 300 WHEN risk_score >= 0 THEN 0 END AS band, count(*), "
        f"count(*) FILTER (out) {rows} GROUP BY band"
    )
    crowd = ask(f"SELECT sum(m * m) / sum(m) FROM (SELECT count(*) AS m {rows} GROUP BY subject)")
    return [*bands, *crowd]


def _our_risk_bands(v: duckdb.DuckDBPyRelation) -> Rows:
    table = va.tags.risk_bands(v)
    return [*picked(table, "risk_low", "n", "n_outcome"), (table["deff"].iloc[0],)]


# ------------------------------------------------------------------ quality


def _grid(column: str) -> str:
    """Write the cell of a grade; a hair above, because 0.29 · 100 is less than 29."""
    return f"floor({column} * {GRID} + 1e-9)::INT"


def _percentile(cells: dict[int, int], percent: int) -> float:
    rank, upto = -(-percent * sum(cells.values()) // 100), 0
    for cell in sorted(cells):
        upto += cells[cell]
        if upto >= rank:
            return cell / GRID
    return float("nan")


def quality_limits(ask: Ask) -> Rows:
    limits = {"comprehensive_score": "< 50", "clarity": "<= 3", "brightness": "< 0.08"}
    limits |= {"exposure": "> 0.6"}
    out = []
    for column in QUALITY_COLUMNS:
        limit = limits.get(column.split("_", 1)[1])
        poor = f"count(*) FILTER ({column} {limit})" if limit else "0"
        found = ask(f"SELECT {_grid(column)} AS cell, count(*), {poor} FROM v GROUP BY cell")
        cells = {cell: n for cell, n, _ in found if cell is not None}
        beyond = sum(row[2] for row in found)
        out.append((*column.split("_", 1), sum(cells.values()), beyond, _percentile(cells, 50)))
    return out


def quality_bands(ask: Ask) -> Rows:
    out = []
    for column in ("face_comprehensive_score", "env_comprehensive_score"):
        found = ask(
            f"SELECT {_grid(column)} AS cell, count(*), "
            f"count(*) FILTER ({COMPARED} AND {RISES}), count(*) FILTER ({COMPARED} AND {MATCH}), "
            f"count(result), count(*) FILTER (NOT result) FROM v WHERE {ANSWERED} GROUP BY cell"
        )
        cells = {cell: n for cell, n, *_ in found if cell is not None}
        ends = [round(_percentile(cells, p) * GRID) for p in (10, 25, 50, 75, 90)]
        bands: dict[int, list[int]] = {}
        for cell, *counts in found:
            place = sum(cell > end for end in ends)
            bands[place] = [a + b for a, b in zip(bands.get(place, [0] * 5), counts, strict=True)]
        out += [(column.split("_")[0], *bands[place]) for place in sorted(bands)]
    return out


def _our_quality_bands(v: duckdb.DuckDBPyRelation) -> Rows:
    table = va.quality.bands(v, "comprehensive_score")
    columns = ("image", "n", "n_compared", "n_matched", "n_decided", "n_rejected")
    return picked(table[table["n"] > 0], *columns)


def error_versus_discard(ask: Ask) -> Rows:
    found = ask(
        f"SELECT {REGIME}, face_comprehensive_score AS quality, count(*), "
        f"count(*) FILTER (NOT ({MATCH})) FROM v WHERE {COMPARED} AND {RISES} GROUP BY ALL "
        "ORDER BY quality NULLS FIRST"
    )
    return [(sum(row[6] for row in found), sum(row[7] for row in found))]


def _our_discard(v: duckdb.DuckDBPyRelation) -> Rows:
    return picked(va.quality.error_versus_discard(v).head(1), "n", "n_errors")


# ------------------------------------------------------------------ drift

HALVES = ("day(occurred_at) <= 14", "day(occurred_at) > 14")
"""The first and the second half of every month."""

WEEK = "epoch_us(date_trunc('week', occurred_at + INTERVAL 8 HOUR))"
"""Weeks begin on Monday in Shanghai; the connection's own zone is UTC."""


def _values(ask: Ask, period: str, where: str) -> dict[str, Rows]:
    """Count the usual columns per regime, period and value: (period, value, n)."""
    cells = {"score": "floor(score * 100 + 1e-9)::INT", "risk_score": "risk_score"}
    cells |= {column: _grid(column) for column in GRADES}
    return {
        column: [row[5:] for row in ask(
            f"SELECT {REGIME}, {period} AS period, {cell} AS cell, count(*) FROM v "
            f"WHERE {ANSWERED} AND {where} GROUP BY ALL"
        )]
        for column, cell in cells.items()
    }  # fmt: skip


def _crowd(ask: Ask, period: str, where: str) -> dict[Any, float]:
    """Mean rows of the person behind a row, per period: Σm² / Σm."""
    found = ask(
        f"SELECT {REGIME}, period, sum(m * m) / sum(m) FROM (SELECT {REGIME}, {period} AS period, "
        f"subject, count(*) AS m FROM v WHERE {ANSWERED} AND {where} GROUP BY ALL) "
        f"GROUP BY {REGIME}, period"
    )
    return {row[5]: float(row[6]) for row in found}


def _psi(old: Rows, new: Rows) -> float:
    """Compare scores over the four thresholds, those without a score a bin of their own."""
    sides = []
    for rows in (old, new):
        bins = dict.fromkeys(range(6), 0)
        for _, cell, n in rows:
            bins[5 if cell is None else sum(cell >= t for t in (6000, 7000, 8000, 9000))] += n
        sides.append([bins[i] / sum(bins.values()) for i in range(6)])
    return sum((a - e) * math.log(a / e) for e, a in zip(*sides, strict=True))


def drift(ask: Ask) -> Rows:
    old, new = (_values(ask, "0", where) for where in HALVES)
    d, e = (_crowd(ask, "0", where)[0] for where in HALVES)
    sizes = [(c, *(sum(r[-1] for r in side[c]) for side in (old, new))) for c in old]
    _, n, m = sizes[0]
    deff = (d / n + e / m) / (1 / n + 1 / m)
    return [*sizes, ("score", round(deff, 9), round(_psi(old["score"], new["score"]), 12))]


def _our_drift(v: duckdb.DuckDBPyRelation) -> Rows:
    table = va.stability.drift(*(v.filter(where) for where in HALVES))
    score = table[table["column"] == "score"].iloc[0]
    sizes = picked(table, "column", "n_reference", "n_current")
    return [*sizes, ("score", round(score["deff"], 9), round(score["psi"], 12))]


def drift_over_time(ask: Ask) -> Rows:
    found, crowd = _values(ask, WEEK, "true"), _crowd(ask, WEEK, "true")
    sizes: dict[tuple[Any, str], int] = {}
    for column, rows in found.items():
        for period, _, n in rows:
            sizes[period, column] = sizes.get((period, column), 0) + n
    return [(*key, n) for key, n in sizes.items()] + [("weeks", len(crowd))]


def _our_drift_over_time(v: duckdb.DuckDBPyRelation) -> Rows:
    table = va.stability.over_time(v, every="week")
    weeks = table["period_start"].nunique()
    table["period_start"] = table["period_start"].astype("datetime64[us]").astype("int64")
    return [*picked(table, "period_start", "column", "n_current"), ("weeks", weeks)]


# ------------------------------------------------------------------ all of them

_WITHOUT_PERSONS = "* EXCLUDE (subject)"
"""What-if then tells rows only: sessions need every row in order, which is no count."""


def _answered_columns(function: Callable[..., pd.DataFrame], *columns: str, **given: Any):
    return lambda v: picked(function(v, **given), *columns)


QUESTIONS = (
    Question(
        "funnel", 1.5,
        _answered_columns(va.verdicts.funnel, "first_gate", "result", "n_rows", "n_withheld",
                          "n_risk_not_asked"),
        funnel,
    ),
    Question(
        "match_rates, own thresholds", 1.5,
        _answered_columns(va.scores.match_rates, "threshold", "n", "n_match", "n_withheld"),
        own_rates,
    ),
    Question(
        "match_rates, 50 to 100", 1.5,
        _answered_columns(va.scores.match_rates, "threshold", "n_match", thresholds=range(50, 101)),
        grid_rates,
    ),
    Question(
        "score_histogram", 2, _answered_columns(va.scores.histogram, "score_low", "n"), histogram
    ),
    Question("regimes", 2, _our_regimes, regimes),
    Question("what_if", 2, lambda v: _our_what_if(v.project(_WITHOUT_PERSONS)), what_if),
    Question("error_rates", 1.5, _our_error_rates, error_rates),
    Question("tag_rates", 2, _our_tag_rates, tag_rates),
    Question("tag_lift", 2, _our_tag_lift, tag_lift),
    Question("tag_pairs", 2, _our_tag_pairs, tag_pairs),
    Question(
        "tag_catch", 2,
        _answered_columns(va.tags.catch, "step", "tag", "n_new_hits", "n_new_outcome"), tag_catch,
    ),
    Question("risk_bands", 2, _our_risk_bands, risk_bands),
    Question(
        "quality_limits", 2,
        _answered_columns(va.quality.limits, "image", "measure", "n", "n_beyond", "p50"),
        quality_limits,
    ),
    Question("quality_bands", 2, _our_quality_bands, quality_bands),
    Question("error_versus_discard", 2, _our_discard, error_versus_discard),
    Question("drift", 2, _our_drift, drift),
    Question("drift_over_time", 2, _our_drift_over_time, drift_over_time),
)  # fmt: skip
