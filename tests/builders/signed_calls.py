"""Calls to the simulated API, signed as the vendor's page says, over plain sockets."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time

KEY, SECRET = "AKLTSIMULATED", "not-a-secret"


CALL = {"req_key": "cert_pro_src_verify", "sdk_data": "x", "risk_info": "y"}


TARGET = "/?Action=CertVerify&Version=2022-08-31"


QUERY = "/?Action=CertVerifyQuery&Version=2022-08-31"


def signed(service, body, target=TARGET, at=None, key=KEY, secret=SECRET, sts=None):
    """A request signed as the vendor's page says, written out once more."""
    x_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    names = ["content-type", "host", "x-content-sha256", "x-date"]
    headers = {
        "content-type": "application/json",
        "host": f"127.0.0.1:{service.port}",
        "x-content-sha256": hashlib.sha256(body).hexdigest(),
        "x-date": x_date,
    }
    if sts is not None:
        headers["x-security-token"] = sts
        names.append("x-security-token")
    path, _, query = target.partition("?")
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    canonical = "\n".join(
        ["POST", path, query, lines, ";".join(names), headers["x-content-sha256"]]
    )
    scope = f"{x_date[:8]}/cn-north-1/cv/request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    derived = secret.encode()
    for part in (x_date[:8], "cn-north-1", "cv", "request"):
        derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
    to_sign = f"HMAC-SHA256\n{x_date}\n{scope}\n{digest}"
    seal = hmac.new(derived, to_sign.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={';'.join(names)}, Signature={seal}"
    )
    return headers


def request_bytes(headers, body, target=TARGET, method="POST"):
    head = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join([*head, f"content-length: {len(body)}"]) + "\r\n\r\n").encode() + body


def exchange(service, data, timeout=10.0):
    """Send bytes, read until the other side closes; the error that ended it is returned too."""
    received = []
    with socket.create_connection(("127.0.0.1", service.port), timeout=timeout) as sock:
        sock.sendall(data)
        try:
            while chunk := sock.recv(1 << 20):
                received.append(chunk)
        except (ConnectionResetError, TimeoutError) as error:
            return b"".join(received), error
    return b"".join(received), None


class Got:
    def __init__(self, data):
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}

    @property
    def json(self):
        assert int(self.headers["content-length"]) == len(self.body)
        return json.loads(self.body)

    @property
    def gateway(self):
        return self.json["ResponseMetadata"]["Error"]["Code"]


def call(service, token="t", fields=None, target=TARGET, **signing):
    body = json.dumps({**CALL, "byted_token": token} if fields is None else fields).encode()
    headers = {**signed(service, body, target, **signing), "connection": "close"}
    data, error = exchange(service, request_bytes(headers, body, target))
    assert error is None
    return Got(data)


def query(service, token="t", **fields):
    wanted = {"req_key": "cert_pro_verify_query", "byted_token": token, **fields}
    return call(service, fields=wanted, target=QUERY)


def raw_call(service, token="t", timeout=10.0, **signing):
    body = json.dumps({**CALL, "byted_token": token}).encode()
    headers = {**signed(service, body, **signing), "connection": "close"}
    return exchange(service, request_bytes(headers, body), timeout)


class Clock:
    def __init__(self):
        self.now = 1_716_000_000.0

    def __call__(self):
        return self.now


def good(data):
    got = Got(data)
    assert got.status in (200, 400)
    assert got.json["code"] in (10000, 50215)
