"""Messages between an import and its workers: they arrive as they were sent."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest

from verifyanalytics import errors
from verifyanalytics.importing.worker import (
    Down,
    Failure,
    Hello,
    NextBatch,
    Progress,
    Result,
    Setup,
    Task,
    Up,
    receive,
    send,
)
from verifyanalytics.parsing.text import ReadOptions

OPTIONS = ReadOptions(key=b"k" * 32, context={"channel": "app"})


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (Setup(OPTIONS), Down),
        (Task("t", "/f", "b", []), Down),
        (NextBatch("b2"), Down),
        (Hello("/p"), Up),
        (Progress(3, 4), Up),
        (Result("b", [], [], final=True), Up),
        (Failure("InputError", "m", {"source": "s", "row": 3, "reason": "size"}), Up),
    ],
)
def test_a_message_arrives_as_it_was_sent(message, kind):
    stream = io.BytesIO()
    send(stream, message)
    stream.seek(0)
    assert receive(stream, msgspec.msgpack.Decoder(kind)) == message
    assert receive(stream, msgspec.msgpack.Decoder(kind)) is None


def test_a_message_that_is_cut_off_is_the_end():
    stream = io.BytesIO()
    send(stream, NextBatch("b2"))
    whole = stream.getvalue()
    for size in range(len(whole)):
        assert receive(io.BytesIO(whole[:size]), msgspec.msgpack.Decoder(Down)) is None


@pytest.mark.parametrize(
    "error",
    [
        errors.InputError("no", source="a.ndjson", row=7, reason="size"),
        errors.StorageError("full", path=Path("/somewhere")),
        errors.UsageError("wrong"),
        errors.VerifyAnalyticsError("ours"),
        errors.MissingColumnError(["response"], ["a", "b"]),
    ],
)
def test_an_error_keeps_its_exit_code_and_context_on_the_way(error):
    again = Failure.of(error).error()
    assert isinstance(error, type(again))
    assert (again.exit_code, str(again)) == (error.exit_code, str(error))
    context = {name: value for name, value in vars(again).items() if name in vars(error)}
    assert context == {name: vars(error)[name] for name in context}
