"""The service's rules: signature, dates, one-time tokens, queries, fields and limits."""

from __future__ import annotations

import email.utils
import json
import threading
from urllib.parse import urlsplit

import pytest
from builders.signed_calls import (
    CALL,
    KEY,
    QUERY,
    SECRET,
    TARGET,
    Clock,
    Got,
    call,
    exchange,
    query,
    request_bytes,
    signed,
)

from verifyanalytics.simulator import (
    World,
    serve,
)


def test_a_signed_call_is_answered_and_billed(service):
    got = call(service, "one")
    answer = got.json
    assert got.status == (200 if answer["code"] == 10000 else 400)
    assert answer["code"] in (10000, 50215)
    calls = service.calls("one")
    assert (calls.received, calls.processed, calls.refused, calls.queries) == (1, 1, 0, 0)
    assert calls.billed == answer["data"].get("req_measure_info", {"value": calls.billed})["value"]
    assert len(answer["request_id"]) == 34
    assert {"mated", "attack", "hidden_score"} <= set(service.truth("one"))


def test_answers_depend_on_seed_and_token_only():
    def answers(seed, tokens):
        with serve(seed=seed) as running:
            made = {}
            for token in tokens:
                answer = call(running, token).json
                answer.pop("request_id")
                made[token] = (answer, running.truth(token))
            return made

    tokens = [f"token-{i}" for i in range(12)]
    first = answers(5, tokens)
    assert first == answers(5, reversed(tokens))
    assert first != answers(6, tokens)
    for answer, truth in first.values():
        details = answer["data"].get("source_comp_details", {})
        if "score" in details:
            assert details["score"] == truth["hidden_score"]


def test_request_ids_are_fresh(service):
    ids = [call(service, f"id-{i}").json["request_id"] for i in range(20)]
    ids += [query(service, "id-1").json["request_id"] for _ in range(3)]
    assert len(set(ids)) == 23


def test_population_is_a_parameter():
    with serve(world=World(impostor_share=1.0, attack_share=0.0, image_bytes=5000)) as running:
        for i in range(5):
            answer = call(running, f"{i}").json
            assert running.truth(f"{i}")["mated"] is False
            images = answer["data"].get("images")
            assert images is None or {len(text) for text in images.values()} == {5000}


def flip(text, place):
    return text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        (lambda h: h.pop("authorization"), "MissingAuthenticationToken", 401),
        (lambda h: h.update(authorization="Bearer x"), "InvalidAuthorization", 400),
        (lambda h: h.update(authorization=h["authorization"].replace("AKLT", "AKIA")),
         "InvalidAccessKey", 401),
        (lambda h: h.update(authorization=h["authorization"].replace("cn-north-1", "cn-east-1")),
         "InvalidCredential", 400),
        (lambda h: h.update(authorization=flip(h["authorization"], -1 + len(h["authorization"]))),
         "SignatureDoesNotMatch", 401),
        (lambda h: h.update(authorization=h["authorization"].replace("content-type;", "")),
         "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"content-type": "application/jsom"}), "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"host": "127.0.0.1:1"}), "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"x-date": flip(h["x-date"], 14)}), "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"x-date": "19990101" + h["x-date"][8:]}), "InvalidCredential", 400),
        (lambda h: h.update({"x-content-sha256": flip(h["x-content-sha256"], 3)}),
         "SignatureDoesNotMatch", 401),
        (lambda h: h.update({"x-security-token": "sts"}), "InvalidSecretToken", 401),
        (lambda h: h.pop("x-content-sha256"), "MissingRequestInfo", 400),
    ],
)  # fmt: skip
def test_a_changed_header_is_refused(service, change, code, status):
    body = json.dumps({**CALL, "byted_token": "tampered"}).encode()
    headers = signed(service, body)
    change(headers)
    before = service.bill()
    data, _ = exchange(service, request_bytes({**headers, "connection": "close"}, body))
    assert (Got(data).gateway, Got(data).status) == (code, status)
    assert service.calls("tampered").received == 0
    assert service.bill().unsigned == before.unsigned + 1


def test_a_changed_body_or_query_is_refused(service):
    body = json.dumps({**CALL, "byted_token": "changed"}).encode()
    headers = {**signed(service, body), "connection": "close"}
    for target, sent in (
        (TARGET, body.replace(b'"x"', b'"z"')),
        (TARGET + "&a=1", body),
        (TARGET.replace("/?", "//?"), body),
        (QUERY, body),
    ):
        data, _ = exchange(service, request_bytes(headers, sent, target))
        assert Got(data).status in (401, 404)
    assert service.calls("changed").processed == 0


def test_another_secret_is_refused(service):
    assert call(service, "s", secret=SECRET + " ").gateway == "SignatureDoesNotMatch"


def test_temporary_credentials_need_their_token():
    with serve(session_token="STS2x==") as running:
        assert call(running, "a", sts="STS2x==").json["code"] in (10000, 50215)
        assert call(running, "b", sts="STS2y==").gateway == "InvalidSecretToken"
        assert call(running, "b").gateway == "InvalidSecretToken"


@pytest.mark.parametrize(
    ("off", "accepted"), [(-899, True), (899, True), (-901, False), (901, False)]
)
def test_dates_may_be_a_quarter_of_an_hour_off(off, accepted):
    clock = Clock()
    with serve(clock=clock) as running:
        got = call(running, "t", at=clock.now + off)
        assert (running.calls("t").processed == 1) == accepted
        if not accepted:
            assert (got.gateway, got.status) == ("InvalidTimestamp", 403)
            moment = email.utils.parsedate_to_datetime(got.headers["date"]).timestamp()
            assert moment == clock.now


@pytest.fixture
def theirs(service):
    """The vendor's own Python client, pointed at the simulator."""
    from volcengine.visual.VisualService import VisualService

    client = VisualService()
    client.set_ak(KEY)
    client.set_sk(SECRET)
    client.set_host(urlsplit(service.address).netloc)
    client.set_api_info("CertVerify", "2022-08-31")
    yield client
    client.session.close()


def test_the_vendors_own_client_is_answered(service, theirs):
    for name in ("theirs", "theirs 中文"):
        sent = json.dumps({**CALL, "byted_token": name})
        answer = json.loads(theirs.json("CertVerify", {}, sent))
        assert answer["code"] in (10000, 50215)
        assert service.calls(name).processed == 1


def test_the_vendors_own_client_is_refused_with_another_secret(service, theirs):
    theirs.set_sk(SECRET[:-1] + "s")
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        theirs.json("CertVerify", {}, json.dumps({**CALL, "byted_token": "refused"}))
    assert service.calls("refused").received == 0


def test_a_token_is_good_once_and_a_second_call_is_counted(service):
    call(service, "twice")
    billed = service.calls("twice").billed
    again = call(service, "twice")
    assert (again.status, again.json["code"]) == (400, 50215)
    assert again.json["data"]["algorithm_base_resp"]["status_code"] == 201202
    calls = service.calls("twice")
    assert (calls.received, calls.processed, calls.repeated, calls.billed) == (2, 2, 1, billed)
    assert service.bill().repeated >= 1


def test_a_result_is_ready_after_a_while_and_kept_for_an_hour():
    clock = Clock()

    def tells(got):
        return "verify_algorithm_base_resp" in got.json["data"]

    with serve(clock=clock, ready_after=2.0) as running:

        def ask(token):
            fields = {"req_key": "cert_pro_verify_query", "byted_token": token}
            return call(running, fields=fields, target=QUERY, at=clock.now)

        assert not tells(ask("t"))
        answer = call(running, "t", at=clock.now).json
        clock.now += 1.9
        assert not tells(ask("t"))
        clock.now += 0.2
        first = ask("t")
        assert tells(first)
        data = first.json["data"]
        assert data["verify_algorithm_base_resp"] == answer["data"]["algorithm_base_resp"]
        assert data["verify_req_measure_info"] == answer["data"].get("req_measure_info")
        assert data["result"] == answer["data"]["result"]
        assert first.json["request_id"] != answer["request_id"]
        clock.now += 3597
        assert tells(ask("t"))
        clock.now += 2
        assert not tells(ask("t"))
        calls = running.calls("t")
        assert (calls.queries, calls.processed) == (5, 1)


def test_a_query_leaves_out_what_it_is_told_to():
    with serve(ready_after=0.0, world=World(image_bytes=100, identity_share=0.0)) as running:
        token = next(t for t in map(str, range(20)) if call(running, t).json["data"].get("images"))
        whole = query(running, token).json["data"]
        assert len(whole["images"]["image_best"]) == 100
        assert "video" in whole
        no_images = query(running, token, omit_image_data=True, omit_video_data=True).json["data"]
        assert no_images["images"] == {"image_best": "", "image_env": ""}
        assert no_images["source_comp_details"] == whole["source_comp_details"]
        assert "video" not in no_images
        bare = query(running, token, omit_data=True).json["data"]
        assert "source_comp_details" not in bare
        assert bare["result"] == whole["result"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({**CALL, "byted_token": "f", "req_key": "cert_pro"}, 50400),
        ({**CALL, "byted_token": "f", "video_key": "v"}, 50201),
        ({"req_key": "cert_pro_src_verify", "byted_token": "f", "risk_info": "r"}, 50201),
        ({**CALL, "byted_token": ""}, 50204),
        ({**CALL, "byted_token": 7}, 50204),
        (CALL, 50201),
        ({"req_key": "cert_pro_src_verify", "byted_token": "f", "sdk_data": "s"}, 50201),
        ({"req_key": "cert_pro_src_verify", "byted_token": "f", "video_key": "v", "risk_info": "r",
          "tos_bucket": "b"}, 50204),
        ({"req_key": "cert_pro_src_verify", "byted_token": "f", "video_key": "v", "risk_info": "r",
          "extra": {}}, 50201),
        (["no object"], 50204),
    ],
)  # fmt: skip
def test_wrong_fields_cost_nothing(service, fields, code):
    got = call(service, fields=fields)
    assert got.json["code"] == code
    assert got.status == (401 if code == 50400 else 400)
    assert service.calls("f").processed == 0


def test_video_calls_are_answered(service):
    fields = {
        "req_key": "cert_pro_no_src_verify", "byted_token": "video", "video_key": "v",
        "tos_bucket": "b", "risk_info": "r", "extra": {"备注": "中文"},
    }  # fmt: skip
    assert call(service, fields=fields).json["code"] in (10000, 50215)


def test_eight_threads_lose_nothing(service):
    tokens = [f"thread-{i}" for i in range(160)]
    answers = {}

    def work(part):
        for token in part:
            answers[token] = call(service, token).json["code"]

    threads = [threading.Thread(target=work, args=(tokens[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == set(tokens)
    assert all(service.calls(token).processed == 1 for token in tokens)


def test_limit_of_calls_a_second():
    clock = Clock()
    with serve(qps=3, clock=clock) as running:
        codes = [call(running, f"{i}", at=clock.now).json["code"] for i in range(5)]
        assert codes[3:] == [50429, 50429]
        assert 50429 not in codes[:3]
        clock.now += 1.0
        assert call(running, "3", at=clock.now).json["code"] != 50429
        assert (running.bill().processed, running.calls("4").refused) == (4, 1)
