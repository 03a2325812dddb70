"""The two Delta tables of a store: how they are made, opened, and read as they were."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from verifyanalytics.errors import NoStoreError, StorageError, UsageError
from verifyanalytics.schema import IMPORTS, REJECTS, SCHEMA_VERSION, VERIFICATIONS
from verifyanalytics.store.disk import storage_errors
from verifyanalytics.store.files import fingerprint, key_path, make_key, read_key, table_schema
from verifyanalytics.store.log import (
    LABEL_SEQUENCE,
    SEQUENCE,
    Entry,
    Version,
    entries,
    open_version,
)
from verifyanalytics.store.staging import StagingFolders
from verifyanalytics.store.views import Engine, Views

RETENTION = timedelta(days=7)
"""How far back `as_of` reaches; removed files stay that long."""

_SCHEMA_PROPERTY = "verifyanalytics.schema_version"
_PROPERTIES = {
    "delta.dataSkippingStatsColumns": "occurred_at,score,code",
    "delta.deletedFileRetentionDuration": f"interval {RETENTION.days} days",
    "delta.logRetentionDuration": "interval 30 days",
}


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
        return log.is_dir() and DeltaTable.is_deltatable(str(self.responses))

    def create(self) -> None:
        """Make the tables and the key if they are not there; also what a kill left out."""
        with self.lock, storage_errors(self.path, f"making the store {self.path}"):
            if not self.exist():
                # the mode of a folder that holds something else would be changed under others
                if self.path.is_dir():
                    strange = {f.name for f in self.path.iterdir()} - {"responses", "labels"}
                    if strange:
                        hint = "name an empty folder, or one that is not there"
                        raise UsageError(
                            f"{self.path} holds other files ({min(strange)}, …); {hint}"
                        )
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        ours = {
            _SCHEMA_PROPERTY: str(SCHEMA_VERSION),
            "verifyanalytics.key": fingerprint(key),
        }
        folder.mkdir(mode=0o700, exist_ok=True)
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
        (folder / "_delta_log" / f"{0:020}.json").chmod(0o600)

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

    # ---------------------------------------------------------------------------- versions

    def newest(self, table: Path) -> Version:
        """Give the newest version of a table; the one at hand while the log has no newer."""
        with self.lock, storage_errors(self.path, f"reading the store {self.path}"):
            if not self.exist():
                raise NoStoreError(self.path)
            known = self._newest.get(table)
            if known is None or not _is_newest(table, known.number):
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
        return [
            (entry, follower is None or follower.at >= oldest)
            for entry, follower in zip(found, followers, strict=True)
        ]

    def _entry(self, sequence: int) -> Entry:
        kept = {entry.sequence: entry for entry, readable in self.kept() if readable}
        if sequence in kept:
            return kept[sequence]
        reach = f"it reaches back {RETENTION.days} days, to version {min(kept)}"
        message = f"no version {sequence} of {self.path}; {reach}, and on to version {max(kept)}"
        raise UsageError(message)


def _is_newest(table: Path, number: int) -> bool:
    """Whether the log ends at a Delta version, by the names of its entries."""
    log = table / "_delta_log"
    return (log / f"{number:020}.json").exists() and not (log / f"{number + 1:020}.json").exists()
