"""The reference parser: one response becomes one row, or one reason why not.

The vendor's three reply shapes (gateway, service, success) and the query reply are read by one
walk: known keys become columns, every other key goes to `extra`, whatever was coerced or wrong is
named in `issues`, images leave their size only. It is written to be read; `fast` gives the same
rows for blocks of responses.

Rules beyond the vendor's page: null is absent. A value of the wrong type is coerced where nothing
is lost (`"60"` → 60.0, `10000.0` → 10000, `1` → true), else the column is null and the value as
sent goes to `extra`; both are the issue `type:$.path`. A text over 4 KiB anywhere is replaced by
its size (`size:$.path` in a column). `""` where nested JSON belongs is Go's "not set": null,
`empty:$.path`. Minus zero is zero.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from verifyanalytics.parsing import envelope as envelopes
from verifyanalytics.parsing.envelope import ReadOptions, keyed_hash
from verifyanalytics.parsing.object_reader import ObjectReader, Table
from verifyanalytics.parsing.strict_json import Unreadable, dumps
from verifyanalytics.schema import (
    IMAGES,
    QUALITY_COLUMNS,
    QUALITY_FIELDS,
    QUALITY_MEASURES,
    THRESHOLD_COLUMNS,
    THRESHOLD_LEVELS,
    VERIFICATION_COLUMNS,
)

CONTENT_NUMBERS = ("elapsed_ms", "score", *QUALITY_COLUMNS)
"""The 24 float columns that the content's digest begins with, in this order."""

CONTENT_REPEATED = (
    "code", "gateway_code", "message", "sub_code", "sub_message", "result", "alive",
    *THRESHOLD_COLUMNS, "risk_score", "risk_tags", "measure_type", "measure_value",
)  # fmt: skip
"""The other columns of a reply, whose values repeat, in the order in which the digest goes on."""

# Column → (kind, key), in the order in which issues name them.
_SERVICE: Table = {
    "code": ("int32", "code"),
    "message": ("text", "message"),
    "elapsed_ms": ("duration", "time_elapsed"),
}
_COMPARISON: Table = {"alive": ("flag", "alive"), "score": ("number", "score")}
_THRESHOLDS: Table = {
    column: ("number", level)
    for column, level in zip(THRESHOLD_COLUMNS, THRESHOLD_LEVELS, strict=True)
}
_QUALITY: dict[str, Table] = {
    image: {
        f"{image}_{measure}": ("number", name)
        for measure, name in zip(QUALITY_MEASURES, QUALITY_FIELDS, strict=True)
    }
    for image in IMAGES
}
_OUTCOME: Table = {"sub_code": ("int32", "status_code"), "sub_message": ("text", "status_message")}
_MEASURE: Table = {"measure_type": ("text", "measure_type"), "measure_value": ("int64", "value")}
_ENVELOPE: Table = {
    "action": ("text", "action"),
    "req_key": ("text", "req_key"),
    "http_status": ("int16", "http_status"),
    "occurred_at": ("time", "occurred_at"),
}

_REQUEST_DATE = re.compile(r"([0-9]{14})[0-9A-Fa-f]{20}")
_PACK_NUMBERS = struct.Struct(f"<{len(CONTENT_NUMBERS)}d").pack
_NAN = float("nan")

Row = dict[str, Any]
"""Column → value: `schema.VERIFICATIONS` without batch, month and ctx_*; times are datetimes."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a response is no row.

    Attributes
    ----------
    reason : str
        One of `schema.REJECT_REASONS`.
    detail : str
        What is wrong and where, at most 200 characters, no payload.
    """

    reason: str
    detail: str


def read_response(data: bytes, options: ReadOptions, *, source: str, row: int) -> Row | Refusal:
    """Read one response.

    Parameters
    ----------
    data : bytes
        One line or document: a reply, a reply in an envelope, or a log line with a bytes literal.
    options : ReadOptions
    source, row : str, int
        Where it stands; they become columns, and part of the id of a reply without one.

    Returns
    -------
    Row or Refusal
        Never an exception for whatever the bytes are.

    Examples
    --------
    >>> read = read_response(b'{"code": "10000"}', ReadOptions(), source="a.ndjson", row=1)
    >>> read["code"], read["issues"]
    (10000, ['type:$.code'])
    """
    try:
        opened = envelopes.open_line(data, options)
        if not isinstance(opened.reply, dict) or not envelopes.is_reply(opened.reply):
            raise Unreadable("not_a_response", "neither code nor ResponseMetadata")
        values = _Reading(options).read(opened, source, row)
    except Unreadable as refused:
        return Refusal(refused.reason, refused.detail[:200])
    wrong = next((issue for issue in values["issues"] if issue.startswith("type:")), None)
    if options.strict and wrong:
        return Refusal("type", f"{wrong.removeprefix('type:')} has the wrong type"[:200])
    return values


class _Reading:
    """The reading of one response: its issues, and the row that grows."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self.issues: list[str] = []
        self.row: Row = {c.name: None for c in VERIFICATION_COLUMNS if c.name != "batch"}

    def read(self, opened: envelopes.Opened, source: str, row: int) -> Row:
        """Read the reply, then what stood around it, then what follows from both."""
        values = self.row
        reply = ObjectReader(opened.reply, "$", self.issues)
        if not self._read_gateway(reply):
            self._read_service(reply)
        extra = reply.rest()
        values["content"] = content(values, dumps(extra, normalised=True) if extra else None)
        if around := self._read_envelope(opened):
            extra[free_name(extra, "envelope")] = around
        values |= {
            "extra": dumps(extra) if extra else None,
            "issues": self.issues,
            "source": source,
            "source_row": row,
        }
        self._date()
        if values["request_id"] is None:
            values["request_id"] = substitute_id(values)
        return values

    def _read_gateway(self, reply: ObjectReader) -> bool:
        """Read the gateway's metadata; true when it holds an error: the rest then means nothing."""
        metadata = reply.object("ResponseMetadata")
        values = self.row
        values["action"] = metadata.take("text", "Action")
        request_id = metadata.identifier("RequestId")
        if not metadata.holds("Error"):
            values["request_id"] = reply.identifier("request_id") or request_id
            return False
        error = metadata.object("Error")
        values["request_id"] = request_id or reply.identifier("request_id")
        values["gateway_code"] = error.take("text", "Code")
        values["message"] = error.take("text", "Message")
        return True

    def _read_service(self, reply: ObjectReader) -> None:
        values = self.row
        values |= reply.columns(_SERVICE)
        data = reply.object("data")
        values["result"] = data.take("flag", "result")
        risk = data.nested("risk_result")
        values["risk_score"] = risk.take("int32", "score")
        values["risk_tags"] = risk.texts("tags")
        if values["risk_tags"] is None and not risk.failed("tags"):
            # Go writes an empty list as null: asked, nothing found
            values["risk_tags"] = None if values["risk_score"] is None else []
        images = data.object("images")
        for name in ("image_best", "image_env"):
            image = images.image(name)
            if image is None:
                continue
            values[f"{name}_bytes"] = len(image)
            if image and self.options.image_prints and self.options.key:
                values[f"{name}_print"] = keyed_hash(self.options.key, "image", image)
        details = data.object("source_comp_details")
        values |= details.columns(_COMPARISON)
        values |= details.object("thresholds").columns(_THRESHOLDS)
        for image_name, table in _QUALITY.items():
            values |= details.nested(f"image_{image_name}_detail").columns(table)
        # a query reply holds the outcome of the verification itself under `verify_`
        outcome = data.first("verify_algorithm_base_resp", "algorithm_base_resp")
        values |= outcome.columns(_OUTCOME)
        measure = data.first("verify_req_measure_info", "req_measure_info")
        values |= measure.columns(_MEASURE)

    def _read_envelope(self, opened: envelopes.Opened) -> dict[str, Any]:
        values, options = self.row, self.options
        envelope = ObjectReader({**opened.rest, **opened.around}, "envelope", self.issues)
        columns = envelope.columns(_ENVELOPE)
        columns["action"] = columns["action"] or values["action"] or options.action
        columns["req_key"] = columns["req_key"] or options.req_key
        values |= columns
        if options.collected:
            # the collector's hashes stay as they are; the images it took out left their size
            for name in ("token", "subject"):
                values[name] = envelope.secret(name)
            images = envelope.object("images")
            for name in ("image_best", "image_env"):
                if images.holds(f"{name}_bytes"):
                    values[f"{name}_bytes"] = images.take("int32", f"{name}_bytes")
                    values[f"{name}_print"] = images.take("text", f"{name}_print")
        for column, name in (("token", "byted_token"), ("subject", "subject")):
            secret = envelope.secret(name)
            if secret and options.key:
                values[column] = keyed_hash(options.key, column, secret)
        context = envelope.object("context")
        values |= {f"ctx_{column}": text for column, text in options.context.items()}
        for column, name in envelopes.context_names(context.values, options).items():
            text = context.plain(name)
            if text is not None:
                values[f"ctx_{column}"] = text
        return envelope.rest()

    def _date(self) -> None:
        values = self.row
        if values["occurred_at"] is not None:
            values["occurred_at_source"] = self.options.time_source
        elif values["request_id"] is not None:
            values["occurred_at"] = date_in(values["request_id"])
            values["occurred_at_source"] = "request_id" if values["occurred_at"] else None
        moment = values["occurred_at"]
        values["month"] = "unknown" if moment is None else f"{moment:%Y-%m}"


def date_in(request_id: str) -> datetime | None:
    """Moment at which a request_id of the dated form was given out, in UTC; else None."""
    match = _REQUEST_DATE.fullmatch(request_id)
    if match is None:
        return None
    year, parts = match[1][:4], [match[1][i : i + 2] for i in range(4, 14, 2)]
    return envelopes.read_time(f"{year}-{parts[0]}-{parts[1]}T{':'.join(parts[2:])}+08:00")


def content(row: Row, extra: str | None) -> str:
    """Digest of what a reply says, whichever way it was written down.

    SHA-256, in hexadecimal, of the 24 `CONTENT_NUMBERS` as little-endian float64 (NaN where null),
    the 32 bytes of `repeated_digest`, and the text of `extra` if there is any. Key order, white
    space, escapes, the spelling of a number, the id, images and the envelope do not count.

    Parameters
    ----------
    row : Row
    extra : str or None
        The reply's unknown keys as `dumps(…, normalised=True)` writes them.
    """
    numbers = (_NAN if row[name] is None else row[name] for name in CONTENT_NUMBERS)
    repeated = repeated_digest([row[name] for name in CONTENT_REPEATED])
    return hashlib.sha256(_PACK_NUMBERS(*numbers) + repeated + (extra or "").encode()).hexdigest()


def repeated_digest(values: Iterable[Any]) -> bytes:
    """SHA-256 of the compact UTF-8 JSON array of the `CONTENT_REPEATED` columns.

    It is a digest of its own, so that the fast path computes it once a combination.
    """
    text = json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def substitute_id(row: Row) -> str:
    """Identify a reply that has no request_id: by its content, its time and its place."""
    moment = row["occurred_at"]
    parts = (
        row["content"],
        "" if moment is None else moment.isoformat(),
        row["source"],
        str(row["source_row"]),
    )
    return f"sha256:{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}"


def free_name(taken: Container[str], name: str) -> str:
    """Give the first of `name`, `name_`, `name__` … that is not taken."""
    while name in taken:
        name += "_"
    return name
