"""The transport over raw sockets: what each failure of the network becomes."""

import contextlib
import json
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from verifyanalytics.simulator import serve, token_digest
from verifyanalytics.vendor import replies, transport
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.credentials import Credentials
from verifyanalytics.vendor.replies import Outcome
from verifyanalytics.vendor.transport import RequestsTransport, Timeouts

KEYS = Credentials("AKcanary", "SKcanary", "STScanary")
REQUEST = {
    "req_key": "cert_pro_src_verify",
    "byted_token": "TOKENcanary",
    "sdk_data": "SDKcanary",
    "risk_info": "RISKcanary",
}
OK_BODY = b'{"code":10000,"data":{"result":true},"message":"Success","request_id":"1"}'


@contextmanager
def scripted(play, accepts=1, read=None):
    """A loopback server that hands each connection, its request read, to `play`."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    heard = []

    def run():
        for _ in range(accepts):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                heard.append((read or read_request)(connection))
                play(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.close()
        thread.join(10)
    assert not thread.is_alive()


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head


def http(body, status="200 OK", length=None, **headers):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def wait_for_the_end(connection):
    try:
        connection.recv(1)
    except OSError:
        return


QUICK = Timeouts(connect=2.0, read=0.3, total=0.8)
PLAYS = {
    "answer": (lambda c: c.sendall(http(OK_BODY)), Outcome.ANSWERED),
    "closed without a word": (lambda c: None, Outcome.LOST),
    "reset": (reset, Outcome.LOST),
    "reset within the body": (
        lambda c: (c.sendall(http(OK_BODY, length=500)), reset(c)),
        None,
    ),
    "stall": (wait_for_the_end, Outcome.LOST),
    "stall in the head": (
        lambda c: (c.sendall(b"HTTP/1.1 200 OK\r\n"), wait_for_the_end(c)),
        Outcome.LOST,
    ),
    "body cut short": (lambda c: c.sendall(http(OK_BODY, length=500)), Outcome.UNPARSED),
    "length too small": (lambda c: c.sendall(http(OK_BODY, length=20)), Outcome.UNPARSED),
    "chunk cut short": (
        lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"),
        Outcome.UNPARSED,
    ),
    "a chunk that is none": (
        lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{"),
        Outcome.UNPARSED,
    ),
    "no HTTP": (lambda c: c.sendall(b"SSH-2.0-OpenSSH\r\n"), Outcome.LOST),
    "a header of 100 kB": (
        lambda c: c.sendall(http(OK_BODY, X_Long="x" * 100_000)),
        Outcome.LOST,
    ),
    "redirect": (
        lambda c: c.sendall(http(b"", "302 Found", Location="http://127.0.0.1:1/")),
        Outcome.TURNED_AWAY,
    ),
    "redirect with an answer": (
        lambda c: c.sendall(http(OK_BODY, "307 Temporary Redirect", Location="/")),
        Outcome.ANSWERED,
    ),
    "a chunk of negative length": (
        lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n"),
        Outcome.LOST,
    ),
    "a negative length": (lambda c: c.sendall(http(OK_BODY, length=-5)), Outcome.ANSWERED),
    "a length that is none": (lambda c: c.sendall(http(OK_BODY, length="x")), Outcome.ANSWERED),
    "two lengths that differ": (
        lambda c: c.sendall(http(OK_BODY, Content_length="3")),
        Outcome.LOST,
    ),
    "no status": (lambda c: c.sendall(b"HTTP/1.1\r\n\r\n"), Outcome.LOST),
    "a status that is no number": (lambda c: c.sendall(b"HTTP/1.1 abc\r\n\r\n"), Outcome.LOST),
    "nothing, with 204": (lambda c: c.sendall(http(b"", "204 No Content")), Outcome.UNPARSED),
    "100 headers": (
        lambda c: c.sendall(http(OK_BODY, **{f"X_{n}": "x" for n in range(120)})),
        Outcome.LOST,
    ),
    "a proxy's page": (
        lambda c: c.sendall(http(b"<html>", "413 Content Too Large")),
        Outcome.TURNED_AWAY,
    ),
    "a page of a limit": (
        lambda c: c.sendall(http(b"<html>", "429 Too Many Requests")),
        Outcome.FAULT,
    ),
    "not found, cut short": (
        lambda c: c.sendall(http(b"<html>", "404 Not Found", length=500)),
        Outcome.UNPARSED,
    ),
    "gzip nobody asked for": (
        lambda c: c.sendall(http(b"\x1f\x8b\x08\x00", Content_Encoding="gzip")),
        Outcome.UNPARSED,
    ),
    "bad gateway": (
        lambda c: c.sendall(http(b"<html>", "502 Bad Gateway")),
        Outcome.FAULT,
    ),
}


@pytest.mark.parametrize("name", PLAYS)
def test_the_transport_tells_what_happened(name):
    play, outcome = PLAYS[name]
    with scripted(play) as (endpoint, heard):
        reply = Client(KEYS, endpoint, timeouts=QUICK).call("CertVerify", REQUEST)
    assert len(heard) == 1
    if outcome is None:  # a reset races with the bytes before it: either way it is not sent again
        assert reply.outcome in {Outcome.LOST, Outcome.UNPARSED}
    else:
        assert reply.outcome is outcome
    assert "canary" not in repr(reply.message)


@pytest.mark.parametrize("head", [b"", b"Connection: close\r\n"], ids=["kept open", "to be closed"])
def test_a_trickle_ends_at_the_deadline(head):
    """Bytes that come one by one never run into the read timeout; the whole call has its own.

    When the server means to close, the connection lets go of its socket before the body is there.
    """
    pulse = threading.Event()

    def drip(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: 100000\r\n\r\n")
        try:
            while not pulse.wait(0.05):
                connection.sendall(b" ")
        except OSError:
            return

    with scripted(drip) as (endpoint, _):
        started = time.monotonic()
        reply = Client(KEYS, endpoint, timeouts=Timeouts(2.0, 5.0, 0.6)).call("CertVerify", REQUEST)
        taken = time.monotonic() - started
        pulse.set()
    assert reply.outcome is Outcome.LOST
    assert taken < 5.0  # far below the server's 5,000 s


def test_a_reply_over_the_cap_is_not_kept(monkeypatch):
    monkeypatch.setattr(transport, "MAX_BODY", 50_000)
    with scripted(lambda c: c.sendall(http(b'{"code":10000}' + b" " * 60_000))) as (endpoint, _):
        reply = Client(KEYS, endpoint, timeouts=QUICK).call("CertVerify", REQUEST)
    assert (reply.outcome, reply.body) == (Outcome.UNPARSED, b"")
    assert replies.MAX_BODY == 32 * 1024 * 1024


def test_nobody_listens_is_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reply = Client(KEYS, f"http://127.0.0.1:{port}", timeouts=QUICK).call("CertVerify", REQUEST)
    assert (reply.outcome, reply.billed) == (Outcome.NOT_SENT, False)


def test_no_tls_on_the_other_side_is_not_sent():
    listener = socket.create_server(("127.0.0.1", 0))

    def answer_plainly():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=answer_plainly)
    thread.start()
    port = listener.getsockname()[1]
    reply = Client(KEYS, f"https://127.0.0.1:{port}", timeouts=QUICK).call("CertVerify", REQUEST)
    thread.join(10)
    listener.close()
    assert (reply.outcome, reply.billed) == (Outcome.NOT_SENT, False)


def test_a_handshake_that_breaks_off_is_not_sent():
    listener = socket.create_server(("127.0.0.1", 0))

    def hang_up():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)

    thread = threading.Thread(target=hang_up)
    thread.start()
    endpoint = f"https://127.0.0.1:{listener.getsockname()[1]}"
    reply = Client(KEYS, endpoint, timeouts=QUICK).call("CertVerify", REQUEST)
    thread.join(10)
    listener.close()
    assert (reply.outcome, reply.billed) == (Outcome.NOT_SENT, False)


def self_signed(path):
    """A key and a certificate for loopback that nobody vouches for, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    day = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(day - timedelta(days=1))
        .not_valid_after(day + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(plain + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_certificate_nobody_vouches_for_stops(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))
    listener = socket.create_server(("127.0.0.1", 0))

    def shake_hands():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            context.wrap_socket(connection, server_side=True)

    thread = threading.Thread(target=shake_hands)
    thread.start()
    endpoint = f"https://127.0.0.1:{listener.getsockname()[1]}"
    reply = Client(KEYS, endpoint, timeouts=QUICK).call("CertVerify", REQUEST)
    thread.join(10)
    listener.close()
    assert (reply.outcome, reply.billed) == (Outcome.TLS, False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_call_to_this_machine_goes_through_no_proxy(host, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with scripted(lambda c: c.sendall(http(OK_BODY))) as (endpoint, heard):
        there = endpoint.replace("127.0.0.1", host)
        reply = Client(KEYS, there, timeouts=QUICK).call("CertVerify", REQUEST)
    assert (reply.outcome, len(heard)) == (Outcome.ANSWERED, 1)


def test_an_unknown_name_is_not_sent(monkeypatch):
    def fails(*_args, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    reply = Client(KEYS, timeouts=QUICK).call("CertVerify", REQUEST)
    assert (reply.outcome, reply.billed) == (Outcome.NOT_SENT, False)


def test_a_proxy_that_is_down_is_not_sent(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    reply = Client(KEYS, timeouts=QUICK).call("CertVerify", REQUEST)
    assert (reply.outcome, reply.billed) == (Outcome.NOT_SENT, False)


def test_each_call_has_a_connection_of_its_own():
    with scripted(lambda c: c.sendall(http(OK_BODY)), accepts=3) as (endpoint, heard):
        client = Client(KEYS, endpoint, timeouts=QUICK)
        outcomes = [client.call("CertVerify", REQUEST).outcome for _ in range(3)]
    assert outcomes == [Outcome.ANSWERED] * 3
    assert all(b"connection: close" in head.lower() for head in heard)


def test_a_stored_netrc_login_is_not_sent(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login evil password evil\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted(lambda c: c.sendall(http(OK_BODY))) as (endpoint, heard):
        Client(KEYS, endpoint, timeouts=QUICK).call("CertVerify", REQUEST)
    assert b"Basic" not in heard[0]
    assert b"HMAC-SHA256 Credential=AKcanary/" in heard[0]


def test_the_transport_needs_one_thread_for_all_deadlines():
    def threads():
        return sorted(thread.name for thread in threading.enumerate())

    before = [name for name in threads() if name != "deadlines"]
    earlier = set(threading.enumerate())  # those of other tests' calls may wait a minute
    transport_ = RequestsTransport()
    with scripted(lambda c: c.sendall(http(OK_BODY)), accepts=5) as (endpoint, _):
        for _ in range(5):
            transport_.send(requests.Request("POST", endpoint, data=b"{}"), QUICK)
    ours = [t for t in set(threading.enumerate()) - earlier if t.name == "deadlines"]
    assert len(ours) <= 1
    assert [name for name in threads() if name != "deadlines"] == before
    for thread in ours:  # it ends by itself when there is nothing to watch
        thread.join(10)
        assert not thread.is_alive()


def test_a_deadline_in_a_crowd_hits_the_right_call():
    """Ten calls at once, one of which never gets its answer."""
    with serve(seed=1, faults="stall token=" + token_digest("T3")) as service:
        client = Client(
            Credentials(service.access_key, service.secret_key), service.address,
            timeouts=Timeouts(5.0, 5.0, 1.0),
        )  # fmt: skip
        with ThreadPoolExecutor(10) as pool:
            replies = list(
                pool.map(
                    lambda n: client.call("CertVerify", REQUEST | {"byted_token": f"T{n}"}),
                    range(10),
                )
            )
    lost = [n for n, reply in enumerate(replies) if reply.outcome is Outcome.LOST]
    assert lost == [3]


def test_an_answer_that_repeats_the_token_is_cleaned():
    token = REQUEST["byted_token"]
    body = json.dumps({"code": 50215, "message": f"token {token} is used"}).encode()
    with scripted(lambda c: c.sendall(http(body))) as (endpoint, _):
        reply = Client(KEYS, endpoint, timeouts=QUICK).call("CertVerify", REQUEST)
    assert reply.message == "token [redacted] is used"
    assert token.encode() not in reply.body


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"", Outcome.NOT_SENT),
        (http(b"<html>", "429 Too Many Requests"), Outcome.TURNED_AWAY),
        (http(b"<html>", "413 Content Too Large", length=500), Outcome.NOT_SENT),
    ],
)
def test_a_request_that_was_not_sent_to_its_end_was_not_processed(answer, outcome):
    """The body is larger than what the system takes before the server reads."""

    def play(connection):
        connection.sendall(answer)

    big = {**REQUEST, "sdk_data": "x" * 40_000_000}
    with scripted(play, read=lambda connection: connection.recv(1000)) as (endpoint, _):
        reply = Client(KEYS, endpoint).call("CertVerify", big)
    assert reply.outcome in {outcome, Outcome.NOT_SENT}  # a reset may overtake the reply
    assert reply.billed is False
