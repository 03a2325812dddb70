"""Labelled rows: which are comparisons, which are a fair sample, and where the labels are not one.

Labels are rarely random: fraud cases, complaints, or the accepted only. A rate on such labels is
wrong by any amount (on accepted rows alone every FNMR is 0), so rows and labels are counted per
score band and per verdict, and `selection` names the regimes whose labels carry no rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.analysis.base.rows import OPTIONAL, complete, scored, withheld
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_COLUMNS

BANDS = ("< 1e-3", "1e-3 to 1e-4", "1e-4 to 1e-5", "1e-5 to 1e-6", ">= 1e-6", "withheld")
"""Score bands between the row's own thresholds, named by the vendor's levels."""

UNBANDED, NOT_COMPARED = len(BANDS), len(BANDS) + 1
SELECTED = "selected_labels"
"""Reason of a rate that is not given because the labels are a selection."""

TAKEN_AS_RANDOM = "labels taken as random"
"""Note of rates that the caller wants although the labels look like a selection."""

MOST_UNEVEN = 2.0
"""Labelled shares that differ by more than this factor are a selection."""


# ------------------------------------------------------------------ labelled rows


def compared_rows(
    truth: Any, columns: Sequence[str] = (), optional: Sequence[str] = ()
) -> nw.LazyFrame[Any]:
    """Take rows with what a comparison needs, and the flags `_scored` and `_withheld`.

    A frame that comes from elsewhere may have only scores: without a column `code` every row with a
    score is taken as answered, and none as withheld.
    """
    lazy_rows(truth, ["score", *columns])  # refuses what is no frame, or lacks them
    has_code = "code" in nw.from_native(truth).collect_schema().names()
    extra = [*OPTIONAL, "sub_code", "code", *THRESHOLD_COLUMNS, *optional]
    frame = lazy_rows(truth, ["score", *columns], [c for c in extra if c not in columns])
    has_score = ~nw.col("score").is_null()
    return frame.with_columns(
        _scored=scored() if has_code else has_score,
        _withheld=withheld() if has_code else (has_score & ~has_score),
    )


def labelled_rows(
    truth: Any, columns: Sequence[str] = (), optional: Sequence[str] = ()
) -> nw.LazyFrame[Any]:
    """`compared_rows` with boolean `mated`, text `attack`, `_bona_fide`, `_drawn`, float `_chance`.

    `_bona_fide`: compared, mated known, no attack, drawn. Only such rows make FMR and FNMR. When
    some rows were drawn with a known probability, only those are the sample (`_drawn`, else true
    everywhere): a reported fraud case is no draw.
    """
    wanted = [c for c in ("attack", "inclusion_prob", *optional) if c not in columns]
    frame = compared_rows(truth, ["mated", *columns], wanted)
    if frame.collect_schema()["mated"] == nw.String:  # so is a column of nulls only
        texts = frame.select("mated").filter(~nw.col("mated").is_null()).head(1)
        if len(texts.collect(backend="pyarrow")):  # "yes" is true to some engines, else an error
            raise UsageError("column mated holds text; true, false or null is needed")
    given = nw.col("inclusion_prob").cast(nw.Float64)
    chance = nw.when((given > 0) & (given < float("inf"))).then(given)  # NaN is above all numbers
    frame = frame.with_columns(nw.col("mated").cast(nw.Boolean), _chance=chance)
    drawn = nw.lit(value=True)
    if "inclusion_prob" in nw.from_native(truth).collect_schema().names():
        some = frame.select("_chance").filter(~nw.col("_chance").is_null()).head(1)
        drawn = ~nw.col("_chance").is_null() if len(some.collect(backend="pyarrow")) else drawn
    return frame.with_columns(_drawn=drawn).with_columns(
        _bona_fide=(nw.col("_scored") | nw.col("_withheld"))
        & ~nw.col("mated").is_null()
        & nw.col("attack").is_null()
        & nw.col("_drawn")
    )


def band() -> nw.Expr:
    """Number of the score band, an index of `BANDS`, `UNBANDED` or `NOT_COMPARED`."""
    reached = nw.lit(0)
    for name in THRESHOLD_COLUMNS:
        reached = reached + (nw.col("score") >= nw.col(name)).fill_null(value=False).cast(nw.Int64)
    placed = nw.when(complete()).then(reached).otherwise(UNBANDED)
    compared = nw.when(nw.col("_withheld")).then(len(BANDS) - 1).otherwise(NOT_COMPARED)
    return nw.when(nw.col("_scored")).then(placed).otherwise(compared).cast(nw.Int64)


_UNLABELLED, _ATTACK, _MATED, _NONMATED, _OTHER = range(5)


def label_class() -> nw.Expr:
    """Number of what the label says: an engine groups by it, `class_counts` reads it."""
    bona_fide = nw.when(nw.col("mated")).then(_MATED).otherwise(_NONMATED)
    known = nw.when(nw.col("_bona_fide")).then(bona_fide).otherwise(_OTHER)
    named = nw.when(nw.col("mated").is_null()).then(_UNLABELLED).otherwise(known)
    return nw.when(nw.col("attack").is_null()).then(named).otherwise(_ATTACK).cast(nw.Int64)


def sample_counts() -> dict[str, nw.Expr]:
    """Counts that `class_counts` spreads."""
    chance = nw.col("_chance")
    return {"n_rows": chance.is_null() | ~chance.is_null(), "n_drawn": ~chance.is_null()}


def class_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Spread `n_rows` of a table with `_class` into what is labelled, and how.

    `n_drawn` keeps the drawn rows whose label says something, `n_with_chance` those of FMR and
    FNMR.
    """
    kind, n = table.pop("_class").astype("int64"), table["n_rows"]
    table["n_labelled"] = n.where(kind != _UNLABELLED, 0)
    table["n_mated"] = n.where(kind == _MATED, 0)
    table["n_nonmated"] = n.where(kind == _NONMATED, 0)
    table["n_attacks"] = n.where(kind == _ATTACK, 0)
    table["n_with_chance"] = table["n_drawn"].where(kind.isin([_MATED, _NONMATED]), 0)
    table["n_drawn"] = table["n_drawn"].where(kind != _UNLABELLED, 0)
    return table


def selection(table: pd.DataFrame) -> dict[str, str]:
    """Return `SELECTED` for each regime whose labels are a selection, else an empty text.

    Notes
    -----
    A selection shows when a score band, or a verdict among the compared rows, has no label at all,
    or when labelled shares differ more than `MOST_UNEVEN` times. Rows chosen with known probability
    are weighted and their shares may differ; yet no weight makes up for a band or a verdict of
    which nothing was drawn.
    """
    verdicts = {}
    for regime, part in table.groupby("regime"):
        n_bona_fide = part["n_mated"].sum() + part["n_nonmated"].sum()
        weighted = n_bona_fide > 0 and part["n_with_chance"].sum() == n_bona_fide
        compared, selected = part[part["_band"] != NOT_COMPARED], False
        for key in ("_band", "result"):
            sums = compared[compared[key].notna()].groupby(key).sum(numeric_only=True)
            shares = sums["n_labelled"] / sums["n_rows"]
            uneven = len(shares) > 0 and shares.max() > MOST_UNEVEN * shares.min()
            selected |= bool((sums["n_drawn"] == 0).any() if weighted else uneven)
        verdicts[str(regime)] = SELECTED if selected else ""
    return verdicts


def coverage_table(truth: Any) -> pd.DataFrame:
    """Count rows by regime, score band and verdict, with what is labelled."""
    frame = labelled_rows(truth, optional=["result"])
    frame = frame.with_columns(_band=band(), _class=label_class())
    table = group_counts(frame, [*REGIME, "_band", "result", "_class"], counts=sample_counts())
    return by_band(class_counts(table))


def by_band(table: pd.DataFrame, keys: Sequence[str] = ()) -> pd.DataFrame:
    """Name the regimes of a count table over (REGIME, `_band`, `result`, …)."""
    table = name_regimes(table)
    table["result"] = table["result"].where(table["result"] != "unknown").astype("boolean")
    table["_band"] = table["_band"].astype("int64")
    spare = [c for c in REGIME if c not in keys]
    return add_up(table.drop(columns=spare), [*keys, "regime", "_band", "result"])
