"""Reading one response in tests."""

from __future__ import annotations

import copy
import json

from builders.answers import PAGE_SAMPLE
from verifyanalytics.parsing.reference import Refusal, read_response
from verifyanalytics.parsing.text import ReadOptions

KEY = b"k" * 32


def read(value, options=None, **changes):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    options = options or ReadOptions(**changes)
    return read_response(data, options, source="s", row=7)


def row(value, **changes):
    made = read(value, **changes)
    assert not isinstance(made, Refusal), made
    return made


def changed(path, value, base=PAGE_SAMPLE):
    """A copy of an answer with one value replaced at a dotted path."""
    answer = copy.deepcopy(base)
    *parents, last = path.split(".")
    target = answer
    for name in parents:
        target = target[name]
    target[last] = value
    return answer
