"""Erasing persons, calls and old answers: from the store, its journals and every older version.

Tombstones come first, then labels, journals and rows, then files of older versions. What was cut
short is taken up by the next erasure, so a repeated command ends it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifyanalytics.collecting.verbs import as_store, journal_path
from verifyanalytics.errors import UsageError
from verifyanalytics.journal.delivery import deliver
from verifyanalytics.journal.journal import OPEN_STATES, Journal, JournalView
from verifyanalytics.journal.registry import Registry
from verifyanalytics.parsing.text import keyed_hash
from verifyanalytics.store.erasing import Selection
from verifyanalytics.store.files import fingerprint
from verifyanalytics.store.maintenance import retention_hours
from verifyanalytics.store.store import Store
from verifyanalytics.store.views import instant

if TYPE_CHECKING:
    import pandas as pd

_HASHED = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class Erased:
    """What an erasure took, or would take.

    Attributes
    ----------
    rows, rejects, labels : int
        Of the store's tables.
    calls : int
        Of the journals; each keeps a hash, so it is never sent again.
    resumed : int
        Erasures that had been cut short and are done now.
    copies : list of str
        Exports, reports and copies of journals made before, which are yours to delete.
    gone : list of str
        Journals that the store knows and that are not there, so nothing was erased in them.
    dry_run : bool
    """

    rows: int = 0
    rejects: int = 0
    labels: int = 0
    calls: int = 0
    resumed: int = 0
    copies: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    dry_run: bool = False

    def __str__(self) -> str:
        counts = {"rows": self.rows, "rejects": self.rejects, "labels": self.labels}
        parts = [f"{n:,} {name}" for name, n in counts.items()]
        parts += [] if self.dry_run else [f"{self.calls:,} calls of journals"]
        lines = [f"{'would erase' if self.dry_run else 'erased'} {', '.join(parts)}"]
        if self.resumed:
            lines.append(f"{self.resumed} erasures that were cut short are done now")
        if not self.dry_run:
            lines.append("older versions cannot be read any more: erasure goes before them")
        if self.copies:
            lines.append(f"made before, delete them yourself: {', '.join(self.copies)}")
        if self.gone:
            lines.append(f"not there, so nothing was erased in them: {', '.join(self.gone)}")
        return "\n".join(lines)


def erase(
    store: Store | str | Path,
    *,
    subjects: Iterable[str] = (),
    tokens: Iterable[str] = (),
    request_ids: Iterable[str] = (),
    sources: Iterable[str] = (),
    before: Any = None,
    journal: str | Path | None = None,
    dry_run: bool = False,
) -> Erased:
    """Erase for good, and keep out what a later import brings again.

    Rows, rejects and labels go from the tables and from every older version, calls and raw answers
    from the journals. What stays are keyed hashes that no one can read back, which every import
    asks, and counts: `check` still adds up. Without a selection it ends what was cut short.

    Parameters
    ----------
    store : Store or path
    subjects : iterable of str
        Persons, as your data name them or as `verifications.subject` has them. Their answers
        without a person go too, by the token. Answers after this moment are not kept out.
    tokens : iterable of str
        byted_tokens, or the hashes in `verifications.token`.
    request_ids : iterable of str
    sources : iterable of str
        Everything that these files brought, by the names in `imports.source`; the names go too.
    before : datetime, date or ISO text, optional
        Everything older; answers of unknown time stay. Without a zone UTC.
    journal : path, optional
        Default: beside the store. Journals that the store knows are included.
    dry_run : bool
        Only count rows, rejects and labels.

    Returns
    -------
    Erased

    Raises
    ------
    NoStoreError
    UsageError
        Nothing is selected, or no source has the name.
    StorageError
        A journal is in use, or the disk; run it again to go on.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "store", create=True)
    >>> print(erase(store, subjects=["a person"], dry_run=True))
    would erase 0 rows, 0 rejects, 0 labels
    >>> erase(store, subjects=["a person"]).rows
    0

    See Also
    --------
    verifyanalytics.retain : Erases by age, again and again.
    verifyanalytics.inventory : What is held, and since when.
    """
    store = as_store(store)
    store.versions()  # there must be one
    selection = _selection(store, subjects, tokens, request_ids, sources, before)
    done = Erased(dry_run=dry_run)
    done.copies = [copy["path"] for copy in store.copies() if Path(copy["path"]).exists()]
    if dry_run:
        if selection is not None:
            found = store.erasable(selection)
            done.rows, done.rejects, done.labels = found.n_rows, found.n_rejects, found.n_labels
        return done
    begun = store.erasures()
    if selection is None and not begun:
        raise UsageError("nothing is selected: name persons, tokens, ids, sources or a moment")
    key = fingerprint(store.key)
    with ExitStack() as stack:
        places, done.gone = _journals(store, journal)
        registry = Registry(store.path) if not done.gone else None
        journals = [
            stack.enter_context(Journal(place, key, create=False, registry=registry))
            for place in places
        ]
        for opened in journals:
            deliver(opened, store)  # what is not in the store yet could not be found
        for name in begun:
            _finish(store, journals, name, done)
            done.resumed += 1
        if selection is not None:
            needles = [*selection.request_ids, *selection.subjects]
            keys = [opened.keys_of(needles) for opened in journals]
            name = store.begin_erasure(selection)
            for opened, found_keys in zip(journals, keys, strict=True):
                done.calls += opened.erase([*found_keys, *selection.tokens])
            _finish(store, journals, name, done)
    return done


def _selection(
    store: Store, subjects: Any, tokens: Any, request_ids: Any, sources: Any, before: Any
) -> Selection | None:
    """Bring what a person names into the form in which the store has it; None for nothing."""
    given = [_texts("subjects", subjects), _texts("tokens", tokens)]
    given += [_texts("request_ids", request_ids), _texts("sources", sources)]
    moment = instant(before, "before")
    if not any(given) and moment is None:
        return None
    hashed = [
        [keyed_hash(store.key, kind, text) for text in texts]
        + [text for text in texts if _HASHED.fullmatch(text)]
        for kind, texts in zip(("subject", "token"), given[:2], strict=True)
    ]
    return Selection(given[2], hashed[1], hashed[0], given[3], moment)


def _texts(name: str, values: Any) -> list[str]:
    found = [values] if isinstance(values, str) else list(values)
    if not all(isinstance(value, str) and value for value in found):
        raise UsageError(f"{name} are texts that are not empty")
    return found


def _journals(store: Store, journal: str | Path | None) -> tuple[list[Path], list[str]]:
    """Give the journals that are there, and those that the store knows and that are gone."""
    default = journal_path(store) if journal is None else Path(journal)
    known = [
        Path(os.path.normpath(store.path / record["path"]))
        for record in Registry(store.path).records().values()
    ]
    places = dict.fromkeys(path.resolve() for path in (default, *known))
    there = [path for path in places if path.exists()]
    return there, [str(path) for path in known if not path.exists()]


def _finish(store: Store, journals: Sequence[Journal], name: str, done: Erased) -> None:
    """Do what is left of an erasure that has begun."""
    found = store.erasable(name)
    for opened in journals:
        planned = store.erased_tokens(name, opened.keys())
        before = None if found.before is None else found.before.timestamp()
        done.calls += opened.erase([*found.tokens, *planned], before=before)
    erased = store.erase(name)
    done.rows += erased.n_rows
    done.rejects += erased.n_rejects
    done.labels += erased.n_labels
    store.end_erasure(name)


def retain(
    store: Store | str | Path,
    keep: str | timedelta | None = None,
    *,
    journal: str | Path | None = None,
    dry_run: bool = False,
) -> Erased:
    """Erase what is older than a store may keep; each night, with the rule it was given once.

    Parameters
    ----------
    store : Store or path
    keep : str or timedelta, optional
        Such as `180d` or `12h`; kept as the rule of this store. Without it the rule applies.
    journal : path, optional
        Default: beside the store.
    dry_run : bool
        Only count; the rule stays as it was.

    Returns
    -------
    Erased

    Raises
    ------
    NoStoreError, StorageError
    UsageError
        No rule was given yet, or it is no length of time.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "store", create=True)
    >>> retain(store, "180d").rows, retain(store).rows
    (0, 0)

    See Also
    --------
    verifyanalytics.erase : Erases persons, calls and sources.
    """
    store = as_store(store)
    store.versions()
    if keep is None:
        hours = store.retention()
        if hours is None:
            raise UsageError("this store has no rule yet: say how long it keeps, such as 180d")
    else:
        hours = retention_hours(keep)
        if not dry_run:
            store.set_retention(hours)
    before = datetime.now(UTC) - timedelta(hours=hours)
    return erase(store, before=before, journal=journal, dry_run=dry_run)


def inventory(store: Store | str | Path, *, journal: str | Path | None = None) -> pd.DataFrame:
    """List what is held of persons, since when, and until when.

    Parameters
    ----------
    store : Store or path
    journal : path, optional
        Default: beside the store.

    Returns
    -------
    pandas.DataFrame
        One row a kind of data: what, place, n, subjects (persons, null where they are not known),
        since and until (the oldest and the newest, UTC), kept_until (when `retain` erases the
        oldest; null without a rule).

    Raises
    ------
    NoStoreError, StorageError

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "store", create=True)
    >>> inventory(store)["what"].tolist()[:3]
    ['verifications', 'rejects', 'labels']

    See Also
    --------
    verifyanalytics.erase, verifyanalytics.retain : Make it less.
    """
    import pandas as pd

    store = as_store(store)
    rows: list[tuple[Any, ...]] = []
    for table, at, who in (
        ("verifications", "occurred_at", "count(DISTINCT subject)"),
        ("rejects", "rejected_at", "NULL"),
        ("labels", "labelled_at", "NULL"),
    ):
        found = store.sql(
            f"SELECT count(*) AS n, {who} AS subjects, min({at}) AS since, max({at}) AS until "
            f"FROM {table}"
        ).iloc[0]
        rows.append((table, str(store.path), *found))
    rows += [(what, str(store.path), n, None, None, None) for what, n in store.leftovers().items()]
    places, gone = _journals(store, journal)
    for place in places:
        with JournalView(place, fingerprint(store.key)) as view:
            states = view.states()
            n_calls, n_open = sum(states.values()), sum(states[state] for state in OPEN_STATES)
            first, last = view.span()
            rows.append(("calls", str(place), n_calls, None, None, None))
            rows.append(("tokens of calls in doubt", str(place), n_open, None, None, None))
            rows.append(("raw answers", str(place), view.n_answers(), None, first, last))
    rows += [("a journal that is gone", place, None, None, None, None) for place in gone]
    rows += [(copy["what"], copy["path"], None, None, None, copy["at"]) for copy in store.copies()]
    frame = pd.DataFrame(rows, columns=["what", "place", "n", "subjects", "since", "until"])
    frame["n"] = frame["n"].astype("Int64")
    frame["subjects"] = frame["subjects"].astype("Int64")
    for name in ("since", "until"):
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    hours = store.retention()
    kept = pd.NaT if hours is None else frame["since"] + timedelta(hours=hours)
    frame["kept_until"] = pd.to_datetime(kept, utc=True)
    return frame
