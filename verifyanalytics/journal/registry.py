"""What a store knows of its journals: which there are, and how far each was when last used.

A record a journal lies in the store, flushed to the disk before the first call of a run. A journal
counts its openings and closings (its epoch); so one that is gone, was restored from a backup, or
has a copy that was used meanwhile is seen before anything is sent.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from verifyanalytics.errors import StorageError
from verifyanalytics.store.disk import make_folder, replace_file, storage_errors

FOLDER = "_journals"

_WAY_OUT = (
    "put the newest file back, or accept what is there: verifyanalytics journal adopt "
    "--requests FILE --reason TEXT puts every call of unknown outcome in doubt"
)


class Registry:
    """The records of one store's journals."""

    def __init__(self, store: Path) -> None:
        self._store, self._folder = store, store / FOLDER

    def records(self) -> dict[str, dict[str, Any]]:
        """Give the records by the journals' identities, without those that are retired."""
        found: dict[str, dict[str, Any]] = {}
        with storage_errors(self._folder, "reading the records of journals"):
            paths = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
            for path in paths:
                try:
                    record = json.loads(path.read_text(encoding="utf-8"))
                    wanted = {"epoch": int, "seq": int, "path": str}
                    fits = all(isinstance(record[name], kind) for name, kind in wanted.items())
                except (ValueError, KeyError, TypeError):
                    fits = False
                if not fits:
                    message = f"{path} is damaged; it tells of a journal of this store: {_WAY_OUT}"
                    raise StorageError(message, path=path)
                if not record.get("retired"):
                    found[path.stem] = record
        return found

    def check_new(self, place: Path) -> None:
        """Refuse to make a journal while one that made calls for this store is gone."""
        self._check_gone(self.records(), place, "")

    def check(self, place: Path, uuid: str, epoch: int, seq: int) -> None:
        """Refuse a journal that is older than the store knows, and one in the place of another.

        A negative epoch is that of a copy which was put back.
        """
        records = self.records()
        self._check_gone(records, place, uuid)
        known = records.get(uuid)
        if known is None:
            known = {"epoch": max(epoch, 0), "seq": seq}
        if epoch >= known["epoch"] and seq >= known["seq"]:
            return
        what = f"{known['epoch'] - epoch} openings" if epoch < known["epoch"] else "answers"
        raise StorageError(
            f"{place} lacks the last {what} that {self._store} knows of, as after a restore from "
            f"a backup or the use of a copy; calls may have been sent that it does not know: "
            f"{_WAY_OUT}",
            path=place,
        )

    def _check_gone(self, records: dict[str, dict[str, Any]], place: Path, uuid: str) -> None:
        for other, record in records.items():
            path = Path(os.path.normpath(self._store / record["path"]))
            if other != uuid and (path == place or not path.exists()):
                raise StorageError(
                    f"the journal {path} that made calls for {self._store} is gone or another lies "
                    f"in its place; calls may have been sent that no journal knows: {_WAY_OUT}",
                    path=path,
                )

    def record(self, place: Path, uuid: str, epoch: int, seq: int) -> None:
        """Keep how far a journal is; on the disk when this returns."""
        path = os.path.relpath(place, self._store)
        self._write(uuid, {"epoch": epoch, "seq": seq, "path": path, "at": time.time()})

    def retire(self, uuid: str, reason: str) -> None:
        """Mark a journal as given up, for a person's reason."""
        kept = {"epoch": 0, "seq": 0, "path": "", "at": time.time(), "retired": reason}
        self._write(uuid, kept)

    def _write(self, uuid: str, record: dict[str, Any]) -> None:
        with storage_errors(self._folder, "writing the record of a journal"):
            make_folder(self._folder)
            replace_file(self._folder / f"{uuid}.json", json.dumps(record).encode())
