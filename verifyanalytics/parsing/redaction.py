"""Redaction: images, personal values, secrets and long texts are replaced by their size.

It applies wherever they stand: as a key's value, in a text that is JSON itself, in a context. What
is left over of a reply goes through here, and every text that becomes a column.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from verifyanalytics.parsing.strict_json import Number, Unreadable, dumps, loads

MAX_TEXT = 4096
"""Bytes (UTF-8) of a text that is kept; of a longer one only the size is."""

PERSONAL = frozenset(
    {
        # tokens, payloads and pictures of the vendor's API
        "bytedtoken", "sdkdata", "subject", "images", "imagebest", "imageenv", "binarydatabase64",
        "video", "videokey", "tosdata",
        # who a person is
        "verifyidcardinfo", "idcardinfo", "idcardno", "idcardname", "idcard", "idcardnumber",
        "idnumber", "idno", "identityno", "identitynumber", "certno", "certname", "passportno",
        "realname", "fullname", "username", "mobile", "mobileno", "mobilephone", "phone", "phoneno",
        "phonenumber", "telephone", "email", "address", "birthday", "birthdate", "dateofbirth",
        # what a face tells
        "faceattributes", "age", "gender", "genderconfidence", "beauty", "race", "ethnicity",
        "expression", "emotion",
        # keys to accounts
        "authorization", "accesskey", "accesskeyid", "secretkey", "secretaccesskey", "accesstoken",
        "sessiontoken", "securitytoken", "xsecuritytoken", "password", "passwd", "cookie",
        "setcookie",
    }
)  # fmt: skip
"""Names of personal, binary or secret values, as `plain_name` writes them."""

_SEPARATORS = str.maketrans("", "", "_- ")
_OPENS = ("{", "[", '"', " ", "\t", "\r", "\n")  # what JSON that could hide something begins with
_QUOTED = re.compile(
    rf"""["'](?:{"|".join("[_ -]*".join(name) for name in sorted(PERSONAL))})[_ -]*\\*["']""",
    re.IGNORECASE,
)
_HEADS = ("/9j/", "_9j_", "iVBORw0", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A", "AAAA")
"""How JPEG, PNG, GIF, WebP, BMP, TIFF and HEIF pictures begin in base64, of either alphabet."""
_PICTURE = re.compile(
    rf"\s*(?:data:[^,]{{0,100}},\s*)?(?:{'|'.join(_HEADS)})[A-Za-z0-9+/_=\s-]{{40,}}"
)
_NUMBER = re.compile(
    r"(?<![0-9A-Za-z])(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z])[1-9]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[0-9Xx]"
    r"(?![0-9A-Za-z])"
)
"""Phone numbers of mainland China, and numbers of its identity cards, in a free text."""


@lru_cache(4096)
def plain_name(name: str) -> str:
    """A name without case, `_`, `-` and spaces: services spell one name in many ways."""
    return name.translate(_SEPARATORS).lower()


def is_personal(name: str) -> bool:
    """Whether a key's value is personal, binary or secret."""
    return plain_name(name) in PERSONAL


def shown_text(text: str) -> str:
    """A text without a picture, a phone number and the number of an identity card."""
    if _PICTURE.fullmatch(text):
        return sized(text)
    return _NUMBER.sub(_masked, text)


def is_number_of_a_person(text: str) -> bool:
    """Whether a text is nothing but such a number, as an id may be by chance."""
    return _NUMBER.fullmatch(text) is not None


_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def _masked(found: re.Match[str]) -> str:
    """Give a number's size; the last digit of an identity card's checks the others (GB 11643)."""
    text = found[0]
    if len(text) == 18 and text[:17].isdigit():
        check = sum(int(digit) * weight for digit, weight in zip(text, _WEIGHTS, strict=False)) % 11
        if text[17].upper() != "10X98765432"[check]:
            return text
    return sized(text)


_MAY_GO = (*_OPENS, *_HEADS, "data:")


def is_kept(text: str) -> bool:
    """Whether a text stays as it is for sure; False where `redacted` has to be asked."""
    if len(text) > MAX_TEXT // 4:
        return False
    if text.startswith(_MAY_GO) or _NUMBER.search(text):
        return bool(redacted(text) == text)
    return True


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
        return sized(value) if len(value.encode()) > MAX_TEXT else looked_through(value)
    if isinstance(value, list):
        items = [redacted(item) for item in value]
        return sized(value) if size(items) > MAX_TEXT else items
    if isinstance(value, dict):
        return {short(key): redacted(inner, key) for key, inner in value.items()}
    return value


def looked_through(text: str) -> str:
    """A text as it is; written anew where it is JSON in which something has to go."""
    if isinstance(text, Number):
        return text
    text = shown_text(text)
    if not text.startswith(_OPENS):
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
