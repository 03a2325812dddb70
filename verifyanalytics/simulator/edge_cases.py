"""Lines that an import must survive: bad ones, each with the reason why, and odd ones.

Bad lines never become rows; odd ones do, and `issues` or `extra` keep what is unusual. They are
written beside a simulated sample to show what a reject looks like.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

_RISK = '{"score":600,"tags":["14004","13001"]}'
_DETAIL = '{"comprehensive_score":72.5,"face_clarity":3.6,"brightness":0.9,"exposure":0}'
_PLAIN = {
    "code": 10000,
    "data": {
        "result": False,
        "risk_result": _RISK,
        "images": {"image_best": "", "image_env": ""},
        "source_comp_details": {
            "alive": True,
            "image_face_detail": _DETAIL,
            "image_env_detail": _DETAIL,
            "score": 87.69,
            "thresholds": {"1e-3": 60, "1e-4": 70, "1e-5": 80, "1e-6": 90},
        },
        "algorithm_base_resp": {"status_code": 0, "status_message": ""},
        "req_measure_info": {"measure_type": "query_num", "value": 1},
    },
    "message": "Success",
    "request_id": "",
    "time_elapsed": "41.897331ms",
}

_NOT_UTF8 = (
    b"\xff", b"\xc3", b"\x80", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xe6\x88", b"\xb5s", b"\xfe\xff",
)  # fmt: skip
"""Put where "Success" stands: stray, cut, overlong, surrogate, beyond U+10FFFF, Latin-1, a mark."""

_NOT_NUMBERS = (
    "NaN", "Infinity", "-Infinity", "087.69", ".69", "87.", "+87.69", "0x57", "87e", "8 7", "1_000",
)  # fmt: skip
"""Put where the score stands."""

_BROKEN = (
    ('"code":', "code:"), ('"code":', "'code':"), ('"code":', '"code"'), (',"data"', '"data"'),
    ("false", "False"), ("true", "yes"), ("false", "undefined"), ('"tags\\":', '"tags\\":,'),
    ('"value":1}', '"value":1,}'), ('{"code"', "/* answer */{\"code\""), ('{"code"', '[{"code"'),
    ("Success", "Suc\tcess"), ("Success", "Suc\x01cess"), ("Success", "\\x53"),
    ("Success", "\\u53"), ("Success", 'Suc"cess'),
)  # fmt: skip
"""What is replaced by what, each against RFC 8259."""

_NESTED = (
    ("risk_result", _RISK[:-1]), ("risk_result", "{'score':600}"), ("risk_result", '{"score":NaN}'),
    ("risk_result", _RISK + _RISK), ("image_face_detail", _DETAIL.replace("}", ",}")),
    ("image_env_detail", "brightness=0.9"),
)  # fmt: skip
"""JSON texts inside the answer that are none."""

_TOO_LARGE = (
    ('"score":87.69', '"score":1e999'), ('"score":87.69', '"score":-1e999'),
    ('"1e-6":90', '"1e-6":9e400'), ('"value":1', '"value":9223372036854775808'),
    ('"value":1', '"value":1e300'), ('\\"brightness\\":0.9', '\\"brightness\\":1e400'),
)  # fmt: skip

_NOT_OURS = (
    b"{}", b"[]", b"42", b'"Success"', b"null", b'{"status":"ok"}', b'{"response":{}}',
    b'{"ResponseMetadata":null}', b'{"data":{"result":true},"message":"Success"}', b"[[1]]",
)  # fmt: skip


def bad_lines(known: Iterable[bytes] = ()) -> list[tuple[bytes, str]]:
    """Return lines that an import rejects, with the reason, no line feeds.

    Parameters
    ----------
    known : iterable of bytes
        Answers that are imported too: each comes again with another message, a conflict.

    Returns
    -------
    list of (bytes, str)
        Reasons of `schema.REJECT_REASONS`; `size`, `source` and (only when strict) `type` cannot
        be shown in a small file of lines. The numbers of a reason are fixed.
    """
    plain = _text(request_id="6838889517957515000")
    score = '"score":87.69'
    size = len(plain)
    syntax = [plain.replace(score, f'"score":{bad}') for bad in _NOT_NUMBERS]
    syntax += [plain.replace(*change, 1) for change in _BROKEN]
    syntax += [plain[:cut] for cut in range(size // 9, size, size // 9)]
    syntax += [plain + plain, plain + "]", "<html>502</html>"]
    deep = [
        _text("6838889517957515002").replace('"Success"', "[" * depth + "]" * depth)
        for depth in (65, 70, 5000)
    ]
    deep_tags = f'{{"score":600,"tags":{"[" * 66 + "]" * 66}}}'
    return [
        *((plain.encode().replace(b"Success", bad), "encoding") for bad in _NOT_UTF8),
        *((line.encode(), "syntax") for line in syntax),
        *((_nested(name, text), "syntax") for name, text in _NESTED),
        (plain.replace("Success", "\\ud800").encode(), "encoding"),
        (_nested("image_env_detail", '{"exposure":"\\udc00"}'), "encoding"),
        *((line.encode(), "depth") for line in deep),
        (_nested("risk_result", deep_tags), "depth"),
        *((plain.replace(*change, 1).encode(), "number") for change in _TOO_LARGE),
        *((line, "not_a_response") for line in _NOT_OURS),
        *((_with_message(line), "conflict") for line in known),
    ]


def odd_lines() -> list[bytes]:
    """Return lines that become rows although something about them is unusual, no line feeds."""
    made = [
        _text(request_id=f"68388895179575160{place:02d}", change=change).encode()
        for place, change in enumerate(_ODD)
    ]
    log = _text(request_id="6838889517957516090").replace("ms", "µs").encode()
    return [*made, repr(log).encode(), _GATEWAY, _QUERY]


def _text(request_id: str, change: Callable[[dict[str, Any]], None] | None = None) -> str:
    answer = json.loads(json.dumps(_PLAIN)) | {"request_id": request_id}
    if change is not None:
        change(answer)
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def _nested(name: str, text: str) -> bytes:
    def change(answer: dict[str, Any]) -> None:
        data = answer["data"]
        (data if name in data else data["source_comp_details"])[name] = text

    return _text("6838889517957515001", change).encode()


def _with_message(line: bytes) -> bytes:
    answer = json.loads(line)
    answer.get("response", answer)["message"] = "Success, but told differently"
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def _set(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change of an answer: put a value where the path leads."""

    def change(answer: dict[str, Any]) -> None:
        *parents, last = path
        for name in parents:
            answer = answer[name]
        answer[last] = value

    return change


_ODD = (
    _set("code", value="10000"),
    _set("code", value=10000.0),
    _set("code", value=59999),
    _set("data", "source_comp_details", "score", value="87.69"),
    _set("data", "source_comp_details", "score", value=None),
    _set("data", "source_comp_details", "score", value="high"),
    _set("data", "source_comp_details", "alive", value="true"),
    _set("data", "source_comp_details", "thresholds", value={"1e-3": 60, "1e-4": 70}),
    _set("data", "source_comp_details", "image_env_detail", value=""),
    _set("data", "result", value=0),
    _set("data", "risk_result", value={"score": 450, "tags": ["99001"]}),
    _set("data", "risk_result", value=""),
    _set("data", "risk_result", value='{"score":300,"tags":[14010]}'),
    _set("data", "req_measure_info", value=True),
    _set("data", "a_new_field", value={"level": 3}),
    _set("time_elapsed", value="1m2.3s"),
    _set("message", value="<b>=cmd|calc</b>"),
)
_GATEWAY = (
    b'{"ResponseMetadata":{"RequestId":"20240404212856CDE12A78C12101EA4317","Action":"CertVerify",'
    b'"Version":"2022-08-31","Service":"cv","Region":"cn-north-1","Error":{"CodeN":100012,'
    b'"Code":"LackPolicy","Message":"no permission"}},"code":10000}'
)
_QUERY = (
    b'{"code":10000,"data":{"tos_data":{},"verify_algorithm_base_resp":{"status_code":210305,'
    b'"status_message":"no face in face image"},"verify_req_measure_info":{"measure_type":'
    b'"query_num","value":0}},"message":"Success","request_id":"6838889517957516099",'
    b'"time_elapsed":"3.2ms"}'
)
