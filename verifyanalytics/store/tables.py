"""The two Delta tables of a store: how they are made, read as they were, and committed to.

A version of the store is its sequence number. A commit goes in only if no other came first (compare
and set on the log). A handle does not follow its own commits, so it serves one commit.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from verifyanalytics.errors import NoStoreError, StorageError, UsageError
from verifyanalytics.schema import IMPORTS, REJECTS, SCHEMA_VERSION, VERIFICATIONS
from verifyanalytics.store import head, tombstones
from verifyanalytics.store.disk import make_folder, storage_errors, sync
from verifyanalytics.store.files import (
    DataFile,
    context_of,
    damage,
    fingerprint,
    key_path,
    make_key,
    read_key,
    statistics,
    table_schema,
)
from verifyanalytics.store.staging import StagingFolders
from verifyanalytics.store.tombstones import Tombstones
from verifyanalytics.store.views import Engine, Views, query_errors

CHECKPOINT_EVERY = 20
"""Delta versions between checkpoints: opening a table reads one and the few entries after it."""

SEQUENCE = "ingest"  # the application transaction that numbers the commits of `responses`
LABEL_SEQUENCE = "labels"  # the same for `labels`
RETENTION = timedelta(days=7)  # how far back `as_of` reaches; removed files stay that long
_SCHEMA_PROPERTY = "verifyanalytics.schema_version"
_PROPERTIES = {
    "delta.dataSkippingStatsColumns": "occurred_at,score,code",
    "delta.deletedFileRetentionDuration": f"interval {RETENTION.days} days",
    "delta.logRetentionDuration": "interval 30 days",
}
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a table: exactly its files, and its `ctx_*` columns, sorted."""

    sequence: int  # the public number, 0 before the first commit
    sequence_name: str  # the application transaction that counts it
    number: int  # Delta's, which is larger: adding columns counts too
    handle: DeltaTable  # opened at that version, not used again after a commit
    files: tuple[DataFile, ...]
    context: tuple[str, ...]


def open_version(folder: Path, sequence_name: str, delta_version: int | None = None) -> Version:
    """Read a table's log: the newest version, or an older one by its Delta number."""
    handle = DeltaTable(folder, version=delta_version)
    actions = pa.table(handle.get_add_actions(flatten=True)).to_pylist()
    return Version(
        sequence=handle.transaction_version(sequence_name) or 0,
        sequence_name=sequence_name,
        number=handle.version(),
        handle=handle,
        files=tuple(sorted(map(_data_file, actions), key=lambda file: file.path)),
        context=tuple(sorted(context_of([field.name for field in handle.schema().fields]))),
    )


def _data_file(action: Mapping[str, Any]) -> DataFile:
    return DataFile(
        path=action["path"],
        n_bytes=action["size_bytes"],
        n_rows=action["num_records"] or 0,
        kind=action.get("partition.kind") or "label",
        month=action.get("partition.month") or "unknown",
        first_at=action.get("min.occurred_at"),
        last_at=action.get("max.occurred_at"),
    )


class LostRaceError(Exception):
    """Another commit came first; load the new version and try again."""


def commit(
    folder: Path,
    version: Version,
    *,
    data_change: bool = True,  # False when rows only move between files
    adds: Sequence[DataFile] = (),
    removes: Sequence[DataFile] = (),
    stamps: Mapping[str, int] | None = None,  # more transactions, such as `file:<sha256>`
    note: Mapping[str, Any],  # goes into the log: verb, batch, counts; no ids
) -> None:
    """Add and remove files in one transaction that takes the next sequence number.

    Raises `LostRaceError`, or `DeltaError` and `OSError` when nothing was committed.
    """
    sequence = version.sequence + 1
    commit_id = secrets.token_hex(8)
    by = [] if version.sequence_name == LABEL_SEQUENCE else ["kind", "month"]
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(
            path=file.path,
            size=file.n_bytes,
            partition_values={name: getattr(file, name) for name in by},
            modification_time=now,
            data_change=data_change,
            stats=json.dumps(
                statistics(folder / file.path), allow_nan=False, separators=(",", ":")
            ),
        )
        for file in adds
    ]
    actions += [
        RemoveAction(
            path=file.path,
            data_change=data_change,
            deletion_timestamp=now,
            size=file.n_bytes,
            partition_values={name: getattr(file, name) for name in by},
        )
        for file in removes
    ]
    transactions = [Transaction(name, number) for name, number in (stamps or {}).items()]
    properties = CommitProperties(
        custom_metadata={**note, "lane": sequence, "commit_id": commit_id},
        max_commit_retries=0,
        app_transactions=[Transaction(version.sequence_name, sequence), *transactions],
    )
    try:
        version.handle.create_write_transaction(
            actions,
            "append",
            version.handle.schema(),
            by,
            commit_properties=properties,
            post_commithook_properties=_NO_HOOKS,
        )
    except (DeltaError, OSError) as error:
        _settle(folder, version, commit_id, error)
    secure(folder, version.number + 1)


def _settle(folder: Path, version: Version, commit_id: str, error: Exception) -> None:
    """After an error, look whether our commit is in after all, another's is, or none."""
    newest = DeltaTable(folder)
    if newest.version() == version.number:
        if isinstance(error, CommitFailedError):
            raise LostRaceError from error
        raise error
    ours = version.number + 1
    entries = newest.history(newest.version() - version.number)
    if not any(e["version"] == ours and e.get("commit_id") == commit_id for e in entries):
        raise LostRaceError from error


class UnconfirmedError(StorageError):
    """The commit is in, but the disk did not confirm it."""


def secure(folder: Path, delta_version: int) -> None:
    """Make a log entry private and flush it to the disk; write a checkpoint now and then.

    The commit is in. Without a checkpoint it costs speed, not data, so that is logged only.
    """
    log = folder / "_delta_log"
    try:
        head.entry(folder, delta_version).chmod(0o600)
        sync(head.entry(folder, delta_version))
    except OSError as error:
        message = f"the commit is in, but the disk did not confirm it: {error.strerror}; run again"
        raise UnconfirmedError(message, path=folder) from error
    try:
        if delta_version and delta_version % CHECKPOINT_EVERY == 0:
            DeltaTable(folder, version=delta_version).create_checkpoint()
            for name in (f"{delta_version:020}.checkpoint.parquet", "_last_checkpoint"):
                (log / name).chmod(0o600)
                sync(log / name)
    except (DeltaError, OSError) as error:
        _logger.warning("no checkpoint at %d of %s: %s", delta_version, folder, error)
    try:
        sync(log)
        head.confirm(folder, delta_version)
    except OSError as error:
        message = f"the commit is in, but not confirmed: {error.strerror}; run again"
        raise UnconfirmedError(message, path=folder) from error


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit, as the log remembers it."""

    sequence: int
    delta_version: int
    at: datetime
    verb: str  # create, import, compact, vacuum, reflatten, erase, repair or labels
    batch: str
    n_added: int
    responses_sequence: int  # of labels: the version of `responses` at that time
    erasure: str  # whose tombstones must be there


def entries(folder: Path) -> list[Entry]:
    """Give the commits with a sequence number and the making of the table, oldest first."""
    found = [
        Entry(
            sequence=commit.get("lane", 0),  # the stored name of the sequence number
            delta_version=commit["version"],
            at=datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
            verb=commit.get("verb", "create"),
            batch=commit.get("batch", ""),
            n_added=commit.get("n_added", 0),
            responses_sequence=commit.get("responses_lane", 0),
            erasure=commit.get("erasure", ""),
        )
        for commit in DeltaTable(folder).history()
        if "lane" in commit or commit["version"] == 0
    ]
    return sorted(found, key=lambda entry: entry.delta_version)


def read_stamps(folder: Path, delta_version: int) -> dict[str, int]:
    """Read every application stamp of a version from the log, at once."""
    # `DeltaTable.transaction_version` takes milliseconds a name; an import asks for thousands
    log = folder / "_delta_log"
    checkpoints = sorted(
        path for path in log.glob("*.checkpoint*.parquet") if int(path.name[:20]) <= delta_version
    )
    stamps: dict[str, int] = {}
    start = 0
    if checkpoints:
        newest = checkpoints[-1].name[:20]
        start = int(newest) + 1
        for path in (path for path in checkpoints if path.name.startswith(newest)):
            for row in pq.read_table(path, columns=["txn"])["txn"].drop_null().to_pylist():
                stamps[row["appId"]] = row["version"]
    for number in range(start, delta_version + 1):
        for line in (log / f"{number:020}.json").read_text(encoding="utf-8").splitlines():
            action = json.loads(line).get("txn")
            if action:
                stamps[action["appId"]] = action["version"]
    return stamps


# ------------------------------------------------------------------ the store's two tables


_OF_THE_QUERY = (
    duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException,
    duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.PermissionException,
)  # fmt: skip

_OURS = {"responses", "labels", "_journals", tombstones.COPIES, tombstones.FOLDER, head.FOLDER}
"""What lies in a store's folder."""


def _check_private(store: Path, *folders: Path) -> None:
    """Refuse a store that was opened to others after it was made."""
    for folder in (store, *folders) if os.name == "posix" else ():
        if folder.stat().st_mode & 0o077:
            hint = f"run: chmod -R go-rwx {store}"
            raise StorageError(f"others may read the store's folder {folder}; {hint}", path=folder)


class Tables:
    """The folders and versions of one store; `lock` is held while one is written or opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.responses = path / "responses"
        self.labels = path / "labels"
        self.lock = threading.RLock()
        self.engine = Engine(path)
        self.staging = StagingFolders(self.responses / "_staging")
        self._newest: dict[Path, Version] = {}
        self._key: bytes | None = None

    # ---------------------------------------------------------------------------- making

    def exist(self) -> bool:
        """Whether the store is there."""
        log = self.responses / "_delta_log"
        if log.is_dir() and DeltaTable.is_deltatable(str(self.responses)):
            return True
        head.verify(self.responses)  # a log that is gone is no reason to make a new one
        return False

    def create(self) -> None:
        """Make the tables and the key if they are not there; also what a kill left out."""
        with self.lock, storage_errors(self.path, f"making the store {self.path}"):
            if not self.exist():
                # the mode of a folder that holds something else would be changed under others
                if self.path.is_dir():
                    strange = {f.name for f in self.path.iterdir()} - _OURS
                    if strange:
                        hint = "name an empty folder, or one that is not there"
                        raise UsageError(
                            f"{self.path} holds other files ({min(strange)}, …); {hint}"
                        )
                make_folder(self.path)
                self.path.chmod(0o700)
                key = make_key(key_path(self.path))
                fields: dict[str, pa.Field] = {}
                for field in (*VERIFICATIONS, *REJECTS, *IMPORTS):
                    fields.setdefault(field.name, field.remove_metadata())
                partition = [("kind", pa.string()), ("month", pa.string())]
                responses = pa.schema([*fields.values(), *partition])
                self._create_table(self.labels, table_schema("label"), [], key)
                self._create_table(self.responses, responses, ["kind", "month"], key)
            self.key()

    def _create_table(self, folder: Path, schema: pa.Schema, by: list[str], key: bytes) -> None:
        """Make one empty Delta table; another process may make it at the same time."""
        ours = {_SCHEMA_PROPERTY: str(SCHEMA_VERSION), "verifyanalytics.key": fingerprint(key)}
        make_folder(folder)
        try:
            DeltaTable.create(
                folder,
                schema,
                partition_by=by,
                configuration={**_PROPERTIES, **ours},
                raise_if_key_not_exists=False,
            )
        except DeltaError:
            if not DeltaTable.is_deltatable(str(folder)):
                raise
        (folder / "_delta_log").chmod(0o700)
        sync(folder)
        secure(folder, 0)

    def key(self, *, again: bool = False) -> bytes:
        """Read the key once (or again) and hold it against the fingerprint in the properties."""
        if self._key is None or again:
            path = key_path(self.path)
            key = read_key(path)
            properties = self.newest(self.responses).handle.metadata().configuration
            if properties.get("verifyanalytics.key") != fingerprint(key):
                hint = "put the right key there, or set VERIFYANALYTICS_KEY_FILE to where it is"
                message = f"the key {path} is not the one this store was made with; {hint}"
                raise StorageError(message, path=path)
            self._key = key
        return self._key

    def tombstones(self, names: Sequence[str] | None = None) -> Tombstones:
        """Read what was erased, as it is now; or by some erasures only."""
        return Tombstones(self.path, self.key(), names)

    # ---------------------------------------------------------------------------- damage

    @contextmanager
    def errors(self, doing: str, *, of_query: bool = False) -> Iterator[None]:
        """Turn what the disk and the libraries raise into one error; name a damaged file.

        `of_query`: what DuckDB refuses may be the query's fault.
        """
        try:
            with (query_errors if of_query else storage_errors)(self.path, doing):
                yield
        except (UsageError, StorageError) as error:
            cause = error.__cause__
            may_be_damage = isinstance(cause, duckdb.Error | pa.ArrowException | OSError)
            if may_be_damage and not isinstance(cause, _OF_THE_QUERY):
                for table, version in self._newest.items():
                    for file in version.files:
                        if found := damage(table, file):
                            hint = "check --deep lists all damage"
                            message = f"{doing}: {table / file.path} {found}; {hint}"
                            raise StorageError(message, path=table / file.path) from error
            raise

    # ---------------------------------------------------------------------------- versions

    def newest(self, table: Path) -> Version:
        """Give the newest version of a table; the one at hand while the log has no newer."""
        with self.lock, storage_errors(self.path, f"reading the store {self.path}"):
            if not self.exist():
                raise NoStoreError(self.path)
            known = self._newest.get(table)
            log = table / "_delta_log"  # the names of its entries say where it ends
            if (
                known is None
                or (log / f"{known.number + 1:020}.json").exists()
                or not (log / f"{known.number:020}.json").exists()
            ):
                if known is None:
                    _check_private(self.path, table, table / "_delta_log")
                head.verify(table)
                known = open_version(table, SEQUENCE if table == self.responses else LABEL_SEQUENCE)
                found = known.handle.metadata().configuration.get(_SCHEMA_PROPERTY, "")
                if not found.isdigit():
                    message = f"{self.path} is a Delta table, but no store of ours"
                    raise StorageError(message, path=self.path)
                if int(found) > SCHEMA_VERSION:
                    message = f"the store {self.path} has schema {found}, this program knows"
                    hint = f"{SCHEMA_VERSION}; update verifyanalytics"
                    raise StorageError(f"{message} {hint}", path=self.path)
                self._newest[table] = known
            return known

    def forget(self) -> None:
        """Read the logs again at the next use."""
        self._newest.clear()

    def at(self, as_of: int | None) -> tuple[Version, Version]:
        """Give `responses` and `labels` of a version; refuse one that is not kept whole."""
        responses, labels = self.newest(self.responses), self.newest(self.labels)
        if as_of is None or as_of == responses.sequence:
            return responses, labels
        with storage_errors(self.path, f"reading version {as_of}"):
            entry = self._entry(as_of)
            then = [e for e in entries(self.labels) if e.responses_sequence <= as_of]
            responses = open_version(self.responses, SEQUENCE, entry.delta_version)
            labels = open_version(self.labels, LABEL_SEQUENCE, then[-1].delta_version)
        gone = [f.path for f in responses.files if not (self.responses / f.path).exists()]
        if gone:
            message = f"version {as_of} was vacuumed: {len(gone)} of its files are gone"
            raise StorageError(message, path=self.path)
        return responses, labels

    def views(self, as_of: int | None = None) -> Views:
        """Give the six tables of a version as SQL."""
        responses, labels = self.at(as_of)
        return Views(self.responses, responses.files, self.labels, labels.files, responses.context)

    def kept(self) -> list[tuple[Entry, bool]]:
        """Give the versions in the log, each with whether it was newest within the retention."""
        self.newest(self.responses)
        with storage_errors(self.path, "reading the log"):
            found = entries(self.responses)
        oldest = datetime.now(UTC) - RETENTION
        followers: list[Entry | None] = [*found[1:], None]
        last_erasure = max((e.sequence for e in found if e.verb == "erase"), default=0)
        return [
            (entry, entry.sequence >= last_erasure and (follower is None or follower.at >= oldest))
            for entry, follower in zip(found, followers, strict=True)
        ]

    def _entry(self, sequence: int) -> Entry:
        kept = {entry.sequence: entry for entry, readable in self.kept() if readable}
        if sequence in kept:
            return kept[sequence]
        limit = f"{RETENTION.days} days"
        if any(entry.verb == "erase" for entry in kept.values()):
            limit = "to the last erasure, which goes before older versions"
        reach = f"it reaches back {limit}, to version {min(kept)}"
        message = f"no version {sequence} of {self.path}; {reach}, and on to version {max(kept)}"
        raise UsageError(message)
