"""Join labels to verifications: each row gets its ground truth, labelled or not.

A label names a row by request_id, or all scored rows of a token. Labels of one labeller: the latest
counts; of several: as `conflict` says. The join runs in the engine of the frame.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from verifyanalytics.analysis.base.frames import collected, to_pandas
from verifyanalytics.analysis.base.labelled import compared_rows
from verifyanalytics.errors import LabelsError, MissingColumnError, UsageError
from verifyanalytics.schema import LABELS

Conflict = Literal["raise", "latest", "majority", "drop"]

FACTS = ("mated", "attack", "origin", "plan_id", "inclusion_prob", "labelled_at", "labeller")
"""What a label says, beside its key."""

ADDED = (*FACTS, "labelled", "label_token", "n_labels_unknown", "n_labels_conflicting", "kappa")
"""Columns that `join_labels` adds."""

_ID = "_label_id"  # a row's request_id as text

_KINDS = {
    **dict.fromkeys([_ID, "label_token"], pa.string()),
    "labelled": pa.bool_(),
    **dict.fromkeys(["n_labels_unknown", "n_labels_conflicting"], pa.int64()),
    "kappa": pa.float64(),
}


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

    See Also
    --------
    coverage, maturity, va.accuracy.error_rates

    Examples
    --------
    >>> v = pd.DataFrame({"request_id": ["a", "b", "c"], "score": [50.0, 80.0, 90.0]})
    >>> labels = pd.DataFrame({"request_id": ["a", "b"], "mated": [False, True]})
    >>> join(v, labels)[["request_id", "mated", "labelled"]]
      request_id  mated  labelled
    0          a  False      True
    1          b   True      True
    2          c   <NA>     False
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
    # a label without a time is older than any
    named = named.sort_values(["labelled_at", "_row"], na_position="first", kind="stable")
    latest = named.drop_duplicates(["request_id", "labeller"], keep="last")
    truth, n_conflicting, kappa = _resolve(latest, conflict)
    truth = truth.assign(
        labelled=True, n_labels_unknown=n_unknown, n_labels_conflicting=n_conflicting, kappa=kappa
    )
    return _attach(v, truth[["request_id", *ADDED]])


def label_table(labels: Any) -> pd.DataFrame:
    """Read a frame of `labels`: every column of `LABELS`, ids and words as text, times UTC."""
    given = to_pandas(labels, "frame of labels")
    for one, other in (("request_id", "token"), ("mated", "attack")):
        if not {one, other} & {*given}:
            raise MissingColumnError([one], given.columns)
    given = given.assign(**{name: None for name in LABELS.names if name not in given})
    given = given[list(LABELS.names)].reset_index(drop=True)
    for name in ("request_id", "token", "attack", "origin", "plan_id", "labeller"):
        given[name] = texts(given[name])
    given["mated"] = yes_or_no(given["mated"])
    given["inclusion_prob"] = _chances(given["inclusion_prob"])
    given["labelled_at"] = _times(given["labelled_at"])
    return given.assign(_row=np.arange(len(given)))


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
    frame = compared_rows(v, ["request_id"], ["token"]).select("request_id", "token", "_scored")
    by_id = given[given["request_id"].notna()]
    if len(by_id):
        keys = by_id[["request_id"]].drop_duplicates()
        known = collected(_joined(frame, keys, "request_id", "inner").select("request_id"))
        parts.append(by_id[by_id["request_id"].isin(known["request_id"])].assign(label_token=None))
    by_token = given[given["request_id"].isna() & given["token"].notna()]
    if len(by_token):
        keys = by_token[["token"]].drop_duplicates()
        met = _joined(frame.filter(nw.col("_scored")), keys, "token", "inner")
        pairs = collected(met.select("request_id", "token"))
        spread = by_token.drop(columns="request_id").merge(pairs, on="token")
        parts.append(spread.assign(label_token=spread["token"]))
    named = pd.concat(parts, ignore_index=True) if parts else given.iloc[:0]
    return named.drop(columns="token")


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
    known = labels[labels["mated"].notna()]
    known = known[known.groupby("request_id")["request_id"].transform("size") > 1]
    pairs = known.merge(known, on="request_id", suffixes=("_a", "_b"))
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
    schema = pa.schema([(c, _KINDS.get(c) or LABELS.field(c).type) for c in table.columns])
    small = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
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
