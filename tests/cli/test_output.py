"""What is printed: clean tables, JSON and CSV."""

from __future__ import annotations

import io
import json
import re

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from verifyanalytics.cli import output


def squeeze(line: str) -> str:
    return re.sub(" +", " ", line).strip()


def test_a_table_shows_nulls_numbers_and_hostile_text(capsys):
    frame = pd.DataFrame(
        {"n": [1, 12345678], "rate": [0.5, float("nan")], "tag": ["\x1b]0;x\x07", "中文"]}
    )
    output.print_frame(frame)
    out = capsys.readouterr().out
    assert r"\x1b]0;x\x07" in out
    assert "12\u202f345\u202f678" in out
    assert [line.split(" ")[-2] for line in map(squeeze, out.splitlines()[-2:])] == ["0.5", "–"]
    assert "\x1b" not in out


def test_codes_are_names_and_counts_are_amounts(capsys):
    frame = pd.DataFrame(
        {"code": [50215], "sub_code": [210302], "source_row": [12345], "n": [50215]}
    )
    output.print_frame(frame)
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown.split()[:3] == [
        "50215",
        "210302",
        "12345",
    ]
    assert "50\u202f215" in shown


def test_a_wide_table_is_not_cut_when_piped(capsys):
    frame = pd.DataFrame({f"column_{i}": ["x" * 20] for i in range(30)})
    output.print_frame(frame)
    assert capsys.readouterr().out.count("x" * 20) == 30


def test_json_keeps_values_and_two_columns_of_one_name(capsys):
    frame = pd.DataFrame([[1, None, pd.Timestamp("2024-05-01", tz="UTC"), ["a"]]])
    frame.columns = ["a", "a", "t", "l"]
    output.print_frame(frame, as_json=True)
    assert json.loads(capsys.readouterr().out) == [
        {"a": 1, "a_2": None, "t": "2024-05-01T00:00:00+00:00", "l": ["a"]}
    ]


def test_csv_disarms_formulas_and_keeps_numbers(capsys):
    frame = pd.DataFrame({"=x": ["=1+1", "@a", "-2", 'a"b'], "n": [-1.5, 2, float("nan"), 0]})
    output.print_frame(frame, as_csv=True)
    assert capsys.readouterr().out.splitlines() == [
        "'=x,n",
        "'=1+1,-1.5",
        "'@a,2.0",
        "'-2,",
        '"a""b",0.0',
    ]


@given(st.text())
def test_cleaned_text_steers_nothing(text):
    cleaned = output.clean(text)
    assert not any(c in cleaned for c in "\x00\x07\x08\x1b\x7f\x9b\n\r\u202e\u2066\u200f\ufeff")
    assert cleaned.isprintable() or any(not c.isprintable() for c in text)


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_json_output_means_what_it_was_given(value):
    file = io.StringIO()
    output.print_json(value, file)
    document = file.getvalue()
    assert json.loads(document) == value
    assert output.clean(document[:-1]) == document[:-1]
