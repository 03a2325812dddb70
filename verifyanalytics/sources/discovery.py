"""Discovery: the sources behind files, folders, globs and URLs, each with the form of its bytes."""

from __future__ import annotations

import codecs
import glob
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from verifyanalytics.errors import InputError, UsageError
from verifyanalytics.sources import formats, streams
from verifyanalytics.sources.blocks import BLOCK_BYTES, Source
from verifyanalytics.sources.tabular import check_columns

TABLE_SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv"}
"""Suffixes read as tables."""

SUFFIXES = {".json", ".txt", ".json5", ".sqlite", *formats.LINE_SUFFIXES, *TABLE_SUFFIXES}
"""Suffixes taken in a folder; `.gz` and its like may follow."""

_Skip = Callable[[str, str], None]


def discover(
    paths: Iterable[str | Path],
    *,
    column: str | None = None,
    time_column: str | None = None,
    on_skip: _Skip | None = None,
    spooled: Callable[[], Source] | None = None,
    follow_links: bool = True,
) -> list[Source]:
    """Find the sources behind files, folders, globs and URLs, in the order given.

    Parameters
    ----------
    paths : iterable of str or Path
        A file is taken whatever its name. A folder is walked in sorted order; hidden files
        (``.`` or ``_`` first), Delta tables and unknown suffixes in it are left out, links are
        followed and their loops end. A file that several paths lead to is one source. Anything
        with ``://`` is opened through fsspec.
    column, time_column : str, optional
        For tables: the column that holds the answers, and the one with their time.
    on_skip : callable, optional
        Called with (name, why) for each thing in a folder that is left out.
    spooled : callable, optional
        Gives the source of ``-``, standard input, see `spool`; without it ``-`` is refused.
    follow_links : bool
        Also take what links lead to that leave the folder they are in.

    Returns
    -------
    list of Source
        Each with its form.

    Raises
    ------
    UsageError
        A path that does not exist, cannot be opened, is no file or folder, or is a table in
        which `column` is missing.
    """
    search = _Search(column, time_column, on_skip or (lambda name, why: None), follow_links)
    for given in paths:
        if given != "-":
            search.add(os.fspath(given))
        elif spooled is None:
            raise UsageError("- (standard input) needs a folder to be spooled to")
        else:
            search.found.append(spooled())
    return search.found


_OPEN_FILES = Path("/proc")
"""Where Linux shows the open files of a process, to its workers too."""


def private_file(folder: Path, keep: Callable[[BinaryIO], None]) -> tuple[BinaryIO, str]:
    """Open a new file of mode 0600 for raw bytes; give it and the path to read it by.

    Where the system allows it the file has no name, so that nothing of it is left however the
    process ends. `keep` gets the file and closes it when it was read.
    """
    handle, location = tempfile.mkstemp(prefix="spool-", dir=folder)
    file = os.fdopen(handle, "wb")
    keep(file)
    if _OPEN_FILES.is_dir():
        Path(location).unlink()
        location = str(_OPEN_FILES / str(os.getpid()) / "fd" / str(handle))
    return file, location


def spool(
    stream: BinaryIO,
    folder: Path,
    keep: Callable[[BinaryIO], None],
    *,
    name: str = "<stdin>",
    column: str | None = None,
    time_column: str | None = None,
) -> Source:
    """Copy a stream that cannot be read twice into a `private_file`, and recognise it.

    `UsageError` when the stream is a table and `column` does not name one of its columns.
    """
    file, location = private_file(folder, keep)
    while chunk := stream.read(BLOCK_BYTES):
        file.write(chunk)
    file.flush()
    return _recognise(name, location, "", column=column, time_column=time_column)


class _Search:
    """The sources found so far, and the files and folders already seen."""

    def __init__(
        self, column: str | None, time_column: str | None, on_skip: _Skip, follow_links: bool
    ) -> None:
        self._follow_links = follow_links
        self.found: list[Source] = []
        self._column, self._time_column, self._on_skip = column, time_column, on_skip
        self._seen: set[str] = set()

    def add(self, given: str) -> None:
        if given.startswith("file://"):
            given = unquote(urlsplit(given).path)
        if "://" in given:
            self._add_url(given)
        else:
            self._add_local(given)

    def _add_local(self, given: str) -> None:
        path = Path(given).expanduser()
        try:
            if path.exists():
                return self._add_path(path)
        except OSError as error:
            raise UsageError(f"cannot read {given}: {error.strerror}") from error
        except ValueError as error:  # a NUL in the name
            raise UsageError(f"{given!r} is not a path") from error
        matches = []
        if glob.has_magic(given):  # Path.glob takes no absolute pattern
            matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        if not matches:
            what = "no file matches" if glob.has_magic(given) else "no such file or folder:"
            raise UsageError(f"{what} {given} (looked at {path.absolute()})")
        for match in matches:
            self._add_path(Path(match), in_folder=path.name in {"*", "**"})
        return None

    def _add_path(self, path: Path, *, in_folder: bool = False) -> None:
        if path.is_dir():
            self._walk(path, path.resolve())
        elif path.is_file():
            if in_folder and _known_suffix(path.name) is None:
                self._on_skip(_printable(path.as_posix()), "unknown suffix")
            else:
                self._take(path.as_posix(), path, in_folder=in_folder)
        else:
            kind = stat.filemode(path.stat().st_mode)[0]
            raise UsageError(f"{path} is no file or folder (type {kind}); pipe it in with -")

    def _walk(self, folder: Path, top: Path) -> None:
        """Walk a folder in sorted order; a folder met again, by link or loop, is passed."""
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise UsageError(f"cannot read folder {folder}: {error.strerror}") from error
        if not self._is_new(folder):
            return
        for entry in entries:
            name = _printable(entry.as_posix())
            if entry.name.startswith((".", "_")):
                self._on_skip(name, "hidden")
            elif not self._follow_links and _leaves(entry, top):
                self._on_skip(name, "a link out of the folder; --follow-links takes it")
            elif entry.is_dir():
                if (entry / "_delta_log").is_dir():
                    self._on_skip(name, "a Delta table")
                else:
                    self._walk(entry, top)
            elif not entry.is_file():
                self._on_skip(name, "no regular file" if entry.exists() else "a broken link")
            elif _known_suffix(name) is None:
                self._on_skip(name, "unknown suffix")
            else:
                self._take(name, entry, in_folder=True)

    def _is_new(self, path: str | Path) -> bool:
        real = str(path.resolve()) if isinstance(path, Path) else path
        if real in self._seen:
            return False
        self._seen.add(real)
        return True

    def _take(self, given: str, location: str | Path, *, in_folder: bool) -> None:
        if not self._is_new(location):
            return
        name = _printable(given)
        suffix = _known_suffix(name)
        location = str(location.absolute()) if isinstance(location, Path) else location
        columns = {"column": self._column, "time_column": self._time_column}
        try:
            self.found.append(_recognise(name, location, suffix or "", **columns))
        except _NoColumnError as error:
            if not in_folder:
                raise
            self._on_skip(name, str(error))

    def _add_url(self, url: str) -> None:
        shown = _without_secrets(url)
        try:
            locations, is_folder = _remote_files(url)
        except streams.access_errors() as error:
            raise UsageError(f"cannot open {shown}: {streams.access_reason(error)}") from error
        if not locations:
            raise UsageError(f"nothing at {shown}")
        for location in locations:
            name = _without_secrets(location)
            base = PurePosixPath(urlsplit(name).path).name
            if is_folder and base.startswith((".", "_")):
                self._on_skip(name, "hidden")
            elif is_folder and _known_suffix(name) is None:
                self._on_skip(name, "unknown suffix")
            else:
                self._take(name, location, in_folder=is_folder)


def _leaves(path: Path, top: Path) -> bool:
    return path.is_symlink() and path.exists() and not path.resolve().is_relative_to(top)


def _remote_files(url: str) -> tuple[list[str], bool]:
    """The files behind a URL, and whether it names a folder."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(url)
    if url.startswith(("http://", "https://")):
        return [url], False
    if glob.has_magic(path):
        paths, is_folder = sorted(filesystem.glob(path)), False
    elif filesystem.isdir(path) and not filesystem.isfile(path):
        paths, is_folder = sorted(filesystem.find(path)), True
    else:
        paths, is_folder = [path] if filesystem.exists(path) else [], False
    return [filesystem.unstrip_protocol(p) for p in paths], is_folder


def _without_secrets(url: str) -> str:
    """A URL without user, password, query and fragment."""
    return re.sub(r"(://)[^/@]*@", r"\1", re.split(r"[?#]", url, maxsplit=1)[0])


def _printable(name: str) -> str:
    """A file's name as tables and terminals can show it: bytes that are not UTF-8 as escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _known_suffix(name: str) -> str | None:
    """The suffix that tells a form, e.g. ``.json`` of ``a.json.gz``; ``""`` of ``a.gz``."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes[-2:]]
    packed = bool(suffixes) and suffixes[-1] in streams.COMPRESSIONS
    if packed:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    return last if last in SUFFIXES else "" if packed else None


class _NoColumnError(UsageError):
    """A table, and no column of it is named to be read."""


def _recognise(
    name: str, location: str, suffix: str, *, column: str | None, time_column: str | None
) -> Source:
    """Make a `Source` of one file: its size, compression and form are read off its first bytes."""
    try:
        stored_head = b"".join(
            streams.stored_chunks(location, name, formats.HEAD_BYTES, 0, formats.HEAD_BYTES)
        )
    except InputError as error:
        raise UsageError(str(error)) from error
    n_bytes = streams.stored_size(location)
    compression = streams.compression_of(stored_head)
    if compression is None and stored_head and not _is_text(stored_head):
        # the decoder of the codec that the name promises will say what is wrong
        compression = streams.COMPRESSIONS.get(PurePosixPath(name).suffix.lower())
    head, whole = stored_head, n_bytes == len(stored_head)
    if compression is not None:
        chunks = streams.inflated_chunks(
            location, name, compression, streams.MAX_RATIO, streams.FREE_BYTES, held_bytes=0
        )
        head, whole = _head_of(chunks)
    elif not whole and b"\n" not in head:
        head, whole = _head_of(streams.stored_chunks(location, name, formats.HEAD_BYTES, 0, None))
    form = _form(head, suffix, whole=whole, column=column)
    if form not in TABLE_SUFFIXES.values():
        return Source(name, location, n_bytes, form, compression)
    source = Source(name, location, n_bytes, form, compression, column, time_column)
    if complaint := check_columns(source, head):
        raise _NoColumnError(f"{name}: {complaint}")
    return source


def _head_of(chunks: Iterator[bytes]) -> tuple[bytes, bool]:
    """The first line, or `HEAD_BYTES` if that is more, and whether that was all."""
    head = bytearray()
    with suppress(streams.StreamDamageError):
        for chunk in chunks:
            head += chunk
            if len(head) > formats.LONGEST_HEAD or (
                len(head) > formats.HEAD_BYTES and b"\n" in chunk
            ):
                return bytes(head), False
    return bytes(head), True


def _is_text(head: bytes) -> bool:
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False


def _form(head: bytes, suffix: str, *, whole: bool, column: str | None) -> str:
    if head.startswith(b"PAR1") or suffix == ".parquet":
        return "parquet"
    if head.startswith(b"SQLite format 3\0") and head[68:72] == b"vaJ1":
        return "journal"
    if formats.refusal_of(head):
        return "refused"
    text = head.removeprefix(formats.UTF8_MARK)
    if suffix in TABLE_SUFFIXES:
        return TABLE_SUFFIXES[suffix]
    if suffix == ".json5":
        return "json5"
    if suffix in formats.LINE_SUFFIXES:
        return "lines"
    if column is not None:  # a CSV or TSV whose name does not say so is told by its header
        header = text.partition(b"\n")[0].decode(errors="replace").strip()
        for form, mark in (("tsv", "\t"), ("csv", ",")):
            names = [cell.strip('"') for cell in header.split(mark)]
            if column in names and header[:1] not in "{[":
                return form
    return formats.text_form(text, whole=whole)
