"""Labels come in line by line: what fits is a row once, what does not is named."""

from __future__ import annotations

import csv
import gzip
import hashlib
import hmac
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders.staged_answers import answer, bring

import verifyanalytics as va
from verifyanalytics.errors import InputError, NoStoreError, UsageError
from verifyanalytics.importing.labels import Refusal

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
HEADER = "request_id,mated,attack,origin,plan_id,inclusion_prob,labelled_at,labeller"
FITS = "id-000001,true,,audit,plan-1,0.5,2024-05-01T08:00:00+08:00,reviewer-1"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with twenty answers; the tests add labels and read none of each other's."""
    store = va.Store(tmp_path_factory.mktemp("labels") / "store", create=True)
    rows = [answer(n, token=token(store.key, f"raw-{n}") if n >= 10 else None) for n in range(20)]
    bring(store, "answers", rows)
    return store


@pytest.fixture
def store(filled, tmp_path):
    """A store of its own for a test that looks at what is stored."""
    own = va.Store(tmp_path / "store", create=True)
    bring(own, "answers", [answer(n, token=token(own.key, f"raw-{n}")) for n in range(20)])
    return own


def token(key: bytes, raw: str) -> str:
    return hmac.new(key, b"token\0" + raw.encode(), hashlib.sha256).hexdigest()[:32]


def written(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


# ------------------------------------------------------------------ what goes in


def test_a_label_is_stored_as_it_was_written(store, tmp_path):
    path = written(
        tmp_path / "l.csv", HEADER, FITS, "id-000002,FALSE,,fraud,,,,", "id-000003,,mask,,,,,"
    )
    summary = va.import_labels(path, store)
    assert str(summary) == "read 3 = added 3 + known 0 + refused 0"
    stored = store.read("labels").sort_values("request_id", ignore_index=True)
    first = stored.iloc[0]
    assert first["mated"]
    assert (first["inclusion_prob"], first["labeller"]) == (0.5, "reviewer-1")
    assert first["labelled_at"] == datetime(2024, 5, 1, tzinfo=UTC)
    assert not stored["mated"][1]
    assert pd.isna(stored["mated"][2])
    assert stored["attack"].tolist()[2] == "mask"
    assert stored["token"].isna().all()


def test_reading_a_file_again_adds_nothing_and_a_changed_row_is_a_new_label(store, tmp_path):
    path = written(tmp_path / "l.csv", HEADER, FITS, FITS)
    first = va.import_labels(path, store)
    assert (first.read, first.added, first.known) == (2, 1, 1)
    again = va.import_labels(path, store)
    assert (again.read, again.added, again.known, again.refused) == (2, 0, 2, 0)
    written(path, HEADER, FITS.replace("true", "false"))
    assert va.import_labels(path, store).added == 1
    assert len(store.read("labels")) == 2


def test_raw_tokens_are_hashed_with_the_store_s_key_and_kept_nowhere(store, tmp_path):
    path = written(tmp_path / "l.csv", "byted_token,mated", "raw-7,true", "raw-8,false")
    assert va.import_labels(path, store).unknown == 0
    assert set(store.read("labels")["token"]) == {token(store.key, f"raw-{n}") for n in (7, 8)}
    for file in store.path.rglob("*"):
        assert not file.is_file() or b"raw-7" not in file.read_bytes()


def test_a_hash_that_the_store_gave_out_is_taken_and_a_raw_token_beside_it_is_not(filled, tmp_path):
    known = token(filled.key, "raw-12")
    path = written(tmp_path / "l.csv", "token,mated", f"{known},true", "raw-13,true")
    summary = va.import_labels(path, filled)
    assert (summary.added, summary.refused) == (1, 1)
    assert summary.refusals[0].column == "token"
    assert "name the column byted_token" in summary.refusals[0].reason
    assert "raw-13" not in str(summary.refusals[0])


def test_labels_that_name_no_answer_are_counted_and_strict_refuses_them(filled, tmp_path):
    path = written(tmp_path / "l.csv", "request_id,mated", "id-000004,true", "nobody,true")
    summary = va.import_labels(path, filled)
    assert (summary.read, summary.added, summary.unknown) == (2, 2, 1)
    assert str(summary).endswith("; 1 name no stored answer")
    strict = va.import_labels(path, filled, strict=True)
    assert (strict.read, strict.added, strict.known, strict.refused) == (2, 0, 1, 1)
    assert strict.refusals == [Refusal("l.csv", 2, 3, "", "names no stored answer")]


def test_cannot_tell_is_a_label_and_is_counted(filled, tmp_path):
    path = written(tmp_path / "l.csv", "request_id,mated,plan_id", "id-000005,,p", "id-000006,,")
    summary = va.import_labels(path, filled)
    assert (summary.added, summary.undecided, summary.refused) == (1, 1, 1)
    assert "says nothing" in summary.refusals[0].reason


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_what_spreadsheets_write_is_read(filled, tmp_path, delimiter, suffix):
    text = "\ufeff" + delimiter.join(["request_id", "mated", "labeller"]) + "\r\n"
    text += delimiter.join(["id-000007", "1", '"claims; ""desk"", 2"']) + "\r\n\r\n"
    path = tmp_path / f"sheet{suffix}"
    data = text.encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    summary = va.import_labels(path, filled)
    assert (summary.read, summary.refused) == (1, 0)
    assert 'claims; "desk", 2' in set(filled.read("labels")["labeller"].dropna())


def test_parquet_says_the_same_as_csv(store, tmp_path):
    frame = pd.DataFrame(
        {"request_id": ["id-000001", "id-000002"], "mated": [True, None], "attack": [None, "print"],
         "inclusion_prob": [0.25, float("nan")],
         "labelled_at": pd.to_datetime(["2024-05-01T00:00:00.123456789Z", None])}
    )  # fmt: skip
    frame.to_parquet(tmp_path / "l.parquet")
    assert va.import_labels(tmp_path / "l.parquet", store).added == 2
    at = "2024-05-01 00:00:00.123456+00:00"
    path = written(
        tmp_path / "l.csv", "request_id,mated,attack,inclusion_prob,labelled_at",
        f"id-000001,true,,0.25,{at}", "id-000002,,print,,",
    )  # fmt: skip
    assert va.import_labels(path, store).known == 2


def test_ids_in_parquet_may_be_whole_numbers_but_no_rounded_ones(store, tmp_path):
    bring(store, "more", [answer(50) | {"request_id": "6067028084799477488"}])
    whole = pa.table({"request_id": [6067028084799477488], "mated": [1]})
    pq.write_table(whole, tmp_path / "whole.parquet")
    assert va.import_labels(tmp_path / "whole.parquet", store).unknown == 0
    pq.write_table(pa.table({"request_id": [6.067e18], "mated": [1]}), tmp_path / "float.parquet")
    summary = va.import_labels(tmp_path / "float.parquet", store)
    assert summary.refused == 1
    assert "was rounded" in summary.refusals[0].reason


def test_the_sample_s_labels_go_in_whole(store):
    with (SAMPLE / "labels.csv").open(encoding="utf-8") as file:
        expected = list(csv.DictReader(file))
    bring(store, "one", [answer(60) | {"request_id": expected[0]["request_id"]}])
    summary = va.import_labels(SAMPLE / "labels.csv", store)
    assert (summary.read, summary.added) == (len(expected), len(expected))
    assert summary.unknown == len(expected) - 1
    stored = store.read("labels")
    for name in ("attack", "origin", "plan_id", "labeller"):
        assert sorted(stored[name].fillna("")) == sorted(row[name] for row in expected)


# ------------------------------------------------------------------ what is refused, by name


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [
        ("mated", "maybe", "'maybe' is not true or false"),
        ("mated", "2", "'2' is not true or false"),
        ("origin", "guess", "'guess' is not one of audit, claim, fraud, test"),
        ("inclusion_prob", "0", "'0' is no probability above 0 and up to 1"),
        ("inclusion_prob", "1.01", "'1.01' is no probability"),
        ("inclusion_prob", "nan", "'nan' is no probability"),
        ("inclusion_prob", "-inf", "'-inf' is no probability"),
        ("inclusion_prob", "half", "'half' is no probability"),
        ("labelled_at", "yesterday", "'yesterday' is no time"),
        ("labelled_at", "2024-13-01", "'2024-13-01' is no time"),
        ("labelled_at", "1714521600", "'1714521600' is no time"),
        ("labelled_at", "0001-01-01T00:00:00+14:00", "is no time"),
        ("request_id", "6.06703E+18", "'6.06703E+18' was rounded, by a spreadsheet perhaps"),
        ("attack", "m" * 257, "is longer than 256 characters"),
        ("labeller", "\x1b[31m" * 60, "is longer than 256 characters"),
        ("origin", "\x1b[31mred", r"'\x1b[31mred' is not one of"),
    ],
)
def test_a_cell_that_cannot_be_is_refused_with_its_place(filled, tmp_path, column, cell, says):
    names = HEADER.split(",")
    cells = dict(zip(names, FITS.split(","), strict=True)) | {column: cell}
    path = written(tmp_path / "l.csv", HEADER, FITS, ",".join(cells.values()))
    (refusal,) = va.import_labels(path, filled).refusals
    assert (refusal.source, refusal.row, refusal.line, refusal.column) == ("l.csv", 2, 3, column)
    assert says in str(refusal)
    assert str(refusal).startswith(f"l.csv, row 2 (line 3), column {column}: ")
    assert str(refusal).isprintable()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (",,true", "has no key; give request_id or byted_token"),
        ("id-000001,raw-11,true", "has two keys; give request_id or byted_token"),
        ("id-000001,true", "has more or fewer cells than the header"),
        ("id-000001,,true,x", "has more or fewer cells than the header"),
    ],
)
def test_a_row_that_cannot_be_is_refused_whole(filled, tmp_path, line, says):
    fits = '"id-000001\n",,true'  # a row may end on a later line than it began
    path = written(tmp_path / "l.csv", "request_id,byted_token,mated", fits, line)
    (refusal,) = va.import_labels(path, filled).refusals
    assert str(refusal) == f"l.csv, row 2 (line 4): {says}"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("request_id,mated,note", "labels have no column 'note'; they have: request_id, token"),
        ("request_id,mated,mated", "column mated is there twice"),
        ("mated,origin", "no key; give a column request_id or byted_token"),
        ("request_id,origin", "nothing is said; give a column mated or attack"),
        ("", "no key"),
    ],
)
def test_a_header_that_cannot_be_is_refused(filled, tmp_path, header, says):
    path = written(tmp_path / "l.csv", header, "id-000001,true,x")
    with pytest.raises(UsageError, match=r"^l\.csv: ") as error:
        va.import_labels(path, filled)
    assert says in str(error.value)


def test_a_column_is_left_out_only_when_it_is_named(filled, tmp_path):
    path = written(tmp_path / "l.csv", "request_id,mated,note", "id-000008,true,a secret")
    assert va.import_labels(path, filled, ignore=["note", "not there"]).refused == 0


def test_labels_of_another_store_are_refused_and_nothing_is_added(filled, tmp_path):
    before = len(filled.read("labels"))
    path = written(tmp_path / "l.csv", "request_id,mated", "a,true", "b,false")
    with pytest.raises(UsageError, match="none of 2 labels names a stored answer"):
        va.import_labels(path, filled)
    assert len(filled.read("labels")) == before


def test_without_a_store_there_is_no_store_afterwards(tmp_path):
    path = written(tmp_path / "l.csv", "request_id,mated", "a,true")
    with pytest.raises(NoStoreError, match="no store at"):
        va.import_labels(path, tmp_path / "none")
    assert [p.name for p in tmp_path.iterdir()] == ["l.csv"]


def test_a_file_that_cannot_be_read_to_its_end_adds_nothing(filled, tmp_path):
    before = len(filled.read("labels"))
    good = ("request_id,mated,labeller", "id-000001,true,审核员")
    chinese = written(tmp_path / "gbk.csv", *good, encoding="gb18030")
    with pytest.raises(InputError, match=r"gbk\.csv: not UTF-8; save it as CSV UTF-8"):
        va.import_labels(chinese, filled)
    open_quote = written(tmp_path / "open.csv", *good, 'id-000002,true,"never closed')
    with pytest.raises(InputError, match=r"open\.csv: cannot be read to its end"):
        va.import_labels(open_quote, filled)
    whole = gzip.compress("\n".join(good * 200).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[:-12])
    with pytest.raises(InputError, match=r"cut\.csv\.gz: cannot be read to its end"):
        va.import_labels(tmp_path / "cut.csv.gz", filled)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(InputError, match=r"bad\.parquet"):
        va.import_labels(tmp_path / "bad.parquet", filled)
    assert len(filled.read("labels")) == before


@pytest.mark.parametrize(
    ("name", "says"), [("none.csv", "no such file"), ("l.xlsx", r"labels are read from \.csv")]
)
def test_a_file_that_is_none_is_usage(filled, tmp_path, name, says):
    with pytest.raises(UsageError, match=says):
        va.import_labels(tmp_path / name, filled)


def test_an_empty_table_is_no_label(filled, tmp_path):
    path = written(tmp_path / "l.csv", "request_id,mated")
    assert str(va.import_labels(path, filled)) == "read 0 = added 0 + known 0 + refused 0"


def test_times_of_every_kind_are_utc(store, tmp_path):
    moments = [datetime(2024, 5, 1, 8), date(2024, 5, 1)]
    for n, moment in enumerate(moments):
        table = pa.table({"request_id": [f"id-00000{n}"], "mated": [True], "labelled_at": [moment]})
        pq.write_table(table, tmp_path / f"{n}.parquet")
        va.import_labels(tmp_path / f"{n}.parquet", store)
    path = written(
        tmp_path / "l.csv", "request_id,mated,labelled_at", "id-000002,true,2024-05-01T08:00"
    )
    va.import_labels(path, store)
    stored = store.read("labels").sort_values("request_id")["labelled_at"]
    expected = [datetime(2024, 5, 1, 8, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)]
    assert [t.to_pydatetime() for t in stored] == [*expected, expected[0]]


def test_the_key_of_every_label_is_looked_for_in_all_blocks(store, tmp_path, monkeypatch):
    monkeypatch.setattr("verifyanalytics.importing.labels._BLOCK", 3)  # many blocks of few rows
    ids = [f"id-{n:06}" for n in range(30)]
    path = written(tmp_path / "l.csv", "request_id,mated", *(f"{i},true" for i in ids))
    summary = va.import_labels(path, store)
    assert (summary.read, summary.added, summary.unknown) == (30, 30, 10)
