"""Connections: kept, pipelined, in pieces, refused; nothing is left when the server stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from builders.signed_calls import (
    CALL,
    TARGET,
    Got,
    call,
    exchange,
    good,
    raw_call,
    request_bytes,
    signed,
)

from verifyanalytics.errors import UsageError
from verifyanalytics.simulator import (
    run_service,
    serve,
    token_digest,
)


def test_connections_are_kept_and_requests_may_follow_at_once(service):
    requests = []
    for token in ("pipe-1", "pipe-2", "pipe-3"):
        body = json.dumps({**CALL, "byted_token": token}).encode()
        last = {"connection": "close"} if token == "pipe-3" else {}
        requests.append(request_bytes({**signed(service, body), **last}, body))
    data, error = exchange(service, b"".join(requests))
    assert error is None
    assert data.count(b"HTTP/1.1 ") == 3
    assert [service.calls(f"pipe-{i}").processed for i in (1, 2, 3)] == [1, 1, 1]


def test_thousands_of_requests_at_once():
    with serve() as running:
        one = b"GET /_simulator/bill HTTP/1.1\r\nhost: x\r\n\r\n"
        last = b"GET /_simulator/bill HTTP/1.1\r\nconnection: close\r\n\r\n"
        data, error = exchange(running, one * 2999 + last)
    assert error is None
    assert data.count(b"HTTP/1.1 200 OK") == 3000


def test_requests_behind_a_held_reply_wait():
    with serve(faults="stall seconds=0.3 calls=1") as running:
        requests = []
        for token in ("held", "behind"):
            body = json.dumps({**CALL, "byted_token": token}).encode()
            requests.append(request_bytes(signed(running, body), body))
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as sock:
            sock.sendall(requests[0])
            while running.calls("held").received == 0:
                time.sleep(0.01)
            sock.sendall(requests[1])
            received = b""
            while received.count(b"HTTP/1.1 ") < 2:
                assert not (received == b"" and running.calls("behind").received)
                received += sock.recv(1 << 16)
        assert running.calls("behind").processed == 1


def test_a_request_may_come_in_pieces(service):
    body = json.dumps({**CALL, "byted_token": "pieces"}).encode()
    data = request_bytes({**signed(service, body), "connection": "close"}, body)
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for first in range(0, len(data), 97):
            sock.sendall(data[first : first + 97])
        received = b""
        while chunk := sock.recv(1 << 16):
            received += chunk
    good(received)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_request_is_refused(service, data):
    received, error = exchange(service, data)
    assert error is None or isinstance(error, ConnectionResetError)
    assert received == b"" or Got(received).status == 400


def test_unknown_actions_and_methods(service):
    for target, method in (
        ("/?Action=CertVerifyX&Version=2022-08-31", "POST"),
        ("/?Action=CertVerify&Version=2020-01-01", "POST"),
        (TARGET, "GET"),
        ("/", "POST"),
    ):
        body = b"{}"
        headers = {**signed(service, body, target), "connection": "close"}
        got = Got(exchange(service, request_bytes(headers, body, target, method))[0])
        assert (got.gateway, got.status) == ("InvalidActionOrVersion", 404)


def test_too_large_a_body_is_refused(service):
    got = call(service, fields={**CALL, "byted_token": "large", "sdk_data": "x" * (10 << 20)})
    assert got.json["code"] == 50213
    assert service.calls("large").processed == 0


def test_the_bill_can_be_asked_over_loopback(service):
    call(service, "billed")
    data, _ = exchange(
        service, b"GET /_simulator/bill HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    told = Got(data).json
    here = service.bill()
    assert told == here.as_json()
    assert told["tokens"][token_digest("billed")]["processed"] == 1
    assert told["processed"] == sum(of["processed"] for of in told["tokens"].values())
    assert here.billed == sum(of["billed"] for of in told["tokens"].values())
    assert "billed" not in told["tokens"]


def n_open_files():
    """Open files of this process; None where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else None


def test_nothing_is_left_when_it_stops():
    threads = set(threading.enumerate())
    open_files = n_open_files()
    with serve(faults="stall calls=1\ntrickle calls=2") as running:
        body = json.dumps({**CALL, "byted_token": "t"}).encode()
        data = request_bytes(signed(running, body), body)
        socks = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(3)]
        for sock in socks[:2]:
            sock.sendall(data)
        while running.bill().received < 2:
            time.sleep(0.01)
        port = running.port
    for sock in socks:
        sock.close()
    assert set(threading.enumerate()) == threads
    assert n_open_files() == open_files
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_an_error_inside_the_context_still_stops_it():
    threads = set(threading.enumerate())
    with pytest.raises(KeyError), serve() as running:  # noqa: PT012
        good(raw_call(running)[0])
        raise KeyError("x")
    assert set(threading.enumerate()) == threads


def test_the_secret_is_in_no_repr():
    with serve(secret_key="canary-secret") as running:
        shown = repr(running) + repr(vars(running)) + repr(vars(running.handler))
        assert running.secret_key == "canary-secret"
    assert "canary-secret" not in shown.replace("'secret_key': 'canary-secret'", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"host": "0.0.0.0"}, "127.0.0.1 and ::1 only"),
        ({"port": 70_000}, "cannot listen on port 70000"),
        ({"latency": -1}, "latency"),
        ({"qps": 0}, "qps"),
        ({"faults": Path("/nowhere/faults.txt")}, "cannot read the faults in"),
        ({"faults": "boo"}, "no fault 'boo'"),
    ],
)
def test_arguments_that_cannot_work(arguments, said):
    with pytest.raises(UsageError) as caught, serve(**arguments):
        pass
    assert said in str(caught.value)


def test_a_port_that_is_taken(service):
    with (
        pytest.raises(UsageError, match=f"cannot listen on port {service.port}"),
        serve(port=service.port),
    ):
        pass


def test_run_service_gives_the_signal_handlers_back():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def announce(running):
        seen.append(running.port)
        os.kill(os.getpid(), signal.SIGTERM)

    run_service(announce)
    assert len(seen) == 1
    assert signal.getsignal(signal.SIGTERM) is before
