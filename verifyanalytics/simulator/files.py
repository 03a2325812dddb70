"""A simulation written as files: answers, labels, and what they were made with.

The verb `simulate`. The text of the files depends only on the arguments, which are written beside
them in `simulation.toml`; compressed bytes may differ between versions of a compressor.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.schema import LABELS
from verifyanalytics.simulator.edge_cases import bad_lines, odd_lines
from verifyanalytics.simulator.labels import labels
from verifyanalytics.simulator.outcomes import OUTCOMES
from verifyanalytics.simulator.population import Block, Draw
from verifyanalytics.simulator.rendering import FORMS, text_of
from verifyanalytics.simulator.simulation import Simulation, simulate_responses
from verifyanalytics.simulator.world import LOCAL_OFFSET_HOURS, World

COMPRESSIONS = ("gz", "zst", "none")
PERIODS = ("day", "week", "month")
N_CONFLICTS = 4  # bad lines that contradict an answer of the sample


@dataclass(frozen=True, slots=True)
class SimulatedFiles:
    """What `simulate` wrote.

    Attributes
    ----------
    n_answers : int
        Different answers, odd ones included.
    n_repeated, n_bad, n_labels : int
        Answers written a second time, lines no import accepts, labels.
    paths : list of pathlib.Path
        The files with answers, in the order in which they were begun, then the others.
    n_bytes : int
        Bytes on the disk, all files.
    """

    n_answers: int
    n_repeated: int
    n_bad: int
    n_labels: int
    paths: list[Path]
    n_bytes: int


def simulate(
    n: int,
    seed: int = 0,
    *,
    out: str | Path,
    world: World | None = None,
    form: str = "envelope",
    compression: str = "gz",
    by: str | None = None,
    files: int = 1,
    repeats: int = 0,
    oddities: bool = False,
    overwrite: bool = False,
    **parameters: Any,
) -> SimulatedFiles:
    """Write simulated answers, their labels and how they were made into a folder.

    Parameters
    ----------
    n, seed : int
        Answers; the same arguments give the same text.
    out : path
        A folder, made if need be.
    world : World, optional
    form : {"envelope", "answer", "mixed"}
        Our own envelope around each answer, the answer alone, or a mix.
    compression : {"gz", "zst", "none"}
    by : {"day", "week", "month"}, optional
        A file for each, named by it (+08:00): ``2024-04.ndjson.gz``.
    files : int
        Without `by`: so many files with equally many answers, ``responses-001.ndjson.gz`` ….
    repeats : int
        So many answers are written again at the end of the last file, as a second export would.
    oddities : bool
        Also write ``odd_lines.ndjson`` (accepted) and ``bad_lines.ndjson`` (rejected).
    overwrite : bool
        Replace files that are there.
    **parameters
        Fields of `World` that shall differ.

    Returns
    -------
    SimulatedFiles

    Raises
    ------
    UsageError
        An argument that cannot work, or a file that is there already.
    StorageError
        The folder or a file cannot be written.
    """
    simulation = simulate_responses(n, seed, world=world, **parameters)
    _check(form, compression, by, files, repeats, n)
    writer = _Writer(Path(out), compression, overwrite=overwrite)
    how = {"form": form, "compression": compression, "by": by or "", "files": files}
    try:
        writer.out.mkdir(parents=True, exist_ok=True)
        with writer:
            written = _write_answers(writer, simulation, form, by, files, repeats)
            if oddities:
                written = _write_oddities(writer, written)
            n_labels = _write_labels(writer, simulation)
            arguments = {**how, "repeats": repeats, "oddities": oddities}
            _write_how(writer, simulation, arguments)
        return SimulatedFiles(
            n_answers=n + written.n_odd,
            n_repeated=repeats,
            n_bad=written.n_bad,
            n_labels=n_labels,
            paths=writer.paths,
            n_bytes=sum(path.stat().st_size for path in writer.paths),
        )
    except OSError as error:
        raise StorageError(
            f"cannot write {error.filename or out}: {error.strerror}", path=writer.out
        ) from error


def _check(form: str, compression: str, by: str | None, files: int, repeats: int, n: int) -> None:
    for name, value, choices in (
        ("form", form, FORMS),
        ("compression", compression, COMPRESSIONS),
        ("by", by, (None, *PERIODS)),
    ):
        if value not in choices:
            raise UsageError(f"{name} is {value!r}; it can be {', '.join(filter(None, choices))}")
    if not 1 <= files <= 10_000:
        raise UsageError(f"files is {files}; it must lie in [1, 10000]")
    if by is not None and files != 1:
        raise UsageError("give by or files, not both")
    if not 0 <= repeats <= n:
        raise UsageError(f"repeats is {repeats}; it must lie in [0, {n}]")


@dataclass(slots=True)
class _Written:
    """What the answers left behind for the files that follow."""

    repeated: list[bytes] = field(default_factory=list)
    compared: list[bytes] = field(default_factory=list)
    n_odd: int = 0
    n_bad: int = 0


class _Writer:
    """Open files of one folder, closed together; each is begun once."""

    def __init__(self, out: Path, compression: str, *, overwrite: bool) -> None:
        self.out, self.paths = out, list[Path]()
        self.hashes: dict[str, hashlib._Hash] = {}
        self._suffix = "" if compression == "none" else f".{compression}"
        self._overwrite = overwrite
        self._open: dict[str, tuple[Any, IO[bytes]]] = {}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for outer, inner in self._open.values():
            outer.close()
            inner.close()

    def write(self, name: str, data: bytes | memoryview, *, compressed: bool = True) -> None:
        """Append to a file, which is begun when it is first named."""
        if name not in self._open:
            self._open[name] = self._begin(name, compressed)
            self.hashes[name] = hashlib.sha256()
        self._open[name][0].write(data)
        self.hashes[name].update(data)

    def _begin(self, name: str, compressed: bool) -> tuple[Any, IO[bytes]]:
        path = self.out / (name + (self._suffix if compressed else ""))
        try:
            file = path.open("wb" if self._overwrite else "xb")
        except FileExistsError as error:
            raise UsageError(f"{path} is there; take another folder or overwrite") from error
        self.paths.append(path)
        if path.suffix == ".gz":
            # no name and no time in the header: the same text gives the same bytes
            packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0)
            return packed, file
        if path.suffix == ".zst":
            return pa.CompressedOutputStream(file, "zstd"), file
        return file, file


def _write_answers(
    writer: _Writer, simulation: Simulation, form: str, by: str | None, files: int, repeats: int
) -> _Written:
    written = _Written()
    scored = np.array([outcome.scored for outcome in OUTCOMES])
    first = 0
    name = "responses.ndjson"
    for block, lines in simulation.text_blocks(form):
        for name, rows in _names(block, first, simulation.n, by, files):
            writer.write(name, text_of(lines.take(pa.array(rows))))
        again = _chosen(simulation, block, repeats)
        written.repeated += lines.take(pa.array(again)).to_pylist()
        if len(written.compared) < N_CONFLICTS:
            shown = np.flatnonzero(scored[block.outcome])[:N_CONFLICTS]
            written.compared += lines.take(pa.array(shown)).to_pylist()
        first += len(block)
    # lines of the first blocks come first; as many as asked for
    written.repeated = written.repeated[:repeats]
    writer.write(name, b"".join(written.repeated))
    return written


def _names(
    block: Block, first: int, n: int, by: str | None, files: int
) -> Iterator[tuple[str, np.typing.NDArray[np.intp]]]:
    """Yield each file's name with the rows of the block that go there."""
    if by is None:
        part = (first + np.arange(len(block))) * files // n
        digits = max(3, len(str(files)))
        texts = [f"responses-{i + 1:0{digits}d}" if files > 1 else "responses" for i in part]
    else:
        local = block.occurred // 1_000_000 + LOCAL_OFFSET_HOURS * 3600
        part = local // 86_400
        days = {day: _period(day, by) for day in np.unique(part).tolist()}
        texts = [days[day] for day in part.tolist()]
    names = np.array(texts)
    for name in sorted(set(texts)):
        yield f"{name}.ndjson", np.flatnonzero(names == name)


def _period(day: int, by: str) -> str:
    date = dt.date(1970, 1, 1) + dt.timedelta(days=day)
    if by == "week":
        year, week, _ = date.isocalendar()
        return f"{year}-W{week:02d}"
    return f"{date:%Y-%m-%d}" if by == "day" else f"{date:%Y-%m}"


def _chosen(simulation: Simulation, block: Block, repeats: int) -> np.typing.NDArray[np.intp]:
    """Rows of the block with the smallest numbers drawn, its part of the repeats and one more."""
    share = -(-repeats * len(block) // max(1, simulation.n))
    drawn = Draw(simulation.seed).uniform("repeated", block.row)
    return np.sort(np.argsort(drawn, kind="stable")[:share])


def _write_oddities(writer: _Writer, written: _Written) -> _Written:
    known = [line.removesuffix(b"\n") for line in written.compared[:N_CONFLICTS]]
    bad, odd = bad_lines(known), odd_lines()
    writer.write("odd_lines.ndjson", b"".join(line + b"\n" for line in odd), compressed=False)
    writer.write("bad_lines.ndjson", b"".join(line + b"\n" for line, _ in bad), compressed=False)
    return dataclasses.replace(written, n_odd=len(odd), n_bad=len(bad))


def _write_labels(writer: _Writer, simulation: Simulation) -> int:
    n_labels = 0
    writer.write("labels.csv", (",".join(LABELS.names) + "\n").encode(), compressed=False)
    for block in simulation.blocks():
        table = labels(block, simulation.seed, simulation.world)
        columns = (table[name].to_pylist() for name in LABELS.names)
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))
        writer.write("labels.csv", text.getvalue().encode(), compressed=False)
        n_labels += len(table)
    return n_labels


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write_how(writer: _Writer, simulation: Simulation, arguments: dict[str, Any]) -> None:
    """Write the arguments and the digest of each file's text as TOML."""
    lines = ["# Synthetic answers; made by `verifyanalytics simulate` with these arguments.", ""]
    lines += [_setting("n", simulation.n), _setting("seed", simulation.seed)]
    lines += [_setting(name, value) for name, value in arguments.items()]
    lines += ["", "[world]"]
    for name in (f.name for f in dataclasses.fields(World)):
        value = getattr(simulation.world, name)
        lines.append(f"# {name}: none" if value is None else _setting(name, value))
    lines += ["", "[sha256]  # of the text, before compression"]
    lines += [_setting(f'"{name}"', digest.hexdigest()) for name, digest in writer.hashes.items()]
    writer.write("simulation.toml", ("\n".join(lines) + "\n").encode(), compressed=False)


def _setting(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    text = value.isoformat() if isinstance(value, dt.date) else json.dumps(value)
    return f"{name} = {text}"
