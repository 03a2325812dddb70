"""Each reply of the table of outcomes, written out by hand."""

import json
import time

import pytest

from verifyanalytics.vendor.replies import (
    QUERY_RULES,
    RULES,
    Outcome,
    State,
    as_query,
    read_failure,
    read_reply,
    without,
)

NOW = 1_717_200_000.0


def read(status, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_reply(status, {k.replace("_", "-"): v for k, v in headers.items()}, data, NOW)


def service(code, **more):
    return {"code": code, "data": None, "message": "m", "request_id": "r1", **more}


def gateway(code, number=None):
    error = {"Code": code, "CodeN": number, "Message": "no"}
    error = {name: value for name, value in error.items() if value is not None}
    return {"ResponseMetadata": {"RequestId": "g1", "Action": "CertVerify", "Error": error}}


SUB = {"algorithm_base_resp": {"status_code": 210301}}
BILLED = {"req_measure_info": {"measure_type": "query_num", "value": 1}}
VERDICT = {"result": False}
COMPARED = {"source_comp_details": {"score": 61.0}}

CASES = [
    (200, service(10000), Outcome.ANSWERED, State.OK),
    (200, {**service(10000), "ResponseMetadata": None}, Outcome.ANSWERED, State.OK),
    (200, {**service(10000), "ResponseMetadata": {"RequestId": "x"}}, Outcome.ANSWERED, State.OK),
    (400, service(50215, data=SUB), Outcome.REJECTED, State.REJECTED),
    (400, service(50215), Outcome.NO_VERDICT, State.REJECTED),
    (402, service(50402), Outcome.NO_VERDICT, State.REJECTED),
    (200, service(60102), Outcome.NO_VERDICT, State.REJECTED),
    (200, service("10000"), Outcome.ANSWERED, State.OK),
    (429, service(50429), Outcome.RATE_LIMITED, State.PLANNED),
    (429, service(50430), Outcome.RATE_LIMITED, State.PLANNED),
    (200, service(50429), Outcome.RATE_LIMITED, State.PLANNED),
    (429, b"<html>slow down</html>", Outcome.FAULT, State.IN_DOUBT),
    (429, service(None), Outcome.FAULT, State.IN_DOUBT),
    (429, service(50215, data=SUB), Outcome.REJECTED, State.REJECTED),
    # what shows a verdict or a price was processed, whatever else the reply says
    *[
        (status, service(code, data=data), Outcome.REJECTED, State.REJECTED)
        for status, code in ((429, 50429), (200, 50430), (401, 50400), (500, 50500), (403, 0))
        for data in (BILLED, VERDICT, COMPARED)
    ],
    (429, service(10000, data=BILLED), Outcome.ANSWERED, State.OK),
    (302, service(10000, data=VERDICT), Outcome.ANSWERED, State.OK),
    (429, service(None, data=BILLED), Outcome.UNPARSED, State.UNPARSED),
    (
        401,
        {**service(50400, data=BILLED), **gateway("LackPolicy")},
        Outcome.REJECTED,
        State.REJECTED,
    ),
    (
        200,
        {"ResponseMetadata": gateway("x")["ResponseMetadata"], "Result": VERDICT},
        Outcome.UNPARSED,
        State.UNPARSED,
    ),
    (
        429,
        service(50429, data={"req_measure_info": {"value": 0}}),
        Outcome.RATE_LIMITED,
        State.PLANNED,
    ),
    (429, gateway("FlowLimitExceeded"), Outcome.RATE_LIMITED, State.PLANNED),
    (400, gateway("FlowLimitExceeded"), Outcome.RATE_LIMITED, State.PLANNED),
    (403, gateway("InvalidTimestamp"), Outcome.CLOCK, State.PLANNED),
    (401, gateway("SignatureDoesNotMatch"), Outcome.REFUSED, State.PLANNED),
    (403, gateway("LackPolicy"), Outcome.REFUSED, State.PLANNED),
    (401, {**service(10000), **gateway("InvalidAccessKey")}, Outcome.REFUSED, State.PLANNED),
    (401, service(50400), Outcome.DENIED, State.PLANNED),
    (401, b"<html>proxy</html>", Outcome.UNPARSED, State.UNPARSED),
    (403, b"<html>proxy</html>", Outcome.UNPARSED, State.UNPARSED),
    # the service answers with 400, too: its reply may be spoilt on the way
    (
        400,
        b"\xef\xbb\xbf" + json.dumps(service(50215, data=BILLED)).encode(),
        Outcome.UNPARSED,
        State.UNPARSED,
    ),
    (400, b"", Outcome.UNPARSED, State.UNPARSED),
    (404, b"", Outcome.TURNED_AWAY, State.PLANNED),
    (404, b'{"code":50215,', Outcome.UNPARSED, State.UNPARSED),
    *[
        (status, b"<html>proxy</html>", Outcome.TURNED_AWAY, State.PLANNED)
        for status in (307, 400, 404, 407, 413)
    ],
    (408, b"<html>proxy</html>", Outcome.FAULT, State.IN_DOUBT),
    # the closed list holds by name and by number; everything else is in doubt
    (401, gateway(None, 100010), Outcome.REFUSED, State.PLANNED),
    (200, gateway(None, 100018), Outcome.RATE_LIMITED, State.PLANNED),
    (200, gateway("SomethingNew", 100010), Outcome.FAULT, State.IN_DOUBT),
    (400, gateway(None, 100014), Outcome.FAULT, State.IN_DOUBT),
    (200, gateway(None, "100016"), Outcome.FAULT, State.IN_DOUBT),
    (408, gateway("RequestTimeout"), Outcome.FAULT, State.IN_DOUBT),
    (200, gateway("internalerror"), Outcome.FAULT, State.IN_DOUBT),
    (400, gateway(None), Outcome.FAULT, State.IN_DOUBT),
    (500, gateway("InternalServiceTimeout"), Outcome.FAULT, State.IN_DOUBT),
    (500, gateway("InternalError"), Outcome.FAULT, State.IN_DOUBT),
    (500, gateway("NewErrorOfTheirs"), Outcome.FAULT, State.IN_DOUBT),
    (500, gateway("FailToConnect"), Outcome.FAULT, State.IN_DOUBT),
    (500, service(50500), Outcome.FAULT, State.IN_DOUBT),
    (200, service(50501), Outcome.FAULT, State.IN_DOUBT),
    (500, service(50999), Outcome.FAULT, State.IN_DOUBT),
    (502, b"<html>bad gateway</html>", Outcome.FAULT, State.IN_DOUBT),
    (503, b"", Outcome.FAULT, State.IN_DOUBT),
    (504, b"upstream timed out", Outcome.FAULT, State.IN_DOUBT),
    (200, b"", Outcome.UNPARSED, State.UNPARSED),
    (200, b"null", Outcome.UNPARSED, State.UNPARSED),
    (200, b"[]", Outcome.UNPARSED, State.UNPARSED),
    (200, {"message": "no code"}, Outcome.UNPARSED, State.UNPARSED),
    (200, b"\xef\xbb\xbf" + json.dumps(service(10000)).encode(), Outcome.UNPARSED, State.UNPARSED),
    (200, '{"code":10000,"message":"é"}'.encode("latin-1"), Outcome.UNPARSED, State.UNPARSED),
    (200, json.dumps(service(10000)).encode()[:-3], Outcome.UNPARSED, State.UNPARSED),
    (302, service(10000), Outcome.UNPARSED, State.UNPARSED),
    (200, service(10**400), Outcome.UNPARSED, State.UNPARSED),
]


@pytest.mark.parametrize(("status", "body", "outcome", "state"), CASES)
def test_outcome_and_state(status, body, outcome, state):
    reply = read(status, body)
    assert reply.outcome is outcome
    assert RULES[outcome].state is state
    assert reply.http_status == status


def test_what_goes_back_to_planned_was_never_billed():
    for status, body, outcome, state in CASES:
        reply = read(status, body)
        if state is State.PLANNED:
            assert reply.billed is False, outcome
        if state is State.IN_DOUBT:
            assert reply.billed is None, outcome
        if b'"value": 1' in reply.body and reply.outcome is not Outcome.UNPARSED:
            assert reply.billed is True, outcome


def test_a_compressed_body_nobody_asked_for_is_not_unpacked():
    reply = read(200, service(10000), content_encoding="gzip")
    assert reply.outcome is Outcome.UNPARSED
    assert read(200, service(10000), content_encoding="identity").outcome is Outcome.ANSWERED


@pytest.mark.parametrize(("value", "billed"), [(1, True), (0, False), (2, True), ("x", None)])
def test_billing_is_what_the_reply_says(value, billed):
    data = {"req_measure_info": {"measure_type": "query_num", "value": value}}
    assert read(200, service(10000) | {"data": data}).billed is billed
    assert read(200, service(10000)).billed is None


def test_a_query_reply_tells_of_the_verification_not_of_itself():
    data = {
        "algorithm_base_resp": {"status_code": 0},
        "verify_algorithm_base_resp": {"status_code": 210311},
        "req_measure_info": {"value": 0},
        "verify_req_measure_info": {"value": 1},
    }
    reply = read(200, service(10000) | {"data": data})
    assert (reply.sub_code, reply.billed) == (210311, True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("Sat, 01 Jun 2024 00:00:30 GMT", 30.0),
        ("Fri, 31 May 2024 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("8640000000", 365 * 86_400.0),
        ("9" * 400, 365 * 86_400.0),
        ("Sat Jun  1 00:00:30 2024", 30.0),
        ("Saturday, 01-Jun-24 00:00:30 GMT", 30.0),
        ("", None),
    ],
)
def test_retry_after_in_every_form(value, seconds):
    assert read(429, service(50429), retry_after=value).retry_after == seconds


def test_a_date_without_a_zone_is_utc_wherever_we_are(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        reply = read(429, service(50429), retry_after="Sat Jun  1 00:00:30 2024")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert reply.retry_after == 30.0


def test_the_servers_date_is_read():
    assert read(200, service(10000), date="Sat, 01 Jun 2024 00:00:00 GMT").server_time == NOW
    assert read(200, service(10000), date="nonsense").server_time is None


def test_what_comes_before_the_request_was_sent_proves_that_it_was_not_processed():
    def early(status, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return read_reply(status, {}, data, NOW, is_sent=False)

    for status, body in ((429, b"<html>"), (500, b""), (503, service(50500)), (400, service(77))):
        assert early(status, body).outcome is Outcome.TURNED_AWAY
    assert early(429, service(50429)).outcome is Outcome.RATE_LIMITED
    assert early(200, service(10000, data=VERDICT)).outcome is Outcome.ANSWERED


def test_failures_without_a_reply():
    assert read_failure(Outcome.NOT_SENT, "refused").billed is False
    assert read_failure(Outcome.LOST, "reset").billed is None


def test_every_outcome_has_a_rule_and_only_proof_leads_back_to_planned():
    assert set(RULES) == set(Outcome)
    back = {outcome for outcome, rule in RULES.items() if rule.state is State.PLANNED}
    assert back == {
        Outcome.NOT_SENT,
        Outcome.TURNED_AWAY,
        Outcome.DENIED,
        Outcome.TLS,
        Outcome.RATE_LIMITED,
        Outcome.CLOCK,
        Outcome.REFUSED,
        Outcome.NO_RESULT,
    }


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        ({"result": False}, Outcome.ANSWERED),
        ({"verify_algorithm_base_resp": {"status_code": 210311}}, Outcome.ANSWERED),
        ({"source_comp_details": {"score": 1}}, Outcome.ANSWERED),
        ({"algorithm_base_resp": {"status_code": 0}}, Outcome.NO_RESULT),
        ({}, Outcome.NO_RESULT),
        (None, Outcome.NO_RESULT),
    ],
)
def test_a_query_that_tells_of_no_verification_is_no_answer(data, outcome):
    assert as_query(read(200, service(10000, data=data))).outcome is outcome


@pytest.mark.parametrize(
    ("code", "sub_code", "outcome"),
    [
        (50215, 201202, Outcome.NO_RESULT),
        (50215, 201201, Outcome.FAULT),
        (50215, None, Outcome.FAULT),
        (50511, None, Outcome.FAULT),
        (50200, 201202, Outcome.FAULT),
    ],
)
def test_only_a_refusal_that_says_so_proves_that_there_is_no_result(code, sub_code, outcome):
    data = {"algorithm_base_resp": {"status_code": sub_code}}
    reply = as_query(read(400, service(code, data=data)))
    assert reply.outcome is outcome
    assert QUERY_RULES[outcome].state is State.PLANNED  # of the query, which may be asked again


def test_a_query_may_tell_of_a_refused_verification():
    data = {"verify_algorithm_base_resp": {"status_code": 210311}}
    assert as_query(read(400, service(50215, data=data))).outcome is Outcome.REJECTED


def test_an_empty_error_is_none():
    """A call that was answered must not look refused: it would be sent and billed again."""
    reply = read(200, {**service(10000), "ResponseMetadata": {"Error": {}}})
    assert reply.outcome is Outcome.ANSWERED


SECRETS = ["token-0123456789", 'a "quoted" 人脸 secret', "short"]


@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_the_call_said_in_secret_is_taken_out(ascii_only):
    said = {"note": SECRETS[1], "short": "short", "byted_token": SECRETS[0]}
    document = service(50215, message=f"{'x' * 190} {SECRETS[0]} is used", data=said)
    reply = read(400, json.dumps(document, ensure_ascii=ascii_only).encode())
    cleaned = without(reply, SECRETS)
    assert json.loads(cleaned.body)["data"] == {
        "note": "[redacted]",
        "short": "short",
        "byted_token": "[redacted]",
    }
    assert cleaned.message == f"{'x' * 190} [redacted]"[:200]
    assert (cleaned.outcome, cleaned.code) == (reply.outcome, reply.code)
    assert without(cleaned, SECRETS) is cleaned


def test_the_gateways_words_are_cleaned_too():
    error = {"Code": "Denied", "Message": f"no {SECRETS[0]}"}
    reply = read(403, {"ResponseMetadata": {"RequestId": "g", "Error": error}})
    assert without(reply, SECRETS).message == "no [redacted]"


def test_a_picture_is_not_in_the_repr():
    assert "CANARY" not in repr(read(200, service(10000, data={"images": "CANARY"})))


def test_a_query_that_failed_stays_what_it_was():
    assert as_query(read(502, b"<html>")).outcome is Outcome.FAULT
    for outcome, rule in QUERY_RULES.items():
        final = {Outcome.ANSWERED: State.OK, Outcome.REJECTED: State.REJECTED}
        final[Outcome.NO_VERDICT] = State.REJECTED
        assert rule.state is final.get(outcome, State.PLANNED)
