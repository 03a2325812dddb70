"""Lines: reading them gives the frame, and their bytes never change."""

from __future__ import annotations

import hashlib
import json

import pytest

from verifyanalytics.errors import UsageError
from verifyanalytics.parsing.reference import Refusal, read_response
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.simulator import (
    COLUMNS,
    simulate_responses,
)

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("n", "seed", "parameters"),
    [
        (4000, 1, {}),
        (700, 2, {"fault_share": 0.5}),
        (700, 3, {"impostor_share": 0.5, "withheld_share": 0.9, "acquire_share": 0.2}),
        (60, 4, {"image_bytes": 1001, "identity_share": 0.3}),
    ],
)
def test_frame_is_what_reading_the_lines_gives(n, seed, parameters):
    simulation = simulate_responses(n, seed, **parameters)
    options = ReadOptions(key=KEY)
    frame = simulation.table().to_pylist()
    assert len(frame) == n
    hashed = {"token": {}, "subject": {}}
    for place, (line, expected) in enumerate(zip(simulation, frame, strict=True)):
        row = read_response(line, options, source="s", row=place + 1)
        assert not isinstance(row, Refusal)
        for column in COLUMNS:
            if column in hashed:
                assert hashed[column].setdefault(expected[column], row[column]) == row[column]
            else:
                assert row[column] == expected[column], column
    for pairs in hashed.values():
        assert len(set(pairs.values())) == len(pairs)


def test_lines_are_json_with_the_digits_of_the_frame():
    simulation = simulate_responses(500, seed=12)
    for line, row in zip(simulation, simulation.table().to_pylist(), strict=True):
        answer = json.loads(line)["response"]
        details = (answer.get("data") or {}).get("source_comp_details")
        if details is None:
            continue
        face = json.loads(details["image_face_detail"])
        assert face["face_clarity"] == row["face_clarity"]
        assert face["brightness"] == row["face_brightness"]
        assert face["pose_yaw"] == row["face_pose_yaw"]
        assert details.get("score") == row["score"]


def test_quality_stays_in_its_ranges(usual):
    names = [c for c in COLUMNS if c.startswith(("face_", "env_"))]
    frame = usual.table(names).to_pandas()
    assert len(names) == 22
    for name in names:
        measure = name.partition("_")[2]
        low, high = {
            "comprehensive_score": (10, 100),
            "clarity": (1, 5),
            "pose_pitch": (-90, 90),
            "pose_yaw": (-90, 90),
            "pose_roll": (-90, 90),
        }.get(measure, (0, 1))
        assert frame[name].min() >= low, name
        assert frame[name].max() < high, name
        assert frame[name].nunique() > 100, name


def test_forms_hold_the_same_answers():
    simulation = simulate_responses(400, seed=2)
    answers = [json.loads(line) for line in simulation.answers("answer")]
    assert answers == [json.loads(line)["response"] for line in simulation]
    mixed = [json.loads(line) for line in simulation.answers("mixed")]
    assert [m.get("response", m) for m in mixed] == answers
    assert 100 < sum("response" in m for m in mixed) < 300
    with pytest.raises(UsageError, match="envelope, answer, mixed"):
        next(simulation.answers("xml"))


def test_images_are_random_base64_of_the_chosen_length():
    simulation = simulate_responses(20, seed=2, image_bytes=4001, fault_share=0.0)
    images = []
    for line in simulation.answers("answer"):
        data = json.loads(line)["data"]
        images += list(data.get("images", {}).values())
    assert len(images) > 20
    assert {len(image) for image in images} == {4001}
    assert len(set(images)) == len(images)


def test_the_bytes_never_change():
    # the digest of a fixed simulation: other Pythons, NumPys and platforms must give it too
    simulation = simulate_responses(3000, seed=20240401, image_bytes=100)
    digest = hashlib.sha256(b"\n".join(simulation)).hexdigest()
    assert digest == "e56e9dc2aafafc67ac2a54b8ab2aafbbd020c34ddedf3644f906ec4f0d91e21d"
