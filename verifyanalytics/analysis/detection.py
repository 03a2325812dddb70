"""With labels: what the whole service does, to attacks and to transactions, not to scores alone."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.counts import GATES, gate, group_counts, rows
from verifyanalytics.analysis.intervals import rate_interval
from verifyanalytics.analysis.labels import coverage_table, selection
from verifyanalytics.analysis.patterns import NO_GATE, SOME_UNKNOWN, first_gate, gate_pattern
from verifyanalytics.analysis.sessions import GAP, attempts
from verifyanalytics.codebook import current
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

_NEEDED = ("code", "score", *THRESHOLD_COLUMNS, "alive", "result", "mated")
_WELCOME = ("gateway_code", "sub_code", "req_key", "risk_score", "attack")


def detection_rates(truth: Any) -> pd.DataFrame:
    """How liveness tells attacks from live people, per species of attack.

    Parameters
    ----------
    truth : frame
        From `join_labels`, with `attack` and `alive`.

    Returns
    -------
    DataFrame
        Long: `measure`, `species`, `n_errors`, `n_rows`, `denominator` in words, `rate` with 95 %
        limits. APCER (attacks that liveness took for live, of those it decided) per species and its
        `maximum`; APNRR (attacks it did not decide, of all); BPCER and BPNRR the same for bona fide
        rows (mated, no attack); IAPAR (attacks that matched and were accepted, of all) per species
        and its maximum. The maximum is over species, with the limits of that species alone.

    Raises
    ------
    UsageError
        No row is labelled as an attack.

    References
    ----------
    ISO/IEC 30107-3:2023, clauses 13.2 and 13.4.
    """
    frame = rows(truth, _NEEDED, _WELCOME)
    attacked, decided = ~nw.col("attack").is_null(), ~nw.col("alive").is_null()
    matched = gate("match").fill_null(value=False) & nw.col("result").fill_null(value=False)
    mated = nw.col("mated").cast(nw.Boolean).fill_null(value=False)
    counted = {
        "n_attacks": attacked,
        "n_attacks_decided": attacked & decided,
        "n_taken_for_live": attacked & nw.col("alive").fill_null(value=False),
        "n_accepted": attacked & matched,
        "n_bona_fide": ~attacked & mated,
        "n_bona_fide_decided": ~attacked & mated & decided,
        "n_taken_for_attack": ~attacked & mated & (~nw.col("alive")).fill_null(value=False),
    }
    table = group_counts(frame, ["attack"], counts=counted)
    species = table[table["n_attacks"] > 0]
    if species.empty:
        raise UsageError("no row is labelled as an attack: give labels with attack (its species)")
    found: list[tuple[str, str, int, int, str]] = []
    for measure, x, base, words in (
        ("APCER", "n_taken_for_live", "n_attacks_decided", "attacks of the species, decided"),
        ("APNRR", None, "n_attacks", "attacks of the species"),
        ("IAPAR", "n_accepted", "n_attacks", "attacks of the species"),
    ):
        for row in species.to_dict("records"):
            events = row[x] if x else row["n_attacks"] - row["n_attacks_decided"]
            found.append((measure, str(row["attack"]), events, row[base], words))
    n, decided_n = int(table["n_bona_fide"].sum()), int(table["n_bona_fide_decided"].sum())
    wrong = int(table["n_taken_for_attack"].sum())
    found.append(("BPCER", "bona fide", wrong, decided_n, "bona fide rows, decided"))
    found.append(("BPNRR", "bona fide", n - decided_n, n, "bona fide rows"))
    result = _rated(found)
    tops = [_maximum(result, measure) for measure in ("APCER", "IAPAR")]
    return pd.concat([result, *tops], ignore_index=True)


def _rated(found: list[tuple[str, str, int, int, str]]) -> pd.DataFrame:
    table = pd.DataFrame(found, columns=["measure", "species", "n_errors", "n_rows", "denominator"])
    table = table.astype({"n_errors": "int64", "n_rows": "int64"})
    low, high = rate_interval(table["n_errors"], table["n_rows"])
    table["rate"] = (table["n_errors"] / table["n_rows"].where(table["n_rows"] > 0)).astype(float)
    for name in ("measure", "species", "denominator"):
        table[name] = table[name].astype("str")
    return table.assign(rate_low=low, rate_high=high)


def _maximum(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    mine = table[(table["measure"] == measure) & table["rate"].notna()]
    top = mine.sort_values(["rate", "rate_high"], ascending=False).head(1)
    return top.assign(species="maximum, " + top["species"]).astype({"species": "str"})


def transaction_rates(truth: Any, gap: str = GAP, *, assume_random: bool = False) -> pd.DataFrame:
    """What owners and strangers met in the end: FRR and FAR of transactions, split by gate.

    Parameters
    ----------
    truth : frame
        From `join_labels`.
    gap : str
        Longest pause within a session.
    assume_random : bool
        Take the labels as a random sample although they do not look like one.

    Returns
    -------
    DataFrame
        Long: `unit` (`row`; `session` where subjects are known: all tries of one visit, accepted
        when one is), `measure`, `first_gate` (`all`, or the gate that turned the unit away; for a
        session that of its last try), `n_events`, `n_transactions` (with a verdict: the
        denominator), `n_undecided`, `rate` with limits, `reason`, `note`. FRR: mated units with
        result false; FAR: non-mated zero-effort units with result true. `FTA`: rows that failed to
        be compared, of mated answered rows without identity and internal fails; `FNMR` at the own
        1e-4 threshold;
        `frr_comparison_only`: FTA + FNMR·(1 − FTA), what FRR would be if only the comparison spoke.

    Raises
    ------
    UsageError
        No row without attack is labelled.
    """
    frame = rows(truth, _NEEDED, [*_WELCOME, "subject"])
    used = ~nw.col("mated").is_null() & nw.col("attack").is_null()
    table = group_counts(
        frame.filter(used).with_columns(_pattern=gate_pattern(), _stage=_stage()),
        ["mated", "result", "_pattern", "_stage"],
        counts={"n": ~nw.col("mated").is_null()},
    )
    if table.empty:
        raise UsageError("no transaction without attack is labelled")
    table["first_gate"] = table["_pattern"].astype("int64").map(first_gate)
    table["result"] = table["result"].where(table["result"] != "unknown").astype("boolean")
    table["mated"] = table["mated"].astype(bool)
    found = [*_errors("row", table), *_comparison_only(table)]
    if "subject" in _columns(truth):
        by_session = _session_table(truth, gap)
        if len(by_session):
            found += _errors("session", by_session)
    names = ["unit", "measure", "first_gate", "n_events", "n_transactions", "n_undecided", "rate"]
    result = pd.DataFrame(found, columns=names)
    low, high = rate_interval(result["n_events"].fillna(0), result["n_transactions"].fillna(0))
    none = result["n_events"].isna()
    result = result.assign(
        rate_low=np.where(none, np.nan, low), rate_high=np.where(none, np.nan, high)
    )
    counts = ["n_events", "n_transactions", "n_undecided"]
    result[counts] = result[counts].astype("Int64")
    selected = next((r for r in selection(coverage_table(truth)).values() if r), "")
    if selected and not assume_random:
        result[["rate", "rate_low", "rate_high"]] = np.nan
    result["reason"] = "" if assume_random else selected
    result["note"] = "labels taken as random" if selected and assume_random else ""
    words = ["unit", "measure", "first_gate", "reason", "note"]
    return result.astype(dict.fromkeys(words, "str"))


def _stage() -> nw.Expr:
    """Number of the sub-code's stage: 1 acquire, 2 identity or internal, 0 any other."""
    book = current()
    outside = [*book.sub_codes_in("identity"), *book.sub_codes_in("internal")]
    acquire = nw.col("sub_code").is_in(list(book.sub_codes_in("acquire"))).fill_null(value=False)
    out = nw.col("sub_code").is_in(outside).fill_null(value=False)
    return nw.when(acquire).then(1).otherwise(nw.when(out).then(2).otherwise(0)).cast(nw.Int64)


def _errors(unit: str, table: pd.DataFrame) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for measure, mated, wrong in (("FRR", True, False), ("FAR", False, True)):
        mine = table[table["mated"] == mated]
        decided = mine[mine["result"].notna()]
        n, undecided = int(decided["n"].sum()), int(mine["n"].sum() - decided["n"].sum())
        events = decided[decided["result"] == wrong]
        total = int(events["n"].sum())
        found.append((unit, measure, "all", total, n, undecided, total / n if n else np.nan))
        for name in (*GATES, SOME_UNKNOWN, NO_GATE):
            x = int(events.loc[events["first_gate"] == name, "n"].sum())
            if x:
                found.append((unit, measure, name, x, n, undecided, x / n))
    return found


def _comparison_only(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    mated = table[table["mated"]]
    answered = mated[(mated["_pattern"] & 1) == 0]
    base = answered[answered["_stage"] != 2]
    fta_x, fta_n = int(base.loc[base["_stage"] == 1, "n"].sum()), int(base["n"].sum())
    match = 1 << GATES.index("match")
    known = answered[(answered["_pattern"] & (match << len(GATES))) == 0]
    fnm_x = int(known.loc[(known["_pattern"] & match) > 0, "n"].sum())
    fnm_n = int(known["n"].sum())
    fta = fta_x / fta_n if fta_n else np.nan
    fnmr = fnm_x / fnm_n if fnm_n else np.nan
    return [
        ("row", "FTA", "all", fta_x, fta_n, 0, fta),
        ("row", "FNMR", "all", fnm_x, fnm_n, 0, fnmr),
        ("row", "frr_comparison_only", "all", None, None, None, fta + fnmr * (1 - fta)),
    ]


def _session_table(truth: Any, gap: str) -> pd.DataFrame:
    """Labelled sessions: mated when all their labelled rows are, non-mated when none is."""
    if "occurred_at" not in _columns(truth):
        return pd.DataFrame()
    wanted = ["mated", *(c for c in ("attack",) if c in _columns(truth))]
    table = attempts(truth, gap, columns=wanted, filters=[~nw.col("subject").is_null()])
    if "attack" in table:
        attacked = table.groupby("session")["attack"].transform("count") > 0
        table = table[~attacked]
    table = table.assign(mated=table["mated"].astype("boolean"))
    grouped = table.groupby("session")
    told, yes = grouped["mated"].count(), grouped["mated"].sum()
    pure = (told > 0) & ((yes == 0) | (yes == told))
    decided = grouped["result"].count() > 0
    accepted = grouped["accepted"].any()
    result = pd.DataFrame(
        {
            "mated": (yes > 0)[pure],
            "result": accepted[pure].astype("boolean").where(decided[pure]),
            "first_gate": grouped["first_gate"].last()[pure],
        }
    )
    return result.assign(n=1).reset_index(drop=True)


def _columns(truth: Any) -> list[str]:
    names: list[str] = nw.from_native(truth).collect_schema().names()
    return names
