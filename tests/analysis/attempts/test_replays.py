"""Replays: which pictures are named, on every engine, and what unknown values count for."""

import json

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import verifyanalytics as va
from verifyanalytics.errors import UsageError

ROWS = pa.table(
    {
        "image_best_print": ["p", "p", "q", "q", "r", "r", None, "s"],
        "image_env_print": ["e", "f", "e", None, None, None, None, None],
        "token": ["a", "b", "c", "c", None, "d", "e", "f"],
        "subject": ["ann", "ann", "bob", "eve", "ann", None, "ann", "ann"],
        "occurred_at": pa.array([3, 1, 2, None, None, None, 5, 6], pa.timestamp("us", tz="UTC")),
        "result": [True, None, False, True, True, True, True, True],
    }
)
ENGINES = {
    "arrow": lambda t: t,
    "pandas": lambda t: t.to_pandas(),
    "pandas of Arrow": lambda t: t.to_pandas(types_mapper=pd.ArrowDtype),
    "polars": pl.from_arrow,
    "polars lazy": lambda t: pl.from_arrow(t).lazy(),
    "duckdb": duckdb.from_arrow,
}


@pytest.mark.parametrize("engine", ENGINES)
def test_pictures_of_several_tokens_or_persons_are_named(engine):
    found = va.attempts.replayed_images(ENGINES[engine](ROWS))
    names = ["image", "print", "n_calls", "n_tokens", "n_persons", "n_accepted"]
    assert found[names].to_numpy().tolist() == [
        ["env", "e", 2, 2, 2, 1],
        ["face", "q", 2, 1, 2, 1],
        ["face", "p", 2, 2, 1, 1],
    ]
    times = found.set_index("print")[["first_at", "last_at"]].astype("int64")
    assert [value % 10**9 for value in times.loc["p"]] in ([1, 3], [1000, 3000])
    assert va.replayed_images(ENGINES[engine](ROWS.slice(0, 0))).empty


def test_rows_without_any_print_are_an_error_that_says_what_to_do():
    blind = ROWS.set_column(0, "image_best_print", pa.nulls(8, pa.string()))
    blind = blind.set_column(1, "image_env_print", pa.nulls(8, pa.string()))
    with pytest.raises(UsageError, match="import or collect with image prints"):
        va.replayed_images(blind)


def test_a_picture_sent_twice_is_found_in_a_store_and_its_key_can_be_deleted(tmp_path):
    picture = "/9j/" + "A" * 400
    data = {"images": {"image_best": picture}}
    lines = [
        json.dumps({
            "byted_token": f"t{n}", "subject": f"s{n}",
            "response": {"code": 10000, "request_id": f"r{n}", "data": data},
        })
        for n in range(3)
    ]  # fmt: skip
    store = va.Store(tmp_path / "store", create=True)
    for n in range(2):
        (tmp_path / f"{n}.ndjson").write_text(lines[n] + "\n")
        va.import_responses(tmp_path / f"{n}.ndjson", store, image_prints=True)
    (found,) = va.replayed_images(store.read())["n_persons"]
    assert found == 2
    (tmp_path / "store.key.prints").unlink()
    (tmp_path / "2.ndjson").write_text(lines[2] + "\n")
    va.import_responses(tmp_path / "2.ndjson", store, image_prints=True)
    assert store.read()["image_best_print"].nunique() == 2
    assert store.check(deep=True) == []
