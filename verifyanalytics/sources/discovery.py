"""Discovery: the sources behind files, folders, globs and URLs, each with the form of its bytes.

The form is told from the bytes. A file of lines is the usual case and wins every doubt, so a torn
or foreign first line never turns a million good lines into one broken document.
"""

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
from verifyanalytics.sources.json_stream import Scanner
from verifyanalytics.sources.streams import (
    BLOCK_BYTES,
    COMPRESSIONS,
    FREE_BYTES,
    MAX_RATIO,
    Source,
    StreamDamageError,
    access_errors,
    access_reason,
    compression_of,
    inflated_chunks,
    stored_chunks,
    stored_size,
)
from verifyanalytics.sources.tabular import check_columns

LINE_SUFFIXES = frozenset({".ndjson", ".jsonl", ".log"})
"""Suffixes that promise one response a line; their promise is taken."""

HEAD_BYTES = 1 << 18  # bytes looked at to tell the form, where its first line is not longer
LONGEST_HEAD = 8 << 20  # bytes looked at when the first line is longer than `HEAD_BYTES`

UTF8_MARK = b"\xef\xbb\xbf"
_FOREIGN = {
    "UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"),
    "UTF-16": (b"\xff\xfe", b"\xfe\xff", b"{\0", b"[\0", b"\0{", b"\0["),
}
_BINARY = (
    (0, b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (257, b"ustar", "a tar archive; unpack it first"),
    (0, b"SQLite format 3\0", "an SQLite file"),
    (0, b"ORC", "an ORC file; write it as Parquet"),
    (0, b"Obj\x01", "an Avro file; write it as Parquet"),
)
_TRIES = 20  # lines that vote on the form

TABLE_SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv"}  # suffixes read as tables
SUFFIXES = {".json", ".txt", ".json5", ".sqlite", *LINE_SUFFIXES, *TABLE_SUFFIXES}
"""Suffixes taken in a folder; `.gz` and its like may follow."""

_Skip = Callable[[str, str], None]


def discover(
    paths: Iterable[str | Path],
    *,
    column: str | None = None,
    time_column: str | None = None,
    on_skip: _Skip | None = None,
    follow_links: bool = True,
) -> list[Source]:
    """Find the sources behind files, folders, globs and URLs, in the order given."""
    # A folder is walked in sorted order; hidden files, Delta tables and unknown suffixes in it go
    # to `on_skip` with why, as do links out of it without `follow_links`; loops end. A file met
    # twice is one source.
    search = _Search(column, time_column, on_skip or (lambda name, why: None), follow_links)
    for given in paths:
        search.add(os.fspath(given))
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
    column: str | None = None,
    time_column: str | None = None,
) -> Source:
    """Copy a stream that cannot be read twice into a `private_file`, and recognise it."""
    file, location = private_file(folder, keep)
    while chunk := stream.read(BLOCK_BYTES):
        file.write(chunk)
    file.flush()
    return _recognise("<stdin>", location, "", column=column, time_column=time_column)


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
        except access_errors() as error:
            raise UsageError(f"cannot open {shown}: {access_reason(error)}") from error
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
    packed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
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
        stored_head = b"".join(stored_chunks(location, name, HEAD_BYTES, 0, HEAD_BYTES))
    except InputError as error:
        raise UsageError(str(error)) from error
    n_bytes = stored_size(location)
    compression = compression_of(stored_head)
    if compression is None and stored_head and not _is_text(stored_head):
        # the decoder of the codec that the name promises will say what is wrong
        compression = COMPRESSIONS.get(PurePosixPath(name).suffix.lower())
    head, whole = stored_head, n_bytes == len(stored_head)
    if compression is not None:
        chunks = inflated_chunks(location, name, compression, MAX_RATIO, FREE_BYTES, held_bytes=0)
        head, whole = _head_of(chunks)
    elif not whole and b"\n" not in head:
        head, whole = _head_of(stored_chunks(location, name, HEAD_BYTES, 0, None))
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
    with suppress(StreamDamageError):
        for chunk in chunks:
            head += chunk
            if len(head) > LONGEST_HEAD or (len(head) > HEAD_BYTES and b"\n" in chunk):
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
    if refusal_of(head):
        return "refused"
    text = head.removeprefix(UTF8_MARK)
    if suffix in TABLE_SUFFIXES:
        return TABLE_SUFFIXES[suffix]
    if suffix == ".json5":
        return "json5"
    if suffix in LINE_SUFFIXES:
        return "lines"
    if column is not None:  # a CSV or TSV whose name does not say so is told by its header
        header = text.partition(b"\n")[0].decode(errors="replace").strip()
        for form, mark in (("tsv", "\t"), ("csv", ",")):
            names = [cell.strip('"') for cell in header.split(mark)]
            if column in names and header[:1] not in "{[":
                return form
    return text_form(text, whole=whole)


def refusal_of(head: bytes) -> tuple[str, str] | None:
    """Give reason and detail when a source's first bytes say that it holds no UTF-8 text."""
    for name, marks in _FOREIGN.items():
        if head.startswith(marks):
            return "encoding", f"{name}; convert it to UTF-8"
    for place, mark, what in _BINARY:
        if head.startswith(mark, place):
            return "source", what
    return None


def text_form(head: bytes, *, whole: bool) -> str:
    """Tell ``lines`` from ``json`` by the first bytes of a source; `whole`: they are all."""
    # Lines if half of the first ones are one object (or one b'…') each; else the first value
    # decides: an array, an object over several lines, objects on one line are json. What begins
    # with a record separator is, too: RFC 7464 has it so.
    text = head.lstrip(b" \t\r\n")
    if text.startswith(b"\x1e"):
        return "json"
    if _lines_win(text, whole=whole):
        return "lines"
    if text.startswith(b"["):
        return _array_form(text, whole=whole)
    return _object_form(text, whole=whole) if text.startswith(b"{") else "lines"


def _lines_win(text: bytes, *, whole: bool) -> bool:
    """Whether at least half of the first complete lines, two or more, hold one response each."""
    lines = text[:HEAD_BYTES].split(b"\n", _TRIES)
    if not whole or len(lines) > _TRIES:
        lines.pop()  # cut off
    lines = [line for line in map(bytes.strip, lines) if line]
    n_good = sum(line.startswith((b"b'{", b'b"{')) or is_whole_object(line) for line in lines)
    return len(lines) > 1 and 2 * n_good >= len(lines) and n_good > 0


def is_whole_object(line: bytes) -> bool:
    """Whether a line is one bracketed object, whatever is inside, and nothing behind it."""
    scanner = Scanner(0)
    return (
        line.startswith(b"{") and scanner.advance(line) == "ended" and scanner.position == len(line)
    )


def _array_form(text: bytes, *, whole: bool) -> str:
    inner = text[1:].lstrip(b" \t\r\n")
    scanner = Scanner(0)
    # `[2024-05-01 08:00:00] ERROR …` is a line of a log
    alone = whole and scanner.advance(text) == "ended" and not text[scanner.position :].strip()
    spread = text.partition(b"\n")[0].strip() == b"["
    return "json" if inner.startswith(b"{") or alone or spread else "lines"


def _object_form(text: bytes, *, whole: bool) -> str:
    first_line, newline, others = text.partition(b"\n")
    scanner = Scanner(0)
    verdict = scanner.advance(first_line)
    if verdict == "ended":
        behind = first_line[scanner.position :].lstrip(b" \t\r\n,\x1e")
        return "json" if behind.startswith((b"{", b"[")) else "lines"
    if verdict == "broken" or not newline or scanner.is_in_string:
        return "lines"
    following = others.lstrip(b"\r\n")
    new_line_of_its_own = following.startswith((b'{"', b"b'", b'b"')) or (whole and not following)
    return "lines" if new_line_of_its_own else "json"
