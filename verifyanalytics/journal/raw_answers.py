"""A raw answer as it is kept: the reply without pictures, and what the caller knew of the call.

One line of our own envelope, so that the same readers that read imports read it again, after a
parser was mended too. Numbers keep the text they came with; pictures leave their size and, when
asked, their keyed fingerprint; personal values and other long texts leave their size. The token
and the person are keyed hashes already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from verifyanalytics.parsing.envelope import keyed_hash
from verifyanalytics.parsing.redaction import MAX_TEXT, is_personal
from verifyanalytics.parsing.strict_json import Number, Unreadable, dumps, loads

IMAGES = ("image_best", "image_env")
JSON_TEXTS = frozenset({"risk_result", "image_face_detail", "image_env_detail"})
"""Keys whose values are JSON in JSON: they are read later, so they are kept whole, or not set."""

MAX_JSON_TEXT = 64 * 1024
"""Bytes of such a text; the vendor's take about one thousand, and a picture hardly fits."""


def raw_line(
    body: bytes,
    *,
    action: str,
    req_key: str,
    token: str,
    received_at: datetime,
    http_status: int | None,
    subject: str | None = None,
    context: Mapping[str, str] | None = None,
    print_key: bytes | None = None,
) -> bytes | None:
    """Make the line that the journal keeps and the store is filled from.

    Parameters
    ----------
    body : bytes
        The reply as received.
    action, req_key : str
        As sent.
    token, subject : str
        Keyed hashes.
    received_at : datetime
        UTC.
    http_status : int or None
    context : mapping, optional
        The caller's own.
    print_key : bytes, optional
        Keep keyed fingerprints of the pictures, made with this key.

    Returns
    -------
    bytes or None
        One line of JSON without a line end; None when the body is not strict JSON, for then
        pictures cannot be found in it.
    """
    try:
        reply = loads(body.decode())
    except (UnicodeDecodeError, Unreadable):
        return None
    images = _take_images(reply, print_key)
    envelope = {
        "response": None,
        "occurred_at": received_at.isoformat(),
        "action": action,
        "req_key": req_key,
        "token": token,
        "http_status": http_status,
        "subject": subject,
        "context": dict(context) if context else None,
        "images": images,
    }
    told = {name: value for name, value in envelope.items() if value}
    around = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return f'{around[:-1]},"response":{dumps(_without_pictures(reply))}}}'.encode()


def _take_images(reply: Any, print_key: bytes | None) -> dict[str, Any]:
    """Blank the two pictures in place; what is left to say of them."""
    data = reply.get("data") if isinstance(reply, dict) else None
    images = data.get("images") if isinstance(data, dict) else None
    said: dict[str, Any] = {}
    if not isinstance(images, dict):
        return said
    for name in IMAGES:
        picture = images.get(name)
        if isinstance(picture, str) and not isinstance(picture, Number) and picture:
            said[f"{name}_bytes"] = len(picture)
            if print_key is not None:
                said[f"{name}_print"] = keyed_hash(print_key, "image", picture)
            images[name] = ""
    return said


def _without_pictures(value: Any, name: str | None = None) -> Any:
    if isinstance(value, dict):
        return {_name(key): _without_pictures(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_pictures(item, name) for item in value]
    personal = name is not None and is_personal(name)
    if isinstance(value, str) and not isinstance(value, Number):
        n_bytes = len(value.encode())
        if name in JSON_TEXTS:
            return value if n_bytes <= MAX_JSON_TEXT else ""
        return f"[{n_bytes} bytes]" if n_bytes > MAX_TEXT or (personal and value) else value
    return "[number]" if personal and isinstance(value, Number) else value


def _name(key: str) -> str:
    n_bytes = len(key.encode())
    return f"[{n_bytes} bytes]" if n_bytes > MAX_TEXT else key
