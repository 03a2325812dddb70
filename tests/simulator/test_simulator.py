import csv
import dataclasses
import datetime as dt
import gzip
import hashlib
import json
import math
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.parsing.envelope import ReadOptions
from verifyanalytics.parsing.reference import Refusal, read_response
from verifyanalytics.schema import LABELS, REJECT_REASONS
from verifyanalytics.simulator import (
    COLUMNS,
    SPECIES,
    TAGS,
    Simulation,
    World,
    claimed_fmr,
    simulate,
    simulate_responses,
)
from verifyanalytics.simulator.edge_cases import bad_lines, odd_lines
from verifyanalytics.simulator.population import BLOCK_ROWS, Draw
from verifyanalytics.simulator.world import nonmated_scores

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
KEY = bytes(range(32))
ONLY_IMPOSTORS = {
    "impostor_share": 1.0,
    "attack_share": 0.0,
    "thresholds_after": None,
    "no_source_share": 0.0,
}


def two_decimals(scores):
    return np.floor(scores * 100).astype(np.int64)


# ---------------------------------------------------------------------------------- the claim


@pytest.mark.parametrize("k", [0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("thresholds", [(60, 70, 80, 90), (55.5, 66, 77.25, 91), (62, 72, 82, 92)])
def test_impostors_reach_each_score_exactly_as_often_as_claimed(k, thresholds):
    # a grid of uniform numbers instead of a sample: the shares are then exact up to one step
    n = 4_000_000
    u = (np.arange(n) + 0.5) / n
    scores = two_decimals(nonmated_scores(u, thresholds, k))
    for tenth in range(int(thresholds[0] * 10), 1000, 7):
        score = max(tenth / 10, thresholds[0])
        if score <= thresholds[3]:
            below = max(i for i in range(3) if thresholds[i] <= score)
            part = (score - thresholds[below]) / (thresholds[below + 1] - thresholds[below])
            claimed = 10 ** -(3 + below + part)
        else:
            claimed = 10 ** -(6 + (score - thresholds[3]) / (thresholds[3] - thresholds[2]))
        reached = int((scores >= round(score * 100)).sum())
        assert abs(reached - k * claimed * n) <= 1.0001


@pytest.mark.parametrize("k", [1.0, 3.0])
def test_rounding_moves_no_score_over_a_threshold(k):
    for level, threshold in zip((1e-3, 1e-4, 1e-5, 1e-6), (60, 70, 80, 90), strict=True):
        below, above = level * k * (1 - 1e-9), level * k * (1 + 1e-9)
        scores = two_decimals(nonmated_scores([below, above], (60, 70, 80, 90), k))
        assert scores[0] >= threshold * 100 > scores[1]


def test_body_meets_the_tail_in_value_and_slope():
    world = World(k=2.0)
    assert world.fmr(60 - 1e-9) == pytest.approx(world.fmr(60), rel=1e-6)
    left = math.log10(world.fmr(60 - 1e-4)) - math.log10(world.fmr(60 - 2e-4))
    right = math.log10(world.fmr(60 + 2e-4)) - math.log10(world.fmr(60 + 1e-4))
    assert left == pytest.approx(right, rel=1e-3)
    assert world.fmr(0) == 1.0
    assert world.fmr(70) == pytest.approx(2e-4)
    assert world.fmr(72, after=True) == pytest.approx(2e-4)


def test_fmr_of_the_world_is_that_of_its_rows():
    simulation = simulate_responses(200_000, seed=5, k=10.0, withheld_share=0.5, **ONLY_IMPOSTORS)
    scores = simulation.truth["hidden_score"].to_numpy()
    for threshold in (20, 40, 60, 65, 70, 75):
        expected = simulation.world.fmr(threshold) * len(scores)
        assert abs((scores >= threshold).sum() - expected) < 5 * math.sqrt(expected) + 1


def test_claimed_rate_says_nothing_below_its_first_point():
    assert math.isnan(claimed_fmr(59.99, (60, 70, 80, 90)))
    assert claimed_fmr(95, (60, 70, 80, 90)) == pytest.approx(10**-6.5)


def test_fnmr_of_the_world_is_that_of_first_attempts():
    simulation = simulate_responses(150_000, seed=2, impostor_share=0.0, attack_share=0.0)
    truth = simulation.truth
    first = truth[truth["attempt"] == 0]["hidden_score"].to_numpy()
    for threshold in (60, 70, 80, 90):
        expected = simulation.world.fnmr(threshold)
        error = math.sqrt(expected * (1 - expected) / len(first))
        # persons return: allow for their correlation
        assert abs((first < threshold).mean() - expected) < 6 * error
    assert simulation.world.fnmr(0) < 1e-9 or simulation.world.fnmr(0) < simulation.world.fnmr(1)
    assert simulation.world.fnmr(150) == 1.0


# ---------------------------------------------------------------------------------- the world


@pytest.fixture(scope="module")
def usual():
    return simulate_responses(60_000, seed=11)


def test_attempts_of_one_impostor_are_as_alike_as_asked():
    def correlation(rho):
        simulation = simulate_responses(
            40_000, seed=3, impostor_attempts=4, impostor_correlation=rho, **ONLY_IMPOSTORS
        )
        truth = simulation.truth
        wide = truth.pivot_table(index="session", columns="attempt", values="hidden_score")
        wide = wide.dropna().astype("float64")
        ranks = wide.rank()
        return ranks[0].corr(ranks[3]), truth.groupby("session").size().max()

    assert abs(correlation(0.0)[0]) < 0.04
    assert correlation(0.8)[0] == pytest.approx(0.8, abs=0.05)
    same, attempts = correlation(1.0)
    assert same > 0.9999
    assert attempts == 4


def test_impostors_try_as_often_whatever_comes_back():
    simulation = simulate_responses(
        30_000, seed=3, impostor_share=0.3, impostor_attempts=5, retry_share=0.0
    )
    truth = simulation.truth
    attempts = truth[~truth["mated"]].query("attack.isna()").groupby("session").size()
    owners = truth[truth["mated"]].groupby("session").size()
    assert (attempts == 5).mean() > 0.995  # the last ones are cut by the end of a block
    assert owners.max() == 1


def test_retries_follow_rejections_only(usual):
    frame = usual.table(["result", "occurred_at", "subject"]).to_pandas()
    frame[["session", "attempt", "mated"]] = usual.truth[["session", "attempt", "mated"]]
    last = {}
    n_retried = n_rejected = 0
    for row in frame[frame["mated"]].itertuples():
        before = last.get(row.session)
        if row.attempt:
            assert before is not None
            assert before.attempt == row.attempt - 1
            assert before.result is not True
            gap = (row.occurred_at - before.occurred_at).total_seconds()
            assert 15 <= gap <= 75
            assert before.subject == row.subject
            n_retried += 1
        n_rejected += row.result is not True and row.attempt < 3
        last[row.session] = row
    assert n_retried / n_rejected == pytest.approx(0.6, abs=0.02)


def test_marker_tag_doubles_the_attack_rate():
    simulation = simulate_responses(200_000, seed=4, attack_share=0.05, retry_share=0.0)
    tags = simulation.table(["risk_tags"])["risk_tags"].to_pylist()
    attack = simulation.truth["attack"].notna()
    rates = {}
    for marked in (True, False):
        rows = [a for a, t in zip(attack, tags, strict=True) if t is not None]
        of = [("14010" in t) == marked for t in tags if t is not None]
        hit = [a for a, m in zip(rows, of, strict=True) if m]
        rates[marked] = sum(hit) / len(hit)
    assert rates[True] / rates[False] == pytest.approx(2.0, rel=0.08)


def test_tags_of_a_group_come_together_and_keep_their_rates():
    def joint(ties):
        frame = simulate_responses(
            100_000, seed=6, tag_ties=ties, retry_share=0.0, risk_absent=0.0
        ).table(["risk_tags"])
        sets = [set(t) for t in frame["risk_tags"].to_pylist() if t is not None]
        rates = {tag.code: sum(tag.code in s for s in sets) / len(sets) for tag in TAGS}
        both = sum({"14010", "13001"} <= s for s in sets) / len(sets)
        return rates, both / (rates["14010"] * rates["13001"])

    tied, free = joint(0.8), joint(0.0)
    for tag in TAGS:
        assert tied[0][tag.code] == pytest.approx(tag.rate, abs=0.003)
        assert free[0][tag.code] == pytest.approx(tag.rate, abs=0.003)
    assert free[1] == pytest.approx(1.0, abs=0.25)
    assert tied[1] > 5


def test_risk_score_is_that_of_the_worst_tag(usual):
    severity = {tag.code: tag.severity for tag in TAGS}
    frame = usual.table(["risk_score", "risk_tags"]).to_pylist()
    assert {row["risk_score"] for row in frame} == {None, 0, 300, 600, 900}
    for row in frame:
        if row["risk_tags"] is not None:
            assert row["risk_score"] == max([severity[t] for t in row["risk_tags"]], default=0)
        else:
            assert row["risk_score"] is None


def test_result_follows_the_rule_and_the_unwritten_one(usual):
    unwritten = despite = 0
    for row in usual.table().to_pylist():
        if row["result"] is None:
            assert row["code"] not in (10000, 50215)
            continue
        bar = row["threshold_1e_4"]
        if row["req_key"] == "cert_pro_no_src_verify" and bar is not None:
            bar = max(bar, 90)
        gates = row["score"] is not None and row["score"] >= bar and row["alive"]
        gates = bool(gates and (row["risk_score"] is None or row["risk_score"] < 900))
        hidden = row["risk_tags"] is not None and "14004" in row["risk_tags"]
        assert row["result"] == (gates and not hidden)
        unwritten += gates and hidden
        despite += row["alive"] is False and row["score"] is not None
    assert unwritten > 100
    assert despite > 100


def test_attacks_show_the_owner_and_liveness_sees_some():
    simulation = simulate_responses(
        60_000, seed=8, attack_share=1.0, attack_lift=1.0, impostor_share=0.0
    )
    alive = simulation.table(["alive"])["alive"].to_pylist()
    passed = defaultdict(list)
    for species, live in zip(simulation.truth["attack"], alive, strict=True):
        if live is not None:
            passed[species].append(live)
    assert set(passed) == {s.name for s in SPECIES}
    for species in SPECIES:
        share = sum(passed[species.name]) / len(passed[species.name])
        assert share == pytest.approx(1 - species.detected, abs=0.02)
    assert simulation.truth["hidden_score"].astype("float64").median() > 80


def test_withheld_scores_are_below_the_own_threshold():
    simulation = simulate_responses(60_000, seed=8, impostor_share=0.3, withheld_share=0.5)
    frame = simulation.table(["score", "sub_code", "threshold_1e_4"]).to_pylist()
    withheld = shown = 0
    for row, hidden in zip(frame, simulation.truth["hidden_score"], strict=True):
        if row["sub_code"] in (210311, 210313):
            assert row["score"] is None
            assert hidden < row["threshold_1e_4"]
            withheld += 1
        elif row["score"] is not None:
            assert row["score"] == hidden
            shown += row["score"] < row["threshold_1e_4"]
    assert withheld / (withheld + shown) == pytest.approx(0.5, abs=0.02)


def test_dark_images_cost_points_and_a_bad_week_too():
    simulation = simulate_responses(
        120_000, seed=9, impostor_share=0.0, attack_share=0.0, drift_week=5, drift_points=10.0
    )
    truth = simulation.truth
    scores = truth["hidden_score"].astype("float64")
    brightness = simulation.table(["face_brightness"])["face_brightness"].to_pylist()
    for dark, value in zip(truth["dark"], brightness, strict=True):
        assert value is None or (value < 0.08) == dark
    dark = truth["dark"].astype(bool)
    assert scores[~dark].median() - scores[dark].median() == pytest.approx(8, abs=1)
    at = simulation.table(["occurred_at"])["occurred_at"].to_pandas()
    week = (at - dt.datetime(2024, 3, 31, 16, tzinfo=dt.UTC)).dt.days // 7
    medians = scores.groupby(week.to_numpy()).median()
    # a week's medians differ by chance only, except the one
    assert medians.drop([5, 13], errors="ignore").std() < 0.5
    assert medians.drop([5, 13], errors="ignore").mean() - medians[5] == pytest.approx(10, abs=1)


def test_null_world_relates_nothing():
    simulation = simulate_responses(60_000, seed=1, world=World.null())
    truth = simulation.truth
    scores = truth["hidden_score"].astype("float64")
    table = simulation.table(["risk_tags", "ctx_channel", "face_brightness"]).to_pandas()
    first = truth["attempt"] == 0
    spread = scores[first].std()
    for flag in (truth["dark"], truth["blurred"], table["ctx_channel"] == "h5"):
        there = flag.to_numpy(bool)
        chosen, others = scores[first & there], scores[first & ~there]
        assert abs(chosen.mean() - others.mean()) < 4 * spread / math.sqrt(len(chosen))
    assert truth["attack"].isna().all()
    assert simulation.table(["threshold_1e_3"])["threshold_1e_3"].to_pandas().nunique() == 1


def test_regimes_change_once_at_the_switch(usual):
    frame = usual.table(["occurred_at", "threshold_1e_4", "code"]).to_pylist()
    last_before = max(r["occurred_at"] for r in frame if r["threshold_1e_4"] == 70)
    first_after = min(r["occurred_at"] for r in frame if r["threshold_1e_4"] == 72)
    # a session keeps the thresholds it began with
    assert last_before - first_after < dt.timedelta(minutes=5)
    half = dt.datetime(2024, 3, 31, 16, tzinfo=dt.UTC) + dt.timedelta(days=45.5)
    assert abs(first_after - half) < dt.timedelta(days=1)


def test_every_kind_of_reply_occurs(usual):
    frame = usual.table(["code", "gateway_code", "sub_code", "http_status"]).to_pylist()
    codes = Counter(row["code"] for row in frame)
    assert {10000, 50215, 50500, 50501, 50429, 50430, 50400, None} == set(codes)
    assert {"FlowLimitExceeded", "InternalError", "SignatureDoesNotMatch"} <= {
        row["gateway_code"] for row in frame
    }
    assert {0, 210311, 210313, 210312, 210702, 210302, 210305, 210207, 201403} <= {
        row["sub_code"] for row in frame
    }
    assert {200, 400, 401, 429, 500} == {row["http_status"] for row in frame}


def test_period_is_filled_by_day_and_night(usual):
    at = usual.table(["occurred_at"])["occurred_at"].to_pandas().dt.tz_convert("Asia/Shanghai")
    assert at.min() < dt.datetime(2024, 4, 1, 2, tzinfo=at.dt.tz)
    assert at.min() >= dt.datetime(2024, 4, 1, tzinfo=at.dt.tz)
    assert abs(at.max() - dt.datetime(2024, 7, 1, tzinfo=at.dt.tz)) < dt.timedelta(days=2)
    hours = at.dt.hour.value_counts()
    assert hours[20] > 5 * hours[3]
    assert hours.min() > 0


# ------------------------------------------------------------------------------- lines = frame


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


def test_request_ids_and_tokens_are_unique_over_blocks():
    simulation = simulate_responses(3 * BLOCK_ROWS + 5, seed=3)
    table = simulation.table(["request_id", "token", "occurred_at"])
    assert table.num_rows == 3 * BLOCK_ROWS + 5
    for name in ("request_id", "token"):
        assert len(table[name].unique()) == table.num_rows
    times = table["occurred_at"].to_numpy()
    for first in range(0, len(times), BLOCK_ROWS):
        block = times[first : first + BLOCK_ROWS]
        assert (np.diff(block) >= np.timedelta64(0)).all()


# ------------------------------------------------------------------------------- reproducible


def test_the_bytes_never_change():
    # the digest of a fixed simulation: other Pythons, NumPys and platforms must give it too
    simulation = simulate_responses(3000, seed=20240401, image_bytes=100)
    digest = hashlib.sha256(b"\n".join(simulation)).hexdigest()
    assert digest == "e56e9dc2aafafc67ac2a54b8ab2aafbbd020c34ddedf3644f906ec4f0d91e21d"


def test_numbers_are_those_of_splitmix64():
    # the published generator, in Python's own integers
    def splitmix64(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    key = int.from_bytes(hashlib.blake2b(b"9\0name", digest_size=8).digest(), "little")
    expected = [splitmix64((key + i * 0x9E3779B97F4A7C15) % 2**64) for i in (0, 1, 2**40)]
    assert Draw(9).bits("name", np.array([0, 1, 2**40])).tolist() == expected
    u = Draw(9).uniform("name", np.arange(100_000))
    assert 0 < u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005


def test_columns_do_not_depend_on_which_are_asked_for():
    simulation = simulate_responses(1000, seed=5)
    whole = simulation.table()
    for name in ("score", "env_clarity", "risk_tags", "month"):
        assert simulation.table([name])[name] == whole[name]
    with pytest.raises(UsageError, match="no simulated column skore"):
        simulation.table(["skore"])


def test_seeds_differ_and_repeat():
    lines = [list(simulate_responses(50, seed)) for seed in (1, 1, 2, -3)]
    assert lines[0] == lines[1]
    assert lines[0] != lines[2] != lines[3]


def test_empty_and_tiny_simulations():
    assert list(simulate_responses(0)) == []
    assert simulate_responses(0).table().column_names == list(COLUMNS)
    assert len(simulate_responses(0).labels) == 0
    assert len(list(simulate_responses(1))) == len(simulate_responses(1)) == 1
    with pytest.raises(UsageError, match="n is -1"):
        Simulation(-1)


# ------------------------------------------------------------------------------------- labels


def test_labels_fit_their_schema_and_the_truth():
    simulation = simulate_responses(3000, seed=5, labelled="all")
    table = simulation.label_table()
    assert table.schema.equals(pa.schema([pa.field(f.name, f.type) for f in LABELS]))
    truth = simulation.truth
    assert table["mated"].to_pylist() == truth["mated"].tolist()
    assert table["attack"].to_pylist() == pa.array(truth["attack"]).to_pylist()
    assert set(table["inclusion_prob"].to_pylist()) == {1.0}


def test_stratified_labels_weigh_back_to_the_whole():
    simulation = simulate_responses(60_000, seed=5, labelled="stratified", label_share=0.05)
    labels = simulation.label_table()
    chance = labels["inclusion_prob"].to_numpy()
    assert len(set(chance.tolist())) > 4
    # Horvitz-Thompson: weights add up to the number of rows
    variance = ((1 - chance) / chance**2).sum()
    assert abs((1 / chance).sum() - 60_000) < 5 * math.sqrt(variance)


def test_selected_labels_have_no_inclusion_probability():
    simulation = simulate_responses(20_000, seed=5, labelled="accepted", label_share=0.5)
    labels = simulation.label_table().to_pylist()
    rows = simulation.table(["request_id", "result"]).to_pylist()
    accepted = {row["request_id"] for row in rows if row["result"]}
    assert {label["request_id"] for label in labels} <= accepted
    assert len(labels) / len(accepted) == pytest.approx(0.5, abs=0.02)
    assert {(x["inclusion_prob"], x["plan_id"], x["origin"]) for x in labels} == {
        (None, None, "claim")
    }


def test_wrong_labels_and_fraud_that_comes_to_light():
    simulation = simulate_responses(
        40_000, 5, labelled="random", label_share=0.5, label_error=0.1, fraud_share=1.0,
        attack_share=0.2, attack_detected=0.2,
    )  # fmt: skip
    truth = simulation.truth.set_index("request_id")
    labels = simulation.label_table().to_pylist()
    audit = [x for x in labels if x["origin"] == "audit"]
    fraud = [x for x in labels if x["origin"] == "fraud"]
    wrong = sum(x["mated"] != truth["mated"][x["request_id"]] for x in audit)
    assert wrong / len(audit) == pytest.approx(0.1, abs=0.01)
    assert len(fraud) > 1000
    assert {(x["mated"], x["inclusion_prob"]) for x in fraud} == {(False, None)}
    ids = [x["request_id"] for x in labels]
    assert len(ids) == len(set(ids))


# -------------------------------------------------------------------------------------- input


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"impostor_share": 1.5}, r"impostor_share is 1.5; it must lie in \[0, 1\]"),
        ({"k": 0}, "k is 0"),
        ({"max_attempts": 16}, "max_attempts"),
        ({"thresholds": (60, 70, 70, 90)}, "four rising scores"),
        ({"thresholds": (60, 70, 80)}, "four rising scores"),
        ({"thresholds_after": (60.001, 70, 80, 90)}, "two decimals"),
        ({"labelled": "some"}, "none, all, random"),
        ({"marker_tag": "1"}, "marker_tag"),
        ({"impostor_share": 0.6, "attack_share": 0.6}, "together exceed 1"),
        ({"attack_detected": 2}, "attack_detected"),
        ({"attack_share": 0.5, "attack_lift": 500.0}, "too large for these shares"),
        ({"imposter_share": 0.5}, "no parameter imposter_share of a world; there are: acquire"),
        ({"image_bytes": -1}, "image_bytes"),
        ({"k": math.nan}, "k is nan"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, said):
    with pytest.raises(UsageError, match=said):
        simulate_responses(1, **parameters)


# -------------------------------------------------------------------------------------- files


def lines_of(path):
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.splitlines()


def test_files_hold_every_answer_once_and_repeats_twice(tmp_path):
    done = simulate(500, 3, out=tmp_path, by="month", repeats=7, oddities=True)
    text = [line for path in sorted(tmp_path.glob("*.ndjson.gz")) for line in lines_of(path)]
    assert len(text) == 507
    assert Counter(text) == Counter(list(simulate_responses(500, 3))) + Counter(
        [line for line, times in Counter(text).items() if times == 2]
    )
    assert sum(times == 2 for times in Counter(text).values()) == 7
    assert done.n_answers == 500 + len(odd_lines())
    assert done.n_bad == len(lines_of(tmp_path / "bad_lines.ndjson"))
    assert {path.name for path in done.paths} == {path.name for path in tmp_path.iterdir()}
    assert done.n_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    for path in tmp_path.glob("2024-*.ndjson.gz"):
        for line in set(lines_of(path)) - set(text[-7:]):
            utc = dt.datetime.fromisoformat(json.loads(line)["occurred_at"])
            assert path.name.startswith(f"{utc + dt.timedelta(hours=8):%Y-%m}")


def test_labels_file_is_the_labels(tmp_path):
    n = BLOCK_ROWS + 300
    world = World(labelled="stratified", label_share=0.01, fraud_share=0.5)
    done = simulate(n, 3, out=tmp_path, world=world, compression="none")
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = Simulation(n, 3, world).label_table().to_pylist()
    assert done.n_labels == len(rows) == len(expected)
    for row, label in zip(rows, expected, strict=True):
        assert list(row) == LABELS.names
        assert row["request_id"] == label["request_id"]
        assert row["mated"] == ("true" if label["mated"] else "false")
        assert (row["attack"] or None) == label["attack"]
        assert (float(row["inclusion_prob"] or "nan") == label["inclusion_prob"]) or (
            label["inclusion_prob"] is None and row["inclusion_prob"] == ""
        )
        assert dt.datetime.fromisoformat(row["labelled_at"]) == label["labelled_at"]


@pytest.mark.parametrize("compression", ["gz", "zst", "none"])
def test_several_files_in_each_compression(tmp_path, compression):
    simulate(101, 3, out=tmp_path, files=3, compression=compression, form="answer")
    suffix = "" if compression == "none" else f".{compression}"
    paths = [tmp_path / f"responses-{i:03d}.ndjson{suffix}" for i in (1, 2, 3)]
    if compression == "zst":
        texts = [pa.CompressedInputStream(str(path), "zstd").read() for path in paths]
    else:
        texts = [b"\n".join(lines_of(path)) + b"\n" for path in paths]
    assert b"".join(texts).splitlines() == list(simulate_responses(101, 3).answers("answer"))
    assert [text.count(b"\n") for text in texts] == [34, 34, 33]


def test_same_arguments_same_bytes(tmp_path):
    for name in ("a", "b"):
        simulate(200, 3, out=tmp_path / name, oddities=True, image_bytes=50)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "responses.ndjson.gz" in names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_files_that_are_there_are_kept(tmp_path):
    simulate(5, 3, out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"responses\.ndjson\.gz is there"):
        simulate(6, 4, out=tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    simulate(6, 4, out=tmp_path, overwrite=True)
    assert before != {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"form": "xml"}, "envelope, answer, mixed"),
        ({"compression": "rar"}, "gz, zst, none"),
        ({"by": "year"}, "day, week, month"),
        ({"files": 0}, "files is 0"),
        ({"files": 2, "by": "day"}, "not both"),
        ({"repeats": 11}, r"repeats is 11; it must lie in \[0, 10\]"),
    ],
)
def test_arguments_that_cannot_work(tmp_path, arguments, said):
    with pytest.raises(UsageError, match=said):
        simulate(10, out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        simulate(10, out=tmp_path / "file" / "out")


# ------------------------------------------------------------------------------- bad and odd


def test_bad_lines_are_rejected_for_the_reason_given():
    known = list(simulate_responses(4, 1, fault_share=0.0))
    lines = bad_lines(known)
    reasons = Counter(reason for _, reason in lines)
    assert len(lines) == 80
    assert set(reasons) == set(REJECT_REASONS) - {"size", "type", "source"}
    for line, reason in lines:
        assert b"\n" not in line
        read = read_response(line, ReadOptions(), source="s", row=1)
        if reason == "conflict":
            before = {
                row["request_id"]: row["content"]
                for row in (read_response(k, ReadOptions(), source="s", row=1) for k in known)
            }
            assert before[read["request_id"]] != read["content"]
        else:
            assert isinstance(read, Refusal), line
            assert read.reason == reason, (line, read)


def test_odd_lines_become_rows():
    rows = [read_response(line, ReadOptions(), source="s", row=1) for line in odd_lines()]
    assert len(rows) == 20
    assert not any(isinstance(row, Refusal) for row in rows)
    assert len({row["request_id"] for row in rows}) == 20
    assert all(row["issues"] or row["extra"] or row["code"] for row in rows)
    assert sum(bool(row["issues"]) for row in rows) >= 10
    strict = [
        read_response(line, ReadOptions(strict=True), source="s", row=1) for line in odd_lines()
    ]
    assert {row.reason for row in strict if isinstance(row, Refusal)} == {"type"}


# -------------------------------------------------------------------------------- the sample


def test_sample_is_rebuilt_from_the_arguments_beside_it(tmp_path):
    made = tomllib.loads((SAMPLE / "simulation.toml").read_text(encoding="utf-8"))
    digests, world = made.pop("sha256"), made.pop("world")
    fields = {f.name: f.default for f in dataclasses.fields(World)}
    assert set(world) <= set(fields)
    world |= dict.fromkeys(set(fields) - set(world))
    world = {n: tuple(v) if isinstance(v, list) else v for n, v in world.items()}
    for name, digest in digests.items():
        path = SAMPLE / name
        text = (
            path.read_bytes()
            if path.exists()
            else gzip.decompress((SAMPLE / f"{name}.gz").read_bytes())
        )
        assert hashlib.sha256(text).hexdigest() == digest, name
    made |= {"by": made["by"] or None, "compression": "none"}
    simulate(out=tmp_path, world=World(**world), **made)
    rebuilt = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tmp_path.iterdir()
        if path.name != "simulation.toml"
    }
    assert rebuilt == digests


def test_sample_adds_up():
    names = sorted(path.name for path in SAMPLE.glob("*.ndjson*"))
    assert names == [
        "2024-04.ndjson.gz", "2024-05.ndjson.gz", "2024-06.ndjson.gz",
        "bad_lines.ndjson", "odd_lines.ndjson",
    ]  # fmt: skip
    months = [line for name in names[:3] for line in lines_of(SAMPLE / name)]
    bad = (SAMPLE / "bad_lines.ndjson").read_bytes().split(b"\n")[:-1]
    odd = (SAMPLE / "odd_lines.ndjson").read_bytes().split(b"\n")[:-1]
    assert len(months) + len(bad) + len(odd) == 20_000
    assert len(set(months)) + len(odd) == 19_880
    assert len(bad) == 80
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 6_000_000
