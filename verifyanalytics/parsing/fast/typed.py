"""Answers as msgspec decodes them: typed, in one pass, with every unknown key refused.

What these types accept, `responses` reads without a type issue; what they refuse goes there. The
types are narrow on purpose: a key nobody knows, a number as text, a float where an integer belongs
or a picture that is no text ends the fast road for that answer. Pictures are decoded as text, which
checks them and gives their length, and are dropped with their stretch.

`Types` can learn keys: one that the vendor newly sends everywhere becomes a raw field on the fast
road, and its value goes to `extra` as the reference would write it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from verifyanalytics.parsing.envelope import ENVELOPE_KEYS
from verifyanalytics.schema import QUALITY_FIELDS

NAN = float("nan")

MAX_LEARNT = 32
"""Keys that one kernel learns at most; beyond, answers with new keys take the slow road."""

_UNKNOWN = re.compile(
    r"Object contains unknown field `(.{1,256}?)`(?: - at `\$\.?(.*)`)?", re.DOTALL
)
_KNOWN: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}
_REPEATED: dict[str, Any] = {**_KNOWN, "frozen": True}  # hashable: part of a head's key


class Thresholds(
    Struct,
    rename={"e3": "1e-3", "e4": "1e-4", "e5": "1e-5", "e6": "1e-6"},
    **_REPEATED,
):
    """`thresholds`; integers stay what they are, because equal ones are found faster."""

    e3: int | float | None = None
    e4: int | float | None = None
    e5: int | float | None = None
    e6: int | float | None = None


class Outcome(Struct, **_REPEATED):
    """`algorithm_base_resp`."""

    status_code: int | None = None
    status_message: str | None = None


class Measure(Struct, **_REPEATED):
    """`req_measure_info`."""

    measure_type: str | None = None
    value: int | None = None


class Risk(Struct, **_KNOWN):
    """`risk_result`, the JSON within its text."""

    score: int | None = None
    tags: list[str] | None = None


class Images(Struct, **_KNOWN):
    """`images`."""

    image_best: str | None = None
    image_env: str | None = None


Quality = msgspec.defstruct("Quality", [(name, float, NAN) for name in QUALITY_FIELDS], **_KNOWN)
"""`image_face_detail` and `image_env_detail`; a null in it ends the fast road."""

NOT_GRADED = Quality()
"""The detail of an image that has none."""

NO_IMAGES = Images()
"""The images of a reply that has none."""

Undecodable = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises: a reason to ask the reference, never a verdict."""

LEVELS = {"reply": "", "data": "data", "comparison": "data.source_comp_details"}
"""Where keys can be learnt: the level's name → its path."""

_FIELDS: dict[str, list[tuple[str, Any, Any]]] = {
    "comparison": [
        ("alive", bool | None, None),
        ("image_env_detail", str | None, None),
        ("image_face_detail", str | None, None),
        ("score", float | None, None),
        ("thresholds", Thresholds | None, None),
    ],
    "data": [
        ("result", bool | None, None),
        ("risk_result", str | None, None),
        ("algorithm_base_resp", Outcome | None, None),
        ("req_measure_info", Measure | None, None),
        ("verify_algorithm_base_resp", Outcome | None, None),
        ("verify_req_measure_info", Measure | None, None),
    ],
    "reply": [
        ("code", int | None, UNSET),
        ("message", str | None, None),
        ("request_id", str | None, None),
        ("time_elapsed", str | None, None),
        ("ResponseMetadata", None, None),
    ],
}
_ENVELOPE: list[tuple[str, Any, Any]] = [
    ("occurred_at", str | int | None, None),
    ("action", str | None, None),
    ("req_key", str | None, None),
    ("byted_token", str | None, None),
    ("http_status", int | None, None),
    ("subject", str | None, None),
    ("context", dict[str, str | None] | None, None),
]


class Learnt(NamedTuple):
    """A key without a column that the fast road takes along.

    Attributes
    ----------
    level, name : str
        Where it stands (a key of `LEVELS`) and how it is called.
    attribute : str
        Attribute of the level's type; UNSET where an answer lacks the key.
    """

    level: str
    name: str
    attribute: str


class Types:
    """The decoders of one kernel, rebuilt whenever a key is learnt.

    Attributes
    ----------
    learnt : list of Learnt
    reply, envelope : msgspec.json.Decoder
        Of a line that is a reply, and of one in our envelope.
    no_reply, no_data, no_comparison, no_envelope : Struct
        What stands for a part that an answer lacks.
    """

    def __init__(self) -> None:
        # service faults repeat their code as `status`, and there are many of them
        self.learnt = [Learnt("reply", "status", "learnt_0")]
        self._build()

    def learn(self, level: str, name: str) -> None:
        """Learn a key, unless it has a meaning already or there are too many."""
        taken = {field for fields in _FIELDS.values() for field, *_ in fields}
        taken |= {"data", "images", "source_comp_details", "response", *ENVELOPE_KEYS}
        is_known = any((key.level, key.name) == (level, name) for key in self.learnt)
        if len(self.learnt) < MAX_LEARNT and name not in taken and not is_known:
            self.learnt.append(Learnt(level, name, f"learnt_{len(self.learnt)}"))
            self._build()

    def _build(self) -> None:
        comparison = self._struct("comparison")
        parts = (("images", Images | None, None), ("source_comp_details", comparison | None, None))
        data = self._struct("data", *parts, at=2)
        reply = self._struct("reply", ("data", data | None, None), at=1)
        envelope = msgspec.defstruct(
            "Envelope", [("response", reply | str, UNSET), *_ENVELOPE], **_KNOWN
        )
        self.no_comparison, self.no_data = comparison(), data()
        self.no_reply, self.no_envelope = reply(), envelope()
        self.reply = msgspec.json.Decoder(reply)
        self.envelope = msgspec.json.Decoder(envelope)

    def _struct(self, level: str, *inner: tuple[str, Any, Any], at: int = 0) -> Any:
        learnt = [key for key in self.learnt if key.level == level]
        fields = [(key.attribute, Raw | UnsetType, UNSET) for key in learnt]
        return msgspec.defstruct(
            level.capitalize(),
            # in the vendor's order: msgspec finds the next key fastest
            [*_FIELDS[level][:at], *inner, *_FIELDS[level][at:], *fields],
            rename={key.attribute: key.name for key in learnt},
            **_KNOWN,
        )


def unknown_key(error: Exception) -> tuple[str, str] | None:
    """Level and name of the unknown key an error is about; None for another error or place."""
    match = _UNKNOWN.fullmatch(str(error))
    if match is None:
        return None
    path = (match[2] or "").removeprefix("response.")
    return next(((level, match[1]) for level, at in LEVELS.items() if at == path), None)
