"""Ground truth beside the verifications: who labelled what, and which rows were never looked at.

Labels are rarely random: people label complaints, fraud cases, or the accepted only. A rate on such
labels is wrong by any amount (on accepted rows alone every FNMR is 0), so coverage is counted per
score band and per verdict before any error rate is given, and a selection is refused unless the
caller consents or gives the probabilities with which rows were chosen.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import add_up, group_counts
from verifyanalytics.analysis.base.intervals import rate_interval
from verifyanalytics.analysis.base.regimes import REGIME, name_regimes
from verifyanalytics.analysis.base.rows import OPTIONAL, complete, scored, withheld
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.errors import LabelsError, MissingColumnError, UsageError
from verifyanalytics.schema import LABELS, THRESHOLD_COLUMNS

Conflict = Literal["raise", "latest", "majority", "drop"]

FACTS = ("mated", "attack", "origin", "plan_id", "inclusion_prob", "labelled_at", "labeller")
"""What a label says, beside its key."""

ADDED = (*FACTS, "labelled", "label_token", "n_labels_unknown", "n_labels_conflicting", "kappa")
"""Columns that `join_labels` adds."""

BANDS = ("< 1e-3", "1e-3 to 1e-4", "1e-4 to 1e-5", "1e-5 to 1e-6", ">= 1e-6", "withheld")
"""Score bands between the row's own thresholds, named by the vendor's levels."""

_ID = "_label_id"  # a row's request_id as text

UNBANDED, NOT_COMPARED = len(BANDS), len(BANDS) + 1
_BAND_NAMES = (*BANDS, "scored", "not compared")

SELECTED = "selected_labels"
"""Reason of a rate that is not given because the labels are a selection."""

TAKEN_AS_RANDOM = "labels taken as random"
"""Note of rates that the caller wants although the labels look like a selection."""

MOST_UNEVEN = 2.0
"""Labelled shares that differ by more than this factor are a selection."""


# ------------------------------------------------------------------ joining


def join(v: Any, labels: Any, conflict: Conflict = "raise", *, strict: bool = False) -> Any:
    """Put ground truth beside the verifications; every row stays, labelled or not.

    Parameters
    ----------
    v : frame of verifications
    labels : frame of `labels`
        Keyed by request_id, or by token: such a label holds for every scored row of the token,
        which then count as one person. Needs `mated` or `attack`.
    conflict : {"raise", "latest", "majority", "drop"}
        What to do where different labellers differ. Of one labeller's labels the latest wins. A
        majority that is none drops the row's labels.
    strict : bool
        Refuse labels that name no row of the frame instead of counting them.

    Returns
    -------
    frame
        All rows and columns of `v` with `ADDED`: a lazy frame stays lazy in its engine, anything in
        memory becomes pandas. `n_labels_unknown` (labels that name no row), `n_labels_conflicting`
        (rows on which labellers differ) and Cohen's `kappa` (NaN without double labels) are the
        same in every row.

    Raises
    ------
    LabelsError
        No label names a row of the frame.
    UsageError
        Labellers differ and `conflict` is `raise`; an inclusion_prob outside (0, 1], a time or an
        id that is none.
    MissingColumnError

    Notes
    -----
    Ids are compared as text, whatever either side holds them as.
    """
    if conflict not in ("raise", "latest", "majority", "drop"):
        raise UsageError(f"conflict is raise, latest, majority or drop, not {conflict!r}")
    given = label_table(labels)
    if given.empty:
        raise LabelsError("there are no labels in the frame of labels")
    named = _name_rows(v, given)
    n_unknown = int((~given["_row"].isin(named["_row"])).sum())
    if named.empty or (strict and n_unknown):
        raise LabelsError(
            f"{n_unknown} of {len(given)} labels name no row of the frame: their request_id, or "
            "the token of a scored row, is not in it"
        )
    truth, n_conflicting, kappa = _resolve(_latest(named), conflict)
    truth = truth.assign(
        labelled=True, n_labels_unknown=n_unknown, n_labels_conflicting=n_conflicting, kappa=kappa
    )
    return _attach(v, truth[["request_id", *ADDED]])


def label_table(labels: Any) -> pd.DataFrame:
    """Read a frame of `labels`: every column of `LABELS`, ids and words as text, times UTC."""
    frame = _label_frame(labels)
    names = frame.collect_schema().names()
    if not {"request_id", "token"} & {*names}:
        raise MissingColumnError(["request_id"], names)
    if not {"mated", "attack"} & {*names}:
        raise MissingColumnError(["mated"], names)
    eager = frame.collect(backend="pyarrow") if isinstance(frame, nw.LazyFrame) else frame
    given = eager.to_pandas()
    for name in LABELS.names:
        if name not in given:
            given[name] = None
    given = given[list(LABELS.names)].reset_index(drop=True)
    for name in ("request_id", "token", "attack", "origin", "plan_id", "labeller"):
        given[name] = texts(given[name])
    given["mated"] = yes_or_no(given["mated"])
    given["inclusion_prob"] = _chances(given["inclusion_prob"])
    given["labelled_at"] = _times(given["labelled_at"])
    return given.assign(_row=np.arange(len(given)))


def _label_frame(labels: Any) -> nw.DataFrame[Any] | nw.LazyFrame[Any]:
    try:
        frame: nw.DataFrame[Any] | nw.LazyFrame[Any] = nw.from_native(labels)
    except TypeError:
        raise UsageError(f"a {type(labels).__name__} is no frame of labels") from None
    return frame


def texts(column: pd.Series) -> pd.Series:
    """Give ids and words as text: an id that was read as a whole number has its digits."""
    if pd.api.types.is_float_dtype(column) and column.notna().any():
        raise UsageError(f"{column.name} holds fractions: ids were rounded; read them as text")
    texts = column.astype("string").astype(object)
    return texts.where(column.notna(), None)


def _chances(column: pd.Series) -> pd.Series:
    try:
        chance = column.astype("float64")
    except (TypeError, ValueError):
        raise UsageError("an inclusion_prob is a number in (0, 1]") from None
    if ((chance <= 0) | (chance > 1)).any():
        raise UsageError("an inclusion_prob lies in (0, 1]")
    return chance


def _times(column: pd.Series) -> pd.Series:
    try:
        if pd.api.types.is_numeric_dtype(column) and column.notna().any():
            raise ValueError  # 20240601 would become a moment of 1970
        return pd.to_datetime(column, utc=True).astype("datetime64[us, UTC]")
    except (TypeError, ValueError):
        raise UsageError("labelled_at holds times such as 2024-05-01T08:00:00+08:00") from None


def yes_or_no(column: pd.Series) -> pd.Series:
    """Read `mated`: true, false or null, as boolean."""
    held = column.dropna()
    if not held.isin([True, False]).all():
        raise UsageError("mated holds true, false or null: true means the same person")
    return column.astype("boolean")


def _name_rows(v: Any, given: pd.DataFrame) -> pd.DataFrame:
    """Return the labels with the request_ids they stand for; those that name no row are gone."""
    parts = []
    frame = _keyed_rows(v)
    by_id = given[given["request_id"].notna()]
    if len(by_id):
        keys = by_id[["request_id"]].drop_duplicates()
        known = _collected(_joined(frame, keys, "request_id", "inner").select("request_id"))
        parts.append(by_id[by_id["request_id"].isin(known["request_id"])].assign(label_token=None))
    by_token = given[given["request_id"].isna() & given["token"].notna()]
    if len(by_token):
        keys = by_token[["token"]].drop_duplicates()
        met = _joined(frame.filter(nw.col("_scored")), keys, "token", "inner")
        pairs = _collected(met.select("request_id", "token"))
        spread = by_token.drop(columns="request_id").merge(pairs, on="token")
        parts.append(spread.assign(label_token=spread["token"]))
    named = pd.concat(parts, ignore_index=True) if parts else given.iloc[:0]
    return named.drop(columns="token")


def _keyed_rows(v: Any) -> nw.LazyFrame[Any]:
    frame = compared_rows(v, ["request_id"], ["token"])
    return frame.select("request_id", "token", "_scored")


def _latest(named: pd.DataFrame) -> pd.DataFrame:
    """Keep each labeller's latest label of a row; a label without a time is older than any."""
    ordered = named.sort_values(["labelled_at", "_row"], na_position="first", kind="stable")
    return ordered.drop_duplicates(["request_id", "labeller"], keep="last")


def _resolve(labels: pd.DataFrame, conflict: str) -> tuple[pd.DataFrame, int, float]:
    said = labels["mated"].astype("string").fillna("?") + " " + labels["attack"].fillna("")
    labels = labels.assign(_said=said)
    differ = labels.groupby("request_id")["_said"].transform("nunique") > 1
    n_conflicting = labels.loc[differ, "request_id"].nunique()
    kappa = _kappa(labels)
    if n_conflicting and conflict == "raise":
        raise UsageError(
            f"different labellers differ on {n_conflicting} rows (kappa {kappa:.2f}); "
            "choose conflict='latest', 'majority' or 'drop'"
        )
    if conflict == "drop":
        labels = labels[~differ]
    if conflict == "majority":
        votes = labels.groupby(["request_id", "_said"])["_said"].transform("size")
        top = votes.groupby(labels["request_id"]).transform("max")
        winners = labels[votes == top]
        labels = winners[winners.groupby("request_id")["_said"].transform("nunique") == 1]
    # a later label without a plan does not undo that the row was drawn by one
    for name in ("inclusion_prob", "plan_id"):
        drawn = labels.groupby("request_id")[name].transform("first")
        labels = labels.assign(**{name: drawn})
    return labels.drop_duplicates("request_id", keep="last"), n_conflicting, kappa


def _kappa(labels: pd.DataFrame) -> float:
    """Cohen's kappa of `mated`, averaged over pairs of labellers by the rows they share."""
    told = labels[labels["mated"].notna()]
    told = told[told.groupby("request_id")["request_id"].transform("size") > 1]
    pairs = told.merge(told, on="request_id", suffixes=("_a", "_b"))
    pairs = pairs[pairs["_row_a"] < pairs["_row_b"]]
    swapped = pairs["labeller_a"].fillna("") > pairs["labeller_b"].fillna("")
    a = pairs["mated_a"].where(~swapped, pairs["mated_b"]).astype(bool)
    b = pairs["mated_b"].where(~swapped, pairs["mated_a"]).astype(bool)
    names = [
        tuple(sorted((x or "", y or "")))
        for x, y in zip(pairs["labeller_a"], pairs["labeller_b"], strict=True)
    ]
    found, weights = [], []
    table = pd.DataFrame({"a": a, "b": b, "pair": names})
    for _, part in table.groupby("pair"):
        agree, p, q = (part["a"] == part["b"]).mean(), part["a"].mean(), part["b"].mean()
        chance = p * q + (1 - p) * (1 - q)
        if chance < 1:  # where everybody always says the same, agreement means nothing
            found.append((agree - chance) / (1 - chance))
            weights.append(len(part))
    return float(np.average(found, weights=weights)) if found else float("nan")


def _attach(v: Any, truth: pd.DataFrame) -> Any:
    frame = nw.from_native(v)
    keep = [name for name in frame.collect_schema().names() if name not in ADDED]
    constant = ("n_labels_unknown", "n_labels_conflicting", "kappa")
    if isinstance(frame, nw.LazyFrame):
        ids = {_ID: nw.col("request_id").cast(nw.String)}
        truth = truth.rename(columns={"request_id": _ID})
        joined = _joined(frame.select(*keep).with_columns(**ids), truth, _ID, "left")
        joined = joined.drop(_ID).with_columns(
            nw.col("labelled").fill_null(value=False),
            *(nw.lit(truth[name].iloc[0].item()).alias(name) for name in constant),
        )
        return joined.to_native()
    pandas = frame.select(*keep).to_pandas().copy()  # the caller keeps the frame as it was
    index = truth.set_index("request_id")
    at = index.index.get_indexer(pd.Index(pandas["request_id"].astype("string").astype(object)))
    added = index.take(np.maximum(at, 0)).reset_index(drop=True)
    added.index = pandas.index
    for name in ADDED:
        column = added[name]
        if name in constant:
            pandas[name] = column
        elif name == "labelled":
            pandas[name] = at >= 0
        else:
            pandas[name] = column.where(at >= 0, pd.NaT if name == "labelled_at" else None)
    pandas["inclusion_prob"] = pandas["inclusion_prob"].astype("float64")
    return pandas


def _joined(
    frame: nw.LazyFrame[Any], table: pd.DataFrame, key: str, how: Literal["inner", "left"]
) -> nw.LazyFrame[Any]:
    """Join a small table onto a lazy frame, inside the frame's own engine."""
    small = pa.Table.from_pandas(table, schema=_arrow_schema(table), preserve_index=False)
    native = frame.to_native()
    if frame.implementation.is_duckdb():
        name = _temporary(native, small)
        sql = f'select * from verifications_to_label {how} join {name} using ("{key}")'
        found: nw.LazyFrame[Any] = nw.from_native(native.query("verifications_to_label", sql))
        return found
    if frame.implementation.is_polars():
        import polars as pl

        polars: Any = pl.from_arrow(small)
        other: Any = nw.from_native(polars).lazy()
    elif frame.implementation.is_spark_like():
        other = nw.from_native(native.sparkSession.createDataFrame(small.to_pandas()))
    else:
        raise UsageError(f"labels cannot be joined to {frame.implementation}; collect it first")
    return frame.join(other, on=key, how=how)


_SQL_TYPES = {"string": "VARCHAR", "bool": "BOOLEAN", "double": "DOUBLE", "int64": "BIGINT"}


def _temporary(relation: Any, small: pa.Table) -> str:
    """Put a small table beside a relation, on the relation's own connection; return its name.

    Relations of two connections cannot meet, and a store's connection sees nothing of Python. So
    the table goes there as one literal, into a temporary table that dies with the connection.
    """
    name = f"labels_{uuid.uuid4().hex}"
    columns, shapes, chosen = {}, {}, []
    for field, column in zip(small.schema, small.columns, strict=True):
        timed = pa.types.is_timestamp(field.type)
        values = column.cast(pa.int64()) if timed else column
        columns[field.name] = values.to_pylist()
        shapes[field.name] = ["BIGINT" if timed else _SQL_TYPES[str(field.type)]]
        value = f'unnest(given."{field.name}")'
        chosen.append(f'{f"make_timestamp({value})" if timed else value} as "{field.name}"')
    # NaN is no JSON, and DuckDB's string literals know one escape only: the doubled quote
    held = {n: [None if v != v else v for v in vs] for n, vs in columns.items()}
    data, shape = (json.dumps(x).replace("'", "''") for x in (held, shapes))
    source = f"(select from_json('{data}', '{shape}') as given)"
    sql = f"create temp table {name} as select {', '.join(chosen)} from {source}"
    relation.query("verifications_to_label", sql)
    return name


def _arrow_schema(table: pd.DataFrame) -> pa.Schema:
    own = {"labelled": pa.bool_(), "label_token": pa.string(), "kappa": pa.float64()}
    counts = {"n_labels_unknown": pa.int64(), "n_labels_conflicting": pa.int64()}
    kinds = own | counts | {_ID: pa.string()}
    return pa.schema([(c, kinds[c] if c in kinds else LABELS.field(c).type) for c in table.columns])


def _collected(frame: nw.LazyFrame[Any]) -> pd.DataFrame:
    pandas: pd.DataFrame = frame.collect(backend="pyarrow").to_native().to_pandas()
    return pandas


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
    told = ~nw.col("score").is_null()
    return frame.with_columns(
        _scored=scored() if has_code else told,
        _withheld=withheld() if has_code else (told & ~told),
    )


def labelled_rows(
    truth: Any, columns: Sequence[str] = (), optional: Sequence[str] = ()
) -> nw.LazyFrame[Any]:
    """`compared_rows` with boolean `mated`, text `attack`, `_bona_fide`, `_drawn`, float `_chance`.

    `_bona_fide`: compared, mated known, no attack, drawn. Only such rows make FMR and FNMR. When
    some rows were drawn with a known probability, only those are the sample (`_drawn`, else true
    everywhere): a fraud case that somebody reported is no draw.
    """
    wanted = [c for c in ("attack", "inclusion_prob", *optional) if c not in columns]
    frame = compared_rows(truth, ["mated", *columns], wanted)
    _refuse_text(frame, "mated")
    given = nw.col("inclusion_prob").cast(nw.Float64)
    chance = nw.when((given > 0) & (given < float("inf"))).then(given)  # NaN is above all numbers
    frame = frame.with_columns(nw.col("mated").cast(nw.Boolean), _chance=chance)
    told = "inclusion_prob" in nw.from_native(truth).collect_schema().names()
    drawn = ~nw.col("_chance").is_null() if told and _is_drawn(frame) else nw.lit(value=True)
    return frame.with_columns(_drawn=drawn).with_columns(
        _bona_fide=(nw.col("_scored") | nw.col("_withheld"))
        & ~nw.col("mated").is_null()
        & nw.col("attack").is_null()
        & nw.col("_drawn")
    )


def _refuse_text(frame: nw.LazyFrame[Any], name: str) -> None:
    """Refuse words: to some engines "yes" is true, to others an error."""
    if frame.collect_schema()[name] == nw.String:  # so is a column of nulls only
        some = frame.select(name).filter(~nw.col(name).is_null()).head(1)
        if len(some.collect(backend="pyarrow")):
            raise UsageError(f"column {name} holds text; true, false or null is needed")


def _is_drawn(frame: nw.LazyFrame[Any]) -> bool:
    """Tell whether any row was drawn with a known probability: a look at one column."""
    some = frame.select("_chance").filter(~nw.col("_chance").is_null()).head(1)
    return len(some.collect(backend="pyarrow")) > 0


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
    told = nw.when(nw.col("_bona_fide")).then(bona_fide).otherwise(_OTHER)
    named = nw.when(nw.col("mated").is_null()).then(_UNLABELLED).otherwise(told)
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

    Parameters
    ----------
    table : DataFrame
        Counts by regime, `_band` and `result`, as `class_counts` makes them.

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
        compared, unfit = part[part["_band"] != NOT_COMPARED], _unseen if weighted else _uneven
        selected = any(unfit(compared, key) for key in ("_band", "result"))
        verdicts[str(regime)] = SELECTED if selected else ""
    return verdicts


def _unseen(part: pd.DataFrame, key: str) -> bool:
    return bool((part[part[key].notna()].groupby(key)["n_drawn"].sum() == 0).any())


def _uneven(part: pd.DataFrame, key: str) -> bool:
    sums = part[part[key].notna()].groupby(key)[["n_rows", "n_labelled"]].sum()
    shares = sums["n_labelled"] / sums["n_rows"]
    return bool(len(shares)) and bool(shares.max() > MOST_UNEVEN * shares.min())


@statistic("labels.coverage")
def coverage(truth: Any) -> pd.DataFrame:
    """How much is labelled, per score band and per verdict: look here before any error rate.

    Parameters
    ----------
    truth : frame
        From `join_labels`.

    Returns
    -------
    DataFrame
        regime; `kind` (`score_band` or `result`, the latter over compared rows) and `band`;
        `n_rows`, `n_labelled`, `labelled_share` with limits; of them `n_mated` and `n_nonmated`
        (compared, no attack), `n_attacks`; `reason`: `selected_labels` where the regime's labels
        are a selection, so that error rates would mislead; `n_labels_unknown`,
        `n_labels_conflicting` and `kappa` of the join (0 and NaN when the frame has none).
    """
    table = coverage_table(truth)
    reasons = selection(table)
    bands = table.assign(
        kind="score_band", band=[_BAND_NAMES[int(b)] for b in table["_band"]], _at=table["_band"]
    )
    compared = table[table["_band"] != NOT_COMPARED]
    words = compared["result"].map({True: "result true", False: "result false"})
    verdict = compared.assign(
        kind="result", band=words.fillna("no verdict"), _at=compared["result"].astype("Int64")
    )
    both = pd.concat([bands, verdict], ignore_index=True)
    both["_kind"] = (both["kind"] == "result").astype("int64")
    both["_at"] = both["_at"].fillna(-1).astype("int64")
    keys = ["regime", "_kind", "_at", "kind", "band"]
    counted = ["n_rows", "n_labelled", "n_mated", "n_nonmated", "n_attacks"]
    both = add_up(both[[*keys, *counted]], keys).drop(columns=["_kind", "_at"])
    low, high = rate_interval(both["n_labelled"], both["n_rows"])
    both.insert(5, "labelled_share", both["n_labelled"] / both["n_rows"])
    both = both.assign(labelled_share_low=low, labelled_share_high=high)
    both["reason"] = both["regime"].map(reasons).astype("str")
    both[["kind", "band"]] = both[["kind", "band"]].astype("str")
    return both.assign(**_join_facts(truth))


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


def _join_facts(truth: Any) -> dict[str, float]:
    names = ("n_labels_unknown", "n_labels_conflicting", "kappa")
    frame = nw.from_native(truth)
    if not {*names} <= {*frame.collect_schema().names()}:
        return {"n_labels_unknown": 0, "n_labels_conflicting": 0, "kappa": float("nan")}
    first = frame.select(*names).head(1)
    eager = first.collect(backend="pyarrow") if isinstance(first, nw.LazyFrame) else first
    held = eager.to_pandas()
    if held.empty:
        return {"n_labels_unknown": 0, "n_labels_conflicting": 0, "kappa": float("nan")}
    counts = held.fillna(dict.fromkeys(names[:2], 0)).iloc[0]
    kappa = float("nan") if pd.isna(counts["kappa"]) else float(counts["kappa"])
    return {name: int(counts[name]) for name in names[:2]} | {names[2]: kappa}
