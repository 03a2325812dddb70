"""Raw answers as the journal keeps them: the reply without images, and what the caller knew.

A raw answer is one line of our own envelope, so the parser of imports reads it too, also again
after it was mended. Numbers keep their text. Images leave their size and, on request, their keyed
fingerprint; personal values and other long texts leave their size. Token and subject are keyed
hashes already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from verifyanalytics.parsing.text import (
    MAX_TEXT,
    Number,
    Unreadable,
    dumps,
    is_number_of_a_person,
    is_personal,
    keyed_hash,
    loads,
    looked_through,
    short,
    size,
    sized,
)

IMAGES = ("image_best", "image_env")
JSON_TEXTS = frozenset({"risk_result", "image_face_detail", "image_env_detail"})
"""Keys whose values are JSON in JSON: the parser needs them whole, so they are kept or emptied."""

MAX_JSON_TEXT = 64 * 1024
"""Bytes of such a text at most; the vendor's take about one thousand, and an image hardly fits."""


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
        Keep keyed fingerprints of the images, made with this key.

    Returns
    -------
    bytes or None
        One line of JSON without a line end; None when the body is not strict JSON, for then
        images cannot be found in it.
    """
    try:
        reply = loads(body.decode())
    except (UnicodeDecodeError, Unreadable):
        return None
    images = _take_images(reply, print_key)
    envelope = {
        "occurred_at": received_at.isoformat(),
        "action": action,
        "req_key": req_key,
        "token": token,
        "http_status": http_status,
        "subject": subject,
        "context": dict(context) if context else None,
        "images": images,
    }
    known = {name: value for name, value in envelope.items() if value}
    around = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
    return f'{around[:-1]},"response":{dumps(_redacted(reply))}}}'.encode()


def _take_images(reply: Any, print_key: bytes | None) -> dict[str, Any]:
    """Empty the two images in place; give their sizes and fingerprints."""
    data = reply.get("data") if isinstance(reply, dict) else None
    images = data.get("images") if isinstance(data, dict) else None
    taken: dict[str, Any] = {}
    if not isinstance(images, dict):
        return taken
    for name in IMAGES:
        image = images.get(name)
        if isinstance(image, str) and not isinstance(image, Number) and image:
            taken[f"{name}_bytes"] = len(image)
            if print_key is not None:
                taken[f"{name}_print"] = keyed_hash(print_key, "image", image)
            images[name] = ""
    return taken


def _redacted(value: Any, name: str | None = None) -> Any:
    """Replace long texts and personal values by their size."""
    if isinstance(value, dict):
        return {short(key): _redacted(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(item, name) for item in value]
    personal = name is not None and is_personal(name)
    if isinstance(value, str) and not isinstance(value, Number):
        if name == "request_id" and is_number_of_a_person(value):
            return value
        n_bytes = size(value)
        if name in JSON_TEXTS:
            return looked_through(value) if n_bytes <= MAX_JSON_TEXT else ""
        is_sized = n_bytes > MAX_TEXT or (personal and value)
        return sized(value) if is_sized else looked_through(value)
    return "[number]" if personal and isinstance(value, Number) else value
