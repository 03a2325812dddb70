"""Copies of a journal, and what to do when the newest one is gone.

A journal knows which calls were sent. A copy knows less, so `adopt_journal` puts whatever may have
been sent since in doubt: a query, or a person, settles it; nothing is sent twice.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from verifyanalytics.collecting.requests import Requests, chunks, read_calls
from verifyanalytics.collecting.verbs import as_store, journal_path, reason_text
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.journal.database import as_storage_error, set_meta, take_lock
from verifyanalytics.journal.delivery import answered, deliver
from verifyanalytics.journal.journal import Journal
from verifyanalytics.journal.reader import JournalView
from verifyanalytics.journal.registry import Registry
from verifyanalytics.store.disk import sync
from verifyanalytics.store.files import fingerprint
from verifyanalytics.store.store import Store


def adopt_journal(
    store: Store | str | Path,
    requests: Requests,
    *,
    reason: str,
    journal: str | Path | None = None,
    refused: Callable[[int, str], None] | None = None,
) -> int:
    """Go on with an older or a new journal, after the newest was lost; send nothing.

    Calls of the journal that are PLANNED, and those of `requests` that it does not know, may have
    been sent meanwhile, so they become IN_DOUBT, unless the store has their answer: `resolve` asks
    for their results within the hour, `mark` settles them by hand.

    Parameters
    ----------
    store : Store or path
    requests : path or iterable of mapping
        Every request that was given to `collect` since the copy was made, in the form of `collect`;
        an empty list says that there was none.
    reason : str
        Why; it stays in the journal.
    journal : path, optional
        Default: beside the store. It is made when it is not there.
    refused : callable, optional
        Called with the line number and what is wrong for each line that cannot be read.

    Returns
    -------
    int
        Calls that came to be in doubt.

    Raises
    ------
    UsageError
        The reason is empty or no text; the requests cannot be read.
    StorageError
        The journal is damaged, in use, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "store", create=True)
    >>> request = {"req_key": "cert_pro_src_verify", "byted_token": "token-1",
    ...            "sdk_data": "…", "risk_info": "…"}
    >>> adopt_journal(store, [request], reason="the disk of the journal died")
    1

    See Also
    --------
    verifyanalytics.resolve, verifyanalytics.mark : Settle calls in doubt.
    """
    store, note = as_store(store), reason_text(reason)
    key, registry = store.key, Registry(store.path)
    place = Path(journal) if journal is not None else journal_path(store)
    calls = read_calls(requests, key, queries=False, refused=refused or _refuse)
    with Journal(place, fingerprint(key)) as opened:
        known = registry.records()
        done = store.done(f"journal:{opened.uuid}")
        mine = known.get(opened.uuid, {"epoch": 0, "seq": 0})
        seq = max(mine["seq"], done.rows_done if done else 0)
        n_doubted = 0
        for chunk in chunks(calls):  # first, since the requests may turn out to be unreadable
            answers = answered(store, {call.key for call in chunk})
            n_doubted += opened.doubt(
                (
                    (call.key, call.action, call.body["req_key"], call.token)
                    for call in chunk
                    if call.key not in answers
                ),
                note,
            )
        n_doubted += opened.adopt(seq, mine["epoch"], note)
        uuid = opened.uuid
    for other, record in known.items():
        path = Path(os.path.normpath(store.path / record["path"]))
        if other != uuid and (path == place.resolve() or not path.exists()):
            registry.retire(other, note)
    with Journal(place, fingerprint(key), registry=registry):
        return n_doubted  # the store knows it now


def backup_journal(
    store: Store | str | Path, path: str | Path, *, journal: str | Path | None = None
) -> None:
    """Copy the journal to a new file, whole and of one moment, also while a run goes on.

    Parameters
    ----------
    store : Store or path
    path : path
        The new file; it holds tokens of calls in doubt, so its mode is 0600.
    journal : path, optional
        Default: beside the store.

    Raises
    ------
    UsageError
        There is no journal, or the file is there.
    StorageError
        The copy cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from verifyanalytics.collecting.verbs import open_journal
    >>> folder = Path(tempfile.mkdtemp())
    >>> store = Store(folder / "store", create=True)
    >>> open_journal(store).close()
    >>> backup_journal(store, folder / "copy.sqlite")

    See Also
    --------
    verifyanalytics.restore_journal : Puts the copy back.
    """
    store, target = as_store(store), Path(path)
    place = Path(journal) if journal is not None else journal_path(store)
    with JournalView(place, fingerprint(store.key)) as view:
        if target.exists():
            raise UsageError(f"{target} is there; a backup replaces nothing")
        with as_storage_error(target):
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(sqlite3.connect(target)) as copy:
                view.copy_to(copy)
            sync(target)
            sync(target.absolute().parent)
    store.note_copy("copy of the journal", target)


def restore_journal(
    store: Store | str | Path, path: str | Path, *, journal: str | Path | None = None
) -> None:
    """Put a copy in the place of a journal that is gone; `adopt_journal` must follow.

    Parameters
    ----------
    store : Store or path
    path : path
        From `backup_journal`; it stays.
    journal : path, optional
        Default: beside the store.

    Raises
    ------
    UsageError
        A journal is there already, or the copy is not.
    StorageError
        The copy is damaged, or made with another store's key.

    Examples
    --------
    >>> import tempfile
    >>> from verifyanalytics.collecting.verbs import open_journal
    >>> folder = Path(tempfile.mkdtemp())
    >>> store = Store(folder / "store", create=True)
    >>> open_journal(store).close()
    >>> backup_journal(store, folder / "copy.sqlite")
    >>> journal_path(store).unlink()
    >>> restore_journal(store, folder / "copy.sqlite")

    See Also
    --------
    verifyanalytics.adopt_journal : Goes on with what was restored.
    """
    store = as_store(store)
    place = Path(journal) if journal is not None else journal_path(store)
    with JournalView(Path(path), fingerprint(store.key)) as view, take_lock(place.absolute()):
        if place.exists():
            raise UsageError(f"{place} is there; a restore replaces nothing")
        draft = place.with_name(f"{place.name}.new")
        with as_storage_error(place):
            draft.unlink(missing_ok=True)
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(sqlite3.connect(draft)) as copy:
                view.copy_to(copy)
                set_meta(copy, "epoch", "-1")
                copy.commit()
                damage = copy.execute("pragma integrity_check(1)").fetchone()[0]
            if damage != "ok":
                draft.unlink()
                raise StorageError(f"{path} is damaged ({damage})", path=Path(path))
            sync(draft)
            draft.replace(place)
            sync(place.parent)


def deliver_again(store: Store | str | Path) -> int:
    """Deliver what the journals of a store still hold and it lost; give the number of rows."""
    store = as_store(store)
    n_added = 0
    for record in Registry(store.path).records().values():
        place = Path(os.path.normpath(store.path / record["path"]))
        if place.exists():
            with Journal(
                place, fingerprint(store.key), create=False, registry=Registry(store.path)
            ) as opened:
                n_added += deliver(opened, store).added
    return n_added


def _refuse(number: int, why: str) -> Any:
    raise UsageError(f"request {number}: {why}")
