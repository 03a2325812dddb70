"""Laws of the import: the same rows whatever the cuts, the order, the interruptions."""

from __future__ import annotations

import tempfile
from pathlib import Path

from builders.stored_answers import expected, found, line, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st

import verifyanalytics as va

# few numbers and two contents, so that repeats and contradictions are common
TEXTS = st.one_of(
    st.builds(
        lambda number, twist: line(number, days=number * 9, score=50 + twist),
        st.integers(0, 12),
        st.sampled_from([0, 0, 1]),
    ),
    st.sampled_from([b"", b"NaN", b'{"hello": "world"}']),
)
FILES = st.lists(st.lists(TEXTS, max_size=14), min_size=1, max_size=4)
EXAMPLES = settings(max_examples=12)


def written(folder, files):
    """The files on disk, as (name, lines) in the order of their names; equal ones once."""
    found_files, seen = [], set()
    for place, lines in enumerate(files):
        path = write_lines(Path(folder) / f"{place}.ndjson", lines)
        if path.read_bytes() not in seen:
            found_files.append((path.as_posix(), lines))
        seen.add(path.read_bytes())
    return found_files


@EXAMPLES
@given(files=FILES, batch_bytes=st.sampled_from([None, 1, 700, 3000]))
def test_rows_and_rejects_are_those_of_a_plain_loop_however_it_is_cut(files, batch_bytes):
    with tempfile.TemporaryDirectory() as folder:
        distinct = written(folder, files)
        names = sorted(str(path) for path in Path(folder).glob("*.ndjson"))
        store = va.Store(Path(folder) / "store", create=True)
        summary = va.import_responses(names, store, workers=0, batch_bytes=batch_bytes)
        rows, rejects, n_known = expected(distinct)
        assert found(store) == (rows, rejects)
        counts = (summary.added, summary.known, summary.rejected)
        assert counts == (len(rows), n_known, len(rejects))
        assert store.check() == []
        store.close()


@EXAMPLES
@given(files=FILES, first=st.integers(0, 3), batch_bytes=st.sampled_from([None, 900]))
def test_importing_twice_is_importing_once(files, first, batch_bytes):
    with tempfile.TemporaryDirectory() as folder:
        distinct = written(folder, files)
        names = [name for name, _ in distinct]
        store = va.Store(Path(folder) / "store", create=True)
        va.import_responses(names[: first + 1], store, workers=0, batch_bytes=batch_bytes)
        once = va.import_responses(names, store, workers=0)
        twice = va.import_responses(names, store, workers=0)
        assert found(store) == expected(distinct)[:2]
        assert (twice.read, twice.already_imported) == (0, once.read + once.already_imported)
        store.close()


@EXAMPLES
@given(files=FILES, order=st.randoms(use_true_random=False))
def test_the_set_of_ids_does_not_depend_on_the_order_of_imports(files, order):
    with tempfile.TemporaryDirectory() as folder:
        distinct = written(folder, files)
        shuffled = [name for name, _ in distinct]
        order.shuffle(shuffled)
        store = va.Store(Path(folder) / "store", create=True)
        for name in shuffled:
            va.import_responses(name, store, workers=0)
        by_name = dict(distinct)
        rows, rejects, _ = expected([(name, by_name[name]) for name in shuffled])
        assert found(store) == (rows, rejects)
        assert set(rows) == set(expected(distinct)[0])
        store.close()
