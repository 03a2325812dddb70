"""No spelling of a personal name, no picture and no number of a person lands anywhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

import pytest

import verifyanalytics as va
from verifyanalytics.journal.raw_answers import raw_line
from verifyanalytics.parsing.text import is_personal, redacted, shown_text

NAMES = [
    "idcard_no", "idCardNo", "IDCARD_NO", "idcard-no", "IdCard No", "id_card", "idCard",
    "ID_NUMBER", "bytedtoken", "bytedToken", "byted-token", "Byted_Token", "sdkData",
    "SDK-DATA", "sdkdata", "imageBest", "image-best", "IMAGE_BEST", "imageEnv", "image env",
    "Images", "binaryDataBase64", "binary-data-base64", "verifyIdcardInfo",
    "verify_idcard_info", "VerifyIdCardInfo", "idcardInfo", "realName", "real_name",
    "REAL-NAME", "fullName", "userName", "mobile", "Mobile", "mobilePhone", "mobile_no",
    "phone", "phoneNumber", "phone_no", "telephone", "eMail", "address", "birthDate",
    "date_of_birth", "Authorization", "authorization", "accessKey", "access_key_id",
    "AccessKeyId", "secretAccessKey", "secret_key", "session-token", "X-Security-Token",
    "securityToken", "password", "Set-Cookie", "Cookie", "faceAttributes", "age", "Gender",
    "beauty", "videoKey", "tosData", "passport_no",
]  # fmt: skip
OTHERS = ["score", "imageface", "device", "package", "agent", "usage", "phonetic", "code", "stage"]


@pytest.mark.parametrize("name", NAMES)
def test_every_spelling_is_known(name):
    assert is_personal(name)


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_stay(name):
    assert redacted({name: "x"}) == {name: "x"}


HEADS = {
    "jpeg": b"\xff\xd8\xff\xe0",
    "png": b"\x89PNG\r\n\x1a\n",
    "gif": b"GIF89a",
    "webp": b"RIFF\x24\x01\x00\x00WEBP",
    "bmp": b"BM\x36\x00\x00\x00",
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("n_bytes", [60, 600, 3000])
def test_a_picture_is_known_by_its_head_under_any_key(kind, n_bytes):
    data = HEADS[kind] + bytes(range(256)) * (n_bytes // 256 + 1)
    text = base64.b64encode(data[:n_bytes]).decode()
    urlsafe = base64.urlsafe_b64encode(data[:n_bytes]).decode()
    lines = base64.encodebytes(data[:n_bytes]).decode()
    for spelling in (text, urlsafe, lines, f"data:image/{kind};base64,{text}", f" {text}"):
        assert redacted({"anything": [spelling]}) == {"anything": [f"[{len(spelling)} bytes]"]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("call 13812345678 now", "call [11 bytes] now"),
        ("+86 138-1234-5678", "[17 bytes]"),
        ("张三 11010519491231002X", "张三 [18 bytes]"),
        ("110105194912310021", "110105194912310021"),  # its last digit does not check
        ("20240501120000ABCDEF13812345678", "20240501120000ABCDEF13812345678"),
        ("1717200000123", "1717200000123"),
        ("12012345678", "12012345678"),
        ("/9j/ is how a JPEG begins", "/9j/ is how a JPEG begins"),
    ],
)
def test_numbers_of_persons_are_masked_in_free_texts(text, shown):
    assert shown_text(text) == shown


def test_an_id_that_looks_like_a_phone_number_stays_an_id(tmp_path):
    ids = ["13812345678", "15912345678", "11010519491231002X"]
    lines = [json.dumps({"code": 10000, "request_id": id_, "data": None}) for id_ in ids]
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    store = va.Store(tmp_path / "store")
    va.import_responses(tmp_path / "a.ndjson", store)
    assert sorted(store.read("verifications")["request_id"]) == sorted(ids)


CANARY = "kanari13812345678"


def answer(number, name):
    """An answer with a personal value under one name in many places."""
    hidden = json.dumps({name: CANARY, "deep": [{name: CANARY}]})
    data = {"result": True, name: CANARY, "list": [{name: CANARY}], "text": hidden}
    data["risk_result"] = json.dumps({"score": 1, "tags": [], name: CANARY})
    data["source_comp_details"] = {"score": 50.0, name: CANARY, "image_face_detail": hidden}
    reply = {"code": 10000, "request_id": f"r{number}", "message": "m", "data": data, name: CANARY}
    return {"response": reply, name: CANARY, "context": {name: CANARY, "channel": "app"}}


@pytest.mark.parametrize("workers", [0, 1])
def test_no_canary_lands(tmp_path, workers):
    names = [name for name in NAMES if name != "Images"]
    lines = [json.dumps(answer(n, name)) for n, name in enumerate(names)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.ndjson").write_text("\n".join([*lines, '{"mobile": "kanari", broken']))
    store = va.Store(tmp_path / "store")
    summary = va.import_responses(tmp_path / "in", store, workers=workers)
    assert summary.added + summary.rejected == len(names) + 1
    for table in ("verifications", "rejects", "imports"):
        assert "kanari" not in store.read(table).to_csv().lower(), table
    columns = store.read("verifications").columns
    assert [c for c in columns if c.startswith("ctx_")] == ["ctx_channel"]


def test_no_canary_in_the_raw_answers_of_the_journal():
    import datetime as dt

    for number, name in enumerate(NAMES):
        if name == "Images":
            continue
        body = json.dumps(answer(number, name)["response"]).encode()
        kept = raw_line(
            body, action="CertVerify", req_key="k", token="t", http_status=200,
            received_at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        )  # fmt: skip
        assert kept is not None
        assert b"kanari" not in kept, name


def test_names_of_the_users_own_are_redacted_everywhere(tmp_path):
    deep = [{"staffNo": "CANARY-2", "text": '{"staff_no": "CANARY-3"}'}, {"shop": "stays"}]
    data = {"Staff-No": "CANARY-1", "deep": deep}
    reply = {"code": 10000, "request_id": "r1", "data": data}
    line = {"context": {"staff_no": "CANARY-4", "shop": "s"}, "staffNo": "CANARY-5"}
    source = tmp_path / "a.ndjson"
    source.write_text(json.dumps(line | {"response": reply}) + "\n" + json.dumps(reply) + "\n")
    command = [sys.executable, "-m", "verifyanalytics", "import", str(source), "--store"]
    environment = {**os.environ, "VERIFYANALYTICS_REDACT": "staff no, other"}
    subprocess.run([*command, str(tmp_path / "store")], env=environment, check=True)
    rows = va.Store(tmp_path / "store").read()
    assert len(rows) == 1
    assert "CANARY" not in rows.to_csv()
    assert "stays" in rows["extra"][0]
    environment["VERIFYANALYTICS_REDACT"] = "Score"
    run = subprocess.run(
        [*command, str(tmp_path / "other")], env=environment, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 2
    assert "VERIFYANALYTICS_REDACT names score" in run.stderr
