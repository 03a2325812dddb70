"""Settled calls: what stays of a call whose answer the store holds, some 50 bytes.

The key stays, so the call is never sent again; an erased one stays as the hash of its key. How many
calls are in each state is kept by triggers, so that nobody has to count them.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Collection, Iterable
from typing import Any

from verifyanalytics.vendor.replies import State

SCHEMA = """
create table settled (
    key blob primary key, state text not null, billed integer, answer_seq integer,
    at integer not null, code integer, tries integer not null, kind integer not null, answer blob
) without rowid;
create table kinds (
    kind integer primary key, action text not null, req_key text not null, unique (action, req_key)
);
create table counts (
    state text not null, billed integer not null, n integer not null, primary key (state, billed)
) without rowid;
"""
_COUNT = (
    "insert into counts values ({0}.state, coalesce({0}.billed, -1), {1})"
    " on conflict (state, billed) do update set n = n + {1};"
)
TRIGGERS = "".join(
    f"create trigger {table}_{event.split()[0]} after {event} on {table} begin {body} end;"
    for table in ("calls", "settled")
    for event, body in (
        ("insert", _COUNT.format("new", 1)),
        ("delete", _COUNT.format("old", -1)),
        ("update of state, billed", _COUNT.format("old", -1) + _COUNT.format("new", 1)),
    )
)
"""They keep `counts`; −1 stands for billing that is not known."""

COUNT_ALL = (
    "insert into counts select state, coalesce(billed, -1), count(*) from calls group by 1, 2;"
)

CHUNK = 5_000
"""Calls of one transaction."""

_TO_SETTLE = (
    "select c.key, c.state, c.billed, c.answer_seq, c.changed_at, c.code, c.sub_code, c.tries,"
    " c.action, c.req_key, a.raw from {} where c.state in ('OK', 'REJECTED') and {}"
)


def packed(key: str) -> bytes | str:
    """Give a key as `settled` has it: 16 bytes instead of 32 hexadecimal digits."""
    return bytes.fromhex(key) if re.fullmatch(r"[0-9a-f]{32}", key) else key


def unpacked(key: bytes | str) -> str:
    """Give a key as the other tables have it."""
    return key if isinstance(key, str) else key.hex()


def erased_key(key: str) -> bytes:
    """Give what stays of the key of an erased call; a key is a keyed hash already."""
    return hashlib.sha256(f"erased\0{key}".encode()).digest()[:16]


def find(db: sqlite3.Connection, key: str) -> tuple[Any, ...] | None:
    """Give (key, state, billed, answer_seq, at, code, tries, action, req_key) of a settled call."""
    found: tuple[Any, ...] | None = db.execute(
        "select key, state, billed, answer_seq, at, code, tries, action, req_key"
        " from settled join kinds using (kind) where key in (?, ?)",
        (packed(key), erased_key(key)),
    ).fetchone()
    return found


def unknown(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Give those of some rows, each beginning with its key, whose call is not settled."""
    query = "select 1 from settled where key in (?, ?)"
    return [
        row
        for row in rows
        if db.execute(query, (packed(row[0]), erased_key(row[0]))).fetchone() is None
    ]


def settle(db: sqlite3.Connection, up_to: int) -> bool:
    """Settle a chunk of calls whose answers, numbered `up_to` or lower, the store holds.

    Gives whether there may be more.
    """
    found = db.execute("select value from meta where name = 'settled'").fetchone()
    if found is None:  # a journal of an earlier version; some of its answers are gone
        joined = "calls c left join answers a on a.answer_seq = c.answer_seq"
        query = _TO_SETTLE.format(joined, f"c.answer_seq <= ? limit {CHUNK}")
        rows = db.execute(query, (up_to,)).fetchall()
        reached, more = up_to, len(rows) == CHUNK
    else:
        below = (
            f"select answer_seq from answers where answer_seq > ? and answer_seq <= ? limit {CHUNK}"
        )
        seqs = [seq for (seq,) in db.execute(below, (int(found[0]), up_to))]
        reached, more = max(seqs, default=up_to), len(seqs) == CHUNK
        joined = "answers a join calls c on c.key = a.key and c.answer_seq = a.answer_seq"
        query = _TO_SETTLE.format(joined, "a.answer_seq > ? and a.answer_seq <= ?")
        rows = db.execute(query, (int(found[0]), reached)).fetchall()
    for key, state, billed, seq, at, code, sub_code, tries, action, req_key, raw in rows:
        kept = code if state == State.REJECTED and sub_code is None else None
        answer = None if raw is None else hashlib.sha256(raw).digest()[:8]
        row = (packed(key), state, billed, seq, int(at), kept, tries)
        _put(db, row, _kind(db, action, req_key), answer)
    keys = [(row[0],) for row in rows]
    _forget(db, keys)
    if found is not None or not more:
        value = str(max(reached, int(found[0]) if found else 0))
        db.execute("insert or replace into meta values ('settled', ?)", (value,))
    return more


def _put(db: sqlite3.Connection, row: tuple[Any, ...], kind: int, answer: bytes | None) -> None:
    db.execute("insert into settled values (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, kind, answer))


def _forget(db: sqlite3.Connection, keys: Collection[tuple[str]]) -> None:
    db.executemany("delete from calls where key = ?", keys)
    db.executemany("delete from attempts where key = ?", keys)


def _kind(db: sqlite3.Connection, action: str, req_key: str) -> int:
    db.execute("insert or ignore into kinds (action, req_key) values (?, ?)", (action, req_key))
    query = "select kind from kinds where action = ? and req_key = ?"
    return int(db.execute(query, (action, req_key)).fetchone()[0])


def recall(db: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> list[str]:
    """Make refused calls that are settled whole again; give their keys."""
    query = (
        "select key, state, billed, answer_seq, at, code, tries, action, req_key"
        f" from settled join kinds using (kind) where state = 'REJECTED' and {where}"
    )
    keys = []
    for key, state, billed, seq, at, code, tries, action, req_key in db.execute(
        query, values
    ).fetchall():
        db.execute("delete from settled where key = ?", (key,))
        keys.append(unpacked(key))
        db.execute(
            "insert into calls (key, state, action, req_key, tries, planned_at, changed_at, code,"
            " billed, answer_seq) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (keys[-1], state, action, req_key, tries, at, at, code, billed, seq),
        )
    return keys


def forget_answers(db: sqlite3.Connection, up_to: int, before: float) -> int:
    """Delete a chunk of the oldest answers numbered `up_to` or lower and received before a time."""
    query = (
        "delete from answers where received_at < ? and answer_seq in"
        f" (select answer_seq from answers where answer_seq <= ? order by answer_seq limit {CHUNK})"
    )
    return db.execute(query, (before, up_to)).rowcount


# -------------------------------------------------------------------------------- erasing


def erase(db: sqlite3.Connection, keys: Collection[str]) -> int:
    """Leave of calls what keeps them from being sent again, and nothing of their answers."""
    n_erased = 0
    db.execute("create temp table if not exists gone (key text primary key)")
    db.execute("delete from gone")
    db.executemany("insert or ignore into gone values (?)", [(key,) for key in keys])
    for (key,) in db.execute("select key from gone").fetchall():
        call = "select ?, tries, billed, changed_at, action, req_key from calls where key = ?"
        found = db.execute(call, (None, key)).fetchone()
        if found is None:
            settled = (
                "select key, tries, billed, at, action, req_key"
                " from settled join kinds using (kind) where key = ?"
            )
            found = db.execute(settled, (packed(key),)).fetchone()
        if found is None:
            continue
        place, tries, billed, at, action, req_key = found
        db.execute("delete from settled where key = ?", (place,))
        row = (erased_key(key), State.ERASED, billed, None, int(at), None, tries)
        _put(db, row, _kind(db, action, req_key), None)
        n_erased += 1
    _forget(db, db.execute("select key from gone").fetchall())
    db.execute("delete from answers where key in (select key from gone)")
    db.execute("delete from gone")
    return n_erased


def older(db: sqlite3.Connection, before: float) -> list[str]:
    """Give the keys of a chunk of calls that did not change since a time, and are not erased."""
    query = f"select key from calls where changed_at < ? and state != '{State.SENT}' limit {CHUNK}"
    found = [key for (key,) in db.execute(query, (before,))]
    if found:
        return found
    query = f"select key from settled where at < ? and state != '{State.ERASED}' limit {CHUNK}"
    return [unpacked(key) for (key,) in db.execute(query, (before,))]
