"""With labels: what the whole service does, to attacks and to transactions, not to scores alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd

from verifyanalytics.analysis.accuracy.operating import UNEQUAL
from verifyanalytics.analysis.base.groups import group_counts
from verifyanalytics.analysis.base.labelled import (
    SELECTED,
    TAKEN_AS_RANDOM,
    coverage_table,
    labelled_rows,
    selection,
)
from verifyanalytics.analysis.base.persons import (
    NO_PERSON,
    Sums,
    person_keys,
    person_moments,
    person_sums,
)
from verifyanalytics.analysis.base.rates import rate_with_limits
from verifyanalytics.analysis.base.rows import (
    GATES,
    NO_GATE,
    OPTIONAL,
    REQUIRED,
    SOME_UNKNOWN,
    first_gate,
    gate,
    gate_pattern,
)
from verifyanalytics.analysis.base.sessions import GAP, attempts
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.codebook.book import current
from verifyanalytics.errors import UsageError

_OPTIONAL = (*OPTIONAL, "risk_score", "subject", "label_token")

_LEAST, _MOST = {"_least": nw.col("_chance")}, {"_most": nw.col("_chance")}


class Line(NamedTuple):
    """One rate of a long table: what it is of, its counts, and the persons behind them."""

    about: tuple[str, ...]
    n_events: int
    n_rows: int
    n_undecided: int
    sums: Sums
    terms: Terms


class Terms(NamedTuple):
    """On which terms a rate is given: weighted or not, why not at all, by whose consent."""

    weighted: bool
    reason: str
    note: str

    @classmethod
    def of(cls, reason: str, *, weighted: bool, assume_random: bool) -> Terms:
        """Return those of labels with a reason against them, which the caller may overrule."""
        note = TAKEN_AS_RANDOM if reason and assume_random else ""
        return cls(weighted, "" if assume_random else reason, note)


# ------------------------------------------------------------------ attacks

_MEASURES = (
    ("APCER", "n_taken_for_live", "n_attacks_decided", "attacks of the species, decided"),
    ("APNRR", "n_attacks_undecided", "n_attacks", "attacks of the species"),
    ("IAPAR", "n_accepted", "n_attacks", "attacks of the species"),
    ("BPCER", "n_taken_for_attack", "n_bona_fide_decided", "bona fide rows, decided"),
    ("BPNRR", "n_bona_fide_undecided", "n_bona_fide", "bona fide rows"),
)
"""Measure, its events, its base, and the base in words."""

_BONA_FIDE, _ATTACK = "bona fide", "attack "


@statistic("accuracy.detection_rates")
def detection_rates(
    truth: Any, cluster: str | None = "subject", *, assume_random: bool = False
) -> pd.DataFrame:
    """How liveness separates attacks from bona fide rows, per species of attack.

    Parameters
    ----------
    truth : frame
        From `join_labels`, with `attack` and `alive`.
    cluster, assume_random
        See `error_rates`.

    Returns
    -------
    DataFrame
        Long: `measure`, `species`, `denominator` in words, `n_errors`, `n_rows`, `rate` with 95 %
        limits, `weighted`, `reason`, `note`. APCER (attacks that liveness took for live, of those
        it decided) per species and its `maximum`; APNRR (attacks it did not decide, of all); BPCER
        and BPNRR the same for bona fide rows (mated, no attack); IAPAR (attacks that matched and
        were accepted, of all) per species and its maximum. The maximum is over species, with the
        limits of that species alone.

    Raises
    ------
    UsageError
        No row is labelled as an attack.

    Notes
    -----
    As in `error_rates`, rows drawn with unequal probability are weighted, repeated tries widen the
    limits, and labels that are a selection give no rate. Attacks that were reported while other
    rows were drawn are such a selection: they count only where no attack was drawn.

    References
    ----------
    ISO/IEC 30107-3:2023, clauses 13.2 and 13.4.

    See Also
    --------
    transaction_rates, error_rates

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> truth = pd.DataFrame([row | {"mated": True}, row | {"attack": "print"},
    ...                       row | {"attack": "print", "alive": False, "result": False}])
    >>> found = detection_rates(truth)[["measure", "species", "n_errors", "n_rows", "rate"]]
    >>> found.head(3)
      measure species  n_errors  n_rows  rate
    0   APCER   print         1       2   0.5
    1   APNRR   print         0       2   0.0
    2   IAPAR   print         1       2   0.5
    """
    frame = _sample(truth, cluster)
    attacked = ~nw.col("attack").is_null()
    held = group_counts(frame.filter(attacked), ["_drawn"], counts={"n": None})
    if held.empty:
        raise UsageError("no row is labelled as an attack: give labels with attack (its species)")
    reported = not held["_drawn"].any()
    if not reported:
        frame = frame.filter(nw.col("_drawn"))
    flags = _presentations(attacked)
    kind = nw.when(attacked).then(nw.concat_str([nw.lit(_ATTACK), nw.col("attack")]))
    frame = frame.filter(flags["n_attacks"] | flags["n_bona_fide"])
    frame = frame.with_columns(_kind=kind.otherwise(nw.lit(_BONA_FIDE)))
    table = group_counts(frame, ["_kind"], counts=flags, least=_LEAST, most=_MOST)
    weighted = _unequal(table)
    sums = _event_sums(
        frame.with_columns(nw.col("_chance").fill_null(1.0)),  # a reported row stands for itself
        "_kind",
        {base: flags[base] for _, _, base, _ in _MEASURES},
        {x: (base, flags[x]) for _, x, base, _ in _MEASURES},
        person_keys(truth, cluster),
        weighted=weighted,
    )
    selected = _selected(truth)
    terms, of_attacks = (
        Terms.of(reason, weighted=weighted, assume_random=assume_random)
        for reason in (selected, SELECTED if reported else selected)
    )
    lines = [
        Line(
            (measure, row["_kind"].removeprefix(_ATTACK), words),
            row[x], row[base], 0, sums.get((row["_kind"], x), NO_PERSON),
            terms if row["_kind"] == _BONA_FIDE else of_attacks,
        )
        for measure, x, base, words in _MEASURES
        for row in table.to_dict("records")
        if (row["_kind"] == _BONA_FIDE) == base.startswith("n_bona_fide")
    ]  # fmt: skip
    result = _rated(lines, ("measure", "species", "denominator"))
    result = result.rename(columns={"n_events": "n_errors"}).drop(columns="n_undecided")
    tops = [_maximum(result, measure) for measure in ("APCER", "IAPAR")]
    result = pd.concat([result, *tops], ignore_index=True)
    return result.astype({"n_errors": "int64", "n_rows": "int64"})


def _presentations(attacked: nw.Expr) -> dict[str, nw.Expr]:
    """What a presentation is, and what became of it."""
    decided = ~nw.col("alive").is_null()
    live = nw.col("alive").fill_null(value=False)
    matched = gate("match").fill_null(value=False) & nw.col("result").fill_null(value=False)
    mated = ~attacked & nw.col("_drawn") & nw.col("mated").fill_null(value=False)
    return {
        "n_attacks": attacked,
        "n_attacks_decided": attacked & decided,
        "n_attacks_undecided": attacked & ~decided,
        "n_taken_for_live": attacked & live,
        "n_accepted": attacked & matched,
        "n_bona_fide": mated,
        "n_bona_fide_decided": mated & decided,
        "n_bona_fide_undecided": mated & ~decided,
        "n_taken_for_attack": mated & decided & ~live,
    }


def _maximum(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    mine = table[(table["measure"] == measure) & table["rate"].notna()]
    top = mine.sort_values(["rate", "rate_high"], ascending=False).head(1)
    return top.assign(species="maximum, " + top["species"]).astype({"species": "str"})


# ------------------------------------------------------------------ transactions


@statistic("accuracy.transaction_rates")
def transaction_rates(
    truth: Any,
    gap: str = GAP,
    cluster: str | None = "subject",
    *,
    assume_random: bool = False,
) -> pd.DataFrame:
    """FRR and FAR of whole transactions: mated rejected, non-mated accepted, split by gate.

    Parameters
    ----------
    truth : frame
        From `join_labels`.
    gap : str
        Longest pause within a session.
    cluster : str or None
        Who made the row; see `error_rates`.
    assume_random : bool
        Take the labels as a random sample although they do not look like one.

    Returns
    -------
    DataFrame
        Long: `unit` (`row`; `session` where subjects are known: all tries of one visit, accepted
        when one is), `measure`, `first_gate` (`all`, or the gate that turned the unit away; for a
        session that of its last try), `n_events`, `n_transactions` (with a verdict: the
        denominator), `n_undecided`, `rate` with limits, `weighted`, `reason`, `note`. FRR: mated
        units with result false; FAR: non-mated zero-effort units with result true. `FTA`: rows that
        failed to be compared, of mated answered rows without identity and internal fails; `FNMR` at
        the own 1e-4 threshold; `frr_comparison_only`: FTA + FNMR·(1 − FTA), what FRR would be if
        only the comparison spoke.

    Raises
    ------
    UsageError
        No row without attack is labelled.

    Notes
    -----
    Rows drawn with unequal probability are weighted as in `error_rates`. The probability of a
    session is unknown when its rows were drawn unequally: its rates are not given then
    (`unequal_inclusion`). Limits allow for persons with several rows or sessions.

    See Also
    --------
    detection_rates, error_rates, va.attempts.sessions

    Examples
    --------
    >>> row = {"code": 10000, "score": 85.0, "threshold_1e_3": 60.0, "threshold_1e_4": 70.0,
    ...        "threshold_1e_5": 80.0, "threshold_1e_6": 90.0, "alive": True, "result": True}
    >>> truth = pd.DataFrame([row | {"mated": True}, row | {"mated": True, "result": False},
    ...                       row | {"mated": False, "score": 30.0, "result": False}])
    >>> found = transaction_rates(truth)[["measure", "n_events", "n_transactions", "rate"]]
    >>> found[found["measure"].isin(["FAR", "FNMR"])]
      measure n_events n_transactions  rate
    2     FAR        0              1   0.0
    4    FNMR        0              2   0.0
    """
    known = ~nw.col("mated").is_null() & nw.col("attack").is_null() & nw.col("_drawn")
    frame = _sample(truth, cluster).filter(known)
    frame = frame.with_columns(_pattern=gate_pattern(), _stage=_stage())
    keys = ["mated", "result", "_pattern", "_stage"]
    table = group_counts(frame, keys, counts={"n": None}, least=_LEAST, most=_MOST)
    if table.empty:
        raise UsageError("no transaction without attack is labelled")
    table["_pattern"] = table["_pattern"].astype("int64")
    table["first_gate"] = table["_pattern"].map(first_gate)
    table["result"] = table["result"].where(table["result"] != "unknown").astype("boolean")
    table["mated"] = table["mated"].astype(bool)
    weighted, selected = _unequal(table), _selected(truth)
    terms = Terms.of(selected, weighted=weighted, assume_random=assume_random)
    lines = _row_lines(frame, table, person_keys(truth, cluster), terms)
    if "subject" in _columns(truth):
        reason = selected or (UNEQUAL if weighted else "")
        terms = Terms.of(reason, weighted=False, assume_random=assume_random)
        lines += _session_lines(_session_table(truth, gap), terms)
    result = _rated(lines, ("unit", "measure", "first_gate"))
    return _with_comparison_only(result.rename(columns={"n_rows": "n_transactions"}))


def _row_lines(
    frame: nw.LazyFrame[Any], table: pd.DataFrame, persons: Mapping[str, nw.Expr], terms: Terms
) -> list[Line]:
    bases, events = _transactions(table)
    sums = _event_sums(frame, "mated", bases, events, persons, weighted=terms.weighted)
    lines = []
    for (measure, gate_), mated, x, n, undecided in _verdict_counts(table):
        held = sums.get((mated, gate_), NO_PERSON)
        lines.append(Line(("row", measure, gate_), x, n, undecided, held, terms))
    for name, x, n in _comparison_counts(table[table["mated"]]):
        lines.append(Line(("row", name, "all"), x, n, 0, sums.get((True, name), NO_PERSON), terms))
    return lines


def _session_lines(sessions: pd.DataFrame, terms: Terms) -> list[Line]:
    lines = []
    for (measure, gate_), mated, x, n, undecided in _verdict_counts(sessions):
        mine = sessions[(sessions["mated"] == mated) & sessions["result"].notna()]
        wrong = mine["result"] != mated
        at = wrong if gate_ == "all" else wrong & (mine["first_gate"] == gate_)
        held = person_moments(mine["subject"], np.ones(len(mine)), at.to_numpy(dtype=float))
        lines.append(Line(("session", measure, gate_), x, n, undecided, held, terms))
    return lines


def _transactions(
    table: pd.DataFrame,
) -> tuple[dict[str, nw.Expr], dict[str, tuple[str, nw.Expr]]]:
    """Each denominator of transactions, and each event with its base, as expressions."""
    pattern, stage = nw.col("_pattern"), nw.col("_stage")
    found = sorted({*table["_pattern"]})
    decided = ~nw.col("result").is_null()
    wrong = decided & (nw.col("result") != nw.col("mated")).fill_null(value=False)
    events = {"all": ("decided", wrong)}
    for name in sorted({*table["first_gate"]}):
        mine = pattern.is_in([p for p in found if first_gate(p) == name])
        events[name] = ("decided", wrong & mine)
    tried = pattern.is_in([p for p in found if _is_answered(p)]) & (stage != 2)
    known = pattern.is_in([p for p in found if _is_answered(p) and _match(p) is not None])
    failed = pattern.is_in([p for p in found if _is_answered(p) and _match(p) is False])
    events["FTA"], events["FNMR"] = ("tried", tried & (stage == 1)), ("matched", failed)
    return {"decided": decided, "tried": tried, "matched": known}, events


def _is_answered(pattern: int) -> bool:
    return not pattern & 1 << GATES.index("answered")


def _match(pattern: int) -> bool | None:
    """Whether the match gate passes; None where that is unknown."""
    fails = 1 << GATES.index("match")
    return None if pattern & fails << len(GATES) else not pattern & fails


def _verdict_counts(
    table: pd.DataFrame,
) -> Iterator[tuple[tuple[str, str], bool, int, int, int]]:
    """(Measure, gate), mated, events, units with a verdict, units without one."""
    for measure, mated in (("FRR", True), ("FAR", False)):
        mine = table[table["mated"] == mated]
        decided = mine[mine["result"].notna()]
        n, undecided = int(decided["n"].sum()), int(mine["n"].sum() - decided["n"].sum())
        events = decided[decided["result"] != mated]
        yield (measure, "all"), mated, int(events["n"].sum()), n, undecided
        for name in (*GATES, SOME_UNKNOWN, NO_GATE):
            x = int(events.loc[events["first_gate"] == name, "n"].sum())
            if x:
                yield (measure, name), mated, x, n, undecided


def _comparison_counts(mated: pd.DataFrame) -> Iterator[tuple[str, int, int]]:
    """FTA and FNMR: events and base."""
    answered = mated[mated["_pattern"].map(_is_answered)]
    base = answered[answered["_stage"] != 2]
    yield "FTA", int(base.loc[base["_stage"] == 1, "n"].sum()), int(base["n"].sum())
    match = answered["_pattern"].map(_match)
    failed = answered.loc[match.eq(False), "n"]
    yield "FNMR", int(failed.sum()), int(answered.loc[match.notna(), "n"].sum())


def _with_comparison_only(table: pd.DataFrame) -> pd.DataFrame:
    """Add what FRR would be if only the comparison spoke, after FNMR."""
    rows = table[table["unit"] == "row"].set_index("measure")
    fta, fnmr = rows.loc["FTA", "rate"], rows.loc["FNMR", "rate"]
    last = table.loc[table["measure"] == "FNMR"].copy()
    last["measure"], last["rate"] = "frr_comparison_only", fta + fnmr * (1 - fta)
    last[["n_events", "n_transactions", "n_undecided"]] = pd.NA
    last[["rate_low", "rate_high"]] = np.nan
    at = int(last.index[0]) + 1
    return pd.concat([table[:at], last, table[at:]], ignore_index=True).astype({"measure": "str"})


def _stage() -> nw.Expr:
    """Number of the sub-code's stage: 1 acquire, 2 identity or internal, 0 any other."""
    book = current()
    outside = [*book.sub_codes_in("identity"), *book.sub_codes_in("internal")]
    acquire = nw.col("sub_code").is_in(list(book.sub_codes_in("acquire"))).fill_null(value=False)
    out = nw.col("sub_code").is_in(outside).fill_null(value=False)
    return nw.when(acquire).then(1).otherwise(nw.when(out).then(2).otherwise(0)).cast(nw.Int64)


def _session_table(truth: Any, gap: str) -> pd.DataFrame:
    """Labelled sessions: mated when all their labelled rows are, non-mated when none is."""
    columns = ["subject", "mated", "result", "first_gate", "n"]
    if "occurred_at" not in _columns(truth):
        return pd.DataFrame(columns=columns)
    wanted = ["mated", *(c for c in ("attack", "inclusion_prob") if c in _columns(truth))]
    table = attempts(truth, gap, columns=wanted, filters=[~nw.col("subject").is_null()])
    if "attack" in table:
        attacked = table.groupby("session")["attack"].transform("count") > 0
        table = table[~attacked]
    table = table.assign(mated=table["mated"].astype("boolean"))
    if "inclusion_prob" in table and table["inclusion_prob"].notna().any():
        table["mated"] = table["mated"].where(table["inclusion_prob"].notna())
    grouped = table.groupby("session")
    known, yes = grouped["mated"].count(), grouped["mated"].sum()
    pure = (known > 0) & ((yes == 0) | (yes == known))
    decided = grouped["result"].count() > 0
    accepted = grouped["accepted"].any()
    result = pd.DataFrame(
        {
            "subject": grouped["subject"].first(),
            "mated": yes > 0,
            "result": accepted.astype("boolean").where(decided),
            "first_gate": grouped["first_gate"].last(),
        }
    )
    return result[pure].assign(n=1).reset_index(drop=True)


# ------------------------------------------------------------------ the sample and its rates


def _sample(truth: Any, cluster: str | None) -> nw.LazyFrame[Any]:
    own = [cluster] if cluster and cluster != "subject" else []
    return labelled_rows(
        truth, [*REQUIRED, "alive", "result", *own], [c for c in _OPTIONAL if c not in own]
    )


def _event_sums(
    frame: nw.LazyFrame[Any],
    by: str,
    bases: Mapping[str, nw.Expr],
    events: Mapping[str, tuple[str, nw.Expr]],
    persons: Mapping[str, nw.Expr],
    *,
    weighted: bool,
) -> dict[tuple[Any, str], Sums]:
    """Return the sums over persons of (key, event); none where no person is known."""
    if not (persons or weighted):
        return {}
    table = person_sums(frame, [by], persons, bases, events, weighted=weighted)
    return {
        (row[by], event): (
            *(row[c] for c in (f"{event}:y", f"{base}:m", f"{event}:yy", f"{event}:ym")),
            row[f"{base}:mm"],
            row[f"{base}:g"],
        )
        for row in table.to_dict("records")
        for event, (base, _) in events.items()
    }


def _unequal(table: pd.DataFrame) -> bool:
    """Tell whether the counted rows were drawn with different probabilities."""
    return bool(table["_least"].min() < table["_most"].max())


def _selected(truth: Any) -> str:
    """Return the reason of any regime whose labels are a selection."""
    return next((r for r in selection(coverage_table(truth)).values() if r), "")


def _rated(lines: Sequence[Line], names: Sequence[str]) -> pd.DataFrame:
    """Make the long table: counts, and rates with limits where there is no reason against them."""
    table = pd.DataFrame([line.about for line in lines], columns=list(names)).astype("str")
    counts = np.array([[x.n_events, x.n_rows, x.n_undecided] for x in lines], dtype="int64")
    for i, name in enumerate(("n_events", "n_rows", "n_undecided")):
        table[name] = pd.array(counts[:, i], dtype="Int64")
    x, n = counts[:, 0].astype(float), counts[:, 1].astype(float)
    terms = pd.DataFrame([line.terms for line in lines], columns=list(Terms._fields))
    terms = terms.astype({"reason": "str", "note": "str"})
    sums, rates = np.array([line.sums for line in lines]).T, np.full((len(lines), 3), np.nan)
    for weighted in (False, True):
        mine = ((terms["weighted"] == weighted) & (terms["reason"] == "")).to_numpy()
        found = rate_with_limits(x[mine], n[mine], sums[:, mine], weighted=weighted)
        rates[mine] = np.column_stack([found.rate, *found.limits(n[mine], upward=True)])
    table[["rate", "rate_low", "rate_high"]] = rates
    return pd.concat([table, terms], axis=1)


def _columns(truth: Any) -> list[str]:
    names: list[str] = nw.from_native(truth).collect_schema().names()
    return names
