"""The collector's verbs: planned calls are sent once each, and each response becomes a row once.

`collect` sends CertVerify calls, `query` asks for stored outcomes, `resolve` settles calls in
doubt, `status` and `mark` show and settle them by hand. The journal is between vendor and
store: after a crash some calls may be in doubt, but none is sent twice and no response is lost.
Responses go through the same parser and the same commits as imports; a stamp in the store says up
to which response of the journal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from verifyanalytics.collecting.requests import Requests, chunks, read_calls
from verifyanalytics.collecting.run import (
    CollectRun,
    CollectSummary,
    JournalStatus,
    sendable_keys,
    status_of,
)
from verifyanalytics.collecting.sender import CollectOptions, Event
from verifyanalytics.errors import NoStoreError, UsageError
from verifyanalytics.journal import delivery
from verifyanalytics.journal.database import is_held
from verifyanalytics.journal.delivery import Reflattened, answered
from verifyanalytics.journal.journal import OPEN_STATES, Call, Journal, JournalView
from verifyanalytics.journal.registry import Registry
from verifyanalytics.store.files import fingerprint
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.replies import NoResult, State

RATE = 10.0
"""Calls a second by default: the vendor's limit for paying customers."""

WORKERS = 8
GRACE_S = 120.0
"""Seconds after which a query that finds nothing means that nothing was processed."""


def journal_path(store: Store) -> Path:
    """Give the default place of a store's journal: beside the store, never in it."""
    return store.path.with_name(f"{store.path.name}.journal") / "journal.sqlite"


def open_journal(store: Store, path: str | Path | None = None, *, create: bool = True) -> Journal:
    """Open the journal of a store, with the store's key; errors as of `Journal`."""
    key = fingerprint(store.key)
    return Journal(_place(store, path), key, create=create, registry=Registry(store.path))


def _place(store: Store, path: str | Path | None) -> Path:
    return journal_path(store) if path is None else Path(path)


def collect(
    requests: Requests,
    store: Store | str | Path,
    *,
    client: Client | None = None,
    journal: str | Path | None = None,
    workers: int = WORKERS,
    rate: float | None = RATE,
    max_calls: int | None = None,
    dry_run: bool = False,
    again: bool = False,
    image_prints: bool = False,
    stop: threading.Event | None = None,
    progress: Callable[[Event], None] | None = None,
    log: Callable[[Event], None] | None = None,
) -> CollectSummary:
    """Send CertVerify calls, each token once, and put the responses into the store.

    A run may be stopped and repeated with the same input at any time: a call that was sent is not
    sent again, nor is a token for which the store holds a response from any source.

    Parameters
    ----------
    requests : path or iterable of mapping
        JSON lines (see `collecting.requests`), ``-`` for standard input, or the mappings.
    store : Store or path
    client : Client, optional
        Default: the vendor's endpoint with credentials from the chain.
    journal : path, optional
        Default: beside the store.
    workers : int
        Calls in flight at most.
    rate : float or None
        Calls a second at most; None for no limit.
    max_calls : int, optional
        Calls this run may send, retries included; then it stops with exit code 6.
    dry_run : bool
        Count what would be sent and the most it could cost; nothing is sent or written.
    again : bool
        Also send those of these calls of which a query proved that nothing was processed.
    image_prints : bool
        Keep a keyed fingerprint of each image.
    stop : threading.Event, optional
        Set it to end the run: calls in flight are finished and committed.
    progress, log : callable, optional
        Called with how far the run is (`total` lines, `done` of them, `left_s` seconds left or
        None), and with each outcome, without secrets. A log that cannot be written stops the run.

    Returns
    -------
    CollectSummary
        Its `exit_code` and `stopped` tell whether and why the run ended early.

    Raises
    ------
    StorageError, CredentialsError, UsageError
        Before anything is sent. A later error ends the run and is in the summary.

    Examples
    --------
    >>> import tempfile
    >>> from verifyanalytics import Credentials, serve
    >>> request = {"req_key": "cert_pro_src_verify", "byted_token": "token-1",
    ...            "sdk_data": "…", "risk_info": "…"}
    >>> store = Store(Path(tempfile.mkdtemp()) / "store")
    >>> with serve(seed=1) as service:
    ...     client = Client(Credentials(service.access_key, service.secret_key), service.address)
    ...     print(collect([request], store, client=client))
    ...     print(collect([request], store, client=client).already, "known")
    sent 1; OK 1; billed 1, unknown 0; added 1 rows
    1 known

    See Also
    --------
    verifyanalytics.resolve : Settles the calls in doubt of a run.
    verifyanalytics.query : Collects the results of calls that another system makes.
    verifyanalytics.status : Calls by state.
    """
    return _send(requests, CollectOptions(
        as_store(store), client, journal, workers, rate, stop, progress, log, queries=False,
        max_calls=max_calls, dry_run=dry_run, again=again, image_prints=image_prints,
    ))  # fmt: skip


def query(
    tokens: str | Path | Iterable[Mapping[str, Any]],
    store: Store | str | Path,
    *,
    client: Client | None = None,
    journal: str | Path | None = None,
    workers: int = WORKERS,
    rate: float | None = RATE,
    max_calls: int | None = None,
    dry_run: bool = False,
    image_prints: bool = False,
    stop: threading.Event | None = None,
    progress: Callable[[Event], None] | None = None,
    log: Callable[[Event], None] | None = None,
) -> CollectSummary:
    """Ask for the stored results of tokens and put them into the store; consumes nothing.

    The safe way to collect when another system makes the calls: within about an hour of them.
    Tokens that have no result yet stay PLANNED, and the exit code is 6: ask again. Parameters,
    result and errors are those of `collect`; `tokens` are lines of byted_tokens.

    Examples
    --------
    >>> import tempfile
    >>> from verifyanalytics import Credentials, serve
    >>> request = {"req_key": "cert_pro_src_verify", "byted_token": "token-1",
    ...            "sdk_data": "…", "risk_info": "…"}
    >>> store = Store(Path(tempfile.mkdtemp()) / "store")
    >>> with serve(seed=1, ready_after=0) as service:
    ...     client = Client(Credentials(service.access_key, service.secret_key), service.address)
    ...     response = client.verify(request)
    ...     query([{"byted_token": "token-1"}], store, client=client)
    sent 1; OK 1; billed 1, unknown 0; added 1 rows

    See Also
    --------
    verifyanalytics.collect : Makes the calls itself.
    verifyanalytics.record : Keeps the responses that a service receives.
    """
    return _send(tokens, CollectOptions(
        as_store(store), client, journal, workers, rate, stop, progress, log,
        max_calls=max_calls, dry_run=dry_run, image_prints=image_prints,
    ))  # fmt: skip


def resolve(
    store: Store | str | Path,
    *,
    client: Client | None = None,
    journal: str | Path | None = None,
    workers: int = WORKERS,
    rate: float | None = RATE,
    grace_s: float = GRACE_S,
    no_result: tuple[int, int | None] | None = None,
    stop: threading.Event | None = None,
    progress: Callable[[Event], None] | None = None,
    log: Callable[[Event], None] | None = None,
) -> CollectSummary:
    """Settle calls in doubt by asking for their outcome; never sends a call again.

    Parameters
    ----------
    grace_s : float
        A query that finds nothing proves that nothing was processed only when the call is at
        least this old, in seconds, and younger than the hour for which results are kept, both by
        the server's clock; and when the query goes to the call's endpoint, for its account.
    no_result : (int, int or None), optional
        Code and sub-code (None: any) that mean, by the vendor's word, that a token has no result.
        The vendor's page documents none, so without it no query proves that nothing was processed:
        such a call stays in doubt for `mark`.
    store, client, journal, workers, rate, stop, progress, log
        As for `collect`, as are result and errors.

    Examples
    --------
    >>> import tempfile
    >>> from verifyanalytics import Credentials, serve
    >>> request = {"req_key": "cert_pro_src_verify", "byted_token": "token-1",
    ...            "sdk_data": "…", "risk_info": "…"}
    >>> store = Store(Path(tempfile.mkdtemp()) / "store")
    >>> with serve(seed=1, faults="internal_50500") as service:
    ...     client = Client(Credentials(service.access_key, service.secret_key), service.address)
    ...     print(collect([request], store, client=client).states["IN_DOUBT"], "in doubt")
    ...     resolve(store, client=client, grace_s=0, no_result=(50215, 201202))
    1 in doubt
    sent 1; NOT_PROCESSED 1; billed 0, unknown 0; added 0 rows

    See Also
    --------
    verifyanalytics.mark : Settles a call by hand when the hour is over.
    """
    options = CollectOptions(
        as_store(store), client, journal, workers, rate, stop, progress, log, grace_s=grace_s,
        no_result=None if no_result is None else NoResult(*no_result),
    )  # fmt: skip
    with open_journal(options.store, journal, create=False) as opened:
        return CollectRun(options, opened).settle()


def status(store: Store | str | Path, *, journal: str | Path | None = None) -> JournalStatus:
    """Count the calls of the journal: by state, billed, in doubt, not delivered.

    It only reads, and works while another process collects.

    Parameters
    ----------
    store : Store or path
    journal : path, optional
        Default: beside the store.

    Returns
    -------
    JournalStatus
        Its `exit_code` is 4 while calls are in doubt.

    Raises
    ------
    UsageError
        There is no journal.

    Examples
    --------
    A process ended before the reply to its call came:

    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "store", create=True)
    >>> with open_journal(store) as journal:
    ...     n_planned = journal.plan([("1c81b91f", "CertVerify", "cert_pro_src_verify")])
    ...     n_tries = journal.send("1c81b91f", "token-1")
    >>> status(store)
    IN_DOUBT 1; billed 0, not billed 0, unknown 1; 0 answers not in the store yet

    See Also
    --------
    verifyanalytics.resolve, verifyanalytics.mark : Settle calls in doubt.
    """
    store = as_store(store)
    place = _place(store, journal)
    with JournalView(place, fingerprint(store.key)) as view:
        return status_of(view, store, in_use=is_held(place.resolve()))


def reflatten(store: Store | str | Path, *, journal: str | Path | None = None) -> Reflattened:
    """Parse the raw responses that the journal keeps again, after a parser was corrected.

    Parameters
    ----------
    store : Store or path
    journal : path, optional
        Default: beside the store. Journals of taps can be given too.

    Returns
    -------
    Reflattened
        Responses read again, rows changed; rows that would change their id or month stay.

    Raises
    ------
    UsageError
        There is no journal.
    StorageError
        The store cannot be written; it stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> from verifyanalytics import Credentials, serve
    >>> request = {"req_key": "cert_pro_src_verify", "byted_token": "token-1",
    ...            "sdk_data": "…", "risk_info": "…"}
    >>> store = Store(Path(tempfile.mkdtemp()) / "store")
    >>> with serve(seed=1) as service:
    ...     client = Client(Credentials(service.access_key, service.secret_key), service.address)
    ...     summary = collect([request], store, client=client)
    >>> print(reflatten(store))
    read 1 = same 1 + changed 0 + refused 0

    See Also
    --------
    verifyanalytics.collect, verifyanalytics.record : Fill the journal.
    """
    store = as_store(store)
    with open_journal(store, journal, create=False) as opened:
        return delivery.reflatten(opened, store)


def mark(
    store: Store | str | Path,
    key: str,
    state: str,
    *,
    reason: str,
    journal: str | Path | None = None,
) -> Call:
    """Settle one call in doubt by hand, when a query cannot.

    Parameters
    ----------
    key : str
        The beginning of the call's key, as `status` and logs show it.
    state : {"REJECTED", "NOT_PROCESSED"}
        A call without its response cannot be marked OK.
    reason : str
        Why; it stays in the journal.

    Raises
    ------
    UsageError
        No call or several begin so, the call is not in doubt, or the reason is empty or no text.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "store", create=True)
    >>> with open_journal(store) as journal:
    ...     n_planned = journal.plan([("1c81b91f", "CertVerify", "cert_pro_src_verify")])
    ...     n_tries = journal.send("1c81b91f", "token-1")
    >>> mark(store, "1c81", "NOT_PROCESSED", reason="the console shows no call").state.value
    'NOT_PROCESSED'

    See Also
    --------
    verifyanalytics.resolve : Settles calls in doubt by queries, within the hour.
    """
    if state not in {State.REJECTED, State.NOT_PROCESSED}:
        raise UsageError(f"a call can be marked REJECTED or NOT_PROCESSED, not {state[:40]}")
    note = reason_text(reason)
    with open_journal(as_store(store), journal, create=False) as opened:
        found = [call for call in opened.calls(*OPEN_STATES) if call.key.startswith(key)]
        if len(found) != 1 or not key:
            raise UsageError(f"{len(found)} calls in doubt begin with {key[:32]!r}; give one")
        opened.settle(found[0].key, State(state), None, note=note)
        settled = opened.call(found[0].key)
    assert settled is not None  # noqa: S101 - it was settled a moment ago
    return settled


def redo(
    store: Store | str | Path, *, code: int, reason: str, journal: str | Path | None = None
) -> int:
    """Plan refused calls again, such as those of an account that was in arrears.

    The next `collect` of their requests sends them. Only calls that are REJECTED with this code and
    without a verdict, a sub-code and a price are planned: nothing says that they were billed, and
    the reason is yours.

    Parameters
    ----------
    store : Store or path
    code : int
        The service's code, such as 50402.
    reason : str
        Why they may be sent again; it stays in the journal.
    journal : path, optional
        Default: beside the store.

    Returns
    -------
    int
        Calls that are PLANNED now.

    Raises
    ------
    UsageError
        There is no journal, or the reason is empty or no text.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "store", create=True)
    >>> with open_journal(store) as journal:
    ...     n_planned = journal.plan([("1c81b91f", "CertVerify", "cert_pro_src_verify")])
    >>> redo(store, code=50402, reason="the account is paid again")
    0

    See Also
    --------
    verifyanalytics.mark : Settles one call in doubt by hand.
    """
    with open_journal(as_store(store), journal, create=False) as opened:
        return opened.redo(code, reason_text(reason))


def reason_text(text: str) -> str:
    """Check a person's reason, and cut it to 500 characters."""
    if not text.strip():
        raise UsageError("it needs a reason")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("the reason is not UTF-8 text")
    return text.strip()[:500]


def _send(source: Requests, options: CollectOptions) -> CollectSummary:
    """Do what `collect` and `query` have in common."""
    if options.dry_run:
        return _dry_run(source, options)
    with open_journal(options.store, options.journal) as journal:
        return CollectRun(options, journal).send(source)


def _dry_run(source: Requests, options: CollectOptions) -> CollectSummary:
    """Read the input and compare it with the journal and the store; write nothing."""
    store, queries = options.store, options.queries
    total = CollectSummary(dry_run=True, queries=queries)
    try:
        store.scan("imports")
        key = store.key
    except NoStoreError:
        key = bytes(32)
    going: set[str] = set()
    place = _place(store, options.journal)
    with ExitStack() as stack:
        exists = place.exists()
        journal = stack.enter_context(JournalView(place, fingerprint(key))) if exists else None
        for chunk in chunks(read_calls(source, key, queries=queries, refused=total.refuse)):
            total.read += len(chunk)
            known = journal.standing({c.key for c in chunk}) if journal else {}
            sendable = sendable_keys(chunk, known, options.again)
            if queries:
                asked = (*OPEN_STATES, State.SENT)  # what was sent and not settled is in doubt soon
                sendable |= {k for k, state in known.items() if state in asked}
            else:
                sendable -= answered(store, sendable)
            going |= sendable
    total.new = len(going)
    total.already = total.read - total.invalid - total.new
    total.exit_code = 3 if total.invalid else 0
    return total


def as_store(store: Store | str | Path) -> Store:
    """Open the store at a path."""
    return store if isinstance(store, Store) else Store(store)
