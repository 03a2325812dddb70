"""The files under a store: data files, the key beside it, staging folders and their owners.

A data file is Parquet, named by us, at `kind=…/month=…/<batch>-….parquet`, and never changes. It
is written under `_staging/<batch>`, linked into its place under a name that is used once, and only
then named by a commit. A staging folder belongs to whoever holds the lock on its `.owner` file;
the system lets go of the lock when the process dies, so a folder nobody holds is left over.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from verifyanalytics.errors import StorageError
from verifyanalytics.schema import IMPORTS, LABELS, REJECTS, VERIFICATIONS, parquet_options

KINDS = {"verification": VERIFICATIONS, "reject": REJECTS, "import": IMPORTS}
"""What the table `responses` holds, by its partition `kind`, and the columns of each."""

LOGGED = ("occurred_at", "score", "code")
"""The only columns whose least and greatest value go into the log: they name nobody."""

ROW_GROUP_ROWS = 100_000
"""Rows of a Parquet row group."""

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])|unknown")
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file-size limit is reached",
}
_FULL_TEXTS = ("No space left", "quota exceeded", "File too large")


@contextlib.contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn what the disk, Delta, DuckDB and Parquet raise into one `StorageError`."""
    try:
        yield
    except (OSError, DeltaError, duckdb.Error, pa.ArrowException) as error:
        raise StorageError(f"{doing} failed: {_reason(error)}", path=path) from error


def _reason(error: Exception) -> str:
    """Say in one line what went wrong, and what helps when the disk is full."""
    lines = str(error).splitlines() or [type(error).__name__]
    number = getattr(error, "errno", None)
    if number in _FULL:
        return f"{_FULL[number]}; what was committed stays, free some space and run again"
    for line in lines:  # Delta says in a later line what the operating system said
        if any(full in line for full in _FULL_TEXTS):
            return f"{line.strip()}; what was committed stays, free some space and run again"
    return lines[0]


# -------------------------------------------------------------------------------- data files


@dataclass(frozen=True, slots=True)
class DataFile:
    """One committed Parquet file, as the log describes it.

    Attributes
    ----------
    path : str
        Relative to the table's folder, with `/`.
    n_bytes, n_rows : int
    kind, month : str
        Its partition.
    first_at, last_at : datetime or None
        Least and greatest `occurred_at`; None when the log does not say.
    """

    path: str
    n_bytes: int
    n_rows: int
    kind: str
    month: str
    first_at: datetime | None = None
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One Parquet file that waits in a staging folder.

    Attributes
    ----------
    path : Path
        Where it is; every column of its kind is in it, but `kind` and `month` are not.
    kind : str
        `verification`, `reject` or `import`.
    month : str
        `2024-06` in UTC, or `unknown`; becomes the partition.
    n_rows : int
        Rows in the file, at least 1.
    """

    path: Path
    kind: str
    month: str
    n_rows: int


def table_schema(kind: str, context: Sequence[str] = ()) -> pa.Schema:
    """Give the columns of a data file of a kind, without metadata, `ctx_*` at the end."""
    schema = LABELS if kind == "label" else KINDS[kind]
    fields = [field.remove_metadata() for field in schema]
    return pa.schema([*fields, *(pa.field(name, pa.string()) for name in context)])


def verify(staged: StagedFile) -> pa.Schema:
    """Read a staged file's footer and refuse what a commit would accept and a reader would not.

    Raises
    ------
    StorageError
        The file is gone, is not Parquet, lacks a column, has one of another type or one that is
        not in the table, or holds another number of rows than was said.
    """
    if staged.kind not in KINDS or not _MONTH.fullmatch(staged.month):
        raise StorageError(f"no partition kind={staged.kind}, month={staged.month}")
    doing = f"reading the staged file {staged.path.name}"
    with storage_errors(staged.path, doing), pq.ParquetFile(staged.path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
    if n_rows != staged.n_rows:
        message = f"{staged.path.name} holds {n_rows} rows, {staged.n_rows} were announced"
        raise StorageError(message, path=staged.path)
    context = [name for name in schema.names if name.startswith("ctx_")]
    expected = {field.name: field.type for field in table_schema(staged.kind, context)}
    found = {field.name: field.type for field in schema}
    wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if wrong or len(schema) != len(found):
        message = f"{staged.path.name} has columns that are not the table's: {', '.join(wrong)}"
        raise StorageError(message, path=staged.path)
    return schema


def statistics(path: Path) -> dict[str, Any]:
    """Make the log's statistics of a data file from its footer: only `LOGGED` columns."""
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    with pq.ParquetFile(path) as file:
        footer, names = file.metadata, file.schema_arrow.names
    for name in (name for name in LOGGED if name in names):
        chunks = _column_chunks(footer, name)
        if all(chunk is not None and chunk.has_null_count for chunk in chunks):
            nulls[name] = sum(chunk.null_count for chunk in chunks)
        valued = [chunk for chunk in chunks if chunk is None or chunk.num_values]
        if valued and all(chunk is not None and chunk.has_min_max for chunk in valued):
            least[name] = _logged(min(chunk.min for chunk in valued))
            greatest[name] = _logged(max(chunk.max for chunk in valued))
    return {
        "numRecords": footer.num_rows,
        "minValues": least,
        "maxValues": greatest,
        "nullCount": nulls,
    }


def _column_chunks(footer: Any, name: str) -> list[Any]:
    """Give the statistics of one flat column in every row group; None where there are none."""
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    return [
        chunk.statistics if chunk.is_stats_set else None
        for group in groups
        for chunk in (group.column(j) for j in range(group.num_columns))
        if chunk.path_in_schema == name
    ]


def _logged(value: Any) -> Any:
    """Write a value as the log does; a time keeps its microseconds."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value


def missing_files(table: Path, files: Iterable[DataFile]) -> list[str]:
    """Name the committed files that are not there."""
    return [file.path for file in files if not (table / file.path).exists()]


def writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet file of mode 0600 as the store writes them: zstd 1, few dictionaries."""
    path.touch(mode=0o600)
    return pq.ParquetWriter(path, schema, **parquet_options(schema))


def write_table(path: Path, table: pa.Table) -> None:
    """Write one table and see it onto the disk."""
    with writer(path, table.schema) as out:
        out.write_table(table, row_group_size=ROW_GROUP_ROWS)
    sync(path)


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's names, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders and needs no flush of names
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def place(staged: StagedFile, table: Path, name: str) -> DataFile:
    """Link a staged file to its place in the table; the staged name stays until the commit is in.

    The name must never have been used: a vacuum that listed an earlier one may still delete that.
    """
    relative = f"kind={staged.kind}/month={staged.month}/{name}.parquet"
    target = table / relative
    folder = target.parent
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.parent.chmod(0o700)
        sync(table)
        sync(folder.parent)
    try:
        os.link(staged.path, target)
    except FileNotFoundError as error:
        message = f"the staged file {staged.path.name} is gone; run the import again"
        raise StorageError(message, path=staged.path) from error
    except OSError:
        shutil.copyfile(staged.path, target)  # a file system without links
        sync(target)
    target.chmod(0o600)
    sync(folder)
    return DataFile(relative, target.stat().st_size, staged.n_rows, staged.kind, staged.month)


# -------------------------------------------------------------------------------- the key


def key_path(store: Path) -> Path:
    """Say where the store's key is: `VERIFYANALYTICS_KEY_FILE`, else `<store>.key` beside it."""
    named = os.environ.get("VERIFYANALYTICS_KEY_FILE")
    return Path(named) if named else store.with_name(store.name + ".key")


def make_key(path: Path) -> bytes:
    """Make a key file of 32 random bytes, or read the one that another process made first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(secrets.token_hex(32) + "\n")
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            draft.rename(path) if os.name == "nt" else os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
    return read_key(path)


def read_key(path: Path) -> bytes:
    """Read a key file.

    Raises
    ------
    StorageError
        It is missing, readable by others, or not 64 hexadecimal digits.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        hint = "put it back, or set VERIFYANALYTICS_KEY_FILE to where it is"
        raise StorageError(f"the store's key {path} is missing; {hint}", path=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"the key {path} cannot be read: {_reason(error)}", path=path) from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise StorageError(f"others may read the key {path}; run: chmod 600 {path}", path=path)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise StorageError(f"the key {path} is not 64 hexadecimal digits", path=path)
    return bytes.fromhex(text)


def fingerprint(key: bytes) -> str:
    """Give the key's fingerprint, which says which key it is and nothing about it."""
    return hmac.new(key, b"verifyanalytics store key", hashlib.sha256).hexdigest()[:32]


# -------------------------------------------------------------------------------- staging


class Staging:
    """The staging folders this process owns.

    Parameters
    ----------
    folder : Path
        `<store>/responses/_staging`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owned: dict[str, BinaryIO] = {}

    def claim(self, batch: str) -> Path:
        """Make a batch's folder and hold its owner file until `release`."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        owner = self.folder / f"{batch}.owner"
        while batch not in self._owned:
            held = _locked(owner)
            if held is not None:
                self._owned[batch] = held
        path = self.folder / batch
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def release(self, batch: str, *, whole: bool = False) -> None:
        """Give a folder up once it is empty; with `whole`, whatever is in it."""
        path = self.folder / batch
        if whole:
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        if not path.exists() and batch in self._owned:
            (self.folder / f"{batch}.owner").unlink(missing_ok=True)
            self._owned.pop(batch).close()

    def drop(self, batch: str, prefix: str) -> None:
        """Remove the files of a folder whose names begin so, then release it if it is empty."""
        for path in (self.folder / batch).glob(f"{prefix}*"):
            path.unlink(missing_ok=True)
        self.release(batch)

    def release_all(self) -> None:
        """Give every folder up, at the end of the process or of the store."""
        for batch in list(self._owned):
            self.release(batch, whole=True)

    def clean(self) -> list[str]:
        """Remove the folders whose owners are dead; give their names."""
        cleaned = []
        if self.folder.is_dir():
            batches = {path.name.removesuffix(".owner") for path in self.folder.iterdir()}
            cleaned = [batch for batch in sorted(batches) if self._clean(batch)]
        return cleaned

    def _clean(self, batch: str) -> bool:
        if batch in self._owned:
            return False
        held = _locked(self.folder / f"{batch}.owner")
        if held is None:
            return False
        shutil.rmtree(self.folder / batch, ignore_errors=True)
        (self.folder / f"{batch}.owner").unlink(missing_ok=True)
        held.close()
        return True


def _locked(path: Path) -> BinaryIO | None:
    """Open a file and lock it; None when another holds it or it was removed meanwhile."""
    file = path.open("ab")
    try:
        _lock(file)
        same = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, PermissionError, FileNotFoundError):
        same = False
    if same:
        return file
    file.close()
    return None


def _lock(file: BinaryIO) -> None:
    """Take the exclusive lock on an open file, or raise at once."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def as_json(value: Mapping[str, Any]) -> str:
    """Write statistics as the log holds them: JSON without NaN."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
