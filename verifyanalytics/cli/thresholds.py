"""The verb `thresholds`: the decision table, printed for a person regime by regime."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from verifyanalytics.cli.options import StoreOption, TableOutput, flag, option
from verifyanalytics.cli.output import (
    clean,
    number,
    print_error,
    print_frame,
    print_note,
    print_table,
)
from verifyanalytics.cli.store import open_store
from verifyanalytics.errors import LabelsError

if TYPE_CHECKING:
    import pandas as pd

    from verifyanalytics.store.store import Store


@dataclass(frozen=True)
class Deciding:
    """The rows and the assumptions of the table."""

    at: list[float] | None = option(
        None, "SCORE", "A threshold; may be repeated. Default: the vendor's."
    )
    store: StoreOption = None
    since: str | None = option(None, "TIME", "From this time on; without a zone UTC.")
    until: str | None = option(None, "TIME", "Before this time; without a zone UTC.")
    impostor_share: float | None = option(
        None, "SHARE", "Your assumption: at most this share are strangers."
    )
    with_labels: bool = option(
        True, None, "Use the stored labels, if there are any.", "--labels/--no-labels"
    )
    conflict: str = option("raise", "raise|latest|majority|drop", "Where labellers differ.")
    assume_random: bool = flag(
        "--assume-random", "Take the labels as a random sample; it is printed."
    )


def thresholds(
    *,
    options: Deciding,
    output: TableOutput,
) -> int:
    """Print the decision table: what each threshold lets pass, turns away and risks."""
    from verifyanalytics.analysis.scores.decisions import decision_table

    store = open_store(options.store)
    period: dict[str, Any] = {"since": options.since, "until": options.until}
    table_of = partial(
        decision_table, store.scan(**period), options.at or None,
        impostor_share=options.impostor_share, assume_random=options.assume_random,
    )  # fmt: skip
    try:
        table = table_of(_truth(store, options.conflict, period) if options.with_labels else None)
    except LabelsError as error:  # the rest of the table needs none
        print_error(f"the labels are left out: {error}")
        table = table_of()
    if output.for_person:
        _print_decisions(table)
    else:
        print_frame(table, as_json=output.as_json, as_csv=output.as_csv)
    print_note(f"{number(len(table))} rows", quiet=output.quiet)
    return 0


def _truth(store: Store, conflict: str, period: dict[str, Any]) -> Any:
    """Return the verifications with their labels; None if none of them is labelled."""
    from verifyanalytics.analysis.labels.joining import join as join_labels

    given = store.read("labels")
    if given.empty:
        return None
    ids = store.read("verifications", columns=["request_id", "token"], **period)
    named = given["request_id"].isin(ids["request_id"])
    named |= given["token"].isin(ids["token"].dropna())
    return join_labels(store.scan(**period), given, conflict) if named.any() else None  # type: ignore[arg-type]


# ------------------------------------------------------------------ the table for a person


def _print_decisions(table: pd.DataFrame) -> None:
    rated = table[table["reason"] == ""]
    if rated.empty:
        print("no answer has four rising thresholds: there is nothing to decide")
    for regime, part in rated.groupby("regime", sort=False):
        first = part.iloc[0]
        counted = f"{number(int(first['n']))} compared, {number(int(first['n_withheld']))} of them "
        print(f"{clean(str(regime))}: {counted}with a withheld score; "
              f"{number(int(first['n_without_score']))} answered without a score")  # fmt: skip
        agreed = float(first["gates_reproduce_result"])
        if agreed < 0.99:
            print(f"  the documented rule (today) gives the vendor's result in {agreed:.1%} of "
                  "rows: something else decides too")  # fmt: skip
        names = list(_line(first, table))
        print_table(names, [list(_line(row, table).values()) for _, row in part.iterrows()])
        print()
    _print_notes(table, rated)


def _line(row: Any, table: pd.DataFrame) -> dict[str, str]:
    today = " (today)" if row["today"] else ""
    line = {
        "threshold": f"{row['threshold']:g}{today}",
        "claimed FMR": row["claim_says"],
        "match rate": f"{row['match_rate']:.2%} "
                      f"[{row['match_rate_low']:.2%}, {row['match_rate_high']:.2%}]",
        "more turned away": f"{int(row['n_more_turned_away']):+d}",
        "false matches <=": _by_k(row, table, "false_matches_high", "{:.0f}"),
        "FNMR, no labels": f"{_by_k(row, table, 'fnmr_bound_low', '{:.2%}')} "
                           f"to {row['fnmr_bound_high']:.2%}",
    }  # fmt: skip
    if "fmr" in table:
        line["FMR, labels"] = _labelled(row, "fmr", "n_false_matches", "n_nonmated")
        line["FNMR, labels"] = _labelled(row, "fnmr", "n_false_nonmatches", "n_mated")
    return line


def _by_k(row: Any, table: pd.DataFrame, name: str, form: str) -> str:
    values = [row[c] for c in table if c.startswith(f"{name}_k")]
    if all(math.isnan(value) for value in values):
        return "not bounded"
    words = [form.format(value) for value in values]
    return words[0] if "%" in words[0] and len({*words}) == 1 else " / ".join(words)


def _labelled(row: Any, rate: str, events: str, of: str) -> str:
    if row["label_reason"]:
        return str(row["label_reason"]).replace("_", " ")
    counted = f"{row[events]} of {number(int(row[of]))}"
    return f"{row[f'{rate}_says']} [{row[f'{rate}_low']:.2g}, {row[f'{rate}_high']:.2g}], {counted}"


def _print_notes(table: pd.DataFrame, rated: pd.DataFrame) -> None:
    incomplete = table[table["reason"] != ""]
    n_left = int((incomplete["n"] - incomplete["n_withheld"] + incomplete["n_without_score"]).sum())
    notes = [
        "more turned away: rows, against the regime's own 1e-4; owners and strangers alike",
        "a / b / c: if false matches are 1, 3 or 10 times as frequent as the vendor claims",
        f"false matches: {rated['covers'].iloc[0]}" if len(rated) else "",
        "brackets: 95 % intervals; '< …': no error was found, and this much cannot be ruled out",
        f"{number(n_left)} answered rows have no complete thresholds and are in no line"
        if n_left else "",
    ]  # fmt: skip
    if "label_note" in table:
        weighted = bool(table["weighted"].fillna(value=False).any())
        notes.append("labels: rows weighted by their inclusion_prob" if weighted else "")
        notes += sorted(set(table["label_note"]))
        if (table["label_reason"] == "selected_labels").any():
            notes.append(
                "selected labels: they are no random choice, so no rate is given; "
                "--assume-random takes them as one"
            )
    for line in filter(None, notes):
        print(clean(line))
