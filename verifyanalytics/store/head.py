"""The head: what the store itself knows of each table's log, so that a damaged log is seen.

A log entry that is gone, emptied or changed would only make rows vanish. So after each commit the
store writes the number of the version, the hash of every entry since the last checkpoint, and a
hash that is chained over all entries, into a small file of its own. A log that is behind its head,
or differs from it, is damaged. Entries above the head are of a commit that was cut short before it
was confirmed; whole ones count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from verifyanalytics.errors import CheckError, StorageError
from verifyanalytics.store.disk import hash_of, make_folder, replace_file, storage_errors, sync

FOLDER = "_head"
_LOG = "_delta_log"
_WAY_OUT = (
    "restore the file from a backup, or run: verifyanalytics repair, which goes back to the last "
    "whole version"
)


@dataclass(frozen=True, slots=True)
class Head:
    """What was confirmed of a table's log.

    `entries` has the hash of each entry above the checkpoint; `chain` is that of all entries up to
    `version`; `checkpoint` the file's version and hash, None before the first.
    """

    version: int
    chain: str
    entries: dict[int, str]
    checkpoint: tuple[int, str] | None = None


def entry(table: Path, version: int) -> Path:
    """Name a log entry."""
    return table / _LOG / f"{version:020}.json"


def _checkpoint(table: Path, version: int) -> Path:
    return table / _LOG / f"{version:020}.checkpoint.parquet"


def _folder(table: Path) -> Path:
    return table.parent / FOLDER / table.name


def _chained(chain: str, entry_hash: str) -> str:
    return hashlib.sha256(f"{chain}{entry_hash}".encode()).hexdigest()


def versions(table: Path) -> list[int]:
    """List the versions of which the log has an entry."""
    names = (path.name for path in (table / _LOG).glob("*.json"))
    return sorted(int(name[:20]) for name in names if re.fullmatch(r"\d{20}\.json", name))


def read(table: Path) -> Head | None:
    """Read a table's head; None for a table that has none, made by an older version."""
    while True:
        paths = sorted(_folder(table).glob("*.json"))
        if not paths:
            return None
        try:
            found = json.loads(paths[-1].read_text(encoding="utf-8"))
            checkpoint = found["checkpoint"]
            return Head(
                int(found["version"]),
                str(found["chain"]),
                {int(version): str(value) for version, value in found["entries"].items()},
                (int(checkpoint[0]), str(checkpoint[1])) if checkpoint else None,
            )
        except FileNotFoundError:
            continue  # a newer one took its place
        except (ValueError, KeyError, TypeError, AttributeError):
            hint = "remove it if the log is whole; the next commit makes it anew"
            raise CheckError([f"{paths[-1]} is damaged; {hint}"]) from None


def confirm(table: Path, version: int) -> None:
    """Raise the head to a version whose entry is on the disk; never lower it."""
    known = read(table)
    if known is not None and known.version >= version:
        return
    chain, entries = (known.chain, dict(known.entries)) if known else ("", {})
    for number in versions(table):
        if (known.version if known else -1) < number <= version:
            entries[number] = hash_of(entry(table, number))
            chain = _chained(chain, entries[number])
    checkpoint = known.checkpoint if known else None
    for number in sorted(entries, reverse=True):
        path = _checkpoint(table, number)
        if path.exists():
            checkpoint = (number, hash_of(path))
            break
    above = checkpoint[0] if checkpoint else -1
    _write(table, Head(version, chain, {n: h for n, h in entries.items() if n > above}, checkpoint))


def _write(table: Path, head: Head) -> None:
    folder = _folder(table)
    if not folder.is_dir():
        make_folder(folder.parent)
        make_folder(folder)
    checkpoint = list(head.checkpoint) if head.checkpoint else None
    known = {"version": head.version, "chain": head.chain, "checkpoint": checkpoint}
    known["entries"] = head.entries
    replace_file(folder / f"{head.version:020}.json", json.dumps(known).encode())
    for path in folder.glob("*.json"):
        if path.name < f"{head.version:020}.json":
            path.unlink(missing_ok=True)


# -------------------------------------------------------------------------------- damage


def verify(table: Path) -> None:
    """Hold a table's log against its head; raise `CheckError` that says what to import again.

    An entry above the head that is empty or cut off was never confirmed; it is set aside.
    """
    head = read(table)
    if head is None:
        return
    with storage_errors(table, "reading the log"):
        good, what = _sound(table, head)
        if what:
            raise CheckError([f"{what}; {_lost(table, good)}; {_WAY_OUT}"])
        for number in versions(table):
            if number > head.version and not _is_whole(entry(table, number)):
                path = entry(table, number)
                path.replace(path.with_name(f"{path.name}.torn"))


def history_findings(table: Path) -> list[str]:
    """Hold the whole log against the chain of its head, where all of it is there."""
    head = read(table)
    if head is None:
        return []
    chain, there = "", versions(table)
    missing = sorted(set(range(head.version + 1)) - set(there))
    if missing:
        return [f"{entry(table, missing[0])} is missing; older versions cannot be read"]
    for number in range(head.version + 1):
        chain = _chained(chain, hash_of(entry(table, number)))
    if chain != head.chain:
        return [f"{table / _LOG} has an entry that was changed; older versions may be wrong"]
    return []


def _sound(table: Path, head: Head) -> tuple[int, str]:
    """Give the last version that can be trusted, and what is wrong after it."""
    hint = table / _LOG / "_last_checkpoint"
    if hint.exists() and not _is_whole(hint):
        return head.version, f"{hint} is damaged"
    if head.checkpoint is not None:
        number, wanted = head.checkpoint
        if wrong := _wrong(_checkpoint(table, number), wanted):
            good = head.version if not history_findings(table) else -1
            return good, f"{_checkpoint(table, number)} {wrong}"
    for number, wanted in sorted(head.entries.items()):
        if wrong := _wrong(entry(table, number), wanted):
            return number - 1, f"{entry(table, number)} {wrong}"
    return head.version, ""


def _wrong(path: Path, wanted: str) -> str:
    try:
        if not path.stat().st_size:
            return "is empty"
        return "" if hash_of(path) == wanted else "was changed or cut off"
    except FileNotFoundError:
        return "is missing"


def _is_whole(path: Path) -> bool:
    """Whether each line of a file is a JSON object, and there is one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return bool(lines) and all(isinstance(json.loads(line), dict) for line in lines)
    except ValueError:
        return False


def _lost(table: Path, good: int) -> str:
    """Say which sources' rows cannot be read any more: by the ledgers that lie in the table."""
    if table.name == "labels":
        return "labels since then are lost: read them in again"
    kept = _referred(table, good) if good >= 0 else set()
    lost, held = _sources(table, None), _sources(table, kept)
    names = sorted(lost - held)
    if not names:
        return "no import is lost"
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"rows are lost; import again: {shown}"


def _referred(table: Path, version: int) -> set[str]:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        actions = DeltaTable(table, version=version).get_add_actions(flatten=True)
    except (DeltaError, OSError):
        return set()
    return set(pa.table(actions)["path"].to_pylist())


def _sources(table: Path, only: Iterable[str] | None) -> set[str]:
    """Read the sources of the ledgers in a table's folder, or of some of its files."""
    if only is None:
        only = [str(path.relative_to(table)) for path in table.glob("kind=import/*/*.parquet")]
    found: set[str] = set()
    for path in (path for path in only if path.startswith("kind=import/")):
        with suppress(OSError, pa.ArrowException):  # a damaged ledger names nothing
            ledger = pq.read_table(table / path, columns=["source"], partitioning=None)
            found |= set(ledger["source"].to_pylist())
    return found


# -------------------------------------------------------------------------------- repair


def repair(table: Path, *, dry_run: bool) -> list[str]:
    """Go back to the last whole version; give one sentence for each thing done, or to be done.

    What is damaged is set aside beside its place, not deleted.
    """
    head = read(table)
    if head is None:
        return []
    good, what = _sound(table, head)
    if not what:
        return []
    if good < 0:
        message = f"{what}, and so is what is needed to go back"
        raise StorageError(f"{message}; {_lost(table, good)} into a new store", path=table)
    done = [f"{what}: back to version {good} of {table.name}; {_lost(table, good)}"]
    if dry_run:
        return done
    log = table / _LOG
    for path in log.iterdir():
        is_above = path.name[:20].isdigit() and int(path.name[:20]) > good
        is_hint = path.name == "_last_checkpoint"
        is_damaged = ".checkpoint" in path.name and path.name in what
        if (is_above or is_hint or is_damaged) and path.suffix not in {".torn", ".damaged"}:
            path.replace(path.with_name(f"{path.name}.damaged"))
    sync(log)
    for path in _folder(table).glob("*.json"):
        path.unlink()
    confirm(table, good)
    return done
