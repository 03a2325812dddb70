"""Context for which the store has no column left: it stands in `extra`, apart from the reply."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime

import pandas as pd
import pytest
from builders import staged_answers
from builders.staged_answers import bring
from builders.stored_answers import answer, write_lines

import verifyanalytics as va
from verifyanalytics.cli import app as cli
from verifyanalytics.journal.delivery import deliver
from verifyanalytics.journal.journal import Journal
from verifyanalytics.journal.raw_answers import raw_line
from verifyanalytics.parsing.reference import content
from verifyanalytics.store import commits
from verifyanalytics.vendor.replies import Outcome, Reply, State

CONTEXT = {"zz": "y", "n00": "x"}
"""`n00` has a column, `zz` finds none."""

CASES = {
    "nothing": ("{}", {}, {"envelope": {"context": {"zz": "y"}}}),
    "rest": ("{}", {"host": "h"}, {"envelope": {"context": {"zz": "y"}, "host": "h"}}),
    "text": (
        '{"envelope":"text"}',
        {},
        {"envelope": "text", "envelope_": {"context": {"zz": "y"}}},
    ),
    "null": (
        '{"envelope":null}',
        {},
        {"envelope": None, "envelope_": {"context": {"zz": "y"}}},
    ),
    "object": (
        '{"envelope":{"a":1}}',
        {},
        {"envelope": {"a": 1}, "envelope_": {"context": {"zz": "y"}}},
    ),
    "context": (
        '{"envelope":{"context":{"zz":"theirs"}}}',
        {},
        {"envelope": {"context": {"zz": "theirs"}}, "envelope_": {"context": {"zz": "y"}}},
    ),
    "both": (
        '{"envelope":{"a":1}}',
        {"host": "h"},
        {"envelope": {"a": 1}, "envelope_": {"context": {"zz": "y"}, "host": "h"}},
    ),
    "two": (
        '{"envelope":1,"envelope_":[2]}',
        {},
        {"envelope": 1, "envelope_": [2], "envelope__": {"context": {"zz": "y"}}},
    ),
    "gap": (
        '{"envelope_":"text"}',
        {"host": "h"},
        {"envelope_": "text", "envelope": {"context": {"zz": "y"}, "host": "h"}},
    ),
}
"""Unknown keys of the reply, keys around it that mean nothing, and the `extra` they make."""


@pytest.fixture
def full(tmp_path):
    """A store that has 64 context columns."""
    store = va.Store(tmp_path / "store", create=True)
    context = {f"n{number:02}": "v" for number in range(64)}
    line = json.dumps({"response": answer(0), "context": context}).encode()
    va.import_responses(write_lines(tmp_path / "full.ndjson", [line]), store, workers=0)
    return store


def write_cases(path):
    """One line a case, in their order."""
    lines = []
    for number, (unknown, around, _) in enumerate(CASES.values(), start=1):
        reply = answer(number) | json.loads(unknown)
        line = {"response": reply, "context": CONTEXT, **around}
        lines.append(json.dumps(line).encode())
    return write_lines(path, lines)


def check(store, cases=CASES):
    v = store.read(where="ctx_n00 = 'x'", columns=["source_row", "extra", "ctx_n00"])
    found = {row.source_row: json.loads(row.extra) for row in v.itertuples()}
    assert found == {row: extra for row, (*_, extra) in enumerate(cases.values(), start=1)}
    assert "ctx_zz" not in store.read().columns
    assert store.check(deep=True) == []


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("options", [{}, {"response_path": "response"}], ids=["fast", "reference"])
def test_an_import_keeps_context_and_unknown_keys_apart(full, tmp_path, options, workers):
    summary = va.import_responses(
        write_cases(tmp_path / "more.ndjson"), full, workers=workers, **options
    )
    assert (summary.added, summary.rejected) == (len(CASES), 0)
    check(full)


@pytest.mark.parametrize("options", [[], ["--response-path", "response"]])
def test_the_command_line_does_too(full, tmp_path, options):
    path = write_cases(tmp_path / "more.ndjson")
    assert cli.main(["import", str(path), "--store", str(full.path), "-q", *options]) == 0
    check(full)


def test_a_delivery_does_too(full, tmp_path):
    cases = {name: case for name, case in CASES.items() if not case[1]}
    with Journal(tmp_path / "journal.sqlite", "fp") as journal:
        for number, (unknown, *_) in enumerate(cases.values(), start=1):
            body = json.dumps(answer(number) | json.loads(unknown)).encode()
            raw = raw_line(
                body, action="CertVerify", req_key="cert_pro_src_verify", token=f"{number:032x}",
                received_at=datetime(2024, 5, 1, tzinfo=UTC), http_status=200, context=CONTEXT,
            )  # fmt: skip
            reply = Reply(Outcome.ANSWERED, http_status=200, code=10000, billed=True)
            journal.record(str(number), "CertVerify", "cert_pro_src_verify", State.OK, reply, raw)
        assert deliver(journal, full).added == len(cases)
    check(full, cases)


def test_a_task_that_brings_too_many_names_keeps_them_apart(tmp_path):
    """The same when a first import brings more names than a store may have, one after another."""
    store = va.Store(tmp_path / "store", create=True)
    names = [f"m{number:03}" for number in range(70)]
    lines = [
        json.dumps(
            {"response": answer(row) | {"envelope": {"a": row}}, "context": {name: name}}
        ).encode()
        for row, name in enumerate(names)
    ]
    va.import_responses(write_lines(tmp_path / "a.ndjson", lines), store, workers=0)
    v = store.read()
    columns = [name for name in v.columns if name.startswith("ctx_")]
    assert len(columns) == 64
    for record in v.to_dict("records"):
        extra = json.loads(record["extra"])
        row, name = record["source_row"] - 1, names[record["source_row"] - 1]
        assert extra["envelope"] == {"a": row}
        found = extra.get("envelope_", {}).get("context", {})
        found |= {c[4:]: record[c] for c in columns if isinstance(record[c], str)}
        assert found == {name: name}


def test_numbers_keep_their_text_and_leftovers_of_the_context_stay(full, tmp_path):
    deep = "[" * 60 + "1.50" + "]" * 60
    reply = json.dumps(answer(1))[:-1]
    lines = [
        f'{{"response":{reply},"big":1E400,"deep":{deep}}},'
        f'"context":{{"n00":"x","zz":"y","tree":{{"b":2.0}}}}}}'.encode()
    ]
    va.import_responses(write_lines(tmp_path / "b.ndjson", lines), full, workers=0)
    (extra,) = full.read(where="ctx_n00 = 'x'")["extra"]
    context = '{"tree":{"b":2.0},"zz":"y"}'
    assert extra == f'{{"big":1E400,"deep":{deep},"envelope":{{"context":{context}}}}}'


def test_context_of_another_kind_stands_beside_the_options(full, tmp_path):
    """What the envelope calls `context` is no object, or holds an object under an option's name."""
    lines = [
        json.dumps({"response": answer(1), "context": "text"}).encode(),
        json.dumps({"response": answer(2), "context": {"zz": {"a": 1}}}).encode(),
    ]
    va.import_responses(write_lines(tmp_path / "b.ndjson", lines), full, workers=0, context=CONTEXT)
    first, second = full.read(where="ctx_n00 = 'x'").sort_values("source_row")["extra"]
    assert json.loads(first) == {"envelope": {"context": "text", "context_": {"zz": "y"}}}
    assert json.loads(second) == {"envelope": {"context": {"zz": {"a": 1}, "zz_": "y"}}}


def test_context_columns_come_with_the_first_row_that_has_them(store):
    bring(store, "a", [staged_answers.answer(1)])
    bring(store, "b", [staged_answers.answer(2, 1, ctx_app="x")])
    bring(store, "c", [staged_answers.answer(3, 1, ctx_app="y", ctx_channel="web")])
    frame = store.read(columns=["request_id", "ctx_app", "ctx_channel"])
    found = {row.request_id: (row.ctx_app, row.ctx_channel) for row in frame.itertuples()}
    assert found == {
        "id-000001": (pd.NA, pd.NA),
        "id-000002": ("x", pd.NA),
        "id-000003": ("y", "web"),
    }
    assert "ctx_app" not in store.read(as_of=1).columns
    assert store.read(as_of=2)["ctx_app"].dropna().tolist() == ["x"]
    assert store.check(deep=True) == []


def test_context_beyond_64_columns_goes_to_extra(store):
    names = [f"ctx_n{n:02}" for n in range(63)]
    bring(store, "a", [staged_answers.answer(1, **dict.fromkeys(names, "x"))])
    extra = '{"envelope":{"other":1},"key":2}'
    more = {"ctx_b": "1", "ctx_c": "2", "ctx_a": "0", "ctx_n00": "y"}
    row = staged_answers.answer(2, 1, extra=extra, **more)
    row["content"] = content(defaultdict(lambda: None, row), '{"key":2}')  # `other` is no reply's
    bring(store, "b", [row, staged_answers.answer(3, 2, ctx_b="3"), staged_answers.answer(4, 3)])
    frame = store.read().set_index("request_id")
    assert len([name for name in frame.columns if name.startswith("ctx_")]) == 64
    assert frame.loc["id-000002", "ctx_a"] == "0"
    assert frame.loc["id-000002", "ctx_n00"] == "y"
    assert json.loads(frame.loc["id-000002", "extra"]) == {
        "envelope": {"context": {"b": "1", "c": "2"}, "other": 1},
        "key": 2,
    }
    assert json.loads(frame.loc["id-000003", "extra"]) == {"envelope": {"context": {"b": "3"}}}
    assert frame.loc["id-000004", "extra"] is pd.NA
    assert store.check(deep=True) == []


def test_two_importers_together_bring_no_more_than_64_columns(tmp_path, monkeypatch):
    """Another import adds the last column while this one has decided to add it."""
    store = va.Store(tmp_path / "store", create=True)
    names = [f"ctx_n{n:02}" for n in range(63)]
    bring(store, "a", [staged_answers.answer(1, **dict.fromkeys(names, "x"))])
    decide = commits.beyond_limit
    others = [va.Store(store.path)]

    def meanwhile(held, wanted):
        surplus = decide(held, wanted)
        while others:
            bring(others.pop(), "b", [staged_answers.answer(2, 1, ctx_y="y")])
        return surplus

    monkeypatch.setattr(commits, "beyond_limit", meanwhile)
    bring(store, "c", [staged_answers.answer(3, 1, ctx_z="z")])
    v = store.read().set_index("request_id")
    assert len([name for name in v.columns if name.startswith("ctx_")]) == 64
    assert v.loc["id-000002", "ctx_y"] == "y"
    assert json.loads(v.loc["id-000003", "extra"]) == {"envelope": {"context": {"z": "z"}}}
    assert store.check(deep=True) == []


def test_a_month_without_the_context_that_another_month_of_the_source_folds(full, tmp_path):
    """A batch is a file a month: in one of them no row has the context that finds no column."""
    lines = [
        {"response": answer(1), "occurred_at": "2024-05-01T00:00:00Z", "context": {"zz": "y"}},
        {"response": answer(2), "occurred_at": "2024-06-01T00:00:00Z"},
    ]
    path = write_lines(tmp_path / "months.ndjson", [json.dumps(line).encode() for line in lines])
    assert va.import_responses(path, full, workers=0).added == 2
    v = full.read("verifications", since="2024-05-01").set_index("month")["extra"]
    assert json.loads(v["2024-05"]) == {"envelope": {"context": {"zz": "y"}}}
    assert pd.isna(v["2024-06"])
