"""Files: how a Parquet file of the store is written, checked, described and put in its place.

A file is staged, linked to its place `kind=…/month=…/<name>.parquet` under a name that is used
once, and only then named by a commit. The key is a file beside the store and never in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from verifyanalytics.errors import StorageError
from verifyanalytics.schema import IMPORTS, LABELS, REJECTS, VERIFICATIONS, parquet_options
from verifyanalytics.store.disk import hash_of, make_folder, storage_errors, sync

KINDS = {"verification": VERIFICATIONS, "reject": REJECTS, "import": IMPORTS}
"""What the table `responses` holds, by its partition `kind`, and the columns of each."""

LOGGED = ("occurred_at", "score", "code")
"""The only columns whose least and greatest value go into the log: they identify no person."""

ROW_GROUP_ROWS = 100_000  # rows of a Parquet row group
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])|unknown")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One committed Parquet file, as the log describes it; `path` is relative to the table."""

    path: str
    n_bytes: int
    n_rows: int
    kind: str  # kind and month are the partition
    month: str
    first_at: datetime | None = None  # least and greatest `occurred_at`, if the log has them
    last_at: datetime | None = None


class StagedFile(msgspec.Struct, frozen=True):
    """One Parquet file that waits in a staging folder for its commit."""

    path: str  # absolute; it has every column of its kind, without `kind` and `month`
    kind: str  # verification, reject, import or label
    month: str  # 2024-06 in UTC, or unknown; of rejects the month of the import
    n_rows: int  # at least 1


def table_schema(kind: str, context: Sequence[str] = ()) -> pa.Schema:
    """Give the columns of a data file of a kind, without metadata, `ctx_*` at the end."""
    schema = LABELS if kind == "label" else KINDS[kind]
    fields = [field.remove_metadata() for field in schema]
    return pa.schema([*fields, *(pa.field(name, pa.string()) for name in context)])


def conform(table: Any, schema: pa.Schema, constants: Mapping[str, Any]) -> pa.Table:
    """Bring a table into a schema: columns are cast, absent ones are a constant or null."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            value = pa.scalar(constants.get(field.name), field.type)
            columns.append(pa.repeat(value, table.num_rows))
            continue
        try:
            columns.append(table.column(field.name).cast(field.type))
        except pa.ArrowException as error:
            message = f"column {field.name}: {str(error).splitlines()[0]}"
            raise pa.ArrowInvalid(message) from error
    return pa.Table.from_arrays(columns, schema=schema)


def context_of(names: Iterable[str]) -> list[str]:
    """Pick the context columns among some columns."""
    return [name for name in names if name.startswith("ctx_")]


def verify(path: Path, staged: StagedFile) -> pa.Schema:
    """Read the schema of a staged file, or raise `StorageError` where a reader would fail on it."""
    # a commit would accept a file with other columns, types or rows
    if staged.kind not in (*KINDS, "label") or not _MONTH.fullmatch(staged.month):
        raise StorageError(f"no partition kind={staged.kind}, month={staged.month}")
    doing = f"reading the staged file {path.name}"
    with storage_errors(path, doing), pq.ParquetFile(path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
    if n_rows != staged.n_rows:
        message = f"{path.name} holds {n_rows} rows, {staged.n_rows} were announced"
        raise StorageError(message, path=path)
    expected = {f.name: f.type for f in table_schema(staged.kind, context_of(schema.names))}
    found = {field.name: field.type for field in schema}
    wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if wrong or len(schema) != len(found):
        message = f"{path.name} has columns that are not the table's: {', '.join(wrong)}"
        raise StorageError(message, path=path)
    return schema


_HASHED = re.compile(r"\.([0-9a-f]{32})\.parquet")


def damage(table: Path, file: DataFile, *, deep: bool = True) -> str:
    """Say what is wrong with the bytes of a committed file; empty when nothing is.

    With `deep` the whole file is read and held against the hash in its name.
    """
    path = table / file.path
    try:
        n_bytes = path.stat().st_size
    except FileNotFoundError:
        return f"is missing ({file.n_rows} rows)"
    if n_bytes != file.n_bytes:
        return f"has {n_bytes} bytes, the log says {file.n_bytes}"
    hashed = _HASHED.search(path.name)
    if deep and hashed and not hash_of(path).startswith(hashed[1]):
        return "was changed: its bytes are not those that were written"
    return ""


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


def writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet file of mode 0600 as the store writes them: zstd 1, few dictionaries."""
    path.touch(mode=0o600)
    return pq.ParquetWriter(path, schema, **parquet_options(schema))


def table_paths(staged: Sequence[StagedFile], name: str) -> list[str]:
    """Give the paths of files in their table, by their partitions; labels have none."""
    partitions = [
        "" if file.kind == "label" else f"kind={file.kind}/month={file.month}/" for file in staged
    ]
    hashes = [hash_of(Path(file.path))[:32] for file in staged]
    # the name holds the hash: `damage` compares it however the log is kept
    return [
        f"{folder}{name}-{n:04}.{digest}.parquet"
        for n, (folder, digest) in enumerate(zip(partitions, hashes, strict=True))
    ]


def place(staged: Sequence[StagedFile], table: Path, paths: Sequence[str]) -> list[DataFile]:
    """Link staged files to their paths in the table, then look whether readers can read them."""
    placed = [_link(file, table, path) for file, path in zip(staged, paths, strict=True)]
    for file, path in zip(staged, paths, strict=True):
        verify(table / path, file)
    return placed


def _link(staged: StagedFile, table: Path, relative: str) -> DataFile:
    """Link a staged file to its path in the table; the staged name stays until the commit is in."""
    # the path was never used before: a vacuum that listed an earlier file may still delete it
    target = table / relative
    folder = target.parent
    if not folder.is_dir():
        make_folder(folder.parent)
        make_folder(folder)
    try:
        os.link(staged.path, target)
    except FileNotFoundError as error:
        message = f"the staged file {Path(staged.path).name} is gone; run the import again"
        raise StorageError(message, path=Path(staged.path)) from error
    except OSError:
        shutil.copyfile(staged.path, target)  # a file system without links
        sync(target)
    target.chmod(0o600)
    sync(folder)
    n_bytes = target.stat().st_size
    return DataFile(relative, n_bytes, staged.n_rows, staged.kind, staged.month)


# -------------------------------------------------------------------------------- the key


def key_path(store: Path) -> Path:
    """Name the key file of a store: `VERIFYANALYTICS_KEY_FILE`, else `<store>.key` beside it."""
    named = os.environ.get("VERIFYANALYTICS_KEY_FILE")
    return Path(named) if named else store.with_name(store.name + ".key")


def make_key(path: Path) -> bytes:
    """Make a key file of 32 random bytes, or read the one that another process made first."""
    make_folder(path.parent, 0o777)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(secrets.token_hex(32) + "\n")
        sync(draft)
        with contextlib.suppress(FileExistsError):
            draft.rename(path) if os.name == "nt" else os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
    return read_key(path)


def print_key(key_file: Path) -> bytes:
    """Give the key of image prints, which lies beside the store's; made when it is not there."""
    return make_key(key_file.with_name(f"{key_file.name}.prints"))


def read_key(path: Path) -> bytes:
    """Read a key file; `StorageError` when it is missing, open to others, or no 64 hex digits."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        hint = "put it back, or set VERIFYANALYTICS_KEY_FILE to where it is"
        raise StorageError(f"the store's key {path} is missing; {hint}", path=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"the key {path} cannot be read: {error}", path=path) from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise StorageError(f"others may read the key {path}; run: chmod 600 {path}", path=path)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise StorageError(f"the key {path} is not 64 hexadecimal digits", path=path)
    return bytes.fromhex(text)


def fingerprint(key: bytes) -> str:
    """Give the fingerprint of a key: it names the key and tells nothing about it."""
    return hmac.new(key, b"verifyanalytics store key", hashlib.sha256).hexdigest()[:32]
