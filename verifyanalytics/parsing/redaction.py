"""Redaction: images, personal values, secrets and long texts are replaced by their size.

It applies wherever they stand: as a key's value, in a text that is JSON itself, in a context. What
is left over of a reply goes through here, and every text that becomes a column.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from verifyanalytics.parsing.strict_json import Number, Unreadable, dumps, loads

MAX_TEXT = 4096
"""Bytes (UTF-8) of a text that is kept; of a longer one only the size is."""

PERSONAL = frozenset(
    {
        "verify_idcard_info", "idcard_info", "idcard_no", "idcard_name", "id_card", "id_number",
        "video", "video_key", "tos_data", "binary_data_base64", "image_best", "image_env", "images",
        "byted_token", "sdk_data", "subject",
    }
)  # fmt: skip
"""Keys whose values are personal, binary or secret, in small letters or capitals."""

_OPENS = ("{", "[", '"', " ", "\t", "\r", "\n")  # what JSON that could hide something begins with
_QUOTED = re.compile(rf"""["'](?:{"|".join(sorted(PERSONAL))})\\*["']""", re.IGNORECASE)


def is_personal(name: str) -> bool:
    """Whether a key's value is personal, binary or secret."""
    return name.lower() in PERSONAL


def is_kept(text: str) -> bool:
    """Whether a text stays as it is for sure; False where `redacted` has to be asked."""
    if len(text) > MAX_TEXT // 4:
        return False
    return not text.startswith(_OPENS) or redacted(text) == text


def are_kept(texts: Iterable[str]) -> bool:
    """Whether all of the texts stay as they are for sure."""
    return all(map(is_kept, texts))


def redacted(value: Any, name: str | None = None) -> Any:
    """Copy of a value without images, personal values and long texts.

    Values of `PERSONAL` keys, and texts, names and arrays over 4 KiB, are replaced by their size.
    A text that is JSON is looked through in the same way.

    Examples
    --------
    >>> redacted({"image_best": "AAAA", "note": '{"idcard_no": "1", "n": 1.50}'})
    {'image_best': '[4 bytes]', 'note': '{"idcard_no":"[1 bytes]","n":1.50}'}
    """
    if name is not None and is_personal(name) and value not in (None, "", [], {}):
        return sized(value)
    if isinstance(value, str):
        return sized(value) if len(value.encode()) > MAX_TEXT else _looked_through(value)
    if isinstance(value, list):
        items = [redacted(item) for item in value]
        return sized(value) if size(items) > MAX_TEXT else items
    if isinstance(value, dict):
        return {short(key): redacted(inner, key) for key, inner in value.items()}
    return value


def _looked_through(text: str) -> str:
    """A text as it is; written anew where it is JSON in which something has to go."""
    if isinstance(text, Number) or not text.startswith(_OPENS):
        return text
    names_secret = _QUOTED.search(text) is not None
    try:
        value = loads(text)
    except Unreadable:  # perhaps cut off: what belongs to the name is unknown
        return sized(text) if names_secret else text
    shown = redacted(value)
    # of a key given twice only the last value is there, and an escape may spell a name
    is_safe = not names_secret and "\\u" not in text
    return text if is_safe and shown == value else dumps(shown)


def short(name: str) -> str:
    """A name that fits; the digest keeps long names apart."""
    text = name.encode()
    if len(text) <= MAX_TEXT:
        return name
    return f"{sized(name)} {hashlib.sha256(text).hexdigest()[:16]}"


def sized(value: Any) -> str:
    """What stands for a value of which only the size is kept."""
    return f"[{size(value)} bytes]"


def size(value: Any) -> int:
    """Bytes of a text, else of the value's JSON."""
    text = value if isinstance(value, str) else dumps(value, normalised=True)
    return len(text.encode())
