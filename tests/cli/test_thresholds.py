"""The verb `thresholds`: what a person or a program reads."""

from __future__ import annotations

import csv
import io
import json

import pytest
from builders.compared_answers import compared
from builders.staged_answers import bring

from verifyanalytics.cli import app as cli
from verifyanalytics.store.store import Store


def test_the_table_for_a_person_without_labels(capsys, unlabelled):
    assert cli.main(["thresholds", "--store", str(unlabelled)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "cert_pro_src_verify 60/70/80/90: 60 compared" in out
    lines = [line.split() for line in out.splitlines() if line[:2] in {"60", "70", "80", "90"}]
    assert [line[0] for line in lines] == ["60", "70", "80", "90"]
    today = " ".join(lines[1])
    assert today.startswith("70 (today) 1e-4 50.00% [")
    assert " +0 " in today
    assert "+10" in lines[2]
    assert "FMR, labels" not in out
    assert "liveness and risk are not applied" in out


def test_the_table_with_labels_has_both_errors(capsys, labelled):
    words = ["thresholds", "--at", "72.5", "--at", "85", "--store", str(labelled)]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("72.5")]
    assert "6 of 15" in line  # every fourth is non-mated: 76, 80, 84, 88, 92, 96 match
    assert "24 of 45" in line
    assert cli.main([*words, "--no-labels"]) == 0
    assert "FMR, labels" not in capsys.readouterr().out


def test_json_and_csv_hold_the_whole_table(capsys, labelled):
    words = ["thresholds", "--store", str(labelled)]
    assert cli.main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["threshold"] for row in rows] == [60, 70, 80, 90]
    assert rows[1]["today"] is True
    assert rows[1]["n_mated"] == 45
    assert rows[1]["gates_reproduce_result"] == 1
    assert cli.main([*words, "--csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["n_match"] for row in table] == [str(row["n_match"]) for row in rows]
    assert list(table[0]) == list(rows[0])


def test_a_period_counts_only_its_rows(capsys, unlabelled):
    words = ["thresholds", "--store", str(unlabelled), "--since", "2024-06-01", "--json"]
    assert cli.main(words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["n"] for row in rows} == {60 - 48}  # an answer an hour from 30 May 00:00


def test_labels_that_name_no_row_of_the_period_are_left_out(capsys, labelled):
    words = ["thresholds", "--store", str(labelled), "--until", "2020-01-01"]
    assert cli.main(words) == 0
    assert "there is nothing to decide" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("request_id,mated\nid-000050,true\n", "no non-mated comparison is labelled (1 mated"),
        ("request_id,mated,attack\nid-000050,,print\n", "no mated comparison is labelled (0 non"),
    ],
)
def test_labels_that_make_no_rate_leave_the_table_without_them(capsys, tmp_path, text, says):
    store = Store(tmp_path / "store", create=True)
    bring(store, "a", [compared(n) for n in range(60)])
    assert cli.main(["thresholds", "--store", str(store.path), "--json"]) == 0
    expected = capsys.readouterr().out
    (tmp_path / "labels.csv").write_text(text)
    words = ["--store", str(store.path)]
    assert cli.main(["labels", str(tmp_path / "labels.csv"), *words, "-q"]) == 0
    assert cli.main(["thresholds", *words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out == expected
    assert err.startswith(f"verifyanalytics: the labels are left out: {says}")
    assert err.count("\n") == 1


def test_a_token_of_rows_without_a_score_labels_nothing(capsys, tmp_path):
    store = Store(tmp_path / "store", create=True)
    unscored = {"score": None, "sub_code": 210302, "token": "a" * 32}
    bring(store, "a", [compared(n) for n in range(60)] + [compared(60) | unscored])
    (tmp_path / "labels.csv").write_text(f"token,mated\n{'a' * 32},true\n")
    words = ["--store", str(store.path)]
    assert cli.main(["labels", str(tmp_path / "labels.csv"), *words, "-q"]) == 0
    assert cli.main(["thresholds", *words]) == 0
    out, err = capsys.readouterr()
    assert "60 compared" in out
    assert "the labels are left out: 1 of 1 labels name no row" in err


def test_labellers_who_differ_are_said(capsys, tmp_path, labelled):
    path = tmp_path / "second.csv"
    path.write_text("request_id,mated,labeller\nid-000001,false,other\n")
    assert cli.main(["labels", str(path), "--store", str(labelled), "-q"]) == 0
    assert cli.main(["thresholds", "--store", str(labelled)]) == 2
    assert "labellers differ on 1 rows" in capsys.readouterr().err
    assert cli.main(["thresholds", "--store", str(labelled), "--conflict", "drop"]) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--at", "high"], "Invalid value for '--at'"),
        (["--at", "nan"], "thresholds must be"),
        (["--json", "--csv"], "give one of them"),
        (["--impostor-share", "2"], "impostor_share must be at least 0 and below 1"),
        (["--since", "someday"], "someday"),
        (["75"], "unexpected extra argument"),
    ],
)
def test_nonsense_is_one_line_and_exit_2(capsys, unlabelled, words, says):
    assert cli.main(["thresholds", "--store", str(unlabelled), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_without_a_store_nothing_is_made(capsys, tmp_path):
    assert cli.main(["thresholds", "--store", str(tmp_path / "none")]) == 2
    assert "no store at" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
