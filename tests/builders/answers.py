"""Answers for tests: the page's sample and one of each other shape, values made up."""

from __future__ import annotations

import json

QUALITY = {
    "comprehensive_score": 72.7593973238521, "face_clarity": 3.6389399293661118, "exposure": 0,
    "brightness": 0.9492753623188406, "pose_pitch": -0.53, "pose_yaw": 0.405, "pose_roll": 0.388,
    "mouth_occlude": 0.000026744861315819435, "left_eye_occlude": 0.000018301761883776635,
    "right_eye_occlude": 0.0026939630042761564, "have_cap": 0.00002657439654285554,
}  # fmt: skip


def nested(value: object) -> str:
    """A JSON text, as the vendor puts it into a string."""
    return json.dumps(value, separators=(",", ":"))


PAGE_SAMPLE = {
    "code": 10000,
    "data": {
        "result": False,
        "risk_result": nested({"score": 600, "tags": ["14004", "13001"]}),
        "images": {"image_best": "", "image_env": ""},
        "source_comp_details": {
            "alive": True,
            "image_env_detail": nested(QUALITY),
            "image_face_detail": nested(QUALITY),
            "score": 87.69,
            "thresholds": {"1e-3": 60, "1e-4": 70, "1e-5": 80, "1e-6": 90},
        },
        "algorithm_base_resp": {"status_code": 0, "status_message": ""},
        "req_measure_info": {"measure_type": "query_num", "value": 1},
    },
    "message": "Success",
    "request_id": "6838889517957515275",
    "time_elapsed": "41.897331ms",
}
"""The sample of the vendor's page."""

FAULT = {
    "code": 50501,
    "data": {
        "algorithm_base_resp": {"status_code": 100202, "status_message": "worker gone"},
        "binary_data_base64": [],
    },
    "message": "Internal RPC Error: timeout",
    "request_id": "202504042128562871200FD80766DBAC13",
    "status": 50501,
    "time_elapsed": "67.839356ms",
}

GATEWAY = {
    "ResponseMetadata": {
        "RequestId": "202504042128562871200FD80766DBAC14",
        "Action": "CertVerify",
        "Version": "2022-08-31",
        "Service": "cv",
        "Region": "cn-north-1",
        "Error": {"CodeN": 100010, "Code": "SignatureDoesNotMatch", "Message": "not the same"},
    }
}

QUERY = {
    **PAGE_SAMPLE,
    "data": {
        **PAGE_SAMPLE["data"],
        "tos_data": {"bucket": "b", "key": "k"},
        "video": "AAAA",
        "verify_idcard_info": {"idcard_name": "nobody", "idcard_no": "0"},
        "verify_algorithm_base_resp": {"status_code": 210311, "status_message": "no match"},
        "verify_req_measure_info": {"measure_type": "query_num", "value": 2},
    },
    "request_id": "202504042128562871200FD80766DBAC15",
}


def answer_text(request_id: str, score: float) -> str:
    """A short answer as JSON; it passes from 70."""
    details = {"score": score, "alive": True, "thresholds": {"1e-3": 60, "1e-4": 70}}
    data = {"result": score >= 70, "source_comp_details": details}
    return json.dumps({"code": 10000, "request_id": request_id, "data": data})
