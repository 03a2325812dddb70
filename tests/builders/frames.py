"""Made-up verifications for the tests: plain dicts, so that a plain loop can count them again."""

from __future__ import annotations

import datetime as dt
import itertools
import random

import pandas as pd

PAGE = (60.0, 70.0, 80.0, 90.0)
OTHER = (55.0, 66.0, 77.5, 91.0)
LEVELS = ("threshold_1e_3", "threshold_1e_4", "threshold_1e_5", "threshold_1e_6")
START = dt.datetime(2024, 5, 6, tzinfo=dt.UTC)

DEFAULT = {
    "code": 10000,
    "gateway_code": None,
    "sub_code": 0,
    "req_key": "cert_pro_src_verify",
    **dict(zip(LEVELS, PAGE, strict=True)),
    "score": 85.0,
    "alive": True,
    "risk_score": 0,
    "risk_tags": [],
    "result": True,
    "elapsed_ms": 40.0,
    "measure_type": "query_num",
    "measure_value": 1,
    "token": None,
    "subject": None,
    "occurred_at": START,
    "image_best_print": None,
    "image_env_print": None,
}


def row(i, **changes):
    """One verification: an accepted one unless told otherwise."""
    assert not set(changes) - {*DEFAULT, "thresholds", "request_id"}, changes
    thresholds = changes.pop("thresholds", PAGE)
    base = DEFAULT | dict(zip(LEVELS, thresholds, strict=True))
    return {"request_id": f"r{i:06d}"} | base | changes


def messy(n, seed=0):
    """A little of everything that the vendor sends, two regimes and broken ones."""
    rng = random.Random(seed)
    found = []
    for i in range(n):
        score = rng.choice([None, 59.5, 60.0, 65.0, 70.0, 70.0, 75.5, 80.0, 87.69, 90.0, 95.25])
        code = rng.choice([10000] * 8 + [50215, 50400, None])
        sub = (
            rng.choice([None, 0, 0, 210302, 210311, 210205, 210702, 299999]) if score is None else 0
        )
        thresholds = rng.choice(
            [PAGE] * 4 + [OTHER] * 2 + [(60.0, None, 80.0, 90.0), (60.0, 60.0, 80.0, 90.0)]
        )
        tags = rng.sample(["13001", "14004", "14009"], rng.randint(0, 2))
        risk = rng.choice([None, 0, 300, 600, 900])
        found.append(
            row(
                i,
                code=code,
                gateway_code="FlowLimitExceeded" if code is None else None,
                sub_code=sub,
                score=score,
                thresholds=thresholds,
                req_key=rng.choice(["cert_pro_src_verify", "cert_pro_no_src_verify", None]),
                alive=rng.choice([True, True, True, False, None]),
                risk_score=risk,
                risk_tags=None if risk is None else tags,
                result=rng.choice([True, True, False, None]),
                subject=rng.choice([None, *(f"s{j}" for j in range(max(1, n // 3)))]),
                token=rng.choice([None, *(f"t{j}" for j in range(max(1, n // 2)))]),
                occurred_at=rng.choice([None] + [START + dt.timedelta(minutes=7 * i)] * 9),
                measure_value=rng.choice([None, 0, 1, 1]),
                elapsed_ms=rng.choice([None, 20.0, 41.897331, 300.0]),
            )
        )
    return found


def frame(rows):
    """The rows as the pandas frame that a store gives."""
    import pyarrow as pa

    from verifyanalytics.schema import VERIFICATIONS

    fields = [VERIFICATIONS.field(n) if n in VERIFICATIONS.names else None for n in rows[0]]
    columns = {
        name: pa.array([r[name] for r in rows], type=field.type if field else None)
        for name, field in zip(rows[0], fields, strict=True)
    }
    return pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)


def engines(pandas):
    """The same rows in every engine the statistics speak to: name, frame."""
    import duckdb
    import polars as pl
    import pyarrow as pa

    table = pa.Table.from_pandas(pandas, preserve_index=False).replace_schema_metadata(None)
    connection = duckdb.connect()
    return {
        "pandas": pandas,
        "pandas_numpy": table.to_pandas(),
        "arrow": table,
        "polars": pl.from_arrow(table),
        "polars_lazy": pl.from_arrow(table).lazy(),
        "duckdb": connection.from_arrow(table),
    }


# ------------------------------------------------------------------ the gates, in plain words


def rising(r):
    points = [r[level] for level in LEVELS]
    return all(p is not None for p in points) and all(a < b for a, b in itertools.pairwise(points))


def regime(r):
    if not rising(r):
        return "incomplete"
    return f"{r['req_key'] or 'unknown'} " + "/".join(f"{r[level]:g}" for level in LEVELS)


def is_answered(r):
    return r["gateway_code"] is None and r["code"] in (10000, 50215)


def is_scored(r):
    return is_answered(r) and r["score"] is not None


def is_withheld(r):
    return is_answered(r) and r["score"] is None and r["sub_code"] in (210311, 210313)


def gate_states(r, risk_fail=900):
    """True passes, False fails, None is unknown."""
    match = None
    if is_withheld(r):
        match = False
    elif rising(r) and r["score"] is not None:
        match = r["score"] >= r["threshold_1e_4"]
    return {
        "answered": is_answered(r),
        "scored": is_scored(r),
        "alive": r["alive"],
        "match": match,
        "risk": r["risk_score"] is None or r["risk_score"] < risk_fail,
    }


def first_gate(r, risk_fail=900):
    states = gate_states(r, risk_fail)
    for name, state in states.items():
        if state is False:
            return name
    return "unknown" if None in states.values() else "none"
