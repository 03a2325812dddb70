"""Context columns: which ones a store still takes, and where the context goes that has none.

A store has at most `MAX_CONTEXT_COLUMNS` columns `ctx_*`. Further context moves into `extra`, to
the rest of the envelope that the parser put there: under `envelope`, or under the first free name
of `envelope_`, `envelope__` … when the reply has such a key itself. The digest in `content` covers
the reply's own keys and no others, so it tells which of the two a key is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from verifyanalytics.parsing.reference import CONTENT_NUMBERS, CONTENT_REPEATED, content, free_name
from verifyanalytics.parsing.strict_json import Number, dumps
from verifyanalytics.schema import MAX_CONTEXT_COLUMNS
from verifyanalytics.store.disk import sync
from verifyanalytics.store.files import StagedFile, writer

# no limit of depth: `extra` holds the line one level deeper, and nested texts as objects
_loads = json.JSONDecoder(parse_float=Number, parse_int=Number).decode


def beyond_limit(held: Collection[str], wanted: Iterable[str]) -> list[str]:
    """Name the wanted context columns that find no room beside those that are there."""
    new = sorted(set(wanted) - set(held))
    return new[max(0, MAX_CONTEXT_COLUMNS - len(held)) :]


def fold(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Move context columns of verifications, all of text, into `extra`."""
    given = table.select(list(names)).to_pylist()
    extra = table["extra"].to_pylist()
    rows = [row for row, values in enumerate(given) if any(v is not None for v in values.values())]
    named = table.select(["content", *CONTENT_NUMBERS, *CONTENT_REPEATED])
    # an empty list alone would be of type null, by which Arrow takes nothing
    digested = named.take(pa.array(rows, pa.int64())).to_pylist()
    for row, columns in zip(rows, digested, strict=True):
        values = {name[4:]: text for name, text in given[row].items() if text is not None}
        extra[row] = _added(extra[row], values, columns)
    place = table.column_names.index("extra")
    folded = table.set_column(place, "extra", pa.array(extra, pa.string()))
    return folded.drop_columns(list(names))


def fold_file(staged: StagedFile, names: Sequence[str], path: Path) -> StagedFile:
    """Write a staged file of verifications again with some context columns in `extra`."""
    with pq.ParquetFile(staged.path, page_checksum_verification=True) as source:
        kept = [field for field in source.schema_arrow if field.name not in names]
        with writer(path, pa.schema(kept)) as out:
            for group in range(source.num_row_groups):
                out.write_table(fold(source.read_row_group(group), names))
    sync(path)
    return replace(staged, path=str(path))


def _added(extra: str | None, context: Mapping[str, str], row: dict[str, Any]) -> str:
    """Add context to the `extra` of a row; the reply's own keys stay as they are."""
    values = _loads(extra) if extra else {}
    envelope = values.setdefault(_envelope_name(values, row), {})
    name = "context"
    while not isinstance(envelope.get(name, {}), dict):
        name += "_"  # the caller's envelope has something else under this name
    place = envelope.setdefault(name, {})
    for key, text in context.items():
        place[free_name(place, key)] = text
    return dumps(values)


def _envelope_name(extra: dict[str, Any], row: dict[str, Any]) -> str:
    """Find the key of `extra` that holds the rest of the envelope, or a free name for it."""
    name = "envelope"
    while name in extra:
        reply = {key: value for key, value in extra.items() if key != name}
        if row["content"] == content(row, dumps(reply, normalised=True) if reply else None):
            return name
        name += "_"
    return name
