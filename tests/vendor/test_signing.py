"""Every step of the signature against values the vendor's own client computed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
import requests
from volcengine.auth.SignerV4 import SignerV4
from volcengine.base.Request import Request as VendorRequest
from volcengine.Credentials import Credentials as VendorCredentials

from verifyanalytics.vendor import signing

VECTORS = json.loads(
    (Path(__file__).parents[1] / "data" / "signing_vectors.json").read_text("utf-8")
)
CASES = [pytest.param(v["inputs"], v["expected"], id=v["name"]) for v in VECTORS["vectors"]]


def signed_headers(given):
    headers = {
        "Content-Type": given["content_type"],
        "Host": given["host"],
        "X-Content-Sha256": signing.body_sha256(given["body"].encode()),
        "X-Date": datetime.fromisoformat(given["frozen_utc"]).strftime(signing.DATE_FORMAT),
    }
    if given["session_token"]:
        headers["X-Security-Token"] = given["session_token"]
    return headers


@pytest.mark.parametrize(("given", "expected"), CASES)
def test_each_step_equals_the_vector(given, expected):
    headers = signed_headers(given)
    assert headers["X-Date"] == expected["X-Date"]
    assert headers["X-Content-Sha256"] == expected["X-Content-Sha256"]
    canonical = signing.canonical_request(
        given["method"],
        given["path"],
        given["query"].items(),
        headers,
        headers["X-Content-Sha256"],
    )
    assert canonical == expected["canonical_request"]
    scope = signing.credential_scope(headers["X-Date"], given["region"], given["service"])
    assert scope == expected["credential_scope"]
    to_sign = signing.string_to_sign(canonical, headers["X-Date"], scope)
    assert to_sign == expected["string_to_sign"]
    key = signing.signing_key(given["secret_access_key"], headers["X-Date"][:8])
    assert key.hex() == expected["signing_key_chain_hex"]["kSigning"]
    signed = signing.signature(key, to_sign)
    assert signed == expected["signature"]
    names = signing.signed_header_names(headers)
    assert (
        signing.authorization(given["access_key_id"], scope, names, signed)
        == expected["Authorization"]
    )


@pytest.mark.parametrize(("given", "expected"), CASES)
def test_requests_sends_the_same_authorization(given, expected):
    auth = signing.SignedRequest(
        given["access_key_id"],
        given["secret_access_key"],
        lambda: expected["X-Date"],
        given["session_token"],
    )
    prepared = requests.Request(
        "POST",
        expected["url"],
        data=given["body"].encode(),
        headers={"Content-Type": given["content_type"]},
        auth=auth,
    ).prepare()
    assert prepared.headers["Authorization"] == expected["Authorization"]
    assert prepared.headers["X-Content-Sha256"] == expected["X-Content-Sha256"]
    assert prepared.headers.get("X-Security-Token") == given["session_token"]
    assert prepared.body == given["body"].encode()


def vendor_authorization(host, query, body, token, frozen, monkeypatch):
    monkeypatch.setattr(SignerV4, "get_current_format_date", staticmethod(lambda: frozen))
    request = VendorRequest()
    request.set_shema("https")
    request.set_method("POST")
    request.set_host(host)
    request.set_path("/")
    request.set_query(dict(query))
    request.set_headers({"Content-Type": "application/json", "Host": host})
    request.set_body(body)
    SignerV4.sign(request, VendorCredentials("AKEXAMPLE", "SKEXAMPLE==", "cv", "cn-north-1", token))
    return request.headers["Authorization"]


def test_equals_the_vendors_client_on_200_random_requests(monkeypatch):
    random = Random(20221117)
    alphabet = "abcXYZ019 -_.~*+/%&=?核验人脸é😀"
    seen = set()
    for case in range(200):
        names = {"Action": "CertVerify", "Version": "2022-08-31"}
        for _ in range(random.randrange(4)):
            name = "".join(random.choices(alphabet, k=random.randrange(1, 8)))
            names[name] = "".join(random.choices(alphabet, k=random.randrange(0, 12)))
        body = json.dumps({"sdk_data": "".join(random.choices(alphabet, k=30))}, ensure_ascii=False)
        port = random.choice(["", ":80", ":443", ":8443", ":18080"])
        host = "visual.volcengineapi.com" + port
        token = random.choice(["", "STS" + "".join(random.choices("abc=", k=20))])
        frozen = datetime.fromtimestamp(random.randrange(2**31), UTC).strftime(signing.DATE_FORMAT)
        theirs = vendor_authorization(host, names, body, token, frozen, monkeypatch)
        auth = signing.SignedRequest("AKEXAMPLE", "SKEXAMPLE==", lambda at=frozen: at, token)
        ours = requests.Request(
            "POST",
            f"https://{host}/",
            params=names,
            data=body.encode(),
            headers={"Content-Type": "application/json"},
            auth=auth,
        ).prepare()
        assert ours.headers["Authorization"] == theirs, (case, names, host)
        seen.add(theirs)
    assert len(seen) == 200


def test_one_changed_bit_changes_the_signature():
    key = signing.signing_key("SECRETEXAMPLE==", "20230506")
    base = signing.signature(key, "text")
    assert signing.signature(key, "texu") != base
    assert signing.signature(signing.signing_key("SECRETEXAMPLE=<", "20230506"), "text") != base
    assert signing.signature(signing.signing_key("SECRETEXAMPLE==", "20230507"), "text") != base


def test_secrets_stay_out_of_the_repr():
    auth = signing.SignedRequest("AKcanary", "SKcanary", lambda: "20230506T135020Z", "STScanary")
    assert "canary" not in repr(auth)


def test_a_stream_is_refused():
    auth = signing.SignedRequest("AK", "SK", lambda: "20230506T135020Z")
    with pytest.raises(TypeError, match="bytes or text"):
        requests.Request("POST", "https://localhost/", data=iter([b"x"]), auth=auth).prepare()


def test_a_missing_signed_header_is_named():
    with pytest.raises(KeyError, match="x-date"):
        signing.canonical_request(
            "POST", "/", [], {"Host": "h", "Content-Type": "c", "X-Content-Sha256": "0"}, "0"
        )
