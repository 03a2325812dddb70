"""A simulation written as files: answers, labels, and the arguments that they were made with.

The text of the files depends only on the arguments, which are written beside them in
`simulation.toml`; compressed bytes may differ between versions of a compressor.
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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.schema import LABELS
from verifyanalytics.simulator.edge_cases import bad_lines, odd_lines
from verifyanalytics.simulator.labels import labels
from verifyanalytics.simulator.population import SCORED, Block, Draw
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
    n : int
        Answers, 0 or more.
    seed : int
        Any integer; the same arguments give the same text.
    out : path
        A folder, made if need be.
    world : World, optional
        Default: a realistic one.
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

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     written = simulate(100, seed=1, out=out, by="month", impostor_share=0.1)
    ...     [path.name for path in written.paths][:2], written.n_answers
    (['2024-04.ndjson.gz', '2024-05.ndjson.gz'], 100)

    See Also
    --------
    simulate_responses : The same answers in memory, with the truth.
    import_responses : Reads the files into a store.
    """
    simulation = simulate_responses(n, seed, world=world, **parameters)
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
    arguments = {"form": form, "compression": compression, "by": by or "", "files": files}
    arguments |= {"repeats": repeats, "oddities": oddities}
    folder, bad, odd = Path(out), [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _Writer(folder, compression, overwrite=overwrite) as writer:
            compared = _write_answers(writer, simulation, form, by, files, repeats)
            if oddities:
                bad, odd = [line for line, _ in bad_lines(compared)], odd_lines()
                for name, lines in (("odd_lines.ndjson", odd), ("bad_lines.ndjson", bad)):
                    text = b"".join(line + b"\n" for line in lines)
                    writer.write(name, text, compressed=False)
            n_labels = _write_labels(writer, simulation)
            _write_arguments(writer, simulation, arguments)
        n_bytes = sum(path.stat().st_size for path in writer.paths)
    except OSError as error:
        raise StorageError(
            f"cannot write {error.filename or out}: {error.strerror}", path=folder
        ) from error
    return SimulatedFiles(n + len(odd), repeats, len(bad), n_labels, writer.paths, n_bytes)


class _Writer:
    """Files of one folder, each begun when it is first named, closed together."""

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
        """Append to a file; the digest of its text is kept in `hashes`."""
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
        return pa.CompressedOutputStream(file, "zstd") if path.suffix == ".zst" else file, file


def _write_answers(
    writer: _Writer, simulation: Simulation, form: str, by: str | None, files: int, repeats: int
) -> list[bytes]:
    """Write the answers and the repeats; return some lines with a score, for conflicts."""
    repeated: list[bytes] = []
    compared: list[bytes] = []
    name, first, n = "responses.ndjson", 0, simulation.n
    for block, lines in simulation.text_blocks(form):
        for name, rows in _names(block, first, n, by, files):
            writer.write(name, text_of(lines.take(pa.array(rows))))
        # the block's part of the repeats and one more: rows with the smallest numbers drawn
        drawn = Draw(simulation.seed).uniform("repeated", block.row)
        again = np.sort(np.argsort(drawn, kind="stable")[: -(-repeats * len(block) // n)])
        repeated += lines.take(pa.array(again)).to_pylist()
        if len(compared) < N_CONFLICTS:
            shown = np.flatnonzero(SCORED[block.outcome])[:N_CONFLICTS]
            compared += lines.take(pa.array(shown)).to_pylist()
        first += len(block)
    # lines of the first blocks come first; as many as asked for
    writer.write(name, b"".join(repeated[:repeats]))
    return [line.removesuffix(b"\n") for line in compared[:N_CONFLICTS]]


def _names(
    block: Block, first: int, n: int, by: str | None, files: int
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield each file's name with the rows of the block that go there."""
    if by is None:
        part = (first + np.arange(len(block))) * files // n
        digits = max(3, len(str(files)))
        texts = [f"responses-{i + 1:0{digits}d}" if files > 1 else "responses" for i in part]
    else:
        part = (block.occurred // 1_000_000 + LOCAL_OFFSET_HOURS * 3600) // 86_400
        form = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}[by]
        epoch = dt.date(1970, 1, 1)
        days = {
            day: (epoch + dt.timedelta(days=day)).strftime(form) for day in np.unique(part).tolist()
        }
        texts = [days[day] for day in part.tolist()]
    names = np.array(texts)
    for name in sorted(set(texts)):
        yield f"{name}.ndjson", np.flatnonzero(names == name)


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


def _write_arguments(writer: _Writer, simulation: Simulation, arguments: dict[str, Any]) -> None:
    """Write the arguments and the digest of each file's text as TOML."""
    arguments = {"n": simulation.n, "seed": simulation.seed, **arguments}
    lines = ["# Synthetic answers; made by `verifyanalytics simulate` with these arguments.", ""]
    lines += [_setting(name, value) for name, value in arguments.items()]
    lines += ["", "[world]"]
    for name in (f.name for f in dataclasses.fields(World)):
        value = getattr(simulation.world, name)
        lines.append(f"# {name}: none" if value is None else _setting(name, value))
    lines += ["", "[sha256]  # of the text, before compression"]
    lines += [_setting(f'"{name}"', digest.hexdigest()) for name, digest in writer.hashes.items()]
    writer.write("simulation.toml", ("\n".join(lines) + "\n").encode(), compressed=False)


def _setting(name: str, value: Any) -> str:
    text = value.isoformat() if isinstance(value, dt.date) else json.dumps(value)
    return f"{name} = {text}"
