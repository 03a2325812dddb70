"""The catalogue of faults: what can go wrong on the way of a reply.

A fault on the wire is a list of steps (send, wait, reset …), which `server` plays; a script (see
`scripts`) decides when one strikes. Whether the call was processed, and billed, before the fault is
part of each: that is what a client cannot see and must not guess.
"""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import NamedTuple

from verifyanalytics.simulator.rendering import gateway_body, service_body
from verifyanalytics.vendor.api import API_VERSION, GATEWAY_CLOCK, GATEWAY_RATE, VERIFY


class Send(NamedTuple):
    """Send bytes: at once, or one at a time, so many a second."""

    data: bytes
    per_second: float | None = None


class Wait(NamedTuple):
    """Do nothing for so many seconds; infinity: until the client leaves or the service stops."""

    seconds: float


class Close(NamedTuple):
    """Close the connection in order, or with a TCP reset."""

    reset: bool = False


Step = Send | Wait | Close


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply as it would be sent without a fault; `now` is the time of the service's clock.

    `headers` are those beside Content-Length, Date and Connection.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"Content-Type": "application/json; charset=utf-8"}
    )
    now: float = 0.0

    def head(self, *, length: str | None = "", **more: str) -> bytes:
        """Return status line and headers; `length` replaces Content-Length, None leaves it out."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines.append(f"Date: {email.utils.formatdate(self.now, usegmt=True)}")
        lines += [f"{name}: {value}" for name, value in {**self.headers, **more}.items()]
        if length is not None:
            lines.append(f"Content-Length: {length or len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def whole(self, **more: str) -> bytes:
        """Return the reply as bytes."""
        return self.head(**more) + self.body

    def halves(self) -> tuple[bytes, bytes]:
        """Return the body in two parts, neither empty if it has two bytes."""
        middle = max(1, len(self.body) // 2)
        return self.body[:middle], self.body[middle:]


Play = Callable[[HttpReply, Mapping[str, str]], list[Step]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault of the catalogue.

    Attributes
    ----------
    name : str
    processed : bool
        Whether the call was processed, and billed, before the fault.
    open : bool
        Both can happen: a script may say ``processed=``.
    seen : str
        What the client sees.
    play : callable
        (the reply of an undisturbed call, options) → steps.
    options : tuple of str
        Options that a script may give.
    """

    name: str
    processed: bool
    open: bool
    seen: str
    play: Play
    options: tuple[str, ...] = ()


# ------------------------------------------------------------------ other replies


def _instead(make: Callable[[str], str], status: int) -> Play:
    """Another reply: `make` turns a request id into its body."""

    def play(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
        digest = hashlib.blake2b(f"{reply.now}".encode() + reply.body, digest_size=10).hexdigest()
        body = make(f"20240404212856{digest.upper()}").encode()
        other = replace(reply, status=status, body=body)
        return [Send(other.whole(**_retry_after(reply, options)))]

    return play


def _code(status: int, code: int, message: str) -> Play:
    return _instead(lambda request_id: service_body(request_id, code, message), status)


def _gateway(status: int, code: str, number: int | None) -> Play:
    return _instead(lambda id_: gateway_body(id_, code, number, f"simulated {code}"), status)


def _retry_after(reply: HttpReply, options: Mapping[str, str]) -> dict[str, str]:
    """Return the header in the form asked for; none for ``absent``."""
    wish = options.get("retry_after", "absent")
    if wish == "absent":
        return {}
    texts = {
        "huge": "86400",
        "garbage": "soon, I hope",
        "negative": "-5",
        "fraction": "1.5",
        "past": email.utils.formatdate(reply.now - 3600, usegmt=True),
    }
    if wish.startswith("date"):
        ahead = float(wish.partition(":")[2] or 2)
        return {"Retry-After": email.utils.formatdate(reply.now + ahead, usegmt=True)}
    return {"Retry-After": texts.get(wish, wish)}


def _html(status: int) -> Play:
    def play(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
        words = HTTPStatus(status).phrase
        body = f"<html><head><title>{status} {words}</title></head><h1>{words}</h1></html>\n"
        page = HttpReply(status, body.encode(), {"Content-Type": "text/html"}, reply.now)
        return [Send(page.whole(**_retry_after(reply, options)))]

    return play


def _redirect(status: int) -> Play:
    def play(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
        elsewhere = f"/elsewhere?Action={VERIFY}&Version={API_VERSION}"
        where = options.get("location", elsewhere)
        return [Send(HttpReply(status, b"", {"Location": where}, reply.now).whole())]

    return play


def _body(change: Callable[[bytes], bytes], **more: str) -> Play:
    """Another body (`bytes`: the same), honestly announced, and more headers."""
    return lambda reply, _: [Send(replace(reply, body=change(reply.body)).whole(**more))]


def _gzip_bomb(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    """One gzip stream of zeros; a fully flushed mebibyte can be repeated as it is."""
    mebibytes = int(options.get("mib", "256"))
    zeros, checksum = bytes(1 << 20), 0
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeeze.compress(zeros) + squeeze.flush(zlib.Z_FULL_FLUSH)
    for _ in range(mebibytes):
        checksum = zlib.crc32(zeros, checksum)
    trailer = struct.pack("<II", checksum, (mebibytes << 20) % 2**32)
    bomb = b"\x1f\x8b\x08" + bytes(6) + b"\xff" + block * mebibytes + squeeze.flush() + trailer
    return [Send(replace(reply, body=bomb).whole(**_GZIP))]


# ------------------------------------------------------------------ the same reply, spoilt


def _stall(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    return [Wait(float(options.get("seconds", "inf"))), Send(reply.whole())]


def _stall_mid_body(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    begin, rest = reply.halves()
    pause = Wait(float(options.get("seconds", "inf")))
    return [Send(reply.head() + begin), pause, Send(rest)]


def _chunked(ending: bytes) -> Play:
    """The body in two chunks; `ending` is sent after the first, REST in it is the second."""

    def play(reply: HttpReply, _: Mapping[str, str]) -> list[Step]:
        begin, rest = reply.halves()
        head = reply.head(length=None, **{"Transfer-Encoding": "chunked"})
        first, second = (b"%x\r\n%b" % (len(part), part) for part in (begin, rest))
        return [Send(head + first + b"\r\n" + ending.replace(b"REST", second)), Close()]

    return play


def _length(announced: Callable[[int], str | None], **more: str) -> Play:
    """A Content-Length that is announced for so many bytes; the connection is closed after."""
    return lambda reply, _: [
        Send(reply.head(length=announced(len(reply.body)), **more) + reply.body),
        Close(),
    ]


def _steps(steps: Callable[[HttpReply], list[Step]]) -> Play:
    return lambda reply, _: steps(reply)


def _send(data: bytes, *then: Step) -> Play:
    return lambda reply, _: [Send(data.replace(b"WHOLE", reply.whole())), *then]


def _slowly(step: Callable[[HttpReply, float], list[Step]]) -> Play:
    return lambda reply, options: step(reply, float(options.get("per_second", "1")))


# ------------------------------------------------------------------ the catalogue

_GZIP = {"Content-Encoding": "gzip"}
_LIMIT = "Request Has Reached API Limit"


def _kinds(
    processed: bool, open_: bool, *rows: tuple[str, str, Play, *tuple[str, ...]]
) -> Iterator[tuple[str, Kind]]:
    for name, seen, play, *options in rows:
        yield name, Kind(name, processed, open_, seen, play, tuple(options))


FAULTS: Mapping[str, Kind] = dict(
    [
        # refused before anything was processed
        *_kinds(
            False, False,
            ("rate_50429", "429, code 50429", _code(429, 50429, _LIMIT), "retry_after"),
            ("rate_50430", "429, code 50430", _code(429, 50430, _LIMIT), "retry_after"),
            ("flow_limit", f"429, gateway {GATEWAY_RATE}", _gateway(429, GATEWAY_RATE, None),
             "retry_after"),
            ("html_429", "429 with an HTML page", _html(429), "retry_after"),
            ("denied_50400", "401, code 50400", _code(401, 50400, "Access Denied")),
            ("signature", "401, gateway SignatureDoesNotMatch",
             _gateway(401, "SignatureDoesNotMatch", 100010)),
            ("timestamp", f"403, gateway {GATEWAY_CLOCK}, whatever the date",
             _gateway(403, GATEWAY_CLOCK, 100006)),
            ("lack_policy", "403, gateway LackPolicy", _gateway(403, "LackPolicy", 100012)),
            ("reset_before", "reset before processing", _steps(lambda _: [Close(reset=True)])),
            ("close_before", "closed before processing", _steps(lambda _: [Close()])),
            ("stall_before", "nothing comes, not processed", _stall, "seconds"),
            ("redirect_301", "301", _redirect(301), "location"),
            ("redirect_302", "302", _redirect(302), "location"),
            ("redirect_307", "307", _redirect(307), "location"),
            ("redirect_308", "308", _redirect(308), "location"),
        ),
        # it is unknown whether it was processed
        *_kinds(
            False, True,
            ("internal_50500", "500, code 50500", _code(500, 50500, "Internal Error")),
            ("gateway_500", "500, gateway InternalError", _gateway(500, "InternalError", 100014)),
            ("html_502", "502 with an HTML page", _html(502), "retry_after"),
            ("html_503", "503 with an HTML page", _html(503), "retry_after"),
        ),
        *_kinds(
            True, True,
            ("rpc_50501", "500, code 50501", _code(500, 50501, "Internal RPC Error")),
            ("html_504", "504 with an HTML page", _html(504), "retry_after"),
        ),
        # processed, and the answer lost or spoilt on the way
        *_kinds(
            True, False,
            ("reset_after", "reset after processing, no byte sent",
             _steps(lambda _: [Close(reset=True)])),
            ("close_after", "closed after processing, no byte sent", _steps(lambda _: [Close()])),
            ("stall", "nothing comes, processed", _stall, "seconds"),
            # the pause lets the bytes arrive before the reset overtakes them
            ("reset_mid_body", "reset in the middle of the body",
             _steps(lambda reply: [
                 Send(reply.head() + reply.halves()[0]), Wait(0.05), Close(reset=True)
             ])),
            ("stall_mid_body", "silence in mid-body", _stall_mid_body, "seconds"),
            ("trickle", "the body at 1 byte/s",
             _slowly(lambda reply, rate: [Send(reply.head()), Send(reply.body, rate)]),
             "per_second"),
            ("slow_head", "everything at 1 byte/s",
             _slowly(lambda reply, rate: [Send(reply.whole(), rate)]), "per_second"),
            ("long_length", "Content-Length larger than the body", _length(lambda n: f"{n + 99}")),
            ("short_length", "Content-Length smaller than the body",
             _length(lambda n: f"{n // 2}")),
            ("garbage_length", "Content-Length is no number", _length(lambda _: "many")),
            ("truncated_chunk", "the last chunk is cut", _chunked(b"ffff\r\nREST")),
            ("bad_chunk", "a chunk's size is no number", _chunked(b"zz\r\nREST")),
            ("truncated_json", "half the JSON", _body(lambda body: body[: len(body) // 2])),
            ("empty_200", "200 without a body", _body(lambda _: b"")),
            ("not_json", "200 with plain text", _body(lambda _: b"it works")),
            ("bom", "a byte order mark before the JSON", _body(b"\xef\xbb\xbf".__add__)),
            ("latin1", "JSON in Latin-1", _body(
                 lambda body: body.decode()
                 .replace('"message":"', '"message":"é').encode("latin-1", "replace")
             )),
            ("utf16", "JSON in UTF-16", _body(lambda body: body.decode().encode("utf-16"))),
            ("array", "a JSON array", _body(lambda _: b"[]")),
            ("no_code", "JSON that is no reply", _body(lambda _: b'{"status":"ok"}')),
            ("gzip", "gzip although not asked for",
             _body(lambda body: gzip.compress(body, mtime=0), **_GZIP)),
            ("gzip_bomb", "gzip of 256 MiB of zeros", _gzip_bomb, "mib"),
            ("huge_body", "a body of 33 MiB",
             lambda reply, options: _body(
                 lambda body: body.ljust(int(options.get("mib", "33")) << 20)
             )(reply, options), "mib"),
            ("big_header", "a header of 100 kB",
             lambda reply, options: _body(
                 bytes, **{"X-Padding": "x" * int(options.get("bytes", "100000"))}
             )(reply, options), "bytes"),
            ("many_headers", "300 headers",
             _body(bytes, **{f"X-Padding-{i}": "x" for i in range(300)})),
            ("not_http", "bytes that are no HTTP", _send(b"\x16\x03SSH?\r\n", Close())),
            # the service's clock is off: refused, unless the caller's date fits that clock
            ("clock_skew", "another date", _send(b"WHOLE"), "seconds"),
            # unusual, but a good answer
            ("chunked", "a good answer in chunks", _chunked(b"REST\r\n0\r\n\r\n")),
            ("no_length", "a good answer that ends with the connection",
             _length(lambda _: None, Connection="close")),
            ("continue_100", "a good answer after 100 Continue",
             _send(b"HTTP/1.1 100 Continue\r\n\r\nWHOLE")),
            ("slow", "a good answer after a while", _stall, "seconds"),
        ),
    ]
)  # fmt: skip
"""The catalogue by name."""
