"""A table's log: what a version holds, and how the next one is made.

A version of the store is its lane number. Each commit is stamped with the next number and goes in
only if nothing else came between (compare and set on the log); whoever comes second reads the new
version and judges again. A handle does not follow its own commits, so it is used for one commit.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from verifyanalytics.store.files import DataFile, as_json, statistics

CHECKPOINT_EVERY = 20
"""Delta versions between checkpoints: opening a table reads one and the few entries after it."""

LANE = "ingest"
"""The application transaction that numbers the commits of `responses`."""

LABEL_LANE = "labels"
"""The same for `labels`."""

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a table: its lane number and exactly its files.

    Attributes
    ----------
    lane : int
        The number people call the version; 0 before the first commit.
    number : int
        Delta's number of it; larger, as adding columns counts too.
    handle : DeltaTable
        Opened at that version; never used again after a commit.
    files : tuple of DataFile
    context : tuple of str
        The `ctx_*` columns, sorted.
    """

    lane: int
    number: int
    handle: DeltaTable
    files: tuple[DataFile, ...]
    context: tuple[str, ...]


def open_version(folder: Path, lane_name: str, delta_version: int | None = None) -> Version:
    """Read a table's log: the newest version, or an older one by its Delta number."""
    handle = DeltaTable(folder, version=delta_version)
    actions = pa.table(handle.get_add_actions(flatten=True)).to_pylist()
    files = sorted((_data_file(action) for action in actions), key=lambda file: file.path)
    names = (f.name for f in handle.schema().fields)
    return Version(
        lane=handle.transaction_version(lane_name) or 0,
        number=handle.version(),
        handle=handle,
        files=tuple(files),
        context=tuple(sorted(name for name in names if name.startswith("ctx_"))),
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


class LaneTakenError(Exception):
    """Another commit came first; load the new version and judge again."""


def commit(
    folder: Path,
    version: Version,
    *,
    lane_name: str = LANE,
    data_change: bool = True,
    adds: Sequence[DataFile] = (),
    removes: Sequence[DataFile] = (),
    stamps: Mapping[str, int] | None = None,
    note: Mapping[str, Any],
) -> None:
    """Add and remove files in one transaction that takes the next lane number.

    Parameters
    ----------
    folder : Path
        The table.
    version : Version
        What the judgement was made on; `version.lane + 1` is taken.
    lane_name : str
        The application transaction that numbers this table's commits.
    data_change : bool
        False when rows only move between files.
    adds, removes : sequence of DataFile
    stamps : mapping of str to int, optional
        Application transactions, such as `file:<sha256>`.
    note : mapping
        Goes into the log's commit information: verb, batch, counts; no ids.

    Raises
    ------
    LaneTakenError
        Another commit came between.
    StorageError
        The log could not be written; nothing was committed.
    """
    lane = version.lane + 1
    commit_id = secrets.token_hex(8)
    partitions = [] if lane_name == LABEL_LANE else ["kind", "month"]
    actions: list[AddAction | RemoveAction] = [
        _add(folder, file, partitions, data_change) for file in adds
    ]
    actions += [_remove(file, partitions, data_change) for file in removes]
    transactions = [Transaction(name, number) for name, number in (stamps or {}).items()]
    properties = CommitProperties(
        custom_metadata={**note, "lane": lane, "commit_id": commit_id},
        max_commit_retries=0,
        app_transactions=[Transaction(lane_name, lane), *transactions],
    )
    try:
        version.handle.create_write_transaction(
            actions,
            "append",
            version.handle.schema(),
            partitions,
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
            raise LaneTakenError from error
        raise error
    ours = version.number + 1
    entries = newest.history(newest.version() - version.number)
    if not any(e["version"] == ours and e.get("commit_id") == commit_id for e in entries):
        raise LaneTakenError from error


def _add(folder: Path, file: DataFile, partitions: Sequence[str], data_change: bool) -> AddAction:
    values = {"kind": file.kind, "month": file.month}
    return AddAction(
        path=file.path,
        size=file.n_bytes,
        partition_values={name: values[name] for name in partitions},
        modification_time=int(time.time() * 1000),
        data_change=data_change,
        stats=as_json(statistics(folder / file.path)),
    )


def _remove(file: DataFile, partitions: Sequence[str], data_change: bool) -> RemoveAction:
    values = {"kind": file.kind, "month": file.month}
    return RemoveAction(
        path=file.path,
        data_change=data_change,
        deletion_timestamp=int(time.time() * 1000),
        size=file.n_bytes,
        partition_values={name: values[name] for name in partitions},
    )


def secure(folder: Path, delta_version: int) -> None:
    """Take the log entry from other users' eyes, and write a checkpoint now and then.

    The commit is in; what fails here costs speed, not data, and is said in the log only.
    """
    log = folder / "_delta_log"
    try:
        (log / f"{delta_version:020}.json").chmod(0o600)
        if delta_version % CHECKPOINT_EVERY == 0:
            DeltaTable(folder, version=delta_version).create_checkpoint()
            for name in (f"{delta_version:020}.checkpoint.parquet", "_last_checkpoint"):
                (log / name).chmod(0o600)
    except (DeltaError, OSError) as error:
        _logger.warning("no checkpoint at %d of %s: %s", delta_version, folder, error)


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit, as the log remembers it.

    Attributes
    ----------
    lane, delta_version : int
    at : datetime
        When it was made, UTC.
    verb, batch : str
        What made it: `create`, `import`, `compact`, `vacuum`, `labels`.
    n_added : int
        Rows it brought.
    responses_lane : int
        For `labels`: the version of `responses` that was newest then.
    """

    lane: int
    delta_version: int
    at: datetime
    verb: str
    batch: str
    n_added: int
    responses_lane: int


def entries(folder: Path) -> list[Entry]:
    """Give the commits that took the lane and the making of the table, oldest first.

    The log keeps them for 30 days.
    """
    found = [
        Entry(
            lane=commit.get("lane", 0),
            delta_version=commit["version"],
            at=datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
            verb=commit.get("verb", "create"),
            batch=commit.get("batch", ""),
            n_added=commit.get("n_added", 0),
            responses_lane=commit.get("responses_lane", 0),
        )
        for commit in DeltaTable(folder).history()
        if "lane" in commit or commit["version"] == 0
    ]
    return sorted(found, key=lambda entry: entry.delta_version)


def read_stamps(folder: Path, delta_version: int) -> dict[str, int]:
    """Read every application stamp of a version from the log, at once.

    `DeltaTable.transaction_version` takes milliseconds a name; a nightly run asks for thousands.
    """
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
