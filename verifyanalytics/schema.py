"""The columns of the tables: name, Arrow type, unit, and what null means.

`verifications`, `rejects`, `imports` and `labels` are documented here once; the store, the parser
and the docs read it. Names are the vendor's where the vendor has one. Times are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1
"""Raised when a column changes its meaning or type; a newer store is refused by older code."""

THRESHOLD_LEVELS = ("1e-3", "1e-4", "1e-5", "1e-6")
"""The vendor's confidence levels: the claimed false-match rate at the threshold's score."""

THRESHOLD_COLUMNS = ("threshold_1e_3", "threshold_1e_4", "threshold_1e_5", "threshold_1e_6")
"""The columns of `THRESHOLD_LEVELS`, in the same order: scores, 0–100, rising."""

QUALITY_FIELDS = (
    "comprehensive_score", "face_clarity", "brightness", "exposure", "pose_pitch", "pose_yaw",
    "pose_roll", "mouth_occlude", "left_eye_occlude", "right_eye_occlude", "have_cap",
)  # fmt: skip
"""The vendor's names of the eleven quality measures of one image."""

QUALITY_MEASURES = tuple(name.removeprefix("face_") for name in QUALITY_FIELDS)
"""The same eleven as they end our column names: `face_clarity` and `env_clarity` are columns."""

IMAGES = ("face", "env")
"""The live face image and the environment image, as our column names begin."""

QUALITY_COLUMNS = tuple(f"{image}_{measure}" for image in IMAGES for measure in QUALITY_MEASURES)
"""The 22 quality columns."""

MAX_CONTEXT_COLUMNS = 64
"""How many `ctx_*` columns a store may have; context beyond goes to `extra`."""

REJECT_REASONS = {
    "encoding": "the bytes are not UTF-8",
    "syntax": "not JSON as RFC 8259 defines it, or a nested JSON string that is not",
    "depth": "nested deeper than 64",
    "size": "larger than 64 MiB",
    "number": "an integer we keep does not fit int64, or a float we keep is not finite",
    "not_a_response": "JSON, but neither code nor ResponseMetadata is in it",
    "type": "strict import: a field has the wrong type",
    "conflict": "the request_id is there already with other content",
    "source": "the source could not be read to its end",
}
"""The closed set of `rejects.reason`, each with its meaning."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its `meaning` with unit and range, and what `null` says, empty when never."""

    name: str
    type: pa.DataType
    meaning: str
    null: str = ""

    @property
    def field(self) -> pa.Field:
        """The Arrow field, its meaning in the metadata."""
        return pa.field(self.name, self.type, metadata={"meaning": self.meaning, "null": self.null})


_STR, _F64, _I64, _I32 = pa.string(), pa.float64(), pa.int64(), pa.int32()
_TIME = pa.timestamp("us", tz="UTC")
STRINGS = pa.list_(pa.field("element", pa.string()))
"""A list of strings, its item named as Parquet and Delta name it."""

_PROVENANCE = (
    Column("batch", _STR, "the commit that brought the row"),
    Column("source", _STR, "the file, or <stdin>, as the import named it"),
    Column("source_row", _I64, "1-based line, element or row number within the source"),
)

_QUALITY_MEANING = {
    "comprehensive_score": "overall quality, 0–100; 50 and above is good",
    "clarity": "clarity, 0–5; above 3 is clear",
    "brightness": "brightness, 0–1; below 0.08 is dark",
    "exposure": "exposure, usually 0; above 0.6 is over-exposed",
    "pose_pitch": "nodding pose; unit not stated by the vendor",
    "pose_yaw": "turning pose; unit not stated by the vendor",
    "pose_roll": "tilting pose; unit not stated by the vendor",
    "mouth_occlude": "mouth occlusion, 0–1; higher is more covered",
    "left_eye_occlude": "left eye occlusion, 0–1; higher is more covered",
    "right_eye_occlude": "right eye occlusion, 0–1; higher is more covered",
    "have_cap": "cap worn, 0–1; higher is more likely",
}

VERIFICATION_COLUMNS: tuple[Column, ...] = (
    Column("request_id", _STR, "the vendor's id, or sha256:… of an answer that has none; unique"),
    Column("occurred_at", _TIME, "when the call was made", "unknown"),
    Column("occurred_at_source", _STR, "envelope, collector, column or request_id", "time unknown"),
    Column("action", _STR, "CertVerify or CertVerifyQuery", "unknown"),
    Column("req_key", _STR, "with or without source photo, as the request said", "unknown"),
    Column("http_status", pa.int16(), "HTTP status", "unknown"),
    Column("code", _I32, "the service's code", "a gateway error, or absent"),
    Column("gateway_code", _STR, "the gateway's error code", "no gateway error"),
    Column("message", _STR, "the service's or the gateway's message", "absent"),
    Column("sub_code", _I32, "algorithm_base_resp.status_code", "absent"),
    Column("sub_message", _STR, "algorithm_base_resp.status_message", "absent"),
    Column("elapsed_ms", _F64, "time_elapsed in milliseconds", "absent"),
    Column("result", pa.bool_(), "the vendor's verdict, never derived", "no verdict"),
    Column("alive", pa.bool_(), "liveness passed, whatever the verdict", "not decided"),
    Column("score", _F64, "comparison score, 0–100", "not compared, or withheld; never 0"),
    *(
        Column(name, _F64, f"score with claimed false-match rate {level}, 0–100", "absent")
        for name, level in zip(THRESHOLD_COLUMNS, THRESHOLD_LEVELS, strict=True)
    ),
    Column("risk_score", _I32, "0 none, 300 low, 600 medium, 900 high", "no risk result"),
    Column("risk_tags", STRINGS, "risk tags as sent; empty: asked, none found", "no risk result"),
    *(
        Column(f"{image}_{measure}", _F64, _QUALITY_MEANING[measure], "not graded")
        for image in IMAGES
        for measure in QUALITY_MEASURES
    ),
    Column("image_best_bytes", _I32, "length of the face image's base64 text", "absent"),
    Column("image_env_bytes", _I32, "length of the environment image's base64 text", "absent"),
    Column("image_best_print", _STR, "keyed HMAC of the face image", "absent, or no key set"),
    Column("image_env_print", _STR, "keyed HMAC of the environment image", "absent, or no key set"),
    Column("measure_type", _STR, "req_measure_info.measure_type", "absent"),
    Column("measure_value", _I64, "billed units: req_measure_info.value", "billing unknown"),
    Column("token", _STR, "keyed hash of the byted_token", "unknown"),
    Column("subject", _STR, "keyed hash of the person", "unknown"),
    Column("extra", _STR, "JSON of every key that has no column", "nothing beyond the columns"),
    Column("issues", STRINGS, "what was coerced or wrongly typed, as type:$.path"),
    Column("content", _STR, "SHA-256 of the canonical reply without images and envelope"),
    *_PROVENANCE,
)
"""Columns of `verifications` without `month` (a partition) and `ctx_*` (the caller's own)."""

REJECT_COLUMNS: tuple[Column, ...] = (
    *_PROVENANCE,
    Column("byte_offset", _I64, "first byte of the response in the decompressed source", "unknown"),
    Column("reason", _STR, "one of REJECT_REASONS"),
    Column("detail", _STR, "what was wrong, at most 200 characters, no payload"),
    Column("sha256", _STR, "SHA-256 of the response's bytes", "never held whole"),
    Column("bytes", _I64, "length of the response in bytes", "unknown"),
    Column("rejected_at", _TIME, "when the import met it"),
)

IMPORT_COLUMNS: tuple[Column, ...] = (
    Column("batch", _STR, "the commit"),
    Column("source", _STR, "the file, or <stdin>, as the import named it"),
    Column(
        "sha256",
        _STR,
        "SHA-256 of the source's bytes as stored",
        "with + and a mark of how it was read, if by --response-path, --column or --strict",
    ),
    Column("bytes", _I64, "bytes of the source this part covers"),
    Column("n_read", _I64, "responses met = n_added + n_known + n_rejected"),
    Column("n_added", _I64, "responses that became rows"),
    Column("n_known", _I64, "responses that were there already"),
    Column("n_rejected", _I64, "responses that became rejects"),
    Column("n_erased", _I64, "rows and rejects of this part that were erased or lost since"),
    Column("code_version", _STR, "version of this package that read it"),
    Column("committed_at", _TIME, "when the commit was made"),
)

LABEL_COLUMNS: tuple[Column, ...] = (
    Column("request_id", _STR, "the verification", "the label is keyed by token"),
    Column("token", _STR, "keyed hash of the byted_token", "the label is keyed by request_id"),
    Column("mated", pa.bool_(), "true: same person", "unknown"),
    Column("attack", _STR, "species of a presentation attack", "bona fide"),
    Column("origin", _STR, "audit, claim, fraud or test", "unknown"),
    Column("plan_id", _STR, "labelling plan", "no plan"),
    Column(
        "inclusion_prob", _F64, "probability that the plan chose the row, (0, 1]", "not sampled"
    ),
    Column("labelled_at", _TIME, "when", "unknown"),
    Column("labeller", _STR, "who, as a pseudonym", "unknown"),
)

VERIFICATIONS = pa.schema([c.field for c in VERIFICATION_COLUMNS])
REJECTS = pa.schema([c.field for c in REJECT_COLUMNS])
IMPORTS = pa.schema([c.field for c in IMPORT_COLUMNS])
LABELS = pa.schema([c.field for c in LABEL_COLUMNS])

LOW_CARDINALITY = frozenset(
    {
        "occurred_at_source", "action", "req_key", "http_status", "code", "gateway_code", "message",
        "sub_code", "sub_message", *THRESHOLD_COLUMNS, "risk_score", "measure_type",
        "measure_value", "batch", "source", "reason", "code_version",
    }
)  # fmt: skip
"""Columns whose values repeat: dictionary-encoded in Parquet, the others are not."""


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How files of a schema are written, as `pyarrow.parquet.ParquetWriter` takes it."""
    # measured, the fastest to write and the smallest; byte-stream-split is for real floats
    real = [f.name for f in schema if f.type == pa.float64() and f.name not in LOW_CARDINALITY]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [name for name in schema.names if name in LOW_CARDINALITY],
        "use_byte_stream_split": real,
        "store_schema": False,
        "write_page_checksum": True,
    }
