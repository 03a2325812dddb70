"""Delivery: raw answers of a journal become rows of the store, each once, also after a crash.

The store's commit carries a stamp, the number of the highest answer in it. Answers above the stamp
are flattened and committed. A crash before the commit leaves the stamp, so it is done again; one
after it leaves nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from verifyanalytics.errors import NoStoreError
from verifyanalytics.journal.journal import Journal, JournalView, StoredAnswer
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.sources.streams import BLOCK_BYTES, Block, Document
from verifyanalytics.store.staging import Staging
from verifyanalytics.store.store import ImportedRange, Store
from verifyanalytics.vendor.api import RATE_CODES, REFUSED_CODES

MOST_ANSWERS = 20_000
"""Answers of one commit at most."""

KEEP_RAW_S = 86400.0
"""Seconds that a journal keeps raw answers which the store holds, for `reflatten` and `repair`."""


@dataclass(slots=True)
class Delivered:
    """Counts of answers: new rows, rows that were there, rejects; and the batches they are in."""

    added: int = 0
    known: int = 0
    rejected: int = 0
    batches: tuple[str, ...] = ()

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(
            self.added + other.added,
            self.known + other.known,
            self.rejected + other.rejected,
            self.batches + other.batches,
        )


def deliver(journal: Journal, store: Store, *, keep_raw_s: float = KEEP_RAW_S) -> Delivered:
    """Commit every answer above the store's stamp; what the store holds leaves the journal.

    Raises
    ------
    StorageError
        The store cannot be written; the answers stay in the journal.
    """
    total = Delivered()
    name = f"journal:{journal.uuid}"
    while True:
        done = store.done(name)
        above, n_bytes = (done.rows_done, done.bytes_done) if done else (0, 0)
        answers = journal.answers(above, MOST_ANSWERS)
        if not answers:
            journal.release(above, time.time() - keep_raw_s)
            return total
        total += _commit(store, name, answers, above, n_bytes)


def answered(store: Store, keys: Collection[str]) -> set[str]:
    """Give those of these tokens for which the store has an answer, from any source.

    A refusal that proves that nothing was processed is no answer. Reads the `token` column of the
    store once.

    Parameters
    ----------
    store : Store
    keys : collection of str
        Keyed hashes of tokens: a call's key in the journal is its row's `token` in the store.

    Raises
    ------
    StorageError
        The store cannot be read.
    """
    marks = ", ".join(f"'{key}'" for key in keys)
    refusals = ", ".join(str(code) for code in sorted(RATE_CODES | REFUSED_CODES))
    if not marks:
        return set()
    try:
        rows = store.scan(
            "verifications",
            columns=["token"],
            where=f"token in ({marks}) and code not in ({refusals})",
        )
    except NoStoreError:
        return set()
    return {token for (token,) in rows.fetchall()}


def undelivered(journal: Journal | JournalView, store: Store) -> int:
    """How many answers of a journal are not in the store yet."""
    done = store.done(f"journal:{journal.uuid}")
    return journal.n_answers(above=done.rows_done if done else 0)


@dataclass(slots=True)
class Reflattened:
    """Counts of answers that were read again.

    Attributes
    ----------
    read : int
        Answers read again.
    changed : int
        Rows that took the place of others.
    refused : int
        Answers that are read another way now but whose rows stay: a row would become a reject or
        a reject a row, or its request_id or month would change.
    """

    read: int = 0
    changed: int = 0
    refused: int = 0

    def __str__(self) -> str:
        same = self.read - self.changed - self.refused
        parts = f"same {same:,} + changed {self.changed:,} + refused {self.refused:,}"
        return f"read {self.read:,} = {parts}"


def reflatten(journal: Journal, store: Store) -> Reflattened:
    """Read every answer again that is kept and in the store; replace the rows that changed.

    Raises
    ------
    StorageError
        The store cannot be written; it stays as it was.
    """
    name = f"journal:{journal.uuid}"
    done = store.done(name)
    total = Reflattened()
    above, last = 0, done.rows_done if done else 0
    while answers := [a for a in journal.answers(above, MOST_ANSWERS) if a.answer_seq <= last]:
        above = answers[-1].answer_seq
        total.read += len(answers)
        _reread(store, name, answers, total)
    return total


def _reread(store: Store, name: str, answers: list[StoredAnswer], total: Reflattened) -> None:
    flattener = Flattener(_options(store))
    tables = [
        pa.Table.from_batches([flattener.flatten(block).verifications])
        for block in _blocks(name, answers, 0)
    ]
    fresh = pa.concat_tables(tables, promote_options="default")
    first, last = answers[0].answer_seq, answers[-1].answer_seq
    where = f"source = '{name}' and source_row between {first} and {last}"
    rows = store.scan("verifications", where=where).to_arrow_table().to_pylist()
    stored: dict[int, dict[str, Any]] = {row["source_row"]: row for row in rows}
    found = {row["source_row"]: row for row in fresh.to_pylist()}
    changed = []
    for number in stored.keys() & found.keys():
        old, new = stored[number], found[number]
        new["batch"] = old["batch"]
        same_place = old["request_id"] == new["request_id"] and old["month"] == new["month"]
        if any(new.get(column) != value for column, value in old.items()):
            total.refused += not same_place
            changed += [new] if same_place else []
    # a row that is known under another answer, or was a reject, has no stored row of its own
    total.refused += len(stored.keys() - found.keys())
    if changed:
        schema = fresh.schema.append(pa.field("batch", pa.string()))
        table = pa.Table.from_pylist(changed, schema=schema).drop_columns("month")
        total.changed += store.replace_rows(table)


def _options(store: Store) -> ReadOptions:
    return ReadOptions(key=store.key, collected=True, time_source="collector")


def _commit(
    store: Store, name: str, answers: list[StoredAnswer], above: int, n_bytes: int
) -> Delivered:
    batch = store.new_batch()
    staging = Staging(store.staging(batch), batch, "journal")
    flattener = Flattener(_options(store))
    n_read = n_rejected = 0
    try:
        for block in _blocks(name, answers, n_bytes):
            flat = flattener.flatten(block)
            staging.add(flat.verifications, flat.rejects)
            n_read += flat.n_read
            n_rejected += flat.rejects.num_rows
        staged = staging.close()
    except BaseException:
        staging.discard()
        store.discard(batch)
        raise
    length = sum(len(answer.raw) + 1 for answer in answers)
    last = answers[-1].answer_seq
    answered_range = ImportedRange(
        source=name,
        sha256=name,
        first_row=above + 1,  # some before the first may be gone from the journal
        rows_done=last,
        bytes_done=n_bytes + length,
        complete=False,
        n_bytes=length,
        n_read=n_read,
        n_rejected=n_rejected,
    )
    (count,) = store.append(batch, staged, [answered_range], stamps={name: last})
    return Delivered(count.n_added, count.n_known, count.n_rejected, (batch,))


def _blocks(name: str, answers: list[StoredAnswer], offset: int) -> Iterator[Block]:
    """Blocks whose rows are the answers' numbers."""
    data = bytearray()
    places: list[Document] = []
    for answer in answers:
        places.append(Document(answer.answer_seq, len(data), len(data) + len(answer.raw)))
        data += answer.raw + b"\n"
        if len(data) >= BLOCK_BYTES:
            yield Block(name, bytes(data), places[0].row, offset, tuple(places))
            offset += len(data)
            data, places = bytearray(), []
    if places:
        yield Block(name, bytes(data), places[0].row, offset, tuple(places))
