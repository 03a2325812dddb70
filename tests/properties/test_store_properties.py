"""Laws of the store, over made-up batches: what is in it depends on the answers, not on the way."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders.staged_answers import answer, bring, part, reject, stage
from hypothesis import given, settings
from hypothesis import strategies as st

from verifyanalytics.store.store import Store

NIGHTLY = settings().max_examples > 1000
few = settings(max_examples=300 if NIGHTLY else 12)


@pytest.fixture(autouse=True)
def _no_key_of_the_caller(monkeypatch):
    monkeypatch.delenv("VERIFYANALYTICS_KEY_FILE", raising=False)


@st.composite
def _answers(draw: Any) -> list[dict[str, Any]]:
    """Answers with few ids, contents and tokens, so that they meet; a row may be a reject."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, 6),  # which id
                st.integers(0, 1),  # which content
                st.sampled_from([None, None, "t", "u"]),
                st.sampled_from(["CertVerify", "CertVerify", "CertVerifyQuery"]),
                st.sampled_from([10000, 10000, 50215, 50500]),
                st.integers(0, 9),  # 0: a reject
            ),
            max_size=14,
        )
    )
    rows: list[dict[str, Any]] = []
    for row, (number, content, token, action, code, kind) in enumerate(drawn, start=1):
        if kind == 0:
            rows.append(reject(row))
            continue
        changes = {"content": f"c-{number}-{content}", "action": action, "code": code}
        rows.append(answer(number * 200, row, token=token, **changes))
    return rows


def _loop(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, str], int, int]:
    """What a plain loop over the answers, in their order, keeps, knows and rejects."""
    kept: dict[str, str] = {}
    tokens: dict[str, list[str]] = {}
    n_known = n_rejected = 0
    for row in rows:
        if "reason" in row:
            n_rejected += 1
            continue
        if row["request_id"] in kept:
            same = kept[row["request_id"]] == row["content"]
            n_known, n_rejected = n_known + same, n_rejected + (not same)
            continue
        query = row["action"] == "CertVerifyQuery"
        settles = row["code"] == 10000 if query else row["code"] != 50500
        if row["token"] and settles:
            before = tokens.setdefault(row["token"], [])
            if "CertVerifyQuery" in before or (query and before):
                n_known += 1
                continue
            before.append(row["action"])
        kept[row["request_id"]] = row["content"]
    return kept, n_known, n_rejected


def _split(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return [row for row in rows if "reason" not in row], [row for row in rows if "reason" in row]


def _held(store: Store) -> dict[str, str]:
    frame = store.read(columns=["request_id", "content"])
    held = dict(zip(frame["request_id"], frame["content"], strict=True))
    assert len(held) == len(frame)
    return held


@few
@given(_answers(), st.lists(st.integers(0, 14), max_size=3), st.booleans())
def test_any_split_into_batches_gives_what_a_plain_loop_gives(rows, cuts, merge):
    """One source in parts, cut anywhere, with merging between: the same rows and counts."""
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store", create=True)
        for start, end in itertools.pairwise(edges):
            last = end == len(rows)
            progress = store.done(part("a", []).sha256)
            if progress is not None and progress.complete:
                break
            answers, rejects = _split(rows[start:end])
            options = {"first_row": start + 1, "rows_done": end, "bytes_done": end * 100 + 1}
            bring(store, "a", answers, rejects, complete=last, **options)
            if merge:
                store.compact()
        kept, n_known, n_rejected = _loop(rows)
        assert _held(store) == kept
        ledger = store.read("imports")
        assert ledger["n_added"].sum() == len(kept)
        assert ledger["n_known"].sum() == n_known
        assert ledger["n_rejected"].sum() == n_rejected == len(store.read("rejects"))
        assert ledger["n_read"].sum() == len(rows)
        assert store.check(deep=True) == []
        store.close()


@few
@given(_answers(), _answers())
def test_two_sources_in_one_batch_are_as_two_batches_in_their_order(first, second):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store", create=True)
        batch = store.new_batch()
        files, parts = [], []
        for source, rows in (("b", first), ("a", second)):
            answers, rejects = _split(rows)
            files += stage(store, batch, source, answers, rejects)
            parts.append(part(source, answers, rejects))
        made = store.append(batch, files[::-1], parts)
        kept, n_known, n_rejected = _loop([*first, *second])
        assert _held(store) == kept
        assert sum(count.n_known for count in made) == n_known
        assert sum(count.n_rejected for count in made) == n_rejected
        assert store.check(deep=True) == []
        store.close()


@few
@given(_answers())
def test_twice_is_once_under_whatever_name(rows):
    """A source again is already imported; the same answers in another file are known."""
    answers, rejects = _split(rows)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store", create=True)
        bring(store, "a", answers, rejects)
        before, n_versions = _held(store), len(store.versions())
        assert bring(store, "a", answers, rejects).already_imported
        assert len(store.versions()) == n_versions
        again = bring(store, "b", answers, rejects)
        assert again.n_added == 0 or any(row["token"] for row in answers)
        kept, n_known, _ = _loop([*answers, *answers])
        assert _held(store) == kept
        assert store.read("imports")["n_known"].sum() == n_known
        assert before.items() <= kept.items()
        store.close()
