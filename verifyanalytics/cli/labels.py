"""Verbs for deciding: `labels` brings ground truth in, `thresholds` prints the decision table."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verifyanalytics.cli.options import (
    CsvOption,
    JsonOption,
    MaxRejected,
    MaxRejectedOption,
    QuietOption,
    StoreOption,
)
from verifyanalytics.cli.output import clean, complain, note, number, print_frame, print_json
from verifyanalytics.cli.output import print_table as print_rows
from verifyanalytics.cli.store import open_store
from verifyanalytics.errors import InputError, LabelsError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from verifyanalytics.store.store import Store

app = typer.Typer()

MAX_TOLD = 20
"""Refused lines told on stderr; `--json` has them all."""


@app.command()
def labels(
    path: Annotated[str, typer.Argument(metavar="FILE", help="CSV or Parquet with ground truth.")],
    store: StoreOption = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A column to leave out; may be repeated."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse labels that name no stored answer.")
    ] = False,
    max_rejected: MaxRejectedOption = "0",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Read ground truth into the store; reading a file again adds nothing."""
    from verifyanalytics.importing.labels import import_labels

    bound = MaxRejected.parse(max_rejected)
    summary = import_labels(path, store, ignore=ignore or [], strict=strict)
    for refusal in summary.refusals[:MAX_TOLD]:
        complain(str(refusal))
    if (more := len(summary.refusals) - MAX_TOLD) > 0:
        complain(f"{more} more rows are refused; --json lists them all")
    if as_json:
        print_json(summary.to_dict())
    elif not quiet:
        print(clean(str(summary)))
    too_many = bound.exceeded(rejected=summary.refused, read=summary.read)
    return InputError.exit_code if too_many else 0


@app.command()
def thresholds(
    at: Annotated[
        list[float] | None,
        typer.Option(metavar="SCORE", help="A threshold; may be repeated. Default: the vendor's."),
    ] = None,
    store: StoreOption = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From this time on; without a zone UTC.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Before this time; without a zone UTC.")
    ] = None,
    impostor_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Your assumption: at most this share are strangers."),
    ] = None,
    with_labels: Annotated[
        bool, typer.Option("--labels/--no-labels", help="Use the stored labels, if there are any.")
    ] = True,
    conflict: Annotated[
        str,
        typer.Option(metavar="raise|latest|majority|drop", help="Where labellers differ."),
    ] = "raise",
    assume_random: Annotated[
        bool,
        typer.Option("--assume-random", help="Take the labels as a random sample; it is printed."),
    ] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    quiet: QuietOption = False,
) -> int:
    """Print the decision table: what each threshold lets pass, turns away and risks."""
    from verifyanalytics.analysis.scores.decisions import decision_table

    if as_json and as_csv:
        raise UsageError("--json and --csv: give one of them")
    source = open_store(store)
    period: dict[str, Any] = {"since": since, "until": until}
    table_of = partial(decision_table, source.scan(**period), at or None,
                       impostor_share=impostor_share, assume_random=assume_random)  # fmt: skip
    try:
        table = table_of(_truth(source, conflict, period) if with_labels else None)
    except LabelsError as error:  # the rest of the table needs none
        complain(f"the labels are left out: {error}")
        table = table_of()
    if as_json or as_csv:
        print_frame(table, as_json=as_json, as_csv=as_csv)
    else:
        _print_table(table)
    note(f"{number(len(table))} rows", quiet=quiet)
    return 0


def _truth(store: Store, conflict: str, period: dict[str, Any]) -> Any:
    """Give the verifications with their labels; None where none of them is labelled."""
    from verifyanalytics.analysis.labels.joining import join as join_labels

    given = store.read("labels")
    if given.empty:
        return None
    ids = store.read("verifications", columns=["request_id", "token"], **period)
    named = given["request_id"].isin(ids["request_id"])
    named |= given["token"].isin(ids["token"].dropna())
    return join_labels(store.scan(**period), given, conflict) if named.any() else None  # type: ignore[arg-type]


# ------------------------------------------------------------------ the table for a person


def _print_table(table: pd.DataFrame) -> None:
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
        print_rows(names, [list(_line(row, table).values()) for _, row in part.iterrows()])
        print()
    _print_notes(table, rated)


def _line(row: Any, table: pd.DataFrame) -> dict[str, str]:
    today = " (today)" if row["today"] else ""
    line = {
        "threshold": f"{row['threshold']:g}{today}",
        "claimed FMR": row["claim_says"],
        "match rate": _interval(row, "match_rate"),
        "more turned away": f"{int(row['n_more_turned_away']):+d}",
        "false matches <=": _by_k(row, table, "false_matches_high", "{:.0f}"),
        "FNMR, no labels": f"{_by_k(row, table, 'fnmr_bound_low', '{:.2%}')} "
                           f"to {row['fnmr_bound_high']:.2%}",
    }  # fmt: skip
    if "fmr" in table:
        line["FMR, labels"] = _labelled(row, "fmr", "n_false_matches", "n_nonmated")
        line["FNMR, labels"] = _labelled(row, "fnmr", "n_false_nonmatches", "n_mated")
    return line


def _interval(row: Any, name: str) -> str:
    return f"{row[name]:.2%} [{row[f'{name}_low']:.2%}, {row[f'{name}_high']:.2%}]"


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
