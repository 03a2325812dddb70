"""What can go wrong on the way of a reply: a catalogue of faults.

What a fault does on the wire is a list of steps (send, wait, reset …), which `service` plays; when
one strikes is said by a script (`scripts`). Whether the call was processed, and billed, before the
fault is part of each: that is what a client cannot see and must not guess.
"""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

REASONS = {
    200: "OK", 301: "Moved Permanently", 302: "Found", 307: "Temporary Redirect",
    308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large",
    429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


class Send(NamedTuple):
    """Send bytes."""

    data: bytes


class Trickle(NamedTuple):
    """Send bytes one at a time, so many a second."""

    data: bytes
    per_second: float


class Wait(NamedTuple):
    """Do nothing for so many seconds."""

    seconds: float


class Hold(NamedTuple):
    """Do nothing until the client leaves or the service stops."""


class Reset(NamedTuple):
    """Tear the connection down with a TCP reset."""


class Close(NamedTuple):
    """Close the connection in order."""


Step = Send | Trickle | Wait | Hold | Reset | Close


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply as it would be sent without a fault.

    Attributes
    ----------
    status : int
    body : bytes
    headers : mapping
        Beside Content-Length, Date and Connection.
    now : float
        POSIX time of the service's clock.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"Content-Type": "application/json; charset=utf-8"}
    )
    now: float = 0.0

    def head(self, *, length: str | None = "", **more: str) -> bytes:
        """Return status line and headers; `length` replaces Content-Length, None leaves it out."""
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}"]
        lines.append(f"Date: {email.utils.formatdate(self.now, usegmt=True)}")
        lines += [f"{name}: {value}" for name, value in {**self.headers, **more}.items()]
        if length is not None:
            lines.append(f"Content-Length: {length or len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def whole(self, **more: str) -> bytes:
        """Return the reply as bytes."""
        return self.head(**more) + self.body


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
    says : str
        What the client sees.
    play : callable
        (the reply of an undisturbed call, options) → steps.
    options : tuple of str
        Options that a script may give.
    """

    name: str
    processed: bool
    open: bool
    says: str
    play: Play
    options: tuple[str, ...] = ()


def _json(reply: HttpReply, status: int, code: int, message: str, **more: str) -> HttpReply:
    body = (
        f'{{"code":{code},"data":null,"message":"{message}","request_id":"{_request_id(reply)}",'
        f'"status":{code},"time_elapsed":"84.448µs"}}'
    )
    return HttpReply(status, body.encode(), {**reply.headers, **more}, reply.now)


def _gateway(reply: HttpReply, status: int, code: str, number: int | None) -> HttpReply:
    number_text = "" if number is None else f'"CodeN":{number},'
    body = (
        f'{{"ResponseMetadata":{{"RequestId":"{_request_id(reply)}","Action":"CertVerify",'
        '"Version":"2022-08-31","Service":"cv","Region":"cn-north-1",'
        f'"Error":{{{number_text}"Code":"{code}","Message":"simulated {code}"}}}}}}'
    )
    return HttpReply(status, body.encode(), reply.headers, reply.now)


def _request_id(reply: HttpReply) -> str:
    digest = hashlib.blake2b(f"{reply.now}".encode() + reply.body, digest_size=10).hexdigest()
    return f"20240404212856{digest.upper()}"


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


def _rate(code: int) -> Play:
    def play(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
        limited = _json(reply, 429, code, "Request Has Reached API Limit")
        return [Send(limited.whole(**_retry_after(reply, options)))]

    return play


def _flow_limit(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    limited = _gateway(reply, 429, "FlowLimitExceeded", None)
    return [Send(limited.whole(**_retry_after(reply, options)))]


def _code(status: int, code: int, message: str) -> Play:
    return lambda reply, _: [Send(_json(reply, status, code, message).whole())]


def _gateway_error(status: int, code: str, number: int) -> Play:
    return lambda reply, _: [Send(_gateway(reply, status, code, number).whole())]


def _html(status: int) -> Play:
    def play(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
        words = REASONS[status]
        body = f"<html><head><title>{status} {words}</title></head><h1>{words}</h1></html>\n"
        page = HttpReply(status, body.encode(), {"Content-Type": "text/html"}, reply.now)
        return [Send(page.whole(**_retry_after(reply, options)))]

    return play


def _redirect(status: int) -> Play:
    def play(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
        where = options.get("location", "/elsewhere?Action=CertVerify&Version=2022-08-31")
        return [Send(HttpReply(status, b"", {"Location": where}, reply.now).whole())]

    return play


def _body(change: Callable[[bytes], bytes]) -> Play:
    """Another body, honestly announced."""

    def play(reply: HttpReply, _: Mapping[str, str]) -> list[Step]:
        return [Send(HttpReply(reply.status, change(reply.body), reply.headers, reply.now).whole())]

    return play


def _half(reply: HttpReply) -> tuple[bytes, bytes]:
    middle = max(1, len(reply.body) // 2)
    return reply.body[:middle], reply.body[middle:]


def _reset_mid_body(reply: HttpReply, _: Mapping[str, str]) -> list[Step]:
    # the pause lets the bytes arrive before the reset overtakes them
    return [Send(reply.head() + _half(reply)[0]), Wait(0.05), Reset()]


def _stall_mid_body(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    begin, rest = _half(reply)
    return [Send(reply.head() + begin), *_pause(options), Send(rest)]


def _pause(options: Mapping[str, str]) -> list[Step]:
    return [Wait(float(options["seconds"]))] if "seconds" in options else [Hold()]


def _stall(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    return [*_pause(options), Send(reply.whole())]


def _trickle(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    return [Send(reply.head()), Trickle(reply.body, float(options.get("per_second", "1")))]


def _slow_head(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    return [Trickle(reply.whole(), float(options.get("per_second", "1")))]


def _chunks(reply: HttpReply, ending: bytes) -> bytes:
    begin, rest = _half(reply)
    head = reply.head(length=None, **{"Transfer-Encoding": "chunked"})
    chunk = b"%x\r\n%b\r\n" % (len(begin), begin)
    return head + chunk + ending.replace(b"REST", b"%x\r\n%b" % (len(rest), rest))


def _chunked(ending: bytes) -> Play:
    return lambda reply, _: [Send(_chunks(reply, ending)), Close()]


def _encoded(reply: HttpReply, body: bytes, **more: str) -> list[Step]:
    return [Send(HttpReply(reply.status, body, {**reply.headers, **more}, reply.now).whole())]


def _gzip_bomb(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    bomb = _zeros_in_gzip(int(options.get("mib", "256")))
    return _encoded(reply, bomb, **{"Content-Encoding": "gzip"})


def _zeros_in_gzip(mebibytes: int) -> bytes:
    """One gzip stream of zeros; a fully flushed mebibyte can be repeated as it is."""
    zeros, checksum = bytes(1 << 20), 0
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeeze.compress(zeros) + squeeze.flush(zlib.Z_FULL_FLUSH)
    for _ in range(mebibytes):
        checksum = zlib.crc32(zeros, checksum)
    trailer = struct.pack("<II", checksum, (mebibytes << 20) % 2**32)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + block * mebibytes + squeeze.flush() + trailer


def _huge_body(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    size = int(options.get("mib", "33")) << 20
    return _encoded(reply, reply.body.ljust(size))


def _big_header(reply: HttpReply, options: Mapping[str, str]) -> list[Step]:
    return [Send(reply.whole(**{"X-Padding": "x" * int(options.get("bytes", "100000"))}))]


def _many_headers(reply: HttpReply, _: Mapping[str, str]) -> list[Step]:
    return [Send(reply.whole(**{f"X-Padding-{i}": "x" for i in range(300)}))]


def _send(data: bytes, *then: Step) -> Play:
    return lambda reply, _: [Send(data.replace(b"WHOLE", reply.whole())), *then]


def _latin1(body: bytes) -> bytes:
    return body.decode().replace('"message":"', '"message":"é').encode("latin-1", "replace")


_RETRY = ("retry_after",)
_CATALOGUE = (
    # refused before anything was processed
    Kind("rate_50429", False, False, "429, code 50429", _rate(50429), _RETRY),
    Kind("rate_50430", False, False, "429, code 50430", _rate(50430), _RETRY),
    Kind("flow_limit", False, False, "429, gateway FlowLimitExceeded", _flow_limit, _RETRY),
    Kind("html_429", False, False, "429 with an HTML page", _html(429), _RETRY),
    Kind(
        "denied_50400", False, False, "401, code 50400", _code(401, 50400, "Access Denied")
    ),
    Kind(
        "signature", False, False, "401, gateway SignatureDoesNotMatch",
        _gateway_error(401, "SignatureDoesNotMatch", 100010),
    ),
    Kind(
        "timestamp", False, False, "403, gateway InvalidTimestamp, whatever the date",
        _gateway_error(403, "InvalidTimestamp", 100006),
    ),
    Kind(
        "lack_policy", False, False, "403, gateway LackPolicy",
        _gateway_error(403, "LackPolicy", 100012),
    ),
    # the service's clock is off: refused, unless the caller's date fits that clock
    Kind("clock_skew", True, False, "another date", _send(b"WHOLE"), ("seconds",)),
    # nobody can tell whether it was processed
    Kind("internal_50500", False, True, "500, code 50500", _code(500, 50500, "Internal Error")),
    Kind("rpc_50501", True, True, "500, code 50501", _code(500, 50501, "Internal RPC Error")),
    Kind(
        "gateway_500", False, True, "500, gateway InternalError",
        _gateway_error(500, "InternalError", 100014),
    ),
    Kind("html_502", False, True, "502 with an HTML page", _html(502), _RETRY),
    Kind("html_503", False, True, "503 with an HTML page", _html(503), _RETRY),
    Kind("html_504", True, True, "504 with an HTML page", _html(504), _RETRY),
    Kind("reset_before", False, False, "reset before processing", lambda *_: [Reset()]),
    Kind("reset_after", True, False, "reset after processing, no byte sent", lambda *_: [Reset()]),
    Kind("close_before", False, False, "closed before processing", lambda *_: [Close()]),
    Kind("close_after", True, False, "closed after processing, no byte sent", lambda *_: [Close()]),
    Kind("stall_before", False, False, "nothing comes, not processed", _stall, ("seconds",)),
    Kind("stall", True, False, "nothing comes, processed", _stall, ("seconds",)),
    # processed, and the answer spoilt on the way
    Kind("reset_mid_body", True, False, "reset in the middle of the body", _reset_mid_body),
    Kind("stall_mid_body", True, False, "silence in mid-body", _stall_mid_body, ("seconds",)),
    Kind("trickle", True, False, "the body at 1 byte/s", _trickle, ("per_second",)),
    Kind("slow_head", True, False, "everything at 1 byte/s", _slow_head, ("per_second",)),
    Kind(
        "long_length", True, False, "Content-Length larger than the body",
        lambda reply, _: [Send(reply.head(length=f"{len(reply.body) + 99}") + reply.body), Close()],
    ),
    Kind(
        "short_length", True, False, "Content-Length smaller than the body",
        lambda reply, _: [Send(reply.head(length=f"{len(reply.body) // 2}") + reply.body), Close()],
    ),
    Kind(
        "garbage_length", True, False, "Content-Length is no number",
        lambda reply, _: [Send(reply.head(length="many") + reply.body), Close()],
    ),
    Kind("truncated_chunk", True, False, "the last chunk is cut", _chunked(b"ffff\r\nREST")),
    Kind("bad_chunk", True, False, "a chunk's size is no number", _chunked(b"zz\r\nREST")),
    Kind("truncated_json", True, False, "half the JSON", _body(lambda b: b[: len(b) // 2])),
    Kind("empty_200", True, False, "200 without a body", _body(lambda _: b"")),
    Kind("not_json", True, False, "200 with plain text", _body(lambda _: b"it works")),
    Kind("bom", True, False, "a byte order mark before the JSON", _body(b"\xef\xbb\xbf".__add__)),
    Kind("latin1", True, False, "JSON in Latin-1", _body(_latin1)),
    Kind("utf16", True, False, "JSON in UTF-16", _body(lambda b: b.decode().encode("utf-16"))),
    Kind("array", True, False, "a JSON array", _body(lambda _: b"[]")),
    Kind("no_code", True, False, "JSON that is no reply", _body(lambda _: b'{"status":"ok"}')),
    Kind(
        "gzip", True, False, "gzip although not asked for",
        lambda reply, _: _encoded(
            reply, gzip.compress(reply.body, mtime=0), **{"Content-Encoding": "gzip"}
        ),
    ),
    Kind("gzip_bomb", True, False, "gzip of 256 MiB of zeros", _gzip_bomb, ("mib",)),
    Kind("huge_body", True, False, "a body of 33 MiB", _huge_body, ("mib",)),
    Kind("big_header", True, False, "a header of 100 kB", _big_header, ("bytes",)),
    Kind("many_headers", True, False, "300 headers", _many_headers),
    Kind("not_http", True, False, "bytes that are no HTTP", _send(b"\x16\x03SSH?\r\n", Close())),
    *(
        Kind(f"redirect_{status}", False, False, f"{status}", _redirect(status), ("location",))
        for status in (301, 302, 307, 308)
    ),
    # unusual, but a good answer
    Kind("chunked", True, False, "a good answer in chunks", _chunked(b"REST\r\n0\r\n\r\n")),
    Kind(
        "no_length", True, False, "a good answer that ends with the connection",
        lambda reply, _: [Send(reply.head(length=None, Connection="close") + reply.body), Close()],
    ),
    Kind(
        "continue_100", True, False, "a good answer after 100 Continue",
        _send(b"HTTP/1.1 100 Continue\r\n\r\nWHOLE"),
    ),
    Kind("slow", True, False, "a good answer after a while", _stall, ("seconds",)),
)  # fmt: skip

FAULTS: Mapping[str, Kind] = {kind.name: kind for kind in _CATALOGUE}
"""The catalogue by name."""
