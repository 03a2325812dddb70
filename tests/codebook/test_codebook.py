"""The code book: every fact has both languages, open sets never fail, a user's file is checked."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import verifyanalytics as va
from verifyanalytics import codebook
from verifyanalytics.errors import CodebookError, UsageError

BOOK = codebook.load()


@pytest.fixture
def write(tmp_path):
    def _write(content) -> str:
        path = tmp_path / "book.json"
        path.write_text(
            content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
        )
        return str(path)

    return _write


@pytest.fixture(autouse=True)
def _built_in_book_afterwards():
    yield
    codebook.use_codebook(None)


def test_statistics_get_the_documented_rules():
    assert BOOK.answered_codes == {10000, 50215}
    assert BOOK.risk_fail == 900


@pytest.mark.parametrize(
    ("sub_code", "stage", "billed"),
    [
        (0, "compare", True),
        (100000, "internal", False),
        (201403, "identity", False),
        (210302, "acquire", True),
        (210308, "identity", True),
        (210311, "compare", True),
        (210312, "alive", False),
        (210314, "acquire", True),
        (210702, "alive", False),
        (999999, "unknown", None),
    ],
)
def test_stage_and_billing_of_a_sub_code(sub_code, stage, billed):
    assert BOOK.stage(sub_code) == stage
    assert BOOK.sub_code(sub_code).billed is billed


def test_sub_codes_in_a_stage_partition_the_book():
    together = [code for stage in BOOK.stages for code in BOOK.sub_codes_in(stage)]
    assert sorted(together) == sorted(BOOK.sub_codes)
    assert BOOK.sub_codes_in("alive") == (210312, 210702)
    with pytest.raises(UsageError, match="no stage 'nope'; the code book has: identity, acquire"):
        BOOK.sub_codes_in("nope")


@pytest.mark.parametrize(
    "section",
    [f.name for f in dataclasses.fields(BOOK) if isinstance(getattr(BOOK, f.name), dict)],
)
def test_every_entry_has_both_languages(section):
    entries = getattr(BOOK, section)
    assert entries
    for key, entry in entries.items():
        assert entry.code == key
        assert entry.known
        assert entry.en.isascii(), entry
        assert any("\u4e00" <= c <= "\u9fff" for c in entry.zh) or entry.zh == "IP", entry


@pytest.mark.parametrize(
    ("measure", "poor", "fine"),
    [
        ("comprehensive_score", 49.9, 50.0),
        ("face_clarity", 3.0, 3.1),
        ("env_brightness", 0.079, 0.08),
        ("exposure", 0.61, 0.6),
    ],
)
def test_quality_limits_stand_where_the_page_puts_them(measure, poor, fine):
    limit = BOOK.measure(measure)
    assert limit.is_poor(poor) is True
    assert limit.is_poor(fine) is False
    assert limit.is_poor(float("nan")) is None


def test_quality_directions():
    better = {name: entry.better for name, entry in BOOK.quality.items()}
    assert {name for name, way in better.items() if way == "higher"} == {
        "comprehensive_score",
        "clarity",
    }
    assert {name for name, way in better.items() if way == "magnitude"} == {
        "pose_pitch",
        "pose_yaw",
        "pose_roll",
    }
    assert BOOK.measure("pose_yaw").is_poor(45.0) is None


def test_unknown_codes_answer_and_say_so():
    assert not BOOK.code(1).known
    assert BOOK.sub_code(-7).gloss("zh") == "未知"
    assert BOOK.gateway_code("Nope").en == "unknown"
    assert not BOOK.risk_level(450).known
    assert not BOOK.risk_tag("").known
    assert not BOOK.tag_family("").known
    assert not BOOK.measure("smile").known
    assert BOOK.tag_family("14999").en == "device"


# ------------------------------------------------------------------ a user's file


def test_a_file_overrides_one_field_and_adds_entries(write):
    book = codebook.load(
        write(
            {
                "about": "ours",
                "rules": {"risk_fail": 600},
                "sub_codes": {"210313": {"stage": "acquire"}, "210703": {"zh": "新码"}},
                "risk_tags": {"16001": {"en": "house list"}},
            }
        )
    )
    assert book.risk_fail == 600
    assert book.answered_codes == BOOK.answered_codes
    assert book.stage(210313) == "acquire"
    assert book.sub_code(210313).billed is True
    assert book.sub_code(210703).gloss("en") == "新码"
    assert book.stage(210703) == "unknown"
    assert book.risk_tag("16001").gloss("zh") == "house list"
    assert book.risk_tag("14004") == BOOK.risk_tag("14004")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"rules": {"risk_fail": NaN}}', "NaN is not JSON"),
        ([], "an object of sections is needed"),
        ({"tags": {}}, "no section 'tags'; there are: rules, codes, sub_codes"),
        ({"codes": []}, "codes must be an object"),
        ({"codes": {"x": {"en": "?"}}}, "codes 'x': the key must be a whole number"),
        ({"codes": {"9" * 30: {"en": "?"}}}, "the key must be a whole number"),
        ({"codes": {"1": {}}}, "codes '1': needs a gloss"),
        ({"codes": {"1": {"en": 5}}}, "codes '1': Expected `str`"),
        ({"codes": {"1": {"en": "a", "http": ["x"]}}}, "codes '1': Expected `int`"),
        ({"codes": {"1": {"en": "a", "htp": []}}}, "codes '1': .*htp"),
        ({"codes": {"1": {"en": "a", "known": False}}}, "'known' is not a field"),
        ({"codes": {"1": "a"}}, "codes '1' must be an object"),
        ({"sub_codes": {"210313": {"stage": "later"}}}, "sub_codes '210313': no stage 'later'"),
        ({"quality": {"clarity": {"poor": ["!", 3]}}}, "quality 'clarity': Invalid enum value '!'"),
        ({"rules": {"risk_fail": "900"}}, "rules: Expected `int`"),
        ({"rules": {"answered_codes": []}}, "rules: answered_codes may not be empty"),
        ({"risk_tags": {"16001": {"en": "x" * 201}}}, "risk_tags '16001': Expected `str` of"),
    ],
)
def test_a_file_that_does_not_fit_names_the_entry(write, content, says):
    path = write(content)
    with pytest.raises(CodebookError, match=says) as caught:
        codebook.load(path)
    assert path in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CodebookError, match=r"none\.json: No such file"):
        codebook.load(tmp_path / "none.json")
    with pytest.raises(CodebookError, match=r"Is a directory|Permission denied"):
        codebook.load(tmp_path)


def test_the_environment_names_a_file_and_use_codebook_wins(write, monkeypatch):
    monkeypatch.setenv("VERIFYANALYTICS_CODEBOOK", write({"rules": {"risk_fail": 300}}))
    assert codebook.current().risk_fail == 300
    assert va.use_codebook(BOOK).risk_fail == 900
    assert va.use_codebook(None).risk_fail == 300
    monkeypatch.delenv("VERIFYANALYTICS_CODEBOOK")
    assert codebook.current().risk_fail == 900


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    path = tmp_path / "book.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"rules": {"risk_fail": 600}}')
    assert codebook.load(path).risk_fail == 600


# ------------------------------------------------------------------ explaining


EXPLAINED = {
    50215: """
        50215 (service code): inputs do not qualify, processing failed; see the sub code; HTTP 400;
        counts as answered
        50215（错误码）：输入不满足要求，处理失败，详见子错误码；HTTP 400；计入已作答
    """,
    210302: """
        210302 (sub code): face image bad quality / corrupt;
        stage acquire: no usable face image was acquired; billed
        210302（子错误码）：人脸图片质量差或已损坏；阶段 acquire：未采集到可用的人脸图片；计费
    """,
    14004: """
        14004 (risk tag): cheating environment (script, emulator); family 14: device (our reading)
        14004（风险标签）：设备环境异常；类别 14：设备（按编号推断）
    """,
    900: """
        900 (risk score): high; fails the risk gate
        900（风控分数）：高风险；判定为不通过
    """,
}


@pytest.mark.parametrize("code", EXPLAINED)
def test_explain_in_both_languages(code):
    *en, zh = (line.strip() for line in EXPLAINED[code].strip().splitlines())
    assert va.explain(code) == " ".join(en)
    assert va.explain(str(code), lang="zh") == zh
    assert va.explain(code, lang="both") == f"{' '.join(en)}\n{zh}"


def test_a_number_with_two_meanings_gets_two_lines():
    assert [meaning.kind for meaning in codebook.meanings(0)] == ["sub_code", "risk_level"]


def test_the_gateway_is_found_by_word_and_by_number():
    assert va.explain("SignatureDoesNotMatch") == va.explain(100010)
    assert "HTTP 401" in va.explain(100010)


def test_unknown_codes_are_explained_as_such():
    assert va.explain(99999).startswith("99999 (not in the code book): unknown; the vendor's codes")
    assert "family 14: device" in va.explain("14999")


def test_a_language_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="no language 'fr'; there are: en, zh, both"):
        va.explain(0, lang="fr")


@given(st.one_of(st.integers(), st.text()), st.sampled_from(["en", "zh", "both"]))
def test_anything_at_all_gets_an_answer(code, lang):
    said = va.explain(code, lang=lang)
    assert said
    assert len(said) < 1000
